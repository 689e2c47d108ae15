//! How many packets `tcp-observer replay` takes in a second: `cargo bench -p tcp-observer --bench replay`.
//!
//! Each round runs every program once over the same capture, so that what else the machine does meets all of them.
//! Time is the processor's, user and system; the clock on the wall is shown beside it. Of all rounds the median counts.

mod traffic;

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::Parser;

use traffic::Traffic;

/// Measures `tcp-observer replay --summary`
#[derive(Parser)]
struct Arguments {
    /// Another build of the program, to be compared with this one (repeatable)
    #[arg(long, value_name = "PROGRAM")]
    against: Vec<PathBuf>,
    /// Captures to read instead of made ones; how many packets they hold is counted
    #[arg(long, value_name = "FILE", num_args = 1..)]
    capture: Vec<PathBuf>,
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    #[arg(long, default_value_t = 4_000_000)]
    packets: u64,
    #[arg(long, default_value_t = 3_000)]
    alive: usize,
    /// Segments between a handshake and its connection's end, on average
    #[arg(long, default_value_t = 24)]
    exchanged: u64,
    /// How much is kept of each packet; all headers fit into the default
    #[arg(long, default_value_t = 96)]
    snap_bytes: usize,
    /// Write the capture there and measure nothing
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// What `cargo bench` says
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy)]
struct Spent {
    cpu: Duration,
    wall: Duration,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let Arguments { packets, alive, exchanged, snap_bytes, .. } = arguments;
    let traffic = Traffic { packets, alive, exchanged, snap_bytes };
    if let Some(path) = &arguments.write {
        return write(&traffic, path);
    }
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("replay-bench.pcap");
    let captures = if arguments.capture.is_empty() {
        write(&traffic, &made)?;
        vec![made.clone()]
    } else {
        arguments.capture
    };
    let ours = PathBuf::from(env!("CARGO_BIN_EXE_tcp-observer"));
    let programs: Vec<_> = [ours].into_iter().chain(arguments.against).collect();
    let packets = count(&programs[0], &captures)?;
    let mut spent = vec![Vec::new(); programs.len()];
    for _ in 0..arguments.rounds {
        for (program, spent) in programs.iter().zip(&mut spent) {
            spent.push(run(program, &captures)?);
        }
    }
    println!("{packets} packets, {} rounds", arguments.rounds);
    let mut ours = None;
    for (program, spent) in programs.iter().zip(&spent) {
        let cpu = median(spent, |spent| spent.cpu);
        let wall = median(spent, |spent| spent.wall);
        let rate = |spent: Duration| packets as f64 / spent.as_secs_f64() / 1e6;
        let ratio = cpu.as_secs_f64() / ours.get_or_insert(cpu).as_secs_f64();
        println!(
            "{:.2} M/s of processor time, {:.2} M/s by the clock, {:.1} ns a packet, {ratio:.3} of ours: {}",
            rate(cpu),
            rate(wall),
            cpu.as_nanos() as f64 / packets as f64,
            program.display()
        );
    }
    let _ = std::fs::remove_file(made);
    Ok(())
}

fn write(traffic: &Traffic, path: &Path) -> anyhow::Result<()> {
    let cannot = || format!("cannot write `{}`", path.display());
    let mut out = BufWriter::new(File::create(path).with_context(cannot)?);
    traffic::write(traffic, &mut out).with_context(cannot)?;
    out.flush().with_context(cannot)
}

fn command(program: &Path, captures: &[PathBuf]) -> Command {
    let mut command = Command::new(program);
    command.arg("replay").args(captures).args(["--summary", "-o", "json"]).stderr(Stdio::null());
    command
}

/// How many packets the captures hold, as the program itself counts them.
fn count(program: &Path, captures: &[PathBuf]) -> anyhow::Result<u64> {
    let inputs: Vec<_> = captures.iter().cloned().map(tcp_observer::replay::Input::File).collect();
    let progress = tcp_observer::replay::Progress::hidden();
    let outcome = tcp_observer::replay::stream(&inputs, &Default::default(), progress, |_| Ok(()))?;
    let counters = &outcome.totals.counters;
    let packets = counters.segments.iter().flatten().chain(&counters.skipped).chain(&counters.unreachable).sum();
    if packets == 0 {
        bail!("`{}` finds no packets", program.display());
    }
    Ok(packets)
}

fn run(program: &Path, captures: &[PathBuf]) -> anyhow::Result<Spent> {
    let (cpu, started) = (children(), Instant::now());
    let status = command(program, captures).stdout(Stdio::null()).status();
    let wall = started.elapsed();
    let status = status.with_context(|| format!("cannot start `{}`", program.display()))?;
    // What is wrong with a capture makes it fail, after all that could be read.
    if status.code().is_none() {
        bail!("`{}` ended by {status}", program.display());
    }
    Ok(Spent { cpu: children() - cpu, wall })
}

/// What all processes have used that were waited for.
fn children() -> Duration {
    // SAFETY: all zeros is a value of this structure, which the call then fills.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage);
        usage
    };
    [usage.ru_utime, usage.ru_stime]
        .iter()
        .map(|time| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1_000))
        .sum()
}

fn median(spent: &[Spent], of: impl Fn(&Spent) -> Duration) -> Duration {
    let mut times: Vec<_> = spent.iter().map(of).collect();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
