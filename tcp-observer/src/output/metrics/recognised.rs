//! What was recognised in segments, and what the network said of SYNs that did not arrive.

use prometheus::proto::MetricFamily;
use tcp_observer_common::{conn::Note, counters::Unreachable};

use super::{View, family::Family};
use crate::snapshot::notable;

pub(super) fn collect(view: &View<'_>, families: &mut Vec<MetricFamily>) {
    let counters = &view.overview.totals.counters;
    let noted = |note: Note| counters.notes[note.index()];

    let mut recognised = Family::counter(
        "recognised_total",
        "How often something was recognised that not every connection does, by what it was; the notes of a \
         connection's record have the same words.",
        ["note"],
    );
    for note in notable() {
        recognised.add_count([note.label()], noted(note));
    }
    recognised.push_to(families);

    let mut unreachable = Family::counter(
        "unreachable_total",
        "Connection attempts that an ICMP error has ended, by what it said.",
        ["code"],
    );
    for &reason in Unreachable::ALL {
        unreachable.add_count([reason.label()], counters.unreachable[reason.index()]);
    }
    unreachable.push_to(families);

    let mut time_wait = Family::counter(
        "time_wait_ended_early_total",
        "Connections that left TIME_WAIT before its time: their ports were used again, or a RST ended it.",
        ["reason"],
    );
    time_wait.add_count(["reused"], noted(Note::TimeWaitReused));
    time_wait.add_count(["assassinated"], noted(Note::TimeWaitAssassinated));
    time_wait.push_to(families);
}
