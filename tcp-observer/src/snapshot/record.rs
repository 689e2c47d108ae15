//! The record of one flow as people and programs read it: roles instead of key sides, unknown instead of zero.

use std::{net::IpAddr, sync::Arc};

use tcp_observer_common::{
    conn::{Flow, Half, How, Initiator, Locality, Mark, Note, Outcome, Phase, Role, State, Word},
    counters::Unreachable,
    flow::{FlowKey, FlowKey4, FlowKey6, Ipv4, Ipv6, Side},
    limits::Limits,
    segment::Options,
};

use super::{
    story::{History, Notes},
    zeek::{ConnState, conn_state},
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
    /// How long it has been half closed, or was; `None` where it was not, and where silence ended it.
    pub half_close_ns: Option<u64>,
    pub history: History,
    pub notes: Notes,
    /// Wireshark's completeness: SYN 1, SYN-ACK 2, ACK 4, data 8, FIN 16, RST 32.
    pub completeness: u8,
    /// Identifiers of its VLANs, the outer one first, where they belong to a flow's identity: in replay.
    pub vlan: Option<Arc<[u16]>>,
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
    /// What its SYN offered; `None` where it did not.
    pub mss: Option<u16>,
    /// The shift of its windows, likewise.
    pub window_scale: Option<u8>,
    /// Whether its SYN offered these; `None` where it was not seen.
    pub sack: Option<bool>,
    pub timestamps: Option<bool>,
    /// Data segments with nothing new in them.
    pub retransmits: u32,
    pub keepalives: u16,
    /// Those since its peer last said anything.
    pub unanswered_keepalives: u8,
    /// Segments that said that it has no room.
    pub zero_windows: u16,
    pub window_probes: u16,
    pub fin_retransmits: u8,
    /// The period of its heartbeat.
    pub heartbeat_ns: Option<u64>,
}

/// What became of the handshake. Times in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    pub outcome: Outcome,
    pub syn_to_synack_ns: Option<u64>,
    pub synack_to_ack_ns: Option<u64>,
    pub total_ns: Option<u64>,
    pub retransmitted: bool,
    /// What the ICMP error said that ended the attempt.
    pub unreachable: Option<Unreachable>,
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

    /// Which of them a flow is, by what was seen of its responder, if it is half open.
    pub(super) fn of(outcome: Outcome, has_isn: bool, responder: Option<State>) -> Option<Self> {
        let answered = has_isn || responder == Some(State::SynReceived);
        (outcome == Outcome::InProgress).then_some(if answered { Self::UnackedSynAck } else { Self::UnansweredSyn })
    }

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

impl Moment<'_> {
    /// A time of the flow's clock in nanoseconds since the Unix epoch.
    pub fn unix_ns(&self, ns: u64) -> u64 {
        ns.saturating_add_signed(self.unix_offset_ns)
    }
}

/// Which of a flow's ends count: the local one where this host is one of the two, both elsewhere.
pub(super) fn counted<T>(role: Option<Locality>, originator: T, responder: T) -> impl Iterator<Item = T> {
    let (first, second) = match role {
        Some(Locality::Client) => (Some(originator), None),
        Some(Locality::Server) => (Some(responder), None),
        Some(Locality::Loopback | Locality::Forwarded) | None => (Some(originator), Some(responder)),
    };
    first.into_iter().chain(second)
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
            first_seen_unix_ns: moment.unix_ns(times.first_ns.get()),
            last_seen_unix_ns: moment.unix_ns(flow.last_seen_ns()),
            changed_unix_ns: moment.unix_ns(times.changed_ns.get()),
            handshake: Handshake {
                outcome: word.outcome(),
                syn_to_synack_ns: times.syn_to_synack_ns(),
                synack_to_ack_ns: times.synack_to_ack_ns(),
                total_ns: times.total_ns(),
                retransmitted: word.has(Mark::SynRepeated) || word.has(Mark::SynAckRepeated),
                unreachable: flow.story.unreachable(),
            },
            close: Close {
                initiator: Some(word.initiator()).filter(|&initiator| initiator != Initiator::Nobody),
                how: Some(word.how()).filter(|&how| how != How::Open),
            },
            // When exactly silence ended a half-close nobody saw. The times belong to the word that is kept with them.
            half_close_ns: (word.how() != How::Timeout)
                .then(|| times.half_closed_for_ns(flow.word.load(), moment.now_ns))
                .flatten(),
            history: History::of(&flow.story),
            notes: Notes::of(&flow.story),
            completeness: flow.low.completeness() | flow.high.completeness(),
            vlan: None,
        }
    }

    /// Zeek's word for how the connection went.
    pub fn conn_state(&self) -> ConnState {
        conn_state(self.history.letters(), self.originator.bytes, self.responder.bytes)
    }

    /// Which kind of explicit congestion notification its ends have agreed on, if any.
    pub fn ecn(&self) -> Option<&'static str> {
        match (self.notes.has(Note::AccurateEcn), self.notes.has(Note::Ecn)) {
            (true, _) => Some("accecn"),
            (false, true) => Some("ecn"),
            (false, false) => None,
        }
    }

    /// Which way the flow is half open, if it is.
    pub fn half_open(&self) -> Option<HalfOpen> {
        HalfOpen::of(self.handshake.outcome, self.responder.isn.is_some(), self.responder.state)
    }

    /// The endpoints whose states stand for this flow where states are counted or filtered.
    pub fn counted_endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        counted(self.role, &self.originator, &self.responder)
    }

    /// How long ago it was first seen, in nanoseconds.
    pub fn age_ns(&self, now_unix_ns: u64) -> u64 {
        now_unix_ns.saturating_sub(self.first_seen_unix_ns)
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
        let has_syn = word.has_of(Mark::IsnSeen, role);
        let offers = |option| has_syn.then(|| half.options.get() & option != 0);
        let (addr, port) = key.endpoint(side);
        Self {
            addr,
            port,
            state: Some(word.state(role)).filter(|&state| state != State::Unknown),
            local: knows_local.then(|| word.has_of(Mark::Local, role)),
            packets: half.packets.get(),
            bytes: half.payload_bytes.get(),
            isn: has_syn.then(|| half.isn.get().0),
            syn_retransmits: half.syn_retransmits.get(),
            fin: word.has_of(Mark::FinSent, role),
            rst: word.has_of(Mark::RstSent, role),
            mss: Some(half.mss.get()).filter(|&mss| has_syn && mss > 0),
            window_scale: Some(half.window_shift.get()).filter(|&shift| has_syn && shift != Options::NO_SHIFT),
            sack: offers(Options::SACK),
            timestamps: offers(Options::TIMESTAMPS),
            retransmits: half.retransmits.get(),
            keepalives: half.keepalives.get(),
            unanswered_keepalives: flow.unanswered_keepalives(word, role),
            zero_windows: half.zero_windows.get(),
            window_probes: half.window_probes.get(),
            fin_retransmits: half.fin_retransmits.get(),
            heartbeat_ns: half.heartbeat_ns(),
        }
    }
}
