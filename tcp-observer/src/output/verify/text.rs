//! A table of the ends, what each kind of difference means, and the counts in sentences.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use super::{View, timer_word};
use crate::{
    kernel::processes::Process,
    output::human::{Ago, Count},
    verify::{Difference, Exception, Kind},
};

const TITLES: [&str; 13] = [
    "DIFFERENCE",
    "LOCAL",
    "REMOTE",
    "SOCKET",
    "FLOW",
    "PHASE",
    "AGE",
    "IN STATE",
    "IDLE",
    "QUEUES",
    "TIMER",
    "HISTORY",
    "PROCESS",
];

pub(super) fn write(view: &View<'_>, out: &mut impl Write) -> io::Result<()> {
    if !view.shown.is_empty() {
        table(view, out)?;
        writeln!(out)?;
        reasons(view, out)?;
    }
    counts(view, out)
}

fn table(view: &View<'_>, out: &mut impl Write) -> io::Result<()> {
    let rows: Vec<_> = view.shown.iter().map(|one| row(one, view.process_of(one))).collect();
    let mut widths = TITLES.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let titles = TITLES.map(str::to_owned);
    for row in [&titles].into_iter().chain(&rows) {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

fn row(difference: &Difference, process: Option<&Process>) -> [String; 13] {
    let known = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let (socket, flow) = (difference.socket(), difference.flow());
    let since = |unix_ns: u64| Ago(difference.seen_unix_ns.saturating_sub(unix_ns)).to_string();
    let timer = socket.and_then(|socket| socket.timer);
    let word = match difference.exception {
        Some(exception) => format!("({})", exception.label()),
        None => difference.kind().label().to_owned(),
    };
    [
        word,
        difference.local.to_string(),
        difference.remote.to_string(),
        known(socket.map(|socket| socket.state.label().to_owned())),
        known(difference.state().map(|state| state.label().to_owned())),
        known(flow.map(|flow| flow.phase.label().to_owned())),
        known(flow.map(|flow| since(flow.first_seen_unix_ns))),
        known(flow.map(|flow| since(flow.changed_unix_ns))),
        known(flow.map(|flow| since(flow.last_seen_unix_ns))),
        known(socket.map(|socket| format!("{}/{}", socket.receive_queue, socket.send_queue))),
        known(
            timer.map(|timer| format!("{} {}", timer_word(timer.kind), Ago(u64::from(timer.expires_ms) * 1_000_000))),
        ),
        known(flow.map(|flow| flow.history.to_string()).filter(|history| !history.is_empty())),
        known(process.map(|process| format!("{} ({})", process.name, process.pid))),
    ]
}

/// What is said of the ends shown, each sentence once.
fn reasons(view: &View<'_>, out: &mut impl Write) -> io::Result<()> {
    let unexpected = view.shown.iter().filter(|one| one.exception.is_none());
    let sentences: BTreeSet<_> = unexpected.map(|one| one.likely_reason()).collect();
    for sentence in &sentences {
        writeln!(out, "{sentence}")?;
    }
    if sentences.is_empty() { Ok(()) } else { writeln!(out) }
}

fn counts(view: &View<'_>, out: &mut impl Write) -> io::Result<()> {
    let report = view.report;
    let kinds = Kind::ALL.map(|kind| format!("{} {}", Count(report.differing_in(kind)), kind.label()));
    writeln!(
        out,
        "{} sockets compared in {} {}: {} agree, {} excepted, {} passing; {} changed meanwhile and were not compared",
        Count(report.compared),
        report.tries,
        if report.tries == 1 { "try" } else { "tries" },
        Count(report.agreed),
        Count(report.excepted.len() as u64),
        Count(report.passing),
        Count(report.changed),
    )?;
    for &exception in Exception::ALL.iter().filter(|&&exception| report.excepted_by(exception) > 0) {
        let count = Count(report.excepted_by(exception));
        writeln!(out, "  excepted: {count} {}: {}", exception.label(), exception.explanation())?;
    }
    writeln!(out, "differing: {}", kinds.join(", "))
}
