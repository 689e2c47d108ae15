//! The TCP header (<https://www.rfc-editor.org/rfc/rfc9293#section-3.1>).

use super::{load_bytes, load_u16, load_u32, options};
use crate::{
    counters::Skip,
    frame::Frame,
    segment::{Flags, Segment},
    seq::SeqNum,
};

const HEADER_BYTES: usize = 20;

/// Source port, destination port and segment at `offset`, where IP says that `bytes` belong to TCP.
#[inline(always)]
pub(super) fn segment<F: Frame + ?Sized>(frame: &F, offset: usize, bytes: u32) -> Result<(u16, u16, Segment), Skip> {
    let source_port = load_u16(frame, offset)?;
    let destination_port = load_u16(frame, offset + 2)?;
    let seq = SeqNum(load_u32(frame, offset + 4)?);
    let ack = SeqNum(load_u32(frame, offset + 8)?);
    let [data_offset, flags] = load_bytes(frame, offset + 12)?;
    let header_bytes = usize::from(data_offset >> 4) * 4;
    let flags = Flags(flags);
    let window = load_u16(frame, offset + 14)?;
    if header_bytes < HEADER_BYTES || (header_bytes as u32) > bytes {
        return Err(Skip::BadHeader);
    }
    // The last two bytes of the header are not asked for their meaning, but must be there.
    load_u16(frame, offset + 18)?;
    if !are_plausible(flags) {
        return Err(Skip::BadFlags);
    }
    let window_shift = if flags.has(Flags::SYN) {
        options::window_shift(frame, offset + HEADER_BYTES, header_bytes).unwrap_or(Segment::NO_SHIFT)
    } else {
        Segment::NO_SHIFT
    };
    let segment = Segment {
        seq,
        ack,
        flags,
        window,
        payload_bytes: bytes - header_bytes as u32,
        wire_segments: frame.wire_segments(),
        window_shift,
    };
    Ok((source_port, destination_port, segment))
}

/// Whether a TCP can have meant these flags: SYN and FIN exclude each other, and whatever is neither SYN nor RST
/// carries an acknowledgement (<https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.4>: "if the ACK bit is off,
/// drop the segment").
#[inline(always)]
fn are_plausible(flags: Flags) -> bool {
    if flags.has(Flags::RST) {
        return true;
    }
    if flags.has(Flags::SYN) { !flags.has(Flags::FIN) } else { flags.has(Flags::ACK) }
}
