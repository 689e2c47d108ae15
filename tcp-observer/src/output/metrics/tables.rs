//! How full the tables of flows are, and what had to leave them.

use prometheus::proto::MetricFamily;
use tcp_observer_common::counters::{Eviction, TableKind};

use super::{View, family::Family};

pub(super) fn collect(view: &View<'_>, families: &mut Vec<MetricFamily>) {
    let mut entries =
        Family::gauge("table_entries", "Flows in a table, those that ended seconds ago included.", ["table"]);
    let mut capacity = Family::gauge(
        "table_capacity",
        "Flows that a table can hold; when it is full, new ones are counted as skipped packets (table_full).",
        ["table"],
    );
    for usage in &view.overview.tables {
        entries.add_count([usage.table.label()], usage.entries);
        capacity.add_count([usage.table.label()], usage.capacity);
    }
    entries.push_to(families);
    capacity.push_to(families);

    let mut evictions = Family::counter(
        "evictions_total",
        "Flows that left a table, by reason: most because they are over.",
        ["table", "reason"],
    );
    for &table in TableKind::ALL {
        for &reason in Eviction::ALL {
            let count = view.overview.totals.counters.evictions[table.index()][reason.index()];
            evictions.add_count([table.label(), reason.label()], count);
        }
    }
    evictions.push_to(families);
}
