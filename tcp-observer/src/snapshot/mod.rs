//! One moment of everything the observer knows. Outputs see only this and cannot tell the kernel from a capture.
//!
//! A source (the running agent's pinned maps, or a replayed capture) makes a [`Snapshot`]; metrics, tables, JSON and
//! the summary are functions of it. Flows are already settled: what silence has ended by the time of the snapshot
//! is shown as ended, whether or not the sweep has come by.

pub mod census;
mod ephemeral;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fixture;
mod record;
mod sockets;
mod standing;
mod story;
mod zeek;

use tcp_observer_common::{
    counters::{Counters, PORT_SLOTS, TableKind},
    histogram::Histogram,
};

use census::Census;
pub use ephemeral::PortsInUse;
pub use record::{Close, Endpoint, FlowRecord, HalfOpen, Handshake, Key, Moment};
pub use sockets::SocketView;
pub use standing::{Ends, Standing, TICKS_NS};
pub use story::{History, Notes, notable};
pub use zeek::ConnState;

/// Everything known at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The moment, in nanoseconds since the Unix epoch (capture time in replay).
    pub taken_unix_ns: u64,
    pub flows: Vec<FlowRecord>,
    pub totals: Totals,
    /// Empty in replay, whose tables have no bound.
    pub tables: Vec<TableUsage>,
    /// `None` in replay, and where the kernel shows no sockets.
    pub sockets: Option<SocketView>,
}

/// The same with its flows counted rather than kept.
#[derive(Clone, Debug)]
pub struct Overview {
    pub census: Census,
    pub totals: Totals,
    pub tables: Vec<TableUsage>,
    pub sockets: Option<SocketView>,
}

impl From<Snapshot> for Overview {
    fn from(snapshot: Snapshot) -> Self {
        let census = Census::of(&snapshot);
        let Snapshot { taken_unix_ns: _, flows: _, totals, tables, sockets } = snapshot;
        Self { census, totals, tables, sockets }
    }
}

/// What has been counted since the agent started, or since the capture's beginning.
#[derive(Clone, Debug)]
pub struct Totals {
    pub counters: Counters,
    /// [`HISTOGRAMS`](tcp_observer_common::histogram::HISTOGRAMS) of them, placed by
    /// [`by_role`](tcp_observer_common::histogram::by_role) and [`by_port`](tcp_observer_common::histogram::by_port).
    pub handshakes: Vec<Histogram>,
    /// The responder ports that have a counter slot of their own.
    pub ports: [Option<u16>; PORT_SLOTS],
}

/// How full one table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableUsage {
    pub table: TableKind,
    pub entries: u64,
    pub capacity: u64,
}
