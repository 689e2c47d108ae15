//! What `verify` has found: both views of each end that differs, and the counts that stand behind it.

mod json;
mod text;

use std::{
    collections::{HashMap, HashSet},
    io::{self, Write},
};

use crate::{
    kernel::{
        processes::{self, Process},
        sockets::TimerKind,
    },
    verify::{Difference, Report},
};

/// How the comparison is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns, what they mean, and the counts.
    #[default]
    Table,
    /// One JSON object for each end that differs, and one with the counts.
    Json,
}

/// What of a report is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Also the ends whose disagreement is excepted.
    pub excepted: bool,
    /// At most so many ends.
    pub limit: Option<usize>,
}

/// A report with what else is known of its sockets.
pub struct View<'a> {
    report: &'a Report,
    shown: Vec<&'a Difference>,
    processes: HashMap<u32, Process>,
}

impl<'a> View<'a> {
    /// Asks whose the sockets are that will be shown.
    pub fn new(report: &'a Report, shown: Shown) -> Self {
        let mut view = Self::without_processes(report, shown);
        let sockets = view.shown.iter().filter_map(|difference| difference.socket());
        let inodes: HashSet<u32> = sockets.map(|socket| socket.inode).filter(|&inode| inode != 0).collect();
        if !inodes.is_empty() {
            view.processes = processes::of_sockets(&inodes);
        }
        view
    }

    fn without_processes(report: &'a Report, shown: Shown) -> Self {
        let excepted = report.excepted.iter().filter(|_| shown.excepted);
        let mut differences: Vec<_> = report.differing.iter().chain(excepted).collect();
        // The unexpected ones first.
        differences.sort_by_key(|one| (one.exception.map(|it| it.index()), one.kind(), one.local, one.remote));
        differences.truncate(shown.limit.unwrap_or(usize::MAX));
        Self { report, shown: differences, processes: HashMap::new() }
    }

    fn process_of(&self, difference: &Difference) -> Option<&Process> {
        self.processes.get(&difference.socket()?.inode)
    }

    /// # Errors
    /// When `out` takes no more.
    pub fn write(&self, format: Format, out: &mut impl Write) -> io::Result<()> {
        match format {
            Format::Table => text::write(self, out),
            Format::Json => json::write(self, out),
        }
    }
}

fn timer_word(kind: TimerKind) -> &'static str {
    match kind {
        TimerKind::Retransmit => "retransmit",
        TimerKind::KeepAlive => "keepalive",
        TimerKind::TimeWait => "time_wait",
        TimerKind::Probe => "probe",
    }
}

#[cfg(test)]
mod tests;
