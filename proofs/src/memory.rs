//! The observer's surroundings in memory: tables over hash maps, an injected clock, one block of counters.
//!
//! A frame or a segment goes in, at a time that the test sets; what the core makes of it is in the public fields.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    rc::Rc,
};

use tcp_observer_common::{
    conn::{Flow, Word},
    counters::{Counters, PORT_SLOTS, Skip, TableKind, place},
    flow::{Address, FlowKey, FlowKey4, FlowKey6, Ipv4, Ipv6, ipv4_word, ipv6_words},
    frame::Frame,
    histogram::{HISTOGRAMS, Histogram, Sample},
    limits::Limits,
    observer::{Family, Host, Sighting, Table, Tap, observe, observe_quote},
    sweep::sweep_entry,
    table::{Refusal, There},
    wire::{self, Link, Network, Parsed},
};

/// A table with a bound, shared by all that hold it.
#[derive(Clone)]
pub struct MemoryTable<A> {
    flows: Rc<RefCell<HashMap<FlowKey<A>, Rc<Flow>>>>,
    capacity: Rc<Cell<usize>>,
    /// So many that want to put a flow in from now on get no turn.
    busy: Rc<Cell<u32>>,
    /// That of the last one that was put in.
    epoch: Rc<Cell<u16>>,
}

impl<A> Default for MemoryTable<A> {
    fn default() -> Self {
        Self {
            flows: Rc::default(),
            capacity: Rc::new(Cell::new(usize::MAX)),
            busy: Rc::default(),
            epoch: Rc::default(),
        }
    }
}

impl<A: Address + Hash> MemoryTable<A> {
    pub fn len(&self) -> usize {
        self.flows.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.flows.borrow().is_empty()
    }

    /// Forgets all flows.
    pub fn clear(&self) {
        self.flows.borrow_mut().clear();
    }

    /// Shows each flow, in no order.
    pub fn for_each(&self, mut show: impl FnMut(&FlowKey<A>, &Flow)) {
        self.flows.borrow().iter().for_each(|(key, flow)| show(key, flow));
    }

    /// Each flow and its key at this moment.
    pub fn entries(&self) -> Vec<(FlowKey<A>, Rc<Flow>)> {
        self.flows.borrow().iter().map(|(key, flow)| (*key, flow.clone())).collect()
    }

    /// Puts a flow in that nobody has to make room for.
    ///
    /// # Errors
    /// When its key is there, or there is no room.
    pub fn put(&self, key: &FlowKey<A>, flow: &Flow) -> Result<(), Refusal> {
        self.insert(key, There::Stays, |_, _, _| false, |place, epoch| place.become_like(flow, epoch))
    }

    /// Takes a flow out, whoever it belongs to.
    pub fn remove(&self, key: &FlowKey<A>) {
        self.flows.borrow_mut().remove(key);
    }

    /// Lets no more than this many flows in from now on.
    pub fn limit(&self, capacity: usize) {
        self.capacity.set(capacity);
    }

    /// Keeps so many that want to put a flow in from now on from getting a turn.
    pub fn occupy(&self, times: u32) {
        self.busy.set(times);
    }
}

impl<A: Address + Hash> Table<A> for MemoryTable<A> {
    type Entry = Rc<Flow>;

    fn find(&self, key: &FlowKey<A>) -> Option<Rc<Flow>> {
        self.flows.borrow().get(key).cloned()
    }

    /// All that are there could make room: this table is one bucket.
    fn insert(
        &self,
        key: &FlowKey<A>,
        there: There,
        gives_way: impl Fn(&FlowKey<A>, &Flow, Word) -> bool,
        write: impl FnOnce(&Flow, u16),
    ) -> Result<(), Refusal> {
        if let Some(fewer) = self.busy.get().checked_sub(1) {
            self.busy.set(fewer);
            return Err(Refusal::Busy);
        }
        if matches!(there, There::IsReplaced) {
            self.remove(key);
        }
        if self.flows.borrow().contains_key(key) {
            return Err(Refusal::Exists);
        }
        if self.flows.borrow().len() >= self.capacity.get() {
            let mut entries = self.entries();
            entries.sort_by_key(|(_, flow)| flow.times.first_ns.get());
            let mut oldest = entries.iter().take(CANDIDATES);
            let leaving = oldest.find(|(key, flow)| gives_way(key, flow, flow.word.load())).ok_or(Refusal::Full)?;
            self.remove(&leaving.0);
        }
        let flow = Flow::default();
        self.epoch.set(self.epoch.get().wrapping_add(1));
        write(&flow, self.epoch.get());
        self.flows.borrow_mut().insert(*key, Rc::new(flow));
        Ok(())
    }

    fn take_out(&self, key: &FlowKey<A>, entry: &Rc<Flow>, _: Word) {
        if self.flows.borrow().get(key).is_some_and(|flow| Rc::ptr_eq(flow, entry)) {
            self.remove(key);
        }
    }
}

/// How many are asked to give way, as docs/flow-table.md says.
const CANDIDATES: usize = 4;

/// A key of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnyKey {
    V4(FlowKey4),
    V6(FlowKey6),
}

/// Everything that a [`Host`] provides, for both families.
pub struct Memory {
    pub now_ns: Cell<u64>,
    /// How far the coarse clock is behind.
    pub coarse_lag_ns: Cell<u64>,
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
    /// Whether an entry of a full table makes room for one that is worth more.
    pub makes_room: bool,
    /// Whether a lone ACK or RST begins a flow, as in a capture.
    pub keeps_all: bool,
    /// Ports from here on get no counters of their own.
    pub first_ephemeral: u32,
    pub port_slots: RefCell<[u64; PORT_SLOTS]>,
}

