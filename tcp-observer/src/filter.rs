//! Which flows an output is asked for.
//!
//! Values of one flag are alternatives, flags combine with *and*; a flag that was not given lets everything through.
//! States are told by the endpoints whose states are counted: the local one, or both where both or neither are local.

use std::{net::IpAddr, str::FromStr, time::Duration};

use ipnet::IpNet;
use tcp_observer_common::conn::{Locality, Note, Phase, State};

use crate::snapshot::{ConnState, FlowRecord};

/// What flows must be like.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub states: Vec<StateSet>,
    pub phases: Vec<Phase>,
    pub roles: Vec<Locality>,
    /// Of either endpoint.
    pub ports: Vec<u16>,
    /// Of either endpoint.
    pub addrs: Vec<Prefix>,
    pub interfaces: Vec<String>,
    /// What was recognised.
    pub notes: Vec<Note>,
    pub conn_states: Vec<ConnState>,
    /// Since the flow was first seen.
    pub older_than: Option<Duration>,
}

impl Filter {
    /// Whether the flow is asked for, at this moment.
    pub fn matches(&self, flow: &FlowRecord, now_unix_ns: u64) -> bool {
        let has_state = |set: &StateSet| flow.counted_endpoints().any(|endpoint| set.contains(endpoint.state));
        let endpoints = [&flow.originator, &flow.responder].map(|endpoint| (endpoint.addr, endpoint.port));
        any(&self.states, has_state)
            && any(&self.phases, |phase| *phase == flow.phase)
            && self.is_between(endpoints, flow.role)
            && any(&self.interfaces, |name| flow.interface.as_deref() == Some(name))
            && any(&self.notes, |note| flow.notes.has(*note))
            && any(&self.conn_states, |state| *state == flow.conn_state())
            && self.older_than.is_none_or(|age| u128::from(flow.age_ns(now_unix_ns)) >= age.as_nanos())
    }

    /// Whether an endpoint in this state is asked for.
    pub fn has_state(&self, state: Option<State>) -> bool {
        any(&self.states, |set| set.contains(state))
    }

    /// Whether these endpoints and this role are asked for: what does not change while a flow lives.
    pub fn is_between(&self, endpoints: [(IpAddr, u16); 2], role: Option<Locality>) -> bool {
        let has_port = |wanted: &u16| endpoints.iter().any(|(_, port)| port == wanted);
        let has_addr = |prefix: &Prefix| endpoints.iter().any(|(addr, _)| prefix.0.contains(addr));
        any(&self.roles, |wanted| Some(*wanted) == role) && any(&self.ports, has_port) && any(&self.addrs, has_addr)
    }
}

/// Whether one of the alternatives holds; no alternative is no condition.
fn any<T>(alternatives: &[T], holds: impl Fn(&T) -> bool) -> bool {
    alternatives.is_empty() || alternatives.iter().any(holds)
}

/// Some states of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateSet(u16);

impl StateSet {
    const fn of(states: &[State]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < states.len() {
            bits |= 1 << states[i].index();
            i += 1;
        }
        Self(bits)
    }

    const fn without(self, states: &[State]) -> Self {
        Self(self.0 & !Self::of(states).0)
    }

    /// Every state, and sides of which nothing was seen.
    const ALL: Self = Self::of(State::ALL);
    const CONNECTED: Self = Self::ALL.without(&[State::Unknown, State::Listen, State::Closed]);
    const SYNCHRONIZED: Self = Self::CONNECTED.without(&[State::SynSent]);
    /// What Linux keeps in less than a socket.
    const BUCKET: Self = Self::of(&[State::SynReceived, State::TimeWait]);
    const BIG: Self = Self::ALL.without(&[State::SynReceived, State::TimeWait]);

    fn contains(self, state: Option<State>) -> bool {
        self.0 >> state.unwrap_or(State::Unknown).index() & 1 != 0
    }
}

