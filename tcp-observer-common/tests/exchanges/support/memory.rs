//! The observer's surroundings in memory: tables over hash maps, an injected clock, one block of counters.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    hash::Hash,
    rc::Rc,
};

use tcp_observer_common::{
    conn::Flow,
    counters::{Counters, PORT_SLOTS, TableKind},
    flow::{Address, FlowKey, Ipv4, Ipv6},
    histogram::{HISTOGRAMS, Histogram},
    limits::Limits,
    observer::{Family, Host, Refusal, Table},
    sweep::sweep_entry,
};

/// A table with a bound, shared by all that hold it.
#[derive(Clone)]
pub struct MemoryTable<A> {
    flows: Rc<RefCell<HashMap<FlowKey<A>, Rc<Flow>>>>,
    capacity: Rc<Cell<usize>>,
}

impl<A> Default for MemoryTable<A> {
    fn default() -> Self {
        Self { flows: Rc::default(), capacity: Rc::new(Cell::new(usize::MAX)) }
    }
}

impl<A: Address + Hash> MemoryTable<A> {
    pub fn len(&self) -> usize {
        self.flows.borrow().len()
    }

    /// Lets no more than this many flows in from now on.
    pub fn limit(&self, capacity: usize) {
        self.capacity.set(capacity);
    }
}

impl<A: Address + Hash> Table<A> for MemoryTable<A> {
    type Entry = Rc<Flow>;

    fn find(&self, key: &FlowKey<A>) -> Option<Rc<Flow>> {
        self.flows.borrow().get(key).cloned()
    }

    fn insert(&self, key: &FlowKey<A>, flow: &Flow) -> Result<(), Refusal> {
        let mut flows = self.flows.borrow_mut();
        if flows.contains_key(key) {
            return Err(Refusal::Exists);
        }
        if flows.len() >= self.capacity.get() {
            return Err(Refusal::Full);
        }
        flows.insert(*key, Rc::new(flow.clone()));
        Ok(())
    }

    fn remove(&self, key: &FlowKey<A>) {
        self.flows.borrow_mut().remove(key);
    }
}

/// Everything that a [`Host`] provides, for both families.
pub struct Memory {
    pub now_ns: Cell<u64>,
    pub limits: Limits,
    pub flows4: MemoryTable<Ipv4>,
    pub half_open4: MemoryTable<Ipv4>,
    pub flows6: MemoryTable<Ipv6>,
    pub half_open6: MemoryTable<Ipv6>,
    pub local4: Vec<Ipv4>,
    pub local6: Vec<Ipv6>,
    pub counters: RefCell<Counters>,
    pub histograms: RefCell<Vec<Histogram>>,
    /// So many exchanges from now on find that another CPU was faster.
    pub contention: Cell<u32>,
    /// Whether a lone ACK or RST begins a flow, as in a capture.
    pub keeps_all: bool,
    slots: RefCell<[u16; PORT_SLOTS]>,
    scratch: Flow,
}

impl Memory {
    pub fn new(now_ns: u64) -> Self {
        Self {
            now_ns: Cell::new(now_ns),
            limits: Limits::DEFAULT,
            flows4: MemoryTable::default(),
            half_open4: MemoryTable::default(),
            flows6: MemoryTable::default(),
            half_open6: MemoryTable::default(),
            local4: Vec::new(),
            local6: Vec::new(),
            counters: RefCell::new(Counters::ZERO),
            histograms: RefCell::new(vec![Histogram::default(); HISTOGRAMS as usize]),
            contention: Cell::new(0),
            keeps_all: false,
            slots: RefCell::new([0; PORT_SLOTS]),
            scratch: Flow::default(),
        }
    }

    /// One round of the sweep over every table.
    pub fn sweep(&self) {
        self.sweep_table(TableKind::HalfOpenIpv4, &self.half_open4);
        self.sweep_table(TableKind::HalfOpenIpv6, &self.half_open6);
        self.sweep_table(TableKind::FlowsIpv4, &self.flows4);
        self.sweep_table(TableKind::FlowsIpv6, &self.flows6);
    }

    fn sweep_table<A: Address + Hash>(&self, kind: TableKind, table: &MemoryTable<A>) {
        let now_ns = self.now_ns.get();
        table.flows.borrow_mut().retain(|key, flow| !sweep_entry(self, kind, key, flow, now_ns, &self.limits));
    }
}

impl Host for Memory {
    fn precise_ns(&self) -> u64 {
        self.now_ns.get()
    }

    fn coarse_ns(&self) -> u64 {
        self.now_ns.get()
    }

    fn exchange_bits(&self, cell: &Cell<u64>, current: u64, new: u64) -> bool {
        if let Some(fewer) = self.contention.get().checked_sub(1) {
            self.contention.set(fewer);
            return false;
        }
        let unchanged = cell.get() == current;
        if unchanged {
            cell.set(new);
        }
        unchanged
    }

    fn add(&self, place: usize, amount: u64) {
        self.counters.borrow_mut().words_mut()[place] += amount;
    }

    fn record(&self, histogram: u32, value_ns: u64) {
        self.histograms.borrow_mut()[histogram as usize].record(value_ns);
    }

    fn port_slot(&self, port: u16, claim: bool) -> usize {
        let mut slots = self.slots.borrow_mut();
        let known = slots.iter().position(|&taken_by| taken_by == port);
        let free = if claim { slots.iter().position(|&taken_by| taken_by == 0) } else { None };
        let slot = known.or(free).unwrap_or(PORT_SLOTS);
        if let Some(taken_by) = slots.get_mut(slot) {
            *taken_by = port;
        }
        slot
    }

    fn keeps_all(&self) -> bool {
        self.keeps_all
    }

    fn scratch(&self) -> Option<&Flow> {
        Some(&self.scratch)
    }
}

impl Family<Ipv4> for Memory {
    type Table = MemoryTable<Ipv4>;
    const FLOWS: TableKind = TableKind::FlowsIpv4;
    const HALF_OPEN: TableKind = TableKind::HalfOpenIpv4;

    fn flows(&self) -> Self::Table {
        self.flows4.clone()
    }

    fn half_open(&self) -> Self::Table {
        self.half_open4.clone()
    }

    fn is_local(&self, addr: &Ipv4) -> bool {
        self.local4.contains(addr)
    }
}

impl Family<Ipv6> for Memory {
    type Table = MemoryTable<Ipv6>;
    const FLOWS: TableKind = TableKind::FlowsIpv6;
    const HALF_OPEN: TableKind = TableKind::HalfOpenIpv6;

    fn flows(&self) -> Self::Table {
        self.flows6.clone()
    }

    fn half_open(&self) -> Self::Table {
        self.half_open6.clone()
    }

    fn is_local(&self, addr: &Ipv6) -> bool {
        self.local6.contains(addr)
    }
}
