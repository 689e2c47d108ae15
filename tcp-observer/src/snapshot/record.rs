//! The record of one flow as people and programs read it: roles instead of key sides, unknown instead of zero.

use std::{net::IpAddr, sync::Arc};

use tcp_observer_common::{
    conn::{Flow, Half, How, Initiator, Locality, Mark, Outcome, Phase, Role, State, Word},
    flow::{FlowKey, FlowKey4, FlowKey6, Ipv4, Ipv6, Side},
    limits::Limits,
};

/// One flow.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowRecord {
    pub originator: Endpoint,
    pub responder: Endpoint,
    /// The interface that first saw the flow; `None` in replay.
    pub interface: Option<Arc<str>>,
    /// What this host is to the flow; `None` where nobody said which addresses are local.
    pub role: Option<Locality>,
    pub inferred: bool,
    pub phase: Phase,
    /// Nanoseconds since the Unix epoch.
    pub first_seen_unix_ns: u64,
    pub last_seen_unix_ns: u64,
    /// The last change of state, likewise.
    pub changed_unix_ns: u64,
    pub handshake: Handshake,
    pub close: Close,
}

/// One of a flow's two ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub addr: IpAddr,
    pub port: u16,
    /// `None` for a side of which nothing was seen and nothing follows.
    pub state: Option<State>,
    /// `None` where nobody said which addresses are local.
    pub local: Option<bool>,
    pub packets: u64,
    /// TCP payload, in bytes.
    pub bytes: u64,
    /// `None` where its SYN was not seen.
    pub isn: Option<u32>,
    /// Repetitions of its SYN (originator) or SYN-ACK (responder).
    pub syn_retransmits: u8,
    pub fin: bool,
    pub rst: bool,
}

/// What became of the handshake. Times in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    pub outcome: Outcome,
    pub syn_to_synack_ns: Option<u64>,
    pub synack_to_ack_ns: Option<u64>,
    pub total_ns: Option<u64>,
    pub retransmitted: bool,
}

/// Who began to end the flow, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// `None` where nobody has.
    pub initiator: Option<Initiator>,
    /// `None` where it has not begun to end.
    pub how: Option<How>,
}

/// The two ways for a handshake to be half open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HalfOpen {
    /// No SYN-ACK yet.
    UnansweredSyn,
    /// SYN-ACK seen, the final ACK not.
    UnackedSynAck,
}

impl HalfOpen {
    pub const ALL: [Self; 2] = [Self::UnansweredSyn, Self::UnackedSynAck];

    /// The word for it in metrics and tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::UnansweredSyn => "unanswered_syn",
            Self::UnackedSynAck => "unacked_synack",
        }
    }
}

/// What a flow record is made with besides the flow: the time, what turns it into wall-clock time, and the limits.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// Now, by the clock of the flow's own times.
    pub now_ns: u64,
    /// What to add to that clock for nanoseconds since the Unix epoch.
    pub unix_offset_ns: i64,
    pub limits: &'a Limits,
    /// Whether it is known which addresses are local.
    pub knows_local: bool,
}

/// A flow key of either family, with its addresses as the standard library has them.
pub trait Key {
    fn endpoint(&self, side: Side) -> (IpAddr, u16);
}

impl Key for FlowKey4 {
    fn endpoint(&self, side: Side) -> (IpAddr, u16) {
        let [word]: Ipv4 = *self.addr(side);
        (IpAddr::V4(u32::from_be(word).into()), self.port(side))
    }
}

impl Key for FlowKey6 {
    fn endpoint(&self, side: Side) -> (IpAddr, u16) {
        let words: Ipv6 = *self.addr(side);
        let mut bytes = [0; 16];
        for (four, word) in bytes.chunks_exact_mut(4).zip(words) {
            four.copy_from_slice(&word.to_ne_bytes());
        }
        (IpAddr::V6(bytes.into()), self.port(side))
    }
}

impl FlowRecord {
    /// The record of a flow as it stands at a moment; `interface` is what the first hook's index is called.
    pub fn new<A>(
        key: &FlowKey<A>,
        flow: &Flow,
        moment: Moment<'_>,
        interface: impl FnOnce(u32) -> Option<Arc<str>>,
    ) -> Self
    where
        FlowKey<A>: Key,
    {
        let word = flow.settled_at(moment.now_ns, moment.limits);
        let times = &flow.times;
        let unix = |ns: u64| ns.saturating_add_signed(moment.unix_offset_ns);
        let endpoint = |role| Endpoint::new(key, flow, word, role, moment.knows_local);
        let first_tap = [Role::Originator, Role::Responder]
            .into_iter()
            .map(|role| flow.half(word.side_of(role)).tap.get())
            .find(|&tap| tap != 0);
        Self {
            originator: endpoint(Role::Originator),
            responder: endpoint(Role::Responder),
            interface: first_tap.and_then(|tap| interface(tap / 2)),
            role: moment.knows_local.then(|| word.locality()),
            inferred: word.has(Mark::Inferred),
            phase: word.phase(),
            first_seen_unix_ns: unix(times.first_ns.get()),
            last_seen_unix_ns: unix(flow.last_seen_ns()),
            changed_unix_ns: unix(times.changed_ns.get()),
            handshake: Handshake {
                outcome: word.outcome(),
                syn_to_synack_ns: times.syn_to_synack_ns(),
                synack_to_ack_ns: times.synack_to_ack_ns(),
                total_ns: times.total_ns(),
                retransmitted: word.has(Mark::SynRepeated) || word.has(Mark::SynAckRepeated),
            },
            close: Close {
                initiator: Some(word.initiator()).filter(|&initiator| initiator != Initiator::Nobody),
                how: Some(word.how()).filter(|&how| how != How::Open),
            },
        }
    }

    /// Which way the flow is half open, if it is.
    pub fn half_open(&self) -> Option<HalfOpen> {
        let answered = self.responder.isn.is_some() || self.responder.state == Some(State::SynReceived);
        (self.handshake.outcome == Outcome::InProgress).then_some(if answered {
            HalfOpen::UnackedSynAck
        } else {
            HalfOpen::UnansweredSyn
        })
    }

    /// How long it lasted, from the first segment seen to the last, in nanoseconds.
    pub fn duration_ns(&self) -> u64 {
        self.last_seen_unix_ns.saturating_sub(self.first_seen_unix_ns)
    }
}

impl Endpoint {
    fn new<A>(key: &FlowKey<A>, flow: &Flow, word: Word, role: Role, knows_local: bool) -> Self
    where
        FlowKey<A>: Key,
    {
        let side = word.side_of(role);
        let half: &Half = flow.half(side);
        let (addr, port) = key.endpoint(side);
        Self {
            addr,
            port,
            state: Some(word.state(role)).filter(|&state| state != State::Unknown),
            local: knows_local.then(|| word.has_of(Mark::Local, role)),
            packets: half.packets.get(),
            bytes: half.payload_bytes.get(),
            isn: word.has_of(Mark::IsnSeen, role).then(|| half.isn.get().0),
            syn_retransmits: half.syn_retransmits.get(),
            fin: word.has_of(Mark::FinSent, role),
            rst: word.has_of(Mark::RstSent, role),
        }
    }
}
