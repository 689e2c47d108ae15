//! What one endpoint was seen to send. Written only by segments of that direction.

use core::cell::Cell;

use super::{
    note::Note,
    story::Letter,
    word::{Mark, Outcome, Role, Word},
};
use crate::{
    segment::{Flags, Options, Segment, SegmentKind},
    seq::SeqNum,
    verifier::forget,
};

/// A direction that was silent for longer leaves the shortest path for one segment: the rhythm of its silences is what
/// a heartbeat is told by.
pub const LULL_NS: u64 = 1_000_000_000;
/// The heartbeat's unit of time.
pub const BEAT_NS: u64 = 10_000_000;
/// How many equal periods make a heartbeat.
pub const BEATS: u8 = 3;
/// More payload in one segment than this is work, not a heartbeat.
const MAX_BEAT_BYTES: u32 = 1024;

/// Among [`Half::seen`]: the last window advertised was zero.
const WINDOW_IS_ZERO: u8 = 0x80;

/// Among [`Half::options`]: the SYN asked for ECN
/// (<https://www.rfc-editor.org/rfc/rfc3168#section-6.1.1>), and for accurate ECN
/// (<https://www.rfc-editor.org/rfc/rfc9768#section-3.1.1>).
const ASKS_ECN: u8 = 0x08;
const ASKS_ACCURATE_ECN: u8 = 0x10;
/// And: it began with data in a SYN or RST, which Zeek takes for a retransmission.
const BEGAN_WITH_DATA: u8 = 0x20;
/// And: it has sent an acknowledgement, so that [`Half::acked`] says something.
const HAS_ACKNOWLEDGED: u8 = 0x40;

/// What a segment adds to Wireshark's completeness: SYN 1, SYN-ACK 2, ACK 4, data 8, FIN 16, RST 32
/// (`tcp.completeness`, packet-tcp.c).
#[inline(always)]
fn completeness(segment: &Segment) -> u8 {
    const SYN: u8 = 1;
    const SYN_ACK: u8 = 2;
    const ACK: u8 = 4;
    const DATA: u8 = 8;
    const FIN: u8 = 16;
    const RST: u8 = 32;
    let flags = segment.flags;
    let mut seen = 0;
    if flags.has(Flags::SYN) {
        seen |= if flags.has(Flags::ACK) { SYN_ACK } else { SYN };
        seen |= if segment.payload_bytes > 0 && !flags.has(Flags::ACK) { DATA } else { 0 };
    } else if flags.has(Flags::ACK) {
        seen |= if segment.payload_bytes > 0 { DATA } else { ACK };
    }
    seen |= if flags.has(Flags::FIN) && flags.has(Flags::ACK) { FIN } else { 0 };
    seen | if flags.has(Flags::RST) { RST } else { 0 }
}

/// One direction of a flow. First what only unusual segments touch, then what every one does, so that in a table the
/// latter lies in a cache line of its own (see [`crate::table`]).
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub struct Half {
    /// The initial sequence number; for a flow picked up mid-stream the first number seen.
    pub isn: Cell<SeqNum>,
    /// Where the last gap ended: until the peer has acknowledged this number, data before it may be new.
    pub gap_end: Cell<SeqNum>,
    /// The number of its last RST.
    pub rst_seq: Cell<SeqNum>,
    /// Data segments that end at or before the highest number sent: retransmitted, or reordered. Saturates.
    pub retransmits: Cell<u32>,
    /// TSval of its first SYN or SYN-ACK, and the last one that was read; zero is none.
    pub first_ts: Cell<u32>,
    pub last_ts: Cell<u32>,
    /// The maximum segment size that its SYN offered, zero where it did not.
    pub mss: Cell<u16>,
    /// Segments with a window of zero. Saturates, as all counts that follow.
    pub zero_windows: Cell<u16>,
    pub keepalives: Cell<u16>,
    pub window_probes: Cell<u16>,
    /// The time between its last two beats, in hundredths of a second.
    pub beat_period: Cell<u16>,
    /// How many beats in a row came in that time; from [`BEATS`] on it is a heartbeat.
    pub beats: Cell<u8>,
    /// Keepalive probes in a row that the peer had not answered when the next one was sent, and the last: how many are
    /// unanswered as long as the flow's word says that any are ([`Mark::Probing`]).
    pub unanswered: Cell<u8>,
    /// How often its SYN (originator) or SYN-ACK (responder) was repeated.
    pub syn_retransmits: Cell<u8>,
    pub fin_retransmits: Cell<u8>,
    /// The shift of this endpoint's window scale option; [`Options::NO_SHIFT`] where it sent none.
    pub window_shift: Cell<u8>,
    /// The options that its SYN carried, as [`Options::present`] has them; above them [`ASKS_ECN`] and what follows it.
    pub options: Cell<u8>,

    /// When its last segment was seen, in nanoseconds of the observer's clock (coarse in the steady state).
    pub last_seen_ns: Cell<u64>,
    /// TCP payload, retransmissions included.
    pub payload_bytes: Cell<u64>,
    /// Segments as the wire carries them.
    pub packets: Cell<u64>,
    /// The number after the highest one sent, SND.NXT as far as it was seen. After a FIN: the number after the FIN.
    pub next_seq: Cell<SeqNum>,
    /// The highest acknowledgement number sent.
    pub acked: Cell<SeqNum>,
    /// The hook that owns this direction: interface index × 2, plus one for egress.
    pub tap: Cell<u32>,
    /// The largest window advertised, unscaled as the header has it.
    pub max_window: Cell<u16>,
    /// The [letters](super::Letter) of the history that this direction has, by their bits.
    pub letters: Cell<u8>,
    /// Wireshark's completeness of this direction, [`completeness`]; above it [`WINDOW_IS_ZERO`].
    pub seen: Cell<u8>,
}

