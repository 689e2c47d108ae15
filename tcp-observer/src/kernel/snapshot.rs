//! From maps to a [`Snapshot`] or an [`Overview`]: everything is read once, in the order in which flows move.
//!
//! A flow moves from the half-open table to the settled one. Half-open tables are read first, so that a flow which
//! moves meanwhile is found twice rather than never; the settled copy wins.

use std::{cell::OnceCell, collections::HashSet, hash::Hash, io, mem, sync::Arc};

use anyhow::Context;
use foldhash::fast::RandomState;
use tcp_observer_common::{
    abi::InterfaceName,
    conn::{Flow, Locality, Mark, Outcome, Role, State, Word},
    counters::{Counters, PORT_SLOTS, TableKind},
    flow::{FlowKey, Side},
    histogram::{HISTOGRAMS, Histogram},
};

use super::{
    clock, listeners,
    mapped::{Enough, Extent, MappedTable, Shown},
    maps::PinnedMaps,
    sockets,
};
use crate::{
    snapshot::{
        Ends, FlowRecord, Key, Moment, Overview, Snapshot, SocketView, Standing, TICKS_NS, TableUsage, Totals,
        census::Census,
    },
    source::Source,
};

impl Source for PinnedMaps {
    fn snapshot(&self) -> anyhow::Result<Snapshot> {
        let mut flows = Vec::new();
        // Room for full tables is address space only, until it is used; growing would copy every record again. Where
        // even that is refused, it grows.
        let _ = flows.try_reserve(self.capacity() as usize);
        let snapshot = self.show(|record, _, _| flows.push(record))?;
        Ok(Snapshot { flows, ..snapshot })
    }

    fn overview(&self) -> anyhow::Result<Overview> {
        let totals = self.totals()?;
        let sockets = socket_view();
        let moment = self.moment();
        let mut count = Count::new(moment, sockets.as_ref());
        let tables = self.read(&mut count)?;
        Ok(Overview { census: count.census(), totals, tables, sockets })
    }
}

/// What the socket table of this network namespace says; `None` where the kernel does not show it.
fn socket_view() -> Option<SocketView> {
    let listeners = sockets::listeners().inspect_err(|error| tracing::debug!("{error}")).ok()?;
    Some(SocketView::new(&listeners, listeners::ephemeral_ports()))
}

impl PinnedMaps {
    /// A snapshot whose flows are not kept but shown to `take` one by one: with the moment, in nanoseconds since the Unix
    /// epoch, and what the socket table says.
    ///
    /// # Errors
    /// As for a snapshot.
    pub fn show(&self, mut take: impl FnMut(FlowRecord, u64, Option<&SocketView>)) -> anyhow::Result<Snapshot> {
        // Counters before flows: a total may lag the flows by what came meanwhile, never the other way round.
        let totals = self.totals()?;
        let sockets = socket_view();
        let moment = self.moment();
        let taken_unix_ns = moment.unix_ns(moment.now_ns);
        let take = |record| take(record, taken_unix_ns, sockets.as_ref());
        let tables = self.read(&mut Records { moment, interfaces: InterfaceNames::read(self)?, take })?;
        Ok(Snapshot { taken_unix_ns, flows: Vec::new(), totals, tables, sockets })
    }

    /// Shows the record of every flow as it stands now to `visit`, one by one; the moment that they refer to, in
    /// nanoseconds since the Unix epoch. A flow that moves meanwhile is shown twice rather than never, and what is shown
    /// later is right.
    ///
    /// # Errors
    /// When the tables or the interfaces' names cannot be read.
    pub fn for_each_flow(&self, visit: impl FnMut(FlowRecord)) -> anyhow::Result<u64> {
        let moment = self.moment();
        let mut records = Records { moment, interfaces: InterfaceNames::read(self)?, take: visit };
        records.read(&self.half_open_ipv4)?;
        records.read(&self.flows_ipv4)?;
        records.read(&self.half_open_ipv6)?;
        records.read(&self.flows_ipv6)?;
        Ok(moment.unix_ns(moment.now_ns))
    }

