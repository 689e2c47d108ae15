//! Traffic of a busy host, the same bytes each time: a few thousand connections alive at once, each with its handshake,
//! requests and answers, ACKs and its end, in turns of a few packets. Three of four are IPv4. Of a hundred connections
//! one is never answered and two are reset; of a hundred segments with data one is sent twice.
//!
//! Checksums stay zero: nobody here verifies them.

use std::io::{self, Write};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

const ETHERNET: u32 = 1;
/// What passes between two hosts whose windows are scaled and whose segments carry timestamps, as Linux sends them.
const MAX_SEGMENT_BYTES: u32 = 1448;
/// 2026-01-01T00:00:00Z.
const START_US: u64 = 1_767_225_600_000_000;

/// What is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    pub packets: u64,
    /// How many connections are alive at a time.
    pub alive: usize,
    /// How many segments a connection has between its handshake and its end, on average.
    pub exchanged: u64,
    /// How much of each packet is kept.
    pub snap_bytes: usize,
}

/// xorshift64*
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        ((self.next() >> 32) * end) >> 32
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// Where a connection stands; the number is of segments that are still to be exchanged.
#[derive(Clone, Copy)]
enum Step {
    Syn,
    SynAck,
    HandshakeAck,
    Exchange(u64),
    FinBack,
    LastAck,
    Over,
}

/// The client is end 0.
struct Connection {
    number: u64,
    is_ipv6: bool,
    port: u16,
    step: Step,
    /// The next number that each end sends.
    seq: [u32; 2],
    /// Segments that the client has not acknowledged.
    unacknowledged: u32,
    /// What was lost behind the observer, and is sent again.
    lost: Option<Segment>,
}

#[derive(Clone, Copy)]
struct Segment {
    from: usize,
    flags: u8,
    seq: u32,
    ack: u32,
    payload_bytes: u32,
}

impl Connection {
    fn new(number: u64, random: &mut Random) -> Self {
        let seq = [random.next() as u32, random.next() as u32];
        let port = 32_768 + (number % 28_000) as u16;
        Self { number, is_ipv6: random.one_in(4), port, step: Step::Syn, seq, unacknowledged: 0, lost: None }
    }

    fn segment(&self, from: usize, flags: u8, payload_bytes: u32) -> Segment {
        let ack = if flags & ACK == 0 { 0 } else { self.seq[1 - from] };
        Segment { from, flags, seq: self.seq[from], ack, payload_bytes }
    }

    /// What it sends next.
    fn next(&mut self, traffic: &Traffic, random: &mut Random) -> Segment {
        if let Some(segment) = self.lost.take() {
            return segment;
        }
        let (segment, step) = match self.step {
            Step::Syn => (self.segment(0, SYN, 0), if random.one_in(100) { Step::Over } else { Step::SynAck }),
            Step::SynAck => (self.segment(1, SYN | ACK, 0), Step::HandshakeAck),
            Step::HandshakeAck => {
                let segments = traffic.exchanged / 2 + random.below(traffic.exchanged + 1);
                (self.segment(0, ACK, 0), Step::Exchange(segments))
            }
            Step::Exchange(0) if random.one_in(50) => (self.segment(1, RST | ACK, 0), Step::Over),
            Step::Exchange(0) => (self.segment(0, FIN | ACK, 0), Step::FinBack),
            Step::Exchange(left) => (self.exchange(random), Step::Exchange(left - 1)),
            Step::FinBack => (self.segment(1, FIN | ACK, 0), Step::LastAck),
            Step::LastAck | Step::Over => (self.segment(0, ACK, 0), Step::Over),
        };
        self.step = step;
        let numbers = segment.payload_bytes + u32::from(segment.flags & (SYN | FIN) != 0);
        self.seq[segment.from] = self.seq[segment.from].wrapping_add(numbers);
        self.lost = (segment.payload_bytes > 0 && random.one_in(100)).then_some(segment);
        segment
    }

    /// A request now and then, full segments back, an ACK for every other one.
    fn exchange(&mut self, random: &mut Random) -> Segment {
        if self.unacknowledged >= 2 {
            self.unacknowledged = 0;
            return self.segment(0, ACK, 0);
        }
        if random.one_in(6) {
            return self.segment(0, PSH | ACK, 64 + random.below(512) as u32);
        }
        self.unacknowledged += 1;
        self.segment(1, ACK, MAX_SEGMENT_BYTES)
    }

