//! The kernel's half of the twins: the programs, loaded but attached nowhere, with an injected clock.

use std::{fmt::Debug, mem, net::IpAddr};

use aya::{
    Ebpf, EbpfLoader, Pod, TestRun, TestRunOptions,
    maps::{Array, HashMap, Map, PerCpuArray},
    programs::{Program, SchedClassifier, Xdp},
};
use integration_tests::{asm::NEXT, object, tables::FlowTable};
use proofs::memory::AnyKey;
use tcp_observer::kernel::load;
use tcp_observer_common::{
    abi::{CLOCK_INJECTED, KEEPS_ALL, LAYOUT_HASH, Layout, Ports, map, program, request},
    conn::Flow,
    counters::{Counters, PORT_SLOTS},
    flow::{FlowKey, Ipv4, Ipv6},
    histogram::{HISTOGRAMS, Histogram},
    limits::Limits,
    wire::Link,
};

use crate::{
    Hook,
    records::{Observer, Packet},
    state::State,
};

/// The shared types as the words that they are made of, since maps take plain data only.
type CounterWords = [u64; size_of::<Counters>() / 8];
type HistogramWords = [u64; size_of::<Histogram>() / 8];
type PortsWords = [u64; size_of::<Ports>() / 8];
type LayoutWords = [u64; size_of::<Layout>() / 8];

const XDP_PASS: u32 = 2;

/// Where ports stop being given a counter slot, here and in the replica.
pub const FIRST_EPHEMERAL: u64 = 32_768;

pub struct Kernel {
    ebpf: Ebpf,
}

impl Kernel {
    #[track_caller]
    pub fn load(keeps_all: bool) -> Self {
        Self::with_room(keeps_all, 4096)
    }

    /// With room for so many flows in each table: to read them takes as long as they are large.
    #[track_caller]
    pub fn with_room(keeps_all: bool, flows: u32) -> Self {
        let (injected, keeps_all) = (1_u8, u8::from(keeps_all));
        let mut loader = EbpfLoader::new();
        loader.override_global(CLOCK_INJECTED, &injected, true).override_global(KEEPS_ALL, &keeps_all, true);
        let geometry = load::geometry(flows, flows);
        let ebpf = load::with_geometry(&mut loader, &geometry).load(&object::bytes()).expect("the object loads");
        let mut kernel = Self { ebpf };
        let ports = Ports { slots: [0; PORT_SLOTS], first_ephemeral: FIRST_EPHEMERAL };
        // SAFETY: both are as long, and `Ports` is made of u64 only.
        kernel.set::<PortsWords>(map::PORTS, unsafe { mem::transmute::<Ports, PortsWords>(ports) });
        let layout = Layout {
            hash: LAYOUT_HASH,
            seed: 1,
            max_flows: flows,
            max_half_open: flows,
            agent_pid: std::process::id(),
            _reserved: 0,
            started_ns: 1,
            limits: Limits::DEFAULT,
        };
        // SAFETY: both are as long, and `Layout` has no padding.
        kernel.set::<LayoutWords>(map::LAYOUT, unsafe { mem::transmute::<Layout, LayoutWords>(layout) });
        kernel
    }

    /// Forgets all flows, and takes these addresses for local ones.
    #[track_caller]
    pub fn begin_anew(&mut self, local: &[IpAddr]) {
        for table in [map::FLOWS_IPV4, map::HALF_OPEN_IPV4] {
            self.table::<Ipv4>(table).clear();
        }
        for table in [map::FLOWS_IPV6, map::HALF_OPEN_IPV6] {
            self.table::<Ipv6>(table).clear();
        }
        self.clear::<[u8; 4], u8>(map::LOCAL_IPV4);
        self.clear::<[u8; 16], u8>(map::LOCAL_IPV6);
        for addr in local {
            match addr {
                IpAddr::V4(addr) => self.put(map::LOCAL_IPV4, addr.octets()),
                IpAddr::V6(addr) => self.put(map::LOCAL_IPV6, addr.octets()),
            }
        }
    }

    pub fn set_clock(&mut self, now_ns: u64) {
        self.set(map::CLOCK, now_ns);
    }

