//! The same analysis of a capture: a file goes in, a [`Snapshot`] comes out, and no privilege is needed.
//!
//! ```text
//!   capture ──► packet ──► link ──► wire (core) ──► observe (core) ──► tables
//!      │          └ its time drives the sweep ────────────────────────►  │ finished
//!      └ fault                                                           ▼
//!                                                                     Snapshot
//! ```
//!
//! The state machine, the limits and the sweep are the core's own; this module stands where the kernel stands live.
//! Differences: tables have no bound, the clock is the capture's, VLAN tags belong to a flow's identity, and a flow
//! that leaves its table is kept as a finished record, so that every flow of the capture is shown. The file is read
//! once, front to back; memory grows with the flows and not with the file.

mod capture;
mod fault;
mod host;
mod link;
mod pcapng;
mod schedule;
mod table;
mod timestamp;

use std::path::Path;

use ipnet::IpNet;

pub use self::fault::{Fault, Problem};
use self::{capture::Capture, host::Replayer};
use crate::{snapshot::Snapshot, source::Source};

/// How a capture is to be read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which addresses are local. None: nobody knows, and records leave `local` and `role` open.
    pub local: Vec<IpNet>,
}

/// What a capture says.
#[derive(Debug)]
pub struct Replay {
    snapshot: Snapshot,
    /// Why the snapshot does not tell all that is in the file.
    pub fault: Option<Fault>,
}

/// Reads a capture to its end, or to where it cannot be read any further.
///
/// # Errors
/// When the file cannot be opened or is no capture at all.
pub fn read(path: &Path, options: &Options) -> anyhow::Result<Replay> {
    let capture = Capture::open(path)?;
    let mut replayer = Replayer::new(options.local.clone());
    let problems = capture.read(|packet| replayer.take(packet));
    let fault = (!problems.is_empty()).then(|| Fault { path: path.to_owned(), problems });
    Ok(Replay { snapshot: replayer.snapshot(), fault })
}

impl Replay {
    /// The snapshot without a copy of it.
    pub fn into_snapshot(self) -> Snapshot {
        self.snapshot
    }
}

impl Source for Replay {
    fn snapshot(&self) -> anyhow::Result<Snapshot> {
        Ok(self.snapshot.clone())
    }
}
