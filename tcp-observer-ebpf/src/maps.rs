//! The maps. Sizes are the agent's choice at load; those here are what an object loaded without an agent gets.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, PerCpuArray, ProgramArray},
};
use tcp_observer_common::{
    abi::{Adopted, Geometry, InterfaceName, Layout, Ports},
    counters::Counters,
    flow::{FlowKey4, FlowKey6, Ipv4, Ipv6},
    histogram::{HISTOGRAMS, Histogram},
    local,
    segment::Segment,
    table::{PLACES, slots_bytes},
};

/// The bytes of a flow to be taken in, of either family. The flow itself, made of cells, cannot be the type of a static.
#[repr(C, align(8))]
pub struct AdoptedBytes([u64; size_of::<Adopted<Ipv6>>() / 8]);

/// A bucket's control word and tags.
pub type Tags = [u32; PLACES as usize];

/// The bytes of a bucket's entries.
#[repr(C, align(8))]
pub struct SlotsBytes<const WORDS: usize>([u64; WORDS]);

pub type Slots4 = SlotsBytes<{ slots_bytes::<Ipv4>() / 8 }>;
pub type Slots6 = SlotsBytes<{ slots_bytes::<Ipv6>() / 8 }>;

/// Userspace maps it.
const BPF_F_MMAPABLE: u32 = 1 << 10;

#[map]
pub static FLOWS_IPV4: Array<Slots4> = Array::with_max_entries(Geometry::DEFAULT.flows_buckets, BPF_F_MMAPABLE);
#[map]
pub static FLOWS_IPV6: Array<Slots6> = Array::with_max_entries(Geometry::DEFAULT.flows_buckets, BPF_F_MMAPABLE);
#[map]
pub static HALF_OPEN_IPV4: Array<Slots4> = Array::with_max_entries(Geometry::DEFAULT.half_open_buckets, BPF_F_MMAPABLE);
#[map]
pub static HALF_OPEN_IPV6: Array<Slots6> = Array::with_max_entries(Geometry::DEFAULT.half_open_buckets, BPF_F_MMAPABLE);

#[map]
pub static FLOWS_IPV4_TAGS: Array<Tags> = Array::with_max_entries(Geometry::DEFAULT.flows_buckets, BPF_F_MMAPABLE);
#[map]
pub static FLOWS_IPV6_TAGS: Array<Tags> = Array::with_max_entries(Geometry::DEFAULT.flows_buckets, BPF_F_MMAPABLE);
#[map]
pub static HALF_OPEN_IPV4_TAGS: Array<Tags> =
    Array::with_max_entries(Geometry::DEFAULT.half_open_buckets, BPF_F_MMAPABLE);
#[map]
pub static HALF_OPEN_IPV6_TAGS: Array<Tags> =
    Array::with_max_entries(Geometry::DEFAULT.half_open_buckets, BPF_F_MMAPABLE);

/// How large the tables are and which secret their keys are hashed with: set at load.
#[unsafe(no_mangle)]
pub static GEOMETRY: Geometry = Geometry::DEFAULT;

/// One block for packets and one for the sweep, which packets of the same CPU may interrupt.
#[map]
pub static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(2, 0);
#[map]
pub static HANDSHAKES: PerCpuArray<Histogram> = PerCpuArray::with_max_entries(HISTOGRAMS, 0);
#[map]
pub static PORTS: Array<Ports> = Array::with_max_entries(1, 0);
#[map]
pub static LOCAL_IPV4: HashMap<Ipv4, u8> = HashMap::with_max_entries(4096, 0);
#[map]
pub static LOCAL_IPV6: HashMap<Ipv6, u8> = HashMap::with_max_entries(4096, 0);
#[map]
pub static LOCAL_IPV4_PLACES: Array<Ipv4> = Array::with_max_entries(local::PLACES, 0);
#[map]
pub static LOCAL_IPV6_PLACES: Array<Ipv6> = Array::with_max_entries(local::PLACES, 0);
#[map]
pub static INTERFACES: HashMap<u32, InterfaceName> = HashMap::with_max_entries(4096, 0);
#[map]
pub static LAYOUT: Array<Layout> = Array::with_max_entries(1, 0);
#[map]
pub static CLOCK: Array<u64> = Array::with_max_entries(1, 0);
/// What the coarse clock said, and in which tick.
#[map]
pub static TICK: PerCpuArray<Tick> = PerCpuArray::with_max_entries(1, 0);
/// A flow that the agent asks to take in: too large for the stack.
#[map]
pub static ADOPTING: PerCpuArray<AdoptedBytes> = PerCpuArray::with_max_entries(1, 0);
/// The segment that has left the shortest path, on its way from the entry to the program for all others.
#[map]
pub static UNSTEADY: PerCpuArray<Unsteady> = PerCpuArray::with_max_entries(1, 0);
/// The program for segments off the shortest path, one of each kind, since programs of different kinds cannot call
/// each other. The agent fills them in.
#[map]
pub static UNSTEADY_XDP: ProgramArray = ProgramArray::with_max_entries(1, 0);
#[map]
pub static UNSTEADY_XDP_GENERIC: ProgramArray = ProgramArray::with_max_entries(1, 0);
#[map]
pub static UNSTEADY_TC: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// A tick of the kernel's, and the time when it began.
#[repr(C)]
pub struct Tick {
    pub number: u64,
    pub ns: u64,
}

/// What the program for segments off the shortest path needs to know.
#[repr(C)]
pub struct Unsteady {
    /// Which key holds, as an IP version.
    pub version: u32,
    pub tap: u32,
    pub side: u64,
    /// Where the entry has found its flow, for whoever looks for it first; zero where it has not.
    pub found: u64,
    pub key4: FlowKey4,
    pub key6: FlowKey6,
    pub segment: Segment,
}

/// A key of either family, put into its place.
pub trait Stash {
    fn stash(&self, unsteady: &mut Unsteady);
}

impl Stash for FlowKey4 {
    #[inline(always)]
    fn stash(&self, unsteady: &mut Unsteady) {
        unsteady.version = 4;
        unsteady.key4 = *self;
    }
}

impl Stash for FlowKey6 {
    #[inline(always)]
    fn stash(&self, unsteady: &mut Unsteady) {
        unsteady.version = 6;
        unsteady.key6 = *self;
    }
}
