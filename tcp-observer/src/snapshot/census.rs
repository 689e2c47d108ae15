//! Flows counted by where they stand: what the metrics and the summary say of a snapshot's flows.
//!
//! Whose states count: the local endpoint's where this host is one of the two; both where it is both (loopback, as
//! `ss` shows both sockets), where it is neither (forwarded), and where nobody said which addresses are local.

use std::collections::BTreeMap;

use tcp_observer_common::conn::{Locality, Phase, State};

use super::{
    FlowRecord, HalfOpen, Snapshot, SocketView,
    ephemeral::{PortsCounted, PortsInUse},
    standing::{End, Ends, Standing},
};

/// Ages of a half-open flow: an exclusive upper bound in seconds, and the word for it. The bounds are the moments at
/// which a SYN or SYN-ACK is repeated (1, 3, 7, … s), so that an age says how often it went unanswered.
pub const AGES: [(u64, &str); 7] =
    [(1, "0-1s"), (3, "1-3s"), (7, "3-7s"), (15, "7-15s"), (31, "15-31s"), (63, "31-63s"), (u64::MAX, "gt_63s")];

/// Ages of an endpoint in CLOSE-WAIT, likewise. One that stays there has an application that does not close.
pub const CLOSE_WAIT_AGES: [(u64, &str); 4] = [(60, "0-1m"), (600, "1-10m"), (3600, "10-60m"), (u64::MAX, "gt_60m")];

/// How old an unanswered SYN is that should have been answered: a listener that is there answers at once.
const SUSPICIOUS_NS: u64 = 1_000_000_000;

/// Of how many remote services the ports in use are kept.
const SERVICES: usize = 5;

/// The roles, and one more for flows whose role is unknown.
pub const ROLES: usize = Locality::COUNT + 1;

/// The place of a role in the arrays of a [`Census`].
pub fn role_index(role: Option<Locality>) -> usize {
    role.map_or(Locality::COUNT, Locality::index)
}

/// Flows, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    pub flows: u64,
    /// Endpoints that count, by role and state. [`State::Unknown`] holds the sides of which nothing was seen.
    pub states: [[u64; State::COUNT]; ROLES],
    /// Half-open flows by kind, role and age.
    pub half_open: [[[u64; AGES.len()]; ROLES]; HalfOpen::ALL.len()],
    /// Endpoints of this host in TIME-WAIT.
    pub local_time_wait: u64,
    /// Other hosts' endpoints in TIME-WAIT, as far as packets tell.
    pub remote_time_wait: u64,
    /// Endpoints of this host in CLOSE-WAIT, by age.
    pub close_wait: [u64; CLOSE_WAIT_AGES.len()],
    /// Flows with keepalive probes that nobody has answered: of this host, of another one.
    pub unanswered_keepalives: [u64; 2],
    /// SYNs that have waited for an answer although somebody listens, by the local port. Empty where nobody knows who
    /// listens.
    pub unanswered_by_listener: BTreeMap<u16, u64>,
    ports: PortsCounted,
}

