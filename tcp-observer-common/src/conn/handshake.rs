//! Transitions of the three-way handshake and of the simultaneous open
//! (<https://www.rfc-editor.org/rfc/rfc9293#section-3.5>).
//!
//! The originator stays in SYN-SENT until its own ACK is seen: that the SYN-ACK passed here does not say that it
//! arrived.

use super::{
    next::{Sent, Verdict},
    note::Note,
    state::State,
    word::{Mark, Outcome, Role, Word},
};
use crate::{
    segment::{Flags, Options, Segment, SegmentKind},
    seq::SeqNum,
};

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
            // Without the data that the first one brought it is another segment (Fast Open given up).
            (true, _, _) if sent.doubles_syn() && segment.end() == sent.sender.next_seq.get() => {
                Verdict::accept(word, Note::FramesDoubled)
            }
            (true, false, Role::Originator) => Verdict::accept(word.with(Mark::SynRepeated), Note::SynRepeated),
            (true, _, _) => Verdict::accept(word.with(Mark::SynRepeated), Note::LateSyn),
            // A new attempt on the same ports, before the first was answered.
            (false, false, _) => Verdict::reincarnate(Note::TupleReused),
            // The responder, in SYN-RECEIVED, answers such a SYN with an ACK and goes on waiting (RFC 9293, 3.10.7.4).
            (false, true, _) => Verdict::stale(Note::SynInConnection),
        };
    }
    match from {
        // Known from the socket table, and it has sent its FIN: there is no way back.
        Role::Responder if word.has_of(Mark::FinSent, from) => Verdict::stale(Note::SynInConnection),
        // The responder has acknowledged the SYN before, apart from its own: the originator, which now has both, is
        // done (RFC 9293, 3.10.7.3: "if SND.UNA > ISS, change the connection state to ESTABLISHED").
        Role::Responder if word.has_of(Mark::Seen, Role::Responder) => Verdict::accept(
            word.with_state(Role::Originator, State::Established)
                .with_state(Role::Responder, State::SynReceived)
                .with_of(Mark::IsnSeen, from),
            Note::SplitHandshake,
        ),
        // Simultaneous open: each end has sent its SYN before it had the other's.
        Role::Responder => Verdict::accept(
            word.with_state(Role::Originator, State::SynReceived)
                .with_state(Role::Responder, State::SynReceived)
                .with_of(Mark::IsnSeen, from),
            Note::SimultaneousOpen,
        ),
        // The SYN of a flow whose SYN-ACK was seen first: no guess any more.
        Role::Originator if segment.end() == sent.receiver.acked.get() => {
            Verdict::accept(word.with_of(Mark::IsnSeen, from).without(Mark::Inferred), Note::SynAfterSynAck)
        }
        Role::Originator => Verdict::stale(Note::SynInConnection),
    }
}

#[inline(always)]
pub(super) fn on_synack(word: Word, from: Role, segment: &Segment, sent: &Sent<'_>) -> Verdict {
    let own = word.state(from);
    let peer = word.state(from.opposite());
    let renumbers = word.has_of(Mark::IsnSeen, from) && segment.seq != sent.sender.isn.get();
    // In a simultaneous open the first SYN-ACK has the number of the SYN before it.
    let has_answered = matches!((own, peer), (State::SynReceived, State::SynSent) | (_, State::Established));
    if has_answered && word.has_of(Mark::IsnSeen, from) && !renumbers && sent.doubles_syn() {
        return Verdict::accept(word, Note::FramesDoubled);
    }
    if word.has_of(Mark::IsnSeen, from.opposite()) && !covers_syn(segment.ack, sent) {
        // "If the segment acknowledgment is not acceptable, form a reset segment" (RFC 9293, 3.10.7.3): the
        // receiver will; this answers some other SYN.
        return Verdict::stale(Note::WrongSynAck);
    }
    let originator_has_it = word.has_of(Mark::Local, Role::Originator) || sent.receiver.has_acknowledged();
    match (from, own, peer) {
        // The originator has sent its SYN and got the other, as it has said if it is not local: one with another number
        // is out of its window (RFC 9293, 3.10.7.4, first check). A local responder that sends a bare SYN has not taken
        // the originator's.
        (Role::Responder, _, State::SynReceived) if renumbers && originator_has_it => Verdict::stale(Note::WrongSynAck),
        (_, State::SynReceived, State::SynReceived) => completed_for(word, from.opposite(), sent, Note::Nothing),
        // The second SYN-ACK of a simultaneous open.
        (_, State::SynReceived | State::Established, State::SynReceived | State::Established) => {
            completed_for(word, from.opposite(), sent, Note::SynAckRepeated)
        }
        (Role::Responder, State::Listen | State::Unknown, _) => Verdict::accept(
            word.with_state(Role::Responder, State::SynReceived).with_of(Mark::IsnSeen, Role::Responder),
            if echoes_of_several(sent.receiver.first_ts.get(), segment, sent) {
                Note::FirstSynAnswered
            } else {
                Note::SynAnswered
            },
        ),
        // Again; also with another number, as a listener does that kept no state (SYN cookies).
        (Role::Responder, State::SynReceived, _) => Verdict::accept(
            word.with(Mark::SynAckRepeated).with_of(Mark::IsnSeen, Role::Responder),
            if renumbers { Note::SynAckRenumbered } else { Note::SynAckRepeated },
        ),
        // An originator sends a SYN-ACK only in a simultaneous open.
        (Role::Originator, _, _) | (Role::Responder, _, _) => Verdict::stale(Note::WrongSynAck),
    }
}

