//! What is there now: connections by state, half-open ones by age, TIME_WAIT by whose it is.

use prometheus::proto::MetricFamily;
use tcp_observer_common::conn::{Locality, State};

use super::{View, family::Family};
use crate::snapshot::{
    HalfOpen,
    census::{AGES, CLOSE_WAIT_AGES},
};

pub(super) fn collect(view: &View<'_>, families: &mut Vec<MetricFamily>) {
    let census = &view.overview.census;

    let mut connections = Family::gauge(
        "connections",
        "Endpoints of TCP connections by state, as ss would count this host's sockets. Of a forwarded connection, \
         which has no local endpoint, both are counted with the states that the packets imply.",
        ["state", "role"],
    );
    for &state in State::ALL {
        if matches!(state, State::Unknown | State::Listen | State::Closed) {
            continue;
        }
        for &role in Locality::ALL {
            let count = census.states[role.index()][state.index()];
            connections.add_count([state.label(), role.label()], count);
        }
    }
    connections.push_to(families);

    let mut half_open = Family::gauge(
        "half_open_connections",
        "Handshakes that have begun and not completed, by what is missing (unanswered_syn: the SYN-ACK; \
         unacked_synack: the final ACK) and by the time since the first SYN. Ages are disjoint.",
        ["kind", "role", "age"],
    );
    for kind in HalfOpen::ALL {
        for &role in Locality::ALL {
            for (index, (_, age)) in AGES.iter().enumerate() {
                let count = census.half_open[kind as usize][role.index()][index];
                half_open.add_count([kind.label(), role.label(), age], count);
            }
        }
    }
    half_open.push_to(families);

    let mut time_wait = Family::gauge(
        "time_wait_connections",
        "Endpoints in TIME_WAIT by whose they are: this host's, or other hosts' (estimated, since how long those \
         wait cannot be seen).",
        ["side"],
    );
    time_wait.add_count(["local"], census.local_time_wait);
    time_wait.add_count(["remote"], census.remote_time_wait);
    time_wait.push_to(families);

    let mut close_wait = Family::gauge(
        "close_wait_connections",
        "Endpoints of this host in CLOSE_WAIT by how long: the peer has closed, and the application here does not. \
         Ages are disjoint.",
        ["age"],
    );
    for ((_, age), count) in CLOSE_WAIT_AGES.into_iter().zip(census.close_wait) {
        close_wait.add_count([age], count);
    }
    close_wait.push_to(families);

    let mut keepalives = Family::gauge(
        "unanswered_keepalive_connections",
        "Connections with keepalive probes that are not answered, by the side that sends them: its peer may be gone.",
        ["side"],
    );
    for (side, count) in ["local", "remote"].into_iter().zip(census.unanswered_keepalives) {
        keepalives.add_count([side], count);
    }
    keepalives.push_to(families);
}
