//! A capture's replay as the core's [`Host`]: the clock of the packets, tables in memory, one block of counters.
//!
//! Each packet has the time that its own stamp says, even where it lies before the last one's: latencies between two
//! packets are then right up to a saturation at zero, and a clock that was set back by an hour in the middle of a
//! capture does not turn every handshake of that hour into one of zero seconds, as clamping to the latest time would.
//! Ages saturate at zero likewise; the sweep alone follows the latest time.

use std::{
    cell::{Cell, RefCell},
    io,
    net::IpAddr,
};

use ipnet::IpNet;
use tcp_observer_common::{
    conn::{Flow, Judged, Outcome, Phase, Role, State, tell, tell_beginning},
    counters::{Counters, HookDirection, PORT_SLOTS, Skip, TableKind, place},
    flow::{Address, FlowKey, FlowKey4, FlowKey6, Ipv4, Ipv6, Side},
    histogram::{HISTOGRAMS, Histogram, Sample},
    limits::Limits,
    observer::{Family, Host, Sighting, Steady, Table as _, Tap, observe_quote, observe_unsteady, on_steady},
    segment::Segment,
    sweep::sweep_entry,
    wire::{self, Network, Parsed, Quote},
};

use super::{
    capture::{Captured, Packet},
    finished::Finished,
    follow::{self, Cause, Event, Follower, Id},
    link::{self, Tags},
    schedule::Schedule,
    table::{Flows, Hashed, Tables, View},
};
use crate::snapshot::{FlowRecord, Key, Moment, Totals};

/// The core takes a time of zero for "not yet", while captures may well begin at the epoch: the clock that it sees
/// starts at one, and records take that off again.
pub(super) const EPOCH_NS: i64 = 1;
/// Where Linux's ephemeral ports begin: those are not given counters of their own, since no service is behind them.
const FIRST_EPHEMERAL: u16 = 32_768;
/// Marks an interface number that a cooked header gave, which has nothing to do with the capture's own.
const NAMED_BY_HEADER: u32 = 1 << 30;

/// What a time of the flows' clock is in nanoseconds since the Unix epoch.
fn unix_ns(clock_ns: u64) -> u64 {
    clock_ns.saturating_add_signed(-EPOCH_NS)
}

/// The number of an interface that a cooked header has named.
pub(super) fn named_interface(index: u32) -> u32 {
    NAMED_BY_HEADER | index & (NAMED_BY_HEADER - 1)
}

/// All that is known of a capture so far.
pub struct Replayer {
    local: Vec<IpNet>,
    clock_ns: Cell<u64>,
    /// Of the packet that is being taken in.
    tags: Cell<Tags>,
    schedule: Schedule,
    ipv4: Tables<Ipv4>,
    ipv6: Tables<Ipv6>,
    /// Who wants to know what happens to flows, besides what became of them.
    follower: Option<Box<Follower>>,
    /// What has left its table and was not handed over yet.
    finished: RefCell<Vec<Finished>>,
    counters: RefCell<Counters>,
    handshakes: RefCell<Vec<Histogram>>,
    ports: RefCell<[Option<u16>; PORT_SLOTS]>,
}

impl Replayer {
    pub fn new(local: Vec<IpNet>) -> Self {
        Self {
            local,
            clock_ns: Cell::new(0),
            tags: Cell::default(),
            schedule: Schedule::default(),
            ipv4: Tables::default(),
            ipv6: Tables::default(),
            follower: None,
            finished: RefCell::default(),
            counters: RefCell::new(Counters::ZERO),
            handshakes: RefCell::new(vec![Histogram::default(); HISTOGRAMS as usize]),
            ports: RefCell::new([None; PORT_SLOTS]),
        }
    }

    /// One that makes events as well.
    pub fn following(local: Vec<IpNet>) -> Self {
        Self { follower: Some(Box::default()), ..Self::new(local) }
    }

