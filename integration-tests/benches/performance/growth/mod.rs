//! What grows with the number of flows: what a packet costs, how much memory a flow takes, and how long it takes to ask for
//! all of them; and what a second CPU is worth.

mod cpus;
mod memory;

use integration_tests::{
    cpu,
    pair::{Family, Pair},
    synthetic::Hook,
};

use crate::{
    figure::Figure,
    machine,
    packet::{self, Case, Side, Size},
    progress, userspace,
};

pub const PART: &str = "growth";
const HOOK: Hook = Hook::TcIngress;
/// The agent's default table while that is enough, then one that is two thirds full.
const SIZES: [Size; 5] = [
    Size { rounds: 15, ..Size::new(1_000, 262_144) },
    Size { rounds: 15, ..Size::new(10_000, 262_144) },
    Size { rounds: 15, ..Size::new(100_000, 262_144) },
    Size { rounds: 9, ..Size::new(1_000_000, 1_500_000) },
    Size { rounds: 5, ..Size::new(4_000_000, 6_000_000) },
];

pub fn measure() -> Vec<Figure> {
    let mut figures = Vec::new();
    for size in &SIZES {
        if memory::needed(size) > machine::available_bytes() {
            eprintln!("growth: {} flows left out, for want of memory", size.flows);
            continue;
        }
        figures.extend(of_size(size));
    }
    figures.extend(cpus::measure());
    progress::done();
    figures
}

fn of_size(size: &Size) -> Vec<Figure> {
    progress::show(&format!("growth: {} flows", size.flows));
    let pair = Pair::new();
    let side = Side::start(&pair, HOOK, size);
    side.fill(Family::V4, size);
    let mut figures = memory::of_tables(&side.subject, size);
    // Before there are new flows, which would be asked for as well.
    figures.extend(userspace::asked(&side.subject, size.flows, size.rounds.min(7)));
    side.subject.stand_still();
    cpu::stay_on(0);
    let mut cases = [packet::at_random(&side, HOOK, Family::V4, size), packet::new_flows(&side, Family::V4, size)];
    for round in 0..size.rounds {
        progress::show(&format!("growth: {} flows, round {} of {}", size.flows, round + 1, size.rounds));
        cases.iter_mut().for_each(Case::round);
    }
    side.subject.go_on();
    cpu::stay_anywhere();
    side.check(&[Family::V4]);
    figures.splice(0..0, cases.iter().map(Case::figure));
    figures.into_iter().map(|figure| Figure { part: PART, ..figure }).collect()
}