impl Memory {
    pub fn new(now_ns: u64) -> Self {
        Self {
            now_ns: Cell::new(now_ns),
            coarse_lag_ns: Cell::new(0),
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
            makes_room: false,
            keeps_all: false,
            first_ephemeral: u32::from(u16::MAX) + 1,
            port_slots: RefCell::new([0; PORT_SLOTS]),
        }
    }

    /// Takes these addresses, and no others, for local ones.
    pub fn set_local(&mut self, local: &[IpAddr]) {
        (self.local4, self.local6) = (Vec::new(), Vec::new());
        for addr in local {
            match addr {
                IpAddr::V4(addr) => self.local4.push(ipv4_word(*addr)),
                IpAddr::V6(addr) => self.local6.push(ipv6_words(*addr)),
            }
        }
    }

    /// The flow with this key, in either table of its family.
    pub fn flow(&self, key: &AnyKey) -> Option<Rc<Flow>> {
        match key {
            AnyKey::V4(key) => self.flows4.find(key).or_else(|| self.half_open4.find(key)),
            AnyKey::V6(key) => self.flows6.find(key).or_else(|| self.half_open6.find(key)),
        }
    }

    /// All flows, in no order. One that is in both tables of its family is there twice.
    pub fn all_flows(&self) -> Vec<(AnyKey, Flow)> {
        let mut flows = Vec::new();
        for table in [&self.flows4, &self.half_open4] {
            table.for_each(|key, flow| flows.push((AnyKey::V4(*key), flow.clone())));
        }
        for table in [&self.flows6, &self.half_open6] {
            table.for_each(|key, flow| flows.push((AnyKey::V6(*key), flow.clone())));
        }
        flows
    }

    /// Forgets all flows, but nothing that was counted.
    pub fn forget_flows(&self) {
        self.flows4.clear();
        self.half_open4.clear();
        self.flows6.clear();
        self.half_open6.clear();
    }

    /// Takes in one packet, as a kernel program does; a reason why it updates nothing is counted.
    ///
    /// # Errors
    /// That reason.
    pub fn take(&self, link: Link, tap: Tap, bytes: &[u8], wire_segments: u32) -> Result<(), Skip> {
        let result = self.observe(link, tap, &Packet { bytes, wire_segments });
        if let Err(reason) = result {
            self.add(place::skipped(reason), 1);
        }
        result
    }

    fn observe(&self, link: Link, tap: Tap, packet: &Packet<'_>) -> Result<(), Skip> {
        match wire::network(packet, link)? {
            (Network::Ipv4, offset) => match wire::segment4(packet, offset) {
                Ok(parsed) => self.take_segment(packet, &parsed, tap),
                Err(Skip::NotTcp) => observe_quote(self, &wire::quote4(packet, offset)?),
                Err(reason) => Err(reason),
            },
            (Network::Ipv6, offset) => match wire::segment6(packet, offset) {
                Ok(parsed) => self.take_segment(packet, &parsed, tap),
                Err(Skip::NotTcp) => observe_quote(self, &wire::quote6(packet, offset)?),
                Err(reason) => Err(reason),
            },
        }
    }

    fn take_segment<A: Address>(&self, packet: &Packet<'_>, parsed: &Parsed<A>, tap: Tap) -> Result<(), Skip>
    where
        Self: Family<A>,
    {
        let Parsed { key, side, segment, options } = parsed;
        observe(self, key, Sighting { side: *side, segment, tap }, || wire::options(packet, *options))
    }

    /// One round of the sweep over every table.
    pub fn sweep(&self) {
        self.sweep_table(TableKind::HalfOpenIpv4, &self.half_open4);
        self.sweep_table(TableKind::HalfOpenIpv6, &self.half_open6);
        self.sweep_table(TableKind::FlowsIpv4, &self.flows4);
        self.sweep_table(TableKind::FlowsIpv6, &self.flows6);
    }

    /// One round over the half-open tables only, as the agent has four of between two over all.
    pub fn sweep_half_open(&self) {
        self.sweep_table(TableKind::HalfOpenIpv4, &self.half_open4);
        self.sweep_table(TableKind::HalfOpenIpv6, &self.half_open6);
    }

    fn sweep_table<A: Address + Hash>(&self, kind: TableKind, table: &MemoryTable<A>) {
        let now_ns = self.now_ns.get();
        table
            .flows
            .borrow_mut()
            .retain(|key, flow| !sweep_entry(self, kind, key, flow, flow.word.load(), now_ns, &self.limits));
    }
}

/// A buffer, and of how many segments it is made on the wire.
struct Packet<'a> {
    bytes: &'a [u8],
    wire_segments: u32,
}

impl Frame for Packet<'_> {
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.bytes.load(offset)
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn wire_segments(&self) -> u32 {
        self.wire_segments
    }
}

impl Host for Memory {
    fn precise_ns(&self) -> u64 {
        self.now_ns.get()
    }

    fn coarse_ns(&self) -> u64 {
        self.now_ns.get() - self.coarse_lag_ns.get()
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

    fn record(&self, histogram: u32, sample: Sample) {
        self.histograms.borrow_mut()[histogram as usize].add_sample(sample);
    }

    fn port_slot(&self, port: u16, claim: bool) -> usize {
        let port = u64::from(port);
        let mut slots = self.port_slots.borrow_mut();
        if let Some(slot) = slots.iter().position(|&taken_by| taken_by == port) {
            return slot;
        }
        match slots.iter().position(|&taken_by| taken_by == 0) {
            Some(free) if claim && port < u64::from(self.first_ephemeral) => {
                slots[free] = port;
                free
            }
            Some(_) | None => PORT_SLOTS,
        }
    }

    fn keeps_all(&self) -> bool {
        self.keeps_all
    }

    fn limits(&self) -> Option<&Limits> {
        self.makes_room.then_some(&self.limits)
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
