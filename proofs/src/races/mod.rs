//! Races: what two CPUs may make of one flow, and a model in which one of them is interrupted wherever it can be.
//!
//! A [`Scenario`] has two lanes, the segments that one CPU takes in and those of the other. Taken in one after the
//! other, in every order that keeps each lane's own ([`orders`]), they leave the [`Outcome`]s that are allowed:
//! nobody can tell from outside that two segments were not merely a moment apart. Each step of the model
//! ([`preempted`]) runs in memory; the same scenarios run through the kernel programs on two CPUs in
//! `integration-tests`.

mod outcome;
pub mod preempted;
mod scenario;
mod verdict;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use tcp_observer_common::{
    counters::{Counters, HookDirection, Unreachable},
    flow::{FlowKey4, Ipv4, Side, ipv4_word},
    limits::Limits,
    observer::{Family, Host, Sighting, Tap, observe, observe_quote},
    segment::{Flags, Options, Segment},
    seq::SeqNum,
    wire::Quote,
};

pub use self::{
    outcome::{FlowState, HalfState, Outcome},
    scenario::{Act, CLIENT_PORT, End, Scenario, WINDOW, all},
    verdict::{Judge, Verdict, named, segments},
};
use crate::memory::Memory;

/// The model's hosts, of the documentation network (RFC 5737).
const HOSTS: [[u8; 4]; 2] = [[192, 0, 2, 1], [192, 0, 2, 2]];
pub const SERVER_PORT: u16 = 443;
/// From where on ports get no counters of their own.
pub const FIRST_EPHEMERAL: u32 = 32_768;
/// Between two acts of the model.
const STEP_NS: u64 = 1_000;
/// For how long a thread may lose its CPU between two acts: what comes again after the longer of the times that tell a
/// repetition from a second sighting of one frame is the one, before the shorter the other.
const PAUSES_NS: [u64; 2] = [1_000_000, 150_000_000];
/// Not so early that a time could be taken for "never".
const BEGIN_NS: u64 = 5_000_000_000_000;

/// Two lanes one after the other, in every order that keeps each lane's own.
pub fn orders(lanes: [&[Act]; 2]) -> Vec<Vec<Act>> {
    let [one, other] = lanes;
    match (one, other) {
        ([], rest) | (rest, []) => vec![rest.to_vec()],
        ([first, one_rest @ ..], [second, other_rest @ ..]) => {
            let after = |act: Act, lanes| orders(lanes).into_iter().map(move |rest| [&[act][..], &rest].concat());
            after(*first, [one_rest, other]).chain(after(*second, [one, other_rest])).collect()
        }
    }
}

/// The observer in memory, with what a scenario asks of it.
pub fn stage(scenario: &Scenario) -> Memory {
    let mut memory = Memory::new(BEGIN_NS);
    memory.set_local(&[IpAddr::from(HOSTS[0])]);
    memory.first_ephemeral = FIRST_EPHEMERAL;
    // Else it would matter which flow completes first.
    memory.port_slots.borrow_mut()[0] = u64::from(SERVER_PORT);
    if scenario.ends_at_once {
        memory.limits = Limits { local_time_wait_ns: 0, remote_time_wait_ns: 0, linger_ns: 0, ..Limits::DEFAULT };
    }
    memory
}

/// Performs acts one after the other.
pub fn perform(memory: &Memory, acts: &[Act]) {
    for &act in acts {
        memory.now_ns.set(memory.now_ns.get() + STEP_NS);
        match act {
            Act::Sweep => memory.sweep(),
            Act::Segment { .. } | Act::Error { .. } => take(memory, memory, act),
        }
    }
}

