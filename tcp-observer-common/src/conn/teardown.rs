//! Transitions after the handshake: acknowledgements and FINs
//! (<https://www.rfc-editor.org/rfc/rfc9293#section-3.6>).
//!
//! A FIN that follows what was already seen, or what its receiver has acknowledged, counts as received when it passes; one
//! beyond a gap only when its receiver acknowledges it.

use super::{
    living,
    next::{Sent, Verdict},
    note::Note,
    state::State,
    word::{How, Initiator, Mark, Outcome, Role, Word},
};
use crate::{
    segment::{Flags, Segment},
    seq::SeqNum,
    verifier::forget,
};

/// A segment with ACK, with or without payload and FIN.
#[inline(always)]
pub(super) fn on_ack(word: Word, from: Role, segment: &Segment, sent: &Sent<'_>) -> Verdict {
    let before = word;
    let word = match word.state(from) {
        // The first that is seen of this side.
        State::Unknown => word.with_state(from, State::Established),
        _ => word,
    };
    let mut word = confirmed(word.forgotten(), from, segment, sent).forgotten();
    // Of a FIN that is known from the socket table only, nobody knows the number.
    // Its receiver drops what lies before all that it expects, the acknowledgement with it (RFC 9293, 3.10.7.4, first
    // check; Linux's `tcp_sequence`).
    let is_dropped = sent.receiver.has_acknowledged() && segment.end().before(sent.receiver.acked.get());
    let acks_fin = !is_dropped
        && word.has_of(Mark::FinSent, from.opposite())
        && (segment.ack == sent.receiver.next_seq.get() || !word.has_of(Mark::Seen, from.opposite()));
    if acks_fin {
        // Only what was received is acknowledged.
        word = word.with_state(from.opposite(), word.state(from.opposite()).fin_acknowledged()).forgotten();
        word = word.with_state(from, word.state(from).fin_received());
    }
    let word = word.forgotten();
    let peer_waits = before.state(from.opposite()) == State::TimeWait;
    if segment.flags.has(Flags::FIN) {
        return fin(word, from, segment, sent, acks_fin, peer_waits);
    }
    let note = if peer_waits { Note::TimeWaitRestarted } else { living::note(before, from, segment, sent) };
    Verdict::accept(word, note)
}

/// A FIN. Of one beyond a gap only its receiver can say whether it has arrived.
#[inline(always)]
fn fin(word: Word, from: Role, segment: &Segment, sent: &Sent<'_>, acks_peer_fin: bool, peer_waits: bool) -> Verdict {
    let sender_seen = word.has_of(Mark::Seen, from);
    let expected_next = sent.sender.next_seq.get();
    // The receiver has said that it has all that lies before.
    let nothing_lacks = sent.receiver.has_acknowledged() && !segment.seq.after(sent.receiver.acked.get());
    if word.has_of(Mark::FinSent, from) {
        // A repetition ends at the same number; there is no second end.
        if segment.end() != expected_next && sender_seen {
            return Verdict::stale(Note::SecondFin);
        }
        // What was missing before the FIN has come meanwhile, or comes with it.
        let peer = word.state(from.opposite());
        let peer = if nothing_lacks { peer.fin_received() } else { peer };
        let note = if sent.doubles_fin() {
            Note::FramesDoubled
        } else if peer_waits {
            Note::LastAckLost
        } else {
            Note::FinRepeated
        };
        return Verdict::accept(word.with_state(from.opposite(), peer), note);
    }
    let is_filtered = word.has(Mark::MayLack) && sent.sender.is_bare() && sent.receiver.is_bare();
    // Whatever lies before it has passed here as well, and nothing is known to be missing.
    let in_order = !sender_seen && !sent.receiver.has_acknowledged()
        || is_filtered
        || nothing_lacks
        || segment.seq.within(expected_next.plus(u32::wrapping_neg(segment.payload_bytes)), expected_next)
            && !sent.sender.has_gap(sent.receiver);
    // The FIN's own number may lie at the window's edge: senders that have filled the window add it to the last data
    // (4.4BSD, smoltcp), and receivers take it. Or it is acknowledged already: by an ACK that has overtaken it here.
    if !is_filtered && !is_within(word, from, segment.end(), sent, 1) {
        return Verdict::stale(Note::FinOutOfWindow);
    }
    // "If the ACK acks something not yet sent, then send an ACK, drop the segment" (RFC 9293, 3.10.7.4, fifth check).
    // What a local end has sent has passed here; of others, and in captures, some may be missing.
    let receiver_is_known = word.has_of(Mark::Seen, from.opposite())
        && word.has_of(Mark::Local, from.opposite())
        && !word.has(Mark::MayLack);
    if receiver_is_known && segment.ack.after(sent.receiver.next_seq.get()) {
        return Verdict::stale(Note::WrongAck);
    }
    let own = match word.state(from) {
        // The peer's FIN has passed here, but this one was sent before it arrived: simultaneous close.
        State::CloseWait if !acks_peer_fin => State::Closing,
        own => own.fin_sent(),
    };
    let own = State::from_bits(forget(own as u64) as u8);
    // Or the peer's FIN lies beyond a gap, and this end has not said that it got it.
    let crossed = own == State::Closing || own == State::FinWait1 && word.has_of(Mark::FinSent, from.opposite());
    let (initiator, how) = match word.initiator() {
        _ if crossed => (Initiator::Both, How::Simultaneous),
        // What silence has ended before, no FIN ends again.
        Initiator::Nobody if matches!(word.how(), How::Open) => (Initiator::of(from), How::Fin),
        begun => (begun, word.how()),
    };
    let word = word.with_state(from, own).with_of(Mark::FinSent, from).with_close(initiator, how).forgotten();
    let peer = word.state(from.opposite());
    let peer = if in_order { peer.fin_received() } else { peer };
    let note = match (crossed, in_order) {
        (true, _) => Note::SimultaneousClose,
        (false, true) => Note::Nothing,
        (false, false) => Note::FinOutOfOrder,
    };
    Verdict::accept(word.with_state(from.opposite(), peer), note)
}

