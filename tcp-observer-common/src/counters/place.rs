//! Where each counter lies among the words of a [`Counters`].
//!
//! Whoever counts names a place, and the one who keeps the counters checks it against their number: one check that
//! the verifier sees, where array indices made of many small ranges would lose it on the way.

use core::mem::offset_of;

use super::{Counters, Endedness, Eviction, HookDirection, Retransmit, Skip, TableKind, Unreachable};
use crate::{
    conn::{How, Locality, Note, Outcome, Phase},
    segment::SegmentKind,
};

/// `segments[direction][kind]`
#[inline(always)]
pub const fn segments(direction: HookDirection, kind: SegmentKind) -> usize {
    offset_of!(Counters, segments) / 8 + direction.index() * SegmentKind::COUNT + kind.index()
}

/// `skipped[reason]`
#[inline(always)]
pub const fn skipped(reason: Skip) -> usize {
    offset_of!(Counters, skipped) / 8 + reason.index()
}

/// `handshake_retransmits[kind][locality]`
#[inline(always)]
pub const fn handshake_retransmits(kind: Retransmit, locality: Locality) -> usize {
    offset_of!(Counters, handshake_retransmits) / 8 + kind.index() * Locality::COUNT + locality.index()
}

/// `resets[phase][sender]`; the sender is local or remote.
#[inline(always)]
pub const fn resets(phase: Phase, sender_is_local: bool) -> usize {
    offset_of!(Counters, resets) / 8 + phase.index() * 2 + !sender_is_local as usize
}

/// `closes[ended_by][how]`
#[inline(always)]
pub const fn closes(ended_by: Endedness, how: How) -> usize {
    offset_of!(Counters, closes) / 8 + ended_by.index() * How::COUNT + how.index()
}

/// `evictions[table][reason]`
#[inline(always)]
pub const fn evictions(table: TableKind, reason: Eviction) -> usize {
    offset_of!(Counters, evictions) / 8 + table.index() * Eviction::COUNT + reason.index()
}

/// `notes[note]`
#[inline(always)]
pub const fn notes(note: Note) -> usize {
    offset_of!(Counters, notes) / 8 + note.index()
}

/// `unreachable[reason]`
#[inline(always)]
pub const fn unreachable(reason: Unreachable) -> usize {
    offset_of!(Counters, unreachable) / 8 + reason.index()
}

/// `attempts[slot][locality][outcome]`
#[inline(always)]
pub const fn attempts(slot: usize, locality: Locality, outcome: Outcome) -> usize {
    offset_of!(Counters, attempts) / 8 + (slot * Locality::COUNT + locality.index()) * Outcome::COUNT + outcome.index()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_its_array_element() {
        let mut counters = Counters::ZERO;
        let mut mark = |place: usize| {
            counters.words_mut()[place] += 1;
        };
        mark(segments(HookDirection::Egress, SegmentKind::Fin));
        mark(skipped(Skip::TableFull));
        mark(handshake_retransmits(Retransmit::SynAck, Locality::Loopback));
        mark(resets(Phase::Closing, true));
        mark(resets(Phase::Closed, false));
        mark(closes(Endedness::Both, How::Simultaneous));
        mark(evictions(TableKind::HalfOpenIpv6, Eviction::Reused));
        mark(notes(Note::Keepalive));
        mark(unreachable(Unreachable::Other));
        mark(attempts(8, Locality::Server, Outcome::Refused));
        assert_eq!(counters.segments[1][SegmentKind::Fin as usize], 1);
        assert_eq!(counters.skipped[Skip::TableFull as usize], 1);
        assert_eq!(counters.handshake_retransmits[1][2], 1);
        assert_eq!(counters.resets[Phase::Closing as usize], [1, 0]);
        assert_eq!(counters.resets[Phase::Closed as usize], [0, 1]);
        assert_eq!(counters.closes[2][How::Simultaneous as usize], 1);
        assert_eq!(counters.evictions[3][Eviction::Reused as usize], 1);
        assert_eq!(counters.notes[Note::Keepalive as usize], 1);
        assert_eq!(counters.unreachable[Unreachable::Other as usize], 1);
        assert_eq!(counters.attempts[8][1][Outcome::Refused as usize], 1);
        assert_eq!(counters.words().iter().sum::<u64>(), 10);
    }
}
