//! The maps. Sizes are the agent's choice at load; those here are what an object loaded without an agent gets.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, PerCpuArray, ProgramArray},
};
use tcp_observer_common::{
    abi::{InterfaceName, Layout, Ports},
    conn::Flow,
    counters::Counters,
    flow::{FlowKey, FlowKey4, FlowKey6, Ipv4, Ipv6},
    histogram::{HISTOGRAMS, Histogram},
    observer::{Refusal, Table},
    segment::Segment,
};

/// A flow's bytes. The flow itself, made of cells, cannot be the type of a static.
#[repr(C, align(8))]
pub struct FlowBytes([u64; size_of::<Flow>() / 8]);

const DEFAULT_ENTRIES: u32 = 1 << 16;

#[map]
pub static FLOWS_IPV4: HashMap<FlowKey4, FlowBytes> = HashMap::with_max_entries(DEFAULT_ENTRIES, 0);
#[map]
pub static FLOWS_IPV6: HashMap<FlowKey6, FlowBytes> = HashMap::with_max_entries(DEFAULT_ENTRIES, 0);
#[map]
pub static HALF_OPEN_IPV4: HashMap<FlowKey4, FlowBytes> = HashMap::with_max_entries(DEFAULT_ENTRIES, 0);
#[map]
pub static HALF_OPEN_IPV6: HashMap<FlowKey6, FlowBytes> = HashMap::with_max_entries(DEFAULT_ENTRIES, 0);
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
pub static INTERFACES: HashMap<u32, InterfaceName> = HashMap::with_max_entries(4096, 0);
#[map]
pub static LAYOUT: Array<Layout> = Array::with_max_entries(1, 0);
#[map]
pub static CLOCK: Array<u64> = Array::with_max_entries(1, 0);
/// Where a new flow is put together: too large for the stack.
#[map]
pub static SCRATCH: PerCpuArray<FlowBytes> = PerCpuArray::with_max_entries(1, 0);
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

/// What the program for segments off the shortest path needs to know.
#[repr(C)]
pub struct Unsteady {
    /// Which key holds, as an IP version.
    pub version: u32,
    pub tap: u32,
    pub side: u64,
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

/// A table of flows in a kernel hash map.
#[derive(Clone, Copy)]
pub struct FlowTable<A: 'static>(pub &'static HashMap<FlowKey<A>, FlowBytes>);

/// What `bpf_map_update_elem` answers when the key is there (asm-generic/errno-base.h).
const EEXIST: i32 = -17;
const BPF_NOEXIST: u64 = 1;
const BPF_EXIST: u64 = 2;

impl<A> Table<A> for FlowTable<A> {
    type Entry = &'static Flow;

    #[inline(always)]
    fn find(&self, key: &FlowKey<A>) -> Option<Self::Entry> {
        // SAFETY: an entry has a flow's size and alignment, any bytes are one, and it stays mapped while the program
        // runs. What else may write to it meanwhile is told in `observer`.
        self.0.get_ptr(key).map(|entry| unsafe { &*entry.cast::<Flow>() })
    }

    #[inline(always)]
    fn insert(&self, key: &FlowKey<A>, flow: &Flow) -> Result<(), Refusal> {
        // SAFETY: as in `find`; the helper only reads it.
        let bytes = unsafe { &*(&raw const *flow).cast::<FlowBytes>() };
        match self.0.insert(key, bytes, BPF_NOEXIST) {
            Ok(()) => Ok(()),
            Err(EEXIST) => Err(Refusal::Exists),
            Err(_) => Err(Refusal::Full),
        }
    }

    #[inline(always)]
    fn replace(&self, key: &FlowKey<A>, flow: &Flow) -> Result<(), Refusal> {
        // SAFETY: as in `insert`.
        let bytes = unsafe { &*(&raw const *flow).cast::<FlowBytes>() };
        self.0.insert(key, bytes, BPF_EXIST).map_err(|_| Refusal::Full)
    }

    #[inline(always)]
    fn remove(&self, key: &FlowKey<A>) {
        // Somebody may have removed it before; that is as good.
        let _ = self.0.remove(key);
    }
}
