//! What data and plain acknowledgements say beside their numbers: keepalives, probes of a closed window, repetitions.
//! None of it moves a state.

use super::{
    next::Sent,
    note::Note,
    word::{Mark, Role, Word},
};
use crate::segment::{Segment, SegmentKind};

/// What to note of a segment that is neither SYN, FIN nor RST.
#[inline(always)]
pub(super) fn note(word: Word, from: Role, segment: &Segment, sent: &Sent<'_>) -> Note {
    if !word.has_of(Mark::Seen, from) {
        return Note::Nothing;
    }
    let next = sent.sender.next_seq.get();
    let is_data = matches!(segment.kind(), SegmentKind::Data);
    let window_is_zero = sent.receiver.window_is_zero();
    let acked = sent.receiver.acked.get();
    let is_acknowledged = sent.receiver.has_acknowledged() && acked == next;
    let is_probe = segment.seq.plus(1) == next && segment.payload_bytes <= 1
        || sent.receiver.has_acknowledged() && segment.seq.plus(1) == acked && !is_data;
    // One number before what is expected, empty or with one byte of garbage. Where the receiver has no room, this or
    // one new byte asks whether it has some again (RFC 9293, 3.8.6.1); Linux probes with an empty segment, one number
    // before what is acknowledged.
    if is_probe {
        if window_is_zero {
            return Note::WindowProbe;
        }
        if !is_data || is_acknowledged {
            return Note::Keepalive;
        }
    }
    if is_data {
        if segment.seq.after(next) {
            return Note::OutOfOrder;
        }
        if segment.seq == next && segment.payload_bytes == 1 && window_is_zero {
            return Note::WindowProbe;
        }
        if segment.seq.before(next) {
            // Where its receiver lacks something, this may be the first time that it passes here.
            let fills = sent.sender.has_gap(sent.receiver) && segment.seq.before(sent.sender.gap_end.get());
            return if fills { Note::OutOfOrder } else { Note::Retransmitted };
        }
    }
    if segment.window == 0 && !sent.sender.window_is_zero() { Note::ZeroWindow } else { Note::Nothing }
}
