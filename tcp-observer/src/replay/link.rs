//! What a captured packet begins with, and where its IP header is.
//!
//! Ethernet and bare IP are the core's. Captures know more: the BSDs' loopback and Linux's cooked headers are reduced
//! to these two here. VLAN tags are collected, since they belong to a flow's identity in a capture.

use tcp_observer_common::{
    counters::Skip,
    frame::Frame,
    wire::{self, Link, Network},
};

use super::capture::Packet;

/// The link types that can be read (<https://www.tcpdump.org/linktypes.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkType {
    Ethernet,
    Ip,
    /// The address family in four bytes, in the byte order of whoever captured, or of the network.
    Loopback,
    /// What Linux's `any` device gives: 16 bytes, of which the last two are an ethertype.
    Cooked,
    /// The same, newer: 20 bytes, which begin with an ethertype and name the interface.
    Cooked2,
}

impl LinkType {
    /// The link type with this number; `None` for all that cannot be read.
    pub const fn of(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Ethernet,
            // 12 and 14 are what operating systems called it before there was a number for files.
            12 | 14 | 101 | 228 | 229 => Self::Ip,
            0 | 108 => Self::Loopback,
            113 => Self::Cooked,
            276 => Self::Cooked2,
            _ => return None,
        })
    }
}

/// How many tags a frame may have that are looked at: one in a cooked header's ethertype, two behind it.
const MAX_TAGS: usize = 3;

/// The ids of a packet's VLAN tags, outermost first, zero where there are no more. A tag without an id (zero, a mere
/// priority) counts as none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tags([u16; MAX_TAGS]);

impl Tags {
    fn push(&mut self, tag: u16) {
        let id = tag & 0x0fff;
        if id != 0
            && let Some(free) = self.0.iter_mut().find(|id| **id == 0)
        {
            *free = id;
        }
    }
}

/// Where the network layer of a packet is.
pub struct Located<'a> {
    pub packet: Packet<'a>,
    pub network: Network,
    pub offset: usize,
    pub tags: Tags,
    /// The interface that the link-layer header names.
    pub interface: Option<u32>,
}

