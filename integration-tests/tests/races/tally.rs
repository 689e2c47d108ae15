//! Adds up what races of one scenario have led to, and judges each.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use proofs::races::{self, Act, Judge, Outcome, Scenario, Tally, Verdict};
use tcp_observer_common::{
    conn::Note,
    counters::{Counters, Eviction, Skip, TableKind, place},
};

use crate::lanes::Raced;

pub struct Sums {
    name: &'static str,
    judge: Judge,
    /// How many packets each tuple is shown.
    shown: u64,
    raced: u64,
    calls_overlap: u64,
    /// The last segments of both directions were taken in within the time that a program takes.
    programs_overlap: u64,
    contended: u64,
    verdicts: BTreeMap<Verdict, u64>,
    serial: BTreeSet<Outcome>,
    pub wrong: Vec<String>,
}

impl Sums {
    pub fn new(scenario: &Scenario) -> Self {
        let acts = scenario.setup.iter().chain(scenario.lanes.iter().flatten()).chain(&scenario.after);
        Self {
            name: scenario.name,
            judge: Judge::new(scenario),
            shown: acts.filter(|act| **act != Act::Sweep).count() as u64,
            raced: 0,
            calls_overlap: 0,
            programs_overlap: 0,
            contended: 0,
            verdicts: BTreeMap::new(),
            serial: BTreeSet::new(),
            wrong: Vec::new(),
        }
    }

    /// Judges what a batch of tuples has left.
    pub fn add(
        &mut self,
        tuples: u16,
        raced: &[Raced],
        outcomes: &BTreeMap<u16, (Outcome, Option<u64>)>,
        before: &Counters,
        after: &Counters,
    ) {
        let counted: Vec<u64> =
            after.words().iter().zip(before.words()).map(|(after, before)| after - before).collect();
        let counted = as_ipv4(Tally(counted));
        let contended = counted.0[place::skipped(Skip::Contended)];
        self.contended += contended;
        let nothing = (Outcome::new(Vec::new()), None);
        let mut bounds = Bounds::new();
        for number in 0..tuples {
            let (outcome, apart_ns) = outcomes.get(&number).unwrap_or(&nothing);
            let raced = raced[usize::from(number)];
            self.raced += 1;
            self.calls_overlap += u64::from(raced.calls_overlap);
            let overlap = raced.calls_overlap && apart_ns.is_some_and(|ns| ns < u64::from(raced.longest_ns));
            self.programs_overlap += u64::from(overlap);
            self.judge_one(number, outcome, contended > 0, &mut bounds);
        }
        let (expected, shown) = (self.shown * u64::from(tuples), races::segments(&counted));
        if expected != shown {
            self.wrong.push(format!("{}: {expected} packets were shown and {shown} are accounted for", self.name));
        }
        for text in bounds.broken_by(&counted) {
            self.wrong.push(format!("{}: {text}", self.name));
        }
    }

    fn judge_one(&mut self, number: u16, outcome: &Outcome, is_contended: bool, bounds: &mut Bounds) {
        let mut readings = self.judge.readings(outcome);
        if !is_contended {
            readings.retain(|(verdict, _)| *verdict != Verdict::Contended);
        }
        let Some(&(verdict, _)) = readings.first() else {
            *self.verdicts.entry(Verdict::Wrong).or_default() += 1;
            let difference = self.judge.difference(outcome, None);
            self.wrong.push(format!("{}: tuple {number}: {difference:#?} {:#?}", self.name, outcome));
            return;
        };
        *self.verdicts.entry(verdict).or_default() += 1;
        if verdict == Verdict::Serial {
            self.serial.insert(outcome.clone());
        }
        // A serial outcome is one, but for segments that were contended and said nothing new.
        let is_loss = |verdict: Verdict| matches!(verdict, Verdict::LostInMove | Verdict::SharedDirection);
        let tallies = readings.iter().filter(|(other, _)| verdict != Verdict::Serial || !is_loss(*other));
        bounds.add(tallies.flat_map(|(_, tallies)| tallies.iter().copied()), is_loss(verdict));
    }

