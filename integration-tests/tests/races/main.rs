//! Two CPUs on the same flows: the real kernel programs by `BPF_PROG_TEST_RUN`, both lanes of a scenario at the same
//! moment, on hundreds of tuples a round.
//!
//! What is left of each is what the core leaves that takes the segments in one after the other, in some order, or one
//! of the losses that ARCHITECTURE.md lists; and everything that was shown is counted, once.

mod arena;
mod handed_over;
mod lanes;
mod readers;
mod tally;

use std::time::Duration;

use arena::Arena;
use integration_tests::{bounds::bounded_by, pair::Family};
use lanes::Programs;
use proofs::{
    amount::amount,
    races::{self, Scenario},
};
use tally::Sums;
use tcp_observer_common::{abi::program, limits::Limits};

/// Tuples of one round of a scenario.
const TUPLES: u16 = 100;
const USUAL_ROUNDS: u64 = 2;

#[test]
fn two_cpus_leave_what_one_does_in_some_order_or_a_loss_that_is_written_down() {
    let rounds = amount("races", USUAL_ROUNDS);
    let _bound = bounded_by(Duration::from_secs(180 + 60 * rounds));
    let mut arena = Arena::load();
    let hooks = [program::XDP_INGRESS, program::TC_INGRESS].map(|ingress| Programs {
        ingress: arena.program(ingress),
        egress: arena.program(program::TC_EGRESS),
        sweep: arena.program(program::SWEEP),
    });
    let scenarios = races::all();
    let mut all: Vec<Sums> = scenarios.iter().map(Sums::new).collect();
    for round in 0..rounds {
        for (scenario, sums) in scenarios.iter().zip(&mut all) {
            arena.set_limits(limits(scenario));
            for (number, programs) in hooks.iter().enumerate() {
                for family in Family::BOTH {
                    arena.clear();
                    let before = arena.counters();
                    let seed = (round + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number as u64;
                    let raced = lanes::race(programs, scenario, family, TUPLES, seed);
                    sums.add(TUPLES, &raced, &arena.outcomes(), &before, &arena.counters());
                }
            }
        }
    }
    all.iter().for_each(|sums| println!("{sums}"));
    println!("{}", Sums::total(&all));
    let wrong: Vec<_> = all.iter().flat_map(|sums| &sums.wrong).collect();
    let shown = wrong[..wrong.len().min(10)].iter().map(|text| text.as_str()).collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} are wrong, of which\n{shown}", wrong.len());
    Sums::assert_raced(&all);
}

fn limits(scenario: &Scenario) -> Limits {
    match scenario.ends_at_once {
        true => Limits { local_time_wait_ns: 0, remote_time_wait_ns: 0, linger_ns: 0, ..Limits::DEFAULT },
        false => Limits::DEFAULT,
    }
}
