//! The command line as it is typed. What it means is decided elsewhere: a command's arguments turn into the options
//! of what carries it out, and every flag is in one place.

mod replay;
mod select;
mod verify;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::filter::{LevelFilter, Targets};

pub use self::{replay::ReplayArgs, select::SelectArgs, verify::VerifyArgs};
use crate::{
    agent::{self, Ingress},
    output::{self, summary},
    version,
};

/// Where the agent pins its maps unless told otherwise.
const PIN_DIR: &str = "/sys/fs/bpf/tcp-observer";

/// Watches TCP connections from inside the kernel: handshakes, half-open connections, TIME_WAIT, who closes first.
#[derive(Debug, Parser)]
#[command(
    name = "tcp-observer",
    version = version::LONG,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no agent is running or not enough privilege, \
                  4 verify found differences."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "one value for the whole process")]
pub enum Command {
    /// Run the agent: attach to interfaces, keep the tables, serve metrics
    Run(RunArgs),
    /// Show the flows that the running agent knows
    Dump(DumpArgs),
    /// Show counts, handshake times and outcomes of the running agent
    Summary(SummaryArgs),
    /// Show the flows of captures (pcap or pcapng); needs no agent and no privilege
    Replay(ReplayArgs),
    /// Compare the running agent's local states with the kernel's own sockets, and show what differs
    Verify(VerifyArgs),
    /// Remove what a stopped agent left attached and pinned
    Detach(DetachArgs),
}

#[derive(Args, Debug)]
pub struct RunArgs {
    /// Interface to observe, or a glob such as 'eth*'; repeats. Default: those with a default route, else all that
    /// are up except lo
    #[arg(short, long = "interface", value_name = "NAME")]
    interfaces: Vec<String>,

    /// Which hook sees incoming packets
    #[arg(long, value_enum, default_value_t)]
    ingress: Ingress,

    /// Flows that are tracked at a time, for each of IPv4 and IPv6
    #[arg(long, value_name = "N", default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(1..))]
    max_flows: u32,

    /// Half-open and unconfirmed flows that are tracked at a time, for each of IPv4 and IPv6
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..))]
    max_half_open: u32,

    /// Address and port for /metrics and /healthz
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9477")]
    listen: SocketAddr,

    /// Responder port that has metrics of its own whatever else happens; repeats, up to 8
    #[arg(long = "port", value_name = "PORT", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    ports: Vec<u16>,

    /// How long other hosts keep TIME_WAIT: an estimate, such as 60s or 2m
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    remote_time_wait: Duration,

    /// How often the agent compares itself with the kernel's sockets: a duration, or off. Less often where that would
    /// take more than half a percent of a CPU
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = period)]
    self_check: Period,

    #[command(flatten)]
    pins: PinArgs,

    /// What is logged to stderr: error, warn, info, debug, trace; or per module, such as
    /// 'info,tcp_observer::agent=debug'. Default: $RUST_LOG, else info
    #[arg(long, value_name = "LEVEL", value_parser = log_targets)]
    pub log_level: Option<Targets>,
}

#[derive(Args, Debug)]
pub struct DumpArgs {
    /// How flows are written
    #[arg(short, long, value_enum, default_value_t)]
    pub output: output::Format,

    #[command(flatten)]
    pub pins: PinArgs,

    // Last, since its heading holds for what follows.
    #[command(flatten)]
    pub select: SelectArgs,
}

#[derive(Args, Debug)]
pub struct SummaryArgs {
    /// How the summary is written
    #[arg(short, long, value_enum, default_value_t)]
    pub output: summary::Format,

    #[command(flatten)]
    pub pins: PinArgs,
}

#[derive(Args, Debug)]
pub struct DetachArgs {
    #[command(flatten)]
    pub pins: PinArgs,
}

#[derive(Args, Debug)]
pub struct PinArgs {
    /// Where on a bpffs the agent's maps are pinned
    #[arg(long, value_name = "DIR", default_value = PIN_DIR)]
    pub pin_dir: PathBuf,
}

impl From<RunArgs> for agent::Options {
    fn from(args: RunArgs) -> Self {
        Self {
            interfaces: args.interfaces,
            ingress: args.ingress,
            max_flows: args.max_flows,
            max_half_open: args.max_half_open,
            pin_dir: args.pins.pin_dir,
            listen: args.listen,
            ports: args.ports,
            remote_time_wait: args.remote_time_wait,
            self_check: args.self_check.0,
        }
    }
}

/// How often, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Period(Option<Duration>);

fn period(text: &str) -> Result<Period, String> {
    match text {
        "off" => Ok(Period(None)),
        _ => match humantime::parse_duration(text) {
            Ok(duration) if !duration.is_zero() => Ok(Period(Some(duration))),
            Ok(_) => Err("a time that is no time; `off` for never".to_owned()),
            Err(error) => Err(error.to_string()),
        },
    }
}

/// What is to be logged. A word that is no level is taken for a module by the parser below us, and would silence
/// everything else: refused.
pub fn log_targets(text: &str) -> Result<Targets, String> {
    let is_level = |part: &str| !part.is_empty() && part.parse::<LevelFilter>().is_ok();
    let is_sound = |part: &str| part.contains('=') || is_level(part.trim());
    match text.parse::<Targets>() {
        Ok(targets) if text.split(',').all(is_sound) => Ok(targets),
        _ => Err("not a level (error, warn, info, debug, trace) and not a list such as 'info,module=debug'".to_owned()),
    }
}

#[cfg(test)]
mod tests;
