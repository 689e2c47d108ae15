//! What a result of a race is: one that a serial order leaves, a loss that is written down, or neither.

use tcp_observer_common::{
    conn::Note,
    counters::{Counters, Eviction, Skip, TableKind, place},
};

use super::{Act, Allowed, Outcome, Scenario, Tally, allowed, serial};

/// What may come of a scenario.
pub struct Judge {
    moves: bool,
    shares_direction: bool,
    allowed: Allowed,
    /// The same without some segments of the lanes, which were `contended`.
    without: Allowed,
    /// The same where the sweep took out what a SYN had just replaced.
    swept: Allowed,
}

/// What a result is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// What one after the other leaves, in some order.
    Serial,
    /// As if segments had not come that another CPU's changes have kept from being taken in: each is counted as
    /// `contended`.
    Contended,
    /// What an ACK says is noted, of a FIN that was on another CPU and is not taken for acknowledged by it.
    NotedLate,
    /// A segment is missing from the half of a flow that moved; all that it decided is there.
    LostInMove,
    /// The flow that a SYN replaced was over, and the sweep took it out after the new one was there: it has left as
    /// `closed`.
    LeftToSweep,
    /// Counts and numbers of a direction that was on two CPUs at once.
    SharedDirection,
    /// Nothing that is written down.
    Wrong,
}

impl Verdict {
    pub const ALL: [Self; 7] = [
        Self::Serial,
        Self::Contended,
        Self::NotedLate,
        Self::LostInMove,
        Self::LeftToSweep,
        Self::SharedDirection,
        Self::Wrong,
    ];
}

impl Judge {
    pub fn new(scenario: &Scenario) -> Self {
        let mut without = Allowed::new();
        for (lanes, missing) in fewer(scenario) {
            for (outcome, tallies) in serial(scenario, [&lanes[0], &lanes[1]], &[]) {
                without.entry(outcome).or_default().extend(tallies.iter().map(|tally| contended(tally, missing)));
            }
        }
        let Scenario { moves, shares_direction, .. } = *scenario;
        let allowed = allowed(scenario);
        let mut swept = Allowed::new();
        if scenario.lanes.iter().flatten().any(|act| *act == Act::Sweep) {
            for (outcome, tallies) in &allowed {
                swept.entry(outcome.clone()).or_default().extend(tallies.iter().filter_map(left_to_sweep));
            }
        }
        Self { moves, shares_direction, allowed, without, swept }
    }

    /// How many outcomes the serial orders have.
    pub fn serial_outcomes(&self) -> usize {
        self.allowed.len()
    }

    /// All that an outcome can be, the best first, and what is counted if it is that.
    pub fn readings(&self, outcome: &Outcome) -> Vec<(Verdict, Vec<&Tally>)> {
        let mut readings = Vec::new();
        let known = [
            (Verdict::Serial, &self.allowed),
            (Verdict::Contended, &self.without),
            (Verdict::LeftToSweep, &self.swept),
        ];
        for (verdict, known) in known {
            if let Some(tallies) = known.get(outcome) {
                readings.push((verdict, tallies.iter().collect()));
            }
        }
        for known in [&self.allowed, &self.without] {
            readings.push((Verdict::NotedLate, alike(known, |whole| differs_in_acked_only(outcome, whole))));
            if self.moves {
                readings.push((Verdict::LostInMove, alike(known, |whole| lacks_a_segment(outcome, whole))));
            }
            if self.shares_direction {
                readings.push((Verdict::SharedDirection, alike(known, |whole| is_alike(outcome, whole))));
            }
        }
        readings.retain(|(_, tallies): &(_, Vec<&Tally>)| !tallies.is_empty());
        readings
    }

    /// The verdict on an outcome together with what was counted.
    pub fn of(&self, outcome: &Outcome, tally: &Tally) -> Verdict {
        let fits = |verdict: Verdict, expected: &Tally| match verdict {
            Verdict::Serial | Verdict::Contended | Verdict::NotedLate | Verdict::LeftToSweep => expected == tally,
            Verdict::LostInMove => differs_in_notes_only(expected, tally),
            Verdict::SharedDirection => segments(expected) == segments(tally),
            Verdict::Wrong => false,
        };
        let readings = self.readings(outcome);
        let fitting = readings.iter().find(|(verdict, tallies)| tallies.iter().any(|tally| fits(*verdict, tally)));
        fitting.map_or(Verdict::Wrong, |(verdict, _)| *verdict)
    }

