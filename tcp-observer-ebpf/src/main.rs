//! The kernel programs: entries and verdicts. What a packet means is the core's business; here are only the places
//! where packets pass, and the promise that each passes unchanged.
#![no_std]
#![no_main]
#![allow(internal_features, reason = "BPF's compare-and-exchange is reached through the compiler's intrinsics only")]
#![feature(asm_experimental_arch, core_intrinsics)]

mod frame;
mod host;
mod maps;
mod sweep;
mod table;

use aya_ebpf::{
    EbpfContext,
    bindings::{TC_ACT_UNSPEC, xdp_action},
    macros::{classifier, xdp},
    maps::ProgramArray,
    programs::{TcContext, XdpContext},
};
use tcp_observer_common::{
    counters::{HookDirection, Skip, place},
    flow::{Address, FlowKey, Side},
    frame::Frame,
    observer::{Family, Host, Sighting, Steady, Table, Tap, observe_quote, observe_unsteady, on_steady},
    wire::{self, Link, Network, Parsed},
};

use crate::{
    frame::{TcFrame, XdpFrame},
    host::Kernel,
    maps::{Stash, UNSTEADY, UNSTEADY_TC, UNSTEADY_XDP, UNSTEADY_XDP_GENERIC},
    table::Entry,
};

/// Enough for an Ethernet header with two tags, IPv6 with some extension headers, and TCP with all its options.
const HEADERS_BYTES: u32 = 256;

#[xdp(frags)]
pub fn xdp_ingress(context: XdpContext) -> u32 {
    xdp(&context, &UNSTEADY_XDP)
}

/// Generic XDP copies what comes in several buffers for a program that would take it so, and the copy's MAC header
/// length is lost (6.18, `skb_pp_cow_data`): tc programs behind would find the packet without its Ethernet header.
/// For this one the kernel makes the packet linear instead.
#[xdp]
pub fn xdp_ingress_generic(context: XdpContext) -> u32 {
    xdp(&context, &UNSTEADY_XDP_GENERIC)
}

#[xdp(frags)]
pub fn xdp_unsteady(_context: XdpContext) -> u32 {
    unsteady();
    xdp_action::XDP_PASS
}

#[xdp]
pub fn xdp_unsteady_generic(_context: XdpContext) -> u32 {
    unsteady();
    xdp_action::XDP_PASS
}

#[inline(always)]
fn xdp(context: &XdpContext, longer_way: &ProgramArray) -> u32 {
    let tap = Tap::new(context.ingress_ifindex() as u32, HookDirection::Ingress);
    match take(&XdpFrame::new(context), Link::Ethernet, tap) {
        Taken::Done => {}
        Taken::Unsteady => hand_over(context, longer_way),
        Taken::Skipped(reason) => skip(reason),
    }
    xdp_action::XDP_PASS
}

#[classifier]
pub fn tc_ingress(context: TcContext) -> i32 {
    tc(&context, Link::Ethernet, HookDirection::Ingress)
}

#[classifier]
pub fn tc_egress(context: TcContext) -> i32 {
    tc(&context, Link::Ethernet, HookDirection::Egress)
}

#[classifier]
pub fn tc_ingress_l3(context: TcContext) -> i32 {
    tc(&context, Link::Ip, HookDirection::Ingress)
}

#[classifier]
pub fn tc_egress_l3(context: TcContext) -> i32 {
    tc(&context, Link::Ip, HookDirection::Egress)
}

#[classifier]
pub fn tc_unsteady(_context: TcContext) -> i32 {
    unsteady();
    TC_ACT_UNSPEC
}

#[classifier]
pub fn sweep(context: TcContext) -> i32 {
    sweep::sweep(&context) as i32
}