const _: () = assert!(size_of::<Half>() == 80 && core::mem::offset_of!(Half, last_seen_ns) == 40);

impl Half {
    /// Counts a segment of this direction, whoever takes it for the connection's.
    #[inline(always)]
    pub fn sight(&self, segment: &Segment, now_ns: u64) {
        self.last_seen_ns.set(now_ns);
        self.payload_bytes.set(self.payload_bytes.get().wrapping_add(u64::from(segment.payload_bytes)));
        self.packets.set(self.packets.get().wrapping_add(u64::from(segment.wire_segments)));
    }

    /// Counts a segment that belongs to the flow: all that the steady state needs beside [`Self::advance_in_order`].
    #[inline(always)]
    pub fn count(&self, segment: &Segment, now_ns: u64) {
        self.sight(segment, now_ns);
        if segment.window > self.max_window.get() {
            self.max_window.set(segment.window);
        }
    }

    /// Moves the numbers forward by data, or an ACK, that stands where the last segment ended. The acknowledged one never
    /// goes back; what a liar sends ahead cannot close a flow, since a RST or FIN is also held against what its receiver
    /// has said.
    #[inline(always)]
    pub fn advance_in_order(&self, segment: &Segment) {
        self.next_seq.set(segment.seq.plus(segment.payload_bytes));
        if segment.ack.after(self.acked.get()) {
            self.acked.set(segment.ack);
        }
    }

