//! Headers that were never on a wire: what operating systems and capturing devices put before a packet to say more
//! about it.

use tcp_observer_common::{counters::Skip, wire::Network};

use super::{
    Header, LinkType, Next, Packet,
    ethernet::{ADDRESSES_BYTES, announced},
    load, load_u16,
};

/// Linux's cooked header: an ethertype and the number of the interface among its 20 bytes.
pub fn cooked2(packet: Packet<'_>, interface: &mut Option<u32>) -> Next {
    *interface = Some(u32::from_be_bytes(load(packet, 4)?));
    Ok((announced(load_u16(packet, 0)?).ok_or(Skip::NotIp)?, 20))
}

/// The BSDs' loopback: an address family in four bytes, in the byte order of whoever captured, or of the network. Its
/// number fits in one, which tells the order.
pub fn loopback(packet: Packet<'_>) -> Next {
    match load(packet, 0)? {
        [number, 0, 0, 0] | [0, 0, 0, number] => Ok((family(number)?, 4)),
        _ => Err(Skip::NotIp),
    }
}

/// The protocol that an address family stands for. The number of IPv6's differs between systems.
fn family(number: u8) -> Result<Header, Skip> {
    match number {
        2 => Ok(Header::Network(Network::Ipv4)),
        10 | 23 | 24 | 26 | 28 | 30 => Ok(Header::Network(Network::Ipv6)),
        _ => Err(Skip::NotIp),
    }
}

/// A message of Linux's netfilter: an address family, a version and a group, then attributes of a length and a type,
/// one of which is the packet. Lengths and types are in the byte order of whoever captured; types fit in one byte,
/// besides two bits of flags.
pub fn nflog(packet: Packet<'_>) -> Next {
    const HEADER_BYTES: usize = 4;
    const PAYLOAD: u8 = 9;
    const MAX_ATTRIBUTES: usize = 64;
    let mut at = HEADER_BYTES;
    for _ in 0..MAX_ATTRIBUTES {
        let [a, b, c, d] = load(packet, at)?;
        let (length, kind) = match (c, d & 0x3f, c & 0x3f, d) {
            (kind, 0, _, _) => (u16::from_le_bytes([a, b]), kind),
            (_, _, 0, kind) => (u16::from_be_bytes([a, b]), kind),
            _ => return Err(Skip::NotIp),
        };
        if kind == PAYLOAD {
            return Ok((Header::Ip, at + HEADER_BYTES));
        }
        if usize::from(length) < HEADER_BYTES {
            return Err(Skip::NotIp);
        }
        at += usize::from(length).next_multiple_of(4);
    }
    Err(Skip::NotIp)
}

/// OpenBSD's packet filter: a length without padding to a multiple of four bytes, and an address family.
pub fn pflog(packet: Packet<'_>) -> Next {
    let [length, number] = load(packet, 0)?;
    Ok((family(number)?, usize::from(length).next_multiple_of(4)))
}

/// Solaris's: an address family and the number of the interface among 24 bytes.
pub fn ipnet(packet: Packet<'_>, interface: &mut Option<u32>) -> Next {
    let [_, number] = load(packet, 0)?;
    *interface = Some(u32::from_be_bytes(load(packet, 8)?));
    Ok((family(number)?, 24))
}

/// A global routing header, then RFC 4391: an ethertype and two bytes that are reserved.
pub fn ip_over_infiniband(packet: Packet<'_>) -> Next {
    const ROUTING_BYTES: usize = 40;
    Ok((announced(load_u16(packet, ROUTING_BYTES)?).ok_or(Skip::NotIp)?, ROUTING_BYTES + 4))
}

/// Hilscher's netANALYZER: a word of flags, little-endian, then a frame, with its preamble where one flag says so.
/// Another flag marks what is no frame.
pub fn netanalyzer(packet: Packet<'_>) -> Next {
    const IS_GPIO: u8 = 0x01;
    const HAS_PREAMBLE: u8 = 0x02;
    let [_, flags] = load(packet, 0)?;
    if flags & IS_GPIO != 0 {
        return Err(Skip::NotIp);
    }
    let preamble_bytes = if flags & HAS_PREAMBLE == 0 { 0 } else { 8 };
    Ok((Header::Ethertype, 4 + preamble_bytes + ADDRESSES_BYTES))
}

/// Apple's: its length, whether a packet follows, and of which link type, each in four bytes, little-endian.
pub fn pktap(packet: Packet<'_>) -> Next {
    const PACKET_FOLLOWS: u32 = 1;
    let word = |at: usize| load(packet, at).map(u32::from_le_bytes);
    let (bytes, record, link) = (word(0)?, word(4)?, word(8)?);
    if record != PACKET_FOLLOWS {
        return Err(Skip::NotIp);
    }
    let link = u16::try_from(link).ok().and_then(LinkType::of).ok_or(Skip::NotIp)?;
    Ok((link.header, (bytes as usize).saturating_add(link.skip)))
}
