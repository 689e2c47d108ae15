//! A large capture that is the same every time: connections of every length, a thousand of them at a time, their
//! packets interleaved, cut off after the headers as `tcpdump -s 96` would.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    net::SocketAddr,
    path::Path,
};

use integration_tests::{
    frames::{ACK, FIN, Frame, SYN},
    random::Random,
};

const AT_A_TIME: usize = 1_000;
const SNAP_BYTES: usize = 96;
const SEGMENT_BYTES: u64 = 1_400;
const SEED: u64 = 20;
/// Between two packets, in microseconds.
const APART: u64 = 10;

/// A connection with what is left of it.
struct Talk {
    client: SocketAddr,
    server: SocketAddr,
    step: u32,
    segments: u32,
    seq: u32,
    ack: u32,
}

/// Writes at least so many packets, up to the end of the connections that they belong to; how many.
pub fn write(path: &Path, packets: u64) -> io::Result<u64> {
    let mut out = BufWriter::new(File::create(path)?);
    // Magic for microseconds, version 2.4, zone, accuracy, length, Ethernet (draft-ietf-opsawg-pcap).
    for word in [0xa1b2_c3d4_u32, 4 << 16 | 2, 0, 0, SNAP_BYTES as u32, 1] {
        out.write_all(&word.to_le_bytes())?;
    }
    let mut random = Random::new(SEED);
    let (mut written, mut begun) = (0, 0);
    let mut talks: Vec<_> = (0..AT_A_TIME).map(|_| Talk::new(&mut begun, &mut random)).collect();
    while !talks.is_empty() {
        let one = random.below(talks.len() as u64) as usize;
        match talks[one].next(&mut random) {
            Some(frame) => {
                record(&mut out, written, &frame)?;
                written += 1;
            }
            None if written < packets => talks[one] = Talk::new(&mut begun, &mut random),
            None => drop(talks.swap_remove(one)),
        }
    }
    out.flush()?;
    Ok(written)
}

fn record(out: &mut impl Write, number: u64, frame: &Frame) -> io::Result<()> {
    let (bytes, micros) = (frame.bytes(), number * APART);
    let kept = &bytes[..bytes.len().min(SNAP_BYTES)];
    let seconds = 1_700_000_000 + (micros / 1_000_000) as u32;
    for word in [seconds, (micros % 1_000_000) as u32, kept.len() as u32, bytes.len() as u32] {
        out.write_all(&word.to_le_bytes())?;
    }
    out.write_all(kept)
}

impl Talk {
    /// The next connection: each client is another one.
    fn new(begun: &mut u32, random: &mut Random) -> Self {
        *begun += 1;
        let [_, high, middle, low] = begun.to_be_bytes();
        let port = 1_024 + random.below(60_000) as u16;
        let (client, server) = match random.below(4) {
            0 => {
                let host = |last| [0x2001, 0xdb8, 0, 0, 0, u16::from(high), u16::from_be_bytes([middle, low]), last];
                ((host(1), port).into(), ([0x2001, 0xdb8, 1, 0, 0, 0, 0, 1], 443).into())
            }
            _ => (([10, high, middle, low], port).into(), ([198, 18, 0, 1], 443).into()),
        };
        let (seq, ack) = (random.word() as u32, random.word() as u32);
        Self { client, server, step: 0, segments: 1 + random.below(30) as u32, seq, ack }
    }

    /// Handshake, a request, segments of the answer, each acknowledged, and both ends close.
    fn next(&mut self, random: &mut Random) -> Option<Frame> {
        const REQUEST: u32 = 200;
        let step = self.step;
        self.step += 1;
        let (answers, after) = (4, 4 + 2 * self.segments);
        let (from_client, flags, bytes) = match step {
            0 => (true, SYN, 0),
            1 => (false, SYN | ACK, 0),
            2 => (true, ACK, 0),
            3 => (true, ACK, REQUEST),
            _ if step < after && (step - answers).is_multiple_of(2) => {
                (false, ACK, 1 + random.below(SEGMENT_BYTES) as u32)
            }
            _ if step < after => (true, ACK, 0),
            _ if step == after => (false, FIN | ACK, 0),
            _ if step == after + 1 => (true, FIN | ACK, 0),
            _ if step == after + 2 => (false, ACK, 0),
            _ => return None,
        };
        let ends = bytes + u32::from(flags & (SYN | FIN) != 0);
        let (own, peer) = if from_client { (&mut self.seq, self.ack) } else { (&mut self.ack, self.seq) };
        let ack = if flags & ACK == 0 { 0 } else { peer };
        let (source, destination) = if from_client { (self.client, self.server) } else { (self.server, self.client) };
        let frame = Frame::new(source, destination, flags, *own, ack).with_payload(bytes as usize);
        *own = own.wrapping_add(ends);
        Some(frame)
    }
}
