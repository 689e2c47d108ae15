//! Looks at observer and kernel every few seconds while the load goes on: a row of a table each time, and differences
//! that last. While packets fly the two cannot be the same; what differs three times in a row is no race.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use integration_tests::{
    agent::Agent,
    pinned,
    process::Held,
    ss::{self, Socket},
};
use tcp_observer_common::counters::Skip;

use crate::{load::Clock, stage::Stage};

const EVERY: Duration = Duration::from_secs(5);
/// The first look and each this many later has `verify` look as well.
const VERIFIED: usize = 4;
/// Looks in a row in which a difference is still one of the moment.
const MOMENTS: u32 = 2;
/// The kernel's timer of TIME_WAIT takes up to two seconds longer than the observer's 60 s, its last look one more.
const END_OF_TIME_WAIT_SECONDS: u64 = 4;

/// The columns of states, and what they are called.
const STATES: [(&str, &str); 10] = [
    ("syn_sent", "syn-s"),
    ("syn_received", "syn-r"),
    ("established", "estab"),
    ("fin_wait_1", "fin1"),
    ("fin_wait_2", "fin2"),
    ("close_wait", "close-w"),
    ("closing", "closing"),
    ("last_ack", "last"),
    ("time_wait", "time-wait"),
    ("all", "all"),
];

/// Both views of the host's endpoints at about the same moment.
pub struct Views {
    pub observer: BTreeSet<Socket>,
    pub kernel: BTreeSet<Socket>,
    /// Flows in the dump, those without a local socket included.
    pub flows: usize,
    pub half_open: usize,
}

impl Views {
    /// The observer is asked between two looks at the kernel; what the kernel says only once is left out of both.
    /// So is TIME_WAIT about to end.
    pub fn take(stage: &Stage, agent: &Agent<'_>) -> Self {
        let before = ss::sockets(&stage.host);
        let (mut observer, flows, half_open) = observed(agent);
        let (mut kernel, ending) = ss::sockets_and_those_about_to_end(&stage.host, END_OF_TIME_WAIT_SECONDS);
        let moved: BTreeSet<_> = before.symmetric_difference(&kernel).chain(&ending).map(ends).collect();
        for view in [&mut observer, &mut kernel] {
            view.retain(|socket| !moved.contains(&ends(socket)));
        }
        Self { observer, kernel, flows, half_open }
    }

    fn count(&self, state: &str) -> [usize; 2] {
        [&self.observer, &self.kernel].map(|view| view.iter().filter(|s| state == "all" || s.state == state).count())
    }
}

fn ends(socket: &Socket) -> (std::net::SocketAddr, std::net::SocketAddr) {
    (socket.local, socket.peer)
}

/// The local endpoints in `dump`, how many flows it shows, and how many of them are half open. CSV, since there are
/// thousands.
fn observed(agent: &Agent<'_>) -> (BTreeSet<Socket>, usize, usize) {
    let finished = agent.command("dump", &["-o", "csv"]);
    assert!(finished.code == Some(0), "dump failed: {:?} {}", finished.code, finished.stderr);
    let mut lines = finished.stdout.lines();
    let names: Vec<&str> = lines.next().expect("CSV begins with the names").split(',').collect();
    let place = |name: &str| names.iter().position(|&n| n == name).unwrap_or_else(|| panic!("no column `{name}`"));
    let ends = ["originator", "responder"]
        .map(|end| ["addr", "port", "state", "local"].map(|of| place(&format!("{end}_{of}"))));
    let phase = place("phase");
    let (mut endpoints, mut flows, mut half_open) = (BTreeSet::new(), 0, 0);
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        let addr = |[ip, port, ..]: [usize; 4]| {
            (fields[ip].parse::<std::net::IpAddr>().expect("an address"), fields[port].parse().expect("a port")).into()
        };
        flows += 1;
        half_open += usize::from(fields[phase] == "half_open");
        for (this, that) in [(ends[0], ends[1]), (ends[1], ends[0])] {
            if let (Some(state), "true") = (ss::state_named(fields[this[2]]), fields[this[3]]) {
                endpoints.insert(Socket { local: addr(this), peer: addr(that), state });
            }
        }
    }
    (endpoints, flows, half_open)
}

/// What is kept of a look.
#[derive(Clone, Debug)]
pub struct Row {
    pub at: Duration,
    pub flows: usize,
    pub held: Held,
}

/// What has been seen so far.
pub struct Watch {
    began: Instant,
    /// How many looks in a row a socket is only in the observer's view (true), or only in the kernel's.
    differing: BTreeMap<(Socket, bool), u32>,
    /// Differences that lasted, as they were found.
    pub lasting: BTreeSet<String>,
    pub rows: Vec<Row>,
}

