//! How many frames of a flood arrive, beside an empty program, in rounds that alternate.

use std::time::Instant;

use integration_tests::{
    cpu, interface,
    pair::{Pair, WIRE},
    synthetic::{Flood, Hook, Kind},
};

use super::{CPU, PART, Size};
use crate::{
    effort::{self, Effort},
    empty::Empty,
    figure::{Figure, Unit},
    progress,
};

pub fn measure((kind, hook): (Kind, Hook), pairs: [&Pair; 2], floods: &[Flood<'_>; 2], size: &Size) -> Vec<Figure> {
    let _empty = Empty::attach(pairs[1], hook);
    let [mut rates, mut of_cpu] = [const { [Vec::new(), Vec::new()] }; 2];
    let Size { rounds, frames, .. } = *size;
    for round in 0..rounds {
        progress::show(&format!("{} at {}, round {} of {rounds}", kind.name(), hook.program(), round + 1));
        for one in [0, 1] {
            let arrival = send(pairs[one], &floods[one], frames);
            rates[one].push(arrival.count / arrival.effort.time.as_secs_f64());
            of_cpu[one].push(arrival.count / arrival.effort.cpu.as_secs_f64());
        }
    }
    progress::done();
    let figure = |what, [ours, empty]: [Vec<f64>; 2]| {
        let name = format!("{} that arrive{what}, {}", kind.name(), hook.program());
        Figure::of(PART, name, Unit::PerSecond, ours).beside("empty", empty)
    };
    vec![figure("", rates), figure(" in a second of CPU", of_cpu)]
}

/// What came of a round.
struct Arrival {
    count: f64,
    /// Of sending and receiving.
    effort: Effort,
}

/// Sends so many frames, and counts those that arrive.
fn send(pair: &Pair, flood: &Flood<'_>, frames: u32) -> Arrival {
    let received = interface::received(&pair.server, WIRE);
    let softirq = effort::softirq_thread(CPU);
    let effort = flood.within(|send| {
        cpu::stay_on(CPU);
        let cpu_time = || effort::cpu_of_this_thread() + effort::cpu_of(softirq);
        let (begun, cpu) = (Instant::now(), cpu_time());
        send(frames);
        Effort { time: begun.elapsed(), cpu: cpu_time() - cpu }
    });
    Arrival { count: (interface::received(&pair.server, WIRE) - received) as f64, effort }
}
