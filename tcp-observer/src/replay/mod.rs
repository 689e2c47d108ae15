//! The same analysis of captures: files go in, flow records come out as flows end, and no privilege is needed.
//!
//! ```text
//!   capture ──► packet ──► link ──► wire (core) ──► observe (core) ──► tables
//!      │          └ its time drives the sweep ────────────────────────►  │ finished
//!      └ fault                                                           ▼
//!                                                                      sink
//! ```
//!
//! The state machine, the limits and the sweep are the core's own; this module stands where the kernel stands live.
//! Differences: tables have no bound, the clock is the capture's, VLAN tags belong to a flow's identity, and a flow
//! that leaves its table is handed over as a finished record, so that every flow of the capture is shown. Inputs are
//! read once, front to back and one after the other, as if they were one capture; memory grows with the flows that are
//! alive at a time and not with the capture.

mod capture;
mod fault;
mod finished;
pub mod follow;
mod host;
mod input;
mod link;
mod pcapng;
mod progress;
mod schedule;
pub mod steps;
mod table;
mod timestamp;

use std::{io, path::Path, rc::Rc};

use ipnet::IpNet;

use self::{capture::Capture, follow::Event, host::Replayer};
pub use self::{
    fault::{Fault, Problem},
    finished::Finished,
    input::Input,
    progress::Progress,
};
use crate::{
    snapshot::{Snapshot, Totals},
    source::Source,
};

/// How captures are to be read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which addresses are local. None: nobody knows, and records leave `local` and `role` open.
    pub local: Vec<IpNet>,
}

/// What is left to say when all flows have been handed over.
#[derive(Debug)]
pub struct Outcome {
    /// The time of the last packet, in nanoseconds since the Unix epoch.
    pub taken_unix_ns: u64,
    pub totals: Totals,
    /// How many inputs were captures.
    pub captures: usize,
    /// Why the flows do not tell all that is in the inputs: a [`Fault`] for each that could be read in part, or why
    /// one could not be read at all.
    pub faults: Vec<anyhow::Error>,
}

/// Reads captures to their ends, or to where they cannot be read any further, one after the other as one. `sink` is
/// given each flow when it has ended, and at last those that have not, in the order of their first packets.
///
/// # Errors
/// When `sink` takes no more.
pub fn stream(
    inputs: &[Input],
    options: &Options,
    progress: Progress,
    mut sink: impl FnMut(Finished) -> io::Result<()>,
) -> io::Result<Outcome> {
    let mut replayer = Replayer::new(options.local.clone());
    let read = read_all(inputs, progress, &mut replayer, |replayer| replayer.hand_over(&mut sink))?;
    finish(read, replayer, &mut sink)
}

/// Reads captures likewise. `sink` is given what happens to flows, when it happens.
///
/// # Errors
/// When `sink` takes no more.
pub fn follow(
    inputs: &[Input],
    options: &Options,
    progress: Progress,
    mut sink: impl FnMut(Event) -> io::Result<()>,
) -> io::Result<Outcome> {
    let mut replayer = Replayer::following(options.local.clone());
    let read = read_all(inputs, progress, &mut replayer, |replayer| replayer.hand_over_events(&mut sink))?;
    finish(read, replayer, &mut |_| Ok(()))
}

/// How many inputs were captures, and why they do not tell all.
struct Read {
    captures: usize,
    faults: Vec<anyhow::Error>,
}

fn read_all(
    inputs: &[Input],
    progress: Progress,
    replayer: &mut Replayer,
    mut hand_over: impl FnMut(&Replayer) -> io::Result<()>,
) -> io::Result<Read> {
    // Gone with this function: its bar must be, before anything else is written.
    let progress = Rc::new(progress);
    let (mut captures, mut faults) = (0, Vec::new());
    for input in inputs {
        let capture = match Capture::open(input, &progress) {
            Ok(capture) => capture,
            Err(error) => {
                faults.push(error);
                continue;
            }
        };
        captures += 1;
        let problems = capture.read(|packet| {
            replayer.take(packet);
            hand_over(replayer)
        })?;
        if !problems.is_empty() {
            faults.push(Fault { input: input.clone(), problems }.into());
        }
    }
    Ok(Read { captures, faults })
}

fn finish(
    Read { captures, faults }: Read,
    replayer: Replayer,
    sink: &mut impl FnMut(Finished) -> io::Result<()>,
) -> io::Result<Outcome> {
    let (taken_unix_ns, totals) = replayer.end(sink)?;
    Ok(Outcome { taken_unix_ns, totals, captures, faults })
}

impl Outcome {
    /// The snapshot of these flows, in the order of their first packets.
    pub fn snapshot(self, mut flows: Vec<Finished>) -> Snapshot {
        flows.sort_by_cached_key(Finished::order);
        Snapshot {
            taken_unix_ns: self.taken_unix_ns,
            flows: flows.into_iter().map(|finished| finished.record).collect(),
            totals: self.totals,
            tables: Vec::new(),
            sockets: None,
        }
    }
}

/// What a capture says, all at once.
#[derive(Debug)]
pub struct Replay {
    snapshot: Snapshot,
    /// Why the snapshot does not tell all that is in the file.
    pub fault: Option<Fault>,
}

/// Reads a capture to its end, or to where it cannot be read any further, and keeps all of it.
///
/// # Errors
/// When the file cannot be opened or is no capture at all.
pub fn read(path: &Path, options: &Options) -> anyhow::Result<Replay> {
    let mut flows = Vec::new();
    let keep = |finished| {
        flows.push(finished);
        Ok(())
    };
    let mut outcome = stream(&[Input::File(path.to_owned())], options, Progress::hidden(), keep)?;
    let fault = outcome.faults.pop().map(anyhow::Error::downcast).transpose()?;
    Ok(Replay { snapshot: outcome.snapshot(flows), fault })
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
