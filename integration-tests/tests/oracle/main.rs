//! The kernel's sockets as oracle: connections of every kind of open and close, over wires good and bad, of each of
//! which three accounts are compared.
//!
//! - **The socket's own** ([`set_state`](integration_tests::set_state)): every change of `sk_state`.
//! - **The agent's**: its record, dumped again and again while the connections come and go.
//! - **The replay's** of a capture on the same interface: the record, and each change of a state as an event.
//!
//! The agent's record has to be the replay's, field by field; the events have to be the socket's changes, in the same
//! order (`sequence.rs` has the mapping). No connection may be missing from an account, and none may be more than what
//! the test has made. While all of this goes on, `verify` holds the agent's states against the socket table.
//!
//! All traffic of a round is carried by one CPU, so that the hooks, the stack and the capture see one order of packets:
//! what is compared is what is made of them. What two CPUs do to each other is another proof's matter.

mod compare;
mod kinds;
mod live;
mod replayed;
mod round;
mod sequence;
mod verified;
mod visit;
mod world;

use std::time::Duration;

use integration_tests::{bounds::bounded_by, link::Quality, scene::Side};
use proofs::amount::{amount, variable};
use round::{Round, Wire};

/// What a round has when there is much to do: its flows fit into the least tables, and it is over before TIME_WAIT is.
const LARGEST: u64 = 1_500;
/// How often a round is tried that other work on the machine gets in the way of.
const ATTEMPTS: usize = 4;

const FAR: Quality = Quality::delaying(Duration::from_millis(4));
const BAD: Quality = Quality { lost: 30, doubled: 20, overtaken: 50, delay: Duration::from_millis(4) };

/// Runs so many connections over this wire, the agent at alternating ends; the seeds are `PROVE_ORACLE_SEED` further on.
fn prove(wire: Wire, connections: u64, ends: [Side; 2], cpu: usize, seed: u64) {
    let further = std::env::var(variable("oracle-seed")).map_or(0, |seed| seed.parse().expect("a seed is a number"));
    let seed = seed + further;
    let rounds = connections.div_ceil(LARGEST);
    let _bound = bounded_by(Duration::from_secs(180 * (rounds + 2)));
    let mut total = round::Found::default();
    for n in 0..rounds {
        let side = ends[n as usize % 2];
        let connections = connections.div_ceil(rounds) as usize;
        let round = Round { wire, side, connections, cpu, seed: seed + n };
        total += (0..ATTEMPTS).find_map(|_| round.run()).expect("there is CPU time to ask the agent every few seconds");
    }
    println!("{wire:?}: {total}");
    assert_eq!(total.disagreements(), 0, "what they are is said above, by round");
    let (met, of) = total.met_on_two_cpus();
    assert!(met <= 1 + of / 500, "{met} of {of} records lack a segment, or have two in the other order");
    // Generous, since other tests run on the same CPUs; a wrong segment or clock is off by far more.
    assert!(
        total.median_span().is_some_and(|span| span < Duration::from_millis(1)),
        "handshake times are not the capture's"
    );
}

fn share(per_cent: u64) -> u64 {
    (amount("oracle", 3_000) * per_cent).div_ceil(100)
}

#[test]
fn sockets_say_the_same_over_a_good_wire() {
    prove(Wire::Near, share(40), [Side::Server, Side::Client], 0, 1);
}

#[test]
fn sockets_say_the_same_over_a_long_wire() {
    prove(Wire::Long(FAR), share(30), [Side::Client, Side::Server], 1, 1_001);
}

#[test]
fn sockets_say_the_same_over_a_bad_wire() {
    prove(Wire::Bad(BAD), share(30), [Side::Server, Side::Client], 0, 2_001);
}
