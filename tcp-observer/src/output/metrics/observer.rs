//! The observer about itself: what is attached, what it costs, what was built.

use std::{collections::BTreeMap, time::Duration};

use prometheus::proto::MetricFamily;

use super::{View, family::Family};

/// How many attachments are named. Past that they are summed by hook and mode, since a host may have any number of
/// interfaces and the exposition may not.
pub(super) const NAMED_ATTACHMENTS: usize = 16;

pub(super) fn collect(view: &View<'_>, families: &mut Vec<MetricFamily>) {
    attached(view, families);

    let mut run_seconds = Family::counter(
        "program_run_seconds_total",
        "Time spent in a kernel program, over all CPUs (while kernel.bpf_stats_enabled is set).",
        ["program"],
    );
    let mut runs = Family::counter(
        "program_runs_total",
        "Runs of a kernel program (while kernel.bpf_stats_enabled is set).",
        ["program"],
    );
    for program in &view.programs {
        run_seconds.add([&program.name], program.run_seconds);
        runs.add_count([&program.name], program.runs);
    }
    run_seconds.push_to(families);
    runs.push_to(families);

    let mut build = Family::gauge(
        "build_info",
        "Always 1; the labels say which version is running and what it was built from.",
        ["version", "commit", "rustc"],
    );
    build.add([view.build.version, view.build.commit, view.build.rustc], 1.0);
    build.push_to(families);

    let mut duration = Family::gauge(
        "snapshot_duration_seconds",
        "How long this scrape took to read the tables out of the kernel.",
        [],
    );
    duration.add([], view.snapshot_took.as_secs_f64());
    duration.push_to(families);
}

/// The one family that can only be known once the others are written.
pub(super) fn scrape_duration(took: Duration) -> MetricFamily {
    let mut families = Vec::with_capacity(1);
    let mut family = Family::gauge(
        "scrape_duration_seconds",
        "How long this scrape took, from reading the tables to the text of all metrics before this one.",
        [],
    );
    family.add([], took.as_secs_f64());
    family.push_to(&mut families);
    families.pop().unwrap_or_default()
}

fn attached(view: &View<'_>, families: &mut Vec<MetricFamily>) {
    let mut family = Family::gauge(
        "attached",
        "Attached kernel programs by interface, hook and mode; past the first 16 they are summed as interface other.",
        ["interface", "hook", "mode"],
    );
    let (named, others) = view.attachments.split_at(view.attachments.len().min(NAMED_ATTACHMENTS));
    for attachment in named {
        family.add([&attachment.interface, attachment.hook, attachment.mode], 1.0);
    }
    let mut sums = BTreeMap::<_, u64>::new();
    for attachment in others {
        *sums.entry((attachment.hook, attachment.mode)).or_default() += 1;
    }
    for ((hook, mode), count) in sums {
        family.add_count(["other", hook, mode], count);
    }
    family.push_to(families);
}
