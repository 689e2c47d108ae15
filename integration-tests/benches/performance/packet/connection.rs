//! Whole connections: so many of them, step by step, each step as one test run. What their packets cost is added up.

use integration_tests::{
    pair::Family,
    synthetic::{
        Hook, Lane, Order,
        flows::{self, WHOLE},
    },
};

use super::{
    apart,
    case::{self, Three},
    side::Side,
};
use crate::figure::Figure;

/// Connections of a round; those of all rounds have to fit beside the established ones.
const TOGETHER: u32 = 5_000;
/// And of those whose packets come after other work.
const APART: u32 = 50;

pub struct Connections {
    ingress: Hook,
    family: Family,
    flows: u32,
    steps: Vec<(Vec<u8>, Three<Lane>)>,
    rounds: Vec<[f64; 2]>,
    apart: Vec<[f64; 2]>,
    begun: u32,
}

impl Connections {
    pub fn new(side: &Side<'_>, family: Family, flows: u32) -> Self {
        let ingress = side.subject.ingress;
        let steps = flows::connection(family, WHOLE).into_iter().map(|(direction, frame)| {
            let hook = if direction == ingress.direction() { ingress } else { Hook::TcEgress };
            (frame.bytes(), case::behind(hook, family, Order::Sequential, &side.programs(hook)))
        });
        Self { ingress, family, flows, steps: steps.collect(), rounds: Vec::new(), apart: Vec::new(), begun: 0 }
    }

    pub fn round(&mut self) {
        let together = self.step_by_step(TOGETHER, |lane, frame| lane.run(frame, TOGETHER));
        self.rounds.push(together);
        let apart = self.step_by_step(APART, |lane, frame| apart::run(lane, frame, APART));
        self.apart.push(apart);
    }

    /// What all packets of so many further connections take above the empty program: the reference, and ours.
    fn step_by_step(&mut self, connections: u32, run: impl Fn(&Lane, &[u8]) -> f64) -> [f64; 2] {
        let mut sum = [0.0, 0.0];
        for (frame, lanes) in &mut self.steps {
            for lane in [&mut lanes.empty, &mut lanes.reference, &mut lanes.ours] {
                lane.seek(self.begun.into());
            }
            let took = lanes.map(|lane| run(lane, frame));
            sum[0] += took.reference - took.empty;
            sum[1] += took.ours - took.empty;
        }
        self.begun += connections;
        sum
    }

    pub fn ingress(&self) -> Hook {
        self.ingress
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.begun.into()
    }

    /// All packets of a connection together, and for each: the ratio is that of all.
    pub fn figures(&self) -> [Figure; 4] {
        let packets = self.steps.len() as f64;
        let figure =
            |name: &str, rounds: &[[f64; 2]]| case::figure(name, self.ingress, self.family, self.flows, rounds);
        let each = |name, rounds: &[[f64; 2]]| {
            let each: Vec<_> = rounds.iter().map(|round| round.map(|sum| sum / packets)).collect();
            Figure { reference: None, ..figure(name, &each) }
        };
        [
            figure("a whole connection", &self.rounds),
            each("a packet of a whole connection", &self.rounds),
            figure("a whole connection, after other work", &self.apart),
            each("a packet of a whole connection, after other work", &self.apart),
        ]
    }
}
