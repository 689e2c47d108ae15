//! Counters: one block of them per CPU in the kernel, summed by userspace; one block in replay.
//!
//! A counter is an array over the variants of its labels. A new reason or kind is one new variant.

pub mod place;
pub mod tally;

use crate::{
    conn::{How, Initiator, Locality, Note, Outcome, Phase},
    labels::labelled,
    segment::SegmentKind,
};

labelled! {
    /// Why a packet updated no flow. Every packet is either one update or one of these.
    pub enum Skip {
        NotIp = "not_ip",
        NotTcp = "not_tcp",
        /// A fragment other than the first: it has no TCP header.
        Fragment = "fragment",
        /// The buffer ends before the headers, or before the length that they state.
        Truncated = "truncated",
        /// A header contradicts itself: version, length or offset.
        BadHeader = "bad_header",
        /// Flags that no TCP sends together: none of SYN, RST and ACK; or SYN with FIN. Where the flow is known, its
        /// record tells of them.
        BadFlags = "bad_flags",
        /// A copy of a segment that another hook has counted.
        Duplicate = "duplicate",
        /// No flow is known, and this segment begins none (RST, or numbers only).
        UnknownFlow = "unknown_flow",
        /// Sequence or acknowledgement numbers do not fit the flow: it would have moved it, and did not.
        Stale = "stale",
        /// Another CPU changed the flow each time this one tried to.
        Contended = "contended",
        /// The table had no room for a new flow.
        TableFull = "table_full",
    }
}

labelled! {
    /// Where a hook stands on the packet's way.
    pub enum HookDirection {
        Ingress = "ingress",
        Egress = "egress",
    }
}

labelled! {
    /// The tables of flows.
    pub enum TableKind {
        FlowsIpv4 = "flows_ipv4",
        FlowsIpv6 = "flows_ipv6",
        HalfOpenIpv4 = "half_open_ipv4",
        HalfOpenIpv6 = "half_open_ipv6",
    }
}

labelled! {
    /// Why an entry left its table.
    pub enum Eviction {
        /// Ended, and was kept for a few seconds so that a dump shows it.
        Closed = "closed",
        /// Ended by silence, and was kept likewise.
        TimedOut = "timed_out",
        /// Picked up mid-stream and never seen in both directions.
        Unconfirmed = "unconfirmed",
        /// A new incarnation of the same tuple took its place.
        Reused = "reused",
        /// Half open still, and older than one that wanted its room.
        Replaced = "replaced",
    }
}

labelled! {
    /// Why a SYN did not arrive, by what ICMP or ICMPv6 says.
    pub enum Unreachable {
        Network = "network",
        Host = "host",
        /// There is no TCP.
        Protocol = "protocol",
        /// Sent by firewalls that reject, since a TCP without listener answers with RST.
        Port = "port",
        Prohibited = "prohibited",
        /// A routing loop, or a hop limit that was too small.
        TimeExceeded = "time_exceeded",
        Other = "other",
    }
}

labelled! {
    /// Which part of the handshake was sent again.
    pub enum Retransmit {
        Syn = "syn",
        SynAck = "synack",
    }
}

labelled! {
    /// Whether an endpoint is this host's.
    pub enum Endedness {
        Local = "local",
        Remote = "remote",
        /// Both ends at once (closes only).
        Both = "both",
        /// Neither was seen to act (closes by timeout only).
        Nobody = "none",
    }
}

/// How many responder ports have counters of their own.
pub const PORT_SLOTS: usize = 8;
/// The slots and the one for all other ports, which is the last.
pub const PORT_LABELS: usize = PORT_SLOTS + 1;

/// All counters of one CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    /// Segments that updated a flow, as the wire carries them.
    pub segments: [[u64; SegmentKind::COUNT]; HookDirection::COUNT],
    pub skipped: [u64; Skip::COUNT],
    pub handshake_retransmits: [[u64; Locality::COUNT]; Retransmit::COUNT],
    /// RSTs that ended something, by the phase that they found.
    pub resets: [[u64; 2]; Phase::COUNT],
    pub closes: [[u64; How::COUNT]; Endedness::COUNT],
    pub evictions: [[u64; Eviction::COUNT]; TableKind::COUNT],
    /// What was recognised in segments off the shortest path.
    pub notes: [u64; Note::COUNT],
    pub unreachable: [u64; Unreachable::COUNT],
    /// Attempts whose outcome is known.
    pub attempts: [[[u64; Outcome::COUNT]; Locality::COUNT]; PORT_LABELS],
}

