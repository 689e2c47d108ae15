//! Point-to-point lines: PPP alone and over Ethernet, Cisco's HDLC, frame relay.

use tcp_observer_common::{counters::Skip, wire::Network};

use super::{Header, Next, Packet, load, load_u16};

/// RFC 2516: version and type are 1, code 0 is data; a session and a length follow.
pub fn pppoe_session(packet: Packet<'_>) -> Next {
    match load(packet, 0)? {
        [0x11, 0x00] => Ok((Header::Ppp, 6)),
        _ => Err(Skip::NotIp),
    }
}

/// RFC 1661 with or without the address and control bytes of RFC 1662, and with a protocol of two bytes or compressed
/// to one, which is odd as only the last byte of a protocol is.
pub fn ppp(packet: Packet<'_>) -> Next {
    let at = if load(packet, 0)? == [0xff, 0x03] { 2 } else { 0 };
    let [first] = load(packet, at)?;
    let (protocol, bytes) = if first & 1 != 0 { (u16::from(first), 1) } else { (load_u16(packet, at)?, 2) };
    let header = match protocol {
        0x0021 => Header::Network(Network::Ipv4),
        0x0057 => Header::Network(Network::Ipv6),
        0x0281 | 0x0283 => Header::Mpls,
        _ => return Err(Skip::NotIp),
    };
    Ok((header, at + bytes))
}

/// A serial line by its first byte: Cisco's HDLC has one address for unicast and one for multicast.
pub fn serial_ppp(packet: Packet<'_>) -> Next {
    match load(packet, 0)? {
        [0x0f | 0x8f, _] => Ok((Header::Ethertype, 2)),
        _ => Ok((Header::Ppp, 0)),
    }
}

/// Q.922: an address of two to four bytes, the last of which is odd; then RFC 2427 (a control byte, padding, and what
/// follows as ISO numbers it) or, where there is no control byte, Cisco's ethertype.
pub fn frame_relay(packet: Packet<'_>) -> Next {
    const UNNUMBERED: u8 = 0x03;
    let mut at = 1;
    while load::<1>(packet, at)?[0] & 1 == 0 {
        at += 1;
        if at == 4 {
            return Err(Skip::NotIp);
        }
    }
    at += 1;
    let [control, following] = load(packet, at)?;
    if control != UNNUMBERED {
        return Ok((Header::Ethertype, at));
    }
    at += if following == 0 { 2 } else { 1 };
    let header = match load(packet, at)? {
        [0xcc] => Header::Network(Network::Ipv4),
        [0x8e] => Header::Network(Network::Ipv6),
        [0x80] => Header::Snap,
        [0xcf] => Header::Ppp,
        _ => return Err(Skip::NotIp),
    };
    Ok((header, at + 1))
}
