//! A CPU that is interrupted: wherever the core asks its host for anything, another CPU may do all of its work.
//!
//! The core's stores between two calls of its host are not taken apart further; every exchange, every access to a
//! table, and every call that the kernel makes a function of its own is such a place.

use std::cell::{Cell, RefCell};

use tcp_observer_common::{
    conn::{Flow, Judged, Times, Word, WordCell, tell},
    counters::{TableKind, tally},
    flow::{FlowKey4, Ipv4},
    histogram::Sample,
    observer::{Family, Host, Table, Transition, carry_out},
    segment::Segment,
    sweep::sweep_entry,
    table::{Refusal, There},
};

use super::{Act, Outcome, Scenario, Tally, orders, perform, result, stage, take};
use crate::memory::{Memory, MemoryTable};

/// The observer in memory as a CPU has it that is interrupted once.
pub struct Preempted<'a> {
    memory: &'a Memory,
    /// How many places are still passed before.
    left: Cell<u32>,
    intruder: RefCell<Option<Box<dyn FnOnce() + 'a>>>,
}

impl<'a> Preempted<'a> {
    pub fn new(memory: &'a Memory, at: u32, intruder: impl FnOnce() + 'a) -> Self {
        let intruder: Box<dyn FnOnce() + 'a> = Box::new(intruder);
        let intruder = RefCell::new(Some(intruder));
        Self { memory, left: Cell::new(at), intruder }
    }

    /// Whether the interruption has happened.
    pub fn was_interrupted(&self) -> bool {
        self.intruder.borrow().is_none()
    }

    fn perform(&self, act: Act) {
        match act {
            Act::Sweep => {
                self.sweep(TableKind::HalfOpenIpv4, &self.memory.half_open4);
                self.sweep(TableKind::FlowsIpv4, &self.memory.flows4);
            }
            Act::Segment { .. } | Act::Error { .. } => take(&self, self.memory, act),
        }
    }

    fn sweep(&self, kind: TableKind, table: &MemoryTable<Ipv4>) {
        let now_ns = self.memory.now_ns.get();
        for (key, flow) in table.entries() {
            if sweep_entry(&self, kind, &key, &flow, flow.word.load(), now_ns, &self.memory.limits) {
                self.place();
                table.remove(&key);
            }
        }
    }

    fn place(&self) {
        match self.left.get().checked_sub(1) {
            Some(fewer) => self.left.set(fewer),
            None => {
                let intruder = self.intruder.borrow_mut().take();
                if let Some(intruder) = intruder {
                    intruder();
                }
            }
        }
    }
}

impl Host for &Preempted<'_> {
    fn precise_ns(&self) -> u64 {
        self.place();
        self.memory.precise_ns()
    }

    fn coarse_ns(&self) -> u64 {
        self.place();
        self.memory.coarse_ns()
    }

    fn exchange_bits(&self, cell: &Cell<u64>, current: u64, new: u64) -> bool {
        self.place();
        let exchanged = self.memory.exchange_bits(cell, current, new);
        self.place();
        exchanged
    }

    fn exchange(&self, word: &WordCell, current: Word, new: Word) -> bool {
        self.exchange_bits(&word.0, current.0, new.0)
    }

    fn add(&self, place: usize, amount: u64) {
        self.memory.add(place, amount);
    }

    fn record(&self, histogram: u32, sample: Sample) {
        self.memory.record(histogram, sample);
    }

    fn port_slot(&self, port: u16, claim: bool) -> usize {
        self.memory.port_slot(port, claim)
    }

    fn account(&self, transition: &Transition, times: &Times) {
        self.place();
        tally::transition(self, *transition, times);
    }

    fn keeps_all(&self) -> bool {
        self.memory.keeps_all
    }

    fn carry_out(&self, flow: &Flow, segment: &Segment, transition: &Transition) {
        self.place();
        carry_out(self, flow, segment, transition);
        self.place();
    }

    fn tell(&self, flow: &Flow, segment: &Segment, judged: Judged) {
        tell(self, flow, segment, judged);
        self.place();
    }
}

