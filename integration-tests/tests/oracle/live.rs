//! The agent's records, dumped again and again: a flow that is over is shown for five seconds more.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use integration_tests::{agent::Agent, run, ss};
use serde_json::Value;

/// How often, at most.
const EVERY: Duration = Duration::from_millis(1_500);

/// What one dump may take.
const LIMIT: Duration = Duration::from_secs(60);
/// What is over is shown for five seconds at least: dumps further apart may miss it.
const TOO_SELDOM: Duration = Duration::from_millis(4_500);

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

    /// Both ends, whoever is the originator.
    pub fn tuple(&self) -> [SocketAddr; 2] {
        [self.originator.min(self.responder), self.originator.max(self.responder)]
    }
}

/// How far the dumping is.
#[derive(Default)]
pub struct Dumps {
    begun: AtomicU64,
    done: AtomicU64,
    stop: AtomicBool,
    too_seldom: AtomicBool,
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

    /// Whether the agent could not be asked often enough for want of CPU time.
    pub fn came_too_seldom(&self) -> bool {
        self.too_seldom.load(Ordering::SeqCst)
    }

    /// Dumps until it is stopped, and once more: each flow's last record.
    pub fn collect(&self, agent: &Agent<'_>) -> BTreeMap<Id, Value> {
        // Read when all is over, so that reading takes no time from asking.
        let mut dumps = Vec::new();
        let mut last = Instant::now();
        loop {
            let stopping = self.stop.load(Ordering::SeqCst);
            let begun = Instant::now();
            self.begun.fetch_add(1, Ordering::SeqCst);
            let finished = run::finish_within(LIMIT, &mut agent.prepared("dump", &["-o", "json"]));
            assert!(finished.code == Some(0), "dump failed: {}\n{}", finished.stderr, agent.stderr());
            dumps.push(finished.stdout);
            self.done.fetch_add(1, Ordering::SeqCst);
            if last.elapsed() > TOO_SELDOM {
                self.too_seldom.store(true, Ordering::SeqCst);
            }
            last = begun;
            if stopping {
                break;
            }
            while begun.elapsed() < EVERY && !self.stop.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(20));
            }
        }
        let record =
            |line| -> Value { serde_json::from_str(line).unwrap_or_else(|e| panic!("not JSON ({e}): {line}")) };
        dumps.iter().flat_map(|dump| dump.lines()).map(record).map(|record| (Id::of(&record), record)).collect()
    }
}
