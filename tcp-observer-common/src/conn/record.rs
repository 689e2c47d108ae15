//! The record of one flow as it lies in a table: the state word, a half for each direction, and the times that only
//! transitions touch.
//!
//! Who writes what: the [`Word`] changes by compare-and-exchange only; each [`Half`] is written by the segments of
//! its own direction and read by the other; the [`Times`] are written by whoever won the exchange that they belong
//! to. All fields are cells, since a table hands out shared references. Copies that userspace takes may catch a
//! half between two stores; every field by itself is whole.

use core::cell::Cell;

use super::word::Word;
use crate::{flow::Side, seq::SeqNum};

/// The cell that holds the state word, shared between CPUs. The kernel's is atomic; replay's is a plain cell.
pub trait Shared {
    fn load(&self) -> Word;
    /// Puts `new` in the place of `current`; says whether `current` was still there.
    fn compare_exchange(&self, current: Word, new: Word) -> bool;
}

/// The word of a flow in a table. Kernel and userspace see the same eight bytes.
#[derive(Clone, Debug, Default)]
#[repr(transparent)]
pub struct WordCell(pub Cell<u64>);

/// What one endpoint was seen to send. Written only by segments of that direction.
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub struct Half {
    /// When its last segment was seen, in nanoseconds of the observer's clock (coarse in the steady state).
    pub last_seen_ns: Cell<u64>,
    /// TCP payload, retransmissions included.
    pub payload_bytes: Cell<u64>,
    /// Segments as the wire carries them.
    pub packets: Cell<u64>,
    /// The initial sequence number; for a flow picked up mid-stream the first number seen.
    pub isn: Cell<SeqNum>,
    /// The number after the highest one sent, SND.NXT as far as it was seen. After a FIN: the number after the FIN.
    pub next_seq: Cell<SeqNum>,
    /// The highest acknowledgement number sent that covers nothing the peer has not sent.
    pub acked: Cell<SeqNum>,
    /// The largest window advertised, scaled, in bytes.
    pub max_window: Cell<u32>,
    /// The hook that owns this direction: interface index × 2, plus one for egress.
    pub tap: Cell<u32>,
    /// The shift of this endpoint's window scale option; [`Half::NO_SHIFT`] where it sent none.
    pub window_shift: Cell<u8>,
    /// How often its SYN (originator) or SYN-ACK (responder) was repeated; saturates.
    pub syn_retransmits: Cell<u8>,
    _reserved: [u8; 2],
}

impl Half {
    /// This endpoint's SYN carried no window scale option.
    pub const NO_SHIFT: u8 = 0xff;
}

/// The times that transitions note, in nanoseconds of the observer's precise clock; zero is "not yet".
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub struct Times {
    /// The first segment of this flow: the first SYN, where the handshake was seen.
    pub first_ns: Cell<u64>,
    /// The SYN that was answered: the last one before the SYN-ACK.
    pub syn_ns: Cell<u64>,
    /// The SYN-ACK that answered it.
    pub synack_ns: Cell<u64>,
    /// The acknowledgement that completed the handshake.
    pub ack_ns: Cell<u64>,
    /// The last change of an endpoint's state, or the last restart of a TIME-WAIT timer.
    pub changed_ns: Cell<u64>,
}

impl Times {
    /// From the SYN that was answered to the SYN-ACK that answered it.
    pub fn syn_to_synack_ns(&self) -> Option<u64> {
        between(self.syn_ns.get(), self.synack_ns.get())
    }

    /// From that SYN-ACK to the acknowledgement that completed the handshake.
    pub fn synack_to_ack_ns(&self) -> Option<u64> {
        between(self.synack_ns.get(), self.ack_ns.get())
    }

    /// From the first SYN to the end of the handshake: what the user waited.
    pub fn total_ns(&self) -> Option<u64> {
        // A flow picked up at its SYN-ACK has no first SYN.
        between(self.syn_ns.get(), self.ack_ns.get()).and_then(|_| between(self.first_ns.get(), self.ack_ns.get()))
    }
}

/// The time from one moment to a later one, where both are known. Saturates: two CPUs' clocks may differ.
#[inline(always)]
fn between(from_ns: u64, to_ns: u64) -> Option<u64> {
    if from_ns == 0 || to_ns == 0 { None } else { Some(to_ns.saturating_sub(from_ns)) }
}

/// One flow: the value of both tables.
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub struct Flow {
    pub word: WordCell,
    pub low: Half,
    pub high: Half,
    pub times: Times,
}

const _: () = {
    assert!(size_of::<Half>() == 48);
    assert!(size_of::<Times>() == 40);
    assert!(size_of::<Flow>() == 144 && align_of::<Flow>() == 8);
    assert!(core::mem::offset_of!(Flow, low) == 8 && core::mem::offset_of!(Flow, times) == 104);
};

impl Flow {
    /// The half that the endpoint on this side of the key writes.
    #[inline(always)]
    pub fn half(&self, side: Side) -> &Half {
        match side {
            Side::Low => &self.low,
            Side::High => &self.high,
        }
    }

    /// When anything of this flow was last seen, in nanoseconds of the observer's clock.
    #[inline(always)]
    pub fn last_seen_ns(&self) -> u64 {
        let (low, high, first) = (self.low.last_seen_ns.get(), self.high.last_seen_ns.get(), self.times.first_ns.get());
        let later = if low > high { low } else { high };
        // The coarse clock of the steady state lags the precise one of the first segment by up to a tick.
        if later > first { later } else { first }
    }
}