/// Shows one segment or error to an observer; a reason to skip it is counted in `memory`.
pub fn take<H: Host + Family<Ipv4>>(host: &H, memory: &Memory, act: Act) {
    let ends = HOSTS.map(|addr| ipv4_word(addr.into()));
    let ports = [CLIENT_PORT, SERVER_PORT];
    let key = |from: usize| FlowKey4::of(ends[from], ports[from], ends[1 - from], ports[1 - from]);
    let taken = match act {
        Act::Segment { from, flags, seq, ack, payload } => {
            let (key, side) = key(from as usize);
            let segment = Segment {
                seq: SeqNum(seq),
                ack: SeqNum(ack),
                payload_bytes: payload.into(),
                wire_segments: 1,
                window: WINDOW,
                flags: Flags(flags),
                accurate_ecn: 0,
                options: Options::NONE,
            };
            let tap = Tap::new(1, from.direction());
            observe(host, &key, Sighting { side, segment: &segment, tap }, || Options::NONE)
        }
        Act::Error { seq } => {
            let (key, side): (FlowKey4, Side) = key(End::Client as usize);
            observe_quote(host, &Quote { key, side, seq: SeqNum(seq), reason: Unreachable::Host })
        }
        Act::Sweep => return memory.sweep(),
    };
    if let Err(reason) = taken {
        memory.counters.borrow_mut().skipped[reason.index()] += 1;
    }
}

impl End {
    /// Which way the segments of this end pass the hooks: the client is local.
    pub const fn direction(self) -> HookDirection {
        match self {
            Self::Client => HookDirection::Egress,
            Self::Server => HookDirection::Ingress,
        }
    }
}

/// What a scenario may leave: each outcome, and what may have been counted on the way to it.
pub type Allowed = BTreeMap<Outcome, BTreeSet<Tally>>;

/// What was counted, place by place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tally(pub Vec<u64>);

impl Tally {
    pub fn of(counters: &Counters) -> Self {
        Self(counters.words().to_vec())
    }
}

/// What is in memory now.
pub fn result(memory: &Memory) -> (Outcome, Tally) {
    let mut flows: Vec<FlowState> = Vec::new();
    memory.flows4.for_each(|_, flow| flows.push(FlowState::of(true, flow)));
    memory.half_open4.for_each(|_, flow| flows.push(FlowState::of(false, flow)));
    (Outcome::new(flows), Tally::of(&memory.counters.borrow()))
}

/// What the serial orders of a scenario leave.
pub fn allowed(scenario: &Scenario) -> Allowed {
    let [one, other] = &scenario.lanes;
    serial(scenario, [one, other], &PAUSES_NS)
}

/// The same for other lanes between the same setup and aftermath; without a pause, and with one of these anywhere.
pub fn serial(scenario: &Scenario, lanes: [&[Act]; 2], pauses_ns: &[u64]) -> Allowed {
    let mut allowed = Allowed::new();
    for order in orders(lanes) {
        let pauses = (0..=order.len()).flat_map(|at| pauses_ns.iter().map(move |&ns| (at, ns)));
        for (at, pause_ns) in [(0, 0)].into_iter().chain(pauses) {
            let memory = stage(scenario);
            perform(&memory, &scenario.setup);
            perform(&memory, &order[..at]);
            memory.now_ns.set(memory.now_ns.get() + pause_ns);
            perform(&memory, &order[at..]);
            perform(&memory, &scenario.after);
            let (outcome, tally) = result(&memory);
            allowed.entry(outcome).or_default().insert(tally);
        }
    }
    allowed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_all_that_keep_each_lanes_own() {
        let act = |seq| Act::Error { seq };
        let (one, other) = ([act(1), act(2)], [act(11), act(12)]);
        let orders = orders([&one, &other]);
        let distinct: BTreeSet<String> = orders.iter().map(|order| format!("{order:?}")).collect();
        assert_eq!((orders.len(), distinct.len()), (6, 6), "4 over 2");
        assert!(orders.iter().all(|order| order.len() == 4));
        let at = |order: &[Act], act| order.iter().position(|&this| this == act).unwrap();
        assert!(orders.iter().all(|order| at(order, one[0]) < at(order, one[1])));
        assert!(orders.iter().all(|order| at(order, other[0]) < at(order, other[1])));
    }
}
