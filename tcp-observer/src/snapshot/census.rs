//! Flows counted by where they stand: what the metrics and the summary say of a snapshot's flows.
//!
//! Whose states count: the local endpoint's where this host is one of the two; both where it is both (loopback, as
//! `ss` shows both sockets), where it is neither (forwarded), and where nobody said which addresses are local.

use tcp_observer_common::conn::{Locality, State};

use super::{Endpoint, FlowRecord, HalfOpen, Snapshot};

/// Ages of a half-open flow: an exclusive upper bound in seconds, and the word for it. The bounds are the moments at
/// which a SYN or SYN-ACK is repeated (1, 3, 7, … s), so that an age says how often it went unanswered.
pub const AGES: [(u64, &str); 7] =
    [(1, "0-1s"), (3, "1-3s"), (7, "3-7s"), (15, "7-15s"), (31, "15-31s"), (63, "31-63s"), (u64::MAX, "gt_63s")];

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
}

impl Census {
    /// Counts the flows of a snapshot in one pass.
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut census = Self::default();
        for flow in &snapshot.flows {
            census.add(flow, snapshot.taken_unix_ns);
        }
        census
    }

    /// Counts a flow as it stands at this moment.
    pub fn add(&mut self, flow: &FlowRecord, now_unix_ns: u64) {
        let role = role_index(flow.role);
        self.flows += 1;
        for endpoint in flow.counted_endpoints() {
            self.states[role][endpoint.state.unwrap_or(State::Unknown).index()] += 1;
        }
        for endpoint in [&flow.originator, &flow.responder] {
            if endpoint.state == Some(State::TimeWait) {
                match endpoint.local {
                    Some(true) => self.local_time_wait += 1,
                    Some(false) | None => self.remote_time_wait += 1,
                }
            }
        }
        if let Some(kind) = flow.half_open() {
            self.half_open[kind as usize][role][age_index(flow.age_ns(now_unix_ns))] += 1;
        }
    }
}

/// The place in [`AGES`] of an age.
fn age_index(age_ns: u64) -> usize {
    let seconds = age_ns / 1_000_000_000;
    AGES.iter().position(|&(bound, _)| seconds < bound).unwrap_or(AGES.len() - 1)
}

impl FlowRecord {
    /// The endpoints whose states stand for this flow where states are counted or filtered.
    pub fn counted_endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        let (originator, responder) = match self.role {
            Some(Locality::Client) => (true, false),
            Some(Locality::Server) => (false, true),
            Some(Locality::Loopback | Locality::Forwarded) | None => (true, true),
        };
        [originator.then_some(&self.originator), responder.then_some(&self.responder)].into_iter().flatten()
    }

    /// How long ago it was first seen, in nanoseconds.
    pub fn age_ns(&self, now_unix_ns: u64) -> u64 {
        now_unix_ns.saturating_sub(self.first_seen_unix_ns)
    }
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
            assert_eq!(AGES[age_index(age_ns)].1, label, "{age_ns} ns");
        }
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