/// A table whose users may be interrupted before and after each access.
pub struct Watched<'p, 'a> {
    cpu: &'p Preempted<'a>,
    table: MemoryTable<Ipv4>,
}

impl Table<Ipv4> for Watched<'_, '_> {
    type Entry = std::rc::Rc<Flow>;

    fn find(&self, key: &FlowKey4) -> Option<Self::Entry> {
        self.cpu.place();
        let found = self.table.find(key);
        self.cpu.place();
        found
    }

    /// At once, as the kernel's table does it as far as lookups can tell.
    fn insert(
        &self,
        key: &FlowKey4,
        there: There,
        gives_way: impl Fn(&FlowKey4, &Flow, Word) -> bool,
        write: impl FnOnce(&Flow, u16),
    ) -> Result<(), Refusal> {
        self.cpu.place();
        let flow = Flow::default();
        write(&flow, 0);
        let inserted = self.table.insert(key, there, gives_way, |place, epoch| place.become_like(&flow, epoch));
        self.cpu.place();
        inserted
    }

    fn take_out(&self, key: &FlowKey4, entry: &Self::Entry, word: Word) {
        self.cpu.place();
        self.table.take_out(key, entry, word);
    }
}

impl<'p, 'a> Family<Ipv4> for &'p Preempted<'a> {
    type Table = Watched<'p, 'a>;
    const FLOWS: TableKind = TableKind::FlowsIpv4;
    const HALF_OPEN: TableKind = TableKind::HalfOpenIpv4;

    fn flows(&self) -> Self::Table {
        Watched { cpu: self, table: Family::<Ipv4>::flows(self.memory) }
    }

    fn half_open(&self) -> Self::Table {
        Watched { cpu: self, table: Family::<Ipv4>::half_open(self.memory) }
    }

    fn is_local(&self, addr: &Ipv4) -> bool {
        Family::<Ipv4>::is_local(self.memory, addr)
    }
}

/// What an interruption has led to.
#[derive(Clone, Debug)]
pub struct Interrupted {
    pub outcome: Outcome,
    pub tally: Tally,
    /// What was done, in words: first what came before, then who interrupted whom where, then the rest.
    pub how: String,
}

/// Runs a scenario with every interruption that there is of one act by some of the other lane's, between all orders of
/// what comes before and after.
pub fn interruptions(scenario: &Scenario, mut show: impl FnMut(Interrupted)) {
    for outer in [0, 1] {
        let [one, other] = [outer, 1 - outer].map(|lane| scenario.lanes[lane].as_slice());
        for (at, &act) in one.iter().enumerate() {
            for from in 0..other.len() {
                for to in from + 1..=other.len() {
                    let before = orders([&one[..at], &other[..from]]);
                    let rests = orders([&one[at + 1..], &other[to..]]);
                    for (first, rest) in before.iter().flat_map(|first| rests.iter().map(move |rest| (first, rest))) {
                        interrupt_everywhere(scenario, first, act, &other[from..to], rest, &mut show);
                    }
                }
            }
        }
    }
}

fn interrupt_everywhere(
    scenario: &Scenario,
    first: &[Act],
    act: Act,
    intruders: &[Act],
    rest: &[Act],
    show: &mut impl FnMut(Interrupted),
) {
    for place in 0.. {
        let memory = stage(scenario);
        perform(&memory, &scenario.setup);
        perform(&memory, first);
        let cpu = Preempted::new(&memory, place, || perform(&memory, intruders));
        cpu.perform(act);
        if !cpu.was_interrupted() {
            return;
        }
        perform(&memory, rest);
        perform(&memory, &scenario.after);
        let (outcome, tally) = result(&memory);
        let how = format!("{first:?}, then {act:?} interrupted at place {place} by {intruders:?}, then {rest:?}");
        show(Interrupted { outcome, tally, how });
    }
}