    /// Shows a follower, if there is one, what was told of a segment.
    #[inline(always)]
    fn told(&self, flow: &Flow, segment: &Segment, judged: Judged, notes: u64) {
        if let Some(follower) = &self.follower {
            follower.told(flow, segment, judged, notes);
        }
    }

    /// Takes one packet in, after what the time until then has ended.
    #[inline]
    pub fn take(&mut self, captured: Captured<'_>) {
        // A packet without a time stamp belongs to the moment before.
        let now_ns = captured.unix_ns.map_or(self.clock_ns.get(), |ns| ns.saturating_add_signed(EPOCH_NS));
        while let Some(due) = self.schedule.due(now_ns) {
            self.end_silent(due.now_ns);
            self.clock_ns.set(due.now_ns);
            self.sweep(due.all);
        }
        if let Some(follower) = &self.follower {
            self.end_silent(now_ns);
            follower.has_nanoseconds.set(captured.has_nanoseconds);
        }
        self.clock_ns.set(now_ns);
        if let Err(reason) = self.observe(captured) {
            (&*self).add(place::skipped(reason), 1);
        }
    }

    #[inline(always)]
    fn observe(&self, captured: Captured<'_>) -> Result<(), Skip> {
        let found = link::network(captured.link.ok_or(Skip::NotIp)?, captured.packet)?;
        self.tags.set(found.tags);
        let interface = found.interface.map_or(captured.interface, named_interface);
        let tap = Tap::new(interface, HookDirection::Ingress);
        match found.network {
            Network::Ipv4 => match wire::segment4(&found.packet, 0) {
                Ok(parsed) => self.take_segment(&found.packet, parsed, tap),
                Err(Skip::NotTcp) => self.take_quote(&wire::quote4(&found.packet, 0)?, &self.ipv4),
                Err(reason) => Err(reason),
            },
            Network::Ipv6 => match wire::segment6(&found.packet, 0) {
                Ok(parsed) => self.take_segment(&found.packet, parsed, tap),
                Err(Skip::NotTcp) => self.take_quote(&wire::quote6(&found.packet, 0)?, &self.ipv6),
                Err(reason) => Err(reason),
            },
        }
    }

    /// The shortest path apart from the others, as in the kernel: so short, it takes no memory but the flow's. Nobody
    /// is told of what it takes in.
    #[inline(always)]
    fn take_segment<'a, A: Hashed>(&'a self, packet: &Packet<'_>, parsed: Parsed<A>, tap: Tap) -> Result<(), Skip>
    where
        &'a Self: Family<A>,
        Id: From<FlowKey<A>>,
    {
        let Parsed { key, side, segment, .. } = &parsed;
        if let Steady::Taken = on_steady(&self, key, Sighting { side: *side, segment, tap }) {
            return Ok(());
        }
        self.take_unsteady(*packet, parsed, tap)
    }

    #[inline(never)]
    fn take_unsteady<'a, A: Hashed>(&'a self, packet: Packet<'_>, parsed: Parsed<A>, tap: Tap) -> Result<(), Skip>
    where
        &'a Self: Family<A>,
        Id: From<FlowKey<A>>,
    {
        let Parsed { key, side, segment, options } = parsed;
        let segment = Segment { options: wire::options(&packet, options), ..segment };
        let taken = observe_unsteady(&self, &key, Sighting { side, segment: &segment, tap });
        if let Some(follower) = &self.follower {
            let find = || (&self).flows().find(&key).or_else(|| (&self).half_open().find(&key));
            follower.taken((self.tags.get(), key.into()), self.moment(), find);
        }
        taken
    }

