//! The kernel programs loaded, attached nowhere, and run by hand: the clock is the kernel's own.

use std::{
    collections::BTreeMap,
    io, mem,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, HashMap, Map, MapData},
    programs::Program,
};
use integration_tests::{object, pair::Family, tables::FlowTable};
use proofs::races::{CLIENT_PORT, FIRST_EPHEMERAL, FlowState, Outcome, SERVER_PORT};
use tcp_observer::{
    kernel::{
        bpf::{Plain, Table},
        load,
    },
    snapshot::Key,
};
use tcp_observer_common::{
    abi::{LAYOUT_HASH, Layout, Ports, map, request},
    counters::{Counters, PORT_SLOTS},
    flow::{FlowKey, Ipv4, Ipv6},
    limits::Limits,
};

type PortsWords = [u64; size_of::<Ports>() / 8];
type LayoutWords = [u64; size_of::<Layout>() / 8];

/// More than any round has flows.
const CAPACITY: u32 = 4096;

pub struct Arena {
    pub ebpf: Ebpf,
}

impl Arena {
    #[track_caller]
    pub fn load() -> Self {
        let geometry = load::geometry(CAPACITY, CAPACITY);
        let mut loader = EbpfLoader::new();
        let loaded = load::with_geometry(&mut loader, &geometry).load(&object::bytes());
        let mut arena = Self { ebpf: loaded.expect("the object loads") };
        let mut slots = [0; PORT_SLOTS];
        slots[0] = u64::from(SERVER_PORT);
        let ports = Ports { slots, first_ephemeral: FIRST_EPHEMERAL.into() };
        // SAFETY: both are as long, and `Ports` is made of u64 only.
        arena.set::<PortsWords>(map::PORTS, unsafe { mem::transmute::<Ports, PortsWords>(ports) });
        for family in Family::BOTH {
            match family.host(1) {
                IpAddr::V4(addr) => arena.put(map::LOCAL_IPV4, addr.octets()),
                IpAddr::V6(addr) => arena.put(map::LOCAL_IPV6, addr.octets()),
            }
        }
        arena
    }

    /// A program, loaded.
    #[track_caller]
    pub fn program(&mut self, name: &'static str) -> OwnedFd {
        load::load(&mut self.ebpf, name).unwrap_or_else(|error| panic!("{error:#}"));
        let program = self.ebpf.program(name).expect("just loaded");
        let fd = match program {
            Program::Xdp(xdp) => xdp.fd(),
            Program::SchedClassifier(tc) => tc.fd(),
            _ => panic!("`{name}` is neither XDP nor tc"),
        };
        fd.expect("just loaded").as_fd().try_clone_to_owned().expect("a descriptor can be had twice")
    }

    #[track_caller]
    pub fn set_limits(&mut self, limits: Limits) {
        let layout = Layout {
            hash: LAYOUT_HASH,
            seed: 1,
            max_flows: CAPACITY,
            max_half_open: CAPACITY,
            agent_pid: std::process::id(),
            _reserved: 0,
            started_ns: 1,
            limits,
        };
        // SAFETY: both are as long, and `Layout` has no padding.
        self.set::<LayoutWords>(map::LAYOUT, unsafe { mem::transmute::<Layout, LayoutWords>(layout) });
    }

    /// Forgets all flows.
    #[track_caller]
    pub fn clear(&self) {
        for name in [map::FLOWS_IPV4, map::HALF_OPEN_IPV4] {
            self.flows::<Ipv4>(name).clear();
        }
        for name in [map::FLOWS_IPV6, map::HALF_OPEN_IPV6] {
            self.flows::<Ipv6>(name).clear();
        }
    }

