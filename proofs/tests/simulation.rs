//! The observer between simulated ends; see `proofs::simulation`.

use proofs::{
    amount::{amount, variable},
    simulation::{
        known::{KNOWN, Known},
        oracle::Doubt,
        packet::Header,
        plan::Plan,
        states::States,
        trace,
        watch::{explain, judge, judge_hiding},
    },
};
use tcp_observer_common::conn::State;

#[test]
fn a_seed_means_one_trace() {
    let traces: Vec<_> = (0..50).map(trace).collect();
    assert_eq!(traces, (0..50).map(trace).collect::<Vec<_>>());
    assert!(traces.iter().map(Vec::len).sum::<usize>() > 500);
}

/// `PROVE_SIMULATION` runs, from seed `PROVE_SIMULATION_SEED` on.
#[test]
fn the_observer_says_what_the_ends_are() {
    let first = std::env::var(variable("simulation-seed")).map_or(0, |seed| seed.parse().expect("a seed is a number"));
    let runs = amount("simulation", 10_000);
    let (mut packets, mut checks, mut exact, mut failed) = (0, 0, 0, Vec::new());
    for seed in first..first + runs {
        let plan = Plan::from_seed(seed);
        let watch = judge(&plan, false);
        packets += watch.packets_passed;
        checks += watch.checks;
        exact += watch.exact;
        if watch.failure.is_some() && !KNOWN.iter().any(|known| known.seed == seed) {
            failed.push(seed);
        }
    }
    let known = KNOWN.iter().filter(|known| (first..first + runs).contains(&known.seed)).count();
    println!(
        "{runs} runs, {packets} packets, {checks} comparisons, {exact} of them with a single possible state, {known} known \
         to fail, {} others failed",
        failed.len()
    );
    if let Some(&seed) = failed.first() {
        panic!("{}\nseeds that fail: {failed:?}", explain(&Plan::from_seed(seed), |_| false));
    }
}

/// One that agrees is to be taken off the list.
#[test]
fn what_is_known_to_disagree_does() {
    for Known { seed, why } in KNOWN {
        assert!(
            judge(&Plan::from_seed(*seed), false).failure.is_some(),
            "seed {seed} agrees now, and is listed: {why}"
        );
    }
}

/// As smoltcp does when it sends data again, here with a FIN: from the near end in the first, towards it in the second.
#[test]
fn a_fin_beyond_the_window_arises_and_is_doubted() {
    for seed in [43_693, 23_833] {
        let plan = Plan::from_seed(seed);
        let watch = judge(&plan, false);
        assert!(watch.strays.contains(&Doubt::BeyondWindow), "seed {seed}: {:?}", watch.strays);
    }
}

/// A gap that two segments fill, the second of them the FIN's own.
#[test]
fn a_gap_that_is_filled_in_pieces_arises_and_is_doubted() {
    let watches = [83_975, 67_618].map(|seed| judge(&Plan::from_seed(seed), false).strays);
    assert!(watches.iter().all(|strays| strays.contains(&Doubt::GapInPieces)), "{watches:?}");
}

/// More pieces than the receiver holds, and a FIN behind those that it has dropped.
#[test]
fn a_piece_that_is_dropped_arises_and_is_doubted() {
    let watch = judge(&Plan::from_seed(962_693), false).strays;
    assert!(watch.contains(&Doubt::PieceDropped), "{watch:?}");
}

/// A segment of the connection before, with a number far ahead, and a FIN before what lies before it is acknowledged.
#[test]
fn a_segment_of_an_older_connection_arises_and_is_doubted() {
    for seed in [765_365, 931_785] {
        let plan = Plan::from_seed(seed);
        let strays = judge(&plan, false).strays;
        assert!(strays.contains(&Doubt::OldSegment), "seed {seed}: {strays:?}");
    }
}

/// A SYN that was kept back, or a copy of it, and the next attempt's.
#[test]
fn an_answer_to_another_syn_arises_and_is_doubted() {
    for seed in [63_789, 131_141, 150_546, 272_718] {
        let plan = Plan::from_seed(seed);
        let doubts = judge(&plan, false).doubts;
        assert!(doubts.contains(&(false, Doubt::AnswersOther)), "seed {seed}: {doubts:?}");
    }
}

/// What is admitted of a near end is no more than what happens.
#[test]
fn every_doubt_about_a_near_end_arises_and_the_runs_go_everywhere() {
    let (mut doubts, mut states, mut wraps) = (Vec::new(), States::default(), 0);
    for seed in 0..3_000 {
        let plan = Plan::from_seed(seed);
        let watch = judge(&plan, false);
        doubts.extend(watch.strays);
        states = states.or(watch.seen_states);
        let has =
            |first: u32, last: u32| watch.packets.iter().any(|packet| (first..=last).contains(&packet.header.seq));
        wraps += u32::from(has(u32::MAX - 20_000, u32::MAX) && has(0, 20_000));
    }
    let expected = [
        Doubt::Crashed,
        Doubt::TimeWaitOver,
        Doubt::SynOverOld,
        Doubt::RstOutOfPlace,
        Doubt::RstIgnored,
        Doubt::AckIgnored,
        Doubt::FinIgnored,
        Doubt::SynAckIgnored,
        Doubt::SynInTimeWait,
        Doubt::FinHeldBack,
    ];
    for doubt in expected {
        assert!(doubts.contains(&doubt), "{doubt:?} is admitted, and did not arise");
    }
    let all = [
        State::SynSent,
        State::SynReceived,
        State::Established,
        State::FinWait1,
        State::FinWait2,
        State::CloseWait,
        State::Closing,
        State::LastAck,
        State::TimeWait,
        State::Closed,
    ];
    assert!(States::of(&all).is_within(states), "only {states}");
    assert!(wraps > 0, "no sequence number has wrapped");
}

/// The observer is not shown some packets: it must be found out, and by a run that can be read.
fn is_found_out_and_shrunk(hides: fn(&Header) -> bool) {
    let fails = |plan: &Plan| judge_hiding(plan, false, hides).failure.is_some();
    let plan = (0..200).map(Plan::from_seed).find(|plan| fails(plan)).expect("nothing was found in 200 runs");
    let small = proofs::simulation::shrink::shrink(&plan, 2_000, fails);
    assert!(fails(&small));
    assert!(small.acts.len() <= 4 && small.faults.len() <= 1, "{:?} {:?}", small.acts, small.faults);
    let text = explain(&plan, hides);
    assert!(text.contains("passes") && text.contains("PROVE_SIMULATION_SEED"), "{text}");
}

#[test]
fn an_observer_without_fins_is_found_out() {
    is_found_out_and_shrunk(|header| header.fin);
}

#[test]
fn an_observer_without_rsts_is_found_out() {
    is_found_out_and_shrunk(|header| header.rst);
}

#[test]
fn an_observer_without_bare_acknowledgements_is_found_out() {
    is_found_out_and_shrunk(|header| !header.syn && !header.fin && !header.rst && header.payload == 0);
}

#[test]
fn an_observer_that_misses_every_eleventh_number_of_data_is_found_out() {
    is_found_out_and_shrunk(|header| header.payload > 0 && header.seq.is_multiple_of(11));
}