    /// The lines by which a result differs from the serial one that is nearest to it.
    pub fn difference(&self, outcome: &Outcome, tally: Option<&Tally>) -> Vec<String> {
        let lines = |outcome: &Outcome| -> Vec<String> {
            format!("{outcome:#?}").lines().map(|line| line.trim().to_owned()).collect()
        };
        let own = lines(outcome);
        let difference = |(other, expected): (&Outcome, &Tally)| -> Vec<String> {
            let other = lines(other);
            let differing = own.iter().zip(&other).filter(|(one, other)| one != other);
            let mut text: Vec<_> = differing.map(|(one, other)| format!("{one} instead of {other}")).collect();
            for (place, (expected, counted)) in
                expected.0.iter().zip(tally.map_or(&expected.0, |tally| &tally.0)).enumerate()
            {
                if expected != counted {
                    text.push(format!("{}: {counted} instead of {expected}", named(place)));
                }
            }
            text
        };
        let all = self.allowed.iter().flat_map(|(outcome, tallies)| tallies.iter().map(move |tally| (outcome, tally)));
        all.map(difference).min_by_key(Vec::len).unwrap_or_default()
    }
}

fn alike(known: &Allowed, is_alike: impl Fn(&Outcome) -> bool) -> Vec<&Tally> {
    known.iter().filter(|(whole, _)| is_alike(whole)).flat_map(|(_, tallies)| tallies).collect()
}

/// The lanes of a scenario without one or two segments, and how many are missing.
fn fewer(scenario: &Scenario) -> Vec<([Vec<Act>; 2], u64)> {
    let [one, other] = &scenario.lanes;
    let count = one.len() + other.len();
    let mut all = Vec::new();
    for missing in (1_u32..1 << count).filter(|missing| missing.count_ones() <= 3) {
        let kept = |lane: &[Act], first: usize| -> Option<Vec<Act>> {
            let is_missing = |at: usize| missing >> (first + at) & 1 != 0;
            // The sweep is nobody's segment.
            let lacks_sweep = lane.iter().enumerate().any(|(at, act)| is_missing(at) && *act == Act::Sweep);
            let kept = lane.iter().enumerate().filter(|(at, _)| !is_missing(*at)).map(|(_, act)| *act);
            (!lacks_sweep).then(|| kept.collect())
        };
        if let (Some(one), Some(other)) = (kept(one, 0), kept(other, one.len())) {
            all.push(([one, other], missing.count_ones().into()));
        }
    }
    all
}

/// A tally with one flow that was `reused` counted as `closed`, if there is one.
fn left_to_sweep(tally: &Tally) -> Option<Tally> {
    let [reused, closed] =
        [Eviction::Reused, Eviction::Closed].map(|reason| place::evictions(TableKind::FlowsIpv4, reason));
    let mut tally = tally.clone();
    tally.0[reused] = tally.0[reused].checked_sub(1)?;
    tally.0[closed] += 1;
    Some(tally)
}

fn contended(tally: &Tally, segments: u64) -> Tally {
    let mut tally = tally.clone();
    tally.0[place::skipped(Skip::Contended)] += segments;
    tally
}

/// Whether the same flows are in the same states.
fn is_alike(outcome: &Outcome, whole: &Outcome) -> bool {
    outcome.0.len() == whole.0.len() && outcome.0.iter().zip(&whole.0).all(|(flow, whole)| flow.is_alike(whole))
}

/// Whether nothing differs but the highest acknowledgement number of some half.
fn differs_in_acked_only(outcome: &Outcome, whole: &Outcome) -> bool {
    let without = |outcome: &Outcome| {
        let mut outcome = outcome.clone();
        outcome.0.iter_mut().flat_map(|flow| &mut flow.halves).for_each(|half| half.acked = 0);
        outcome
    };
    without(outcome) == without(whole)
}

/// Whether all that is missing is a segment or two of one half or the other, with what it alone said.
fn lacks_a_segment(outcome: &Outcome, whole: &Outcome) -> bool {
    let lacking = whole.packets().checked_sub(outcome.packets());
    // A FIN that was about to be judged when its flow was copied is taken for one beyond a gap.
    is_alike(outcome, whole) && lacking.is_some_and(|lacking| lacking <= 2)
}