impl Census {
    /// Counts the flows of a snapshot in one pass.
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut census = Self::default();
        for flow in &snapshot.flows {
            census.add_record(flow, snapshot.taken_unix_ns, snapshot.sockets.as_ref());
        }
        census
    }

    /// Counts a flow as it stands at this moment; `sockets` say who listens, where that is known.
    pub fn add_record(&mut self, flow: &FlowRecord, now_unix_ns: u64, sockets: Option<&SocketView>) {
        self.add(&flow.into(), || flow.into(), now_unix_ns, sockets);
    }

    /// The same of a flow whose ends are only asked for where they matter.
    pub fn add(&mut self, flow: &Standing, ends: impl Fn() -> Ends, now_unix_ns: u64, sockets: Option<&SocketView>) {
        self.add_states(flow, 1);
        self.add_particulars(flow, ends, now_unix_ns, sockets);
    }

    /// Counts so many flows by their states alone, which are those of this one.
    pub fn add_states(&mut self, flow: &Standing, flows: u64) {
        let role = role_index(flow.role);
        self.flows += flows;
        for endpoint in flow.counted_ends() {
            self.states[role][endpoint.state.unwrap_or(State::Unknown).index()] += flows;
        }
        for endpoint in [&flow.originator, &flow.responder] {
            if endpoint.state == Some(State::TimeWait) {
                match endpoint.local {
                    Some(true) => self.local_time_wait += flows,
                    Some(false) | None => self.remote_time_wait += flows,
                }
            }
        }
    }

    /// Counts what else is counted of a flow.
    pub fn add_particulars(
        &mut self,
        flow: &Standing,
        ends: impl Fn() -> Ends,
        now_unix_ns: u64,
        sockets: Option<&SocketView>,
    ) {
        for endpoint in [&flow.originator, &flow.responder] {
            if endpoint.state == Some(State::CloseWait) && endpoint.local == Some(true) {
                let age_ns = now_unix_ns.saturating_sub(flow.changed_unix_ns);
                self.close_wait[age_index(&CLOSE_WAIT_AGES, age_ns)] += 1;
            }
        }
        if !matches!(flow.phase, Phase::TimeWait | Phase::Closed) {
            let unanswered = |local: bool| {
                let of_side = |end: &&End| (end.local == Some(true)) == local;
                [&flow.originator, &flow.responder].into_iter().filter(of_side).any(|end| end.is_probing)
            };
            self.unanswered_keepalives[0] += u64::from(unanswered(true));
            self.unanswered_keepalives[1] += u64::from(unanswered(false));
        }
        if let Some((kind, since_unix_ns)) = flow.half_open {
            let age_ns = now_unix_ns.saturating_sub(since_unix_ns);
            self.half_open[kind as usize][role_index(flow.role)][age_index(&AGES, age_ns)] += 1;
            let is_old = kind == HalfOpen::UnansweredSyn && age_ns > SUSPICIOUS_NS;
            if let (true, Some(true), Some(sockets)) = (is_old, flow.responder.local, sockets)
                && sockets.listening.takes(ends().responder)
            {
                *self.unanswered_by_listener.entry(ends().responder.port()).or_default() += 1;
            }
        }
        if flow.holds_port() {
            self.ports.add(&ends());
        }
    }

    /// The remote services towards which most local ports are in use, the first one first.
    pub fn ports_in_use(&self) -> Vec<PortsInUse> {
        self.ports.top(SERVICES)
    }
}

/// The place of an age among its bounds.
fn age_index(ages: &[(u64, &str)], age_ns: u64) -> usize {
    let seconds = age_ns / 1_000_000_000;
    ages.iter().position(|&(bound, _)| seconds < bound).unwrap_or(ages.len() - 1)
}

#[cfg(test)]
mod tests {
    use tcp_observer_common::conn::Outcome;

    use super::*;
    use crate::snapshot::fixture;

    #[test]
    fn ages_are_disjoint_and_their_bounds_belong_to_the_older_one() {
        const MS: u64 = 1_000_000;
        for (age_ns, label) in [
            (0, "0-1s"),
            (999 * MS, "0-1s"),
            (1_000 * MS, "1-3s"),
            (2_999 * MS, "1-3s"),
            (3_000 * MS, "3-7s"),
            (31_000 * MS, "31-63s"),
            (63_000 * MS, "gt_63s"),
            (u64::MAX, "gt_63s"),
        ] {
            assert_eq!(AGES[age_index(&AGES, age_ns)].1, label, "{age_ns} ns");
        }
        for (seconds, label) in [(0, "0-1m"), (59, "0-1m"), (60, "1-10m"), (3599, "10-60m"), (3600, "gt_60m")] {
            let index = age_index(&CLOSE_WAIT_AGES, seconds * 1_000 * MS);
            assert_eq!(CLOSE_WAIT_AGES[index].1, label, "{seconds} s");
        }
    }

    #[test]
    fn close_wait_counts_where_it_is_ours_and_by_the_time_since_it_began() {
        let mut snapshot = fixture::empty();
        for (role, minutes) in [(Locality::Server, 5), (Locality::Loopback, 120), (Locality::Client, 5)] {
            let mut flow = fixture::flow("192.0.2.1:40000", "192.0.2.2:443", Some(role));
            flow.responder.state = Some(State::CloseWait);
            flow.changed_unix_ns = snapshot.taken_unix_ns - minutes * 60_000_000_000;
            snapshot.flows.push(flow);
        }
        assert_eq!(Census::of(&snapshot).close_wait, [0, 1, 0, 1]);
    }

