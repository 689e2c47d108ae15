//! What became of the packets: segments that updated a flow, and packets that did not, by the reason.

use prometheus::proto::MetricFamily;
use tcp_observer_common::{
    counters::{HookDirection, Skip},
    segment::SegmentKind,
};

use super::{View, family::Family};

pub(super) fn collect(view: &View<'_>, families: &mut Vec<MetricFamily>) {
    let counters = &view.overview.totals.counters;

    let mut segments = Family::counter(
        "segments_total",
        "TCP segments that updated a connection, as the wire carries them (an offloaded super-packet counts as the \
         segments in it), by the first kind that applies.",
        ["kind", "direction"],
    );
    for &kind in SegmentKind::ALL {
        for &direction in HookDirection::ALL {
            let count = counters.segments[direction.index()][kind.index()];
            segments.add_count([kind.label(), direction.label()], count);
        }
    }
    segments.push_to(families);

    let mut skipped = Family::counter(
        "skipped_packets_total",
        "Packets that updated no connection, by reason. contended and table_full are losses of the observer; \
         not_ip, not_tcp and duplicate are normal.",
        ["reason"],
    );
    for &reason in Skip::ALL {
        skipped.add_count([reason.label()], counters.skipped[reason.index()]);
    }
    skipped.push_to(families);
}
