//! The first segment of a flow: which ones begin one, and who is taken to be the originator.

use super::{
    handshake,
    record::Flow,
    word::{Mark, Role, Word},
};
use crate::{
    flow::{Address, FlowKey, Side},
    segment::{Segment, SegmentKind},
};

/// Ports below this one are servers' by custom (IANA's system ports).
const FIRST_USER_PORT: u16 = 1024;

/// The word of a flow that begins with this segment of `side`, or `None` where such a segment begins none. Its epoch
/// is left to [`Word::in_epoch`].
///
/// Data begins a flow picked up mid-stream. A lone ACK, FIN or RST does not: it is more often the last word of a
/// flow that is over than the first of one that lives.
#[inline(always)]
pub fn begin<A: Address>(key: &FlowKey<A>, side: Side, segment: &Segment) -> Option<Word> {
    let role = match segment.kind() {
        SegmentKind::Syn => Role::Originator,
        SegmentKind::SynAck => Role::Responder,
        SegmentKind::Data => guessed_role(key.port(side), key.port(side.opposite())),
        SegmentKind::Ack | SegmentKind::Fin | SegmentKind::Rst => return None,
    };
    let word = Word::fresh(0);
    let originator_is_high = matches!((side, role), (Side::High, Role::Originator) | (Side::Low, Role::Responder));
    let word = if originator_is_high { word.with(Mark::OriginatorIsHigh) } else { word };
    Some(match segment.kind() {
        SegmentKind::Syn => handshake::begun_by_syn(word),
        SegmentKind::SynAck => handshake::begun_by_synack(word),
        _ => handshake::picked_up(word, role).with_of(Mark::Seen, role).with(Mark::Inferred),
    })
}

/// Who a sender with `own` port is, seen mid-stream: a well-known port is a responder's, else the lower one is.
#[inline(always)]
fn guessed_role(own: u16, peer: u16) -> Role {
    match (own < FIRST_USER_PORT, peer < FIRST_USER_PORT) {
        (true, false) => Role::Responder,
        (false, true) => Role::Originator,
        (true, true) | (false, false) if own < peer => Role::Responder,
        (true, true) | (false, false) => Role::Originator,
    }
}

impl Flow {
    /// Writes what a flow's first segment leaves, over whatever was here.
    #[inline(always)]
    pub fn start(&self, word: Word, side: Side, segment: &Segment, now_ns: u64, tap: u32) {
        self.low.clear();
        self.high.clear();
        let times = &self.times;
        times.first_ns.set(now_ns);
        times.syn_ns.set(if segment.kind() == SegmentKind::Syn { now_ns } else { 0 });
        times.synack_ns.set(if segment.kind() == SegmentKind::SynAck { now_ns } else { 0 });
        times.ack_ns.set(0);
        times.changed_ns.set(now_ns);
        let half = self.half(side);
        half.tap.set(tap);
        half.isn.set(segment.seq);
        half.next_seq.set(segment.end());
        half.acked.set(segment.ack);
        half.window_shift.set(segment.window_shift);
        half.count(segment, now_ns);
        self.word.0.set(word.0);
    }
}