/// Names besides the states' own: those of `ss` (8), its groups, those of `netstat`, and old spellings.
const STATE_NAMES: &[(&str, StateSet)] = &[
    ("estab", StateSet::of(&[State::Established])),
    ("syn_recv", StateSet::of(&[State::SynReceived])),
    ("syn_rcv", StateSet::of(&[State::SynReceived])),
    ("syn_rcvd", StateSet::of(&[State::SynReceived])),
    ("syn_send", StateSet::of(&[State::SynSent])),
    ("fin_wait", StateSet::of(&[State::FinWait1, State::FinWait2])),
    ("fin_wait1", StateSet::of(&[State::FinWait1])),
    ("fin_wait2", StateSet::of(&[State::FinWait2])),
    ("listening", StateSet::of(&[State::Listen])),
    ("close", StateSet::of(&[State::Closed])),
    ("unconn", StateSet::of(&[State::Closed])),
    ("unconnected", StateSet::of(&[State::Closed])),
    ("all", StateSet::ALL),
    ("connected", StateSet::CONNECTED),
    ("synchronized", StateSet::SYNCHRONIZED),
    ("bucket", StateSet::BUCKET),
    ("big", StateSet::BIG),
];

impl FromStr for StateSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.to_ascii_lowercase().replace('-', "_");
        let own = || nameable_states().find(|state| state.label() == name).map(|state| Self::of(&[state]));
        let other = || STATE_NAMES.iter().find(|(known, _)| *known == name).map(|&(_, set)| set);
        own().or_else(other).ok_or_else(|| {
            let states: Vec<_> = nameable_states().map(State::label).collect();
            format!(
                "no such state; states are {}, groups are all, connected, synchronized, bucket, big, and ss's names \
                 (estab, syn-recv, …) are understood",
                states.join(", ")
            )
        })
    }
}

fn nameable_states() -> impl Iterator<Item = State> {
    State::ALL.iter().copied().filter(|&state| state != State::Unknown)
}

