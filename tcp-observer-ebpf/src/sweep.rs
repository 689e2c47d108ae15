//! What the agent asks of the tables, through `BPF_PROG_TEST_RUN`; the program is attached to nothing.
//!
//! The sweep judges entries on the spot and frees their places. It goes through a few hundred buckets a run, since no
//! packet of this CPU is taken in meanwhile.

use core::ptr::read_unaligned;

use aya_ebpf::programs::TcContext;
use tcp_observer_common::{
    abi::{Adopted, Gone, request},
    conn::{Mark, Word},
    counters::TableKind,
    flow::{Address, FlowKey, FlowKey4, FlowKey6, Ipv4, Ipv6},
    observer::{Family, Host, Known, Seeker, Table},
    sweep::{self, Found, sweep_entry},
    table::{self, Bucket, Buckets, Looked, PLACES, Refusal, There},
};

use crate::{
    host::Kernel,
    maps::ADOPTING,
    table::{FLOWS4, FLOWS6, FlowTable, HALF_OPEN4, HALF_OPEN6},
};

/// Does what the frame asks for, and says what came of it: see [`request`].
#[inline(always)]
pub fn sweep(context: &TcContext) -> u32 {
    let (start, end) = (context.data(), context.data_end());
    if start + request::BYTES > end {
        return 0;
    }
    // SAFETY: just found to lie within the frame.
    let asked = unsafe { *((start + request::AT) as *const u8) };
    let now_ns = Kernel::Sweep.precise_ns();
    let more = (start + request::GONE_AT) as *const u8;
    match asked {
        request::GONE_IPV4 => end_without_socket::<Ipv4>(more.cast(), now_ns),
        request::GONE_IPV6 => end_without_socket::<Ipv6>(more.cast(), now_ns),
        request::ADOPT_IPV4 => return adopt::<Ipv4>(more.cast(), take_in_ipv4),
        request::ADOPT_IPV6 => return adopt::<Ipv6>(more.cast(), take_in_ipv6),
        request::HALF_OPEN | request::ALL => {
            // SAFETY: within the frame; packet access need not be aligned.
            let from = unsafe { read_unaligned((start + request::FROM_AT) as *const u32) };
            go_through(from, asked == request::ALL, now_ns);
        }
        _ => {}
    }
    0
}

#[inline(always)]
fn go_through(from: u32, all: bool, now_ns: u64) {
    let mut step = 0;
    while step < request::SPAN {
        let index = u64::from(from + step);
        half_open_sweep_bucket_ipv4(index, now_ns);
        half_open_sweep_bucket_ipv6(index, now_ns);
        if all {
            flows_sweep_bucket_ipv4(index, now_ns);
            flows_sweep_bucket_ipv6(index, now_ns);
        }
        step += 1;
    }
}

/// Goes through the places of a bucket, if there is one with this index.
#[inline(always)]
fn sweep_bucket<A: Address, B>(
    table: &FlowTable<A, B>,
    index: u64,
    now_ns: u64,
    sweep_place: extern "C" fn(u64, u64, u64) -> u64,
) {
    let Some(bucket) = table.bucket(index as u32) else {
        return;
    };
    let mut place = 1;
    while place < PLACES {
        if table::is_taken(bucket.word(place)) {
            sweep_place(index, u64::from(place), now_ns);
        }
        place += 1;
    }
}

/// Judges the entry in a place, and frees it if its time has come.
#[inline(always)]
fn sweep_place<A: Address, B>(table: &FlowTable<A, B>, kind: TableKind, index: u64, place: u64, now_ns: u64)
where
    Kernel: Family<A>,
{
    let host = Kernel::Sweep;
    let (Some(bucket), Some(limits)) = (table.bucket(index as u32), host.limits()) else {
        return;
    };
    let place = place as u32 & (PLACES - 1);
    let Some((word, key, flow)) = table.entry(index as u32, place) else {
        return;
    };
    if sweep_entry(&host, kind, key, flow, word, now_ns, limits) {
        // Its tag as it is now that nobody else may take it out: when it was first looked at another one may have lain here.
        table::release(&bucket, place, bucket.word(place));
    }
}

macro_rules! sweep {
    ($table:ident, $kind:ident, $bucket:ident, $place:ident) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $bucket(index: u64, now_ns: u64) -> u64 {
            sweep_bucket(&$table, index, now_ns, $place);
            0
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $place(index: u64, place: u64, now_ns: u64) -> u64 {
            sweep_place(&$table, TableKind::$kind, index, place, now_ns);
            0
        }
    };
}

