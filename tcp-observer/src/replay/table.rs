//! Tables of flows without a bound, for one address family.
//!
//! Flows lie in slots that never move, so that whoever has found one holds a plain reference to it; a hash table knows
//! the numbers of the slots by their keys. A slot is used again once its flow has left. The core holds references to
//! flows that have just left, but reads them no more.
//!
//! The core calls `remove` for two reasons, which the flow's word tells apart: a retired flow has made way for a new
//! incarnation and goes to the finished records; one that is not retired has only moved to the other table.
//!
//! The sweep need not look at a flow before the moment until which silence changes nothing about it, if nobody has
//! found it since: that moment is kept beside the slot, and forgotten whenever the flow is found.

use std::{
    cell::{Cell, OnceCell, RefCell},
    hash::{BuildHasher as _, Hasher},
};

use foldhash::fast::RandomState;
use hashbrown::{HashTable, hash_table::Entry};
use tcp_observer_common::{
    conn::{Flow, Mark, Phase, Word},
    flow::{Address, FlowKey, Ipv4, Ipv6},
    limits::Limits,
    observer::Table,
    table::{Refusal, There},
};

use super::{follow::Id, host::Replayer, link::Tags};
use crate::snapshot::Key;

/// What identifies a flow in a capture.
pub type Tagged<A> = (Tags, FlowKey<A>);

/// An address that can be hashed in few steps.
pub trait Hashed: Address {
    /// Takes a key's two addresses in.
    fn hash_both(low: &Self, high: &Self, hasher: &mut impl Hasher);
}

impl Hashed for Ipv4 {
    #[inline(always)]
    fn hash_both([low]: &Self, [high]: &Self, hasher: &mut impl Hasher) {
        hasher.write_u64(u64::from(*low) << 32 | u64::from(*high));
    }
}

impl Hashed for Ipv6 {
    #[inline(always)]
    fn hash_both(low: &Self, high: &Self, hasher: &mut impl Hasher) {
        for &[a, b, c, d] in [low, high] {
            hasher.write_u64(u64::from(a) << 32 | u64::from(b));
            hasher.write_u64(u64::from(c) << 32 | u64::from(d));
        }
    }
}

/// The two tables of an address family.
pub struct Tables<A> {
    pub settled: Flows<A>,
    pub half_open: Flows<A>,
}

impl<A: Hashed> Default for Tables<A> {
    fn default() -> Self {
        Self { settled: Flows::default(), half_open: Flows::default() }
    }
}

impl<A: Hashed> Tables<A> {
    /// All flows.
    pub fn iter(&self) -> impl Iterator<Item = (Tagged<A>, &Flow)> {
        self.half_open.iter().chain(self.settled.iter())
    }
}

/// A table.
pub struct Flows<A> {
    /// Numbers of slots, by the hashes of their keys.
    numbers: RefCell<HashTable<u32>>,
    /// Keyed at random, so that no capture can be made to collide: it is written before its reader draws the key. What it
    /// need not withstand is somebody who watches it at work; SipHash, which does, took a sixth of all time.
    hasher: RandomState,
    slots: Slots<A>,
    /// How many slots were ever used, and which of them are not any more.
    used: Cell<u32>,
    free: RefCell<Vec<u32>>,
    /// Where a flow was last found: packets come in bursts, and those off the shortest path look for theirs twice.
    last: Cell<u32>,
}

impl<A: Hashed> Default for Flows<A> {
    fn default() -> Self {
        let (numbers, hasher, slots) = (RefCell::default(), RandomState::default(), Slots::default());
        Self { numbers, hasher, slots, used: Cell::new(0), free: RefCell::default(), last: Cell::new(0) }
    }
}

impl<A: Hashed> Flows<A> {
    #[inline(always)]
    fn hash(&self, (tags, key): &Tagged<A>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u64(tags.bits());
        A::hash_both(&key.low_addr, &key.high_addr, &mut hasher);
        hasher.write_u32(u32::from(key.low_port) << 16 | u32::from(key.high_port));
        hasher.finish()
    }

