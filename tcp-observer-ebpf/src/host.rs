//! The kernel as the core's [`Host`]: clocks, atomic words, per-CPU counters.

use core::{
    cell::Cell,
    intrinsics::{AtomicOrdering::SeqCst, atomic_cxchg},
    mem,
    ptr::read_volatile,
};

use aya_ebpf::{
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns},
    maps::{Array, HashMap},
};
use tcp_observer_common::{
    conn::{Flow, Judged, Note, Role, Times, Word, tell_at_length},
    counters::{PORT_SLOTS, Skip, TableKind, WORDS, tally},
    flow::{Address, FlowKey, FlowKey4, FlowKey6, Ipv4, Ipv6, Side},
    histogram::Sample,
    limits::Limits,
    local,
    observer::{self, Beginning, Done, Family, Host, Known, Predecessor, Seeker, Sighting, Tap, Transition},
    room,
    segment::Segment,
    seq::SeqNum,
    table::{Looked, Refusal, There},
    verifier::forget,
};

use crate::{
    maps::{
        CLOCK, COUNTERS, HANDSHAKES, LAYOUT, LOCAL_IPV4, LOCAL_IPV4_PLACES, LOCAL_IPV6, LOCAL_IPV6_PLACES, PORTS, TICK,
        UNSTEADY,
    },
    table::{
        Entry, FLOWS4, FLOWS6, FlowTable, FlowTable4, FlowTable6, HALF_OPEN4, HALF_OPEN6, find4, find6, put_half_open,
    },
};

/// Set at load by tests, which then put the time into [`CLOCK`]. The verifier knows its value and drops the branch.
#[unsafe(no_mangle)]
static CLOCK_INJECTED: u8 = 0;

/// Who counts: packets and the sweep have blocks of their own, since a packet may interrupt the sweep between
/// reading a counter and writing it back.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Kernel {
    Packets = 0,
    Sweep = 1,
}

impl Kernel {
    #[inline(always)]
    fn from_bits(bits: u64) -> Self {
        if bits & 1 == 0 { Self::Packets } else { Self::Sweep }
    }
}

#[inline(always)]
fn injected_ns() -> Option<u64> {
    // SAFETY: a load-time constant of one byte.
    let injected = unsafe { read_volatile(&raw const CLOCK_INJECTED) } != 0;
    if injected { CLOCK.get(0).copied() } else { None }
}

/// The coarse clock, asked once a tick on each CPU: it says nothing new in between, and to ask (since 5.11) costs as
/// much as all else that the shortest path does. The number of the tick is a plain load (since 5.6 on x86-64).
#[inline(always)]
fn once_a_tick_ns() -> u64 {
    // SAFETY: helpers without arguments, and this CPU's own memory; packets do not interrupt each other.
    unsafe {
        let Some(tick) = TICK.get_ptr_mut(0) else {
            return bpf_ktime_get_coarse_ns();
        };
        let number = bpf_jiffies64();
        if (*tick).number != number {
            (*tick).ns = bpf_ktime_get_coarse_ns();
            (*tick).number = number;
        }
        (*tick).ns
    }
}

/// [`observer::attempt`] for IPv4 as a function with global linkage, which the verifier looks at once, whatever
/// headers led to it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn attempt_ipv4(key: *const FlowKey4, side: u64, segment: *const Segment, tap: u64) -> u64 {
    attempt(key, side, segment, tap)
}

/// The same for IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn attempt_ipv6(key: *const FlowKey6, side: u64, segment: *const Segment, tap: u64) -> u64 {
    attempt(key, side, segment, tap)
}

#[inline(always)]
fn attempt<A: Address>(key: *const FlowKey<A>, side: u64, segment: *const Segment, tap: u64) -> u64
where
    Kernel: Family<A>,
{
    // SAFETY: null, or references of the only callers.
    let (Some(key), Some(segment)) = (unsafe { key.as_ref() }, unsafe { segment.as_ref() }) else {
        return packed(Done::Again);
    };
    let sighting = Sighting { side: Side::from_bits(side as u8), segment, tap: Tap(tap as u32) };
    packed(observer::attempt(&Kernel::Packets, key, sighting))
}

/// [`Family::begin`] for IPv4 as a function likewise, which puts the flow together where it will lie. `asked` is a bit for
/// the side, one for [`UNLESS_KNOWN`], one for what is in the way, and above them what to note of the predecessor.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn begin_ipv4(key: *const FlowKey4, asked: u64, segment: *const Segment, tap: u64) -> u64 {
    begin((&HALF_OPEN4, &FLOWS4), key, asked, segment, tap)
}

