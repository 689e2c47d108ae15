//! A great many connections in TIME_WAIT: whether all of them are counted, and what they cost the agent. A million made of
//! frames, and as many real sockets as ports, the kernel and a part of their minute allow.

mod sockets;

use std::{
    thread,
    time::{Duration, Instant},
};

use integration_tests::{
    metrics::Metrics,
    pair::{Family, Pair},
    synthetic::{Hook, Subject, flows},
};

use crate::{
    arguments::Arguments,
    effort,
    figure::{Figure, Unit},
    progress,
};

pub const PART: &str = "time-wait";
const MAX_HALF_OPEN: u32 = 65_536;
/// A TIME_WAIT lasts for 60 s, whoever looks; all that is measured has to happen within the first one's.
const LASTS: Duration = Duration::from_secs(55);
/// How long the agent is watched.
const WATCHED: Duration = Duration::from_secs(20);

pub fn measure(arguments: &Arguments) -> Vec<Figure> {
    let (count, rounds) = if arguments.short { (100_000, 5) } else { (1_000_000, 7) };
    let mut figures = synthetic(count, rounds);
    figures.extend(sockets::measure(count.min(100_000), rounds));
    progress::done();
    figures
}

fn synthetic(count: u32, rounds: usize) -> Vec<Figure> {
    progress::show(&format!("TIME_WAIT: {count} flows"));
    let pair = Pair::new();
    let subject = Subject::start(&pair.server, Hook::TcIngress, count / 2 * 3, MAX_HALF_OPEN);
    let begun = Instant::now();
    flows::close(&subject, Family::V4, flows::WHOLE, count);
    let counted = waiting(&subject.agent.metrics());
    let seen = Figure::of(PART, "flows in TIME_WAIT", Unit::Flows, vec![counted]);
    let mut figures = vec![seen.beside("made", vec![count.into()])];
    figures.extend(costs(&subject, begun, "flows in TIME_WAIT", rounds));
    figures.into_iter().map(|figure| figure.with_flows(count.into())).collect()
}

/// What the agent says are in TIME_WAIT, at whichever end.
fn waiting(metrics: &Metrics) -> f64 {
    metrics.count("time_wait_connections", &[]) as f64
}

/// What the agent takes while they are there, and a scrape.
fn costs(subject: &Subject<'_>, begun: Instant, what: &str, rounds: usize) -> Vec<Figure> {
    let watched = WATCHED.min(LASTS.saturating_sub(begun.elapsed()));
    let before = effort::cpu_of(subject.agent.pid());
    thread::sleep(watched);
    let share = (effort::cpu_of(subject.agent.pid()) - before).as_secs_f64() / watched.as_secs_f64() * 100.0;
    let [mut times, mut cpu] = [Vec::new(), Vec::new()];
    while times.len() < rounds && begun.elapsed() < LASTS {
        let (begun, before) = (Instant::now(), effort::cpu_of(subject.agent.pid()));
        subject.agent.metrics_text();
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        cpu.push((effort::cpu_of(subject.agent.pid()) - before).as_secs_f64() * 1e3);
    }
    let figure = |name: &str, unit, rounds| Figure::of(PART, format!("{name}, {what}"), unit, rounds);
    let mut figures = Vec::new();
    if !watched.is_zero() {
        figures.push(figure("agent that nobody asks, CPU", Unit::PercentOfACpu, vec![share]));
    }
    if !times.is_empty() {
        figures.push(figure("scrape of /metrics", Unit::Milliseconds, times));
        figures.push(figure("scrape of /metrics, CPU", Unit::Milliseconds, cpu));
    }
    figures
}
