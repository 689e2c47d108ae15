//! What kernel and userspace must agree on: the names of programs and maps, and a description of their layout that
//! is pinned beside them, so that a command line tool of another version says so rather than misread them.

use core::mem::offset_of;

use crate::{
    conn::{Flow, Half, Story, Times, Word},
    counters::Counters,
    flow::{FlowKey, FlowKey4, FlowKey6, Ipv4, Ipv6},
    histogram::{HISTOGRAMS, Histogram},
    limits::Limits,
    table::{SECRETS, Slot, TAGS_BYTES, buckets_for, slots_bytes},
};

/// Names of the kernel programs, as in the ELF object.
pub mod program {
    pub const XDP_INGRESS: &str = "xdp_ingress";
    /// For generic XDP: it takes no packet in several buffers.
    pub const XDP_INGRESS_GENERIC: &str = "xdp_ingress_generic";
    pub const TC_INGRESS: &str = "tc_ingress";
    pub const TC_EGRESS: &str = "tc_egress";
    /// For devices without an Ethernet header (tun, ipip, wireguard).
    pub const TC_INGRESS_L3: &str = "tc_ingress_l3";
    pub const TC_EGRESS_L3: &str = "tc_egress_l3";
    /// What the entries hand over to when a segment is off the shortest path: one of each kind.
    pub const XDP_UNSTEADY: &str = "xdp_unsteady";
    pub const XDP_UNSTEADY_GENERIC: &str = "xdp_unsteady_generic";
    pub const TC_UNSTEADY: &str = "tc_unsteady";
    /// Ends what silence has ended; run by the agent through `BPF_PROG_TEST_RUN`, attached nowhere.
    pub const SWEEP: &str = "sweep";
}

/// Names of the maps, in the ELF object and under the pin directory.
pub mod map {
    /// ARRAY, mapped by userspace, of buckets of [`Slot`](super::Slot)s (see [`crate::table`]): settled flows. The tags are
    /// in another one, whose name ends with [`TAGS`].
    pub const FLOWS_IPV4: &str = "FLOWS_IPV4";
    pub const FLOWS_IPV6: &str = "FLOWS_IPV6";
    /// Likewise: handshakes in progress and flows picked up mid-stream until both directions are confirmed.
    pub const HALF_OPEN_IPV4: &str = "HALF_OPEN_IPV4";
    pub const HALF_OPEN_IPV6: &str = "HALF_OPEN_IPV6";
    /// ARRAYs, likewise mapped, of these tables' lines of tags.
    pub const FLOWS_IPV4_TAGS: &str = "FLOWS_IPV4_TAGS";
    pub const FLOWS_IPV6_TAGS: &str = "FLOWS_IPV6_TAGS";
    pub const HALF_OPEN_IPV4_TAGS: &str = "HALF_OPEN_IPV4_TAGS";
    pub const HALF_OPEN_IPV6_TAGS: &str = "HALF_OPEN_IPV6_TAGS";
    /// What stands behind a table's name in its tags'.
    pub const TAGS: &str = "_TAGS";
    /// PERCPU_ARRAY of two [`Counters`](super::Counters), to be added up: the packets' and the sweep's.
    pub const COUNTERS: &str = "COUNTERS";
    /// PERCPU_ARRAY of [`HISTOGRAMS`](super::HISTOGRAMS) [`Histogram`](super::Histogram)s.
    pub const HANDSHAKES: &str = "HANDSHAKES";
    /// ARRAY of one [`Ports`](super::Ports).
    pub const PORTS: &str = "PORTS";
    /// HASH of the host's own addresses, as u32 words in network order, to a byte; loopback is known by value.
    pub const LOCAL_IPV4: &str = "LOCAL_IPV4";
    pub const LOCAL_IPV6: &str = "LOCAL_IPV6";
    /// ARRAYs of such addresses, in front of these sets: see [`crate::local`].
    pub const LOCAL_IPV4_PLACES: &str = "LOCAL_IPV4_PLACES";
    pub const LOCAL_IPV6_PLACES: &str = "LOCAL_IPV6_PLACES";
    /// HASH of interface index (u32) to [`InterfaceName`](super::InterfaceName): what the agent observes, and has.
    pub const INTERFACES: &str = "INTERFACES";
    /// ARRAY of one [`Layout`](super::Layout).
    pub const LAYOUT: &str = "LAYOUT";
    /// PROG_ARRAY of one: where [`program::XDP_INGRESS`](super::program::XDP_INGRESS) hands over to
    /// [`program::XDP_UNSTEADY`](super::program::XDP_UNSTEADY), and so on.
    pub const UNSTEADY_XDP: &str = "UNSTEADY_XDP";
    pub const UNSTEADY_XDP_GENERIC: &str = "UNSTEADY_XDP_GENERIC";
    pub const UNSTEADY_TC: &str = "UNSTEADY_TC";
    /// ARRAY of one u64: the time in nanoseconds, where [`CLOCK_INJECTED`](super::CLOCK_INJECTED) is set. Tests only.
    pub const CLOCK: &str = "CLOCK";
}