    /// Shows a program one packet. It has to let it pass, unchanged.
    #[track_caller]
    pub fn take(&mut self, hook: Hook, bytes: &[u8], wire_segments: u32) {
        let mut after = vec![0; bytes.len() + 64];
        let context = skb_context(wire_segments);
        let program = self.program(hook.program);
        let mut options = TestRunOptions { data_in: Some(bytes), data_out: Some(&mut after), ..Default::default() };
        let (result, pass) = match program {
            Program::Xdp(_) => {
                let xdp: &mut Xdp = program.try_into().expect("just seen");
                (xdp.test_run(options), XDP_PASS)
            }
            _ => {
                options.ctx_in = (wire_segments > 1).then_some(&context[..]);
                let tc: &mut SchedClassifier = program.try_into().expect("all others are tc programs");
                (tc.test_run(options), NEXT as u32)
            }
        };
        let result = result.unwrap_or_else(|error| panic!("{} with {} bytes: {error:?}", hook.program, bytes.len()));
        assert_eq!(result.return_value, pass, "the verdict of {} on {bytes:02x?}", hook.program);
        assert_eq!(&after[..result.data_size_out as usize], bytes, "the packet after {}", hook.program);
    }

    /// Runs the sweep over all tables, or the half-open ones only.
    #[track_caller]
    pub fn sweep(&mut self, all: bool) {
        self.ask(&request::frame(if all { request::ALL } else { request::HALF_OPEN }, &0_u32));
    }

    /// Asks what the agent asks; what comes back.
    #[track_caller]
    pub fn ask(&mut self, frame: &[u8; request::BYTES]) -> u32 {
        let program = self.program(program::SWEEP);
        let sweep: &mut SchedClassifier = program.try_into().expect("the sweep is a tc program");
        let options = TestRunOptions { data_in: Some(frame), ..Default::default() };
        sweep.test_run(options).expect("the sweep runs").return_value
    }

    pub fn state(&self) -> State {
        let mut flows = std::collections::BTreeMap::new();
        for name in [map::FLOWS_IPV4, map::HALF_OPEN_IPV4] {
            flows.extend(self.entries::<Ipv4>(name));
        }
        for name in [map::FLOWS_IPV6, map::HALF_OPEN_IPV6] {
            flows.extend(self.entries::<Ipv6>(name));
        }
        let histograms = self.per_cpu::<HistogramWords>(map::HANDSHAKES, HISTOGRAMS).into_iter().map(|cpus| {
            let mut sum = Histogram::default();
            for words in cpus {
                // SAFETY: a histogram is these words.
                sum.add(&unsafe { mem::transmute::<HistogramWords, Histogram>(words) });
            }
            sum
        });
        let ports = Array::<_, PortsWords>::try_from(self.ebpf.map(map::PORTS).unwrap()).unwrap().get(&0, 0).unwrap();
        State {
            flows,
            counters: self.counters(),
            histograms: histograms.collect(),
            port_slots: ports[..PORT_SLOTS].to_vec(),
        }
    }

    /// All CPUs' counters, of packets and of the sweep.
    pub fn counters(&self) -> Counters {
        let mut counters = Counters::ZERO;
        for words in self.per_cpu::<CounterWords>(map::COUNTERS, 2).into_iter().flatten() {
            // SAFETY: counters are these words.
            counters.add(&unsafe { mem::transmute::<CounterWords, Counters>(words) });
        }
        counters
    }

    /// A program, loaded when it is first needed: the verifier takes its time.
    #[track_caller]
    fn program(&mut self, name: &'static str) -> &mut Program {
        load::load(&mut self.ebpf, name).unwrap_or_else(|error| panic!("{error:#}"));
        self.ebpf.program_mut(name).expect("just loaded")
    }

    fn clear<K: Pod, V: Pod>(&mut self, name: &str) {
        let mut table = HashMap::<_, K, V>::try_from(self.ebpf.map_mut(name).unwrap()).unwrap();
        let keys: Vec<K> = table.keys().map(|key| key.expect("the table can be read")).collect();
        keys.iter().for_each(|key| table.remove(key).expect("what was there can be removed"));
    }

    fn entries<A: Copy + Eq + Debug>(&self, name: &str) -> Vec<(String, String)> {
        let entries = self.table::<A>(name).entries();
        entries.into_iter().map(|(key, flow)| (State::key(name, &key), State::flow(&flow))).collect()
    }

    fn per_cpu<V: Pod>(&self, name: &str, count: u32) -> Vec<Vec<V>> {
        let array = PerCpuArray::<_, V>::try_from(self.ebpf.map(name).unwrap()).unwrap();
        (0..count).map(|index| array.get(&index, 0).expect("the counters can be read").to_vec()).collect()
    }

    fn set<V: Pod>(&mut self, name: &str, value: V) {
        let mut array = Array::<_, V>::try_from(self.ebpf.map_mut(name).unwrap()).unwrap();
        array.set(0, value, 0).unwrap_or_else(|error| panic!("cannot write `{name}`: {error}"));
    }

    fn put<K: Pod>(&mut self, name: &str, key: K) {
        let mut set = HashMap::<_, K, u8>::try_from(self.ebpf.map_mut(name).unwrap()).unwrap();
        set.insert(key, 1, 0).unwrap_or_else(|error| panic!("cannot write `{name}`: {error}"));
    }
}

