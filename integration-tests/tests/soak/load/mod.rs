//! Everything that happens to the host at the same time, at rates that two cores cope with beside other work.

pub mod acts;
mod guest;
mod noise;
mod programs;
mod server;

use std::{
    collections::BTreeMap,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use integration_tests::agent::Agent;

use crate::stage::Stage;

/// Until when load is begun. What has begun comes to its end, within seconds.
#[derive(Clone, Copy)]
pub struct Clock {
    until: Instant,
}

impl Clock {
    pub fn lasting(duration: Duration) -> Self {
        Self { until: Instant::now() + duration }
    }

    /// What is left; `None` when nothing is.
    pub fn left(self) -> Option<Duration> {
        self.until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    /// Sleeps, but not longer than load goes on.
    pub fn pause(self, duration: Duration) {
        thread::sleep(self.left().unwrap_or_default().min(duration));
    }
}

/// What was done, and what went otherwise than it should: by name, how often and how the first time.
#[derive(Default)]
pub struct Ledger {
    done: Mutex<BTreeMap<String, u64>>,
    failed: Mutex<BTreeMap<String, (u64, String)>>,
}

impl Ledger {
    pub fn note<T>(&self, what: &str, result: Result<T, String>) {
        match result {
            Ok(_) => *self.done.lock().unwrap().entry(what.to_owned()).or_default() += 1,
            Err(how) => self.failed.lock().unwrap().entry(what.to_owned()).or_insert((0, how)).0 += 1,
        }
    }

    pub fn done(&self) -> BTreeMap<String, u64> {
        self.done.lock().unwrap().clone()
    }

    /// How often those things were done whose names fit.
    pub fn sum(&self, fits: impl Fn(&str) -> bool) -> u64 {
        self.done().iter().filter(|(name, _)| fits(name)).map(|(_, count)| count).sum()
    }

    /// Each kind of load was there, and almost all of it went as it should.
    #[track_caller]
    pub fn assert_all_done(&self) {
        let (done, failed) = (self.done(), self.failed());
        let all: u64 = done.values().sum();
        let wrong: u64 = failed.values().map(|(count, _)| count).sum();
        assert!(wrong * 100 <= all, "{wrong} of {all} went wrong: {failed:#?}");
        let never: Vec<_> = failed.keys().filter(|&name| !done.contains_key(name)).collect();
        assert!(never.is_empty(), "never done as it should be: {never:?}\n{failed:#?}");
    }

    pub fn failed(&self) -> BTreeMap<String, (u64, String)> {
        self.failed.lock().unwrap().clone()
    }
}

/// Puts all of it on the stage until the clock has run down, and lets `meanwhile` watch.
pub fn run(stage: &Stage, agent: &Agent<'_>, clock: Clock, ledger: &Ledger, meanwhile: impl FnOnce()) {
    let folder = programs::Folder::new();
    let nginx = programs::nginx(&stage.host, &folder);
    let iperf3 = programs::iperf3_server(&stage.client);
    let servers = server::Servers::listen(stage);
    thread::scope(|scope| {
        let (folder, servers) = (&folder, &servers);
        scope.spawn(move || servers.serve(clock));
        for worker in acts::workers(stage) {
            scope.spawn(move || worker.work(clock, ledger));
        }
        for program in programs::all(stage, folder) {
            scope.spawn(move || program.repeat(clock, ledger));
        }
        scope.spawn(move || guest::come_and_go(stage, agent, clock, ledger));
        scope.spawn(move || noise::make(stage, clock, ledger));
        meanwhile();
    });
    drop((nginx, iperf3));
}
