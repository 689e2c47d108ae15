//! Frames made byte by byte: Ethernet, VLAN tags, IPv4 with options, IPv6 with extension headers, TCP, and ICMP errors
//! that quote it.
//!
//! Checksums stay zero: the observer does not verify them.

use std::net::{IpAddr, SocketAddr};

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;
pub const URG: u8 = 0x20;
pub const ECE: u8 = 0x40;
pub const CWR: u8 = 0x80;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// A TCP segment and what to wrap it in.
#[derive(Clone, Debug)]
pub struct Frame {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    /// The ninth flag, AE (RFC 9768).
    pub accurate_ecn: bool,
    pub window: u16,
    /// TCP options, padded here to whole words.
    pub tcp_options: Vec<u8>,
    pub payload: Vec<u8>,
    /// Tag protocol and id, outermost first.
    pub vlans: Vec<(u16, u16)>,
    /// IPv4 options, padded here to whole words.
    pub ip_options: Vec<u8>,
    /// IPv6 extension headers in order: the number of each and its bytes from the third on (a whole header is a
    /// multiple of eight bytes long).
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// Fragment offset in units of eight bytes, and whether more follow; `None` is a whole packet.
    pub fragment: Option<(u16, bool)>,
    /// The segment does not arrive: a router sends its beginning back in an ICMP error of this type and code, or for
    /// IPv6 in an ICMPv6 error.
    pub quoted: Option<(u8, u8)>,
}

impl Frame {
    /// A segment without options, payload and tags.
    pub fn new(source: SocketAddr, destination: SocketAddr, flags: u8, seq: u32, ack: u32) -> Self {
        Self {
            source,
            destination,
            seq,
            ack,
            flags,
            accurate_ecn: false,
            window: 65_000,
            tcp_options: Vec::new(),
            payload: Vec::new(),
            vlans: Vec::new(),
            ip_options: Vec::new(),
            extensions: Vec::new(),
            fragment: None,
            quoted: None,
        }
    }

    #[must_use]
    pub fn with_payload(mut self, bytes: usize) -> Self {
        self.payload = vec![b'x'; bytes];
        self
    }

    /// From the IP header on, as devices without an Ethernet header carry it.
    pub fn packet(&self) -> Vec<u8> {
        if let Some((kind, code)) = self.quoted {
            return error(self.source.ip(), kind, code, &Self { quoted: None, ..self.clone() }.packet());
        }
        let tcp = self.tcp();
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let options = padded(&self.ip_options, 4, 0, 0);
                let header_bytes = 20 + options.len();
                let mut packet = vec![0x40 | (header_bytes / 4) as u8, 0];
                packet.extend(((header_bytes + tcp.len()) as u16).to_be_bytes());
                packet.extend([0, 7]);
                let (offset, more) = self.fragment.unwrap_or((0, false));
                packet.extend((u16::from(more) << 13 | offset).to_be_bytes());
                packet.extend([64, TCP, 0, 0]);
                packet.extend(source.octets());
                packet.extend(destination.octets());
                packet.extend(options);
                packet.extend(tcp);
                packet
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let (first, mut body) = self.extension_headers();
                body.extend(tcp);
                let mut packet = vec![0x60, 0, 0, 0];
                packet.extend((body.len() as u16).to_be_bytes());
                packet.extend([first, 64]);
                packet.extend(source.octets());
                packet.extend(destination.octets());
                packet.extend(body);
                packet
            }
            mixed => panic!("two families in one packet: {mixed:?}"),
        }
    }

    /// From the Ethernet header on.
    pub fn bytes(&self) -> Vec<u8> {
        let mut frame = vec![0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1];
        for &(protocol, id) in &self.vlans {
            frame.extend(protocol.to_be_bytes());
            frame.extend(id.to_be_bytes());
        }
        let ethertype = if self.source.is_ipv4() { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
        frame.extend(ethertype.to_be_bytes());
        frame.extend(self.packet());
        frame
    }

    fn tcp(&self) -> Vec<u8> {
        let options = padded(&self.tcp_options, 4, 0, 1);
        let mut tcp = Vec::new();
        tcp.extend(self.source.port().to_be_bytes());
        tcp.extend(self.destination.port().to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        let data_offset = (((20 + options.len()) / 4) << 4) as u8;
        tcp.extend([data_offset | u8::from(self.accurate_ecn), self.flags]);
        tcp.extend(self.window.to_be_bytes());
        tcp.extend([0; 4]);
        tcp.extend(options);
        tcp.extend(&self.payload);
        tcp
    }

    /// The number of the first header after IPv6's, and all extension headers.
    fn extension_headers(&self) -> (u8, Vec<u8>) {
        const FRAGMENT: u8 = 44;
        let mut headers = self.extensions.clone();
        if let Some((offset, more)) = self.fragment {
            let word = offset << 3 | u16::from(more);
            headers.push((FRAGMENT, [&word.to_be_bytes()[..], &[0, 0, 0, 7]].concat()));
        }
        let numbers: Vec<u8> = headers.iter().map(|&(number, _)| number).chain([TCP]).collect();
        let mut bytes = Vec::new();
        for ((number, body), next) in headers.iter().zip(&numbers[1..]) {
            let body = padded(body, 8, 6, 0);
            let length = if *number == FRAGMENT { 0 } else { (body.len() + 2) / 8 - 1 };
            bytes.extend([*next, length as u8]);
            bytes.extend(body);
        }
        (numbers[0], bytes)
    }
}

/// An ICMP or ICMPv6 error to `to` that quotes a packet as far as the first eight bytes after its IP header.
fn error(to: IpAddr, kind: u8, code: u8, packet: &[u8]) -> Vec<u8> {
    let icmp = |header_bytes: usize| {
        let quote = &packet[..packet.len().min(header_bytes + 8)];
        [&[kind, code, 0, 0, 0, 0, 0, 0], quote].concat()
    };
    match to {
        IpAddr::V4(to) => {
            let icmp = icmp(usize::from(packet[0] & 15) * 4);
            let mut error = vec![0x45, 0];
            error.extend((20 + icmp.len() as u16).to_be_bytes());
            error.extend([0, 1, 0, 0, 64, ICMP, 0, 0, 192, 0, 2, 254]);
            error.extend(to.octets());
            error.extend(icmp);
            error
        }
        IpAddr::V6(to) => {
            let icmp = icmp(40);
            let mut error = vec![0x60, 0, 0, 0];
            error.extend((icmp.len() as u16).to_be_bytes());
            error.extend([ICMPV6, 64]);
            error.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 254]);
            error.extend(to.octets());
            error.extend(icmp);
            error
        }
    }
}

/// Bytes followed by as many of `fill` as make the length leave this remainder.
fn padded(bytes: &[u8], unit: usize, remainder: usize, fill: u8) -> Vec<u8> {
    let mut padded = bytes.to_vec();
    while padded.len() % unit != remainder {
        padded.push(fill);
    }
    padded
}
