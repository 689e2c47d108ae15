//! Flows that nothing happens to, while much happens beside them.

use std::{collections::BTreeMap, net::SocketAddr};

use serde_json::Value;

use crate::{agent::Agent, ss};

/// The records of flows by their ends, as text. Their two dates are left out: they are made of the wall clock anew for each
/// dump. How far those are apart stays in (`duration_seconds`).
pub struct Untouched(BTreeMap<[SocketAddr; 2], String>);

impl Untouched {
    /// Those of the established flows of these ports.
    #[track_caller]
    pub fn established(agent: &Agent<'_>, ports: &[u16]) -> Self {
        let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
        let finished = agent.command("dump", &["-o", "json", "--phase", "established", "--port", &ports.join(",")]);
        assert!(finished.code == Some(0), "dump failed: {}", finished.stderr);
        let record = |line| {
            let mut record: Value = serde_json::from_str(line).expect("a record is JSON");
            let ends = ["originator", "responder"].map(|end| ss::addr(&record[end]));
            for date in ["first_seen", "last_seen"] {
                record.as_object_mut().and_then(|record| record.remove(date)).expect("a record has dates");
            }
            (ends, record.to_string())
        };
        Self(finished.stdout.lines().map(record).collect())
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Which of these flows are not there any more.
    pub fn lost(&self, later: &Self) -> Vec<[SocketAddr; 2]> {
        self.0.keys().filter(|ends| !later.0.contains_key(*ends)).copied().collect()
    }

    /// Which have another record, in both versions.
    pub fn changed<'a>(&'a self, later: &'a Self) -> Vec<[&'a str; 2]> {
        let both = self.0.iter().filter_map(|(ends, record)| Some([record, later.0.get(ends)?]));
        both.filter(|[before, after]| before != after).map(|records| records.map(String::as_str)).collect()
    }
}