/// What the sweep is asked for: one byte of the frame that it is run on, after room for an Ethernet header.
pub mod request {
    /// Where that byte is.
    pub const AT: usize = 14;
    /// Go through [`SPAN`] buckets of the half-open tables, from the one on whose index (u32) is at [`FROM_AT`].
    pub const HALF_OPEN: u8 = 1;
    /// Likewise of all tables.
    pub const ALL: u8 = 2;
    /// End one flow, whose local sockets are gone: a [`Gone`](super::Gone) follows.
    pub const GONE_IPV4: u8 = 3;
    pub const GONE_IPV6: u8 = 4;
    /// Where it begins.
    pub const GONE_AT: usize = 16;
    /// Take in one flow that the socket table tells of: an [`Adopted`](super::Adopted) is at [`GONE_AT`]. The program
    /// returns one of the numbers below.
    pub const ADOPT_IPV4: u8 = 5;
    pub const ADOPT_IPV6: u8 = 6;
    pub const ADOPTED: u32 = 0;
    pub const KNOWN_ALREADY: u32 = 1;
    pub const NO_ROOM: u32 = 2;
    /// Where a sweep's first bucket is said.
    pub const FROM_AT: usize = 16;
    /// How many buckets one run goes through: a millisecond's work at most, since packets of its CPU wait meanwhile.
    pub const SPAN: u32 = 512;
    /// How long the frame is.
    pub const BYTES: usize = 304;

    /// A frame that asks for `what`, with `more` at [`GONE_AT`]: a [`Gone`](super::Gone), an [`Adopted`](super::Adopted),
    /// or a bucket's index.
    pub fn frame<T>(what: u8, more: &T) -> [u8; BYTES] {
        const { assert!(GONE_AT == FROM_AT && GONE_AT + size_of::<T>() <= BYTES) };
        let mut frame = [0; BYTES];
        frame[AT] = what;
        // SAFETY: the frame has that many bytes behind that place; what is padding in them is read by nobody.
        unsafe {
            core::ptr::copy_nonoverlapping((&raw const *more).cast(), frame.as_mut_ptr().add(GONE_AT), size_of::<T>())
        };
        frame
    }
}

/// A flow as the agent has found it before it learnt that its local sockets are gone.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Gone<A> {
    /// The bits of its word.
    pub word: u64,
    pub last_seen_ns: u64,
    pub key: FlowKey<A>,
}

/// A flow to be taken in.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Adopted<A> {
    pub flow: Flow,
    pub key: FlowKey<A>,
}

const _: () = assert!(request::GONE_AT + size_of::<Gone<Ipv6>>() <= request::BYTES);
const _: () = assert!(request::GONE_AT + size_of::<Adopted<Ipv6>>() <= request::BYTES);

/// Load-time global ([`Geometry`]): how large the tables are, and the secret of their hash.
pub const GEOMETRY: &str = "GEOMETRY";

/// What the kernel programs have to know of the tables before they are loaded.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Geometry {
    /// The random words of [`Hash`](crate::table::Hash): drawn anew at each start, and told to nobody.
    pub secrets: [u64; SECRETS],
    /// Buckets of each family's table of flows, and of half-open ones: as many as the maps have entries.
    pub flows_buckets: u32,
    pub half_open_buckets: u32,
}

