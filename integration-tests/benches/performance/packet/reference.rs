//! What the others are compared with: the plainest program that knows flows at all. Ethernet, IP and the ports become a
//! key of 12 or 36 bytes, which is looked up once in the kernel's own HASH; its entry of 64 bytes takes the coarse time
//! and counts packet and bytes. A tuple that is not there is put in. No state, no direction, no checks of any number.

use std::{
    net::IpAddr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use aya::maps::{HashMap, IterableMap as _, MapData};
use integration_tests::{
    asm::{
        self, Insn,
        code::{Code, Do, END, When, Width},
    },
    bpf::{self, ProgramKind},
    frames::Frame,
    synthetic::{Direction, verdict},
};

const LOOKUP: i32 = 1;
const UPDATE: i32 = 2;
const COARSE_NS: i32 = 160;

const ETHERTYPE_IPV4: i32 = u16::from_le_bytes([0x08, 0x00]) as i32;
const ETHERTYPE_IPV6: i32 = u16::from_le_bytes([0x86, 0xdd]) as i32;
const TCP: i32 = 6;
/// IPv4, and a header without options.
const IPV4_PLAIN: i32 = 0x45;

const KEY4: usize = 12;
const KEY6: usize = 36;
const VALUE: usize = 64;

/// The reference's tables.
pub struct Tables {
    v4: HashMap<MapData, [u8; KEY4], [u64; VALUE / 8]>,
    v6: HashMap<MapData, [u8; KEY6], [u64; VALUE / 8]>,
}

impl Tables {
    pub fn new(entries: u32) -> Self {
        let made = "cannot create a map";
        Self { v4: HashMap::create(entries, 0).expect(made), v6: HashMap::create(entries, 0).expect(made) }
    }

    /// How many packets it has counted of the connection that this frame of the client's belongs to.
    pub fn packets(&self, frame: &Frame) -> u64 {
        let ports = [frame.source.port().to_be_bytes(), frame.destination.port().to_be_bytes()].concat();
        let key = match (frame.source.ip(), frame.destination.ip()) {
            (IpAddr::V4(client), IpAddr::V4(server)) => [&client.octets()[..], &server.octets(), &ports].concat(),
            (IpAddr::V6(client), IpAddr::V6(server)) => [&client.octets()[..], &server.octets(), &ports].concat(),
            mixed => panic!("two families in one packet: {mixed:?}"),
        };
        let entry = match <[u8; KEY4]>::try_from(&key[..]) {
            Ok(key) => self.v4.get(&key, 0),
            Err(_) => self.v6.get(&key.try_into().expect("the longer key"), 0),
        };
        entry.map_or(0, |value| value[1])
    }

    /// The program over these tables. One that sees frames from the server swaps the ends, so that both directions of
    /// a connection are one entry.
    pub fn program(&self, kind: ProgramKind, direction: Direction) -> OwnedFd {
        let fds = [self.v4.map().fd().as_fd().as_raw_fd(), self.v6.map().fd().as_fd().as_raw_fd()];
        bpf::load(kind, &insns(kind, direction, fds))
    }
}

fn insns(kind: ProgramKind, direction: Direction, [v4, v6]: [i32; 2]) -> Vec<Insn> {
    let [start, end] = asm::packet(kind);
    let mut code = Code::default();
    // r7 = start, r8 = end, r9 = bytes
    code.load(Width::Word, 7, 1, start).load(Width::Word, 8, 1, end);
    code.with(Do::Move, 9, 8).with(Do::Sub, 9, 7);
    code.with(Do::Move, 2, 7).set(Do::Add, 2, 54).jump_if_register(2, When::Greater, 8, END);
    code.load(Width::Half, 3, 7, 12).jump_if(3, When::Equal, ETHERTYPE_IPV6, "ipv6");
    code.jump_if(3, When::Unequal, ETHERTYPE_IPV4, END);
    code.load(Width::Byte, 3, 7, 14).jump_if(3, When::Unequal, IPV4_PLAIN, END);
    code.load(Width::Byte, 3, 7, 23).jump_if(3, When::Unequal, TCP, END);
    key(&mut code, direction, 26, 4);
    count(&mut code, v4, KEY4, "insert4");
    code.place("ipv6");
    code.with(Do::Move, 2, 7).set(Do::Add, 2, 74).jump_if_register(2, When::Greater, 8, END);
    code.load(Width::Byte, 3, 7, 20).jump_if(3, When::Unequal, TCP, END);
    key(&mut code, direction, 22, 16);
    count(&mut code, v6, KEY6, "insert6");
    code.finish(verdict(kind))
}

/// Both addresses, from `at` on, and both ports onto the stack.
fn key(code: &mut Code, direction: Direction, at: i16, address: i16) {
    let below = -(2 * address + 4);
    for word in 0..address / 4 {
        for (end, other) in [(0, address), (address, 0)] {
            let to = if direction == Direction::FromClient { end } else { other };
            code.load(Width::Word, 3, 7, at + end + 4 * word).store(Width::Word, 10, below + to + 4 * word, 3);
        }
    }
    let (first, second) = if direction == Direction::FromClient { (0, 2) } else { (2, 0) };
    let ports = at + 2 * address;
    code.load(Width::Half, 3, 7, ports).store(Width::Half, 10, -4 + first, 3);
    code.load(Width::Half, 3, 7, ports + 2).store(Width::Half, 10, -4 + second, 3);
}

/// Counts in the entry of the key on the stack, which may have to be put in.
fn count(code: &mut Code, map: i32, key: usize, insert: &'static str) {
    let key = key as i32;
    code.map(1, map).with(Do::Move, 2, 10).set(Do::Add, 2, -key).call(LOOKUP);
    code.jump_if(0, When::Equal, 0, insert);
    code.with(Do::Move, 7, 0).call(COARSE_NS).store(Width::Double, 7, 0, 0);
    code.load(Width::Double, 1, 7, 8).set(Do::Add, 1, 1).store(Width::Double, 7, 8, 1);
    code.load(Width::Double, 1, 7, 16).with(Do::Add, 1, 9).store(Width::Double, 7, 16, 1);
    code.jump(END);
    // The value lies below the longest key, at a multiple of eight.
    const VALUE_AT: i16 = -(40 + VALUE as i16);
    code.place(insert).call(COARSE_NS).store(Width::Double, 10, VALUE_AT, 0);
    code.set(Do::Move, 1, 1).store(Width::Double, 10, VALUE_AT + 8, 1).store(Width::Double, 10, VALUE_AT + 16, 9);
    code.set(Do::Move, 1, 0);
    for at in (24..VALUE as i16).step_by(8) {
        code.store(Width::Double, 10, VALUE_AT + at, 1);
    }
    code.map(1, map).with(Do::Move, 2, 10).set(Do::Add, 2, -key);
    code.with(Do::Move, 3, 10).set(Do::Add, 3, i32::from(VALUE_AT)).set(Do::Move, 4, 0).call(UPDATE);
    code.jump(END);
}
