//! The agent: puts the kernel programs in place, keeps their tables, serves what they know, and takes everything
//! away again.
//!
//! [`run()`] blocks until SIGINT or SIGTERM. What can fail is tried before anything is attached: the listening socket
//! is bound and the lock taken first, the maps are filled before a packet can reach them, and `LAYOUT`, whose
//! presence tells other processes that there is an agent, is pinned last. Attachments belong to the process, so that
//! even a killed agent leaves none behind where the kernel has links (TCX since 6.6, XDP always).

mod observed;
mod run;
mod self_check;
mod status;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, bail};

use tcp_observer_common::counters::PORT_SLOTS;

use crate::{
    exit::Failure,
    kernel::{load, memory, preflight},
};

/// What `tcp-observer run` was asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names or globs; empty for the interfaces that carry a default route.
    pub interfaces: Vec<String>,
    pub ingress: Ingress,
    /// Entries of the table of settled flows, for each address family.
    pub max_flows: u32,
    /// Entries of the table of half-open flows, likewise.
    pub max_half_open: u32,
    /// Where on a bpffs the maps are pinned for the other commands.
    pub pin_dir: PathBuf,
    /// Where `/metrics` is served.
    pub listen: SocketAddr,
    /// Responder ports that have counters of their own whatever else happens.
    pub ports: Vec<u16>,
    /// How long other hosts keep TIME-WAIT: an estimate.
    pub remote_time_wait: Duration,
    /// How often it compares itself with the kernel's sockets; `None` for never.
    pub self_check: Option<Duration>,
}

/// Which hook sees incoming packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Ingress {
    /// Native XDP where it is the cheap path, else tc.
    #[default]
    Auto,
    /// XDP in the driver, or an error.
    Xdp,
    /// XDP on the generic path: works everywhere, costs more.
    XdpGeneric,
    /// A tc program (TCX, or clsact before Linux 6.6).
    Tc,
}

/// Runs the agent until it is told to stop.
///
/// # Errors
/// When the machine, the interfaces or the options do not allow it; nothing stays attached or pinned then.
pub fn run(options: &Options) -> anyhow::Result<()> {
    if options.ports.len() > PORT_SLOTS {
        return Err(Failure::usage(format!(
            "{} ports with metrics of their own are too many: `--port` takes {PORT_SLOTS} at most",
            options.ports.len()
        )));
    }
    memory::check(options, memory::machine_bytes())?;
    preflight::check()?;
    if !load::is_built() {
        bail!("this binary was built without its kernel programs; build it with `cargo xtask build`");
    }
    preflight::raise_memlock_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(run::run(options))
}
