//! `tcp-observer`: parses the command line, carries the command out, and ends with the exit code that says how it went.

mod replaying;
mod stdout;
mod verifying;

use std::{
    env,
    io::{self, Write},
    mem::ManuallyDrop,
    process::ExitCode,
};

use clap::Parser as _;
use tcp_observer::{
    agent,
    cli::{self, Cli, Command, DetachArgs, DumpArgs, RunArgs, SummaryArgs},
    exit,
    kernel::{Mapped, PinnedMaps, leftover},
    output::summary,
    source::Source as _,
};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run(args),
        Command::Dump(args) => dump(args),
        Command::Summary(args) => summarize(&args),
        Command::Replay(args) => replaying::replay(args),
        Command::Verify(args) => verifying::verify(&args),
        Command::Detach(args) => detach(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            exit::code(&error)
        }
    }
}

fn complain(error: &anyhow::Error) {
    // Not eprintln!: that panics where stderr is closed.
    let _ = writeln!(io::stderr(), "tcp-observer: {error:#}");
}

fn run(args: RunArgs) -> anyhow::Result<()> {
    log_to_stderr(args.log_level.clone());
    agent::run(&args.into())
}

fn dump(args: DumpArgs) -> anyhow::Result<()> {
    // A million records need not be taken apart one by one when all of this is about to end.
    let snapshot = ManuallyDrop::new(PinnedMaps::open(&args.pins.pin_dir, Mapped::OnDemand)?.snapshot()?);
    stdout::show_flows(&snapshot, &args.select.into(), args.output)
}

fn summarize(args: &SummaryArgs) -> anyhow::Result<()> {
    let mut tally = summary::Tally::default();
    let maps = PinnedMaps::open(&args.pins.pin_dir, Mapped::OnDemand)?;
    let snapshot = maps.show(|flow, now_unix_ns, sockets| tally.add(&flow, now_unix_ns, sockets))?;
    stdout::show(|out| summary::write_tally(&tally, &snapshot, args.output, out))
}

fn detach(args: &DetachArgs) -> anyhow::Result<()> {
    log_to_stderr(None);
    let removed = leftover::detach(&args.pins.pin_dir)?;
    let remark = if removed.is_nothing() {
        "nothing was left to remove".to_owned()
    } else {
        format!("removed {} pins and {} attachments", removed.pins, removed.attachments)
    };
    stdout::show(|out| writeln!(out, "{remark}"))
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
