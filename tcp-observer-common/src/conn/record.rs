//! The record of one flow as it lies in a table: the state word, a half for each direction, and the times that only
//! transitions touch.
//!
//! Who writes what: the [`Word`] changes by compare-and-exchange only; each [`Half`] is written by the segments of
//! its own direction and read by the other; the [`Times`] are written by whoever won the exchange that they belong
//! to, or, for a repetition that leaves the word as it is, by the segment that repeats. All fields are cells, since a table hands out shared references. Copies that userspace takes may catch a
//! half between two stores; every field by itself is whole.

use core::cell::Cell;

use super::{
    next::Note,
    word::{Mark, Outcome, Role, Word},
};
use crate::{
    flow::Side,
    segment::{Segment, SegmentKind},
    seq::SeqNum,
};

/// The state word of a flow in a table. How it is exchanged atomically is its
/// [`Host`](crate::observer::Host)'s business.
#[derive(Clone, Debug, Default)]
#[repr(transparent)]
pub struct WordCell(pub Cell<u64>);

impl WordCell {
    /// The word at this moment.
    #[inline(always)]
    pub fn load(&self) -> Word {
        Word(self.0.get())
    }
}

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
    /// The highest acknowledgement number sent.
    pub acked: Cell<SeqNum>,
    /// The hook that owns this direction: interface index × 2, plus one for egress.
    pub tap: Cell<u32>,
    /// The shift of this endpoint's window scale option; [`Segment::NO_SHIFT`] where it sent none.
    pub window_shift: Cell<u8>,
    /// How often its SYN (originator) or SYN-ACK (responder) was repeated; saturates.
    pub syn_retransmits: Cell<u8>,
    /// The largest window advertised, unscaled as the header has it.
    pub max_window: Cell<u16>,
    _reserved: [u8; 4],
}

impl Half {
    /// Forgets everything.
    #[inline(always)]
    pub(super) fn clear(&self) {
        self.last_seen_ns.set(0);
        self.payload_bytes.set(0);
        self.packets.set(0);
        self.isn.set(SeqNum(0));
        self.next_seq.set(SeqNum(0));
        self.acked.set(SeqNum(0));
        self.tap.set(0);
        self.window_shift.set(Segment::NO_SHIFT);
        self.syn_retransmits.set(0);
        self.max_window.set(0);
    }

    /// Counts a segment of this direction: all that the steady state needs beside [`Self::advance`].
    #[inline(always)]
    pub fn count(&self, segment: &Segment, now_ns: u64) {
        self.last_seen_ns.set(now_ns);
        self.payload_bytes.set(self.payload_bytes.get().wrapping_add(u64::from(segment.payload_bytes)));
        self.packets.set(self.packets.get().wrapping_add(u64::from(segment.wire_segments)));
        if segment.window > self.max_window.get() {
            self.max_window.set(segment.window);
        }
    }

    /// Moves the highest numbers forward. They never go back; what a liar sends ahead cannot close a flow, since a
    /// RST or FIN is also held against what its receiver has said.
    #[inline(always)]
    pub fn advance(&self, segment: &Segment) {
        let end = segment.end();
        if end.after(self.next_seq.get()) {
            self.next_seq.set(end);
        }
        if segment.ack.after(self.acked.get()) {
            self.acked.set(segment.ack);
        }
    }

    /// Writes what a segment leaves that was accepted with `note`, where the flow's word was `before` and `role` is
    /// this half's.
    #[inline(always)]
    pub fn note(&self, before: Word, role: Role, segment: &Segment, note: Note, now_ns: u64) {
        self.count(segment, now_ns);
        let kind = segment.kind();
        let is_first = !before.has_of(Mark::Seen, role);
        let in_handshake = matches!(before.outcome(), Outcome::InProgress);
        match kind {
            // Numbering begins, or begins anew with a SYN-ACK of another number. A repetition takes back neither
            // data that was sent meanwhile nor, being a mere SYN, an acknowledgement.
            SegmentKind::Syn | SegmentKind::SynAck if in_handshake || is_first => {
                let repeats = !is_first && self.isn.get() == segment.seq;
                if !repeats || segment.end().after(self.next_seq.get()) {
                    self.next_seq.set(segment.end());
                }
                if !repeats || kind == SegmentKind::SynAck {
                    self.acked.set(segment.ack);
                }
                self.isn.set(segment.seq);
                self.window_shift.set(segment.window_shift);
            }
            SegmentKind::Syn | SegmentKind::SynAck => {}
            SegmentKind::Fin if !before.has_of(Mark::FinSent, role) => {
                if is_first {
                    self.isn.set(segment.seq);
                }
                // The end of the stream, whatever was sent ahead of it.
                self.next_seq.set(segment.end());
                self.acknowledge(segment, is_first || in_handshake);
            }
            // Nothing comes after a FIN, and a RST's number is not the stream's.
            SegmentKind::Rst => {}
            SegmentKind::Fin | SegmentKind::Data | SegmentKind::Ack => {
                if is_first {
                    self.isn.set(segment.seq);
                    self.next_seq.set(segment.end());
                } else if !before.has_of(Mark::FinSent, role) && segment.end().after(self.next_seq.get()) {
                    self.next_seq.set(segment.end());
                }
                self.acknowledge(segment, is_first || in_handshake);
            }
        }
        if matches!(note, Note::SynRepeated | Note::LateRepetition | Note::SynAckRepeated) {
            self.syn_retransmits.set(self.syn_retransmits.get().saturating_add(1));
        }
    }

    #[inline(always)]
    fn acknowledge(&self, segment: &Segment, is_first: bool) {
        if is_first || segment.ack.after(self.acked.get()) {
            self.acked.set(segment.ack);
        }
    }
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
    /// Notes the time of what a transition from `before` to `after` says happened.
    #[inline(always)]
    pub fn note(&self, before: Word, after: Word, note: Note, now_ns: u64) {
        match note {
            Note::SynRepeated => self.syn_ns.set(now_ns),
            Note::SynAnswered => self.synack_ns.set(now_ns),
            Note::Completed => self.ack_ns.set(now_ns),
            Note::Nothing | Note::LateRepetition | Note::SynAckRepeated | Note::Reset | Note::TimeWaitRestarted => {}
        }
        if before.states() != after.states() || matches!(note, Note::TimeWaitRestarted) {
            self.changed_ns.set(now_ns);
        }
    }

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