/// A `struct __sk_buff` (include/uapi/linux/bpf.h) that says nothing but of how many segments the packet is made.
fn skb_context(wire_segments: u32) -> [u8; 192] {
    const GSO_SEGS: usize = 164;
    let mut context = [0; 192];
    context[GSO_SEGS..GSO_SEGS + 4].copy_from_slice(&wire_segments.to_ne_bytes());
    context
}

/// One that says nothing but which interface the packet has come from.
fn skb_context_of(interface: u32) -> [u8; 192] {
    const IFINDEX: usize = 40;
    let mut context = [0; 192];
    context[IFINDEX..IFINDEX + 4].copy_from_slice(&interface.to_ne_bytes());
    context
}

impl Observer for Kernel {
    fn begin_anew(&mut self) {
        Kernel::begin_anew(self, &[]);
    }

    fn set_clock(&mut self, now_ns: u64) {
        Kernel::set_clock(self, now_ns);
    }

    /// Ethernet frames by XDP where they come from `lo`, as test runs have it, else by tc; bare IP without the Ethernet
    /// header, unless it is too long for that.
    fn take(&mut self, packet: &Packet) {
        let is_long = packet.bytes.len() > Kernel::LONGEST_TC;
        match (packet.link, packet.interface) {
            (Link::Ethernet, 1) => self.run(program::XDP_INGRESS, &packet.bytes, 1),
            (Link::Ethernet, interface) => self.run(program::TC_INGRESS, &packet.bytes, interface),
            (Link::Ip, 1) if is_long => {
                let ether_type: [u8; 2] = if packet.bytes[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
                let frame = [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1], &ether_type[..], &packet.bytes].concat();
                self.run(program::XDP_INGRESS, &frame, 1);
            }
            (Link::Ip, interface) => self.run(program::TC_INGRESS_L3, &packet.bytes, interface),
        }
    }

    fn sweep(&mut self, all: bool) {
        Kernel::sweep(self, all);
    }

    fn flows(&self) -> Vec<(AnyKey, Flow)> {
        let mut flows = Vec::new();
        for name in [map::FLOWS_IPV4, map::HALF_OPEN_IPV4] {
            flows.extend(self.table::<Ipv4>(name).entries().into_iter().map(|(key, flow)| (AnyKey::V4(key), flow)));
        }
        for name in [map::FLOWS_IPV6, map::HALF_OPEN_IPV6] {
            flows.extend(self.table::<Ipv6>(name).entries().into_iter().map(|(key, flow)| (AnyKey::V6(key), flow)));
        }
        flows
    }

    fn find(&self, key: &AnyKey) -> Option<Flow> {
        fn first<A: Copy + Eq>(kernel: &Kernel, names: [&str; 2], key: &FlowKey<A>) -> Option<Flow> {
            names.into_iter().find_map(|name| kernel.table::<A>(name).find(key))
        }
        match key {
            AnyKey::V4(key) => first(self, [map::FLOWS_IPV4, map::HALF_OPEN_IPV4], key),
            AnyKey::V6(key) => first(self, [map::FLOWS_IPV6, map::HALF_OPEN_IPV6], key),
        }
    }

    fn counters(&self) -> Counters {
        Kernel::counters(self)
    }
}

impl Kernel {
    /// What a test run takes: a page without room for headers by tc, and several by XDP.
    const LONGEST_TC: usize = 3_400;
    pub const LONGEST: usize = 60_000;

    #[track_caller]
    pub fn run(&mut self, name: &'static str, bytes: &[u8], interface: u32) {
        let context = skb_context_of(interface);
        let program = self.program(name);
        let mut options = TestRunOptions { data_in: Some(bytes), ..Default::default() };
        let (result, pass) = match program {
            Program::Xdp(xdp) => (xdp.test_run(options), XDP_PASS),
            Program::SchedClassifier(tc) => {
                options.ctx_in = (interface > 1).then_some(&context[..]);
                (tc.test_run(options), NEXT as u32)
            }
            _ => panic!("`{name}` is neither XDP nor tc"),
        };
        let result = result.unwrap_or_else(|error| panic!("{name} with {} bytes: {error:?}", bytes.len()));
        assert_eq!(result.return_value, pass, "the verdict of {name} on {bytes:02x?}");
    }

    #[track_caller]
    fn table<A: Copy + Eq>(&self, name: &str) -> FlowTable<A> {
        FlowTable::new(name, |name| match self.ebpf.map(name) {
            Some(Map::Array(data)) => data,
            _ => panic!("`{name}` is no table"),
        })
    }
}