sweep!(FLOWS4, FlowsIpv4, flows_sweep_bucket_ipv4, flows_sweep_place_ipv4);
sweep!(FLOWS6, FlowsIpv6, flows_sweep_bucket_ipv6, flows_sweep_place_ipv6);
sweep!(HALF_OPEN4, HalfOpenIpv4, half_open_sweep_bucket_ipv4, half_open_sweep_place_ipv4);
sweep!(HALF_OPEN6, HalfOpenIpv6, half_open_sweep_bucket_ipv6, half_open_sweep_place_ipv6);

/// Ends one flow; `gone` lies within the frame, as a whole.
#[inline(always)]
fn end_without_socket<A: Address>(gone: *const Gone<A>, now_ns: u64)
where
    Kernel: Family<A>,
{
    // SAFETY: the caller's frame is long enough; packet access need not be aligned.
    let Gone { word, last_seen_ns, key } = unsafe { gone.read_unaligned() };
    let host = Kernel::Sweep;
    if let Looked::Found(Known { flow, .. }) = host.find(&key, Seeker::Agent) {
        sweep::end_without_socket(&host, &key, &flow, Found { word: Word(word), last_seen_ns }, now_ns);
    }
}

/// Takes in one flow; `adopted` lies within the frame, as a whole.
#[inline(always)]
fn adopt<A>(adopted: *const Adopted<A>, take_in: extern "C" fn() -> u64) -> u32 {
    let Some(room) = ADOPTING.get_ptr_mut(0) else {
        return request::NO_ROOM;
    };
    let (room, adopted) = (room.cast::<u32>(), adopted.cast::<u32>());
    let mut i = 0;
    while i < size_of::<Adopted<A>>() / 4 {
        // SAFETY: the caller's frame is long enough, and so is the room, which is this CPU's own. Word by word and
        // volatile, so that the compiler does not call for a copy.
        unsafe { room.add(i).write_volatile(adopted.add(i).read_unaligned()) };
        i += 1;
    }
    take_in() as u32
}

/// Takes in the flow that lies in [`ADOPTING`]. What its packets have brought here meanwhile stays as it is.
#[inline(always)]
fn take_in<A: Address>(withdraw: extern "C" fn(*const FlowKey<A>) -> u64) -> u32
where
    Kernel: Family<A>,
{
    let Some(room) = ADOPTING.get_ptr(0) else {
        return request::NO_ROOM;
    };
    // SAFETY: this CPU's own, filled just now; any bytes are a flow and a key.
    let Adopted { flow, key } = unsafe { &*room.cast::<Adopted<A>>() };
    let host = Kernel::Sweep;
    let is_settled = flow.word.load().is_settled();
    if !matches!(host.find(key, Seeker::Agent), Looked::Absent) {
        return request::KNOWN_ALREADY;
    }
    match host.put(key, flow, There::Stays, !is_settled) {
        Ok(()) => {}
        Err(Refusal::Exists | Refusal::Busy) => return request::KNOWN_ALREADY,
        Err(Refusal::Full) => return request::NO_ROOM,
    }
    // Or in this very moment, in the other table. Of the two, lookups find the settled one.
    if is_settled || !matches!(host.find(key, Seeker::Agent), Looked::Found(Known { is_settled: false, .. })) {
        withdraw(key);
    }
    request::ADOPTED
}

/// Takes the half-open flow with this key out, unless a packet has just changed it: then silence will end it.
#[inline(always)]
fn withdraw<A: Address>(key: *const FlowKey<A>) -> u64
where
    Kernel: Family<A>,
{
    // SAFETY: null, or a reference of the only caller.
    let Some(key) = (unsafe { key.as_ref() }) else { return 0 };
    let host = Kernel::Sweep;
    let half_open = Family::<A>::half_open(&host);
    let Some(flow) = half_open.find(key) else { return 0 };
    let word = flow.word.load();
    // Nobody's yet to take out.
    if !word.has(Mark::Retired) && !word.is_settled() && host.exchange(&flow.word, word, word.with(Mark::Retired)) {
        half_open.take_out(key, &flow, word);
    }
    0
}

macro_rules! adoption {
    ($key:ty, $take_in:ident, $withdraw:ident) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $take_in() -> u64 {
            u64::from(take_in($withdraw))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $withdraw(key: *const $key) -> u64 {
            withdraw(key)
        }
    };
}

adoption!(FlowKey4, take_in_ipv4, withdraw_ipv4);
adoption!(FlowKey6, take_in_ipv6, withdraw_ipv6);
