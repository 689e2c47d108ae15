//! One CPU is interrupted wherever it can be by all that another one does to the same flow: what is left is what one
//! after the other leaves, or a loss that ARCHITECTURE.md's table of races allows.

use std::collections::BTreeMap;

use proofs::races::{self, Act, Judge, Scenario, Verdict, preempted};

#[test]
fn an_interruption_leaves_what_some_order_leaves_or_a_loss_that_is_written_down() {
    let mut wrong = Vec::new();
    for scenario in races::all() {
        let judge = Judge::new(&scenario);
        let shown = shown(&scenario);
        let (mut runs, mut verdicts) = (0_u64, BTreeMap::<Verdict, u64>::new());
        preempted::interruptions(&scenario, |run| {
            runs += 1;
            let verdict = judge.of(&run.outcome, &run.tally);
            *verdicts.entry(verdict).or_default() += 1;
            let counted = races::segments(&run.tally);
            if counted != shown || verdict == Verdict::Wrong {
                let difference = judge.difference(&run.outcome, Some(&run.tally));
                wrong.push(format!("{}: {}: {counted} of {shown} counted: {difference:#?}", scenario.name, run.how));
            }
        });
        println!("{}: {} orders' outcomes, {runs} interruptions: {verdicts:?}", scenario.name, judge.serial_outcomes());
    }
    assert!(wrong.is_empty(), "{} are wrong, of which\n{}", wrong.len(), wrong[..wrong.len().min(12)].join("\n"));
}

/// How many packets a scenario shows.
fn shown(scenario: &Scenario) -> u64 {
    let acts = scenario.setup.iter().chain(scenario.lanes.iter().flatten()).chain(&scenario.after);
    acts.filter(|act| **act != Act::Sweep).count() as u64
}
