//! Instructions one after the other, with jumps to places that have names.

use std::collections::BTreeMap;

use super::{Insn, insn};

/// How wide an access to memory is: the size bits of its opcode.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub enum Width {
    Word = 0x00,
    Half = 0x08,
    Byte = 0x10,
    Double = 0x18,
}

/// When a jump is taken: the operation bits of its opcode.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub enum When {
    Equal = 0x10,
    /// Unsigned.
    Greater = 0x20,
    Unequal = 0x50,
}

/// What is done to a register, in 64 bits: the operation bits of its opcode.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub enum Do {
    Add = 0x00,
    Sub = 0x10,
    Multiply = 0x20,
    And = 0x50,
    ShiftRight = 0x70,
    Move = 0xb0,
}

const IMMEDIATE: u8 = 0x07;
const REGISTER: u8 = 0x0f;

/// The place where a program ends with its verdict.
pub const END: &str = "end";

/// A program that grows; r1 is its context when it begins.
#[derive(Default)]
pub struct Code {
    insns: Vec<Insn>,
    jumps: Vec<(usize, &'static str)>,
    places: BTreeMap<&'static str, usize>,
}

impl Code {
    pub fn set(&mut self, what: Do, register: u8, immediate: i32) -> &mut Self {
        self.push(insn(what as u8 | IMMEDIATE, register, 0, 0, immediate))
    }

    pub fn with(&mut self, what: Do, register: u8, other: u8) -> &mut Self {
        self.push(insn(what as u8 | REGISTER, register, other, 0, 0))
    }

    /// A number of 64 bits into a register.
    pub fn wide(&mut self, register: u8, value: u64) -> &mut Self {
        self.push(insn(0x18, register, 0, 0, value as i32)).push(insn(0, 0, 0, 0, (value >> 32) as i32))
    }

    /// Swaps a register's low 16 bits into network order, and drops the others.
    pub fn half_to_network(&mut self, register: u8) -> &mut Self {
        self.push(insn(0xdc, register, 0, 0, 16))
    }

    pub fn load(&mut self, width: Width, register: u8, from: u8, offset: i16) -> &mut Self {
        self.push(insn(0x61 | width as u8, register, from, offset, 0))
    }

    pub fn store(&mut self, width: Width, to: u8, offset: i16, register: u8) -> &mut Self {
        self.push(insn(0x63 | width as u8, to, register, offset, 0))
    }

    /// A map itself, as helpers take it (`BPF_PSEUDO_MAP_FD`).
    pub fn map(&mut self, register: u8, fd: i32) -> &mut Self {
        self.push(insn(0x18, register, 1, 0, fd)).push(insn(0, 0, 0, 0, 0))
    }

    /// The address of an array's first value (`BPF_PSEUDO_MAP_VALUE`).
    pub fn value_of(&mut self, register: u8, fd: i32) -> &mut Self {
        self.push(insn(0x18, register, 2, 0, fd)).push(insn(0, 0, 0, 0, 0))
    }

    pub fn call(&mut self, helper: i32) -> &mut Self {
        self.push(insn(0x85, 0, 0, 0, helper))
    }

    pub fn jump_if(&mut self, register: u8, when: When, immediate: i32, place: &'static str) -> &mut Self {
        self.jumps.push((self.insns.len(), place));
        self.push(insn(0x05 | when as u8, register, 0, 0, immediate))
    }

    pub fn jump_if_register(&mut self, register: u8, when: When, other: u8, place: &'static str) -> &mut Self {
        self.jumps.push((self.insns.len(), place));
        self.push(insn(0x0d | when as u8, register, other, 0, 0))
    }

    pub fn jump(&mut self, place: &'static str) -> &mut Self {
        self.jumps.push((self.insns.len(), place));
        self.push(insn(0x05, 0, 0, 0, 0))
    }

    pub fn place(&mut self, name: &'static str) -> &mut Self {
        self.places.insert(name, self.insns.len());
        self
    }

    /// What r0 holds is the verdict.
    pub fn exit(&mut self) -> &mut Self {
        self.push(insn(0x95, 0, 0, 0, 0))
    }

    /// The whole program, at whose end is [`END`] with this verdict.
    pub fn finish(&mut self, verdict: i32) -> Vec<Insn> {
        self.place(END).set(Do::Move, 0, verdict).exit();
        for &(jump, place) in &self.jumps {
            let distance = self.places[place] as isize - jump as isize - 1;
            self.insns[jump].offset = i16::try_from(distance).expect("a small program");
        }
        std::mem::take(&mut self.insns)
    }

    fn push(&mut self, insn: Insn) -> &mut Self {
        self.insns.push(insn);
        self
    }
}
