//! IPv4 with options (RFC 791) and IPv6 with a bounded chain of extension headers (RFC 8200).
//!
//! Of fragments the first is used, since it has the TCP header, and later ones are skipped. The payload's length is
//! the header's, never the buffer's, so that Ethernet padding is not payload; a length field of zero means a
//! super-packet beyond 64 KiB (BIG TCP) or one that a network card will cut up, and the buffer's length counts.

use super::{Network, forget_offset, load_bytes, load_u16, load_words};
use crate::{
    counters::Skip,
    flow::{Ipv4, Ipv6},
    frame::{Frame, MAX_OFFSET},
};

const PROTOCOL_TCP: u8 = 6;
const V4_HEADER_BYTES: usize = 20;
const V4_FRAGMENT_OFFSET: u16 = 0x1fff;
const V6_HEADER_BYTES: usize = 40;
const V6_HOP_BY_HOP: u8 = 0;
const V6_ROUTING: u8 = 43;
const V6_FRAGMENT: u8 = 44;
const V6_AUTHENTICATION: u8 = 51;
const V6_DESTINATION: u8 = 60;
const V6_MOBILITY: u8 = 135;
/// How many extension headers are followed. RFC 8200 knows of seven at most in a row; more than a few are not seen.
const MAX_EXTENSIONS: usize = 4;

/// The part of an IP packet that TCP needs.
pub struct IpPacket<A> {
    pub source: A,
    pub destination: A,
    pub payload_offset: usize,
    /// The length of the TCP header and its payload, by the IP header.
    pub payload_bytes: u32,
}

/// An IP packet without a link layer: the version says which.
#[inline(always)]
pub(super) fn network<F: Frame + ?Sized>(frame: &F) -> Result<(Network, usize), Skip> {
    match load_bytes(frame, 0)?[0] >> 4 {
        4 => Ok((Network::Ipv4, 0)),
        6 => Ok((Network::Ipv6, 0)),
        _ => Err(Skip::NotIp),
    }
}

/// How many bytes there are from an offset on; where so many are stated to be there, that may be as far as is looked.
#[inline(always)]
fn available<F: Frame + ?Sized>(frame: &F, offset: usize, stated_bytes: usize) -> usize {
    let bytes = if stated_bytes == 0 { frame.len() } else { frame.len_up_to(offset + stated_bytes) };
    bytes.saturating_sub(offset)
}

#[inline(always)]
pub(super) fn v4<F: Frame + ?Sized>(frame: &F, offset: usize) -> Result<IpPacket<Ipv4>, Skip> {
    let [version_and_length, _] = load_bytes(frame, offset)?;
    let header_bytes = usize::from(version_and_length & 0x0f) * 4;
    if version_and_length >> 4 != 4 || header_bytes < V4_HEADER_BYTES {
        return Err(Skip::BadHeader);
    }
    let [first, second, third, source, destination] = load_words(frame, offset)?;
    let total_bytes = usize::from(u32::from_be(first) as u16);
    let fragment = u32::from_be(second) as u16;
    let [_, protocol, _, _] = third.to_ne_bytes();
    let (source, destination) = ([source], [destination]);
    if protocol != PROTOCOL_TCP {
        return Err(Skip::NotTcp);
    }
    if fragment & V4_FRAGMENT_OFFSET != 0 {
        return Err(Skip::Fragment);
    }
    let available_bytes = available(frame, offset, total_bytes);
    let total_bytes = if total_bytes == 0 { available_bytes } else { total_bytes };
    if total_bytes < header_bytes {
        return Err(Skip::BadHeader);
    }
    if total_bytes > available_bytes {
        return Err(Skip::Truncated);
    }
    Ok(IpPacket {
        source,
        destination,
        payload_offset: offset + header_bytes,
        payload_bytes: (total_bytes - header_bytes) as u32,
    })
}

#[inline(always)]
pub(super) fn v6<F: Frame + ?Sized>(frame: &F, offset: usize) -> Result<IpPacket<Ipv6>, Skip> {
    if load_bytes(frame, offset)?[0] >> 4 != 6 {
        return Err(Skip::BadHeader);
    }
    let [_, second, s0, s1, s2, s3, d0, d1, d2, d3] = load_words(frame, offset)?;
    let stated_bytes = usize::from((u32::from_be(second) >> 16) as u16);
    let [_, _, mut next_header, _] = second.to_ne_bytes();
    let (source, destination) = ([s0, s1, s2, s3], [d0, d1, d2, d3]);
    let available_bytes = available(frame, offset + V6_HEADER_BYTES, stated_bytes);
    // Zero: a jumbogram (RFC 2675), or Linux's BIG TCP with or without the hop-by-hop option that says so.
    let stated_bytes = if stated_bytes == 0 { available_bytes } else { stated_bytes };
    if stated_bytes > available_bytes {
        return Err(Skip::Truncated);
    }
    let mut extension_bytes = 0;
    let mut extensions = 0;
    while next_header != PROTOCOL_TCP {
        if extensions == MAX_EXTENSIONS {
            return Err(Skip::BadHeader);
        }
        extensions += 1;
        if offset + V6_HEADER_BYTES + extension_bytes >= MAX_OFFSET {
            return Err(Skip::BadHeader);
        }
        let at = forget_offset(offset + V6_HEADER_BYTES + extension_bytes);
        let [following, length] = load_bytes(frame, at)?;
        let length = match next_header {
            V6_HOP_BY_HOP | V6_ROUTING | V6_DESTINATION | V6_MOBILITY => (usize::from(length) + 1) * 8,
            // RFC 4302 counts in words of four bytes, less two.
            V6_AUTHENTICATION => (usize::from(length) + 2) * 4,
            V6_FRAGMENT => {
                if load_u16(frame, at + 2)? >> 3 != 0 {
                    return Err(Skip::Fragment);
                }
                8
            }
            _ => return Err(Skip::NotTcp),
        };
        next_header = following;
        extension_bytes += length;
    }
    if extension_bytes > stated_bytes || offset + V6_HEADER_BYTES + extension_bytes >= MAX_OFFSET {
        return Err(Skip::BadHeader);
    }
    Ok(IpPacket {
        source,
        destination,
        payload_offset: offset + V6_HEADER_BYTES + extension_bytes,
        payload_bytes: (stated_bytes - extension_bytes) as u32,
    })
}

#[inline(always)]
pub(super) fn address<F: Frame + ?Sized>(frame: &F, offset: usize) -> Result<Ipv6, Skip> {
    load_words(frame, offset)
}