    #[inline(never)]
    fn take_quote<'a, A: Hashed>(&'a self, quote: &Quote<A>, tables: &Tables<A>) -> Result<(), Skip>
    where
        &'a Self: Family<A>,
        Id: From<FlowKey<A>>,
    {
        let Some(follower) = &self.follower else {
            return observe_quote(&self, quote);
        };
        let id = (self.tags.get(), quote.key);
        let flow = tables.half_open.find(&id);
        let before = flow.map(|flow| flow.word.load());
        let taken = observe_quote(&self, quote);
        if let (Some(flow), Some(before)) = (flow, before) {
            let cause = Cause::Unreachable(quote.reason);
            follower.changed((id.0, quote.key.into()), self.moment(), cause, before, flow.word.load());
        }
        taken
    }

    fn moment(&self) -> follow::Moment {
        follow::Moment { now_ns: self.clock_ns.get(), unix_ns: self.now_unix_ns(), knows_local: !self.local.is_empty() }
    }

    fn sweep(&self, all: bool) {
        self.sweep_table(TableKind::HalfOpenIpv4, &self.ipv4.half_open);
        self.sweep_table(TableKind::HalfOpenIpv6, &self.ipv6.half_open);
        if all {
            self.sweep_table(TableKind::FlowsIpv4, &self.ipv4.settled);
            self.sweep_table(TableKind::FlowsIpv6, &self.ipv6.settled);
        }
    }

    fn sweep_table<A: Hashed>(&self, kind: TableKind, flows: &Flows<A>)
    where
        FlowKey<A>: Key,
        Id: From<FlowKey<A>>,
    {
        flows.sweep(self.clock_ns.get(), |(tags, key), flow| {
            let has_left = self.sweep_flow(kind, *tags, key, flow);
            if has_left {
                self.finish(*tags, key, flow);
                if let Some(follower) = &self.follower {
                    follower.forget((*tags, (*key).into()));
                }
            }
            has_left
        });
    }

    fn sweep_flow<A: Address>(&self, kind: TableKind, tags: Tags, key: &FlowKey<A>, flow: &Flow) -> bool
    where
        Id: From<FlowKey<A>>,
    {
        let before = flow.word.load();
        let sweep = || sweep_entry(&self, kind, key, flow, before, self.clock_ns.get(), &Limits::DEFAULT);
        let Some(follower) = &self.follower else {
            return sweep();
        };
        let until_ns = flow.unchanged_until_ns(&Limits::DEFAULT);
        let has_left = sweep();
        if !has_left {
            let unix_ns = until_ns.map_or(self.now_unix_ns(), unix_ns);
            let moment = follow::Moment { unix_ns, ..self.moment() };
            follower.changed((tags, (*key).into()), moment, Cause::Silence, before, flow.word.load());
        }
        has_left
    }

    /// Where flows are followed, what silence has ended by then is ended moment by moment, before the sweep would.
    fn end_silent(&self, now_ns: u64) {
        let Some(follower) = &self.follower else {
            return;
        };
        while let Some((at_ns, (tags, id))) = follower.due(now_ns) {
            self.clock_ns.set(at_ns);
            match id {
                Id::Ipv4(key) => self.end_silent_flow(follower, (tags, key), &self.ipv4, now_ns),
                Id::Ipv6(key) => self.end_silent_flow(follower, (tags, key), &self.ipv6, now_ns),
            }
        }
    }

    fn end_silent_flow<A: Hashed>(&self, follower: &Follower, id: (Tags, FlowKey<A>), tables: &Tables<A>, now_ns: u64)
    where
        Id: From<FlowKey<A>>,
    {
        let Some(flow) = tables.settled.find(&id).or_else(|| tables.half_open.find(&id)) else {
            return;
        };
        let is_over = |flow: &Flow| flow.unchanged_until_ns(&Limits::DEFAULT).is_none_or(|ns| ns < self.clock_ns.get());
        if flow.word.load().phase() != Phase::Closed && is_over(flow) {
            // Which table matters only to a flow that leaves, and this one is not closed yet.
            self.sweep_flow(TableKind::FlowsIpv4, id.0, &id.1, flow);
        }
        if !is_over(flow) {
            follower.wait((id.0, id.1.into()), flow, now_ns);
        }
    }

    /// Keeps the record of a flow that a new incarnation of its tuple replaces: its endpoints have no sockets any more,
    /// and an attempt that had not come to an end was given up.
    pub fn finish_replaced<A: Copy>(&self, tags: Tags, key: &FlowKey<A>, flow: &Flow)
    where
        FlowKey<A>: Key,
        Id: From<FlowKey<A>>,
    {
        let before = flow.word.load();
        let word = before.with_state(Role::Originator, State::Closed).with_state(Role::Responder, State::Closed);
        let word = if word.outcome() == Outcome::InProgress { word.with_outcome(Outcome::Abandoned) } else { word };
        flow.word.0.set(word.0);
        if let Some(follower) = &self.follower {
            follower.changed((tags, (*key).into()), self.moment(), Cause::Replaced, before, word);
        }
        self.finish(tags, key, flow);
    }

    /// Hands over what has happened since the last time.
    ///
    /// # Errors
    /// When `sink` takes no more.
    pub fn hand_over_events(&self, sink: &mut impl FnMut(Event) -> io::Result<()>) -> io::Result<()> {
        self.finished.borrow_mut().clear();
        self.follower.as_ref().map_or(Ok(()), |follower| follower.hand_over(sink))
    }

    fn finish<A>(&self, tags: Tags, key: &FlowKey<A>, flow: &Flow)
    where
        FlowKey<A>: Key,
    {
        let finished = self.finished_flow(tags, key, flow);
        self.finished.borrow_mut().push(finished);
    }

    fn finished_flow<A>(&self, tags: Tags, key: &FlowKey<A>, flow: &Flow) -> Finished
    where
        FlowKey<A>: Key,
    {
        let mut record = self.record(key, flow);
        record.vlan = Some(tags.ids()).filter(|ids| !ids.is_empty()).map(Into::into);
        Finished { record, tags, now_unix_ns: self.now_unix_ns() }
    }

    fn record<A>(&self, key: &FlowKey<A>, flow: &Flow) -> FlowRecord
    where
        FlowKey<A>: Key,
    {
        let moment = Moment {
            now_ns: self.clock_ns.get(),
            unix_offset_ns: -EPOCH_NS,
            limits: &Limits::DEFAULT,
            knows_local: !self.local.is_empty(),
        };
        FlowRecord::new(key, flow, moment, |_| None)
    }

    /// Hands over what has ended since the last time.
    ///
    /// # Errors
    /// When `sink` takes no more.
    #[inline]
    pub fn hand_over(&self, sink: &mut impl FnMut(Finished) -> io::Result<()>) -> io::Result<()> {
        let mut finished = self.finished.borrow_mut();
        if finished.is_empty() { Ok(()) } else { finished.drain(..).try_for_each(sink) }
    }

    /// Hands over the flows that are left, as they stand at the time of the last packet, in the order of their first
    /// ones. What was counted comes back.
    ///
    /// # Errors
    /// When `sink` takes no more.
    pub fn end(self, sink: &mut impl FnMut(Finished) -> io::Result<()>) -> io::Result<(u64, Totals)> {
        self.hand_over(sink)?;
        // In this order records would take several times as much memory as the flows themselves: each is made when it
        // is its turn, and to tell apart those whose first packets came at the same time.
        let first_unix_ns = |flow: &Flow| unix_ns(flow.times.first_ns.get());
        let ipv4 = self.ipv4.iter().map(|((tags, key), flow)| (first_unix_ns(flow), tags, Id::from(key), flow));
        let ipv6 = self.ipv6.iter().map(|((tags, key), flow)| (first_unix_ns(flow), tags, Id::from(key), flow));
        let mut left: Vec<_> = ipv4.chain(ipv6).collect();
        let finished = |&(_, tags, id, flow): &(u64, Tags, Id, &Flow)| match id {
            Id::Ipv4(key) => self.finished_flow(tags, &key, flow),
            Id::Ipv6(key) => self.finished_flow(tags, &key, flow),
        };
        left.sort_by(|one, other| {
            one.0.cmp(&other.0).then_with(|| finished(one).order().cmp(&finished(other).order()))
        });
        left.iter().map(finished).try_for_each(sink)?;
        let totals =
            Totals { counters: self.counters.take(), handshakes: self.handshakes.take(), ports: self.ports.take() };
        Ok((self.now_unix_ns(), totals))
    }

    fn now_unix_ns(&self) -> u64 {
        unix_ns(self.clock_ns.get())
    }

    fn holds(&self, addr: IpAddr) -> bool {
        self.local.iter().any(|prefix| prefix.contains(&addr))
    }
}