/// An address or a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix(pub IpNet);

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let host = || text.parse::<IpAddr>().ok().map(IpNet::from);
        text.parse::<IpNet>()
            .ok()
            .or_else(host)
            .map(Self)
            .ok_or_else(|| "not an address (192.0.2.1) and not a prefix (192.0.2.0/24, 2001:db8::/32)".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::fixture::{self, TAKEN_UNIX_NS};

    fn states(text: &str) -> Vec<&'static str> {
        let set: StateSet = text.parse().unwrap();
        State::ALL.iter().filter(|&&state| set.contains(Some(state))).map(|state| state.label()).collect()
    }

    fn server_flow() -> FlowRecord {
        fixture::flow("198.51.100.7:40000", "192.0.2.1:443", Some(Locality::Server))
    }

    fn matches(filter: Filter, flow: &FlowRecord) -> bool {
        filter.matches(flow, TAKEN_UNIX_NS)
    }

    #[test]
    fn states_go_by_our_names_and_by_those_of_ss() {
        for (ours, others) in [
            ("established", &["estab", "ESTAB", "Established"][..]),
            ("syn_sent", &["syn-sent", "SYN_SENT", "syn_send"]),
            ("syn_received", &["syn-recv", "syn_rcvd", "SYN_RECV", "syn-received"]),
            ("fin_wait_1", &["fin-wait-1", "FIN_WAIT1"]),
            ("fin_wait_2", &["fin-wait-2", "FIN_WAIT2"]),
            ("time_wait", &["time-wait"]),
            ("closed", &["unconnected", "unconn", "closed", "close"]),
            ("close_wait", &["close-wait"]),
            ("last_ack", &["last-ack"]),
            ("listen", &["listening"]),
            ("closing", &["CLOSING"]),
        ] {
            for name in others {
                assert_eq!(states(name), [ours], "{name}");
            }
            assert_eq!(states(ours), [ours]);
        }
    }

    /// After `ss(8)`, "STATE-FILTER".
    #[test]
    fn groups_of_states_are_those_of_ss() {
        assert_eq!(states("fin_wait"), ["fin_wait_1", "fin_wait_2"]);
        assert_eq!(states("bucket"), ["syn_received", "time_wait"]);
        let synchronized = [
            "syn_received",
            "established",
            "fin_wait_1",
            "fin_wait_2",
            "close_wait",
            "closing",
            "last_ack",
            "time_wait",
        ];
        assert_eq!(states("synchronized"), synchronized);
        assert_eq!(states("connected")[0], "syn_sent");
        assert_eq!(states("connected")[1..], synchronized);
        assert!(states("big").contains(&"established") && !states("big").contains(&"time_wait"));
        assert_eq!(states("all").len(), State::COUNT);
        assert!("all".parse::<StateSet>().unwrap().contains(None));
        assert!(!"connected".parse::<StateSet>().unwrap().contains(None));
    }

    #[test]
    fn what_is_no_state_is_refused() {
        for text in ["", "unknown", "open", "estab ", "syn sent"] {
            assert!(text.parse::<StateSet>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_state_is_the_local_endpoints_where_there_is_one() {
        let mut flow = server_flow();
        flow.originator.state = Some(State::TimeWait);
        flow.responder.state = Some(State::Closed);
        let time_wait = || Filter { states: vec!["time-wait".parse().unwrap()], ..Filter::default() };
        assert!(!matches(time_wait(), &flow), "the local endpoint is closed");
        flow.role = Some(Locality::Client);
        assert!(matches(time_wait(), &flow));
        flow.role = None;
        assert!(matches(time_wait(), &flow), "nobody knows which is local");
    }

    #[test]
    fn an_address_is_a_host_and_a_prefix_its_hosts_on_either_side() {
        let at = |text: &str| Filter { addrs: vec![text.parse().unwrap()], ..Filter::default() };
        assert!(matches(at("198.51.100.7"), &server_flow()));
        assert!(matches(at("192.0.2.0/24"), &server_flow()));
        assert!(matches(at("192.0.2.99/24"), &server_flow()), "bits beyond the prefix do not matter");
        assert!(!matches(at("198.51.100.8"), &server_flow()));
        assert!(!matches(at("::/0"), &server_flow()));
        for text in ["192.0.2", "192.0.2.1/33", "eth0", "", "192.0.2.1:443", "2001:db8::/129"] {
            assert!(text.parse::<Prefix>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn values_of_one_flag_are_alternatives_and_flags_combine() {
        let filter = Filter { ports: vec![22, 443], ..Filter::default() };
        assert!(matches(filter.clone(), &server_flow()));
        assert!(matches(Filter { roles: vec![Locality::Server], ..filter.clone() }, &server_flow()));
        assert!(!matches(Filter { roles: vec![Locality::Client], ..filter.clone() }, &server_flow()));
        assert!(!matches(Filter { interfaces: vec!["eth1".to_owned()], ..filter.clone() }, &server_flow()));
        assert!(!matches(Filter { phases: vec![Phase::TimeWait], ..filter }, &server_flow()));
    }

    #[test]
    fn one_of_the_notes_is_enough_and_each_flow_has_one_conn_state() {
        let mut flow = server_flow();
        flow.notes = [Note::Keepalive, Note::FinWithData].into_iter().collect();
        flow.history = "ShADadFf".into();
        let noted = |notes: &[Note]| Filter { notes: notes.into(), ..Filter::default() };
        assert!(matches(noted(&[Note::Heartbeat, Note::Keepalive]), &flow));
        assert!(!matches(noted(&[Note::Heartbeat]), &flow));
        let went = |states: &[ConnState]| Filter { conn_states: states.into(), ..Filter::default() };
        assert!(matches(went(&[ConnState::S1, ConnState::Sf]), &flow));
        assert!(!matches(went(&[ConnState::S1]), &flow));
    }

    #[test]
    fn age_counts_from_the_first_segment() {
        let older = |seconds| Filter { older_than: Some(Duration::from_secs(seconds)), ..Filter::default() };
        assert!(matches(older(600), &server_flow()), "it was first seen 600 s ago");
        assert!(!matches(older(601), &server_flow()));
        assert!(!matches(older(u64::MAX), &server_flow()));
    }
}
