//! Userspace's half of the twins: the core over ordinary hash maps.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    hash::Hash,
    net::IpAddr,
    rc::Rc,
};

use tcp_observer_common::{
    abi::map,
    conn::Flow,
    counters::{Counters, PORT_SLOTS, Skip, TableKind, place},
    flow::{Address, FlowKey, Ipv4, Ipv6},
    frame::Frame,
    histogram::{HISTOGRAMS, Histogram},
    limits::Limits,
    observer::{Family, Host, Refusal, Sighting, Table, Tap, observe, observe_quote},
    sweep::sweep_entry,
    wire::{self, Network, Parsed},
};

use crate::{Hook, kernel::FIRST_EPHEMERAL, state::State};

/// What `BPF_PROG_TEST_RUN` says packets come from: `lo`, the first device of any namespace.
const INTERFACE: u32 = 1;

#[derive(Clone, Default)]
pub struct MemoryTable<A>(Rc<RefCell<HashMap<FlowKey<A>, Rc<Flow>>>>);

impl<A: Copy + Eq + Hash> Table<A> for MemoryTable<A> {
    type Entry = Rc<Flow>;

    fn find(&self, key: &FlowKey<A>) -> Option<Rc<Flow>> {
        self.0.borrow().get(key).cloned()
    }

    fn insert(&self, key: &FlowKey<A>, flow: &Flow) -> Result<(), Refusal> {
        match self.0.borrow_mut().entry(*key) {
            std::collections::hash_map::Entry::Occupied(_) => Err(Refusal::Exists),
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(Rc::new(flow.clone()));
                Ok(())
            }
        }
    }

    fn remove(&self, key: &FlowKey<A>) {
        self.0.borrow_mut().remove(key);
    }
}

pub struct Replica {
    now_ns: Cell<u64>,
    flows4: MemoryTable<Ipv4>,
    half_open4: MemoryTable<Ipv4>,
    flows6: MemoryTable<Ipv6>,
    half_open6: MemoryTable<Ipv6>,
    local: HashSet<Vec<u8>>,
    counters: RefCell<Counters>,
    histograms: RefCell<Vec<Histogram>>,
    port_slots: RefCell<[u64; PORT_SLOTS]>,
    scratch: Flow,
    keeps_all: bool,
}

impl Replica {
    pub fn new(keeps_all: bool) -> Self {
        Self {
            keeps_all,
            now_ns: Cell::new(0),
            flows4: MemoryTable::default(),
            half_open4: MemoryTable::default(),
            flows6: MemoryTable::default(),
            half_open6: MemoryTable::default(),
            local: HashSet::new(),
            counters: RefCell::new(Counters::ZERO),
            histograms: RefCell::new(vec![Histogram::default(); HISTOGRAMS as usize]),
            port_slots: RefCell::new([0; PORT_SLOTS]),
            scratch: Flow::default(),
        }
    }

    /// Forgets all flows, and takes these addresses for local ones.
    pub fn begin_anew(&mut self, local: &[IpAddr]) {
        let octets = |addr: &IpAddr| match addr {
            IpAddr::V4(addr) => addr.octets().to_vec(),
            IpAddr::V6(addr) => addr.octets().to_vec(),
        };
        for table in [&self.flows4, &self.half_open4] {
            table.0.borrow_mut().clear();
        }
        for table in [&self.flows6, &self.half_open6] {
            table.0.borrow_mut().clear();
        }
        self.local = local.iter().map(octets).collect();
    }

    pub fn set_clock(&self, now_ns: u64) {
        self.now_ns.set(now_ns);
    }

    pub fn take(&self, hook: Hook, bytes: &[u8], wire_segments: u32) {
        if let Err(reason) = self.observe(hook, &Packet { bytes, wire_segments }) {
            self.add(place::skipped(reason), 1);
        }
    }

    fn observe(&self, hook: Hook, packet: &Packet<'_>) -> Result<(), Skip> {
        let tap = Tap::new(INTERFACE, hook.direction);
        match wire::network(packet, hook.link)? {
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

    pub fn sweep(&self) {
        self.sweep_table(TableKind::HalfOpenIpv4, &self.half_open4);
        self.sweep_table(TableKind::HalfOpenIpv6, &self.half_open6);
        self.sweep_table(TableKind::FlowsIpv4, &self.flows4);
        self.sweep_table(TableKind::FlowsIpv6, &self.flows6);
    }

    fn sweep_table<A: Address + Hash>(&self, kind: TableKind, table: &MemoryTable<A>) {
        let now_ns = self.now_ns.get();
        table.0.borrow_mut().retain(|key, flow| !sweep_entry(self, kind, key, flow, now_ns, &Limits::DEFAULT));
    }

    pub fn counters(&self) -> Counters {
        self.counters.borrow().clone()
    }

    pub fn state(&self) -> State {
        let mut flows = std::collections::BTreeMap::new();
        for (name, table) in [(map::FLOWS_IPV4, &self.flows4), (map::HALF_OPEN_IPV4, &self.half_open4)] {
            flows.extend(table.0.borrow().iter().map(|(key, flow)| (State::key(name, key), State::flow(flow))));
        }
        for (name, table) in [(map::FLOWS_IPV6, &self.flows6), (map::HALF_OPEN_IPV6, &self.half_open6)] {
            flows.extend(table.0.borrow().iter().map(|(key, flow)| (State::key(name, key), State::flow(flow))));
        }
        State {
            flows,
            counters: self.counters(),
            histograms: self.histograms.borrow().clone(),
            port_slots: self.port_slots.borrow().to_vec(),
        }
    }
}

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

impl Host for Replica {
    fn precise_ns(&self) -> u64 {
        self.now_ns.get()
    }

    fn coarse_ns(&self) -> u64 {
        self.now_ns.get()
    }

    fn exchange_bits(&self, cell: &Cell<u64>, current: u64, new: u64) -> bool {
        let unchanged = cell.get() == current;
        if unchanged {
            cell.set(new);
        }
        unchanged
    }

    fn keeps_all(&self) -> bool {
        self.keeps_all
    }

    fn add(&self, place: usize, amount: u64) {
        self.counters.borrow_mut().words_mut()[place] += amount;
    }

    fn record(&self, histogram: u32, value_ns: u64) {
        self.histograms.borrow_mut()[histogram as usize].record(value_ns);
    }

    fn port_slot(&self, port: u16, claim: bool) -> usize {
        let port = u64::from(port);
        let mut slots = self.port_slots.borrow_mut();
        if let Some(slot) = slots.iter().position(|&taken_by| taken_by == port) {
            return slot;
        }
        match slots.iter().position(|&taken_by| taken_by == 0) {
            Some(free) if claim && port < FIRST_EPHEMERAL => {
                slots[free] = port;
                free
            }
            _ => PORT_SLOTS,
        }
    }

    fn scratch(&self) -> Option<&Flow> {
        Some(&self.scratch)
    }
}

impl Family<Ipv4> for Replica {
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
        self.local.contains(&addr[0].to_ne_bytes()[..])
    }
}

impl Family<Ipv6> for Replica {
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
        self.local.contains(&addr.map(u32::to_ne_bytes).concat())
    }
}
