//! A small program in front of the one that is measured: it writes another tuple into each frame and goes on in the
//! other by a tail call. It stands in the same way in front of the empty program and of the reference, so that its own
//! cost is in all of them.

use std::os::fd::{AsFd, AsRawFd};

use aya::maps::{Array, IterableMap as _, MapData};

use super::{Direction, verdict};
use crate::{
    asm::{
        self, Insn,
        code::{Code, Do, END, When, Width},
    },
    bpf::{ProgramArray, ProgramKind},
    pair::Family,
};

/// Helpers by number (include/uapi/linux/bpf.h).
const TAIL_CALL: i32 = 12;
const REDIRECT: i32 = 23;
/// Of the client's ports the first.
const FIRST_PORT: i32 = 10_000;
/// Knuth's MMIX: the upper half of the state is random enough to choose a flow.
const MULTIPLIER: u64 = 6_364_136_223_846_793_005;
const INCREMENT: i32 = 1_442_695_041;

/// Which flow comes next.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// One after the other, from where the generator was told to go on.
    Sequential,
    /// Any of the first so many.
    Random { of: u32 },
    /// Any of 2³².
    Any,
}

/// What follows once the tuple is written.
pub enum Then<'a> {
    Program(&'a ProgramArray),
    /// Out at the interface of this index (XDP).
    Redirect(u32),
}

/// The program: the client's address ends with the flow's low 16 bits, its port follows from the others.
pub fn generator(
    (kind, family, direction): (ProgramKind, Family, Direction),
    order: Order,
    state: &Array<MapData, u64>,
    then: &Then<'_>,
) -> Vec<Insn> {
    let [start, end] = asm::packet(kind);
    let (address, port) = place(family, direction);
    let mut code = Code::default();
    code.with(Do::Move, 6, 1).value_of(7, state.map().fd().as_fd().as_raw_fd()).load(Width::Double, 8, 7, 0);
    // r8 = the state; r9 = the flow
    match order {
        Order::Sequential => {
            code.with(Do::Move, 9, 8).set(Do::Add, 8, 1).store(Width::Double, 7, 0, 8);
        }
        Order::Random { .. } | Order::Any => {
            code.wide(3, MULTIPLIER).with(Do::Multiply, 8, 3).set(Do::Add, 8, INCREMENT);
            code.store(Width::Double, 7, 0, 8).with(Do::Move, 9, 8).set(Do::ShiftRight, 9, 32);
        }
    }
    if let Order::Random { of } = order {
        code.set(Do::Multiply, 9, of as i32).set(Do::ShiftRight, 9, 32);
    }
    code.load(Width::Word, 2, 6, start).load(Width::Word, 3, 6, end);
    code.with(Do::Move, 4, 2).set(Do::Add, 4, i32::from(address.max(port)) + 2);
    code.jump_if_register(4, When::Greater, 3, END);
    code.with(Do::Move, 5, 9).half_to_network(5).store(Width::Half, 2, address, 5);
    code.with(Do::Move, 5, 9).set(Do::ShiftRight, 5, 16).set(Do::Add, 5, FIRST_PORT);
    code.half_to_network(5).store(Width::Half, 2, port, 5);
    match then {
        Then::Program(array) => {
            code.with(Do::Move, 1, 6).map(2, array.fd()).set(Do::Move, 3, 0).call(TAIL_CALL);
        }
        Then::Redirect(interface) => {
            code.set(Do::Move, 1, *interface as i32).set(Do::Move, 2, 0).call(REDIRECT).exit();
        }
    }
    code.finish(verdict(kind))
}

/// Where a frame has the last two bytes of the client's address, and the client's port.
fn place(family: Family, direction: Direction) -> (i16, i16) {
    match (family, direction) {
        (Family::V4, Direction::FromClient) => (28, 34),
        (Family::V4, Direction::FromServer) => (32, 36),
        (Family::V6, Direction::FromClient) => (36, 54),
        (Family::V6, Direction::FromServer) => (52, 56),
    }
}
