//! What a captured packet begins with, and where its IP header is.
//!
//! A packet is a chain of headers: each says how long it is and what follows it, until the network layer is reached.
//! Link types are where such a chain begins. The kernel's programs know Ethernet and bare IP and no more (that is the
//! core's); captures come from everywhere. VLAN tags are collected on the way, since they belong to a flow's identity
//! in a capture.
//!
//! Whatever is unknown or encrypted is [`Skip::NotIp`], what ends within a header is [`Skip::Truncated`].

mod ethernet;
mod number;
mod pseudo;
mod serial;
mod tags;
mod wireless;

use tcp_observer_common::{counters::Skip, frame::Frame as _, wire::Network};

pub use self::tags::Tags;
use super::capture::Packet;

/// A header that something before it, or the link type, has announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    Network(Network),
    /// IPv4 or IPv6, as its first four bits say.
    Ip,
    /// The type at an Ethernet header's end.
    Ethertype,
    /// A VLAN tag behind its own ethertype: the id, then another ethertype.
    Tag,
    Mpls,
    Llc,
    Snap,
    TokenRing,
    Fddi,
    PppoeSession,
    BackboneTag,
    VnTag,
    Ppp,
    /// PPP or Cisco's HDLC: the first byte tells.
    SerialPpp,
    FrameRelay,
    Docsis,
    /// IEEE 802.11; `is_padded` to a multiple of four bytes.
    Wireless {
        is_padded: bool,
    },
    Radiotap,
    Prism,
    Ppi,
    Cooked2,
    Loopback,
    Nflog,
    Pflog,
    Ipnet,
    IpOverInfiniband,
    NetAnalyzer,
    Mpacket,
    Pktap,
}

/// A link type that can be read: a header, and how many bytes come before it that say nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkType {
    skip: usize,
    header: Header,
}

/// Where the network layer of a packet is.
pub struct Located<'a> {
    /// From the IP header on.
    pub packet: Packet<'a>,
    pub network: Network,
    pub tags: Tags,
    /// The interface that a header names.
    pub interface: Option<u32>,
}

/// How many headers are followed.
const MAX_HEADERS: usize = 24;

/// What comes next, and how far behind the beginning of the header that says so.
type Next = Result<(Header, usize), Skip>;

/// The network layer of a packet.
///
/// # Errors
/// The reason why there is none.
#[inline(always)]
pub fn network(link: LinkType, packet: Packet<'_>) -> Result<Located<'_>, Skip> {
    // Nearly all packets begin with an Ethernet header, and IP follows.
    if link.header == Header::Ethertype {
        let ethertype = load_u16(packet, link.skip)?;
        if let Some(Header::Network(network)) = ethernet::announced(ethertype) {
            let packet = packet.from(link.skip + 2);
            return Ok(Located { packet, network, tags: Tags::default(), interface: None });
        }
    }
    walk(link, packet)
}

#[inline(never)]
fn walk(link: LinkType, packet: Packet<'_>) -> Result<Located<'_>, Skip> {
    let mut header = link.header;
    let mut packet = packet.from(link.skip);
    let (mut tags, mut interface) = (Tags::default(), None);
    for _ in 0..MAX_HEADERS {
        let (next, bytes) = match header {
            Header::Network(network) => return Ok(Located { packet, network, tags, interface }),
            Header::Ethertype => ethernet::ethertype(packet),
            Header::Tag => ethernet::tag(packet, &mut tags),
            other => other.next(packet, &mut interface),
        }?;
        packet = packet.from(bytes);
        header = next;
    }
    Err(Skip::NotIp)
}

impl Header {
    /// Apart from the walk, so that what nearly every packet takes stays short.
    #[inline(never)]
    fn next(self, packet: Packet<'_>, interface: &mut Option<u32>) -> Next {
        match self {
            Self::Network(_) | Self::Ip => ip(packet),
            Self::Ethertype | Self::Tag => ethernet::ethertype(packet),
            Self::Mpls => ethernet::mpls(packet),
            Self::Llc => ethernet::llc(packet),
            Self::Snap => ethernet::snap(packet),
            Self::TokenRing => ethernet::token_ring(packet),
            Self::Fddi => ethernet::fddi(packet),
            Self::Docsis => ethernet::docsis(packet),
            Self::Mpacket => ethernet::mpacket(packet),
            Self::PppoeSession => serial::pppoe_session(packet),
            Self::BackboneTag => ethernet::backbone_tag(packet),
            Self::VnTag => ethernet::vn_tag(packet),
            Self::Ppp => serial::ppp(packet),
            Self::SerialPpp => serial::serial_ppp(packet),
            Self::FrameRelay => serial::frame_relay(packet),
            Self::Wireless { is_padded } => wireless::data(packet, is_padded),
            Self::Radiotap => wireless::radiotap(packet),
            Self::Prism => wireless::prism(packet),
            Self::Ppi => wireless::ppi(packet),
            Self::Cooked2 => pseudo::cooked2(packet, interface),
            Self::Loopback => pseudo::loopback(packet),
            Self::Nflog => pseudo::nflog(packet),
            Self::Pflog => pseudo::pflog(packet),
            Self::Ipnet => pseudo::ipnet(packet, interface),
            Self::IpOverInfiniband => pseudo::ip_over_infiniband(packet),
            Self::NetAnalyzer => pseudo::netanalyzer(packet),
            Self::Pktap => pseudo::pktap(packet),
        }
    }
}

/// An IP packet: the version says which.
fn ip(packet: Packet<'_>) -> Next {
    let [first] = load(packet, 0)?;
    match first >> 4 {
        4 => Ok((Header::Network(Network::Ipv4), 0)),
        6 => Ok((Header::Network(Network::Ipv6), 0)),
        _ => Err(Skip::NotIp),
    }
}

#[inline(always)]
fn load<const N: usize>(packet: Packet<'_>, offset: usize) -> Result<[u8; N], Skip> {
    packet.load(offset).ok_or(Skip::Truncated)
}

/// A number in the order of the network.
#[inline(always)]
fn load_u16(packet: Packet<'_>, offset: usize) -> Result<u16, Skip> {
    load(packet, offset).map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests;