/// The same for IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn begin_ipv6(key: *const FlowKey6, asked: u64, segment: *const Segment, tap: u64) -> u64 {
    begin((&HALF_OPEN6, &FLOWS6), key, asked, segment, tap)
}

macro_rules! room {
    ($key:ty, $is_half_open:literal, $insert:ident, $gives_way:ident) => {
        /// [`room::put`] for one table as a function likewise. `there` is a bit for [`There`], and above it who counts.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $insert(key: *const $key, flow: *const Flow, there: u64) -> u64 {
            put(key, flow, there, $is_half_open)
        }

        /// [`room::gives_way`] likewise.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $gives_way(key: *const $key, flow: *const Flow, word: u64, who: u64) -> u64 {
            gives_way(key, flow, word, who, $is_half_open)
        }
    };
}

room!(FlowKey4, false, flows_insert_ipv4, flows_gives_way_ipv4);
room!(FlowKey4, true, half_open_insert_ipv4, half_open_gives_way_ipv4);
room!(FlowKey6, false, flows_insert_ipv6, flows_gives_way_ipv6);
room!(FlowKey6, true, half_open_insert_ipv6, half_open_gives_way_ipv6);

#[inline(always)]
fn put<A: Address>(key: *const FlowKey<A>, flow: *const Flow, there: u64, is_half_open: bool) -> u64
where
    Kernel: Family<A>,
{
    // SAFETY: null, or references of the only callers.
    let (Some(key), Some(flow)) = (unsafe { key.as_ref() }, unsafe { flow.as_ref() }) else {
        return code(Err(Refusal::Busy));
    };
    let host = Kernel::from_bits(there >> 1);
    let there = if there & 1 == 0 { There::Stays } else { There::IsReplaced };
    code(room::put(&host, key, there, is_half_open, |place, epoch| place.become_like(flow, epoch)))
}

#[inline(always)]
fn gives_way<A: Address>(key: *const FlowKey<A>, flow: *const Flow, word: u64, who: u64, is_half_open: bool) -> u64
where
    Kernel: Family<A>,
{
    // SAFETY: null, or references of the only callers.
    let (Some(key), Some(flow)) = (unsafe { key.as_ref() }, unsafe { flow.as_ref() }) else { return 0 };
    u64::from(room::gives_way(&Kernel::from_bits(who), key, flow, Word(word), is_half_open))
}

#[inline(always)]
fn there_and_who(there: There, who: Kernel) -> u64 {
    u64::from(matches!(there, There::IsReplaced)) | (who as u64) << 1
}

#[inline(always)]
fn refusal(code: u64) -> Result<(), Refusal> {
    match code {
        0 => Ok(()),
        1 => Err(Refusal::Exists),
        2 => Err(Refusal::Full),
        _ => Err(Refusal::Busy),
    }
}

#[inline(always)]
fn code(put: Result<(), Refusal>) -> u64 {
    match put {
        Ok(()) => 0,
        Err(Refusal::Exists) => 1,
        Err(Refusal::Full) => 2,
        Err(Refusal::Busy) => 3,
    }
}

/// The flow was not looked for: [`KNOWN`] comes back where it is there, or may be.
const UNLESS_KNOWN: u64 = 2;
const IN_THE_WAY: u64 = 4;
const OVER_SHIFT: u32 = 3;
/// No [`Done`].
const KNOWN: u64 = u64::MAX;

#[inline(always)]
fn asked_over(side: Side, over: Predecessor) -> u64 {
    side as u64 | if over.is_in_the_way { IN_THE_WAY } else { 0 } | (over.note as u64) << OVER_SHIFT
}