    pub fn total(all: &[Self]) -> String {
        let sum = |of: fn(&Self) -> u64| all.iter().map(of).sum::<u64>();
        let mut verdicts = BTreeMap::<Verdict, u64>::new();
        for (verdict, count) in all.iter().flat_map(|sums| &sums.verdicts) {
            *verdicts.entry(*verdict).or_default() += count;
        }
        format!(
            "{} races: {} with calls at the same time, {} with programs at the same time, {} segments contended; \
             {verdicts:?}",
            sum(|sums| sums.raced),
            sum(|sums| sums.calls_overlap),
            sum(|sums| sums.programs_overlap),
            sum(|sums| sums.contended),
        )
    }

    /// That these were races at all: most calls overlap, and where both orders leave something else, both were had.
    #[track_caller]
    pub fn assert_raced(all: &[Self]) {
        let sum = |of: fn(&Self) -> u64| all.iter().map(of).sum::<u64>();
        let (raced, overlapping) = (sum(|sums| sums.raced), sum(|sums| sums.calls_overlap));
        assert!(overlapping * 10 >= raced, "of {raced} races {overlapping} had calls at the same time");
        assert!(sum(|sums| sums.programs_overlap) > 0, "no two programs ran at the same time");
        let either = all.iter().filter(|sums| sums.serial.len() >= 2).count();
        assert!(either >= 5, "only {either} scenarios came in more than one order");
    }
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, raced, calls_overlap, programs_overlap, contended, verdicts, .. } = self;
        let (had, all) = (self.serial.len(), self.judge.serial_outcomes());
        write!(
            f,
            "{name}: {raced} races, calls at the same time in {calls_overlap}, programs in {programs_overlap}; \
             {had} of {all} orders' outcomes, {contended} contended, {verdicts:?}"
        )
    }
}

/// The core in memory, which says what is allowed, is shown IPv4.
fn as_ipv4(mut counted: Tally) -> Tally {
    for &reason in Eviction::ALL {
        for (of, into) in
            [(TableKind::FlowsIpv6, TableKind::FlowsIpv4), (TableKind::HalfOpenIpv6, TableKind::HalfOpenIpv4)]
        {
            let moved = std::mem::take(&mut counted.0[place::evictions(of, reason)]);
            counted.0[place::evictions(into, reason)] += moved;
        }
    }
    counted
}

/// What counters may have come to, by what each tuple is judged to be.
struct Bounds {
    least: Vec<u64>,
    most: Vec<u64>,
    losses: u64,
}

impl Bounds {
    fn new() -> Self {
        let zeros = vec![0; Counters::ZERO.words().len()];
        Self { least: zeros.clone(), most: zeros, losses: 0 }
    }

    fn add<'a>(&mut self, tallies: impl Iterator<Item = &'a Tally>, is_loss: bool) {
        self.losses += u64::from(is_loss);
        let tallies: Vec<&Tally> = tallies.collect();
        for (place, (least, most)) in self.least.iter_mut().zip(&mut self.most).enumerate() {
            let values = tallies.iter().map(|tally| tally.0[place]);
            *least += values.clone().min().unwrap_or_default();
            *most += values.max().unwrap_or_default();
        }
    }

    /// What the counters say that no tuple can account for. Where segments were lost from a half, others may have been
    /// recognised as what they are not.
    fn broken_by(&self, counted: &Tally) -> Vec<String> {
        let notes = place::notes(Note::Nothing)..place::notes(Note::Nothing) + Note::COUNT;
        let is_broken = |&place: &usize| {
            let slack = if notes.contains(&place) { 4 * self.losses } else { 0 };
            let (least, most) = (self.least[place].saturating_sub(slack), self.most[place] + slack);
            !(least..=most).contains(&counted.0[place])
        };
        let text = |place: usize| {
            let (least, most) = (self.least[place], self.most[place]);
            format!("{} is {}, where {least} to {most} can be", races::named(place), counted.0[place])
        };
        (0..counted.0.len()).filter(is_broken).map(text).collect()
    }
}