/// Whether a segment that ends at `end` lies between what the receiver has acknowledged and the end of the widest
/// window that it has advertised, as far as either was seen.
#[inline(always)]
pub(super) fn is_in_window(word: Word, from: Role, end: SeqNum, sent: &Sent<'_>) -> bool {
    is_within(word, from, end, sent, 0)
}

/// The same for a window that is wider by so many numbers.
#[inline(always)]
fn is_within(word: Word, from: Role, end: SeqNum, sent: &Sent<'_>, wider: u32) -> bool {
    if !word.has_of(Mark::Seen, from.opposite()) {
        return true;
    }
    // A receiver of which only the SYN was seen has acknowledged nothing yet.
    let acked = match (sent.receiver.has_acknowledged(), word.has_of(Mark::IsnSeen, from)) {
        (true, _) => sent.receiver.acked.get(),
        (false, true) => sent.sender.isn.get(),
        (false, false) => return true,
    };
    let window = u32::from(sent.receiver.max_window.get()) << window_shift(word, sent);
    end.within(acked, acked.plus(window + wider))
}

/// The shift of the receiver's window: what its SYN said if both SYNs offered one
/// (<https://www.rfc-editor.org/rfc/rfc7323#section-2.2>), the largest there is where the SYNs were not seen.
#[inline(always)]
fn window_shift(word: Word, sent: &Sent<'_>) -> u32 {
    let both_seen = word.has_of(Mark::IsnSeen, Role::Originator) && word.has_of(Mark::IsnSeen, Role::Responder);
    let (own, peer) = (sent.receiver.window_shift.get(), sent.sender.window_shift.get());
    match both_seen {
        false => 14,
        true if own > 14 || peer > 14 => 0,
        true => u32::from(own),
    }
}

/// For a flow picked up mid-stream: notes that this end has acknowledged what the other was seen to send.
#[inline(always)]
fn confirmed(word: Word, from: Role, segment: &Segment, sent: &Sent<'_>) -> Word {
    if !matches!(word.outcome(), Outcome::NotSeen) || !word.has_of(Mark::Seen, from.opposite()) {
        return word;
    }
    let (first, last) = (sent.receiver.isn.get(), sent.receiver.next_seq.get());
    if segment.ack.within(first, last) { word.with_of(Mark::Confirmed, from) } else { word }
}
