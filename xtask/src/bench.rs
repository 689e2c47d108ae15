//! `cargo xtask bench`: builds, and runs the benchmark (`integration-tests/benches/performance`) as root.
//!
//! docs/performance.md says what it measures. What `cargo xtask test` runs of it is its short form, whose ratios to
//! references of the same run are held against recorded ones.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::{
    process,
    test::{self, Outcome},
    workspace::Workspace,
};

#[derive(Args)]
pub struct Options {
    /// Only this part (repeatable). Default: all, or with --short what a packet costs
    #[arg(long, value_name = "PART")]
    only: Vec<Part>,
    /// Less of everything; fails where a packet's ratio to the reference is above twice the recorded one, five times in a
    /// row
    #[arg(long)]
    short: bool,
    /// Measure this `tcp-observer` instead of the one that is built
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// Write this run's ratios down as the recorded ones, instead of comparing them
    #[arg(long, requires = "short")]
    record: bool,
    /// Write all figures, round by round, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write charts as SVG
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// What a packet costs in each program
    Packet,
    /// Floods of live frames, and what becomes of everything else meanwhile
    Flood,
    /// A great many connections in TIME_WAIT
    TimeWait,
    /// From a thousand flows to millions, and from one CPU to two
    Growth,
    /// Connections and bulk between two namespaces, with the agent and without
    EndToEnd,
    /// Snapshots, dumps and scrapes, and the agent at rest
    Userspace,
    /// Reading a large capture
    Replay,
}

impl Part {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

impl Options {
    fn arguments(&self) -> Vec<OsString> {
        let Self { only, short, agent: _, record, json, plots } = self;
        let mut arguments: Vec<_> = only.iter().flat_map(|part| ["--only".into(), part.name().into()]).collect();
        arguments.extend(short.then(|| "--short".into()));
        arguments.extend(record.then(|| "--record".into()));
        for (flag, path) in [("--json", json), ("--plots", plots)] {
            arguments.extend(path.iter().flat_map(|path| [flag.into(), absolute(path).into_os_string()]));
        }
        arguments
    }
}

/// Cargo runs a benchmark in the directory of its package.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The benchmark, with its output as it comes.
///
/// # Errors
/// When something cannot be built, or a ratio is too bad.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut command = command(workspace, "release");
    test::prepare(workspace, &mut command)?;
    if let Some(agent) = &options.agent {
        command.env("TCP_OBSERVER_BIN", absolute(agent));
    }
    process::run(command.arg("--").args(options.arguments()))
}

/// The short form as a step of `cargo xtask test`.
pub fn outcome(workspace: &Workspace) -> Outcome {
    // In the profile of the tests, whose dependencies are built by now: what is measured is built in release anyway.
    let mut command = command(workspace, "dev");
    match test::prepare(workspace, &mut command) {
        Ok(()) => test::run_tests(command.args(["--", "--short"])),
        Err(error) => Err(error).into(),
    }
}

fn command(workspace: &Workspace, profile: &str) -> Command {
    let mut command = process::cargo();
    command.args(["bench", "--profile", profile, "--package", "integration-tests", "--bench", "performance"]);
    // A scrape of a million flows may take longer than any test has patience for.
    command.current_dir(workspace.root()).env("TCP_OBSERVER_PATIENCE", "5");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_handed_on() {
        let options = Options {
            only: vec![Part::EndToEnd, Part::Replay],
            short: true,
            agent: None,
            record: false,
            json: Some("/a/figures.json".into()),
            plots: None,
        };
        let words = ["--only", "end-to-end", "--only", "replay", "--short", "--json", "/a/figures.json"];
        assert_eq!(options.arguments(), words);
    }
}
