//! What the kernel's verifier makes of each program: it accepts it, within a bound on the work it takes, and with a stack
//! that older kernels accept as well.

use aya::EbpfLoader;
use integration_tests::{kernel, object, prelude::*, stack};
use tcp_observer::kernel::load;
use tcp_observer_common::abi::program;

/// Kernels whose verifiers have been asked, oldest first: a verifier's work is its own for each.
const KERNELS: [(u32, u32); 3] = [(6, 1), (6, 12), (6, 18)];

/// How many instructions each of them looks at, by program. To be written anew when a program changes on purpose:
/// `cargo xtask vm --test verifier_budget -- --nocapture` prints the older kernels' columns.
const RECORDED: [(&str, [u32; 3]); 10] = [
    (program::XDP_INGRESS, [204_449, 246_860, 294_624]),
    (program::XDP_INGRESS_GENERIC, [204_449, 246_860, 294_624]),
    (program::TC_INGRESS, [299_342, 294_136, 353_265]),
    (program::TC_EGRESS, [297_585, 294_060, 353_159]),
    (program::TC_INGRESS_L3, [160_938, 152_540, 180_897]),
    (program::TC_EGRESS_L3, [159_480, 151_463, 179_852]),
    (program::XDP_UNSTEADY, [368_769, 417_781, 435_291]),
    (program::XDP_UNSTEADY_GENERIC, [368_769, 417_781, 435_291]),
    (program::TC_UNSTEADY, [368_769, 417_781, 435_291]),
    (program::SWEEP, [176_049, 181_220, 183_953]),
];

/// What a program may take more than was recorded, in percent: a compiler's next version moves it by less.
const SLACK: u32 = 20;

/// The kernel gives up at a million. Nothing comes nearer to that than this, on any kernel.
const CEILING: u32 = 750_000;

/// What was recorded on the running kernel; on one that is not in the table, the most that any took.
fn recorded(row: [u32; 3]) -> u32 {
    let column = KERNELS.iter().position(|&known| known == kernel::version());
    column.map_or_else(|| row.into_iter().max().unwrap_or(0), |column| row[column])
}

#[test]
fn each_program_is_verified_within_its_budget() {
    let _bound = bounded();
    let mut object = EbpfLoader::new().load(&object::bytes()).expect("the object loads");
    let mut over = Vec::new();
    println!(
        "Linux {}\n{:24} {:>9} {:>9} {:>10} {:>8}",
        kernel::release(),
        "program",
        "verified",
        "bound",
        "translated",
        "native"
    );
    for (name, row) in RECORDED {
        load::load(&mut object, name).unwrap_or_else(|error| panic!("{error:#}"));
        let info = object.program(name).expect("just loaded").info().expect("the kernel says it");
        let verified = info.verified_instruction_count().expect("kernels since 5.16 say it");
        let translated = info.size_translated().expect("the kernel says it") / 8;
        let bound = (recorded(row) / 100 * (100 + SLACK)).min(CEILING);
        println!("{name:24} {verified:9} {bound:9} {translated:10} {:6} B", info.size_jitted());
        if verified > bound {
            over.push(format!("`{name}` takes {verified} verified instructions, the bound is {bound}"));
        }
    }
    assert!(over.is_empty(), "{over:#?}");
}

#[test]
fn no_chain_of_calls_takes_more_stack_than_linux_6_1_has() {
    let chains = stack::deepest_chains(&object::bytes());
    let mut names: Vec<_> = chains.iter().map(|chain| chain.0[0].0.as_str()).collect();
    names.sort_unstable();
    let mut programs = RECORDED.map(|(name, _)| name);
    programs.sort_unstable();
    assert_eq!(names, programs, "each program is looked at, and each has a bound");
    for chain in &chains {
        println!("{chain}");
        assert!(chain.bytes() <= stack::MOST, "too deep: {chain}");
    }
    // That calls are followed: what is off the shortest path goes through several functions, and what the agent asks for.
    assert_eq!(chains.iter().filter(|chain| chain.0.len() >= 3).count(), 4, "one for each kind, the sweep: {chains:?}");
}
