//! The agent's states held against the socket table while connections come and go: `verify`, again and again.
//!
//! One run of it finds what lasts for five tries over a second and has no reason that docs/semantics.md gives; it ends
//! with code 4 then.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    ops::AddAssign,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use integration_tests::{agent::Agent, run, ss};
use serde_json::Value;

/// Its tries, and the agent's next look at the socket table, which it may wait for.
const LIMIT: Duration = Duration::from_secs(60);
const AGREES: i32 = 0;
const DIFFERS: i32 = 4;

/// What all runs have found.
#[derive(Debug, Default)]
pub struct Verified {
    pub runs: usize,
    /// Sockets compared in the last tries.
    pub compared: u64,
    /// How often ends differed for each reason.
    pub excepted: BTreeMap<String, u64>,
    /// What it has found, by both ends, once for each connection.
    pub wrong: BTreeMap<[SocketAddr; 2], Value>,
}

impl AddAssign for Verified {
    fn add_assign(&mut self, other: Self) {
        self.runs += other.runs;
        self.compared += other.compared;
        for (exception, count) in other.excepted {
            *self.excepted.entry(exception).or_default() += count;
        }
        self.wrong.extend(other.wrong);
    }
}

impl Verified {
    /// What it has found, without the CLOSING and TIME_WAIT of those that held their FINs back, of which nothing but the
    /// socket knows when the flow is forgotten.
    pub fn wrong_but_for(&self, held_back: &BTreeSet<SocketAddr>) -> Vec<String> {
        let is_known = |ends: &[SocketAddr; 2], object: &Value| {
            let is_so = matches!(object["socket"]["state"].as_str(), Some("closing" | "time_wait"));
            is_so && ends.iter().any(|end| held_back.contains(end))
        };
        let wrong = self.wrong.iter().filter(|(ends, object)| !is_known(ends, object));
        wrong.map(|(_, object)| format!("verify: {object}")).collect()
    }

    /// Verifies until it is told to stop, at least once.
    pub fn until(stop: &AtomicBool, agent: &Agent<'_>) -> Self {
        let mut all = Self::default();
        loop {
            all += Self::once(agent);
            if stop.load(Ordering::Relaxed) {
                return all;
            }
        }
    }

    pub fn once(agent: &Agent<'_>) -> Self {
        let finished = run::finish_within(LIMIT, &mut agent.prepared("verify", &["-o", "json"]));
        assert!(matches!(finished.code, Some(AGREES | DIFFERS)), "verify failed: {finished:#?}");
        let mut found = Self { runs: 1, ..Self::default() };
        for line in finished.stdout.lines() {
            let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON ({error}): {line}"));
            match &object["summary"] {
                Value::Null => {
                    found.wrong.insert([ss::addr(&object["local"]), ss::addr(&object["remote"])], object);
                }
                summary => {
                    found.compared = summary["compared"].as_u64().expect("a count");
                    for (exception, count) in summary["excepted"].as_object().into_iter().flatten() {
                        *found.excepted.entry(exception.clone()).or_default() += count.as_u64().expect("a count");
                    }
                }
            }
        }
        assert_eq!(finished.code == Some(AGREES), found.wrong.is_empty(), "{finished:#?}");
        found
    }
}