    /// From the Ethernet header on, as far as headers go; and how long all of it was.
    fn write(&self, segment: &Segment, now_us: u64, frame: &mut Vec<u8>) -> usize {
        frame.clear();
        frame.extend([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
        let options: &[u8] = if segment.flags & SYN == 0 { &[1, 1] } else { &[2, 4, 5, 0xb4, 4, 2] };
        let timestamps: [u8; 10] = {
            let [a, b, c, d] = ((now_us / 1_000) as u32).to_be_bytes();
            [8, 10, a, b, c, d, 0, 0, 0, 1]
        };
        let scale: &[u8] = if segment.flags & SYN == 0 { &[] } else { &[1, 3, 3, 7] };
        let tcp_bytes = 20 + options.len() + timestamps.len() + scale.len();
        let network_bytes = tcp_bytes + segment.payload_bytes as usize;
        // Six servers; a client's address changes when its ports are used up.
        let (client, server) = ((self.number / 28_000 * 61 + self.number % 61) as u16, (self.number % 6) as u8);
        let [high, low] = client.to_be_bytes();
        if self.is_ipv6 {
            let [length_high, length_low] = (network_bytes as u16).to_be_bytes();
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, length_high, length_low, 6, 64]);
            let ends = [[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, high, low], {
                [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, server]
            }];
            frame.extend(ends[segment.from]);
            frame.extend(ends[1 - segment.from]);
        } else {
            let [length_high, length_low] = ((20 + network_bytes) as u16).to_be_bytes();
            frame.extend([0x08, 0, 0x45, 0, length_high, length_low, 0, 7, 0x40, 0, 64, 6, 0, 0]);
            let ends = [[10, 1, high, low], [192, 0, 2, server]];
            frame.extend(ends[segment.from]);
            frame.extend(ends[1 - segment.from]);
        }
        let ports = [self.port, [443, 80, 5432][usize::from(server) % 3]];
        frame.extend(ports[segment.from].to_be_bytes());
        frame.extend(ports[1 - segment.from].to_be_bytes());
        frame.extend(segment.seq.to_be_bytes());
        frame.extend(segment.ack.to_be_bytes());
        frame.extend([(tcp_bytes as u8 / 4) << 4, segment.flags, 0x80, 0, 0, 0, 0, 0]);
        frame.extend(options);
        frame.extend(timestamps);
        frame.extend(scale);
        frame.len() + segment.payload_bytes as usize
    }
}

/// Writes the traffic as a pcap file with microseconds.
pub fn write(traffic: &Traffic, out: &mut impl Write) -> io::Result<()> {
    let word = u32::to_le_bytes;
    out.write_all(&[word(0xa1b2_c3d4), [2, 0, 4, 0], [0; 4], [0; 4], word(0x4_0000), word(ETHERNET)].concat())?;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut connections: Vec<_> =
        (0..traffic.alive as u64).map(|number| Connection::new(number, &mut random)).collect();
    let (mut begun, mut now_us) = (traffic.alive as u64, START_US);
    let (mut at, mut turn) = (0, 0);
    let mut frame = Vec::new();
    for _ in 0..traffic.packets {
        if turn == 0 {
            at = random.below(traffic.alive as u64) as usize;
            turn = 1 + random.below(6);
        }
        turn -= 1;
        now_us += 1 + random.below(49);
        let connection = &mut connections[at];
        let segment = connection.next(traffic, &mut random);
        let wire_bytes = connection.write(&segment, now_us, &mut frame);
        frame.resize(wire_bytes.min(traffic.snap_bytes), b'x');
        let (seconds, fraction) = ((now_us / 1_000_000) as u32, (now_us % 1_000_000) as u32);
        out.write_all(&[seconds, fraction, frame.len() as u32, wire_bytes as u32].map(word).concat())?;
        out.write_all(&frame)?;
        if matches!(connection.step, Step::Over) {
            *connection = Connection::new(begun, &mut random);
            begun += 1;
            turn = 0;
        }
    }
    Ok(())
}