#[inline(always)]
fn begin<A: Address, B>(
    tables: (&FlowTable<A, B>, &FlowTable<A, B>),
    key: *const FlowKey<A>,
    asked: u64,
    segment: *const Segment,
    tap: u64,
) -> u64
where
    Kernel: Family<A>,
{
    // SAFETY: null, or references of the only callers.
    let (Some(key), Some(segment)) = (unsafe { key.as_ref() }, unsafe { segment.as_ref() }) else {
        return packed(Done::Again);
    };
    let host = Kernel::Packets;
    let sighting = Sighting { side: Side::from_bits(asked as u8 & 1), segment, tap: Tap(tap as u32) };
    let beginning = match Beginning::of(&host, key, sighting, Note::from_bits((asked >> OVER_SHIFT) as u8)) {
        Ok(beginning) => beginning,
        Err(reason) => return packed(Done::Skipped(reason)),
    };
    let there = if asked & IN_THE_WAY == 0 { There::Stays } else { There::IsReplaced };
    let is_unlooked = asked & UNLESS_KNOWN != 0;
    let gives_way = |key: &FlowKey<A>, flow: &Flow, word| host.gives_way(key, flow, word, true);
    let write = |flow: &Flow, epoch| beginning.write(&host, flow, epoch);
    let put = put_half_open(tables, key, there, is_unlooked, gives_way, write);
    if is_unlooked && matches!(put, Err(Refusal::Exists)) {
        return KNOWN;
    }
    packed(beginning.counted(&host, put))
}

/// [`Done`] in one register.
#[inline(always)]
fn packed(done: Done) -> u64 {
    match done {
        Done::Updated => 0,
        Done::Again => 1,
        Done::Skipped(reason) => 2 + reason as u64,
    }
}

#[inline(always)]
fn unpacked(done: u64) -> Done {
    match done {
        0 => Done::Updated,
        1 => Done::Again,
        reason => Done::Skipped(Skip::from_bits((reason - 2) as u8)),
    }
}

/// [`observer::carry_out`] as a function with global linkage, which the verifier looks at once, whatever leads to it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn carry_out(flow: *const Flow, segment: *const Segment, transition: *const Transition) -> u64 {
    // SAFETY: null, or references of the only caller.
    let references = unsafe { (flow.as_ref(), segment.as_ref(), transition.as_ref()) };
    if let (Some(flow), Some(segment), Some(transition)) = references {
        observer::carry_out(&Kernel::Packets, flow, segment, transition);
    }
    0
}

/// [`tally::transition`] likewise.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn account(transition: *const Transition, times: *const Times) -> u64 {
    // SAFETY: null, or references of the only caller.
    if let (Some(transition), Some(times)) = unsafe { (transition.as_ref(), times.as_ref()) } {
        tally::transition(&Kernel::Packets, *transition, times);
    }
    0
}

/// [`tell_at_length`] likewise. `details` is a bit for the sender's role, above it the note, and in its upper half the number.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn story_tell(flow: *const Flow, segment: *const Segment, word: u64, details: u64) -> u64 {
    // SAFETY: null, or references of the only callers.
    let (Some(flow), Some(segment)) = (unsafe { flow.as_ref() }, unsafe { segment.as_ref() }) else { return 0 };
    let judged = Judged {
        word: Word(word),
        from: if details & 1 == 0 { Role::Originator } else { Role::Responder },
        note: Note::from_bits((details >> 1) as u8),
        next_seq: SeqNum((details >> 32) as u32),
    };
    tell_at_length(&Kernel::Packets, flow, segment, judged)
}

/// Where the entry has found the flow of the segment at hand, for the first attempt to take it in: zero where it has not,
/// or where that attempt has come to nothing.
#[inline(always)]
fn found_at_entry(seeker: Seeker) -> u64 {
    if matches!(seeker, Seeker::Agent) {
        return 0;
    }
    let Some(stash) = UNSTEADY.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own; packets do not interrupt each other.
    unsafe { mem::take(&mut (*stash).found) }
}

/// Whether the first attempt will get that.
#[inline(always)]
fn was_found_at_entry() -> bool {
    UNSTEADY.get(0).is_some_and(|stash| stash.found != 0)
}

/// Set at load by tests that compare with a capture's replay: flows begin with any segment.
#[unsafe(no_mangle)]
static KEEPS_ALL: u8 = 0;

impl Host for Kernel {
    #[inline(always)]
    fn keeps_all(&self) -> bool {
        // SAFETY: a load-time constant of one byte.
        unsafe { read_volatile(&raw const KEEPS_ALL) != 0 }
    }

    #[inline(always)]
    fn limits(&self) -> Option<&Limits> {
        LAYOUT.get(0).map(|layout| &layout.limits)
    }

    #[inline(always)]
    fn tell_at_length(&self, flow: &Flow, segment: &Segment, judged: Judged) -> u64 {
        let Judged { word, from, note, next_seq } = judged;
        story_tell(flow, segment, word.0, from as u64 | (note as u64) << 1 | u64::from(next_seq.0) << 32)
    }

