//! The agent's records, dumped again and again: a flow that is over is shown for five seconds more.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use integration_tests::{agent::Agent, ss};
use serde_json::Value;

/// How often, at most.
const EVERY: Duration = Duration::from_millis(1_500);

/// A flow: both ends, and the number of the originator's SYN, where it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    pub originator: SocketAddr,
    pub responder: SocketAddr,
    pub isn: Option<u64>,
}

impl Id {
    pub fn of(record: &Value) -> Self {
        Self {
            originator: ss::addr(&record["originator"]),
            responder: ss::addr(&record["responder"]),
            isn: record["originator"]["isn"].as_u64(),
        }
    }

    /// Whether both are of one tuple.
    pub fn is_of(&self, other: &Self) -> bool {
        let ends = |id: &Self| [id.originator.min(id.responder), id.originator.max(id.responder)];
        ends(self) == ends(other)
    }
}

/// How far the dumping is.
#[derive(Default)]
pub struct Dumps {
    begun: AtomicU64,
    done: AtomicU64,
    stop: AtomicBool,
}

impl Dumps {
    /// Waits for a dump that begins after this.
    pub fn wait_for_next(&self) {
        let next = self.begun.load(Ordering::SeqCst) + 1;
        let begun = Instant::now();
        while self.done.load(Ordering::SeqCst) < next {
            assert!(begun.elapsed() < Duration::from_secs(60), "the agent is not dumped any more");
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Dumps until it is stopped, and once more: each flow's last record.
    pub fn collect(&self, agent: &Agent<'_>) -> BTreeMap<Id, Value> {
        let mut records = BTreeMap::new();
        loop {
            let stopping = self.stop.load(Ordering::SeqCst);
            let begun = Instant::now();
            self.begun.fetch_add(1, Ordering::SeqCst);
            records.extend(agent.dump(&[]).into_iter().map(|record| (Id::of(&record), record)));
            self.done.fetch_add(1, Ordering::SeqCst);
            if stopping {
                return records;
            }
            while begun.elapsed() < EVERY && !self.stop.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}
