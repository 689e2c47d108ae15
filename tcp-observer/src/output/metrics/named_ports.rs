//! Which (responder port, role) pairs have series of their own.
//!
//! The kernel gives up to eight ports a counter slot, each with four roles; series for all of them would not fit the
//! budget. The first eight pairs that are seen to occur are named and stay named; a pair that comes later is counted
//! under `other` from its beginning, so that neither its own series nor `other` ever goes back.

use tcp_observer_common::{
    conn::{Locality, Outcome},
    counters::{PORT_LABELS, PORT_SLOTS},
    histogram::{HandshakePart, Histogram, by_port},
};

use crate::snapshot::Totals;

/// How many pairs are named at most.
pub(super) const NAMED_PAIRS: usize = 8;

/// The slot that the kernel keeps for all ports without one of their own.
const OTHER_SLOT: usize = PORT_LABELS - 1;

/// Every slot, that one included.
pub(super) const ALL_SLOTS: [usize; PORT_LABELS] = {
    let mut slots = [0; PORT_LABELS];
    let mut slot = 0;
    while slot < PORT_LABELS {
        slots[slot] = slot;
        slot += 1;
    }
    slots
};

/// The pairs that are named, in the order in which they were first seen.
#[derive(Debug, Default)]
pub(super) struct NamedPorts(Vec<(u16, Locality)>);

/// Outcomes that are exported: those of attempts that were seen and are over.
pub(super) fn outcomes() -> impl Iterator<Item = Outcome> + Clone {
    Outcome::ALL.iter().copied().filter(|outcome| !matches!(outcome, Outcome::InProgress | Outcome::NotSeen))
}

impl NamedPorts {
    /// Notes the pairs that have occurred by now.
    pub fn learn(&mut self, totals: &Totals) {
        for (slot, port) in totals.ports.iter().enumerate() {
            let Some(port) = *port else { continue };
            for &role in Locality::ALL {
                let pair = (port, role);
                if self.0.len() < NAMED_PAIRS && !self.0.contains(&pair) && has_occurred(totals, slot, role) {
                    self.0.push(pair);
                }
            }
        }
    }

    /// The named pairs, each with the slots that count for it: one, unless two took the same port at the same time.
    pub fn named<'a>(&'a self, totals: &'a Totals) -> impl Iterator<Item = (u16, Locality, Vec<usize>)> + 'a {
        let slots = |port| (0..PORT_SLOTS).filter(|&slot| totals.ports[slot] == Some(port)).collect();
        self.0.iter().map(move |&(port, role)| (port, role, slots(port)))
    }

    /// The slots that count under `other` for a role.
    pub fn others(&self, totals: &Totals, role: Locality) -> Vec<usize> {
        // A slot that counts already but whose port has not been read yet is in neither: it may get a name next time.
        let is_unnamed = |slot: &usize| totals.ports[*slot].is_some_and(|port| !self.0.contains(&(port, role)));
        (0..PORT_SLOTS).filter(is_unnamed).chain([OTHER_SLOT]).collect()
    }
}

/// The attempts of some slots that ended in this way.
pub(super) fn attempts(totals: &Totals, slots: &[usize], role: Locality, outcome: Outcome) -> u64 {
    slots.iter().map(|&slot| totals.counters.attempts[slot][role.index()][outcome.index()]).sum()
}

/// The handshake times of some slots.
pub(super) fn handshakes(totals: &Totals, slots: &[usize], part: HandshakePart, role: Locality) -> Histogram {
    let mut sum = Histogram::default();
    for &slot in slots {
        if let Some(histogram) = totals.handshakes.get(by_port(slot, part, role) as usize) {
            sum.add(histogram);
        }
    }
    sum
}

fn has_occurred(totals: &Totals, slot: usize, role: Locality) -> bool {
    outcomes().any(|outcome| attempts(totals, &[slot], role, outcome) > 0)
        || HandshakePart::ALL.iter().any(|&part| handshakes(totals, &[slot], part, role).count() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::fixture;

    fn complete(totals: &mut Totals, slot: usize, role: Locality) {
        totals.counters.attempts[slot][role.index()][Outcome::Completed.index()] += 1;
    }

    fn other_completed(named: &NamedPorts, totals: &Totals, role: Locality) -> u64 {
        attempts(totals, &named.others(totals, role), role, Outcome::Completed)
    }

    #[test]
    fn a_ninth_pair_is_other_from_its_beginning_and_stays_there() {
        let mut totals = fixture::empty().totals;
        for slot in 0..PORT_SLOTS {
            totals.ports[slot] = Some(1000 + slot as u16);
            complete(&mut totals, slot, Locality::Server);
        }
        let mut named = NamedPorts::default();
        named.learn(&totals);
        assert_eq!(named.named(&totals).count(), 8);
        assert_eq!(other_completed(&named, &totals, Locality::Client), 0);

        complete(&mut totals, 0, Locality::Client);
        named.learn(&totals);
        assert_eq!(named.named(&totals).count(), 8);
        assert_eq!(other_completed(&named, &totals, Locality::Client), 1);
        assert_eq!(other_completed(&named, &totals, Locality::Server), 0);
    }

    #[test]
    fn a_slot_without_a_port_is_counted_nowhere_until_its_port_is_known() {
        let mut totals = fixture::empty().totals;
        complete(&mut totals, 3, Locality::Server);
        complete(&mut totals, OTHER_SLOT, Locality::Server);
        let mut named = NamedPorts::default();
        named.learn(&totals);
        assert_eq!(other_completed(&named, &totals, Locality::Server), 1);

        totals.ports[3] = Some(443);
        named.learn(&totals);
        assert_eq!(other_completed(&named, &totals, Locality::Server), 1);
        let pairs: Vec<_> = named.named(&totals).collect();
        assert_eq!(pairs, [(443, Locality::Server, vec![3])]);
    }

    #[test]
    fn two_slots_with_one_port_are_one_pair() {
        let mut totals = fixture::empty().totals;
        for slot in [1, 2] {
            totals.ports[slot] = Some(80);
            complete(&mut totals, slot, Locality::Server);
        }
        let mut named = NamedPorts::default();
        named.learn(&totals);
        assert_eq!(named.named(&totals).collect::<Vec<_>>(), [(80, Locality::Server, vec![1, 2])]);
    }

    #[test]
    fn a_flow_whose_handshake_was_not_seen_names_no_pair() {
        let mut totals = fixture::empty().totals;
        totals.ports[0] = Some(22);
        totals.counters.attempts[0][0][Outcome::NotSeen.index()] = 5;
        let mut named = NamedPorts::default();
        named.learn(&totals);
        assert_eq!(named.named(&totals).count(), 0);
    }
}