/// Whether two tallies differ in nothing but what was recognised in passing.
fn differs_in_notes_only(expected: &Tally, tally: &Tally) -> bool {
    let notes = place::notes(Note::Nothing)..place::notes(Note::Nothing) + Note::COUNT;
    let all = expected.0.iter().zip(&tally.0).enumerate();
    all.filter(|(place, _)| !notes.contains(place)).all(|(_, (expected, counted))| expected == counted)
}

/// How many segments a tally accounts for: updates, ICMP errors that ended an attempt, and skips.
pub fn segments(tally: &Tally) -> u64 {
    let mut counters = Counters::ZERO;
    counters.words_mut().copy_from_slice(&tally.0);
    let updates = counters.segments.iter().flatten().chain(&counters.unreachable);
    updates.sum::<u64>() + counters.skipped.iter().sum::<u64>()
}

/// What a counter is called, where it is one of those that races are told by.
pub fn named(place: usize) -> String {
    let skip = Skip::ALL.iter().find(|reason| place::skipped(**reason) == place).map(|reason| reason.label());
    let note = Note::ALL.iter().find(|note| place::notes(**note) == place).map(|note| note.label());
    match (skip, note) {
        (Some(reason), _) => format!("skipped as `{reason}`"),
        (_, Some(note)) => format!("recognised `{note}`"),
        (None, None) => format!("counter {place}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::races::{FlowState, all, perform, result, stage};

    fn scenario(name: &str) -> Scenario {
        all().into_iter().find(|scenario| scenario.name == name).expect("there is such a scenario")
    }

    /// What these acts leave after a scenario's setup.
    fn left(scenario: &Scenario, acts: &[Act]) -> (Outcome, Tally) {
        let memory = stage(scenario);
        perform(&memory, &scenario.setup);
        perform(&memory, acts);
        perform(&memory, &scenario.after);
        result(&memory)
    }

    #[test]
    fn either_order_is_serial() {
        let scenario = scenario("a RST against a FIN");
        let judge = Judge::new(&scenario);
        let [fin, rst] = [scenario.lanes[0][0], scenario.lanes[1][0]];
        for order in [[fin, rst], [rst, fin]] {
            let (outcome, tally) = left(&scenario, &order);
            assert_eq!(judge.of(&outcome, &tally), Verdict::Serial);
        }
    }

    #[test]
    fn a_segment_that_nobody_has_counted_is_wrong_and_one_that_is_contended_is_not() {
        let scenario = scenario("a RST against a FIN");
        let judge = Judge::new(&scenario);
        let (outcome, tally) = left(&scenario, &scenario.lanes[0]);
        assert_eq!(judge.of(&outcome, &tally), Verdict::Wrong);
        assert_eq!(judge.of(&outcome, &contended(&tally, 1)), Verdict::Contended);
    }

    #[test]
    fn a_transition_that_is_counted_twice_is_wrong() {
        let scenario = scenario("RSTs from both sides");
        let judge = Judge::new(&scenario);
        let order = scenario.lanes.concat();
        let (outcome, mut tally) = left(&scenario, &order);
        assert_eq!(judge.of(&outcome, &tally), Verdict::Serial);
        tally.0[place::notes(Note::AbortiveClose)] += 1;
        assert_eq!(judge.of(&outcome, &tally), Verdict::Wrong);
    }

    #[test]
    fn a_flow_that_is_there_twice_is_wrong() {
        let scenario = scenario("the last ACK and what the server says first");
        let judge = Judge::new(&scenario);
        let (Outcome(mut flows), tally) = left(&scenario, &scenario.lanes.concat());
        assert_eq!(judge.of(&Outcome(flows.clone()), &tally), Verdict::Serial);
        flows.push(FlowState { is_settled: false, ..flows[0].clone() });
        assert_eq!(judge.of(&Outcome::new(flows), &tally), Verdict::Wrong);
    }

    #[test]
    fn a_lost_packet_is_tolerated_of_a_flow_that_moves_only() {
        for (name, verdict) in
            [("the last ACK and what the server says first", Verdict::LostInMove), ("data both ways", Verdict::Wrong)]
        {
            let scenario = scenario(name);
            let (Outcome(mut flows), tally) = left(&scenario, &scenario.lanes.concat());
            flows[0].halves[1].packets -= 1;
            assert_eq!(Judge::new(&scenario).of(&Outcome(flows), &tally), verdict, "{name}");
        }
    }
}
