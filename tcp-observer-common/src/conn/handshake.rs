//! Transitions of the three-way handshake and of the simultaneous open
//! (<https://www.rfc-editor.org/rfc/rfc9293#section-3.5>).
//!
//! The originator stays in SYN-SENT until its own ACK is seen: that the SYN-ACK passed here does not say that it
//! arrived.

use super::{
    next::{Note, Sent, Verdict},
    state::State,
    word::{Mark, Outcome, Role, Word},
};
use crate::{segment::Segment, seq::SeqNum};

/// The word of a flow that begins with a SYN of the originator.
#[inline(always)]
pub(super) fn begun_by_syn(word: Word) -> Word {
    word.with_outcome(Outcome::InProgress)
        .with_state(Role::Originator, State::SynSent)
        .with_state(Role::Responder, State::Listen)
        .with_of(Mark::IsnSeen, Role::Originator)
        .with_of(Mark::Seen, Role::Originator)
}

/// The word of a flow that is first seen by the responder's SYN-ACK.
#[inline(always)]
pub(super) fn begun_by_synack(word: Word) -> Word {
    word.with_outcome(Outcome::InProgress)
        .with_state(Role::Originator, State::SynSent)
        .with_state(Role::Responder, State::SynReceived)
        .with_of(Mark::IsnSeen, Role::Responder)
        .with_of(Mark::Seen, Role::Responder)
        .with(Mark::Inferred)
}

#[inline(always)]
pub(super) fn on_syn(word: Word, from: Role, segment: &Segment, sent: &Sent<'_>) -> Verdict {
    if word.has_of(Mark::IsnSeen, from) {
        let repeats = segment.seq == sent.sender.isn.get();
        let answered = word.has_of(Mark::IsnSeen, from.opposite());
        return match (repeats, answered, from) {
            (true, false, Role::Originator) => Verdict::accept(word.with(Mark::SynRepeated), Note::SynRepeated),
            (true, _, _) => Verdict::accept(word.with(Mark::SynRepeated), Note::LateRepetition),
            // A new attempt on the same ports, before the first was answered.
            (false, false, _) => Verdict::REINCARNATE,
            // The responder, in SYN-RECEIVED, answers such a SYN with an ACK and goes on waiting (RFC 9293, 3.10.7.4).
            (false, true, _) => Verdict::STALE,
        };
    }
    match from {
        // Simultaneous open: each end has sent its SYN before it had the other's.
        Role::Responder => Verdict::accept(
            word.with_state(Role::Originator, State::SynReceived)
                .with_state(Role::Responder, State::SynReceived)
                .with_of(Mark::IsnSeen, from),
            Note::Nothing,
        ),
        // The SYN of a flow whose SYN-ACK was seen first.
        Role::Originator if segment.end() == sent.receiver.acked.get() => {
            Verdict::accept(word.with_of(Mark::IsnSeen, from), Note::Nothing)
        }
        Role::Originator => Verdict::STALE,
    }
}

#[inline(always)]
pub(super) fn on_synack(word: Word, from: Role, segment: &Segment, sent: &Sent<'_>) -> Verdict {
    if word.has_of(Mark::IsnSeen, from.opposite()) && !covers_syn(segment.ack, sent) {
        // "If the segment acknowledgment is not acceptable, form a reset segment" (RFC 9293, 3.10.7.3): the
        // receiver will; this answers some other SYN.
        return Verdict::STALE;
    }
    let own = word.state(from);
    let peer = word.state(from.opposite());
    match (from, own, peer) {
        (_, State::SynReceived, State::SynReceived) => completed_for(word, from.opposite(), Note::Nothing),
        // The second SYN-ACK of a simultaneous open.
        (_, State::SynReceived | State::Established, State::SynReceived | State::Established) => {
            completed_for(word, from.opposite(), Note::SynAckRepeated)
        }
        (Role::Responder, State::Listen | State::Unknown, _) => Verdict::accept(
            word.with_state(Role::Responder, State::SynReceived).with_of(Mark::IsnSeen, Role::Responder),
            Note::SynAnswered,
        ),
        // Again; also with another number, as a listener does that kept no state (SYN cookies).
        (Role::Responder, State::SynReceived, _) => {
            Verdict::accept(word.with(Mark::SynAckRepeated), Note::SynAckRepeated)
        }
        // An originator sends a SYN-ACK only in a simultaneous open.
        (Role::Originator, _, _) | (Role::Responder, _, _) => Verdict::STALE,
    }
}

