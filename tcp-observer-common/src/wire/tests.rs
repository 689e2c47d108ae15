//! Frames built byte by byte, so that each test shows what it is about; and, in `laws`, frames built by an
//! independent library.

mod icmp;
mod ip;
mod laws;
mod link;
mod tcp;

use super::*;
use crate::segment::{Flags, Options};

/// What became of a frame, whichever family it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Read {
    network: Network,
    /// The side of the key that sent it, and the ports: low, then high.
    side: Side,
    ports: (u16, u16),
    /// With its options.
    segment: Segment,
}

fn parse<F: Frame + ?Sized>(frame: &F, link: Link) -> Result<Read, Skip> {
    let (network, offset) = network(frame, link)?;
    Ok(match network {
        Network::Ipv4 => read(frame, network, &segment4(frame, offset)?),
        Network::Ipv6 => read(frame, network, &segment6(frame, offset)?),
    })
}

fn read<F: Frame + ?Sized, A: Address>(frame: &F, network: Network, parsed: &Parsed<A>) -> Read {
    let Parsed { key, side, segment, options: span } = *parsed;
    assert_eq!(segment.options, Options::NONE, "options are left unread");
    let segment = Segment { options: options(frame, span), ..segment };
    Read { network, side, ports: (key.low_port, key.high_port), segment }
}

/// A buffer whose true length is more than what can be loaded of it: a capture that was cut off, or a super-packet.
struct Cut<'a> {
    bytes: &'a [u8],
    true_bytes: usize,
    wire_segments: u32,
}

impl Frame for Cut<'_> {
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.bytes.load(offset)
    }

    fn len(&self) -> usize {
        self.true_bytes
    }

    fn wire_segments(&self) -> u32 {
        self.wire_segments
    }
}

const SYN: u8 = Flags::SYN;
const ACK: u8 = Flags::ACK;

/// A TCP header from port 40000 to port 443, sequence number 1000, acknowledgement 2000, window 512; its data offset
/// covers the options.
fn tcp(flags: u8, options: &[u8], payload_bytes: usize) -> Vec<u8> {
    assert_eq!(options.len() % 4, 0, "options fill whole words");
    let mut bytes = vec![0x9c, 0x40, 0x01, 0xbb, 0, 0, 0x03, 0xe8, 0, 0, 0x07, 0xd0];
    bytes.push(((20 + options.len()) as u8 / 4) << 4);
    bytes.extend([flags, 2, 0, 0, 0, 0, 0]);
    bytes.extend(options);
    bytes.resize(bytes.len() + payload_bytes, 0xee);
    bytes
}

/// An IPv4 packet of protocol 6 from 192.0.2.1 to 198.51.100.2.
fn v4(options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header_bytes = 20 + options.len();
    let total = ((header_bytes + payload.len()) as u16).to_be_bytes();
    let mut bytes = vec![0x40 | (header_bytes / 4) as u8, 0, total[0], total[1], 0, 0, 0x40, 0, 64, 6, 0, 0];
    bytes.extend([192, 0, 2, 1, 198, 51, 100, 2]);
    bytes.extend(options);
    bytes.extend(payload);
    bytes
}

/// An IPv6 packet from 2001:db8::1 to 2001:db8::2 whose first header after the fixed one is `next_header`.
fn v6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    let mut bytes = vec![0x60, 0, 0, 0, length[0], length[1], next_header, 64];
    for last in [1, 2] {
        bytes.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    bytes.extend(payload);
    bytes
}

/// An Ethernet frame around a network-layer packet, with these tags (each its ethertype) before the ethertype.
fn ethernet(tags: &[u16], ethertype: u16, packet: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    for tag in tags {
        bytes.extend(tag.to_be_bytes());
        bytes.extend([0, 7]);
    }
    bytes.extend(ethertype.to_be_bytes());
    bytes.extend(packet);
    bytes
}