impl Host for &Replayer {
    #[inline(always)]
    fn precise_ns(&self) -> u64 {
        self.clock_ns.get()
    }

    #[inline(always)]
    fn coarse_ns(&self) -> u64 {
        self.clock_ns.get()
    }

    #[inline(always)]
    fn exchange_bits(&self, cell: &Cell<u64>, current: u64, new: u64) -> bool {
        let is_unchanged = cell.get() == current;
        if is_unchanged {
            cell.set(new);
        }
        is_unchanged
    }

    fn keeps_all(&self) -> bool {
        true
    }

    #[inline(always)]
    fn add(&self, place: usize, amount: u64) {
        if let Some(counter) = self.counters.borrow_mut().words_mut().get_mut(place) {
            *counter += amount;
        }
    }

    fn record(&self, histogram: u32, sample: Sample) {
        if let Some(histogram) = self.handshakes.borrow_mut().get_mut(histogram as usize) {
            histogram.add_sample(sample);
        }
    }

    fn port_slot(&self, port: u16, claim: bool) -> usize {
        let mut ports = self.ports.borrow_mut();
        if let Some(slot) = ports.iter().position(|&taken_by| taken_by == Some(port)) {
            return slot;
        }
        match ports.iter().position(Option::is_none) {
            Some(free) if claim && port < FIRST_EPHEMERAL => {
                ports[free] = Some(port);
                free
            }
            Some(_) | None => PORT_SLOTS,
        }
    }

