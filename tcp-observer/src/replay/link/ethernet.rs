//! IEEE 802 and what travels in its frames: ethertypes, VLAN tags, LLC with SNAP, MPLS; and frames around its frames.

use tcp_observer_common::{counters::Skip, wire::Network};

use super::{Header, Next, Packet, Tags, load, load_u16};

pub const ADDRESSES_BYTES: usize = 12;
/// Lower ones are the length of a frame that has an LLC header (IEEE 802.3, 3.2.6).
const MIN_ETHERTYPE: u16 = 1536;
const MAX_LABELS: usize = 16;

/// What an ethertype announces
/// (<https://www.iana.org/assignments/ieee-802-numbers/ieee-802-numbers.xhtml>).
#[inline(always)]
pub const fn announced(ethertype: u16) -> Option<Header> {
    Some(match ethertype {
        0x0800 => Header::Network(Network::Ipv4),
        0x86dd => Header::Network(Network::Ipv6),
        // 802.1Q, 802.1ad, and the number that the latter had before there was one.
        0x8100 | 0x88a8 | 0x9100 => Header::Tag,
        0x8847 | 0x8848 => Header::Mpls,
        0x8864 => Header::PppoeSession,
        // A length, or the number for lengths that are none (jumbo frames).
        0..MIN_ETHERTYPE | 0x8870 => Header::Llc,
        _ => return None,
    })
}

#[inline(always)]
pub fn ethertype(packet: Packet<'_>) -> Next {
    let header = announced(load_u16(packet, 0)?).ok_or(Skip::NotIp)?;
    Ok((header, 2))
}

#[inline]
pub fn tag(packet: Packet<'_>, tags: &mut Tags) -> Next {
    tags.push(load_u16(packet, 0)?);
    Ok((Header::Ethertype, 2))
}

/// A stack of labels (RFC 3032), the last of which is marked as such. Nothing says what follows; IP's first four bits
/// tell, and what is neither IPv4 nor IPv6 can only be an Ethernet frame.
pub fn mpls(packet: Packet<'_>) -> Next {
    for label in 0..MAX_LABELS {
        let [_, _, lowest, _] = load(packet, label * 4)?;
        if lowest & 1 != 0 {
            return pseudowire(packet, (label + 1) * 4);
        }
    }
    Err(Skip::NotIp)
}

fn pseudowire(packet: Packet<'_>, at: usize) -> Next {
    let frame = |at: usize| Ok((Header::Ethertype, at + ADDRESSES_BYTES));
    // Not a length: small numbers are everywhere.
    let is_frame = |at: usize| {
        let number = load_u16(packet, at + ADDRESSES_BYTES);
        number.is_ok_and(|number| number >= MIN_ETHERTYPE && announced(number).is_some())
    };
    let [first] = load(packet, at)?;
    match first >> 4 {
        4 => Ok((Header::Network(Network::Ipv4), at)),
        6 => Ok((Header::Network(Network::Ipv6), at)),
        // A control word (RFC 4385), unless this is an address already.
        0 if is_frame(at + 4) || !is_frame(at) => frame(at + 4),
        // No data but what goes with a pseudowire.
        1 => Err(Skip::NotIp),
        _ => frame(at),
    }
}

/// An LLC header (IEEE 802.2): two access points and a control byte. SNAP has one number for access points, IP another.
pub fn llc(packet: Packet<'_>) -> Next {
    match load(packet, 0)? {
        [0xaa, 0xaa, 0x03] => Ok((Header::Snap, 3)),
        [0x06, 0x06, 0x03] => Ok((Header::Ip, 3)),
        _ => Err(Skip::NotIp),
    }
}

/// Who has assigned the number that follows: it is an ethertype by RFC 1042 and by 802.1H.
pub fn snap(packet: Packet<'_>) -> Next {
    match load(packet, 0)? {
        [0, 0, 0] | [0, 0, 0xf8] => Ok((Header::Ethertype, 3)),
        _ => Err(Skip::NotIp),
    }
}

/// IEEE 802.5: access and frame control, two addresses, and a route where the source address has its group bit set.
pub fn token_ring(packet: Packet<'_>) -> Next {
    const IS_ROUTED: u8 = 0x80;
    let [_, frame_control] = load(packet, 0)?;
    if frame_control >> 6 != 1 {
        return Err(Skip::NotIp);
    }
    let [source] = load(packet, 8)?;
    let route_bytes = if source & IS_ROUTED == 0 {
        0
    } else {
        let [route] = load(packet, 14)?;
        usize::from(route & 0x1f)
    };
    Ok((Header::Llc, 14 + route_bytes))
}

/// ANSI X3.139: frame control and two addresses.
pub fn fddi(packet: Packet<'_>) -> Next {
    match load(packet, 0)? {
        // Synchronous or not, addresses of 48 bits, LLC.
        [frame_control] if frame_control & 0x70 == 0x50 => Ok((Header::Llc, 13)),
        _ => Err(Skip::NotIp),
    }
}

/// A cable modem's MAC header (CM-SP-MULPIv3.1, 6.2): frame control, a parameter, a length, perhaps an extension, and a
/// checksum; then an Ethernet frame.
pub fn docsis(packet: Packet<'_>) -> Next {
    const HAS_EXTENSION: u8 = 1;
    let [frame_control, extension_bytes] = load(packet, 0)?;
    // Packets, and those that other modems are kept from hearing; neither requests nor management.
    if !matches!(frame_control & !HAS_EXTENSION, 0x00 | 0x80) {
        return Err(Skip::NotIp);
    }
    let extension_bytes = if frame_control & HAS_EXTENSION == 0 { 0 } else { usize::from(extension_bytes) };
    Ok((Header::Ethertype, 6 + extension_bytes + ADDRESSES_BYTES))
}

/// IEEE 802.3, 99.3: a preamble of seven bytes and a delimiter that says whether a frame begins here; one that goes on
/// has no header.
pub fn mpacket(packet: Packet<'_>) -> Next {
    match load(packet, 7)? {
        [0xd5 | 0xe6 | 0x4c | 0x7f | 0xb3] => Ok((Header::Ethertype, 8 + ADDRESSES_BYTES)),
        _ => Err(Skip::NotIp),
    }
}