/// FIN, data or a plain ACK while the handshake is in progress.
#[inline(always)]
pub(super) fn on_ack(word: Word, from: Role, segment: &Segment, sent: &Sent<'_>) -> Verdict {
    let peer_answered = word.has_of(Mark::IsnSeen, from.opposite());
    match from {
        Role::Originator if peer_answered => {
            // Only the number after the SYN-ACK's (or after data sent with it) ends the handshake, from the number
            // after the SYN on; data may come first where the ACK itself was lost.
            let in_order = !word.has_of(Mark::IsnSeen, from) || !segment.seq.before(sent.sender.isn.get().plus(1));
            match word.state(Role::Originator) {
                _ if !in_order || !covers_syn(segment.ack, sent) => Verdict::STALE,
                // In a simultaneous open its own SYN is still to be acknowledged.
                State::SynReceived => completed_for(word, Role::Responder, Note::Nothing),
                // Likewise, and it has closed already.
                _ if word.has_of(Mark::FinSent, Role::Originator) => Verdict::accept(word, Note::Nothing),
                _ => Verdict::accept(established(word), Note::Completed),
            }
        }
        Role::Originator if segment.seq.within(sent.sender.isn.get().plus(1), sent.sender.next_seq.get()) => {
            // The SYN-ACK went another way.
            if segment.flags.has(crate::segment::Flags::FIN) {
                let word = word.with_state(Role::Originator, State::Closed).with_state(Role::Responder, State::Closed);
                return Verdict::accept(word.with_outcome(Outcome::Abandoned), Note::Nothing);
            }
            // Whether the responder exists at all is left open until it is seen.
            Verdict::accept(picked_up(word, from), Note::Nothing)
        }
        Role::Originator => Verdict::STALE,
        // Data right behind the SYN-ACK, before the ACK was seen; or the ACK that ends a simultaneous open.
        Role::Responder if word.has_of(Mark::IsnSeen, from) && covers_syn(segment.ack, sent) => {
            match word.state(Role::Originator) {
                State::SynReceived => completed_for(word, Role::Originator, Note::Nothing),
                _ if word.has_of(Mark::FinSent, Role::Originator) => {
                    Verdict::accept(established(word), Note::Completed)
                }
                _ => Verdict::accept(word, Note::Nothing),
            }
        }
        // The originator's segments go another way; this one shows that the handshake's ACK has come.
        Role::Responder
            if word.has_of(Mark::IsnSeen, from)
                && !word.has_of(Mark::Seen, Role::Originator)
                && segment.seq.after(sent.sender.isn.get()) =>
        {
            Verdict::accept(picked_up(word, from), Note::Nothing)
        }
        // An ACK instead of a SYN-ACK is a challenge: the responder holds another connection on this tuple
        // (<https://www.rfc-editor.org/rfc/rfc5961#section-4>).
        Role::Responder => Verdict::STALE,
    }
}

/// In a simultaneous open: this endpoint's SYN is acknowledged. Once both are, the handshake is complete.
#[inline(always)]
fn completed_for(word: Word, role: Role, otherwise: Note) -> Verdict {
    let word = word.with_state(role, State::Established);
    match word.state(role.opposite()) {
        State::Established => Verdict::accept(established(word), Note::Completed),
        _ => Verdict::accept(word, otherwise),
    }
}

/// The word after the handshake. An end that has closed before it was over has gone beyond.
#[inline(always)]
fn established(word: Word) -> Word {
    let opened = |state| match state {
        State::Unknown | State::Listen | State::SynSent | State::SynReceived => State::Established,
        beyond => beyond,
    };
    word.with_state(Role::Originator, opened(word.state(Role::Originator)))
        .with_state(Role::Responder, opened(word.state(Role::Responder)))
        .with_outcome(Outcome::Completed)
}

/// The word of a flow of which the handshake was not seen, or not whole, and of which `seen` alone has shown itself.
#[inline(always)]
pub(super) fn picked_up(word: Word, seen: Role) -> Word {
    word.with_state(seen, State::Established).with_state(seen.opposite(), State::Unknown).with_outcome(Outcome::NotSeen)
}

/// Whether an acknowledgement number covers the receiver's SYN, and nothing that it has not sent: ISN + 1, or more
/// where data went with the SYN.
#[inline(always)]
pub(super) fn covers_syn(ack: SeqNum, sent: &Sent<'_>) -> bool {
    ack.within(sent.receiver.isn.get().plus(1), sent.receiver.next_seq.get())
}
