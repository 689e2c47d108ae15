//! Bytes in, meaning out: link layer, network layer, TCP header.
//!
//! Every function here takes any bytes whatever and answers with what they say or with the [`Skip`] reason why they
//! say nothing. None of them panics, loops without a bound, or believes a length that the buffer contradicts.
//! Checksums are not verified: offloading leaves them unset on the way out.

mod ethernet;
mod icmp;
mod ip;
mod options;
mod tcp;

pub use ethernet::Network;
pub use icmp::{Quote, quote4, quote6};
pub use ip::IpPacket;
pub use options::options;
pub use tcp::OptionsSpan;

use crate::{
    counters::Skip,
    flow::{Address, FlowKey, Ipv4, Ipv6, Side},
    frame::{Frame, MAX_OFFSET},
    segment::Segment,
    verifier::forget,
};

/// What a frame begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Ethernet,
    /// A device without a link-layer header: an IP packet, which its version field tells apart.
    Ip,
}

/// The network-layer header of a frame, and its offset.
///
/// # Errors
/// [`Skip::NotIp`] or [`Skip::Truncated`].
#[inline(always)]
pub fn network<F: Frame + ?Sized>(frame: &F, link: Link) -> Result<(Network, usize), Skip> {
    match link {
        Link::Ethernet => ethernet::network(frame),
        Link::Ip => ip::network(frame),
    }
}

/// A TCP segment, and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Parsed<A> {
    pub key: FlowKey<A>,
    /// The side that sent it.
    pub side: Side,
    /// What it says, but for its options.
    pub segment: Segment,
    /// For [`options()`].
    pub options: OptionsSpan,
}

/// The TCP segment of an IPv4 packet.
///
/// # Errors
/// The reason why there is none.
#[inline(always)]
pub fn segment4<F: Frame + ?Sized>(frame: &F, offset: usize) -> Result<Parsed<Ipv4>, Skip> {
    segment(frame, ip::v4(frame, forget_offset(offset))?)
}

/// The same of an IPv6 packet.
///
/// # Errors
/// The reason why there is none.
#[inline(always)]
pub fn segment6<F: Frame + ?Sized>(frame: &F, offset: usize) -> Result<Parsed<Ipv6>, Skip> {
    segment(frame, ip::v6(frame, forget_offset(offset))?)
}

#[inline(always)]
fn segment<F: Frame + ?Sized, A: Address>(frame: &F, ip: IpPacket<A>) -> Result<Parsed<A>, Skip> {
    let offset = forget_offset(ip.payload_offset);
    let (source_port, destination_port, segment, options) = tcp::segment(frame, offset, ip.payload_bytes)?;
    let (key, side) = FlowKey::of(ip.source, source_port, ip.destination, destination_port);
    Ok(Parsed { key, side, segment, options })
}

/// An offset below [`MAX_OFFSET`], of which the verifier forgets by which headers it came about.
#[inline(always)]
fn forget_offset(offset: usize) -> usize {
    forget(offset as u64) as usize & (MAX_OFFSET - 1)
}

/// Two neighbouring bytes. Single ones are never loaded: the verifier does not take the comparison that LLVM makes of
/// their bounds check.
#[inline(always)]
fn load_bytes<F: Frame + ?Sized>(frame: &F, offset: usize) -> Result<[u8; 2], Skip> {
    frame.load(offset).ok_or(Skip::Truncated)
}

#[inline(always)]
fn load_u16<F: Frame + ?Sized>(frame: &F, offset: usize) -> Result<u16, Skip> {
    frame.load(offset).map(u16::from_be_bytes).ok_or(Skip::Truncated)
}

#[inline(always)]
fn load_u32<F: Frame + ?Sized>(frame: &F, offset: usize) -> Result<u32, Skip> {
    frame.load(offset).map(u32::from_be_bytes).ok_or(Skip::Truncated)
}

/// Words in a row, left in network order.
#[inline(always)]
fn load_words<F: Frame + ?Sized, const N: usize>(frame: &F, offset: usize) -> Result<[u32; N], Skip> {
    frame.load_words(offset).ok_or(Skip::Truncated)
}

/// An address word, left in network order.
#[inline(always)]
fn load_word<F: Frame + ?Sized>(frame: &F, offset: usize) -> Result<u32, Skip> {
    frame.load(offset).map(u32::from_ne_bytes).ok_or(Skip::Truncated)
}

#[cfg(test)]
mod tests;