/// The network layer of a packet.
///
/// # Errors
/// The reason why there is none.
pub fn network(link: LinkType, packet: Packet<'_>) -> Result<Located<'_>, Skip> {
    let located = |network, offset| Located { packet, network, offset, tags: Tags::default(), interface: None };
    match link {
        LinkType::Ethernet => tagged(packet, Tags::default()),
        LinkType::Ip => wire::network(&packet, Link::Ip).map(|(network, offset)| located(network, offset)),
        LinkType::Loopback => Ok(located(family(load(&packet, 0)?)?, 4)),
        // Without its first two bytes this is an Ethernet frame.
        LinkType::Cooked => tagged(packet.from(2), Tags::default()),
        LinkType::Cooked2 => {
            let interface = Some(u32::from_be_bytes(load(&packet, 4)?));
            let found = match u16::from_be_bytes(load(&packet, 0)?) {
                ETHERTYPE_IPV4 => located(Network::Ipv4, 20),
                ETHERTYPE_IPV6 => located(Network::Ipv6, 20),
                ETHERTYPE_8021Q | ETHERTYPE_8021AD | ETHERTYPE_QINQ => {
                    let mut tags = Tags::default();
                    tags.push(u16::from_be_bytes(load(&packet, 20)?));
                    // The tag is followed by an ethertype, as an Ethernet header's addresses are.
                    tagged(packet.from(22 - ADDRESSES_BYTES), tags)?
                }
                _ => return Err(Skip::NotIp),
            };
            Ok(Located { interface, ..found })
        }
    }
}

const ADDRESSES_BYTES: usize = 12;
const ETHERNET_BYTES: usize = 14;
const TAG_BYTES: usize = 4;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_8021Q: u16 = 0x8100;
const ETHERTYPE_8021AD: u16 = 0x88a8;
const ETHERTYPE_QINQ: u16 = 0x9100;

/// An Ethernet frame; the core skips its tags, and the room that they take tells how many there are.
fn tagged(packet: Packet<'_>, mut tags: Tags) -> Result<Located<'_>, Skip> {
    let (network, offset) = wire::network(&packet, Link::Ethernet)?;
    for at in (ETHERNET_BYTES..offset).step_by(TAG_BYTES) {
        tags.push(u16::from_be_bytes(load(&packet, at)?));
    }
    Ok(Located { packet, network, offset, tags, interface: None })
}

/// The protocol that an address family stands for. Its number fits in a byte, which tells the byte order; that of
/// IPv6 differs between systems.
fn family(bytes: [u8; 4]) -> Result<Network, Skip> {
    match bytes {
        [family, 0, 0, 0] | [0, 0, 0, family] => match family {
            2 => Ok(Network::Ipv4),
            10 | 23 | 24 | 28 | 30 => Ok(Network::Ipv6),
            _ => Err(Skip::NotIp),
        },
        _ => Err(Skip::NotIp),
    }
}

fn load<const N: usize>(packet: &Packet<'_>, offset: usize) -> Result<[u8; N], Skip> {
    packet.load(offset).ok_or(Skip::Truncated)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(link: u16, bytes: &[u8]) -> Result<(Network, usize, [u16; 3], Option<u32>), Skip> {
        let packet = Packet { bytes, wire_bytes: bytes.len() };
        let found = network(LinkType::of(link).unwrap(), packet)?;
        let shift = bytes.len() - found.packet.bytes.len();
        Ok((found.network, shift + found.offset, found.tags.0, found.interface))
    }

    #[test]
    fn loopback_families_are_told_in_either_byte_order() {
        assert_eq!(at(0, &[2, 0, 0, 0, 0x45]), Ok((Network::Ipv4, 4, [0; 3], None)));
        assert_eq!(at(0, &[0, 0, 0, 30, 0x60]), Ok((Network::Ipv6, 4, [0; 3], None)));
        assert_eq!(at(108, &[0, 0, 0, 24, 0x60]), Ok((Network::Ipv6, 4, [0; 3], None)));
        assert_eq!(at(0, &[7, 0, 0, 0]), Err(Skip::NotIp));
        assert_eq!(at(0, &[2, 0, 0]), Err(Skip::Truncated));
    }

    #[test]
    fn cooked_headers_end_with_an_ethertype_and_newer_ones_begin_with_it() {
        let mut cooked = [0; 16];
        cooked[14..].copy_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
        assert_eq!(at(113, &cooked), Ok((Network::Ipv4, 16, [0; 3], None)));
        let mut cooked2 = [0; 20];
        cooked2[..2].copy_from_slice(&ETHERTYPE_IPV6.to_be_bytes());
        cooked2[7] = 5;
        assert_eq!(at(276, &cooked2), Ok((Network::Ipv6, 20, [0; 3], Some(5))));
        cooked2[0] = 0;
        assert_eq!(at(276, &cooked2), Err(Skip::NotIp));
    }

    #[test]
    fn tags_are_collected_wherever_they_stand() {
        let mut ethernet = vec![0; 12];
        ethernet.extend([0x88, 0xa8, 0x20, 80, 0x81, 0, 0, 81, 0x86, 0xdd]);
        assert_eq!(at(1, &ethernet), Ok((Network::Ipv6, 22, [80, 81, 0], None)));
        let mut cooked2 = vec![0x81, 0, 0, 0, 0, 0, 0, 3];
        cooked2.resize(20, 0);
        cooked2.extend([0x40, 7, 0x08, 0]);
        assert_eq!(at(276, &cooked2), Ok((Network::Ipv4, 24, [7, 0, 0], Some(3))));
        let mut priority = vec![0; 12];
        priority.extend([0x81, 0, 0xe0, 0, 0x08, 0]);
        assert_eq!(at(1, &priority), Ok((Network::Ipv4, 18, [0; 3], None)));
    }
}
