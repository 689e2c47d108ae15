//! The Prometheus exposition: an overview in, text format 0.0.4 out.
//!
//! One file per group of families. They are built anew from each overview and encoded at once, with no registry in
//! between: the kernel does the counting, and a scrape that fails must be able to say so. The only thing kept from
//! scrape to scrape is which ports have series of their own ([`named_ports`]).
//!
//! The exposition stays under 2,000 series whatever happens: no label's values are open-ended. No address and no
//! ephemeral port is ever a label.

mod agreement;
mod closes;
mod connections;
mod family;
mod handshakes;
mod named_ports;
mod observer;
mod packets;
mod recognised;
mod sockets;
mod tables;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use prometheus::{TextEncoder, proto::MetricFamily};

pub use self::agreement::SocketCheck;
use self::named_ports::NamedPorts;
use crate::{
    snapshot::Overview,
    source::Source,
    version::{BUILD, Build},
};

/// What the text that [`Exporter::render`] writes is, for the `Content-Type` header.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the agent knows of itself that no snapshot says.
pub trait AgentStatus {
    /// What each kernel program has cost; empty while the kernel does not keep such statistics.
    fn programs(&self) -> Vec<ProgramUsage>;
    /// What is attached where.
    fn attachments(&self) -> Vec<Attachment>;
    /// What the last comparison with the kernel's sockets has found; `None` where there was none.
    fn socket_check(&self) -> Option<SocketCheck>;
}

/// What one kernel program has cost, over all CPUs.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgramUsage {
    pub name: String,
    pub run_seconds: f64,
    pub runs: u64,
}

/// One kernel program on one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub interface: String,
    /// The program's name: `xdp_ingress`, `tc_ingress`, `tc_egress`, …
    pub hook: &'static str,
    /// `native` or `generic` XDP; `tcx` or `clsact`.
    pub mode: &'static str,
}

/// Turns what a source says into the text of `/metrics`.
pub struct Exporter {
    source: Arc<dyn Source + Send + Sync>,
    status: Arc<dyn AgentStatus + Send + Sync>,
    ports: Mutex<NamedPorts>,
}

/// All that the families of one scrape are filled from.
struct View<'a> {
    overview: &'a Overview,
    ports: &'a NamedPorts,
    programs: Vec<ProgramUsage>,
    attachments: Vec<Attachment>,
    socket_check: Option<SocketCheck>,
    build: Build,
    snapshot_took: Duration,
}

impl Exporter {
    pub fn new(source: Arc<dyn Source + Send + Sync>, status: Arc<dyn AgentStatus + Send + Sync>) -> Self {
        Self { source, status, ports: Mutex::default() }
    }

    /// The whole exposition as it stands now. Blocks while the tables are read; one scrape at a time.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub fn render(&self) -> anyhow::Result<String> {
        // Held from before the reading, so that pairs are named in the order in which totals are read.
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        let started = Instant::now();
        let overview = self.source.overview().context("cannot read the tables")?;
        let snapshot_took = started.elapsed();
        ports.learn(&overview.totals);
        let view = View {
            overview: &overview,
            ports: &ports,
            programs: self.status.programs(),
            attachments: self.status.attachments(),
            socket_check: self.status.socket_check(),
            build: BUILD,
            snapshot_took,
        };
        exposition(&view, || started.elapsed())
    }

    /// What is attached where.
    pub fn attachments(&self) -> Vec<Attachment> {
        self.status.attachments()
    }
}

/// The text of one scrape; `elapsed` is the time since it began.
fn exposition(view: &View<'_>, elapsed: impl FnOnce() -> Duration) -> anyhow::Result<String> {
    let encoder = TextEncoder::new();
    let mut text = String::with_capacity(256 * 1024);
    encoder.encode_utf8(&families(view), &mut text).context("cannot write the metrics")?;
    encoder.encode_utf8(&[observer::scrape_duration(elapsed())], &mut text).context("cannot write the metrics")?;
    Ok(text)
}

fn families(view: &View<'_>) -> Vec<MetricFamily> {
    let mut families = Vec::new();
    connections::collect(view, &mut families);
    handshakes::collect(view, &mut families);
    closes::collect(view, &mut families);
    recognised::collect(view, &mut families);
    sockets::collect(view, &mut families);
    agreement::collect(view, &mut families);
    packets::collect(view, &mut families);
    tables::collect(view, &mut families);
    observer::collect(view, &mut families);
    families
}

#[cfg(test)]
mod tests;
