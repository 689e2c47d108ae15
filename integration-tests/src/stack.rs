//! How deep the stack of the kernel programs gets, read from the object's instructions.
//!
//! The verifier allows 512 bytes to a chain of calls, and rounds each frame up: to 32 bytes on Linux 6.1, to less on
//! later ones. What a frame takes is how far below r10 its function reaches, by load and store or by an address that is
//! made of r10.

use std::{collections::BTreeSet, fmt};

use object::{File, Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionIndex, SymbolKind};

/// What a chain of calls may take altogether (`MAX_BPF_STACK`).
pub const MOST: u32 = 512;
/// What each frame is rounded up to at worst.
const GRAIN: u32 = 32;

const FRAME_POINTER: u8 = 10;
const INSN_BYTES: u64 = 8;
const CALL: u8 = 0x85;
const LOAD_WIDE: u8 = 0x18;
const MOVE: u8 = 0xbf;
const ADD_IMMEDIATE: u8 = 0x07;
/// The source register of a call to another function of the object.
const PSEUDO_CALL: u8 = 1;

/// One function of the object.
#[derive(Clone, Debug)]
struct Function {
    name: String,
    section: SectionIndex,
    start: u64,
    end: u64,
    is_program: bool,
    /// How far below its frame pointer it reaches, in bytes.
    depth: u32,
    calls: BTreeSet<usize>,
}

/// A program and the functions below it, one called by the other, with what each takes in bytes.
#[derive(Clone, Debug, Default)]
pub struct Chain(pub Vec<(String, u32)>);

impl Chain {
    /// What the verifier makes of it.
    pub fn bytes(&self) -> u32 {
        self.0.iter().map(|&(_, depth)| depth.max(1).next_multiple_of(GRAIN)).sum()
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (name, depth)) in self.0.iter().enumerate() {
            write!(f, "{}{name} {depth}", if n == 0 { "" } else { " → " })?;
        }
        write!(f, ": {} B", self.bytes())
    }
}

/// The deepest chain of each program.
///
/// # Panics
/// When these bytes are no BPF object.
pub fn deepest_chains(bytes: &[u8]) -> Vec<Chain> {
    let object = File::parse(bytes).expect("the object is an ELF file");
    let mut functions = functions_of(&object);
    for index in 0..functions.len() {
        let (depth, calls) = walk(&object, &functions, &functions[index]);
        functions[index].depth = depth;
        functions[index].calls = calls;
    }
    let programs = (0..functions.len()).filter(|&index| functions[index].is_program);
    programs.map(|program| deepest_from(&functions, program, 0)).collect()
}

fn functions_of(object: &File<'_>) -> Vec<Function> {
    let functions = object.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0);
    functions
        .filter_map(|symbol| {
            let section = symbol.section_index()?;
            Some(Function {
                name: symbol.name().unwrap_or("?").to_owned(),
                section,
                start: symbol.address(),
                end: symbol.address() + symbol.size(),
                is_program: object.section_by_index(section).ok()?.name().ok()? != ".text",
                depth: 0,
                calls: BTreeSet::new(),
            })
        })
        .collect()
}

/// How deep a function reaches, and what it calls: by itself, or by handing its address to the kernel.
fn walk(object: &File<'_>, functions: &[Function], function: &Function) -> (u32, BTreeSet<usize>) {
    let section = object.section_by_index(function.section).expect("the section of a symbol is there");
    let code = section.data().expect("a section of code has bytes");
    let relocations: std::collections::BTreeMap<_, _> = section.relocations().collect();
    let at = |section, offset| {
        let holds = |f: &Function| f.section == section && (f.start..f.end).contains(&offset);
        functions.iter().position(holds)
    };
    let mut lowest = 0_i32;
    let mut calls = BTreeSet::new();
    // How far below the frame pointer a register points, where it does.
    let mut below: [Option<i32>; 11] = [None; 11];
    below[usize::from(FRAME_POINTER)] = Some(0);
    let mut offset = function.start;
    while offset < function.end {
        let insn: [u8; 8] = code[offset as usize..][..8].try_into().expect("an instruction is whole");
        let (operation, destination, source) = (insn[0], usize::from(insn[1] & 15), usize::from(insn[1] >> 4));
        let displacement = i32::from(i16::from_le_bytes([insn[2], insn[3]]));
        let immediate = i32::from_le_bytes([insn[4], insn[5], insn[6], insn[7]]);
        let target = relocations.get(&offset).and_then(|relocation| match relocation.target() {
            RelocationTarget::Symbol(index) => {
                let symbol = object.symbol_by_index(index).ok()?;
                let within = match symbol.kind() {
                    SymbolKind::Section if operation == CALL => (i64::from(immediate) + 1) as u64 * INSN_BYTES,
                    SymbolKind::Section => immediate as u64,
                    _ => symbol.address(),
                };
                at(symbol.section_index()?, within)
            }
            _ => None,
        });
        calls.extend(target);
        match operation & 7 {
            // Loads from the stack, and stores to it.
            1 => lowest = lowest.min(below[source].map_or(0, |base| base + displacement)),
            2 | 3 => lowest = lowest.min(below[destination].map_or(0, |base| base + displacement)),
            _ => {}
        }
        match operation {
            MOVE => below[destination] = below[source],
            ADD_IMMEDIATE => {
                below[destination] = below[destination].map(|base| base + immediate);
                lowest = lowest.min(below[destination].unwrap_or(0));
            }
            CALL => {
                if insn[1] >> 4 == PSEUDO_CALL && target.is_none() {
                    let next = offset as i64 + INSN_BYTES as i64;
                    calls.extend(at(function.section, (next + i64::from(immediate) * INSN_BYTES as i64) as u64));
                }
                below[..6].fill(None);
            }
            // Loads into a register, and whatever else is computed in one.
            _ if matches!(operation & 7, 0 | 1 | 4 | 7) => below[destination] = None,
            _ => {}
        }
        below[usize::from(FRAME_POINTER)] = Some(0);
        offset += if operation == LOAD_WIDE { 2 * INSN_BYTES } else { INSN_BYTES };
    }
    (lowest.unsigned_abs(), calls)
}

fn deepest_from(functions: &[Function], index: usize, level: usize) -> Chain {
    // The verifier allows eight frames; more than that is a circle.
    assert!(level < 8, "`{}` is called too deep", functions[index].name);
    let function = &functions[index];
    let chains = function.calls.iter().map(|&called| deepest_from(functions, called, level + 1));
    let mut chain = chains.max_by_key(Chain::bytes).unwrap_or_default();
    chain.0.insert(0, (function.name.clone(), function.depth));
    chain
}
