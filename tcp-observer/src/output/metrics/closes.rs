//! How connections end: who closes first and how, and which resets cut what short.

use prometheus::proto::MetricFamily;
use tcp_observer_common::{
    conn::{How, Locality, Phase},
    counters::Endedness,
    histogram::half_close,
};

use super::{
    View,
    family::{Bounds, Family},
};

pub(super) fn collect(view: &View<'_>, families: &mut Vec<MetricFamily>) {
    let counters = &view.overview.totals.counters;

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

    let mut half_closes = Family::histogram(
        "half_close_duration_seconds",
        "How long connections were half closed: one end's FIN acknowledged, the other end still sending. Those that \
         silence ended are not in it.",
        ["role"],
    );
    for &role in Locality::ALL {
        let histogram = view.overview.totals.handshakes.get(half_close(role) as usize).copied().unwrap_or_default();
        half_closes.add_histogram([role.label()], &histogram, Bounds::COARSE);
    }
    half_closes.push_to(families);
}
