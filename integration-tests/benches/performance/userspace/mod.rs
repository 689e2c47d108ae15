//! What it costs to ask: the agent's own commands and pages with so many flows in its tables, put there as frames; what
//! the kernel's own tools take for as many sockets and tracked connections, as far as there is room; and what the agent
//! takes when nobody asks.

mod process;
mod sockets;

use std::time::{Duration, Instant};

use integration_tests::{
    metrics::Metrics,
    pair::{Family, Pair},
    synthetic::{Hook, Subject, flows},
};

use crate::{
    arguments::Arguments,
    effort::{self, Effort},
    figure::{Figure, Unit},
    progress,
};

pub const PART: &str = "userspace";
/// What is asked, and how long the agent says that reading takes.
pub const ASKED: [&str; 3] = ["scrape of /metrics", "dump -o json", "summary"];
pub const SNAPSHOT: &str = "snapshot in the agent";
/// Flows, and the table that they have room in: the agent's default where that is enough.
const SIZES: [(u32, u32); 3] = [(1_000, 262_144), (100_000, 262_144), (1_000_000, 1_500_000)];
const MAX_HALF_OPEN: u32 = 65_536;
/// How many flows the agent has while it is watched at rest.
const BUSY: u32 = 100_000;

pub fn measure(arguments: &Arguments) -> Vec<Figure> {
    let (rounds, at_rest) = if arguments.short { (5, 10) } else { (7, 30) };
    let mut figures = Vec::new();
    let sizes = SIZES.into_iter().filter(|(flows, _)| !arguments.short || *flows <= BUSY);
    for (flows, max_flows) in sizes.clone() {
        let pair = Pair::new();
        let subject = Subject::start(&pair.server, Hook::TcIngress, max_flows, MAX_HALF_OPEN);
        if flows == BUSY {
            figures.extend(process::at_rest(&subject, 0, Duration::from_secs(at_rest)));
        }
        flows::establish(&subject, Family::V4, flows::ESTABLISHED, flows);
        if flows == BUSY {
            figures.extend(process::at_rest(&subject, flows, Duration::from_secs(at_rest)));
        }
        progress::show(&format!("userspace: {flows} flows"));
        figures.extend(asked(&subject, flows, rounds));
    }
    let counts: Vec<_> = sizes.map(|(flows, _)| flows).collect();
    figures.extend(sockets::measure(&counts, rounds));
    progress::done();
    figures
}

/// The commands and the page, in turns.
pub fn asked(subject: &Subject<'_>, flows: u32, rounds: usize) -> Vec<Figure> {
    let [mut dump, mut summary, mut scrape] = [const { Vec::new() }; 3];
    let mut snapshot = Vec::new();
    for _ in 0..rounds {
        dump.push(command(subject, "dump", &["-o", "json"]));
        summary.push(command(subject, "summary", &[]));
        let (begun, cpu) = (Instant::now(), effort::cpu_of(subject.agent.pid()));
        let text = subject.agent.metrics_text();
        scrape.push(Effort { time: begun.elapsed(), cpu: effort::cpu_of(subject.agent.pid()) - cpu });
        let took = Metrics::parse(&text).sum("snapshot_duration_seconds", &[]);
        snapshot.push(took.expect("the agent says how long it took") * 1e3);
    }
    let figure = |name: String, rounds| Figure::of(PART, name, Unit::Milliseconds, rounds).with_flows(flows.into());
    let mut figures = vec![figure(SNAPSHOT.to_owned(), snapshot)];
    for (name, efforts) in ASKED.into_iter().zip([scrape, dump.clone(), summary]) {
        figures.push(figure(name.to_owned(), efforts.iter().map(|effort| milliseconds(effort.time)).collect()));
        figures.push(figure(cpu_of(name), efforts.iter().map(|effort| milliseconds(effort.cpu)).collect()));
    }
    let each = dump.iter().map(|effort| effort.cpu.as_secs_f64() * 1e6 / f64::from(flows)).collect();
    let each = Figure::of(PART, "dump -o json, CPU for each flow", Unit::Microseconds, each);
    figures.push(each.with_flows(flows.into()));
    figures
}

/// What the CPU's share of an answer is called.
pub fn cpu_of(name: &str) -> String {
    format!("{name}, CPU")
}

/// A command whose output nobody reads, its start included.
fn command(subject: &Subject<'_>, name: &str, arguments: &[&str]) -> Effort {
    effort::of_command(&mut subject.agent.prepared(name, arguments)).expect("the command starts")
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
