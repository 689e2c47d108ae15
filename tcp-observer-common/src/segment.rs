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
    pub const URG: u8 = 0x20;
    /// ECN echo (<https://www.rfc-editor.org/rfc/rfc3168#section-6.1>).
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced, likewise.
    pub const CWR: u8 = 0x80;

    #[inline(always)]
    pub const fn has(self, bits: u8) -> bool {
        self.0 & bits != 0
    }

    /// Whether a TCP can have meant these: SYN and FIN exclude each other, and whatever is neither SYN nor RST carries
    /// an acknowledgement (<https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.4>: "if the ACK bit is off, drop the
    /// segment"). A RST counts whatever else is set, as receivers ask for it first.
    #[inline(always)]
    pub const fn are_plausible(self) -> bool {
        if self.has(Self::RST) {
            true
        } else if self.has(Self::SYN) {
            !self.has(Self::FIN)
        } else {
            self.has(Self::ACK)
        }
    }

    /// Whether they are those of data or of an acknowledgement: ACK, and neither SYN, FIN nor RST.
    #[inline(always)]
    pub const fn are_plain(self) -> bool {
        self.0 & (Self::SYN | Self::FIN | Self::RST | Self::ACK) == Self::ACK
    }

    /// How many of SYN, FIN and RST are set. No TCP sends two of them together.
    #[inline(always)]
    pub const fn controls(self) -> u32 {
        (self.0 & (Self::SYN | Self::FIN | Self::RST)).count_ones()
    }
}

/// What a segment's options say. Only segments off the shortest path have theirs read; [`Options::NONE`] elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Options {
    /// TSval and TSecr; meaningful with [`Options::TIMESTAMPS`]
    /// (<https://www.rfc-editor.org/rfc/rfc7323#section-3.2>).
    pub ts_value: u32,
    pub ts_echo: u32,
    /// The maximum segment size of a SYN in bytes, zero where it says none
    /// (<https://www.rfc-editor.org/rfc/rfc9293#section-3.7.1>).
    pub mss: u16,
    /// The shift of a SYN's window scale option (<https://www.rfc-editor.org/rfc/rfc7323#section-2.2>), or
    /// [`Options::NO_SHIFT`].
    pub window_shift: u8,
    /// Which options are there: [`Options::TIMESTAMPS`] and its neighbours.
    pub present: u8,
}

impl Options {
    pub const TIMESTAMPS: u8 = 0x01;
    /// SACK permitted (<https://www.rfc-editor.org/rfc/rfc2018#section-2>).
    pub const SACK: u8 = 0x02;
    /// Fast Open, a cookie or the request for one (<https://www.rfc-editor.org/rfc/rfc7413#section-4.1.1>).
    pub const FAST_OPEN: u8 = 0x04;
    /// No window scale option.
    pub const NO_SHIFT: u8 = 0xff;

    pub const NONE: Self = Self { ts_value: 0, ts_echo: 0, mss: 0, window_shift: Self::NO_SHIFT, present: 0 };

    #[inline(always)]
    pub const fn has(&self, option: u8) -> bool {
        self.present & option != 0
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
    /// One where the ninth flag, AE, is set (<https://www.rfc-editor.org/rfc/rfc9768#section-2.1>).
    pub accurate_ecn: u8,
    pub options: Options,
}

const _: () = assert!(size_of::<Segment>() == 32 && size_of::<Options>() == 12);

impl Segment {
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
            accurate_ecn: 0,
            options: Options::NONE,
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