    /// Shows every flow to a view, once; how full the tables are.
    fn read<V: View>(&self, view: &mut V) -> anyhow::Result<Vec<TableUsage>> {
        let mut reading = Reading { view, tables: Vec::new() };
        let (half_open, settled) = (&self.half_open_ipv4, &self.flows_ipv4);
        reading.family((TableKind::HalfOpenIpv4, half_open), (TableKind::FlowsIpv4, settled))?;
        let (half_open, settled) = (&self.half_open_ipv6, &self.flows_ipv6);
        reading.family((TableKind::HalfOpenIpv6, half_open), (TableKind::FlowsIpv6, settled))?;
        reading.tables.sort_by_key(|usage| usage.table.index());
        Ok(reading.tables)
    }

    /// How many entries all tables have room for.
    fn capacity(&self) -> u64 {
        let ipv4 = self.half_open_ipv4.capacity() + self.flows_ipv4.capacity();
        ipv4 + self.half_open_ipv6.capacity() + self.flows_ipv6.capacity()
    }

    /// What has been counted since the agent started, over all CPUs.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn counters(&self) -> anyhow::Result<Counters> {
        let mut counters = Counters::ZERO;
        // The kernel keeps more than one block for each CPU, so that its programs do not interrupt each other's.
        for index in 0..self.counters.capacity {
            let blocks = self.counters.table.lookup_per_cpu(&index, self.cpus).context("cannot read the counters")?;
            blocks.iter().for_each(|block| counters.add(block));
        }
        Ok(counters)
    }

    /// The interfaces that the agent has observed since it started, those that are gone included: index and name.
    ///
    /// # Errors
    /// When their names cannot be read.
    pub fn interfaces(&self) -> anyhow::Result<Vec<(u32, Arc<str>)>> {
        Ok(InterfaceNames::read(self)?.0)
    }

    fn moment(&self) -> Moment<'_> {
        Moment {
            now_ns: clock::monotonic_ns(),
            unix_offset_ns: clock::unix_offset_ns(),
            limits: &self.layout.limits,
            knows_local: true,
        }
    }

    fn totals(&self) -> anyhow::Result<Totals> {
        let counters = self.counters()?;
        let handshakes = (0..HISTOGRAMS).map(|index| self.handshake(index)).collect::<io::Result<_>>();
        let ports = self.ports.table.lookup(&0).context("cannot read the ports")?.unwrap_or_default();
        let mut slots = [None; PORT_SLOTS];
        for (slot, port) in slots.iter_mut().zip(ports.slots) {
            *slot = u16::try_from(port).ok().filter(|&port| port != 0);
        }
        Ok(Totals { counters, handshakes: handshakes.context("cannot read the histograms")?, ports: slots })
    }

    fn handshake(&self, index: u32) -> io::Result<Histogram> {
        let mut sum = Histogram::default();
        for one in self.handshakes.table.lookup_per_cpu(&index, self.cpus)? {
            sum.add(&one);
        }
        Ok(sum)
    }
}

/// What a reading makes of each flow, and then of all of them.
trait View {
    type Seen;
    /// How much of a flow is looked at first.
    const FIRST: Extent;

    /// The moment as of which flows are seen.
    fn moment(&self) -> Moment<'_>;

    /// What this much of a flow tells; `None` where a glance is not enough.
    fn of<A>(&self, key: &FlowKey<A>, flow: &Flow, extent: Extent) -> Option<Self::Seen>
    where
        FlowKey<A>: Key;

    fn take<A>(&mut self, key: &FlowKey<A>, seen: Self::Seen)
    where
        FlowKey<A>: Key;

    /// Takes a flow by its word and last change alone, if that will do; says whether it did.
    fn takes_in_passing(&mut self, _word: Word, _changed_ns: u64) -> bool {
        false
    }
}

/// All that is known of it.
struct Records<'a, T> {
    moment: Moment<'a>,
    interfaces: InterfaceNames,
    take: T,
}

impl<T: FnMut(FlowRecord)> Records<'_, T> {
    /// Takes all flows of a table.
    fn read<A>(&mut self, table: &MappedTable<A>) -> anyhow::Result<()>
    where
        FlowKey<A>: Key,
    {
        let never = |_, _| false;
        read_table(table, Extent::Whole, self, never, |records, key, _, record| records.take(key, record)).map(drop)
    }
}