    /// The flow with this key.
    #[inline(always)]
    pub fn find(&self, id: &Tagged<A>) -> Option<&Flow> {
        let (slot, idle_until_ns) = self.slots.at(self.last.get());
        if slot.id.get() == *id && idle_until_ns.get() != FREE {
            idle_until_ns.set(0);
            return Some(&slot.flow);
        }
        self.look_up(id)
    }

    #[inline]
    fn look_up(&self, id: &Tagged<A>) -> Option<&Flow> {
        let numbers = self.numbers.borrow();
        let number = *numbers.find(self.hash(id), |&number| self.slots.at(number).0.id.get() == *id)?;
        let (slot, idle_until_ns) = self.slots.at(number);
        // Whoever has found it may change it.
        idle_until_ns.set(0);
        self.last.set(number);
        Some(&slot.flow)
    }

    fn insert(&self, id: &Tagged<A>, write: impl FnOnce(&Flow, u16)) -> Result<(), Refusal> {
        let id_of = |number| self.slots.at(number).0.id.get();
        let mut numbers = self.numbers.borrow_mut();
        let hasher = |&number: &u32| self.hash(&id_of(number));
        match numbers.entry(self.hash(id), |&number| id_of(number) == *id, hasher) {
            Entry::Occupied(_) => Err(Refusal::Exists),
            Entry::Vacant(vacant) => {
                let number = self.free.borrow_mut().pop().or_else(|| {
                    let number = self.used.get();
                    self.used.set(number.checked_add(1)?);
                    Some(number)
                });
                let number = number.ok_or(Refusal::Full)?;
                let (slot, idle_until_ns) = self.slots.at(number);
                slot.id.set(*id);
                write(&slot.flow, slot.flow.word.load().epoch().wrapping_add(1));
                idle_until_ns.set(0);
                vacant.insert(number);
                Ok(())
            }
        }
    }

    /// Takes the flow with this key out and shows it for the last time.
    fn remove(&self, id: &Tagged<A>, show: impl FnOnce(&Flow)) {
        let mut numbers = self.numbers.borrow_mut();
        let is_it = |&number: &u32| self.slots.at(number).0.id.get() == *id;
        let Ok(entry) = numbers.find_entry(self.hash(id), is_it) else {
            return;
        };
        let (number, _) = entry.remove();
        drop(numbers);
        show(&self.slots.at(number).0.flow);
        self.release(number);
    }

    fn release(&self, number: u32) {
        self.slots.at(number).1.set(FREE);
        self.free.borrow_mut().push(number);
    }