    fn tell(&self, flow: &Flow, segment: &Segment, judged: Judged) {
        self.told(flow, segment, judged, tell(self, flow, segment, judged));
    }

    fn tell_beginning(&self, flow: &Flow, segment: &Segment, judged: Judged) {
        self.told(flow, segment, judged, tell_beginning(self, flow, segment, judged));
    }
}

impl<'a> Family<Ipv4> for &'a Replayer {
    type Table = View<'a, Ipv4>;
    const FLOWS: TableKind = TableKind::FlowsIpv4;
    const HALF_OPEN: TableKind = TableKind::HalfOpenIpv4;

    #[inline(always)]
    fn flows(&self) -> Self::Table {
        View { host: self, flows: &self.ipv4.settled, tags: self.tags.get() }
    }

    #[inline(always)]
    fn half_open(&self) -> Self::Table {
        View { host: self, flows: &self.ipv4.half_open, tags: self.tags.get() }
    }

    fn is_local(&self, addr: &Ipv4) -> bool {
        let key = FlowKey4 { low_addr: *addr, high_addr: *addr, low_port: 0, high_port: 0 };
        self.holds(key.endpoint(Side::Low).0)
    }
}

impl<'a> Family<Ipv6> for &'a Replayer {
    type Table = View<'a, Ipv6>;
    const FLOWS: TableKind = TableKind::FlowsIpv6;
    const HALF_OPEN: TableKind = TableKind::HalfOpenIpv6;

    #[inline(always)]
    fn flows(&self) -> Self::Table {
        View { host: self, flows: &self.ipv6.settled, tags: self.tags.get() }
    }

    #[inline(always)]
    fn half_open(&self) -> Self::Table {
        View { host: self, flows: &self.ipv6.half_open, tags: self.tags.get() }
    }

    fn is_local(&self, addr: &Ipv6) -> bool {
        let key = FlowKey6 { low_addr: *addr, high_addr: *addr, low_port: 0, high_port: 0 };
        self.holds(key.endpoint(Side::Low).0)
    }
}
