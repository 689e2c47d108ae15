//! Two CPUs: what a packet costs on one while the other does the same, on flows of its own or on the same flow.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use integration_tests::{
    cpu,
    pair::{Family, Pair},
    synthetic::{
        Lane, Order,
        flows::{self, ESTABLISHED, HOT, TALKING, WHOLE},
    },
};

use super::{HOOK, PART};
use crate::{
    effort,
    figure::{Figure, Unit},
    packet::{Side, Size, Three},
    progress,
};

const SIZE: Size = Size { rounds: 15, hot: true, ..Size::new(50_000, 262_144) };
/// Few enough for a time slice that nobody else gets a part of.
const REPEAT: u32 = 100_000;
/// Of what the other CPU does in one go.
const OTHERS: u32 = 5_000;
/// A round counts when the other CPU was at it for so much of the time.
const BESIDE: f64 = 0.9;
/// How often a round is tried, where somebody else wants the CPUs.
const TRIES: usize = 20;

/// Frames that go through one program after the other.
struct Stream {
    lanes: Three<Lane>,
    frame: Vec<u8>,
}

/// One of them.
type Choose = fn(&Three<Lane>) -> &Lane;

/// What CPU 0 does, and what CPU 1 does meanwhile.
struct Setting {
    name: &'static str,
    measured: Stream,
    beside: Option<Stream>,
    rounds: Vec<[f64; 2]>,
}

pub fn measure() -> Vec<Figure> {
    if thread::available_parallelism().is_ok_and(|cpus| cpus.get() < 2) {
        eprintln!("growth: one CPU alone, left out what two do");
        return Vec::new();
    }
    let pair = Pair::new();
    let side = Side::start(&pair, HOOK, &SIZE);
    side.subject.stand_still();
    side.fill(Family::V4, &SIZE);
    side.put_in(Family::V4, WHOLE, SIZE.flows);
    let one = |port| one_flow(&side, port);
    let many = |port| at_random(&side, port);
    let setting = |name, measured, beside| Setting { name, measured, beside, rounds: Vec::new() };
    let mut settings = [
        setting("ACK of one flow, one CPU", one(HOT), None),
        setting("ACK of one flow, each of two CPUs its own", one(HOT), Some(one(TALKING))),
        setting("ACK of one flow, two CPUs the same", one(HOT), Some(one(HOT))),
        setting("ACK at random, one CPU", many(ESTABLISHED), None),
        setting("ACK at random, each of two CPUs its own", many(ESTABLISHED), Some(many(WHOLE))),
    ];
    cpu::stay_on(0);
    for round in 0..SIZE.rounds {
        progress::show(&format!("growth: two CPUs, round {} of {}", round + 1, SIZE.rounds));
        settings.iter_mut().for_each(Setting::round);
    }
    cpu::stay_anywhere();
    side.subject.go_on();
    side.check(&[Family::V4]);
    settings.iter().filter_map(Setting::figure).collect()
}

/// The same frame over and over.
fn one_flow(side: &Side<'_>, port: u16) -> Stream {
    let frame = flows::as_first(flows::ack(Family::V4, HOOK.direction(), port), HOOK.direction());
    Stream { lanes: side.programs(HOOK).map(Lane::plain), frame: frame.bytes() }
}

fn at_random(side: &Side<'_>, port: u16) -> Stream {
    let what = (HOOK.kind(), Family::V4, HOOK.direction());
    let lane = |program: &_| Lane::behind(what, Order::Random { of: SIZE.flows }, program);
    Stream { lanes: side.programs(HOOK).map(lane), frame: flows::ack(Family::V4, HOOK.direction(), port).bytes() }
}

impl Setting {
    fn round(&mut self) {
        let programs: [Choose; 3] = [|lanes| &lanes.empty, |lanes| &lanes.reference, |lanes| &lanes.ours];
        if let [Some(empty), Some(reference), Some(ours)] = programs.map(|program| self.measured(program)) {
            self.rounds.push([reference - empty, ours - empty]);
        }
    }

    /// Nanoseconds on this CPU; `None` where the other one was hardly ever ours.
    fn measured(&self, choose: Choose) -> Option<f64> {
        let (lane, frame) = (choose(&self.measured.lanes), &self.measured.frame);
        // What was silent for a second takes a longer way once.
        lane.run(frame, REPEAT);
        let Some(beside) = &self.beside else { return Some(lane.run(frame, REPEAT)) };
        let other = choose(&beside.lanes);
        other.run(&beside.frame, REPEAT);
        (0..TRIES).find_map(|_| {
            let (over, begun) = (AtomicBool::new(false), Barrier::new(2));
            thread::scope(|scope| {
                let others = scope.spawn(|| {
                    cpu::stay_on(1);
                    begun.wait();
                    let (since, cpu) = (Instant::now(), effort::cpu_of_this_thread());
                    while !over.load(Ordering::Relaxed) {
                        other.run(&beside.frame, OTHERS);
                    }
                    (effort::cpu_of_this_thread() - cpu, since.elapsed())
                });
                begun.wait();
                // It may have to wake up first.
                thread::sleep(Duration::from_millis(1));
                let took = lane.run(frame, REPEAT);
                over.store(true, Ordering::Relaxed);
                let (cpu, time) = others.join().expect("test runs go on");
                (cpu.as_secs_f64() >= BESIDE * time.as_secs_f64()).then_some(took)
            })
        })
    }

    fn figure(&self) -> Option<Figure> {
        if self.rounds.is_empty() {
            eprintln!("growth: {} left out, since others wanted the second CPU", self.name);
            return None;
        }
        let [reference, ours] = [0, 1].map(|who| self.rounds.iter().map(|round| round[who]).collect());
        Some(Figure::of(PART, self.name, Unit::Nanoseconds, ours).beside("HASH", reference))
    }
}