    #[test]
    fn unanswered_probes_count_for_the_side_that_sends_them_while_the_flow_is_there() {
        let mut snapshot = fixture::empty();
        for (role, phase) in [
            (Some(Locality::Client), Phase::Established),
            (Some(Locality::Server), Phase::HalfClosed),
            (Some(Locality::Client), Phase::Closed),
            (None, Phase::Established),
        ] {
            let mut flow = fixture::flow("192.0.2.1:40000", "192.0.2.2:443", role);
            flow.originator.unanswered_keepalives = 2;
            flow.phase = phase;
            snapshot.flows.push(flow);
        }
        assert_eq!(Census::of(&snapshot).unanswered_keepalives, [1, 2]);
    }

    #[test]
    fn a_syn_that_waits_for_a_listener_is_suspicious_after_a_second() {
        let mut snapshot = fixture::empty();
        for (port, role, age_ns, answered) in [
            (443, Locality::Server, 2_000_000_000, false),
            (443, Locality::Loopback, 9_000_000_000, false),
            (443, Locality::Server, 900_000_000, false),
            (443, Locality::Server, 2_000_000_000, true),
            (443, Locality::Client, 2_000_000_000, false),
            (80, Locality::Server, 2_000_000_000, false),
        ] {
            let mut flow = fixture::flow("198.51.100.1:40000", &format!("192.0.2.2:{port}"), Some(role));
            flow.handshake.outcome = Outcome::InProgress;
            flow.responder.isn = answered.then_some(1);
            flow.first_seen_unix_ns = snapshot.taken_unix_ns - age_ns;
            snapshot.flows.push(flow);
        }
        assert_eq!(Census::of(&snapshot).unanswered_by_listener, BTreeMap::new(), "nobody knows who listens");
        snapshot.sockets = Some(fixture::sockets(&["0.0.0.0:443"]));
        assert_eq!(Census::of(&snapshot).unanswered_by_listener, BTreeMap::from([(443, 2)]));
    }

    #[test]
    fn one_endpoint_counts_where_this_host_is_one_of_the_two_and_both_elsewhere() {
        let mut snapshot = fixture::empty();
        for role in [Some(Locality::Client), Some(Locality::Server), Some(Locality::Loopback), None] {
            let mut flow = fixture::flow("192.0.2.1:40000", "192.0.2.2:443", role);
            flow.originator.state = Some(State::TimeWait);
            flow.responder.state = Some(State::Closed);
            snapshot.flows.push(flow);
        }
        let census = Census::of(&snapshot);
        let at = |role, state: State| census.states[role_index(role)][state.index()];
        assert_eq!((at(Some(Locality::Client), State::TimeWait), at(Some(Locality::Client), State::Closed)), (1, 0));
        assert_eq!((at(Some(Locality::Server), State::TimeWait), at(Some(Locality::Server), State::Closed)), (0, 1));
        assert_eq!((at(Some(Locality::Loopback), State::TimeWait), at(None, State::Closed)), (1, 1));
        // Client and loopback are local; the server's peer and the unknown one are not known to be.
        assert_eq!((census.local_time_wait, census.remote_time_wait), (2, 2));
    }

    #[test]
    fn half_open_flows_are_told_apart_by_whether_the_responder_answered() {
        let mut snapshot = fixture::empty();
        for (state, isn) in [(State::Listen, None), (State::SynReceived, Some(5000))] {
            let mut flow = fixture::flow("192.0.2.1:40000", "192.0.2.2:443", Some(Locality::Server));
            flow.handshake.outcome = Outcome::InProgress;
            flow.responder.state = Some(state);
            flow.responder.isn = isn;
            flow.first_seen_unix_ns = snapshot.taken_unix_ns - 5_000_000_000;
            snapshot.flows.push(flow);
        }
        let census = Census::of(&snapshot);
        let server = Locality::Server.index();
        assert_eq!(census.half_open[HalfOpen::UnansweredSyn as usize][server], [0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(census.half_open[HalfOpen::UnackedSynAck as usize][server], [0, 0, 1, 0, 0, 0, 0]);
    }
}
