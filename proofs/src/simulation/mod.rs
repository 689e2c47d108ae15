//! Two ends that speak TCP over a link that loses, doubles, delays and reorders, and the observer between them.
//!
//! The ends are smoltcp's (<https://docs.rs/smoltcp>), an implementation of TCP that shares nothing with this one and
//! knows its own states. Time is simulated. All that happens follows from a [`Plan`], and a plan from a
//! seed, so that a run can be repeated, and made smaller while it still shows what is wrong.
//!
//! [`trace`] gives the packets of a run to whoever wants to show them to something else.

pub mod account;
pub mod host;
pub mod known;
pub mod oracle;
pub mod packet;
pub mod plan;
mod random;
pub mod shrink;
pub mod states;
pub mod watch;
pub mod world;

use plan::{End, Plan};
use world::Witness;

/// One packet of a run, as it passes the watcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Nanoseconds since the run has begun.
    pub time_ns: u64,
    /// Who has sent it. The left end is the originator of the first connection.
    pub from: End,
    /// IPv4 or IPv6, TCP, payload, with valid checksums; no link-layer header.
    pub bytes: Vec<u8>,
}

impl Frame {
    /// The same packet behind an Ethernet header.
    pub fn ethernet(&self) -> Vec<u8> {
        const LEFT: [u8; 6] = [2, 0, 0, 0, 0, 1];
        const RIGHT: [u8; 6] = [2, 0, 0, 0, 0, 2];
        let (source, destination) = match self.from {
            End::Left => (LEFT, RIGHT),
            End::Right => (RIGHT, LEFT),
        };
        let ether_type: [u8; 2] = if self.bytes[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
        [&destination[..], &source, &ether_type, &self.bytes].concat()
    }
}

/// The packets of the run of this seed, as the watcher sees them and in that order: what is lost before it is not
/// there, what is doubled before it is there twice. `Plan::from_seed(seed).place` tells which end is near, if any, and
/// `.hosts` the addresses.
pub fn trace(seed: u64) -> Vec<Frame> {
    struct Tape(Vec<Frame>);
    impl Witness for Tape {
        fn passed(&mut self, now_ns: u64, _: usize, packet: &packet::Packet) {
            let mut bytes = packet.bytes.clone();
            packet::fill_checksums(&mut bytes);
            self.0.push(Frame { time_ns: now_ns, from: packet.from, bytes });
        }
    }
    let mut tape = Tape(Vec::new());
    world::run(&Plan::from_seed(seed), &mut tape);
    tape.0
}
