//! What the agent has found when it compared its flows with the kernel's sockets.
//!
//! Before the first comparison, and where the kernel does not show its sockets, all of it is absent: a zero would say
//! that they agree.

use std::time::Duration;

use prometheus::proto::MetricFamily;

use super::{View, family::Family};
use crate::verify::{Exception, Kind, Report};

/// The last comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct SocketCheck {
    /// Ends that differ, by [`Kind::ALL`].
    pub differing: [u64; Kind::ALL.len()],
    /// Ends whose disagreement was to be expected, by [`Exception::ALL`].
    pub excepted: [u64; Exception::COUNT],
    pub compared: u64,
    /// How many comparisons there have been, this one included.
    pub comparisons: u64,
    pub taken_unix_ns: u64,
    /// What it took, without the time between its tries.
    pub took: Duration,
}

impl SocketCheck {
    pub fn new(report: &Report, comparisons: u64, took: Duration) -> Self {
        let mut excepted = [0; Exception::COUNT];
        for exception in report.excepted.iter().filter_map(|difference| difference.exception) {
            excepted[exception.index()] += 1;
        }
        Self {
            differing: Kind::ALL.map(|kind| report.differing_in(kind)),
            excepted,
            compared: report.compared,
            comparisons,
            taken_unix_ns: report.taken_unix_ns,
            took,
        }
    }
}

pub(super) fn collect(view: &View<'_>, families: &mut Vec<MetricFamily>) {
    let Some(check) = &view.socket_check else { return };

    let mut disagreements = Family::gauge(
        "socket_disagreements",
        "Local ends of which the flow and the kernel's socket did not agree in any try of the last comparison, without a \
         known reason: another state, a socket without a flow, a flow without a socket.",
        ["kind"],
    );
    for (kind, count) in Kind::ALL.into_iter().zip(check.differing) {
        disagreements.add_count([kind.label()], count);
    }
    disagreements.push_to(families);

    let mut excepted = Family::gauge(
        "socket_disagreements_excepted",
        "Those for which there is a reason that packets cannot tell (docs/semantics.md explains each).",
        ["reason"],
    );
    for (exception, count) in Exception::ALL.iter().zip(check.excepted) {
        excepted.add_count([exception.label()], count);
    }
    excepted.push_to(families);

    let mut compared = Family::gauge("sockets_compared", "Sockets that took part in the last comparison.", []);
    compared.add_count([], check.compared);
    compared.push_to(families);

    let mut comparisons = Family::counter(
        "socket_comparisons_total",
        "Comparisons of the flows with the kernel's sockets since the agent started.",
        [],
    );
    comparisons.add_count([], check.comparisons);
    comparisons.push_to(families);

    let mut timestamp =
        Family::gauge("socket_comparison_timestamp_seconds", "When the last comparison was, in Unix time.", []);
    timestamp.add([], check.taken_unix_ns as f64 / 1e9);
    timestamp.push_to(families);

    let mut duration = Family::gauge(
        "socket_comparison_duration_seconds",
        "What the last comparison took, without the time between its tries.",
        [],
    );
    duration.add([], check.took.as_secs_f64());
    duration.push_to(families);
}