    /// Looks at all flows about which silence may have changed something by `now_ns`; those for which `look` says so
    /// leave.
    pub fn sweep(&self, now_ns: u64, mut look: impl FnMut(&Tagged<A>, &Flow) -> bool) {
        for number in 0..self.used.get() {
            let (slot, idle_until_ns) = self.slots.at(number);
            if now_ns <= idle_until_ns.get() {
                continue;
            }
            let id = slot.id.get();
            if look(&id, &slot.flow) {
                let mut numbers = self.numbers.borrow_mut();
                if let Ok(entry) = numbers.find_entry(self.hash(&id), |&other| other == number) {
                    entry.remove();
                }
                self.release(number);
            } else {
                idle_until_ns.set(unswept_until_ns(&slot.flow).min(FREE - 1));
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = (Tagged<A>, &Flow)> {
        (0..self.used.get())
            .map(|number| self.slots.at(number))
            .filter(|(_, idle_until_ns)| idle_until_ns.get() != FREE)
            .map(|(slot, _)| (slot.id.get(), &slot.flow))
    }
}

/// The last moment at which the sweep has nothing to do to this flow, if nothing more is seen of it.
fn unswept_until_ns(flow: &Flow) -> u64 {
    let limits = &Limits::DEFAULT;
    if flow.word.load().phase() == Phase::Closed {
        return flow.times.changed_ns.get().saturating_add(limits.linger_ns);
    }
    flow.unchanged_until_ns(limits).unwrap_or(0)
}

/// Slots by their numbers, in pages that come into being when they are asked for and never move. Each page is as large
/// as all before it together.
struct Slots<A>([OnceCell<Page<A>>; PAGES]);

/// The bits of a number below the first page's size.
const FIRST_PAGE_BITS: u32 = 8;
const PAGES: usize = (u32::BITS - FIRST_PAGE_BITS + 1) as usize;

impl<A> Default for Slots<A> {
    fn default() -> Self {
        Self([const { OnceCell::new() }; PAGES])
    }
}

impl<A: Hashed> Slots<A> {
    /// A slot, and until when the sweep need not look at it, unless its flow was found since; [`FREE`] without a flow.
    #[inline(always)]
    fn at(&self, number: u32) -> (&Slot<A>, &Cell<u64>) {
        let bits = u32::BITS - (number >> FIRST_PAGE_BITS).leading_zeros();
        let first = if bits == 0 { 0 } else { 1 << (bits + FIRST_PAGE_BITS - 1) };
        let page = self.0[bits as usize].get_or_init(|| Page::new(first.max(1 << FIRST_PAGE_BITS)));
        let at = (number - first) as usize;
        (&page.slots[at], &page.idle_until_ns[at])
    }
}

struct Page<A> {
    slots: Box<[Slot<A>]>,
    idle_until_ns: Box<[Cell<u64>]>,
}

impl<A: Hashed> Page<A> {
    #[cold]
    #[inline(never)]
    fn new(slots: u32) -> Self {
        // Memory that comes as zeros is there only once it is written: the last page may be half empty.
        let zeroed = Box::<[Slot<A>]>::new_zeroed_slice(slots as usize);
        // SAFETY: a slot is made of integers, for which zeros will do.
        Self { slots: unsafe { zeroed.assume_init() }, idle_until_ns: (0..slots).map(|_| Cell::new(FREE)).collect() }
    }
}

/// Later than any sweep.
const FREE: u64 = u64::MAX;

/// The key stands beside what most segments change: two lines of the cache have all of it.
#[repr(C)]
struct Slot<A> {
    id: Cell<Tagged<A>>,
    flow: Flow,
}

/// One table as packets with certain VLAN tags see it.
pub struct View<'a, A> {
    pub host: &'a Replayer,
    pub flows: &'a Flows<A>,
    pub tags: Tags,
}

impl<'a, A: Hashed> Table<A> for View<'a, A>
where
    FlowKey<A>: Key,
    Id: From<FlowKey<A>>,
{
    type Entry = &'a Flow;

    #[inline(always)]
    fn find(&self, key: &FlowKey<A>) -> Option<&'a Flow> {
        self.flows.find(&(self.tags, *key))
    }

    fn insert(
        &self,
        key: &FlowKey<A>,
        there: There,
        _: impl Fn(&FlowKey<A>, &Flow, Word) -> bool,
        write: impl FnOnce(&Flow, u16),
    ) -> Result<(), Refusal> {
        if matches!(there, There::IsReplaced) {
            self.leave(key);
        }
        self.flows.insert(&(self.tags, *key), write)
    }

    fn take_out(&self, key: &FlowKey<A>, _: &&'a Flow, _: Word) {
        self.leave(key);
    }
}

impl<A: Hashed> View<'_, A>
where
    FlowKey<A>: Key,
    Id: From<FlowKey<A>>,
{
    /// Takes a flow out, whose last record is shown if it was replaced.
    fn leave(&self, key: &FlowKey<A>) {
        self.flows.remove(&(self.tags, *key), |flow| {
            if flow.word.load().has(Mark::Retired) {
                self.host.finish_replaced(self.tags, key, flow);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use tcp_observer_common::conn::{Outcome, Role, State};

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const NOBODY: [u32; 0] = [];

    fn put<A: Hashed>(flows: &Flows<A>, id: &Tagged<A>, flow: &Flow) -> Result<(), Refusal> {
        flows.insert(id, |place, epoch| place.become_like(flow, epoch))
    }

    fn id(number: u32) -> Tagged<Ipv4> {
        let key = FlowKey { low_addr: [number], high_addr: [7], low_port: 1, high_port: 2 };
        (Tags::default(), key)
    }

    fn flow(state: State, seen_ns: u64) -> Flow {
        let flow = Flow::default();
        let word = Word::fresh(0).with_outcome(Outcome::Completed);
        flow.word.0.set(word.with_state(Role::Originator, state).with_state(Role::Responder, state).0);
        flow.low.last_seen_ns.set(seen_ns);
        flow.times.changed_ns.set(seen_ns);
        flow
    }

    /// Which flows are looked at, by the first field of their keys.
    fn looked_at(flows: &Flows<Ipv4>, now_ns: u64) -> Vec<u32> {
        let mut seen = Vec::new();
        flows.sweep(now_ns, |(_, key), _| {
            seen.push(key.low_addr[0]);
            false
        });
        seen
    }

    #[test]
    fn flows_are_found_by_their_keys_as_others_come_and_go() {
        let flows = Flows::default();
        let is_there = |number| flows.find(&id(number)).map(|flow| flow.low.last_seen_ns.get());
        for number in 0..5_000 {
            assert_eq!(put(&flows, &id(number), &flow(State::Established, u64::from(number))), Ok(()));
            assert_eq!(put(&flows, &id(number), &Flow::default()), Err(Refusal::Exists));
        }
        for number in (0..5_000).step_by(3) {
            let mut shown = None;
            flows.remove(&id(number), |flow| shown = Some(flow.low.last_seen_ns.get()));
            assert_eq!(shown, Some(u64::from(number)));
            assert_eq!(is_there(number), None);
        }
        for number in 0..5_000 {
            assert_eq!(is_there(number), (number % 3 != 0).then_some(u64::from(number)));
        }
        let used = flows.used.get();
        for number in (0..5_000).step_by(3) {
            assert_eq!(put(&flows, &id(number + 10_000), &flow(State::Established, 1)), Ok(()));
        }
        assert_eq!(flows.used.get(), used, "slots are used again");
        assert_eq!((is_there(10_000), is_there(0), flows.iter().count()), (Some(1), None, 5_000));
    }

    #[test]
    fn what_was_found_last_is_gone_once_it_is_removed() {
        let flows = Flows::default();
        put(&flows, &id(0), &Flow::default()).unwrap();
        assert!(flows.find(&id(0)).is_some());
        flows.remove(&id(0), |_| ());
        assert!(flows.find(&id(0)).is_none());
    }

    #[test]
    fn tags_tell_flows_apart() {
        let flows = Flows::default();
        let mut tags = Tags::default();
        tags.push(80);
        put(&flows, &id(0), &flow(State::Established, 5)).unwrap();
        assert!(flows.find(&(tags, id(0).1)).is_none());
        put(&flows, &(tags, id(0).1), &flow(State::Established, 6)).unwrap();
        assert_eq!(flows.find(&id(0)).unwrap().low.last_seen_ns.get(), 5);
        assert_eq!(flows.find(&(tags, id(0).1)).unwrap().low.last_seen_ns.get(), 6);
    }

    /// TIME-WAIT lasts a minute (docs/semantics.md).
    #[test]
    fn the_sweep_looks_at_what_was_found_since_and_at_what_silence_may_have_changed() {
        let flows = Flows::default();
        put(&flows, &id(0), &flow(State::Established, SECOND)).unwrap();
        put(&flows, &id(1), &flow(State::TimeWait, SECOND)).unwrap();
        assert_eq!(looked_at(&flows, 2 * SECOND), [0, 1]);
        assert_eq!(looked_at(&flows, 3 * SECOND), NOBODY);
        flows.find(&id(0));
        assert_eq!(looked_at(&flows, 4 * SECOND), [0]);
        assert_eq!(looked_at(&flows, 61 * SECOND), NOBODY);
        assert_eq!(looked_at(&flows, 61 * SECOND + 1), [1]);
    }

    #[test]
    fn a_flow_that_is_over_is_looked_at_when_it_has_lingered() {
        let (flows, over) = (Flows::default(), flow(State::Closed, SECOND));
        let until_ns = unswept_until_ns(&over);
        assert!(!over.has_lingered(until_ns, &Limits::DEFAULT) && over.has_lingered(until_ns + 1, &Limits::DEFAULT));
        put(&flows, &id(0), &over).unwrap();
        assert_eq!(looked_at(&flows, 2 * SECOND), [0]);
        assert_eq!(looked_at(&flows, until_ns), NOBODY);
        flows.sweep(until_ns + 1, |_, _| true);
        assert!(flows.find(&id(0)).is_none());
        assert_eq!(flows.iter().count(), 0);
    }
}
