//! Transitions on RST (<https://www.rfc-editor.org/rfc/rfc9293#section-3.5.3>), and which RST counts: one whose
//! numbers only the ends can know (<https://www.rfc-editor.org/rfc/rfc5961#section-3>).

use super::{
    handshake::covers_syn,
    next::{Sent, Verdict},
    note::Note,
    state::{Phase, State},
    teardown,
    word::{How, Initiator, Mark, Outcome, Role, Word},
};
use crate::segment::{Flags, Segment};

/// A RST while the handshake is in progress.
#[inline(always)]
pub(super) fn in_handshake(word: Word, from: Role, segment: &Segment, sent: &Sent<'_>) -> Verdict {
    let peer_spoke = word.has_of(Mark::IsnSeen, from.opposite());
    let acknowledges = segment.flags.has(Flags::ACK) && peer_spoke && covers_syn(segment.ack, sent);
    // A RST without acknowledgement stands where its sender would send next, or where its peer expects it.
    let in_place = (word.has_of(Mark::IsnSeen, from)
        && segment.seq.within(sent.sender.isn.get(), sent.sender.next_seq.get()))
        || (sent.receiver.has_acknowledged() && segment.seq == sent.receiver.acked.get());
    // Known from the socket table only, which says nothing of numbers.
    let nothing_is_known = matches!(word.state(Role::Responder), State::SynReceived)
        && !word.has_of(Mark::IsnSeen, Role::Originator)
        && !word.has_of(Mark::IsnSeen, Role::Responder)
        && !sent.receiver.has_acknowledged();
    let outcome = match from {
        _ if nothing_is_known => Outcome::Reset,
        // In SYN-SENT only the acknowledgement of the SYN makes a RST acceptable (RFC 9293, 3.10.7.3).
        Role::Responder if !word.has_of(Mark::IsnSeen, from) => {
            if !acknowledges {
                return Verdict::stale(Note::RstBeforeAnswer);
            }
            Outcome::Refused
        }
        // One that has both SYNs, as in a simultaneous open, goes by the number (RFC 9293, 3.10.7.4).
        Role::Responder if in_place || acknowledges && word.state(Role::Originator) == State::SynSent => Outcome::Reset,
        Role::Originator if in_place && peer_spoke => Outcome::Reset,
        // With the SYN's own number it answers a SYN-ACK of some other attempt.
        Role::Originator if in_place && segment.seq != sent.sender.isn.get() => Outcome::Abandoned,
        Role::Originator | Role::Responder => return Verdict::stale(Note::RstOutOfWindow),
    };
    let note = if matches!(outcome, Outcome::Refused) { Note::Refused } else { Note::HandshakeReset };
    Verdict::accept(ended(word, from).with_outcome(outcome), note)
}

/// A RST on a flow whose handshake is over or was not seen.
#[inline(always)]
pub(super) fn after_handshake(word: Word, from: Role, segment: &Segment, sent: &Sent<'_>) -> Verdict {
    if word.phase() == Phase::Closed {
        // The sender has no connection and says so to each segment that still arrives.
        return Verdict::accept(word.with_of(Mark::RstSent, from), Note::ResetAfterClose);
    }
    if !is_expected(word, from, segment, sent) {
        let is_challenged =
            word.has_of(Mark::Seen, from.opposite()) && teardown::is_in_window(word, from, segment.seq, sent);
        return Verdict::stale(if is_challenged { Note::RstChallenged } else { Note::RstOutOfWindow });
    }
    let begun = word.has_of(Mark::FinSent, Role::Originator) || word.has_of(Mark::FinSent, Role::Responder);
    let (word, note) = match word.phase() {
        // Both FINs were exchanged: the RST only cuts TIME-WAIT short (<https://www.rfc-editor.org/rfc/rfc1337>).
        Phase::TimeWait => (word, Note::TimeWaitAssassinated),
        _ => {
            let initiator = match word.initiator() {
                Initiator::Nobody => Initiator::of(from),
                begun => begun,
            };
            (word.with_close(initiator, How::Rst), if begun { Note::ResetAfterFin } else { Note::AbortiveClose })
        }
    };
    Verdict::accept(ended(word, from), note)
}

/// Whether the receiver would take this RST: it stands at the number that the receiver expects, which lies between
/// what the receiver has acknowledged and what the sender has sent. Beyond that it earns a challenge ACK at most.
#[inline(always)]
fn is_expected(word: Word, from: Role, segment: &Segment, sent: &Sent<'_>) -> bool {
    let sender_seen = word.has_of(Mark::Seen, from);
    let receiver_seen = word.has_of(Mark::Seen, from.opposite()) && sent.receiver.has_acknowledged();
    let expected_next = sent.sender.next_seq.get();
    let acked = sent.receiver.acked.get();
    // The FIN was held against the window when it passed, and may have ended a number beyond it: what follows on it is
    // in place as well.
    if sender_seen && word.has_of(Mark::FinSent, from) {
        if segment.seq == expected_next {
            return true;
        }
        // Some stacks reset with the number of their FIN; Linux takes that (`tcp_reset_check`), but not in TIME-WAIT,
        // where only the number that is expected counts (`tcp_timewait_state_process`).
        if word.state(from.opposite()) != State::TimeWait && segment.seq.plus(1) == expected_next {
            return true;
        }
    }
    // What the sender was seen to send may be a liar's; the receiver's own word bounds it.
    if receiver_seen && !teardown::is_in_window(word, from, segment.seq, sent) {
        return false;
    }
    if sender_seen && segment.seq == expected_next {
        return true;
    }
    match (sender_seen, receiver_seen) {
        (true, true) => segment.seq.within(acked, expected_next),
        // The answer to a segment has that segment's acknowledgement number.
        (false, true) => segment.seq == acked,
        (true, false) => false,
        // Known from the socket table only, which says nothing of numbers.
        (false, false) => true,
    }
}

/// After a RST neither end has a connection.
#[inline(always)]
fn ended(word: Word, from: Role) -> Word {
    word.with_state(Role::Originator, State::Closed)
        .with_state(Role::Responder, State::Closed)
        .with_of(Mark::RstSent, from)
}
