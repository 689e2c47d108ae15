//! A program as it is run on frames: alone, or behind a generator.

use std::os::fd::OwnedFd;

use aya::maps::{Array, MapData};

use super::{Direction, Order, Then, generator::generator, hook::verdict};
use crate::{
    asm,
    bpf::{self, ProgramArray, ProgramKind},
    pair::Family,
    test_run,
};

/// What test runs are made of.
pub struct Lane {
    program: OwnedFd,
    state: Option<Array<MapData, u64>>,
    /// An array of programs is emptied when its last descriptor is closed.
    _array: Option<ProgramArray>,
}

impl Lane {
    /// The program as it is: the same frame every time.
    pub fn plain(target: &OwnedFd) -> Self {
        Self { program: spare(target), state: None, _array: None }
    }

    pub fn behind(what: (ProgramKind, Family, Direction), order: Order, target: &OwnedFd) -> Self {
        let (array, state) = (ProgramArray::new(), new_state());
        let program = bpf::load(what.0, &generator(what, order, &state, &Then::Program(&array)));
        array.set(target);
        Self { program, state: Some(state), _array: Some(array) }
    }

    /// Behind a program that moves the sequence number on by so much each time.
    pub fn advancing(kind: ProgramKind, seq_offset: i16, step: i32, target: &OwnedFd) -> Self {
        let array = ProgramArray::new();
        let insns = asm::advancing(asm::packet(kind), seq_offset, step, array.fd(), verdict(kind));
        let program = bpf::load(kind, &insns);
        array.set(target);
        Self { program, state: None, _array: Some(array) }
    }

    /// Goes on with this flow.
    pub fn seek(&mut self, flow: u64) {
        if let Some(state) = &mut self.state {
            state.set(0, flow, 0).expect("a generator's state can be written");
        }
    }

    /// The mean of so many runs, in nanoseconds.
    pub fn run(&self, frame: &[u8], times: u32) -> f64 {
        test_run::mean_ns(&self.program, frame, times)
    }
}

pub fn new_state() -> Array<MapData, u64> {
    Array::create(1, 0).expect("cannot create a map")
}

pub fn spare(program: &OwnedFd) -> OwnedFd {
    program.try_clone().expect("a descriptor to spare")
}
