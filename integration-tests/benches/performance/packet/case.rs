//! One line of the table: a frame, and who takes it.

use std::os::fd::OwnedFd;

use integration_tests::{
    frames::Frame,
    pair::Family,
    synthetic::{Hook, Lane, Order},
};

use super::apart;
use crate::figure::{Figure, Unit};

/// Who takes the same frames: what is measured of the other two is what they take longer than the first.
pub struct Three<T> {
    pub empty: T,
    pub reference: T,
    pub ours: T,
}

impl<T> Three<T> {
    pub fn map<U>(&self, mut change: impl FnMut(&T) -> U) -> Three<U> {
        Three { empty: change(&self.empty), reference: change(&self.reference), ours: change(&self.ours) }
    }
}

/// What is in the way of measuring the steady state: a flow that was silent for a second takes the longer way once. Flows
/// are shown a frame right before each round, without being measured.
pub enum Warming {
    /// All of them, so many, one after the other.
    All { lanes: Box<Three<Lane>>, flows: u32 },
    /// Where all would take longer than that second: those that the round is about to choose, in the same order, so many
    /// that no cache holds them until they come again.
    Same,
}

pub struct Case {
    pub name: &'static str,
    pub hook: Hook,
    pub family: Family,
    pub flows: u32,
    pub frame: Vec<u8>,
    pub repeat: u32,
    /// Each run by itself, after other work.
    pub apart: bool,
    pub lanes: Three<Lane>,
    pub warming: Option<Warming>,
    /// Where the frame has its sequence number, and by how much that moves with each run.
    pub moving: Option<(usize, u32)>,
    /// Round by round, above the empty program: of the reference, and of ours.
    pub rounds: Vec<[f64; 2]>,
}

impl Case {
    pub fn new(name: &'static str, (hook, family): (Hook, Family), frame: &Frame, lanes: Three<Lane>) -> Self {
        Self {
            name,
            hook,
            family,
            flows: 1,
            frame: frame.bytes(),
            repeat: 0,
            apart: false,
            lanes,
            warming: None,
            moving: None,
            rounds: Vec::new(),
        }
    }

    pub fn round(&mut self) {
        let empty = self.measured(|lanes| &mut lanes.empty);
        let reference = self.measured(|lanes| &mut lanes.reference);
        let ours = self.measured(|lanes| &mut lanes.ours);
        self.rounds.push([reference - empty, ours - empty]);
        if let Some((at, step)) = self.moving {
            let seq: &mut [u8; 4] = (&mut self.frame[at..at + 4]).try_into().expect("four bytes");
            *seq = u32::from_be_bytes(*seq).wrapping_add(self.repeat.wrapping_mul(step)).to_be_bytes();
        }
    }

    /// One of the three, right after what warms its flows.
    fn measured(&mut self, choose: impl Fn(&mut Three<Lane>) -> &mut Lane) -> f64 {
        // A round like no other, and the same for all three.
        let seed = self.rounds.len() as u64 * u64::from(self.repeat) + 1;
        match &mut self.warming {
            None => {}
            Some(Warming::All { lanes, flows }) => {
                let lane = choose(lanes);
                lane.seek(0);
                lane.run(&self.frame, *flows);
            }
            Some(Warming::Same) => {
                let lane = choose(&mut self.lanes);
                lane.seek(seed);
                lane.run(&self.frame, self.repeat);
                lane.seek(seed);
            }
        }
        let lane = choose(&mut self.lanes);
        if self.apart { apart::run(lane, &self.frame, self.repeat) } else { lane.run(&self.frame, self.repeat) }
    }

    pub fn figure(&self) -> Figure {
        figure(self.name, self.hook, self.family, self.flows, &self.rounds)
    }
}

pub fn figure(name: &str, hook: Hook, family: Family, flows: u32, rounds: &[[f64; 2]]) -> Figure {
    let name = format!("{name}, {} {}", hook.program(), label(family));
    let [reference, ours] = [0, 1].map(|who| rounds.iter().map(|round| round[who]).collect());
    Figure::of(super::PART, name, Unit::Nanoseconds, ours).beside("HASH", reference).with_flows(flows.into())
}

pub fn label(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// All three behind generators in the same order.
pub fn behind(hook: Hook, family: Family, order: Order, programs: &Three<OwnedFd>) -> Three<Lane> {
    programs.map(|program| Lane::behind((hook.kind(), family, hook.direction()), order, program))
}
