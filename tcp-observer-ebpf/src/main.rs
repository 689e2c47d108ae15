//! The kernel programs: entries and verdicts. What a packet means is the core's business; here are only the places
//! where packets pass, and the promise that each passes unchanged.
#![no_std]
#![no_main]
#![allow(internal_features, reason = "BPF's compare-and-exchange is reached through the compiler's intrinsics only")]
#![feature(core_intrinsics)]

mod frame;
mod host;
mod maps;
mod sweep;

use aya_ebpf::{
    bindings::{TC_ACT_UNSPEC, xdp_action},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use tcp_observer_common::{
    counters::{HookDirection, Skip, place},
    frame::Frame,
    observer::{Host, Sighting, Tap, observe},
    wire::{self, Link, Network},
};

use crate::{
    frame::{TcFrame, XdpFrame},
    host::Kernel,
};

/// Enough for an Ethernet header with two tags, IPv6 with some extension headers, and TCP with all its options.
const HEADERS_BYTES: u32 = 256;

#[xdp(frags)]
pub fn xdp_ingress(context: XdpContext) -> u32 {
    xdp(&context)
}

/// Generic XDP copies what comes in several buffers for a program that would take it so, and the copy's MAC header
/// length is lost (6.18, `skb_pp_cow_data`): tc programs behind would find the packet without its Ethernet header.
/// For this one the kernel makes the packet linear instead.
#[xdp]
pub fn xdp_ingress_generic(context: XdpContext) -> u32 {
    xdp(&context)
}

#[inline(always)]
fn xdp(context: &XdpContext) -> u32 {
    let tap = Tap::new(context.ingress_ifindex() as u32, HookDirection::Ingress);
    if let Err(reason) = take(&XdpFrame::new(context), Link::Ethernet, tap) {
        skip(reason);
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
pub fn sweep(context: TcContext) -> i32 {
    sweep::sweep(&context);
    TC_ACT_UNSPEC
}

#[inline(always)]
fn tc(context: &TcContext, link: Link, direction: HookDirection) -> i32 {
    // SAFETY: the context is this program's own.
    let tap = Tap::new(unsafe { (*context.skb.skb).ifindex }, direction);
    let mut pulled = false;
    loop {
        let frame = TcFrame::new(context);
        let Err(reason) = take(&frame, link, tap) else {
            break;
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

/// One packet: parsed, and its segment taken in.
#[inline(always)]
fn take<F: Frame>(frame: &F, link: Link, tap: Tap) -> Result<(), Skip> {
    let host = Kernel::Packets;
    match wire::network(frame, link)? {
        (Network::Ipv4, offset) => {
            let (key, side, segment) = wire::segment4(frame, offset)?;
            observe(&host, &key, Sighting { side, segment: &segment, tap })
        }
        (Network::Ipv6, offset) => {
            let (key, side, segment) = wire::segment6(frame, offset)?;
            observe(&host, &key, Sighting { side, segment: &segment, tap })
        }
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
