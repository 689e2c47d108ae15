//! Invariants and laws over scripts at random, without a fuzzer. `cargo xtask prove laws` plays more of them.

use proofs::{
    amount::amount,
    fuzzing::{LAWS, Law, Reached, Script, play},
};
use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed, TestRunner},
};
use tcp_observer_common::{
    conn::{How, Initiator, Note, Outcome, Phase, State},
    counters::{Eviction, Skip},
};

/// The seed is fixed, so that a failure is the same everywhere; failures shrink to few acts.
fn over_scripts(times: u64, mut check: impl FnMut(&Script)) {
    let cases = (times * amount("laws", 300)) as u32;
    let config = Config { cases, rng_seed: RngSeed::Fixed(11), failure_persistence: None, ..Config::default() };
    let acts = prop::collection::vec(any::<[u8; 6]>(), 1..60);
    // With a seed of its own a script shrinks and fails all the same.
    let scripts = (any::<u8>(), acts, any::<u64>());
    let check = std::cell::RefCell::new(&mut check);
    TestRunner::new(config)
        .run(&scripts, |(head, acts, seed)| {
            check.borrow_mut()(&Script { seed, ..Script::read(&[&[head], &acts.concat()[..]].concat()) });
            Ok(())
        })
        .unwrap();
}

fn hold(law: Law) {
    over_scripts(1, |script| law.hold(script));
}

#[test]
fn where_numbers_begin_does_not_matter() {
    hold(Law::Numbers);
}

#[test]
fn which_side_is_low_does_not_matter() {
    hold(Law::Sides);
}

#[test]
fn the_address_family_does_not_matter() {
    hold(Law::Family);
}

#[test]
fn what_is_around_a_segment_does_not_matter() {
    hold(Law::Wrapping);
}

#[test]
fn when_it_happens_does_not_matter() {
    hold(Law::Moment);
}

#[test]
fn a_segment_again_moves_no_state_twice() {
    hold(Law::Again);
}

#[test]
fn a_copy_at_another_hook_leaves_everything_as_it_was() {
    hold(Law::Elsewhere);
}

#[test]
fn how_often_the_sweep_comes_by_does_not_matter() {
    hold(Law::Sweeps);
}

#[test]
fn every_law_has_its_test() {
    assert_eq!(LAWS.len(), 8);
}

/// In how many runs each was reached.
fn fractions<const N: usize>(runs: &[Reached], what: impl Fn(&Reached) -> [bool; N]) -> [usize; N] {
    std::array::from_fn(|index| runs.iter().filter(|reached| what(reached)[index]).count())
}

#[test]
fn every_packet_is_accounted_for_every_arrow_is_the_rfcs_and_every_state_and_note_is_reached() {
    let mut runs = Vec::new();
    // More of them: some notes take a long exchange to earn.
    over_scripts(8, |script| runs.push(play(script)));
    let mut missing = Vec::new();
    let mut tell = |name: &str, label: &str, count: usize, is_reachable: bool| {
        println!("{name} {label}: in {:.1} % of {} runs", 100.0 * count as f64 / runs.len() as f64, runs.len());
        if count == 0 && is_reachable {
            missing.push(format!("{name} {label}"));
        }
    };
    for (state, count) in State::ALL.iter().zip(fractions(&runs, |reached| reached.states)) {
        tell("state", state.label(), count, true);
    }
    for (phase, count) in Phase::ALL.iter().zip(fractions(&runs, |reached| reached.phases)) {
        tell("phase", phase.label(), count, true);
    }
    for (outcome, count) in Outcome::ALL.iter().zip(fractions(&runs, |reached| reached.outcomes)) {
        // Tables without a bound.
        tell("outcome", outcome.label(), count, *outcome != Outcome::Evicted);
    }
    for (how, count) in How::ALL.iter().zip(fractions(&runs, |reached| reached.hows)) {
        tell("how", how.label(), count, true);
    }
    for (initiator, count) in Initiator::ALL.iter().zip(fractions(&runs, |reached| reached.initiators)) {
        tell("initiator", initiator.label(), count, true);
    }
    for (note, count) in Note::ALL.iter().zip(fractions(&runs, |reached| reached.notes)) {
        // What every connection does is not kept; TIME_WAIT's restart is shown by `--follow` only.
        let is_kept = !matches!(note, Note::Nothing | Note::SynAnswered | Note::Completed | Note::TimeWaitRestarted);
        tell("note", note.label(), count, is_kept);
    }
    for (skip, count) in Skip::ALL.iter().zip(fractions(&runs, |reached| reached.skips)) {
        // One CPU, and tables without a bound.
        tell("skip", skip.label(), count, !matches!(skip, Skip::Contended | Skip::TableFull));
    }
    for (eviction, count) in Eviction::ALL.iter().zip(fractions(&runs, |reached| reached.evictions)) {
        // Likewise.
        tell("eviction", eviction.label(), count, *eviction != Eviction::Replaced);
    }
    assert!(missing.is_empty(), "never reached: {missing:?}");
}