/// Whether a SYN-ACK after a failed attempt is none of those that belong to it: it has another number than the one before;
/// or a local responder acknowledges the SYN that it has refused. Another one's RST may have overtaken its SYN-ACK.
#[inline(always)]
pub(super) fn answers_again(word: Word, from: Role, segment: &Segment, sent: &Sent<'_>) -> bool {
    match from {
        Role::Responder if word.has_of(Mark::IsnSeen, from) => segment.seq != sent.sender.isn.get(),
        Role::Responder => {
            let is_local = word.has_of(Mark::Local, from);
            is_local && matches!(word.outcome(), Outcome::Refused) && covers_syn(segment.ack, sent)
        }
        Role::Originator => false,
    }
}

/// Whether the segment's timestamp says that it answers the one with this timestamp, of several that its receiver has
/// sent (<https://www.rfc-editor.org/rfc/rfc7323#section-3.2>).
#[inline(always)]
fn echoes_of_several(ts_value: u32, segment: &Segment, sent: &Sent<'_>) -> bool {
    let were_several = sent.receiver.first_ts.get() != sent.receiver.last_ts.get();
    segment.options.has(Options::TIMESTAMPS) && were_several && segment.options.ts_echo == ts_value
}

/// Whether a segment acknowledges its receiver's SYN. In a capture of nothing but SYN, FIN and RST a FIN acknowledges
/// data as well that was not seen: anything up to a quarter of all numbers.
#[inline(always)]
fn acknowledges(word: Word, from: Role, segment: &Segment, sent: &Sent<'_>) -> bool {
    const UNSEEN: u32 = 1 << 30;
    let is_filtered = word.has(Mark::MayLack)
        && word.has_of(Mark::IsnSeen, from.opposite())
        && segment.flags.has(Flags::FIN)
        && sent.sender.is_bare()
        && sent.receiver.is_bare();
    let first = sent.receiver.isn.get().plus(1);
    covers_syn(segment.ack, sent) || is_filtered && segment.ack.within(first, first.plus(UNSEEN))
}

