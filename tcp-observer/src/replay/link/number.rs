//! Which numbers captures have for link types (<https://www.tcpdump.org/linktypes.html>), and what they begin with.

use super::{Header, LinkType, ethernet::ADDRESSES_BYTES};

impl LinkType {
    /// The link type with this number; `None` for all that cannot be read.
    pub const fn of(number: u16) -> Option<Self> {
        let (skip, header) = match number {
            1 => (ADDRESSES_BYTES, Header::Ethertype),
            // 12 and 14 are what operating systems called it before there was a number for files.
            12 | 14 | 101 | 228 | 229 => (0, Header::Ip),
            0 | 108 => (0, Header::Loopback),
            6 => (0, Header::TokenRing),
            9 => (0, Header::Ppp),
            // A direction in place of the address, then the control byte; a direction before both.
            166 => (2, Header::Ppp),
            204 => (1, Header::Ppp),
            50 => (0, Header::SerialPpp),
            51 => (0, Header::PppoeSession),
            10 => (0, Header::Fddi),
            // ATM adaptation layer 5 with LLC before each packet (RFC 2684), and what operating systems called it.
            11 | 100 => (0, Header::Llc),
            // Cisco's HDLC: an address and a control byte; with a direction before them.
            104 => (2, Header::Ethertype),
            205 => (3, Header::Ethertype),
            105 => (0, Header::Wireless { is_padded: false }),
            107 => (0, Header::FrameRelay),
            206 => (1, Header::FrameRelay),
            // What Linux's `any` device gives: 16 bytes, of which the last two are an ethertype.
            113 => (14, Header::Ethertype),
            // The same, newer: 20 bytes, which begin with an ethertype and name the interface.
            276 => (0, Header::Cooked2),
            117 => (0, Header::Pflog),
            119 | 163 => (0, Header::Prism),
            // IP over Fibre Channel (RFC 2625): two addresses of eight bytes.
            122 => (16, Header::Llc),
            127 => (0, Header::Radiotap),
            // Apple's IP over IEEE 1394: two addresses of eight bytes.
            138 => (16, Header::Ethertype),
            143 => (0, Header::Docsis),
            192 => (0, Header::Ppi),
            219 => (0, Header::Mpls),
            226 => (0, Header::Ipnet),
            239 => (0, Header::Nflog),
            240 | 241 => (0, Header::NetAnalyzer),
            242 => (0, Header::IpOverInfiniband),
            258 => (0, Header::Pktap),
            274 => (0, Header::Mpacket),
            _ => return None,
        };
        Some(Self { skip, header })
    }
}
