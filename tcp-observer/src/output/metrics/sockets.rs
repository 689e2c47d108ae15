//! What packets say together with the kernel's socket table: listeners that cannot keep up, ports that run out.
//!
//! Where the kernel does not show its sockets, what needs them is absent: a zero would say that all is well.

use prometheus::proto::MetricFamily;
use tcp_observer_common::conn::Note;

use super::{View, family::Family};

pub(super) fn collect(view: &View<'_>, families: &mut Vec<MetricFamily>) {
    listeners(view, families);
    ephemeral(view, families);
}

fn listeners(view: &View<'_>, families: &mut Vec<MetricFamily>) {
    let noted = |note: Note| view.overview.totals.counters.notes[note.index()];
    let mut total = Family::counter(
        "listen_overflow_suspected_total",
        "SYN-ACKs sent again although they were acknowledged, by whether data had come as well. After an ACK the \
         accept queue is full or the listener defers accepting; after data it is full.",
        ["evidence"],
    );
    total.add_count(["synack_after_ack"], noted(Note::SynAckAfterAck));
    total.add_count(["synack_after_data"], noted(Note::SynAckAfterData));
    total.push_to(families);

    let mut connections = Family::gauge(
        "listen_overflow_suspected_connections",
        "SYNs that have waited for more than a second although this host listens where they are sent to: the \
         listener's queue may be full, or a firewall drops them. Absent where the kernel does not show its sockets.",
        [],
    );
    if view.overview.sockets.is_some() {
        let waiting = &view.overview.census.unanswered_by_listener;
        connections.add_count([], waiting.values().sum());
    }
    connections.push_to(families);

    let mut overflowing = Family::gauge(
        "listeners_overflowing",
        "Listening sockets with more connections waiting for the application than their backlog: they drop SYNs. \
         Absent where the kernel does not show its sockets.",
        [],
    );
    if let Some(sockets) = &view.overview.sockets {
        overflowing.add_count([], sockets.overflowing);
    }
    overflowing.push_to(families);
}

fn ephemeral(view: &View<'_>, families: &mut Vec<MetricFamily>) {
    let mut in_use = Family::gauge(
        "ephemeral_ports_in_use_max",
        "The largest number of ports of one local address that connections from here to one remote address and port \
         hold, TIME_WAIT included.",
        [],
    );
    in_use.add_count([], view.overview.census.ports_in_use().first().map_or(0, |first| first.ports));
    in_use.push_to(families);

    let mut available = Family::gauge(
        "ephemeral_ports_available",
        "How many ports the kernel can give to connections to one remote address and port \
         (net.ipv4.ip_local_port_range). Absent where that is not known.",
        [],
    );
    if let Some(ports) = view.overview.sockets.as_ref().and_then(|sockets| sockets.ephemeral_ports()) {
        available.add_count([], ports);
    }
    available.push_to(families);
}
