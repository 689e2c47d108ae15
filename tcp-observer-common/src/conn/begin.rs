//! The first segment of a flow: which ones begin one, and who is taken to be the originator.

use super::{
    handshake,
    note::Note,
    record::Flow,
    state::State,
    word::{How, Initiator, Mark, Role, Word},
};
use crate::{
    flow::{Address, FlowKey, Side},
    segment::{Flags, Segment, SegmentKind},
};

/// The word of a flow that begins with this segment of `side` and why it does, or `None` where such a segment begins
/// none. Its epoch is left to [`Word::in_epoch`].
///
/// Data or a FIN begin a flow picked up mid-stream. A lone ACK or RST is more often the last word of a flow that is over
/// than the first of one that lives, and begins one only for an observer that `keeps_all`.
#[inline(always)]
pub fn begin<A: Address>(key: &FlowKey<A>, side: Side, segment: &Segment, keeps_all: bool) -> Option<(Word, Note)> {
    let kind = segment.kind();
    if !segment.flags.are_plausible() && !keeps_all {
        return None;
    }
    let role = match kind {
        SegmentKind::Syn => Role::Originator,
        SegmentKind::SynAck => Role::Responder,
        SegmentKind::Ack | SegmentKind::Rst if !keeps_all => return None,
        SegmentKind::Data | SegmentKind::Fin | SegmentKind::Ack | SegmentKind::Rst => {
            guessed_role(key.port(side), key.port(side.opposite()))
        }
    };
    let word = Word::fresh(0);
    let originator_is_high = matches!((side, role), (Side::High, Role::Originator) | (Side::Low, Role::Responder));
    let word = if originator_is_high { word.with(Mark::OriginatorIsHigh) } else { word };
    let picked_up = handshake::picked_up(word, role).with_of(Mark::Seen, role).with(Mark::Inferred);
    Some(match kind {
        SegmentKind::Syn => (handshake::begun_by_syn(word), Note::Nothing),
        SegmentKind::SynAck => (handshake::begun_by_synack(word), Note::Nothing),
        SegmentKind::Data | SegmentKind::Ack => (picked_up, Note::PickedUp),
        // Whether its peer had closed before nobody can tell: as if it had not.
        SegmentKind::Fin => {
            let closing = picked_up.with_state(role, State::FinWait1).with_of(Mark::FinSent, role);
            (closing.with_close(Initiator::of(role), How::Fin), Note::PickedUpClosing)
        }
        SegmentKind::Rst => {
            let closed = picked_up.with_state(role, State::Closed).with_state(role.opposite(), State::Closed);
            (closed.with_of(Mark::RstSent, role).with_close(Initiator::of(role), How::Rst), Note::PickedUpClosing)
        }
    })
}

/// Who a sender with `own` port is, seen mid-stream: the lower port is a responder's, as the well-known ones are.
#[inline(always)]
pub fn guessed_role(own: u16, peer: u16) -> Role {
    if own < peer { Role::Responder } else { Role::Originator }
}

impl Flow {
    /// Writes what a flow's first segment leaves, over whatever was here; the story is left to be told.
    #[inline(always)]
    pub fn start(&self, word: Word, side: Side, segment: &Segment, now_ns: u64, tap: u32) {
        self.clear();
        let times = &self.times;
        times.first_ns.set(now_ns);
        times.syn_ns.set(if segment.kind() == SegmentKind::Syn { now_ns } else { 0 });
        times.synack_ns.set(if segment.kind() == SegmentKind::SynAck { now_ns } else { 0 });
        times.changed_ns.set(now_ns);
        let half = self.half(side);
        half.tap.set(tap);
        half.begin(segment);
        if segment.flags.has(Flags::SYN) {
            half.offer(segment);
        }
        if segment.flags.has(Flags::ACK) {
            half.acknowledge(segment, true);
        }
        half.first_ts.set(segment.options.ts_value);
        half.last_ts.set(segment.options.ts_value);
        half.note_window(segment);
        half.count(segment, now_ns);
        self.word.0.set(word.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{segment::Options, seq::SeqNum};

    #[test]
    fn a_flow_that_begins_leaves_nothing_of_the_one_that_was_there() {
        let flow = Flow::default();
        flow.times.ack_ns.set(7);
        flow.times.half_close_ns.set(8);
        flow.high.packets.set(9);
        flow.story.notes.set(10);
        let segment = Segment {
            seq: SeqNum(1000),
            ack: SeqNum(0),
            payload_bytes: 0,
            wire_segments: 1,
            window: 512,
            flags: Flags(Flags::SYN),
            accurate_ecn: 0,
            options: Options::NONE,
        };
        flow.start(Word::fresh(0), Side::Low, &segment, 100, 2);
        assert_eq!((flow.times.ack_ns.get(), flow.times.half_close_ns.get(), flow.times.first_ns.get()), (0, 0, 100));
        assert_eq!((flow.low.packets.get(), flow.high.packets.get(), flow.story.notes.get()), (1, 0, 0));
    }
}
