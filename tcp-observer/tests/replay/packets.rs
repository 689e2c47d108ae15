//! Captures made by hand: TCP segments between two endpoints, wrapped in Ethernet, written as pcap.
//!
//! Checksums stay zero: nobody here verifies them.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use tcp_observer::{
    replay::{self, Replay},
    snapshot::{FlowRecord, Snapshot},
    source::Source as _,
};

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;

pub const MICROSECOND: u64 = 1_000;
pub const SECOND: u64 = 1_000_000_000;
/// Any moment: 2026-01-01T00:00:00Z.
pub const START: u64 = 1_767_225_600 * SECOND;

/// A TCP segment in an Ethernet frame.
#[derive(Clone, Debug)]
pub struct Segment {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    pub payload: usize,
    pub vlans: Vec<u16>,
}

impl Segment {
    /// From the IP header on.
    pub fn packet(&self) -> Vec<u8> {
        let tcp_bytes = (20 + self.payload) as u16;
        let mut packet = match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let [high, low] = (20 + tcp_bytes).to_be_bytes();
                let header = [0x45, 0, high, low, 0, 7, 0, 0, 64, 6, 0, 0];
                [&header[..], &from.octets(), &to.octets()].concat()
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let [high, low] = tcp_bytes.to_be_bytes();
                [&[0x60, 0, 0, 0, high, low, 6, 64][..], &from.octets(), &to.octets()].concat()
            }
            mixed => panic!("two families in one packet: {mixed:?}"),
        };
        packet.extend(self.from.port().to_be_bytes());
        packet.extend(self.to.port().to_be_bytes());
        packet.extend(self.seq.to_be_bytes());
        packet.extend(self.ack.to_be_bytes());
        packet.extend([0x50, self.flags, 0x80, 0, 0, 0, 0, 0]);
        packet.resize(packet.len() + self.payload, b'x');
        packet
    }

    /// From the Ethernet header on.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        for vlan in &self.vlans {
            frame.extend([0x81, 0]);
            frame.extend(vlan.to_be_bytes());
        }
        frame.extend(if self.from.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] });
        frame.extend(self.packet());
        frame
    }
}

/// A client and a server who talk, and when each segment passes.
#[derive(Clone, Debug)]
pub struct Talk {
    client: SocketAddr,
    server: SocketAddr,
    pub segments: Vec<(u64, Segment)>,
}

impl Talk {
    pub fn between(client: &str, server: &str) -> Self {
        let parse = |text: &str| text.parse().expect("an address and a port");
        Self { client: parse(client), server: parse(server), segments: Vec::new() }
    }

    /// A segment of the client, so long after the start.
    pub fn client(&mut self, after_ns: u64, flags: u8, seq: u32, ack: u32, payload: usize) -> &mut Self {
        self.segment(after_ns, self.client, self.server, flags, [seq, ack], payload)
    }

    /// A segment of the server.
    pub fn server(&mut self, after_ns: u64, flags: u8, seq: u32, ack: u32, payload: usize) -> &mut Self {
        self.segment(after_ns, self.server, self.client, flags, [seq, ack], payload)
    }

    fn segment(
        &mut self,
        after_ns: u64,
        from: SocketAddr,
        to: SocketAddr,
        flags: u8,
        [seq, ack]: [u32; 2],
        payload: usize,
    ) -> &mut Self {
        let segment = Segment { from, to, flags, seq, ack, payload, vlans: Vec::new() };
        self.segments.push((START + after_ns, segment));
        self
    }

    /// Time passes: a SYN between others.
    pub fn silence_until(&mut self, after_ns: u64) -> &mut Self {
        let [from, to] = ["203.0.113.1:1", "203.0.113.2:2"].map(|text| text.parse().expect("an address and a port"));
        self.segment(after_ns, from, to, SYN, [1, 0], 0)
    }

    /// As a file: pcap in nanoseconds.
    pub fn pcap(&self) -> Vec<u8> {
        let mut file = pcap_header(1);
        for (at_ns, segment) in &self.segments {
            append(&mut file, *at_ns, &segment.frame());
        }
        file
    }

    pub fn snapshot(&self) -> Snapshot {
        let replay = replay(&self.pcap());
        assert_eq!(replay.fault, None);
        replay.snapshot().expect("a replay has its snapshot")
    }

    /// All flows but the one that stands for passing time.
    pub fn flows(&self) -> Vec<FlowRecord> {
        let mut flows = self.snapshot().flows;
        flows.retain(|flow| flow.originator.port != 1);
        flows
    }

    /// The only flow.
    pub fn flow(&self) -> FlowRecord {
        let mut flows = self.flows();
        assert_eq!(flows.len(), 1, "{flows:#?}");
        flows.remove(0)
    }
}

/// The file header of pcap in nanoseconds, little-endian.
pub fn pcap_header(link: u32) -> Vec<u8> {
    let mut file = 0xa1b2_3c4d_u32.to_le_bytes().to_vec();
    file.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0]);
    file.extend(link.to_le_bytes());
    file
}

/// Appends a packet's record to such a file.
pub fn append(file: &mut Vec<u8>, at_ns: u64, frame: &[u8]) {
    let length = frame.len() as u32;
    for word in [(at_ns / SECOND) as u32, (at_ns % SECOND) as u32, length, length] {
        file.extend(word.to_le_bytes());
    }
    file.extend(frame);
}

/// A file with this content, under a name of its own.
pub fn file(content: &[u8]) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}.pcap", std::process::id()));
    fs::write(&path, content).expect("room for a small file");
    path
}

/// Reads a capture with this content, which must begin like one.
pub fn replay(content: &[u8]) -> Replay {
    let path = file(content);
    let replay = replay::read(&path, &replay::Options::default());
    fs::remove_file(&path).expect("the file that was just written");
    replay.expect("a capture")
}