/// FIN, data or a plain ACK while the handshake is in progress.
#[inline(always)]
pub(super) fn on_ack(word: Word, from: Role, segment: &Segment, sent: &Sent<'_>) -> Verdict {
    let peer_answered = word.has_of(Mark::IsnSeen, from.opposite());
    let is_pure_ack = matches!(segment.kind(), SegmentKind::Ack);
    // What lies before the number after the SYN, as a keepalive does, is dropped, its acknowledgement with it (RFC 9293,
    // 3.10.7.4, first check). Of a SYN that was not seen its receiver's acknowledgement has that number.
    let in_order = if word.has_of(Mark::IsnSeen, from) {
        !segment.seq.before(sent.sender.isn.get().plus(1))
    } else {
        !sent.receiver.has_acknowledged() || !segment.seq.before(sent.receiver.acked.get())
    };
    match from {
        Role::Originator if peer_answered => {
            // Only the number after the SYN-ACK's (or after data sent with it) ends the handshake; data may come first
            // where the ACK itself was lost.
            match word.state(Role::Originator) {
                _ if !in_order || !acknowledges(word, from, segment, sent) => Verdict::stale(Note::WrongAck),
                // In a simultaneous open its own SYN is still to be acknowledged.
                State::SynReceived => completed_for(word, Role::Responder, sent, Note::Nothing),
                // Likewise, and it has closed already.
                _ if word.has_of(Mark::FinSent, Role::Originator) => Verdict::accept(word, Note::Nothing),
                _ => {
                    let last =
                        word.has(Mark::SynAckRepeated) && echoes_of_several(sent.receiver.last_ts.get(), segment, sent);
                    Verdict::accept(established(word), if last { Note::LastSynAckAcked } else { Note::Completed })
                }
            }
        }
        // The SYN-ACK was sent before anybody looked: the socket table has told of it.
        Role::Originator if matches!(word.state(Role::Responder), State::SynReceived) => {
            Verdict::accept(established(word), Note::Completed)
        }
        Role::Originator if segment.seq.within(sent.sender.isn.get().plus(1), sent.sender.next_seq.get()) => {
            // The SYN-ACK went another way.
            if segment.flags.has(Flags::FIN) {
                let word = word.with_state(Role::Originator, State::Closed).with_state(Role::Responder, State::Closed);
                let word = word.with_outcome(Outcome::Abandoned).with_of(Mark::FinSent, Role::Originator);
                return Verdict::accept(word, Note::Nothing);
            }
            // Whether the responder exists at all is left open until it is seen.
            Verdict::accept(picked_up(word, from), Note::PickedUp)
        }
        Role::Originator => Verdict::stale(Note::WrongAck),
        // Data right behind the SYN-ACK, before the ACK was seen; or the ACK that ends a simultaneous open.
        Role::Responder if word.has_of(Mark::IsnSeen, from) && acknowledges(word, from, segment, sent) => {
            match word.state(Role::Originator) {
                State::SynReceived if in_order => completed_for(word, Role::Originator, sent, Note::Nothing),
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
            Verdict::accept(picked_up(word, from), Note::PickedUp)
        }
        // The SYN is acknowledged without one: of a handshake in four steps the second, where it is a pure ACK.
        Role::Responder if !word.has_of(Mark::IsnSeen, from) && peer_answered && covers_syn(segment.ack, sent) => {
            if is_pure_ack {
                Verdict::accept(word, Note::SplitHandshake)
            } else if word.has_of(Mark::Local, Role::Originator) {
                // Here it was not overlooked, and the socket, in SYN-SENT, drops what has no SYN (RFC 9293, 3.10.7.3).
                Verdict::stale(Note::ChallengeAck)
            } else {
                // The SYN-ACK was not seen, and neither was its acknowledgement, without which no data comes.
                let word = picked_up(word, from).with_state(Role::Originator, State::Established);
                Verdict::accept(word, Note::PickedUp)
            }
        }
        // Its SYN-ACK was sent before anybody looked.
        Role::Responder
            if matches!(word.state(Role::Responder), State::SynReceived) && !word.has_of(Mark::IsnSeen, from) =>
        {
            Verdict::accept(word, Note::Nothing)
        }
        // An ACK instead of a SYN-ACK is a challenge: the responder holds another connection on this tuple
        // (<https://www.rfc-editor.org/rfc/rfc5961#section-4>).
        Role::Responder => Verdict::stale(Note::ChallengeAck),
    }
}

/// In a simultaneous open: the SYN of this endpoint, the segment's receiver, is acknowledged. Once both are, the
/// handshake is complete.
#[inline(always)]
fn completed_for(word: Word, role: Role, sent: &Sent<'_>, otherwise: Note) -> Verdict {
    let word = word.with_state(role, opened(word.state(role)));
    let is_complete = match word.state(role.opposite()) {
        State::Unknown | State::Listen | State::SynSent | State::SynReceived => false,
        State::Established => true,
        // It has closed early, and its state says no more of its SYN.
        _ => sent.receiver.has_acknowledged() && sent.receiver.acked.get().after(sent.sender.isn.get()),
    };
    if is_complete { Verdict::accept(established(word), Note::Completed) } else { Verdict::accept(word, otherwise) }
}

/// The state after the handshake. An end that has closed before it was over has gone beyond.
#[inline(always)]
fn opened(state: State) -> State {
    match state {
        State::Unknown | State::Listen | State::SynSent | State::SynReceived => State::Established,
        beyond => beyond,
    }
}

/// The word after the handshake.
#[inline(always)]
fn established(word: Word) -> Word {
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
