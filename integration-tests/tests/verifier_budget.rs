//! What the kernel's verifier makes of each program: it accepts it, within a bound on the work it takes, and with a stack
//! that older kernels accept as well.

use aya::EbpfLoader;
use integration_tests::{object, prelude::*, stack};
use tcp_observer::kernel::load;
use tcp_observer_common::abi::program;

/// The kernel gives up at a million. Twice what Linux 6.18 takes is what a change may cost unnoticed.
const BOUNDS: [(&str, u32); 10] = [
    (program::XDP_INGRESS, 125_000),
    (program::XDP_INGRESS_GENERIC, 125_000),
    (program::TC_INGRESS, 190_000),
    (program::TC_EGRESS, 190_000),
    (program::TC_INGRESS_L3, 70_000),
    (program::TC_EGRESS_L3, 70_000),
    (program::XDP_UNSTEADY, 280_000),
    (program::XDP_UNSTEADY_GENERIC, 280_000),
    (program::TC_UNSTEADY, 280_000),
    (program::SWEEP, 116_000),
];

#[test]
fn each_program_is_verified_within_its_budget() {
    let _bound = bounded();
    let mut object = EbpfLoader::new().load(&object::bytes()).expect("the object loads");
    let mut over = Vec::new();
    for (name, bound) in BOUNDS {
        load::load(&mut object, name).unwrap_or_else(|error| panic!("{error:#}"));
        let info = object.program(name).expect("just loaded").info().expect("the kernel says it");
        let verified = info.verified_instruction_count().expect("kernels since 5.16 say it");
        let translated = info.size_translated().expect("the kernel says it") / 8;
        println!("{name}: {verified} instructions verified, {translated} translated, {} B native", info.size_jitted());
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
    let mut programs = BOUNDS.map(|(name, _)| name);
    programs.sort_unstable();
    assert_eq!(names, programs, "each program is looked at, and each has a bound");
    for chain in &chains {
        println!("{chain}");
        assert!(chain.bytes() <= stack::MOST, "too deep: {chain}");
    }
    // That calls are followed: what is off the shortest path goes through several functions.
    assert_eq!(chains.iter().filter(|chain| chain.0.len() >= 3).count(), 3, "one for each kind: {chains:?}");
}
