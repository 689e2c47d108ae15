//! The TCP header (<https://www.rfc-editor.org/rfc/rfc9293#section-3.1>).

use super::{load_u16, load_words};
use crate::{
    counters::Skip,
    frame::Frame,
    segment::{Flags, Options, Segment},
    seq::SeqNum,
};

const HEADER_BYTES: usize = 20;

/// Where a segment's options lie.
#[derive(Clone, Copy, Debug)]
pub struct OptionsSpan {
    pub offset: usize,
    pub bytes: usize,
}

/// Source port, destination port, segment and the place of its options, at `offset`, where IP says that `bytes` belong
/// to TCP. The options are left unread: most segments end where they are not asked for.
#[inline(always)]
pub(super) fn segment<F: Frame + ?Sized>(
    frame: &F,
    offset: usize,
    bytes: u32,
) -> Result<(u16, u16, Segment, OptionsSpan), Skip> {
    let [ports, seq, ack, fourth] = load_words(frame, offset)?.map(u32::from_be);
    let (source_port, destination_port) = ((ports >> 16) as u16, ports as u16);
    let (seq, ack) = (SeqNum(seq), SeqNum(ack));
    let (data_offset, flags, window) = ((fourth >> 24) as u8, (fourth >> 16) as u8, fourth as u16);
    let header_bytes = usize::from(data_offset >> 4) * 4;
    if header_bytes < HEADER_BYTES || (header_bytes as u32) > bytes {
        return Err(Skip::BadHeader);
    }
    // The last two bytes of the header are not asked for their meaning, but must be there.
    load_u16(frame, offset + 18)?;
    let segment = Segment {
        seq,
        ack,
        flags: Flags(flags),
        window,
        payload_bytes: bytes - header_bytes as u32,
        wire_segments: frame.wire_segments(),
        accurate_ecn: data_offset & 1,
        options: Options::NONE,
    };
    let options = OptionsSpan { offset: offset + HEADER_BYTES, bytes: header_bytes - HEADER_BYTES };
    Ok((source_port, destination_port, segment, options))
}