impl<T: FnMut(FlowRecord)> View for Records<'_, T> {
    type Seen = FlowRecord;
    const FIRST: Extent = Extent::Whole;

    fn moment(&self) -> Moment<'_> {
        self.moment
    }

    #[inline]
    fn of<A>(&self, key: &FlowKey<A>, flow: &Flow, _: Extent) -> Option<FlowRecord>
    where
        FlowKey<A>: Key,
    {
        Some(FlowRecord::new(key, flow, self.moment, |index| self.interfaces.name(index)))
    }

    #[inline]
    fn take<A>(&mut self, _: &FlowKey<A>, seen: FlowRecord) {
        (self.take)(seen);
    }
}

/// How many of them stand where.
struct Count<'a> {
    moment: Moment<'a>,
    now_unix_ns: u64,
    sockets: Option<&'a SocketView>,
    /// Flows by the states of originator and responder, and by which of the two is local: that is all there is to most.
    alike: Alike,
    /// And, before they are added to those, by their words: what follows from one is worked out once. In the place that the
    /// word's hash names, until another word wants it.
    by_word: [OfWord; WORDS],
    /// What else is counted.
    census: Census,
}

type Alike = [[[u64; Locality::COUNT]; State::COUNT]; State::COUNT];

/// Flows with one word, whatever its epoch.
#[derive(Clone, Copy)]
struct OfWord {
    word: Word,
    /// Those that changed at this time or later stand where the word says, and nothing else is counted of them.
    since_ns: u64,
    flows: u64,
}

/// More words than most hosts' flows have at a time; a power of two.
const WORDS: usize = 128;

/// The place of a word among so many, by the upper bits of a product (Fibonacci hashing).
fn place_of(word: Word) -> usize {
    (word.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - WORDS.ilog2())) as usize
}

impl<'a> Count<'a> {
    fn new(moment: Moment<'a>, sockets: Option<&'a SocketView>) -> Self {
        let now_unix_ns = moment.unix_ns(moment.now_ns);
        let alike = [[[0; Locality::COUNT]; State::COUNT]; State::COUNT];
        // No word has its place in more than one, so none is taken for the one that is nowhere.
        let none = OfWord { word: Word(0), since_ns: u64::MAX, flows: 0 };
        Self { moment, now_unix_ns, sockets, alike, by_word: [none; WORDS], census: Census::default() }
    }

    /// What follows from a word, if nothing was known of it.
    #[cold]
    fn of_word(&self, word: Word) -> OfWord {
        let flow = Flow::default();
        flow.word.0.set(word.0);
        // As if it had changed, and was last seen, at zero.
        let lasts_ns = flow.unchanged_until_ns(self.moment.limits).unwrap_or(u64::MAX);
        let since_ns = self.moment.now_ns.saturating_sub(lasts_ns).saturating_add(TICKS_NS);
        let is_plain = !word.has(Mark::Retired) && !Standing::is_particular(word);
        OfWord { word, since_ns: if is_plain { since_ns } else { u64::MAX }, flows: 0 }
    }

    fn alike(&mut self, word: Word) -> &mut u64 {
        let [originator, responder] = [Role::Originator, Role::Responder].map(|role| word.state(role).index());
        &mut self.alike[originator][responder][word.locality().index()]
    }

    fn census(mut self) -> Census {
        for OfWord { word, flows, .. } in self.by_word {
            *self.alike(word) += flows;
        }
        for (&originator, &responder) in State::ALL.iter().flat_map(|one| State::ALL.iter().map(move |two| (one, two)))
        {
            for local in 0..4 {
                let word = Word(local << Mark::Local as u32).with_outcome(Outcome::NotSeen);
                let word = word.with_state(Role::Originator, originator).with_state(Role::Responder, responder);
                let flows = *self.alike(word);
                if flows > 0 {
                    self.census.add_states(&Standing::with_word(word, &Flow::default(), self.moment), flows);
                }
            }
        }
        self.census
    }
}

/// Where a flow stands.
struct Seen {
    /// Its word at this moment.
    word: Word,
    /// Where more than that may be counted, and on which side its originator is.
    particular: Option<(Standing, Side)>,
}