impl Geometry {
    /// Of an object that is loaded without an agent: some odd numbers, and room for 65,536 flows in each table.
    pub const DEFAULT: Self = {
        let mut secrets = [0; SECRETS];
        let mut i = 0;
        while i < SECRETS {
            // The golden ratio's multiples, as Knuth's multiplicative hashing has them (TAOCP 3, 6.4).
            secrets[i] = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(2 * i as u64 + 1);
            i += 1;
        }
        let buckets = buckets_for(1 << 16);
        Self { secrets, flows_buckets: buckets, half_open_buckets: buckets }
    };
}

/// Load-time global (u8): read the time from [`map::CLOCK`] instead of the kernel's clock.
pub const CLOCK_INJECTED: &str = "CLOCK_INJECTED";

/// Load-time global (u8): flows begin with any segment, as in the replay of a capture. Tests only.
pub const KEEPS_ALL: &str = "KEEPS_ALL";

/// An interface's name, filled up with zeros (IFNAMSIZ). An index means something else in another network namespace,
/// and nothing once the interface is gone; the name stays.
pub type InterfaceName = [u8; 16];

/// The responder ports with counters of their own, by slot; zero is a free slot. The kernel fills free slots with
/// the first ports below `first_ephemeral` whose handshake completes; a slot once taken keeps its port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Ports {
    /// Each the port, in host byte order; changed by compare-and-exchange.
    pub slots: [u64; crate::counters::PORT_SLOTS],
    /// Ports from here on are never given a slot: the lower end of `net.ipv4.ip_local_port_range`.
    pub first_ephemeral: u64,
}

/// The description of the pinned maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Layout {
    /// [`LAYOUT_HASH`] of the agent that made the maps.
    pub hash: u64,
    /// Drawn anew at each start: tells one agent's maps from the next one's.
    pub seed: u64,
    /// Entries that each family's table of flows can hold, and of half-open flows.
    pub max_flows: u32,
    pub max_half_open: u32,
    /// The agent's process, for messages.
    pub agent_pid: u32,
    pub _reserved: u32,
    /// When the agent started, in nanoseconds of CLOCK_MONOTONIC, the clock of every time in the maps.
    pub started_ns: u64,
    pub limits: Limits,
}

/// A hash (FNV-1a) over the sizes of everything that lies in a map, over where a flow's parts lie, and over this crate's
/// version.
pub const LAYOUT_HASH: u64 = {
    let numbers = [
        size_of::<Word>(),
        size_of::<Half>(),
        size_of::<Times>(),
        size_of::<Story>(),
        size_of::<Flow>(),
        offset_of!(Flow, times),
        offset_of!(Flow, story),
        offset_of!(Flow, low),
        offset_of!(Flow, high),
        size_of::<FlowKey4>(),
        size_of::<FlowKey6>(),
        size_of::<Slot<Ipv4>>(),
        size_of::<Slot<Ipv6>>(),
        TAGS_BYTES,
        slots_bytes::<Ipv4>(),
        slots_bytes::<Ipv6>(),
        size_of::<Counters>(),
        size_of::<Histogram>(),
        HISTOGRAMS as usize,
        size_of::<Ports>(),
        size_of::<Layout>(),
    ];
    let mut hash = fnv1a(0xcbf2_9ce4_8422_2325, env!("CARGO_PKG_VERSION").as_bytes());
    let mut i = 0;
    while i < numbers.len() {
        hash = fnv1a(hash, &(numbers[i] as u64).to_le_bytes());
        i += 1;
    }
    hash
};

const fn fnv1a(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_layouts_hash_is_of_more_than_the_version() {
        let version = super::fnv1a(0xcbf2_9ce4_8422_2325, env!("CARGO_PKG_VERSION").as_bytes());
        assert_ne!(super::LAYOUT_HASH, version);
    }

    #[test]
    fn fnv1a_gives_its_published_vectors() {
        // From the test vectors of the FNV reference (draft-eastlake-fnv).
        assert_eq!(super::fnv1a(0xcbf2_9ce4_8422_2325, b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(super::fnv1a(0xcbf2_9ce4_8422_2325, b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(super::fnv1a(0xcbf2_9ce4_8422_2325, b"foobar"), 0x8594_4171_f739_67e8);
    }
}
