//! A TCP segment as the state machine sees it: numbers and flags, no bytes.

use crate::{labels::labelled, seq::SeqNum};

/// The control bits of a TCP header (<https://www.rfc-editor.org/rfc/rfc9293#section-3.1>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Flags(pub u8);

impl Flags {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;

    #[inline(always)]
    pub const fn has(self, bits: u8) -> bool {
        self.0 & bits != 0
    }
}

labelled! {
    /// The first that applies, in this order of precedence.
    pub enum SegmentKind {
        /// RST is set, whatever else is.
        Rst = "rst",
        /// SYN without ACK.
        Syn = "syn",
        /// SYN with ACK.
        SynAck = "synack",
        /// FIN, with or without payload.
        Fin = "fin",
        /// Payload.
        Data = "data",
        /// None of these: a pure acknowledgement.
        Ack = "ack",
    }
}

/// One TCP segment, or one GSO/GRO super-packet of several. Without padding: the kernel passes it by address, and the
/// verifier asks for every byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Segment {
    pub seq: SeqNum,
    /// Meaningful only with [`Flags::ACK`].
    pub ack: SeqNum,
    /// TCP payload in bytes.
    pub payload_bytes: u32,
    /// How many segments the wire carries for this buffer, at least one.
    pub wire_segments: u32,
    /// The advertised window as it stands in the header, unscaled.
    pub window: u16,
    pub flags: Flags,
    /// The shift of the window scale option, on a SYN that carries one
    /// (<https://www.rfc-editor.org/rfc/rfc7323#section-2.2>); otherwise [`Segment::NO_SHIFT`].
    pub window_shift: u8,
}

const _: () = assert!(size_of::<Segment>() == 20);

impl Segment {
    /// No window scale option.
    pub const NO_SHIFT: u8 = 0xff;

    /// The kind that this segment counts as.
    #[inline(always)]
    pub fn kind(&self) -> SegmentKind {
        let flags = self.flags;
        if flags.has(Flags::RST) {
            SegmentKind::Rst
        } else if flags.has(Flags::SYN) {
            if flags.has(Flags::ACK) { SegmentKind::SynAck } else { SegmentKind::Syn }
        } else if flags.has(Flags::FIN) {
            SegmentKind::Fin
        } else if self.payload_bytes > 0 {
            SegmentKind::Data
        } else {
            SegmentKind::Ack
        }
    }

    /// The sequence number after this segment: SYN and FIN take one number each
    /// (<https://www.rfc-editor.org/rfc/rfc9293#section-3.4>).
    #[inline(always)]
    pub fn end(&self) -> SeqNum {
        let controls = u32::from(self.flags.has(Flags::SYN)) + u32::from(self.flags.has(Flags::FIN));
        self.seq.plus(self.payload_bytes).plus(controls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(flags: u8, payload_bytes: u32) -> Segment {
        Segment {
            seq: SeqNum(u32::MAX),
            ack: SeqNum(0),
            flags: Flags(flags),
            window: 0,
            payload_bytes,
            wire_segments: 1,
            window_shift: Segment::NO_SHIFT,
        }
    }

    #[test]
    fn kind_is_the_first_that_applies() {
        for (flags, payload, kind) in [
            (Flags::RST | Flags::SYN | Flags::FIN | Flags::ACK, 9, SegmentKind::Rst),
            (Flags::SYN, 9, SegmentKind::Syn),
            (Flags::SYN | Flags::ACK, 0, SegmentKind::SynAck),
            (Flags::FIN | Flags::ACK, 9, SegmentKind::Fin),
            (Flags::ACK, 9, SegmentKind::Data),
            (Flags::ACK | Flags::PSH, 0, SegmentKind::Ack),
        ] {
            assert_eq!(segment(flags, payload).kind(), kind);
        }
    }

    #[test]
    fn syn_and_fin_take_a_sequence_number_each() {
        assert_eq!(segment(Flags::SYN, 0).end(), SeqNum(0));
        assert_eq!(segment(Flags::FIN | Flags::ACK, 10).end(), SeqNum(10));
        assert_eq!(segment(Flags::ACK, 0).end(), SeqNum(u32::MAX));
    }
}