impl View for Count<'_> {
    type Seen = Seen;
    const FIRST: Extent = Extent::Glance;

    fn moment(&self) -> Moment<'_> {
        self.moment
    }

    #[inline(always)]
    fn of<A>(&self, _: &FlowKey<A>, flow: &Flow, extent: Extent) -> Option<Seen> {
        let word = match extent {
            Extent::Glance => Standing::word_at_a_glance(flow, self.moment)?,
            Extent::Whole => flow.settled_at(self.moment.now_ns, self.moment.limits),
        };
        let standing = || (Standing::with_word(word, flow, self.moment), word.side_of(Role::Originator));
        Some(Seen { word, particular: Standing::is_particular(word).then(standing) })
    }

    #[inline(always)]
    fn take<A>(&mut self, key: &FlowKey<A>, seen: Seen)
    where
        FlowKey<A>: Key,
    {
        *self.alike(seen.word) += 1;
        if let Some((standing, originator)) = seen.particular {
            self.census.add_particulars(&standing, || Ends::of(key, originator), self.now_unix_ns, self.sockets);
        }
    }

    #[inline(always)]
    fn takes_in_passing(&mut self, word: Word, changed_ns: u64) -> bool {
        let word = word.in_epoch(0);
        let place = place_of(word);
        if self.by_word[place].word != word {
            let of_word = self.of_word(word);
            let other = mem::replace(&mut self.by_word[place], of_word);
            *self.alike(other.word) += other.flows;
        }
        let of_word = &mut self.by_word[place];
        let will_do = changed_ns >= of_word.since_ns;
        of_word.flows += u64::from(will_do);
        will_do
    }
}

type Named<'a, A> = (TableKind, &'a MappedTable<A>);

struct Reading<'a, V> {
    view: &'a mut V,
    tables: Vec<TableUsage>,
}

impl<V: View> Reading<'_, V> {
    /// Both tables of one address family.
    fn family<A>(&mut self, half_open: Named<'_, A>, settled: Named<'_, A>) -> anyhow::Result<()>
    where
        FlowKey<A>: Key + Copy + Eq + Hash,
    {
        let mut candidates: Vec<(FlowKey<A>, V::Seen)> = Vec::new();
        let mut sought = Sought::default();
        let never = |_, _| false;
        self.table(half_open, never, |_, key, flow, seen| {
            sought.note(key, flow.word.load());
            candidates.push((*key, seen));
        })?;
        // Settled flows that may have been half open when those were read. Most have not changed since long before, and
        // cost nothing.
        let mut moved = HashSet::<FlowKey<A>, RandomState>::default();
        let recently_ns = self.view.moment().now_ns.saturating_sub(TICKS_NS);
        let has_changed = |changed_ns| changed_ns >= recently_ns && !candidates.is_empty();
        let in_passing = |word, changed_ns| !has_changed(changed_ns) && !sought.may_have(word);
        self.table(settled, in_passing, |view, key, flow, seen| {
            if has_changed(flow.times.changed_ns.get()) || sought.has(key, flow.word.load()) {
                moved.insert(*key);
            }
            view.take(key, seen);
        })?;
        candidates
            .into_iter()
            .filter(|(key, _)| !moved.contains(key))
            .for_each(|(key, seen)| self.view.take(&key, seen));
        Ok(())
    }

    fn table<A>(
        &mut self,
        (table, map): Named<'_, A>,
        in_passing: impl Fn(Word, u64) -> bool,
        take: impl FnMut(&mut V, &FlowKey<A>, &Flow, V::Seen),
    ) -> anyhow::Result<()>
    where
        FlowKey<A>: Key,
    {
        let entries = read_table(map, V::FIRST, self.view, in_passing, take)?;
        self.tables.push(TableUsage { table, entries, capacity: map.capacity() });
        Ok(())
    }
}

/// Shows the flows of a table to `take`, but for those that `view` takes in passing, as far as `in_passing` allows it by
/// their word and last change; how many entries it has, those included that are about to leave.
fn read_table<A, V: View>(
    table: &MappedTable<A>,
    first: Extent,
    view: &mut V,
    in_passing: impl Fn(Word, u64) -> bool,
    mut take: impl FnMut(&mut V, &FlowKey<A>, &Flow, V::Seen),
) -> anyhow::Result<u64>
where
    FlowKey<A>: Key,
{
    let mut entries = 0;
    let mut visit = |view: &mut V, key: &FlowKey<A>, flow: &Flow, extent| {
        if !flow.word.load().has(Mark::Retired) {
            let Some(seen) = view.of(key, flow, extent) else { return false };
            take(view, key, flow, seen);
        }
        true
    };
    match first {
        Extent::Glance => table.for_each_at_a_glance(|shown| {
            let is_enough = match shown {
                Shown::InPassing(word, changed_ns) => {
                    in_passing(word, changed_ns) && view.takes_in_passing(word, changed_ns)
                }
                Shown::Glance(key, flow) => visit(view, key, flow, Extent::Glance),
                Shown::Whole(key, flow) => visit(view, key, flow, Extent::Whole),
            };
            entries += u64::from(is_enough);
            if is_enough { Enough::Yes } else { Enough::No }
        })?,
        Extent::Whole => table.for_each(|key, flow| {
            entries += u64::from(visit(view, key, flow, Extent::Whole));
        })?,
    }
    Ok(entries)
}