    #[inline(always)]
    fn carry_out(&self, flow: &Flow, segment: &Segment, transition: &Transition) {
        carry_out(flow, segment, transition);
    }

    #[inline(always)]
    fn account(&self, transition: &Transition, times: &Times) {
        account(transition, times);
    }

    #[inline(always)]
    fn precise_ns(&self) -> u64 {
        // SAFETY: a helper without arguments.
        injected_ns().unwrap_or_else(|| unsafe { bpf_ktime_get_ns() })
    }

    #[inline(always)]
    fn coarse_ns(&self) -> u64 {
        injected_ns().unwrap_or_else(once_a_tick_ns)
    }

    #[inline(always)]
    fn exchange_bits(&self, cell: &Cell<u64>, current: u64, new: u64) -> bool {
        // SAFETY: the cell lies in a map, aligned to eight bytes, and changes by this operation only.
        unsafe { atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(cell.as_ptr(), current, new).1 }
    }

    #[inline(always)]
    fn add(&self, place: usize, amount: u64) {
        // The compiler, which may know the place, must leave the check to the verifier.
        let place = forget(place as u64) as usize;
        let Some(counters) = COUNTERS.get_ptr_mut(*self as u32) else {
            return;
        };
        if place < WORDS {
            // SAFETY: this CPU's own block, which nothing that writes it interrupts; the place is one of its words.
            unsafe { *counters.cast::<u64>().add(place) += amount };
        }
    }

    #[inline(always)]
    fn record(&self, histogram: u32, sample: Sample) {
        if let Some(histogram) = HANDSHAKES.get_ptr_mut(histogram) {
            // SAFETY: as in `add`; the sweep records nothing.
            unsafe { (*histogram).add_sample(sample) };
        }
    }

    #[inline(always)]
    fn port_slot(&self, port: u16, claim: bool) -> usize {
        let Some(ports) = PORTS.get_ptr_mut(0) else {
            return PORT_SLOTS;
        };
        let port = u64::from(port);
        // SAFETY: the map's only entry; slots change from zero once, by exchange.
        let claim = claim && port < unsafe { read_volatile(&raw const (*ports).first_ephemeral) };
        let mut slot = 0;
        while slot < PORT_SLOTS {
            // SAFETY: the index is below the array's length.
            let cell = unsafe { (&raw mut (*ports).slots).cast::<u64>().add(slot) };
            // SAFETY: as above.
            let mut taken_by = unsafe { read_volatile(cell) };
            if taken_by == 0 {
                if !claim {
                    return PORT_SLOTS;
                }
                // SAFETY: aligned to eight bytes, in a map.
                let (found, won) = unsafe { atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(cell, 0, port) };
                taken_by = if won { port } else { found };
            }
            if taken_by == port {
                return slot;
            }
            slot += 1;
        }
        PORT_SLOTS
    }
}

impl Family<Ipv4> for Kernel {
    type Table = FlowTable4;
    const FLOWS: TableKind = TableKind::FlowsIpv4;
    const HALF_OPEN: TableKind = TableKind::HalfOpenIpv4;

    #[inline(always)]
    fn flows(&self) -> Self::Table {
        FLOWS4
    }

    #[inline(always)]
    fn half_open(&self) -> Self::Table {
        HALF_OPEN4
    }

    #[inline(always)]
    fn attempt(&self, key: &FlowKey<Ipv4>, sighting: Sighting<'_>) -> Done {
        unpacked(attempt_ipv4(key, sighting.side as u64, sighting.segment, u64::from(sighting.tap.0)))
    }

    #[inline(always)]
    fn begin(&self, key: &FlowKey<Ipv4>, sighting: Sighting<'_>, over: Predecessor) -> Done {
        let asked = asked_over(sighting.side, over);
        unpacked(begin_ipv4(key, asked, sighting.segment, u64::from(sighting.tap.0)))
    }

    #[inline(always)]
    fn begin_unless_known(&self, key: &FlowKey<Ipv4>, sighting: Sighting<'_>) -> Option<Done> {
        if was_found_at_entry() {
            return None;
        }
        let asked = asked_over(sighting.side, Predecessor::NONE) | UNLESS_KNOWN;
        match begin_ipv4(key, asked, sighting.segment, u64::from(sighting.tap.0)) {
            KNOWN => None,
            done => Some(unpacked(done)),
        }
    }

