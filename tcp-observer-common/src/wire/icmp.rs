//! ICMP and ICMPv6 errors that quote a TCP segment: the first bytes of a packet that did not arrive, and why
//! (<https://www.rfc-editor.org/rfc/rfc792>, <https://www.rfc-editor.org/rfc/rfc4443#section-3>).
//!
//! The quote is the packet's IP header and at least eight bytes more: both ports and the sequence number. That number is
//! what tells an error in answer to a segment from one that is made up
//! (<https://www.rfc-editor.org/rfc/rfc5927#section-4>).

use super::{forget_offset, ip, load_bytes, load_u16, load_u32};
use crate::{
    counters::{Skip, Unreachable},
    flow::{Address, FlowKey, Ipv4, Ipv6, Side},
    frame::Frame,
    seq::SeqNum,
};

const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_ICMPV6: u8 = 58;
const PROTOCOL_TCP: u8 = 6;
const ICMP_HEADER_BYTES: usize = 8;
const V4_HEADER_BYTES: usize = 20;
const V6_HEADER_BYTES: usize = 40;

/// A segment that did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote<A> {
    pub key: FlowKey<A>,
    /// Who sent the segment.
    pub side: Side,
    pub seq: SeqNum,
    pub reason: Unreachable,
}

/// The quote in an IPv4 packet.
///
/// # Errors
/// [`Skip::NotTcp`] for all that is no such error, [`Skip::Truncated`] for one that is torn.
#[inline(always)]
pub fn quote4<F: Frame + ?Sized>(frame: &F, offset: usize) -> Result<Quote<Ipv4>, Skip> {
    let offset = forget_offset(offset);
    let [version_and_length, _] = load_bytes(frame, offset)?;
    let [_, protocol] = load_bytes(frame, offset + 8)?;
    if protocol != PROTOCOL_ICMP {
        return Err(Skip::NotTcp);
    }
    let icmp = forget_offset(offset + usize::from(version_and_length & 0x0f) * 4);
    let [kind, code] = load_bytes(frame, icmp)?;
    let reason = v4_reason(kind, code).ok_or(Skip::NotTcp)?;
    let quoted = icmp + ICMP_HEADER_BYTES;
    let [version_and_length, _] = load_bytes(frame, quoted)?;
    let header_bytes = usize::from(version_and_length & 0x0f) * 4;
    let [_, protocol] = load_bytes(frame, quoted + 8)?;
    if version_and_length >> 4 != 4 || header_bytes < V4_HEADER_BYTES || protocol != PROTOCOL_TCP {
        return Err(Skip::NotTcp);
    }
    let source = [super::load_word(frame, quoted + 12)?];
    let destination = [super::load_word(frame, quoted + 16)?];
    quote(frame, forget_offset(quoted + header_bytes), source, destination, reason)
}

/// The quote in an IPv6 packet without extension headers, of one without any.
///
/// # Errors
/// As [`quote4`].
#[inline(always)]
pub fn quote6<F: Frame + ?Sized>(frame: &F, offset: usize) -> Result<Quote<Ipv6>, Skip> {
    let offset = forget_offset(offset);
    let [protocol, _] = load_bytes(frame, offset + 6)?;
    if protocol != PROTOCOL_ICMPV6 {
        return Err(Skip::NotTcp);
    }
    let icmp = offset + V6_HEADER_BYTES;
    let [kind, code] = load_bytes(frame, icmp)?;
    let reason = v6_reason(kind, code).ok_or(Skip::NotTcp)?;
    let quoted = icmp + ICMP_HEADER_BYTES;
    let [version, _] = load_bytes(frame, quoted)?;
    let [protocol, _] = load_bytes(frame, quoted + 6)?;
    if version >> 4 != 6 || protocol != PROTOCOL_TCP {
        return Err(Skip::NotTcp);
    }
    let (source, destination) = (ip::address(frame, quoted + 8)?, ip::address(frame, quoted + 24)?);
    quote(frame, forget_offset(quoted + V6_HEADER_BYTES), source, destination, reason)
}

#[inline(always)]
fn quote<F: Frame + ?Sized, A: Address>(
    frame: &F,
    tcp: usize,
    source: A,
    destination: A,
    reason: Unreachable,
) -> Result<Quote<A>, Skip> {
    let (source_port, destination_port) = (load_u16(frame, tcp)?, load_u16(frame, tcp + 2)?);
    let seq = SeqNum(load_u32(frame, tcp + 4)?);
    let (key, side) = FlowKey::of(source, source_port, destination, destination_port);
    Ok(Quote { key, side, seq, reason })
}

/// Why, by ICMP's types and codes (<https://www.iana.org/assignments/icmp-parameters>). "Fragmentation needed" is no
/// failure: the segment is sent again, smaller.
#[inline(always)]
const fn v4_reason(kind: u8, code: u8) -> Option<Unreachable> {
    const DESTINATION_UNREACHABLE: u8 = 3;
    const TIME_EXCEEDED: u8 = 11;
    const PARAMETER_PROBLEM: u8 = 12;
    match (kind, code) {
        (DESTINATION_UNREACHABLE, 0 | 6 | 11) => Some(Unreachable::Network),
        (DESTINATION_UNREACHABLE, 1 | 7 | 8 | 12) => Some(Unreachable::Host),
        (DESTINATION_UNREACHABLE, 2) => Some(Unreachable::Protocol),
        (DESTINATION_UNREACHABLE, 3) => Some(Unreachable::Port),
        (DESTINATION_UNREACHABLE, 9 | 10 | 13 | 14 | 15) => Some(Unreachable::Prohibited),
        (DESTINATION_UNREACHABLE, 5) => Some(Unreachable::Other),
        (TIME_EXCEEDED, 0) => Some(Unreachable::TimeExceeded),
        (PARAMETER_PROBLEM, _) => Some(Unreachable::Other),
        _ => None,
    }
}

/// The same by ICMPv6's (<https://www.iana.org/assignments/icmpv6-parameters>).
#[inline(always)]
const fn v6_reason(kind: u8, code: u8) -> Option<Unreachable> {
    const DESTINATION_UNREACHABLE: u8 = 1;
    const TIME_EXCEEDED: u8 = 3;
    const PARAMETER_PROBLEM: u8 = 4;
    match (kind, code) {
        (DESTINATION_UNREACHABLE, 0) => Some(Unreachable::Network),
        (DESTINATION_UNREACHABLE, 1 | 5 | 6) => Some(Unreachable::Prohibited),
        (DESTINATION_UNREACHABLE, 3) => Some(Unreachable::Host),
        (DESTINATION_UNREACHABLE, 4) => Some(Unreachable::Port),
        (DESTINATION_UNREACHABLE, _) => Some(Unreachable::Other),
        (TIME_EXCEEDED, 0) => Some(Unreachable::TimeExceeded),
        (PARAMETER_PROBLEM, 1) => Some(Unreachable::Protocol),
        (PARAMETER_PROBLEM, _) => Some(Unreachable::Other),
        _ => None,
    }
}