/// Half-open flows that may settle without a change of state, which would say when.
struct Sought<A> {
    /// Those that were about to move, however long ago, and those whose ends have closed before the handshake's end.
    any: HashSet<FlowKey<A>, RandomState>,
    /// Those picked up, which settle as soon as both directions are confirmed. A flood may have made many of them, while
    /// most of the time nothing that has settled was picked up: the set is made when it is first asked.
    picked_up: Vec<FlowKey<A>>,
    set_of_picked_up: OnceCell<HashSet<FlowKey<A>, RandomState>>,
}

impl<A> Default for Sought<A> {
    fn default() -> Self {
        Self { any: HashSet::default(), picked_up: Vec::new(), set_of_picked_up: OnceCell::new() }
    }
}

impl<A> Sought<A>
where
    FlowKey<A>: Copy + Eq + Hash,
{
    fn note(&mut self, key: &FlowKey<A>, word: Word) {
        use State::{Listen, SynReceived, SynSent, Unknown};
        let opens = |role| matches!(word.state(role), Unknown | Listen | SynSent | SynReceived);
        let is_any = match word.outcome() {
            _ if word.is_settled() => true,
            Outcome::InProgress => !opens(Role::Originator) && !opens(Role::Responder),
            _ => false,
        };
        if is_any {
            self.any.insert(*key);
        } else if word.outcome() == Outcome::NotSeen {
            self.picked_up.push(*key);
        }
    }

    /// Whether a settled flow with this word may be one of them.
    #[inline(always)]
    fn may_have(&self, word: Word) -> bool {
        !self.any.is_empty() || word.outcome() == Outcome::NotSeen && !self.picked_up.is_empty()
    }

    /// Whether it is one of them that has become a settled flow with this word.
    #[inline(always)]
    fn has(&self, key: &FlowKey<A>, word: Word) -> bool {
        let is_picked_up =
            || self.set_of_picked_up.get_or_init(|| self.picked_up.iter().copied().collect()).contains(key);
        !self.any.is_empty() && self.any.contains(key)
            || word.outcome() == Outcome::NotSeen && !self.picked_up.is_empty() && is_picked_up()
    }
}

/// Names of interfaces by index, as the agent has noted them.
struct InterfaceNames(Vec<(u32, Arc<str>)>);

impl InterfaceNames {
    fn read(maps: &PinnedMaps) -> anyhow::Result<Self> {
        let mut names = Vec::new();
        let table = &maps.interfaces.table;
        table
            .for_each(|index, name| names.push((*index, name_of(name))))
            .context("cannot read the interfaces' names")?;
        Ok(Self(names))
    }

    fn name(&self, index: u32) -> Option<Arc<str>> {
        // A handful, and most flows are of the first: cheaper than hashing for each flow.
        self.0.iter().find(|(of, _)| *of == index).map(|(_, name)| Arc::clone(name))
    }
}

fn name_of(name: &InterfaceName) -> Arc<str> {
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into()
}

#[cfg(test)]
mod tests {
    use tcp_observer_common::{
        flow::{FlowKey4, Ipv4},
        limits::Limits,
        seq::SeqNum,
    };

    use super::*;
    use crate::snapshot::fixture;

    const SECOND_NS: u64 = 1_000_000_000;
    const NOW_NS: u64 = 1_000_000 * SECOND_NS;
    const LIMITS: Limits = Limits::DEFAULT;