impl Watch {
    pub fn new() -> Self {
        let title: Vec<_> = STATES.iter().map(|(_, title)| format!("{title:>9}")).collect();
        println!("observer/ss of the host's endpoints; KiB, descriptors, threads and processor share of the agent");
        println!(
            "{:>5} {} {:>6} {:>6} {:>6} {:>4} {:>4} {:>5}  entries; skipped",
            "s",
            title.join(" "),
            "flows",
            "half",
            "KiB",
            "fds",
            "thr",
            "cpu%"
        );
        Self { began: Instant::now(), differing: BTreeMap::new(), lasting: BTreeSet::new(), rows: Vec::new() }
    }

    /// Looks until the clock has run down.
    pub fn until(&mut self, clock: Clock, stage: &Stage, agent: &Agent<'_>) {
        while clock.left().is_some() {
            self.look(stage, agent);
            clock.pause(EVERY);
        }
    }

    pub fn look(&mut self, stage: &Stage, agent: &Agent<'_>) {
        let views = Views::take(stage, agent);
        let held = Held::by(agent.pid());
        let at = self.began.elapsed();
        self.print(at, &views, &held, agent);
        if self.rows.len().is_multiple_of(VERIFIED) {
            self.verify(at, agent);
        }
        self.rows.push(Row { at, flows: views.flows, held });
        let only_observer = views.observer.difference(&views.kernel).map(|socket| (socket.clone(), true));
        let only_kernel = views.kernel.difference(&views.observer).map(|socket| (socket.clone(), false));
        let mut differing = BTreeMap::new();
        for difference in only_observer.chain(only_kernel) {
            let looks = self.differing.get(&difference).copied().unwrap_or(0) + 1;
            if looks == MOMENTS + 1 {
                let (socket, is_observers) = &difference;
                let whose = if *is_observers { "observer" } else { "kernel" };
                let flows: Vec<_> = agent.flows_of_port(socket.peer.port()).iter().map(brief).collect();
                let line = format!("at {:.0} s only the {whose} has {socket}; dump: {flows:?}", at.as_secs_f64());
                println!("{line}");
                self.lasting.insert(line);
            }
            differing.insert(difference, looks);
        }
        self.differing = differing;
    }

    /// The user's own tool finds no difference either, whatever is going on.
    fn verify(&mut self, at: Duration, agent: &Agent<'_>) {
        let finished = agent.command("verify", &[]);
        if finished.code != Some(0) {
            let line = format!("at {:.0} s verify says {finished:?}", at.as_secs_f64());
            println!("{line}");
            self.lasting.insert(line);
        }
    }

    fn print(&self, at: Duration, views: &Views, held: &Held, agent: &Agent<'_>) {
        let states: Vec<_> = STATES
            .iter()
            .map(|(state, _)| {
                let [observer, kernel] = views.count(state);
                format!("{:>9}", format!("{observer}/{kernel}"))
            })
            .collect();
        let (at_before, ticks_before) =
            self.rows.last().map_or((at, held.cpu_ticks), |row| (row.at, row.held.cpu_ticks));
        let cpu = (held.cpu_ticks - ticks_before) as f64 / (at - at_before).as_secs_f64().max(0.01);
        let skipped = pinned::counters(agent).skipped;
        let skipped: Vec<_> = Skip::ALL
            .iter()
            .map(|skip| (skip.label(), skipped[skip.index()]))
            .filter(|(_, count)| *count > 0)
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        println!(
            "{:>5.0} {} {:>6} {:>6} {:>6} {:>4} {:>4} {:>5.1}  {:?}; {}",
            at.as_secs_f64(),
            states.join(" "),
            views.flows,
            views.half_open,
            held.anonymous_kib,
            held.descriptors,
            held.threads,
            cpu,
            entries(agent),
            skipped.join(", "),
        );
    }
}

/// A record in a line.
fn brief(record: &serde_json::Value) -> String {
    let end = |end: &str| {
        let end = &record[end];
        format!("{}:{} {} (local: {})", end["addr"], end["port"], end["state"], end["local"])
    };
    let [originator, responder] = ["originator", "responder"].map(end);
    let of = |field: &str| record[field].to_string();
    format!(
        "{originator} → {responder} {} {} {} last seen {} {}",
        of("role"),
        of("phase"),
        of("history"),
        of("last_seen"),
        of("notes")
    )
    .replace('"', "")
}

/// Entries of the four tables, those that linger included.
pub fn entries(agent: &Agent<'_>) -> Vec<u64> {
    let finished = agent.command("summary", &["-o", "json"]);
    let summary: serde_json::Value = serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|error| panic!("summary: {error}: {} {}", finished.stdout, finished.stderr));
    let tables = summary["tables"].as_array().expect("the summary lists its tables");
    tables.iter().map(|table| table["entries"].as_u64().expect("entries are counted")).collect()
}