    #[inline(always)]
    fn put(&self, key: &FlowKey<Ipv4>, flow: &Flow, there: There, is_half_open: bool) -> Result<(), Refusal> {
        let there = there_and_who(there, *self);
        refusal(if is_half_open {
            half_open_insert_ipv4(key, flow, there)
        } else {
            flows_insert_ipv4(key, flow, there)
        })
    }

    #[inline(always)]
    fn gives_way(&self, key: &FlowKey<Ipv4>, flow: &Flow, word: Word, is_half_open: bool) -> bool {
        let who = *self as u64;
        0 != if is_half_open {
            half_open_gives_way_ipv4(key, flow, word.0, who)
        } else {
            flows_gives_way_ipv4(key, flow, word.0, who)
        }
    }

    #[inline(always)]
    fn find(&self, key: &FlowKey<Ipv4>, seeker: Seeker) -> Looked<Known<Entry>> {
        match found_at_entry(seeker) {
            0 => find4(key, seeker),
            at => FLOWS4.find_again(key, at),
        }
    }

    #[inline(always)]
    fn is_local(&self, addr: &Ipv4) -> bool {
        is_local(&LOCAL_IPV4_PLACES, &LOCAL_IPV4, addr)
    }
}

impl Family<Ipv6> for Kernel {
    type Table = FlowTable6;
    const FLOWS: TableKind = TableKind::FlowsIpv6;
    const HALF_OPEN: TableKind = TableKind::HalfOpenIpv6;

    #[inline(always)]
    fn flows(&self) -> Self::Table {
        FLOWS6
    }

    #[inline(always)]
    fn half_open(&self) -> Self::Table {
        HALF_OPEN6
    }

    #[inline(always)]
    fn attempt(&self, key: &FlowKey<Ipv6>, sighting: Sighting<'_>) -> Done {
        unpacked(attempt_ipv6(key, sighting.side as u64, sighting.segment, u64::from(sighting.tap.0)))
    }

    #[inline(always)]
    fn begin(&self, key: &FlowKey<Ipv6>, sighting: Sighting<'_>, over: Predecessor) -> Done {
        let asked = asked_over(sighting.side, over);
        unpacked(begin_ipv6(key, asked, sighting.segment, u64::from(sighting.tap.0)))
    }

    #[inline(always)]
    fn begin_unless_known(&self, key: &FlowKey<Ipv6>, sighting: Sighting<'_>) -> Option<Done> {
        if was_found_at_entry() {
            return None;
        }
        let asked = asked_over(sighting.side, Predecessor::NONE) | UNLESS_KNOWN;
        match begin_ipv6(key, asked, sighting.segment, u64::from(sighting.tap.0)) {
            KNOWN => None,
            done => Some(unpacked(done)),
        }
    }

    #[inline(always)]
    fn put(&self, key: &FlowKey<Ipv6>, flow: &Flow, there: There, is_half_open: bool) -> Result<(), Refusal> {
        let there = there_and_who(there, *self);
        refusal(if is_half_open {
            half_open_insert_ipv6(key, flow, there)
        } else {
            flows_insert_ipv6(key, flow, there)
        })
    }

    #[inline(always)]
    fn gives_way(&self, key: &FlowKey<Ipv6>, flow: &Flow, word: Word, is_half_open: bool) -> bool {
        let who = *self as u64;
        0 != if is_half_open {
            half_open_gives_way_ipv6(key, flow, word.0, who)
        } else {
            flows_gives_way_ipv6(key, flow, word.0, who)
        }
    }

    #[inline(always)]
    fn find(&self, key: &FlowKey<Ipv6>, seeker: Seeker) -> Looked<Known<Entry>> {
        match found_at_entry(seeker) {
            0 => find6(key, seeker),
            at => FLOWS6.find_again(key, at),
        }
    }

    #[inline(always)]
    fn is_local(&self, addr: &Ipv6) -> bool {
        is_local(&LOCAL_IPV6_PLACES, &LOCAL_IPV6, addr)
    }
}

#[inline(always)]
fn is_local<A: Address>(places: &Array<A>, set: &HashMap<A, u8>, addr: &A) -> bool {
    let told = places.get(local::place(addr)).and_then(|there| local::told_by_place(there, addr));
    told.unwrap_or_else(|| {
        // A copy: before 6.2 a map takes no key from memory that a function's argument points to.
        let addr = *addr;
        set.get_ptr(addr).is_some()
    })
}