    fn moment() -> Moment<'static> {
        Moment { now_ns: NOW_NS, unix_offset_ns: 7, limits: &LIMITS, knows_local: true }
    }

    /// Numbers that look like chance, the same each time.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % bound
        }

        fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
            values[self.below(values.len() as u64) as usize]
        }

        /// A flow as the kernel leaves one: it was seen when it changed, or later, as far as the coarse clock tells.
        fn flow(&mut self, outcomes: &[Outcome]) -> Flow {
            let flow = Flow::default();
            let word = Word(
                self.below(0x800) << Mark::OriginatorIsHigh as u32
                    | self.below(64) << Mark::FinSent as u32
                    | self.one_of(&[0, 0, 0, 0, 1, 2, 3]) << Mark::Probing as u32,
            )
            .with_outcome(self.one_of(outcomes))
            .with_state(Role::Originator, self.one_of(State::ALL))
            .with_state(Role::Responder, self.one_of(State::ALL))
            .without(Mark::Retired);
            flow.word.0.set(word.0);
            let limits = [
                1,
                5 * SECOND_NS,
                LIMITS.closing_ns,
                LIMITS.local_time_wait_ns,
                1_200 * SECOND_NS,
                LIMITS.established_ns,
            ];
            let ago_ns = self.one_of(&limits) * self.one_of(&[0, 1, 2]);
            // Some have changed just within a limit, and were seen before that by a clock that lags.
            let ago_ns = match self.below(2) {
                0 => ago_ns.saturating_sub(self.below(TICKS_NS / 4)),
                _ => ago_ns + self.below(SECOND_NS),
            };
            let changed_ns = NOW_NS - ago_ns;
            flow.times.changed_ns.set(changed_ns);
            flow.times.first_ns.set(changed_ns - self.below(100 * SECOND_NS));
            let seen_ns = changed_ns - self.below(10_000_000).min(ago_ns) + self.one_of(&[0, ago_ns]);
            let (late, early) = if self.below(2) == 0 { (&flow.low, &flow.high) } else { (&flow.high, &flow.low) };
            late.last_seen_ns.set(seen_ns);
            early.last_seen_ns.set(seen_ns - self.below(10 * SECOND_NS));
            for half in [&flow.low, &flow.high] {
                half.isn.set(SeqNum(self.below(1 << 31) as u32));
                half.packets.set(1 + self.below(1000));
                half.unanswered.set(self.one_of(&[0, 3]));
            }
            flow
        }
    }

    /// Flows of few services, so that many are alike.
    fn key(number: u32) -> FlowKey4 {
        FlowKey4 {
            low_addr: [0x0a00_0001_u32.to_be()],
            high_addr: [(0x0a00_0100 + number % 3).to_be()],
            low_port: 1_000 + number as u16,
            high_port: 443,
        }
    }

    /// Both tables of one family with so many flows in them.
    fn tables(numbers: &mut Numbers, [half_open, settled]: [u32; 2]) -> [MappedTable<Ipv4>; 2] {
        let outcomes: [(_, &[Outcome]); 2] =
            [(half_open, &[Outcome::InProgress, Outcome::NotSeen, Outcome::Refused]), (settled, Outcome::ALL)];
        let mut number = 0;
        outcomes.map(|(flows, outcomes)| {
            let table = MappedTable::of_memory(1 + flows as usize / 4);
            for place in 0..flows as usize {
                table.put(place / 4, 1 + place as u32 % 4 * 3, &key(number), numbers.flow(outcomes));
                number += 1;
            }
            table
        })
    }

    #[test]
    fn flows_counted_where_they_lie_are_as_many_as_their_records() {
        let sockets = fixture::sockets(&["0.0.0.0:443"]);
        // With half-open flows that may settle, and without, where most of the others are only seen in passing.
        for (seed, in_each) in (0..20).flat_map(|seed| [(seed, [1_000, 1_000]), (seed, [0, 2_000])]) {
            let [half_open, settled] = tables(&mut Numbers(seed), in_each);
            let entries = |tables: &[TableUsage]| tables.iter().map(|usage| usage.entries as u32).collect::<Vec<_>>();
            let named = || ((TableKind::HalfOpenIpv4, &half_open), (TableKind::FlowsIpv4, &settled));
            let mut flows = Vec::new();
            let mut records =
                Records { moment: moment(), interfaces: InterfaceNames(Vec::new()), take: |flow| flows.push(flow) };
            let mut reading = Reading { view: &mut records, tables: Vec::new() };
            reading.family(named().0, named().1).unwrap();
            assert_eq!(entries(&reading.tables), in_each);
            let mut count = Count::new(moment(), Some(&sockets));
            let mut reading = Reading { view: &mut count, tables: Vec::new() };
            reading.family(named().0, named().1).unwrap();
            assert_eq!(entries(&reading.tables), in_each);
            let taken_unix_ns = moment().unix_ns(NOW_NS);
            let snapshot = Snapshot { flows, taken_unix_ns, sockets: Some(sockets.clone()), ..fixture::empty() };
            let census = count.census();
            assert_eq!(census, Census::of(&snapshot));
            assert_eq!(census.flows, 2_000);
            assert!(census.close_wait.iter().chain(&census.unanswered_keepalives).all(|&flows| flows > 0));
            assert!(!census.ports_in_use().is_empty() && !census.unanswered_by_listener.is_empty());
        }
    }

    /// What a reading in this moment shows where a half-open flow with the first word has become a settled one with the
    /// second.
    fn shown(before: Word, after: Word, changed_ns: u64) -> u64 {
        let tables = [before, after].map(|word| {
            let table = MappedTable::of_memory(1);
            let flow = Flow::default();
            flow.word.0.set(word.0);
            flow.times.changed_ns.set(changed_ns);
            flow.low.last_seen_ns.set(changed_ns);
            table.put(0, 1, &key(0), flow);
            table
        });
        let mut count = Count::new(moment(), None);
        Reading { view: &mut count, tables: Vec::new() }
            .family((TableKind::HalfOpenIpv4, &tables[0]), (TableKind::FlowsIpv4, &tables[1]))
            .unwrap();
        count.census().flows
    }

    #[test]
    fn a_flow_that_moves_between_two_looks_is_counted_once() {
        let states = |originator, responder| {
            Word::fresh(1).with_state(Role::Originator, originator).with_state(Role::Responder, responder)
        };
        let opening = states(State::SynSent, State::SynReceived);
        let open = states(State::Established, State::Established);
        let completed = open.with_outcome(Outcome::Completed);
        assert_eq!(shown(opening, completed, NOW_NS - 1), 1);
        // It was about to move, and was kept from it for long.
        assert_eq!(shown(completed, completed, NOW_NS - SECOND_NS), 1);
        // Both ends have closed before the handshake was over: its end changes no state.
        let closing = states(State::FinWait1, State::FinWait1);
        assert_eq!(shown(closing, closing.with_outcome(Outcome::Completed), NOW_NS - SECOND_NS), 1);
        // The second direction was confirmed just now, which changes none either.
        let picked_up = open.with_outcome(Outcome::NotSeen);
        let confirmed = picked_up.with_of(Mark::Confirmed, Role::Originator).with_of(Mark::Confirmed, Role::Responder);
        assert_eq!(shown(picked_up, confirmed, NOW_NS - SECOND_NS), 1);
        // A new attempt of an old flow's tuple is another flow.
        assert_eq!(shown(opening, completed, NOW_NS - SECOND_NS), 2);
    }

    #[test]
    fn an_entry_that_is_about_to_leave_takes_room_and_is_no_flow() {
        let word = Word::fresh(1)
            .with_state(Role::Originator, State::Established)
            .with_state(Role::Responder, State::Established)
            .with_outcome(Outcome::Completed);
        let [half_open, settled] = [(); 2].map(|()| MappedTable::of_memory(1));
        for (place, word) in [(1, word), (2, word.with(Mark::Retired))] {
            let flow = Flow::default();
            flow.word.0.set(word.0);
            flow.times.changed_ns.set(NOW_NS - SECOND_NS);
            settled.put(0, place, &key(place), flow);
        }
        let mut count = Count::new(moment(), None);
        let mut reading = Reading { view: &mut count, tables: Vec::new() };
        reading.family((TableKind::HalfOpenIpv4, &half_open), (TableKind::FlowsIpv4, &settled)).unwrap();
        assert_eq!(reading.tables.iter().map(|usage| usage.entries).sum::<u64>(), 2);
        assert_eq!(count.census().flows, 1);
    }

    #[test]
    fn a_name_ends_before_its_zeros_or_with_its_last_byte() {
        assert_eq!(&*name_of(b"eth0\0\0\0\0\0\0\0\0\0\0\0\0"), "eth0");
        assert_eq!(&*name_of(b"0123456789abcdef"), "0123456789abcdef");
    }
}
