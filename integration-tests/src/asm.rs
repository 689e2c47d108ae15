//! Small tc programs, assembled by hand: neighbours in the chain of the observer's own programs.
//!
//! Instructions as <https://www.kernel.org/doc/html/latest/bpf/standardization/instruction-set.html> encodes them.
//! r6 holds the packet's context throughout.

pub mod code;

use crate::bpf::ProgramKind;

/// What a tc program says to let the next one decide (`TCX_NEXT`, `TC_ACT_UNSPEC`).
pub const NEXT: i32 = -1;

/// Kernel helpers by number (include/uapi/linux/bpf.h).
const TAIL_CALL: i32 = 12;
const SKB_VLAN_PUSH: i32 = 18;
const SKB_VLAN_POP: i32 = 19;

/// One instruction.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Insn {
    code: u8,
    /// Destination in the low four bits, source in the high ones.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn insn(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Insn {
    Insn { code, registers: source << 4 | destination, offset, immediate }
}

/// Where a program's context has the packet's start and end (`xdp_md`, `__sk_buff`: include/uapi/linux/bpf.h).
pub const fn packet(kind: ProgramKind) -> [i16; 2] {
    match kind {
        ProgramKind::Xdp => [0, 4],
        ProgramKind::Tc => [76, 80],
    }
}

/// A program that does nothing but give its verdict.
pub fn empty(verdict: i32) -> Vec<Insn> {
    vec![insn(0xb7, 0, 0, 0, verdict), insn(0x95, 0, 0, 0, 0)]
}

/// A program that adds `step` to the 32-bit number at this offset of the frame, and goes on in the only program of an
/// array: over and over, a frame whose sequence number moves as a sender's would. `context` is where the context has
/// the packet's start and end; should anything fail, the verdict is this one.
pub fn advancing(context: [i16; 2], offset: i16, step: i32, array: i32, verdict: i32) -> Vec<Insn> {
    let [start, end] = context;
    vec![
        insn(0xbf, 6, 1, 0, 0),
        // r2 = start, r3 = end; none of it where the number does not lie within
        insn(0x61, 2, 1, start, 0),
        insn(0x61, 3, 1, end, 0),
        insn(0xbf, 4, 2, 0, 0),
        insn(0x07, 4, 0, 0, i32::from(offset) + 4),
        insn(0x2d, 4, 3, 10, 0),
        // r5 = the number in host order, and back
        insn(0x61, 5, 2, offset, 0),
        insn(0xdc, 5, 0, 0, 32),
        insn(0x07, 5, 0, 0, step),
        insn(0xdc, 5, 0, 0, 32),
        insn(0x63, 2, 5, offset, 0),
        // tail_call(context, array, 0)
        insn(0xbf, 1, 6, 0, 0),
        insn(0x18, 2, 1, 0, array),
        insn(0, 0, 0, 0, 0),
        insn(0xb7, 3, 0, 0, 0),
        insn(0x85, 0, 0, 0, TAIL_CALL),
        insn(0xb7, 0, 0, 0, verdict),
        insn(0x95, 0, 0, 0, 0),
    ]
}

/// A program that grows step by step, and lets the packet go on wherever a requirement is not met.
pub struct Program {
    insns: Vec<Insn>,
    /// Jumps to the end, whose distance is not known yet.
    to_end: Vec<usize>,
}

impl Program {
    #[expect(clippy::new_without_default, reason = "an empty program is not a usual value")]
    pub fn new() -> Self {
        Self { insns: vec![insn(0xbf, 6, 1, 0, 0)], to_end: Vec::new() }
    }

    /// Goes on only if the 16 bits at this offset of the frame are these.
    #[must_use]
    pub fn if_half(mut self, offset: i32, value: u16) -> Self {
        self.insns.push(insn(0x28, 0, 0, 0, offset));
        self.end_unless(i32::from(value))
    }

    /// Adds one to the 64-bit value of an array map's first element.
    #[must_use]
    pub fn count_in(mut self, map: i32) -> Self {
        self.insns.extend([
            // r1 = address of the value (BPF_PSEUDO_MAP_VALUE)
            insn(0x18, 1, 2, 0, map),
            insn(0, 0, 0, 0, 0),
            insn(0xb7, 2, 0, 0, 1),
            // lock *(u64 *)r1 += r2
            insn(0xdb, 1, 2, 0, 0),
        ]);
        self
    }

    /// Pushes a VLAN tag: into the packet's metadata, and the tag that was there into the frame.
    #[must_use]
    pub fn push_vlan(mut self, tag_protocol: u16, id: u16) -> Self {
        self.insns.extend([
            insn(0xbf, 1, 6, 0, 0),
            insn(0xb7, 2, 0, 0, i32::from(tag_protocol.to_be())),
            insn(0xb7, 3, 0, 0, i32::from(id)),
            insn(0x85, 0, 0, 0, SKB_VLAN_PUSH),
        ]);
        self
    }

    /// Removes the outermost VLAN tag, if there is one.
    #[must_use]
    pub fn pop_vlan(mut self) -> Self {
        self.insns.extend([insn(0xbf, 1, 6, 0, 0), insn(0x85, 0, 0, 0, SKB_VLAN_POP)]);
        self
    }

    /// The whole program: it ends by letting the next one decide.
    pub fn finish(mut self) -> Vec<Insn> {
        let end = self.insns.len();
        for jump in self.to_end {
            self.insns[jump].offset = i16::try_from(end - jump - 1).expect("a small program");
        }
        self.insns.extend([insn(0xb7, 0, 0, 0, NEXT), insn(0x95, 0, 0, 0, 0)]);
        self.insns
    }

    fn end_unless(mut self, value: i32) -> Self {
        self.to_end.push(self.insns.len());
        self.insns.push(insn(0x55, 0, 0, 0, value));
        self
    }
}
