//! `tcp-observer`: parses the command line, carries the command out, and ends with the exit code that says how it went.

use std::{
    env,
    io::{self, BufWriter, IsTerminal as _, Write},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Parser as _;
use tcp_observer::{
    agent,
    cli::{self, Cli, Command, DetachArgs, DumpArgs, ReplayArgs, RunArgs, SummaryArgs},
    exit,
    kernel::{PinnedMaps, leftover},
    output::{self, summary},
    replay,
    selection::Selection,
    snapshot::Snapshot,
    source::Source as _,
};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run(args),
        Command::Dump(args) => dump(args),
        Command::Summary(args) => summarize(&args),
        Command::Replay(args) => replay(args),
        Command::Detach(args) => detach(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not eprintln!: that panics where stderr is closed.
            let _ = writeln!(io::stderr(), "tcp-observer: {error:#}");
            exit::code(&error)
        }
    }
}

fn run(args: RunArgs) -> anyhow::Result<()> {
    log_to_stderr(args.log_level.clone());
    agent::run(&args.into())
}

fn dump(args: DumpArgs) -> anyhow::Result<()> {
    let snapshot = PinnedMaps::open(&args.pins.pin_dir)?.snapshot()?;
    show_flows(&snapshot, &args.select.into(), args.output)
}

fn summarize(args: &SummaryArgs) -> anyhow::Result<()> {
    let snapshot = PinnedMaps::open(&args.pins.pin_dir)?.snapshot()?;
    show_summary(&snapshot, args.output)
}

fn replay(args: ReplayArgs) -> anyhow::Result<()> {
    let summary_format = args.summary_format()?;
    let mut replay = replay::read(&args.file, &(&args).into())?;
    let fault = replay.fault.take();
    let snapshot = replay.into_snapshot();
    match summary_format {
        Some(format) => show_summary(&snapshot, format)?,
        None => show_flows(&snapshot, &args.select.into(), args.output)?,
    }
    // Last, so that it is read after what could be analysed nevertheless.
    fault.map_or(Ok(()), |fault| Err(fault.into()))
}

fn detach(args: &DetachArgs) -> anyhow::Result<()> {
    log_to_stderr(None);
    let removed = leftover::detach(&args.pins.pin_dir)?;
    let remark = if removed.is_nothing() {
        "nothing was left to remove".to_owned()
    } else {
        format!("removed {} pins and {} attachments", removed.pins, removed.attachments)
    };
    written(writeln!(io::stdout(), "{remark}"))
}

fn show_flows(snapshot: &Snapshot, selection: &Selection, format: output::Format) -> anyhow::Result<()> {
    let flows = selection.of(snapshot);
    let stdout = io::stdout().lock();
    let bold_header = stdout.is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut out = BufWriter::with_capacity(64 * 1024, stdout);
    let result = output::write_flows(&flows, snapshot.taken_unix_ns, format, bold_header, &mut out);
    written(result.and_then(|()| out.flush()))?;
    if flows.is_empty() {
        let remark = if snapshot.flows.is_empty() { "no flow is known" } else { "no flow matches" };
        let _ = writeln!(io::stderr(), "tcp-observer: {remark}");
    }
    Ok(())
}

fn show_summary(snapshot: &Snapshot, format: summary::Format) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let result = summary::write(snapshot, format, &mut out);
    written(result.and_then(|()| out.flush()))
}

/// What became of the output. Whoever reads it may have seen enough: `tcp-observer dump | head` is no failure.
fn written(result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot write to stdout"),
        _ => Ok(()),
    }
}

/// Logs to stderr: what `--log-level` says, else `$RUST_LOG`, else info.
fn log_to_stderr(level: Option<Targets>) {
    let variable = env::var_os("RUST_LOG").filter(|value| !value.is_empty() && level.is_none());
    let variable = variable.map(|value| value.to_string_lossy().into_owned());
    let from_variable = variable.as_deref().map(cli::log_targets);
    let info = Targets::new().with_default(tracing::Level::INFO);
    let targets = level.or_else(|| from_variable.clone()?.ok()).unwrap_or(info);
    let format = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false).with_target(false);
    tracing_subscriber::registry().with(targets).with(format).init();
    if let (Some(value), Some(Err(problem))) = (variable, from_variable) {
        tracing::warn!("RUST_LOG is `{value}`: {problem}; logging info and above");
    }
}
