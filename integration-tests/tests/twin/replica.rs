//! Userspace's half of the twins: the core over ordinary hash maps.

use std::{collections::BTreeMap, fmt::Debug, hash::Hash, net::IpAddr};

use proofs::memory::{AnyKey, Memory, MemoryTable};
use tcp_observer_common::{
    abi::map,
    conn::Flow,
    counters::{Counters, HookDirection},
    flow::Address,
    observer::Tap,
};

use crate::{
    Hook,
    kernel::FIRST_EPHEMERAL,
    records::{Observer, Packet},
    state::State,
};

/// What `BPF_PROG_TEST_RUN` says packets come from: `lo`, the first device of any namespace.
const INTERFACE: u32 = 1;

pub struct Replica {
    memory: Memory,
}

impl Replica {
    pub fn new(keeps_all: bool) -> Self {
        let mut memory = Memory::new(0);
        memory.keeps_all = keeps_all;
        memory.first_ephemeral = FIRST_EPHEMERAL as u32;
        Self { memory }
    }

    /// Forgets all flows, and takes these addresses for local ones.
    pub fn begin_anew(&mut self, local: &[IpAddr]) {
        self.memory.forget_flows();
        self.memory.set_local(local);
    }

    pub fn set_clock(&self, now_ns: u64) {
        self.memory.now_ns.set(now_ns);
    }

    pub fn take(&self, hook: Hook, bytes: &[u8], wire_segments: u32) {
        // A reason to skip it is counted, and the counters are compared.
        let _ = self.memory.take(hook.link, Tap::new(INTERFACE, hook.direction), bytes, wire_segments);
    }

    pub fn sweep(&self) {
        self.memory.sweep();
    }

    pub fn counters(&self) -> Counters {
        self.memory.counters.borrow().clone()
    }

    pub fn state(&self) -> State {
        let mut flows = BTreeMap::new();
        let Memory { flows4, half_open4, flows6, half_open6, .. } = &self.memory;
        add_flows(&mut flows, map::FLOWS_IPV4, flows4);
        add_flows(&mut flows, map::HALF_OPEN_IPV4, half_open4);
        add_flows(&mut flows, map::FLOWS_IPV6, flows6);
        add_flows(&mut flows, map::HALF_OPEN_IPV6, half_open6);
        State {
            flows,
            counters: self.counters(),
            histograms: self.memory.histograms.borrow().clone(),
            port_slots: self.memory.port_slots.borrow().to_vec(),
        }
    }
}

impl Observer for Replica {
    fn begin_anew(&mut self) {
        Replica::begin_anew(self, &[]);
    }

    fn set_clock(&mut self, now_ns: u64) {
        Replica::set_clock(self, now_ns);
    }

    fn take(&mut self, packet: &Packet) {
        let tap = Tap::new(packet.interface, HookDirection::Ingress);
        let _ = self.memory.take(packet.link, tap, &packet.bytes, 1);
    }

    fn sweep(&mut self, all: bool) {
        if all { self.memory.sweep() } else { self.memory.sweep_half_open() }
    }

    fn flows(&self) -> Vec<(AnyKey, Flow)> {
        self.memory.all_flows()
    }

    fn find(&self, key: &AnyKey) -> Option<Flow> {
        self.memory.flow(key).map(|flow| Flow::clone(&flow))
    }

    fn counters(&self) -> Counters {
        Replica::counters(self)
    }
}

fn add_flows<A: Address + Debug + Hash>(flows: &mut BTreeMap<String, String>, name: &str, table: &MemoryTable<A>) {
    table.for_each(|key, flow| {
        flows.insert(State::key(name, key), State::flow(flow));
    });
}