#[inline(always)]
fn tc(context: &TcContext, link: Link, direction: HookDirection) -> i32 {
    // SAFETY: the context is this program's own.
    let tap = Tap::new(unsafe { (*context.skb.skb).ifindex }, direction);
    let mut pulled = false;
    loop {
        let frame = TcFrame::new(context);
        let reason = match take(&frame, link, tap) {
            Taken::Done => break,
            Taken::Unsteady => {
                hand_over(context, &UNSTEADY_TC);
                break;
            }
            Taken::Skipped(reason) => reason,
        };
        // Headers beyond the linear part: have them brought in and look once more. The packet stays as it is.
        let may_pull = matches!(reason, Skip::Truncated) && !pulled && frame.has_more();
        let bytes = if context.len() < HEADERS_BYTES { context.len() } else { HEADERS_BYTES };
        if !may_pull || context.pull_data(bytes).is_err() {
            skip(reason);
            break;
        }
        pulled = true;
    }
    TC_ACT_UNSPEC
}

/// What came of a packet at its entry.
enum Taken {
    Done,
    /// Its segment lies in [`UNSTEADY`], to be taken in by [`unsteady`].
    Unsteady,
    Skipped(Skip),
}

/// One packet: parsed, and its segment taken in where that is short.
#[inline(always)]
fn take<F: Frame>(frame: &F, link: Link, tap: Tap) -> Taken {
    let taken = match wire::network(frame, link) {
        Ok((Network::Ipv4, offset)) => match wire::segment4(frame, offset) {
            Ok(parsed) => return take_segment(frame, &parsed, tap),
            Err(Skip::NotTcp) => wire::quote4(frame, offset).and_then(|quote| observe_quote(&Kernel::Packets, &quote)),
            Err(reason) => Err(reason),
        },
        Ok((Network::Ipv6, offset)) => match wire::segment6(frame, offset) {
            Ok(parsed) => return take_segment(frame, &parsed, tap),
            Err(Skip::NotTcp) => wire::quote6(frame, offset).and_then(|quote| observe_quote(&Kernel::Packets, &quote)),
            Err(reason) => Err(reason),
        },
        Err(reason) => Err(reason),
    };
    match taken {
        Ok(()) => Taken::Done,
        Err(reason) => Taken::Skipped(reason),
    }
}

#[inline(always)]
fn take_segment<A, F>(frame: &F, parsed: &Parsed<A>, tap: Tap) -> Taken
where
    A: Address,
    F: Frame,
    Kernel: Family<A, Table: Table<A, Entry = Entry>>,
    FlowKey<A>: Stash,
{
    let Parsed { key, side, segment, options } = parsed;
    let found = match on_steady(&Kernel::Packets, key, Sighting { side: *side, segment, tap }) {
        Steady::Taken => return Taken::Done,
        Steady::Known(entry) => entry.at,
        Steady::Unknown => 0,
    };
    let Some(stash) = UNSTEADY.get_ptr_mut(0) else {
        return Taken::Skipped(Skip::Contended);
    };
    // SAFETY: this CPU's own; packets do not interrupt each other.
    let stash = unsafe { &mut *stash };
    key.stash(stash);
    stash.side = *side as u64;
    stash.tap = tap.0;
    stash.found = found;
    stash.segment = *segment;
    stash.segment.options = wire::options(frame, *options);
    Taken::Unsteady
}

/// Continues in the program for segments off the shortest path, which starts with an empty stack. Comes back only where
/// there is none: nobody maintains these programs any more.
#[inline(always)]
fn hand_over<C: EbpfContext>(context: &C, longer_way: &ProgramArray) {
    // SAFETY: the program called is of this one's kind and takes its context.
    unsafe { longer_way.tail_call(context, 0) };
    skip(Skip::Contended);
}

/// The segment that an entry has handed over.
#[inline(always)]
fn unsteady() {
    let Some(stash) = UNSTEADY.get_ptr(0) else {
        return;
    };
    // SAFETY: this CPU's own, filled by the entry that has just ended.
    let stash = unsafe { &*stash };
    let host = Kernel::Packets;
    let sighting = Sighting { side: Side::from_bits(stash.side as u8), segment: &stash.segment, tap: Tap(stash.tap) };
    let taken = if stash.version == 4 {
        observe_unsteady(&host, &stash.key4, sighting)
    } else {
        observe_unsteady(&host, &stash.key6, sighting)
    };
    if let Err(reason) = taken {
        skip(reason);
    }
}

#[inline(always)]
fn skip(reason: Skip) {
    Kernel::Packets.add(place::skipped(reason), 1);
}

// An endless loop is what the verifier rejects: a panic that could be reached would keep the programs from loading.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
