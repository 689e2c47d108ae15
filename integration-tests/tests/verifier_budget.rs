//! What the kernel's verifier makes of each program: it accepts it, within a bound on the work it takes.

use aya::{EbpfLoader, programs::Program};
use integration_tests::{object, prelude::*};
use tcp_observer_common::abi::program;

/// The kernel gives up at a million; half as much again is what a change may cost unnoticed.
const BOUNDS: [(&str, u32); 7] = [
    (program::XDP_INGRESS, 600_000),
    (program::XDP_INGRESS_GENERIC, 600_000),
    (program::TC_INGRESS, 600_000),
    (program::TC_EGRESS, 600_000),
    (program::TC_INGRESS_L3, 600_000),
    (program::TC_EGRESS_L3, 600_000),
    (program::SWEEP, 600_000),
];

#[test]
fn each_program_is_verified_within_its_budget() {
    let _bound = bounded();
    let mut object = EbpfLoader::new().load(&object::bytes()).expect("the object loads");
    for (name, bound) in BOUNDS {
        let program = object.program_mut(name).unwrap_or_else(|| panic!("no program `{name}`"));
        let info = match program {
            Program::Xdp(xdp) => xdp.load().and_then(|()| xdp.info()),
            Program::SchedClassifier(tc) => tc.load().and_then(|()| tc.info()),
            other => panic!("`{name}` is of an unexpected kind: {other:?}"),
        };
        let info = info.unwrap_or_else(|error| panic!("`{name}` does not load: {error:?}"));
        let verified = info.verified_instruction_count().expect("kernels since 5.16 say it");
        let translated = info.size_translated().expect("the kernel says it") / 8;
        println!("{name}: {verified} instructions verified, {translated} translated, {} B native", info.size_jitted());
        assert!(verified < bound, "`{name}` takes {verified} verified instructions, the bound is {bound}");
    }
}
