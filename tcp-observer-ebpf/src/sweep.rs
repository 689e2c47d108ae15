//! The sweep over the tables. The agent runs it through `BPF_PROG_TEST_RUN`; it is attached to nothing.
//!
//! It goes through the tables inside the kernel (`bpf_for_each_map_elem`, 5.13), so that no flow is copied out and an
//! entry is judged and removed on the spot.

use core::{ffi::c_void, ptr};

use aya_ebpf::{helpers::generated::bpf_for_each_map_elem, maps::HashMap, programs::TcContext};
use tcp_observer_common::{
    abi::{Gone, Layout, request},
    conn::{Flow, Word},
    counters::TableKind,
    flow::{Address, FlowKey, Ipv4, Ipv6},
    observer::{Family, Host, Table},
    sweep::{self, Found, sweep_entry},
};

use crate::{
    host::Kernel,
    maps::{FLOWS_IPV4, FLOWS_IPV6, FlowBytes, HALF_OPEN_IPV4, HALF_OPEN_IPV6, LAYOUT},
};

/// What a callback is given besides the entry.
struct Round {
    now_ns: u64,
    /// Whether the table is the half-open one.
    half_open: u64,
}

/// Does what the frame asks for: see [`request`].
#[inline(always)]
pub fn sweep(context: &TcContext) {
    let (start, end) = (context.data(), context.data_end());
    if start + request::BYTES > end {
        return;
    }
    // SAFETY: just found to lie within the frame.
    let asked = unsafe { *((start + request::AT) as *const u8) };
    let now_ns = Kernel::Sweep.precise_ns();
    let gone = (start + request::GONE_AT) as *const u8;
    if asked == request::GONE_IPV4 {
        end_without_socket::<Ipv4>(gone.cast(), now_ns);
        return;
    }
    if asked == request::GONE_IPV6 {
        end_without_socket::<Ipv6>(gone.cast(), now_ns);
        return;
    }
    sweep_table(&HALF_OPEN_IPV4, visit::<Ipv4>, Round { now_ns, half_open: 1 });
    sweep_table(&HALF_OPEN_IPV6, visit::<Ipv6>, Round { now_ns, half_open: 1 });
    if asked == request::ALL {
        sweep_table(&FLOWS_IPV4, visit::<Ipv4>, Round { now_ns, half_open: 0 });
        sweep_table(&FLOWS_IPV6, visit::<Ipv6>, Round { now_ns, half_open: 0 });
    }
}

/// Ends one flow; `gone` lies within the frame, as a whole.
#[inline(always)]
fn end_without_socket<A: Address>(gone: *const Gone<A>, now_ns: u64)
where
    Kernel: Family<A>,
{
    // SAFETY: the caller's frame is long enough; packet access need not be aligned.
    let Gone { word, last_seen_ns, key } = unsafe { gone.read_unaligned() };
    let host = Kernel::Sweep;
    let settled = Family::<A>::flows(&host).find(&key);
    if let Some(flow) = settled.or_else(|| Family::<A>::half_open(&host).find(&key)) {
        sweep::end_without_socket(&host, &key, &flow, Found { word: Word(word), last_seen_ns }, now_ns);
    }
}

type Visit<A> = extern "C" fn(*mut c_void, *const FlowKey<A>, *mut FlowBytes, *mut Round) -> i64;

#[inline(always)]
fn sweep_table<A>(table: &'static HashMap<FlowKey<A>, FlowBytes>, visit: Visit<A>, mut round: Round) {
    // SAFETY: the callback has the signature that the helper asks for, and the round outlives the call.
    unsafe {
        bpf_for_each_map_elem(ptr::from_ref(table).cast_mut().cast(), visit as *mut c_void, (&raw mut round).cast(), 0);
    }
}

extern "C" fn visit<A: Address>(
    _map: *mut c_void,
    key: *const FlowKey<A>,
    entry: *mut FlowBytes,
    round: *mut Round,
) -> i64
where
    Kernel: Family<A>,
{
    const GO_ON: i64 = 0;
    let Some(layout) = LAYOUT.get(0) else {
        return GO_ON;
    };
    let layout: &Layout = layout;
    // SAFETY: the kernel hands over an entry of the table and the round of the caller.
    let (key, flow, round) = unsafe { (&*key, &*entry.cast::<Flow>(), &*round) };
    let host = Kernel::Sweep;
    let half_open = round.half_open != 0;
    let kind: TableKind = if half_open { <Kernel as Family<A>>::HALF_OPEN } else { <Kernel as Family<A>>::FLOWS };
    if sweep_entry(&host, kind, key, flow, round.now_ns, &layout.limits) {
        if half_open {
            Family::<A>::half_open(&host).remove(key);
        } else {
            Family::<A>::flows(&host).remove(key);
        }
    }
    GO_ON
}