/// How many counters there are.
pub const WORDS: usize = size_of::<Counters>() / 8;

impl Counters {
    /// All zero.
    pub const ZERO: Self = Self {
        segments: [[0; SegmentKind::COUNT]; HookDirection::COUNT],
        skipped: [0; Skip::COUNT],
        handshake_retransmits: [[0; Locality::COUNT]; Retransmit::COUNT],
        resets: [[0; 2]; Phase::COUNT],
        closes: [[0; How::COUNT]; Endedness::COUNT],
        evictions: [[0; Eviction::COUNT]; TableKind::COUNT],
        notes: [0; Note::COUNT],
        unreachable: [0; Unreachable::COUNT],
        attempts: [[[0; Outcome::COUNT]; Locality::COUNT]; PORT_LABELS],
    };

    /// The counters as the consecutive words that they are.
    pub fn words(&self) -> &[u64; WORDS] {
        const { assert!(size_of::<Self>() == WORDS * 8 && align_of::<Self>() == 8) };
        // SAFETY: `Self` is `repr(C)`, made of nothing but u64 arrays, and WORDS of them fill it.
        unsafe { &*(&raw const *self).cast() }
    }

    /// The same for writing; [`place`] tells which is which.
    pub fn words_mut(&mut self) -> &mut [u64; WORDS] {
        // SAFETY: as in `words`.
        unsafe { &mut *(&raw mut *self).cast() }
    }

    /// Adds another block, word by word.
    pub fn add(&mut self, other: &Self) {
        for (sum, term) in self.words_mut().iter_mut().zip(other.words()) {
            *sum = sum.wrapping_add(*term);
        }
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self::ZERO
    }
}

/// Whose act ended a flow, for `closes_total`.
pub const fn ended_by(initiator: Initiator, locality: Locality) -> Endedness {
    match (initiator, locality) {
        (Initiator::Nobody, _) => Endedness::Nobody,
        (Initiator::Both, _) => Endedness::Both,
        (_, Locality::Loopback)
        | (Initiator::Originator, Locality::Client)
        | (Initiator::Responder, Locality::Server) => Endedness::Local,
        (_, Locality::Forwarded)
        | (Initiator::Originator, Locality::Server)
        | (Initiator::Responder, Locality::Client) => Endedness::Remote,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_blocks_adds_every_counter() {
        let mut sum = Counters::ZERO;
        let mut one = Counters::ZERO;
        one.segments[HookDirection::Egress.index()][SegmentKind::Ack.index()] = 3;
        one.attempts[PORT_LABELS - 1][Locality::Forwarded.index()][Outcome::NotSeen.index()] = 5;
        sum.add(&one);
        sum.add(&one);
        assert_eq!(sum.segments[1][SegmentKind::Ack.index()], 6);
        assert_eq!(sum.words().iter().sum::<u64>(), 16);
        assert_eq!(*sum.words().last().unwrap(), 10);
    }

    #[test]
    fn eight_ports_have_a_slot_and_all_others_share_the_ninth() {
        assert_eq!((PORT_LABELS, Counters::ZERO.attempts.len()), (9, 9));
        assert_eq!(WORDS * 8, size_of::<Counters>());
    }

    #[test]
    fn the_actor_is_local_where_its_address_is() {
        assert_eq!(ended_by(Initiator::Originator, Locality::Client), Endedness::Local);
        assert_eq!(ended_by(Initiator::Responder, Locality::Client), Endedness::Remote);
        assert_eq!(ended_by(Initiator::Originator, Locality::Loopback), Endedness::Local);
        assert_eq!(ended_by(Initiator::Responder, Locality::Forwarded), Endedness::Remote);
        assert_eq!(ended_by(Initiator::Both, Locality::Server), Endedness::Both);
    }
}