    /// What is left of each tuple, by its number: its client's port beyond the first one's.
    #[track_caller]
    pub fn outcomes(&self) -> BTreeMap<u16, (Outcome, Option<u64>)> {
        let mut flows: BTreeMap<u16, Vec<(FlowState, Option<u64>)>> = BTreeMap::new();
        for (name, is_settled) in [(map::FLOWS_IPV4, true), (map::HALF_OPEN_IPV4, false)] {
            self.add::<Ipv4>(&mut flows, name, is_settled);
        }
        for (name, is_settled) in [(map::FLOWS_IPV6, true), (map::HALF_OPEN_IPV6, false)] {
            self.add::<Ipv6>(&mut flows, name, is_settled);
        }
        let outcome = |flows: Vec<(FlowState, Option<u64>)>| {
            let apart_ns = flows.iter().find_map(|(_, apart_ns)| *apart_ns);
            (Outcome::new(flows.into_iter().map(|(flow, _)| flow).collect()), apart_ns)
        };
        flows.into_iter().map(|(number, flows)| (number, outcome(flows))).collect()
    }

    fn add<A: Copy + Eq>(&self, flows: &mut BTreeMap<u16, Vec<(FlowState, Option<u64>)>>, name: &str, is_settled: bool)
    where
        FlowKey<A>: Key,
    {
        for (key, flow) in self.flows::<A>(name).entries() {
            use tcp_observer_common::flow::Side::{High, Low};
            let ports = [Low, High].map(|side| key.endpoint(side).1);
            let port = ports.into_iter().find(|&port| port != SERVER_PORT).expect("one end is the client");
            let seen = [&flow.low, &flow.high].map(|half| half.last_seen_ns.get());
            let apart_ns = (!seen.contains(&0)).then(|| seen[0].abs_diff(seen[1]));
            flows.entry(port - CLIENT_PORT).or_default().push((FlowState::of(is_settled, &flow), apart_ns));
        }
    }

    /// A table of flows.
    #[track_caller]
    pub fn flows<A: Copy + Eq>(&self, name: &str) -> FlowTable<A> {
        FlowTable::new(name, |name| self.map(name))
    }

    /// All CPUs' counters, of packets and of the sweep.
    #[track_caller]
    pub fn counters(&self) -> Counters {
        let cpus = aya::util::nr_cpus().expect("the number of CPUs is known");
        let table = self.table::<u32, Counters>(map::COUNTERS);
        let mut sum = Counters::ZERO;
        for index in 0..2 {
            table.lookup_per_cpu(&index, cpus).expect("counters can be read").iter().for_each(|one| sum.add(one));
        }
        sum
    }

    #[track_caller]
    pub fn map(&self, name: &str) -> &MapData {
        match self.ebpf.map(name) {
            Some(Map::HashMap(data) | Map::PerCpuArray(data) | Map::Array(data)) => data,
            _ => panic!("`{name}` is no map of that kind"),
        }
    }

    #[track_caller]
    fn table<K: Plain, V: Plain>(&self, name: &str) -> Table<OwnedFd, K, V> {
        let fd = self.map(name).fd().as_fd().try_clone_to_owned().expect("a descriptor can be had twice");
        Table::new(fd, name, size_of::<K>() as u32, size_of::<V>() as u32).expect("the types fit")
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

/// The part of `union bpf_attr` for `BPF_PROG_TEST_RUN` (include/uapi/linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    return_value: u32,
    data_in_bytes: u32,
    data_out_bytes: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration_ns: u32,
    more: [u64; 4],
}

/// Runs a program once; how long it took comes back, in nanoseconds and without the system call around it.
pub fn run(program: &OwnedFd, frame: &[u8]) -> u32 {
    const BPF_PROG_TEST_RUN: libc::c_long = 10;
    let mut attr = TestRun {
        program: program.as_raw_fd().cast_unsigned(),
        data_in_bytes: frame.len() as u32,
        data_in: frame.as_ptr().addr() as u64,
        repeat: 1,
        ..TestRun::default()
    };
    loop {
        // SAFETY: the kernel reads `data_in_bytes` bytes at `data_in`, and writes to the attributes only.
        let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, &raw mut attr, size_of::<TestRun>()) };
        if result == 0 {
            return attr.duration_ns;
        }
        let error = io::Error::last_os_error();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted, "a program cannot be run: {error}");
    }
}

/// What the sweep is run on, to go through all tables.
pub fn sweep_request() -> Vec<u8> {
    let mut frame = vec![0; request::BYTES];
    frame[request::AT] = request::ALL;
    frame
}
