//! A packet on its way, and what its header says: read here by smoltcp's accessors, not by the code under test.

use smoltcp::wire::{IpAddress, IpVersion, Ipv4Packet, Ipv6Packet, TcpOption, TcpPacket, TcpSeqNumber};

use super::plan::End;

/// What a TCP header says, as it stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub seq: u32,
    pub ack: Option<u32>,
    pub syn: bool,
    pub fin: bool,
    pub rst: bool,
    pub window: u16,
    /// Bytes of payload.
    pub payload: u32,
    /// TSval and TSecr.
    pub timestamps: Option<(u32, u32)>,
}

impl Header {
    /// The number after the segment's last one.
    pub fn end(&self) -> u32 {
        self.seq.wrapping_add(self.payload + u32::from(self.syn) + u32::from(self.fin))
    }
}

/// One packet that an end has sent.
#[derive(Clone, Debug)]
pub struct Packet {
    pub from: End,
    /// How many this end has sent before.
    pub nth: u32,
    /// Which of its sender's connections it belongs to.
    pub connection: u32,
    /// Where its sender's history stood when it was sent.
    pub step: usize,
    pub header: Header,
    /// From the IP header on.
    pub bytes: Vec<u8>,
}

/// Where TCP begins.
fn tcp_offset(bytes: &[u8]) -> usize {
    match IpVersion::of_packet(bytes) {
        Ok(IpVersion::Ipv4) => usize::from(Ipv4Packet::new_unchecked(bytes).header_len()),
        Ok(IpVersion::Ipv6) => smoltcp::wire::IPV6_HEADER_LEN,
        Err(_) => panic!("smoltcp has sent neither IPv4 nor IPv6"),
    }
}

pub(super) fn header(bytes: &[u8]) -> Header {
    let tcp = TcpPacket::new_unchecked(&bytes[tcp_offset(bytes)..]);
    Header {
        seq: tcp.seq_number().0 as u32,
        ack: tcp.ack().then(|| tcp.ack_number().0 as u32),
        syn: tcp.syn(),
        fin: tcp.fin(),
        rst: tcp.rst(),
        window: tcp.window_len(),
        payload: tcp.payload().len() as u32,
        timestamps: timestamps(tcp.options()),
    }
}

fn timestamps(mut options: &[u8]) -> Option<(u32, u32)> {
    while !options.is_empty() {
        match TcpOption::parse(options).ok()? {
            (_, TcpOption::TimeStamp { tsval, tsecr }) => return Some((tsval, tsecr)),
            (rest, _) => options = rest,
        }
    }
    None
}

/// Shifts a sender's own numbers. A RST that refuses has the number zero from the RFC, not from its sender.
pub(super) fn shift_seq(bytes: &mut [u8], by: u32) {
    let offset = tcp_offset(bytes);
    let mut tcp = TcpPacket::new_unchecked(&mut bytes[offset..]);
    let refuses = tcp.rst() && tcp.ack() && tcp.seq_number().0 == 0;
    if !refuses {
        tcp.set_seq_number(TcpSeqNumber((tcp.seq_number().0 as u32).wrapping_add(by) as i32));
    }
}

/// Shifts back what acknowledges a receiver's shifted numbers.
pub(super) fn unshift_ack(bytes: &mut [u8], by: u32) {
    let offset = tcp_offset(bytes);
    let mut tcp = TcpPacket::new_unchecked(&mut bytes[offset..]);
    if tcp.ack() {
        tcp.set_ack_number(TcpSeqNumber((tcp.ack_number().0 as u32).wrapping_sub(by) as i32));
    }
}

/// Fills in what hosts of the simulation neither compute nor verify.
pub(super) fn fill_checksums(bytes: &mut [u8]) {
    let offset = tcp_offset(bytes);
    let (source, destination): (IpAddress, IpAddress) = if bytes[0] >> 4 == 4 {
        let mut ip = Ipv4Packet::new_unchecked(&mut *bytes);
        ip.fill_checksum();
        (ip.src_addr().into(), ip.dst_addr().into())
    } else {
        let ip = Ipv6Packet::new_unchecked(&*bytes);
        (ip.src_addr().into(), ip.dst_addr().into())
    };
    TcpPacket::new_unchecked(&mut bytes[offset..]).fill_checksum(&source, &destination);
}
