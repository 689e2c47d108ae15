//! How long handshakes take, on which side the time is lost, and how attempts end.

use prometheus::proto::MetricFamily;
use tcp_observer_common::{
    conn::{Locality, Outcome},
    counters::Retransmit,
    histogram::{HandshakePart, by_role},
};

use super::{
    View,
    family::{Bounds, Family},
    named_ports::{ALL_SLOTS, attempts, handshakes, outcomes},
};

pub(super) fn collect(view: &View<'_>, families: &mut Vec<MetricFamily>) {
    durations(view, families);
    port_durations(view, families);
    attempt_outcomes(view, families);
    completion(view, families);
    retransmits(view, families);
}

fn durations(view: &View<'_>, families: &mut Vec<MetricFamily>) {
    let mut family = Family::histogram(
        "handshake_duration_seconds",
        "Time of completed handshakes: from the SYN that was answered to its SYN-ACK, from there to the final ACK, \
         and in total from the first SYN. On a server the first part is this host's and the second the network's and \
         the client's; on a client the other way round.",
        ["segment", "role", "retransmitted"],
    );
    for &part in HandshakePart::ALL {
        for &role in Locality::ALL {
            for (retransmitted, label) in [(false, "false"), (true, "true")] {
                let place = by_role(part, role, retransmitted) as usize;
                let histogram = view.overview.totals.handshakes.get(place).copied().unwrap_or_default();
                family.add_histogram([part.label(), role.label(), label], &histogram, Bounds::ALL);
            }
        }
    }
    family.push_to(families);
}

fn port_durations(view: &View<'_>, families: &mut Vec<MetricFamily>) {
    let totals = &view.overview.totals;
    let mut family = Family::histogram(
        "port_handshake_duration_seconds",
        "Time of completed handshakes by the responder's port, for the first combinations of port and role that \
         occurred; the rest is other. Segments as in handshake_duration_seconds.",
        ["port", "role", "segment"],
    );
    let mut add = |port: &str, role: Locality, slots: &[usize]| {
        for &part in HandshakePart::ALL {
            let histogram = handshakes(totals, slots, part, role);
            if histogram.count() > 0 {
                family.add_histogram([port, role.label(), part.label()], &histogram, Bounds::INNER);
            }
        }
    };
    for (port, role, slots) in view.ports.named(totals) {
        add(&port.to_string(), role, &slots);
    }
    for &role in Locality::ALL {
        add("other", role, &view.ports.others(totals, role));
    }
    family.push_to(families);
}

fn attempt_outcomes(view: &View<'_>, families: &mut Vec<MetricFamily>) {
    let totals = &view.overview.totals;
    let mut family = Family::counter(
        "connection_attempts_total",
        "Connection attempts by how their handshake ended. Ports as in port_handshake_duration_seconds.",
        ["role", "port", "outcome"],
    );
    let mut add = |port: &str, role: Locality, slots: &[usize]| {
        for outcome in outcomes() {
            family.add_count([role.label(), port, outcome.label()], attempts(totals, slots, role, outcome));
        }
    };
    for (port, role, slots) in view.ports.named(totals) {
        add(&port.to_string(), role, &slots);
    }
    for &role in Locality::ALL {
        add("other", role, &view.ports.others(totals, role));
    }
    family.push_to(families);
}

fn completion(view: &View<'_>, families: &mut Vec<MetricFamily>) {
    let mut family = Family::gauge(
        "handshake_completion_ratio",
        "Of the connection attempts decided since the agent started, the share that completed; NaN before the first.",
        ["role"],
    );
    for &role in Locality::ALL {
        let count = |outcome| attempts(&view.overview.totals, &ALL_SLOTS, role, outcome) as f64;
        let decided: f64 = outcomes().map(count).sum();
        family.add([role.label()], count(Outcome::Completed) / decided);
    }
    family.push_to(families);
}

fn retransmits(view: &View<'_>, families: &mut Vec<MetricFamily>) {
    let mut family = Family::counter(
        "handshake_retransmits_total",
        "SYNs and SYN-ACKs that were seen again, late copies included: the first sign of loss, full backlogs \
         and unreachable peers.",
        ["kind", "role"],
    );
    for &kind in Retransmit::ALL {
        for &role in Locality::ALL {
            let count = view.overview.totals.counters.handshake_retransmits[kind.index()][role.index()];
            family.add_count([kind.label(), role.label()], count);
        }
    }
    family.push_to(families);
}
