//! How connections end: who closes first and how, and which resets cut what short.

use prometheus::proto::MetricFamily;
use tcp_observer_common::{
    conn::{How, Phase},
    counters::Endedness,
};

use super::{View, family::Family};

pub(super) fn collect(view: &View<'_>, families: &mut Vec<MetricFamily>) {
    let counters = &view.snapshot.totals.counters;

    let mut closes = Family::counter(
        "closes_total",
        "Connections that ended, by whose FIN or RST came first (none: nobody's was seen) and how. Who closes first \
         keeps the TIME_WAIT.",
        ["initiator", "how"],
    );
    for &initiator in Endedness::ALL {
        for &how in How::ALL.iter().filter(|&&how| how != How::Open) {
            closes.add_count([initiator.label(), how.label()], counters.closes[initiator.index()][how.index()]);
        }
    }
    closes.push_to(families);

    let mut resets = Family::counter(
        "resets_total",
        "RSTs that ended a connection or an attempt, by the phase that they found and by who sent them.",
        ["phase", "sender"],
    );
    for &phase in Phase::ALL {
        for (sender, count) in ["local", "remote"].into_iter().zip(counters.resets[phase.index()]) {
            resets.add_count([phase.label(), sender], count);
        }
    }
    resets.push_to(families);
}