    /// How long this endpoint had been silent at `now_ns`. Zero where the clocks of two CPUs differ, or coarse and
    /// precise time.
    #[inline(always)]
    pub fn silent_ns(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.last_seen_ns.get())
    }

    /// Whether it has been silent for [`LULL_NS`] or longer. A difference that is below zero is a small one.
    #[inline(always)]
    pub(crate) fn is_lulled(&self, now_ns: u64) -> bool {
        now_ns.wrapping_sub(self.last_seen_ns.get()) as i64 >= LULL_NS as i64
    }

    /// Whether data before this number may fill a gap, as far as the peer's acknowledgements say.
    #[inline(always)]
    pub(super) fn has_gap(&self, peer: &Half) -> bool {
        let had_gap = self.gap_end.get() != self.isn.get();
        had_gap && (!peer.has_acknowledged() || peer.acked.get().before(self.gap_end.get()))
    }

    /// Whether this holds all that its receiver may lack before the end of the last gap.
    #[inline(always)]
    fn is_gap_filled_by(&self, segment: &Segment, peer: &Half) -> bool {
        peer.has_acknowledged()
            && !segment.seq.after(peer.acked.get())
            && !segment.end().before(self.gap_end.get())
            && !segment.seq.after(self.gap_end.get())
    }

    /// Whether [`Self::acked`] says something.
    #[inline(always)]
    pub(crate) fn has_acknowledged(&self) -> bool {
        self.options.get() & HAS_ACKNOWLEDGED != 0
    }

    /// Whether nothing but SYN, FIN and RST was seen of it. In a capture they were filtered for, and its numbers say
    /// nothing of what lies between.
    #[inline(always)]
    pub(super) fn is_bare(&self) -> bool {
        self.letters.get() & (Letter::ACK | Letter::DATA) == 0
    }

    /// Whether its SYN asked for ECN, and for accurate ECN.
    #[inline(always)]
    pub(super) fn asks_ecn(&self) -> (bool, bool) {
        (self.options.get() & ASKS_ECN != 0, self.options.get() & ASKS_ACCURATE_ECN != 0)
    }

    /// How many segments of this direction Zeek takes for retransmissions.
    #[inline(always)]
    pub(super) fn zeeks_retransmissions(&self) -> u32 {
        self.retransmits.get().saturating_add(u32::from(self.began_with_data()))
    }

    #[inline(always)]
    pub(super) fn began_with_data(&self) -> bool {
        self.options.get() & BEGAN_WITH_DATA != 0
    }

    /// Notes that it began with data in a segment that carries none as a rule.
    #[inline(always)]
    pub(super) fn begin_with_data(&self) {
        self.options.set(self.options.get() | BEGAN_WITH_DATA);
    }

    /// Writes what a segment leaves that was accepted with `note`, where the flow's word was `before`, `role` is this
    /// half's, and `peer` the other one. `next_seq` is this half's from before it.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "the verifier takes them apart all the same")]
    pub fn note(
        &self,
        before: Word,
        role: Role,
        segment: &Segment,
        note: Note,
        next_seq: SeqNum,
        peer: &Half,
        now_ns: u64,
    ) {
        let before = before.forgotten();
        let silent_ns = forget(self.silent_ns(now_ns));
        self.count(segment, now_ns);
        let kind = segment.kind();
        let is_first = !before.has_of(Mark::Seen, role);
        let in_handshake = matches!(before.outcome(), Outcome::InProgress);
        let acks_what_was_sent = acknowledges_what_was_sent(before, role, segment, peer);
        if is_first {
            self.begin(segment);
        }
        match kind {
            // Numbering begins, or begins anew with a SYN-ACK of another number.
            SegmentKind::Syn | SegmentKind::SynAck if in_handshake || is_first => {
                self.note_syn(segment, kind, is_first || !before.has_of(Mark::IsnSeen, role));
            }
            SegmentKind::Syn | SegmentKind::SynAck => {}
            // One that is taken again ends where the first did.
            SegmentKind::Fin => {
                if !is_first && segment.seq.after(next_seq) {
                    self.gap_end.set(segment.seq);
                }
                // The end of the stream, whatever was sent ahead of it.
                self.next_seq.set(segment.end());
                if acks_what_was_sent {
                    self.acknowledge(segment, is_first || in_handshake);
                }
            }
            // A RST's number is not the stream's.
            SegmentKind::Rst => {}
            SegmentKind::Data | SegmentKind::Ack => {
                if kind == SegmentKind::Data && self.is_gap_filled_by(segment, peer) {
                    self.gap_end.set(self.isn.get());
                }
                // Nothing comes after a FIN.
                if !is_first && !before.has_of(Mark::FinSent, role) {
                    // Data on the SYN that its answer did not acknowledge was not taken: the stream begins again there.
                    if in_handshake && segment.seq.before(next_seq) && segment.seq == peer.acked.get() {
                        self.next_seq.set(segment.seq);
                    }
                    if segment.seq.after(self.next_seq.get()) {
                        self.gap_end.set(segment.seq);
                    }
                    if segment.end().after(self.next_seq.get()) {
                        self.next_seq.set(segment.end());
                    }
                }
                if acks_what_was_sent {
                    self.acknowledge(segment, is_first || in_handshake);
                }
            }
        }
        let note = Note::from_bits(forget(note as u64) as u8);
        if segment.options.has(Options::TIMESTAMPS) {
            self.last_ts.set(segment.options.ts_value);
        }
        self.note_window(segment);
        if kind == SegmentKind::Data && silent_ns >= LULL_NS && !is_first {
            self.note_beat(segment, silent_ns);
        }
        match note {
            Note::SynRepeated | Note::LateSyn => bump(&self.syn_retransmits),
            Note::SynAckRepeated | Note::SynAckRenumbered | Note::SynAckAfterAck | Note::SynAckAfterData => {
                bump(&self.syn_retransmits);
            }
            Note::FinRepeated | Note::LastAckLost => bump(&self.fin_retransmits),
            Note::Keepalive => {
                self.keepalives.set(self.keepalives.get().saturating_add(1));
                if before.has_of(Mark::Probing, role) {
                    bump(&self.unanswered);
                } else {
                    self.unanswered.set(1);
                }
            }
            Note::WindowProbe => self.window_probes.set(self.window_probes.get().saturating_add(1)),
            _ => {}
        }
    }

    /// The numbers of its first segment.
    #[inline(always)]
    pub(super) fn begin(&self, segment: &Segment) {
        self.isn.set(segment.seq);
        self.gap_end.set(segment.seq);
        self.next_seq.set(segment.end());
    }

    /// What its peer's segments are held against, before the flow's word says that it was seen. Until then nobody reads
    /// any of it.
    #[inline(always)]
    pub fn introduce(&self, segment: &Segment, tap: u32) {
        self.tap.set(tap);
        self.begin(segment);
        self.max_window.set(segment.window);
        if segment.flags.has(Flags::ACK) {
            self.acknowledge(segment, true);
        }
    }

    #[inline(always)]
    pub(super) fn note_window(&self, segment: &Segment) {
        // A RST's window says nothing.
        if !segment.flags.has(Flags::RST) {
            let zero = if segment.window == 0 { WINDOW_IS_ZERO } else { 0 };
            self.seen.set(self.seen.get() & !WINDOW_IS_ZERO | zero);
        }
    }

    /// Whether this direction has had a segment of this kind.
    #[inline(always)]
    pub(crate) fn has(&self, letter: Letter) -> bool {
        self.letters.get() & letter.bit() != 0
    }

    /// Notes that it has had one.
    #[inline(always)]
    pub(super) fn note_letter(&self, letter: Letter) {
        self.letters.set(self.letters.get() | letter.bit());
    }

    /// Notes what kinds of segments this direction has had.
    #[inline(always)]
    pub(super) fn note_completeness(&self, segment: &Segment) {
        self.seen.set(self.seen.get() | completeness(segment));
    }

    /// Wireshark's completeness of this direction.
    pub fn completeness(&self) -> u8 {
        self.seen.get() & !WINDOW_IS_ZERO
    }

    #[inline(always)]
    pub fn window_is_zero(&self) -> bool {
        self.seen.get() & WINDOW_IS_ZERO != 0
    }

    /// A SYN or SYN-ACK during the handshake. A repetition takes back neither data that was sent meanwhile nor, being
    /// a mere SYN, an acknowledgement.
    #[inline(always)]
    fn note_syn(&self, segment: &Segment, kind: SegmentKind, is_first: bool) {
        let repeats = !is_first && self.isn.get() == segment.seq;
        if !repeats || segment.end().after(self.next_seq.get()) {
            self.next_seq.set(segment.end());
        }
        if kind == SegmentKind::SynAck {
            self.acknowledge(segment, true);
        }
        self.isn.set(segment.seq);
        self.gap_end.set(segment.seq);
        self.offer(segment);
        if !repeats {
            self.first_ts.set(segment.options.ts_value);
        }
    }

    /// What a SYN or SYN-ACK offers.
    #[inline(always)]
    pub(super) fn offer(&self, segment: &Segment) {
        let Options { mss, window_shift, present, .. } = segment.options;
        self.window_shift.set(window_shift);
        self.mss.set(mss);
        let flags = segment.flags;
        let asks_ecn = flags.has(Flags::ECE) && flags.has(Flags::CWR);
        let asks = if asks_ecn { ASKS_ECN } else { 0 };
        let asks = asks | if asks_ecn && segment.accurate_ecn != 0 { ASKS_ACCURATE_ECN } else { 0 };
        self.options.set(self.options.get() & (BEGAN_WITH_DATA | HAS_ACKNOWLEDGED) | present | asks);
    }

    #[inline(always)]
    pub(super) fn acknowledge(&self, segment: &Segment, is_first: bool) {
        if is_first || !self.has_acknowledged() || segment.ack.after(self.acked.get()) {
            self.acked.set(segment.ack);
        }
        self.options.set(self.options.get() | HAS_ACKNOWLEDGED);
    }

    /// Small data after a silence: does it keep the time of the last one?
    #[inline(always)]
    fn note_beat(&self, segment: &Segment, silent_ns: u64) {
        let period = silent_ns / BEAT_NS;
        let period = if period > u64::from(u16::MAX) { u16::MAX } else { period as u16 };
        let last = self.beat_period.get();
        let difference = period.abs_diff(last);
        let in_time = segment.payload_bytes <= MAX_BEAT_BYTES && difference <= last / 8;
        self.beat_period.set(period);
        if in_time {
            bump(&self.beats);
        } else {
            self.beats.set(1);
        }
    }
}

/// Whether a segment of `from` acknowledges no more than its receiver, of which this is the half, was seen to send. Another
/// connection's segment that comes late does (RFC 9293, 3.10.7.4, fifth check), unless what was sent may not have been seen.
#[inline(always)]
pub(crate) fn acknowledges_what_was_sent(word: Word, from: Role, segment: &Segment, receiver: &Half) -> bool {
    let receiver_is_known = word.has_of(Mark::Seen, from.opposite()) && !word.has(Mark::MayLack);
    !receiver_is_known || !segment.ack.after(receiver.next_seq.get())
}

#[inline(always)]
fn bump(count: &Cell<u8>) {
    count.set(count.get().saturating_add(1));
}
