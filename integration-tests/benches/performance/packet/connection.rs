//! Whole connections: so many of them, step by step, each step as one test run. What their packets cost is added up.

use integration_tests::{
    pair::Family,
    synthetic::{
        Hook, Lane, Order,
        flows::{self, WHOLE},
    },
};

use super::{
    case::{self, Three},
    side::Side,
};
use crate::figure::Figure;

/// Connections of a round; those of all rounds have to fit beside the established ones.
const TOGETHER: u32 = 5_000;

pub struct Connections {
    ingress: Hook,
    family: Family,
    flows: u32,
    steps: Vec<(Vec<u8>, Three<Lane>)>,
    rounds: Vec<[f64; 2]>,
    begun: u32,
}

impl Connections {
    pub fn new(side: &Side<'_>, family: Family, flows: u32) -> Self {
        let ingress = side.subject.ingress;
        let steps = flows::connection(family, WHOLE).into_iter().map(|(direction, frame)| {
            let hook = if direction == ingress.direction() { ingress } else { Hook::TcEgress };
            (frame.bytes(), case::behind(hook, family, Order::Sequential, &side.programs(hook)))
        });
        Self { ingress, family, flows, steps: steps.collect(), rounds: Vec::new(), begun: 0 }
    }

    pub fn round(&mut self) {
        let mut sum = [0.0, 0.0];
        for (frame, lanes) in &mut self.steps {
            for lane in [&mut lanes.empty, &mut lanes.reference, &mut lanes.ours] {
                lane.seek(self.begun.into());
            }
            let took = lanes.map(|lane| lane.run(frame, TOGETHER));
            sum[0] += took.reference - took.empty;
            sum[1] += took.ours - took.empty;
        }
        self.begun += TOGETHER;
        self.rounds.push(sum);
    }

    pub fn ingress(&self) -> Hook {
        self.ingress
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.begun.into()
    }

    /// All packets of a connection together, and for each: the ratio is that of all.
    pub fn figures(&self) -> [Figure; 2] {
        let packets = self.steps.len() as f64;
        let each: Vec<_> = self.rounds.iter().map(|round| round.map(|sum| sum / packets)).collect();
        let figure = |name, rounds: &[[f64; 2]]| case::figure(name, self.ingress, self.family, self.flows, rounds);
        let each = figure("a packet of a whole connection", &each);
        [figure("a whole connection", &self.rounds), Figure { reference: None, ..each }]
    }
}
