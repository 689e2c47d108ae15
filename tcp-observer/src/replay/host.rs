//! A capture's replay as the core's [`Host`]: the clock of the packets, tables in memory, one block of counters.
//!
//! Each packet has the time that its own stamp says, even where it lies before the last one's: latencies between two
//! packets are then right up to a saturation at zero, and a clock that was set back by an hour in the middle of a
//! capture does not turn every handshake of that hour into one of zero seconds, as clamping to the latest time would.
//! Ages saturate at zero likewise; the sweep alone follows the latest time.

use std::{
    cell::{Cell, RefCell},
    hash::Hash,
    io,
    net::IpAddr,
};

use ipnet::IpNet;
use tcp_observer_common::{
    conn::{Flow, Outcome, Role, State},
    counters::{Counters, HookDirection, PORT_SLOTS, Skip, TableKind, place},
    flow::{Address, FlowKey, FlowKey4, FlowKey6, Ipv4, Ipv6, Side},
    histogram::{HISTOGRAMS, Histogram},
    limits::Limits,
    observer::{Family, Host, Sighting, Tap, observe, observe_quote},
    sweep::sweep_entry,
    wire::{self, Network, Parsed},
};

use super::{
    capture::{Captured, Packet},
    finished::Finished,
    link::{self, Tags},
    schedule::Schedule,
    table::{Entries, Tables, View},
};
use crate::snapshot::{FlowRecord, Key, Moment, Totals};

/// The core takes a time of zero for "not yet", while captures may well begin at the epoch: the clock that it sees
/// starts at one, and records take that off again.
const EPOCH_NS: i64 = 1;
/// Where Linux's ephemeral ports begin: those are not given counters of their own, since no service is behind them.
const FIRST_EPHEMERAL: u16 = 32_768;
/// Marks an interface number that a cooked header gave, which has nothing to do with the capture's own.
const NAMED_BY_HEADER: u32 = 1 << 30;

/// All that is known of a capture so far.
pub struct Replayer {
    local: Vec<IpNet>,
    clock_ns: Cell<u64>,
    /// Of the packet that is being taken in.
    tags: Cell<Tags>,
    schedule: Schedule,
    ipv4: Tables<Ipv4>,
    ipv6: Tables<Ipv6>,
    /// What has left its table and was not handed over yet.
    finished: RefCell<Vec<Finished>>,
    counters: RefCell<Counters>,
    handshakes: RefCell<Vec<Histogram>>,
    ports: RefCell<[Option<u16>; PORT_SLOTS]>,
    scratch: Flow,
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
            finished: RefCell::default(),
            counters: RefCell::new(Counters::ZERO),
            handshakes: RefCell::new(vec![Histogram::default(); HISTOGRAMS as usize]),
            ports: RefCell::new([None; PORT_SLOTS]),
            scratch: Flow::default(),
        }
    }

    /// Takes one packet in, after what the time until then has ended.
    pub fn take(&mut self, captured: Captured<'_>) {
        // A packet without a time stamp belongs to the moment before.
        let now_ns = captured.unix_ns.map_or(self.clock_ns.get(), |ns| ns.saturating_add_signed(EPOCH_NS));
        while let Some(due) = self.schedule.due(now_ns) {
            self.clock_ns.set(due.now_ns);
            self.sweep(due.all);
        }
        self.clock_ns.set(now_ns);
        if let Err(reason) = self.observe(captured) {
            (&*self).add(place::skipped(reason), 1);
        }
    }

    fn observe(&self, captured: Captured<'_>) -> Result<(), Skip> {
        let found = link::network(captured.link.ok_or(Skip::NotIp)?, captured.packet)?;
        self.tags.set(found.tags);
        let named = found.interface.map(|index| NAMED_BY_HEADER | index & (NAMED_BY_HEADER - 1));
        let tap = Tap::new(named.unwrap_or(captured.interface), HookDirection::Ingress);
        match found.network {
            Network::Ipv4 => match wire::segment4(&found.packet, 0) {
                Ok(parsed) => self.take_segment(&found.packet, &parsed, tap),
                Err(Skip::NotTcp) => observe_quote(&self, &wire::quote4(&found.packet, 0)?),
                Err(reason) => Err(reason),
            },
            Network::Ipv6 => match wire::segment6(&found.packet, 0) {
                Ok(parsed) => self.take_segment(&found.packet, &parsed, tap),
                Err(Skip::NotTcp) => observe_quote(&self, &wire::quote6(&found.packet, 0)?),
                Err(reason) => Err(reason),
            },
        }
    }

    fn take_segment<'a, A: Address>(&'a self, packet: &Packet<'_>, parsed: &Parsed<A>, tap: Tap) -> Result<(), Skip>
    where
        &'a Self: Family<A>,
    {
        let Parsed { key, side, segment, options } = parsed;
        observe(&self, key, Sighting { side: *side, segment, tap }, || wire::options(packet, *options))
    }

    fn sweep(&self, all: bool) {
        self.sweep_table(TableKind::HalfOpenIpv4, &self.ipv4.half_open);
        self.sweep_table(TableKind::HalfOpenIpv6, &self.ipv6.half_open);
        if all {
            self.sweep_table(TableKind::FlowsIpv4, &self.ipv4.settled);
            self.sweep_table(TableKind::FlowsIpv6, &self.ipv6.settled);
        }
    }

    fn sweep_table<A: Address + Hash>(&self, kind: TableKind, entries: &Entries<A>)
    where
        FlowKey<A>: Key,
    {
        let now_ns = self.clock_ns.get();
        entries.borrow_mut().retain(|(tags, key), flow| {
            let has_left = sweep_entry(&self, kind, key, flow, now_ns, &Limits::DEFAULT);
            if has_left {
                self.finish(*tags, key, flow);
            }
            !has_left
        });
    }

    /// Keeps the record of a flow that a new incarnation of its tuple replaces: its endpoints have no sockets any more,
    /// and an attempt that had not come to an end was given up.
    pub fn finish_replaced<A>(&self, tags: Tags, key: &FlowKey<A>, flow: &Flow)
    where
        FlowKey<A>: Key,
    {
        let word = flow.word.load();
        let word = word.with_state(Role::Originator, State::Closed).with_state(Role::Responder, State::Closed);
        let word = if word.outcome() == Outcome::InProgress { word.with_outcome(Outcome::Abandoned) } else { word };
        flow.word.0.set(word.0);
        self.finish(tags, key, flow);
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
        self.finished.borrow_mut().drain(..).try_for_each(sink)
    }

    /// Hands over the flows that are left, as they stand at the time of the last packet, in the order of their first
    /// ones. What was counted comes back.
    ///
    /// # Errors
    /// When `sink` takes no more.
    pub fn end(self, sink: &mut impl FnMut(Finished) -> io::Result<()>) -> io::Result<(u64, Totals)> {
        self.hand_over(sink)?;
        let mut left = Vec::new();
        self.take_flows(&self.ipv4, &mut left);
        self.take_flows(&self.ipv6, &mut left);
        left.sort_by_cached_key(Finished::order);
        left.into_iter().try_for_each(sink)?;
        let totals =
            Totals { counters: self.counters.take(), handshakes: self.handshakes.take(), ports: self.ports.take() };
        Ok((self.now_unix_ns(), totals))
    }

    fn now_unix_ns(&self) -> u64 {
        self.clock_ns.get().saturating_add_signed(-EPOCH_NS)
    }

    fn take_flows<A>(&self, tables: &Tables<A>, flows: &mut Vec<Finished>)
    where
        FlowKey<A>: Key,
    {
        for entries in [&tables.half_open, &tables.settled] {
            let entries = entries.take();
            flows.extend(entries.iter().map(|((tags, key), flow)| self.finished_flow(*tags, key, flow)));
        }
    }

    fn holds(&self, addr: IpAddr) -> bool {
        self.local.iter().any(|prefix| prefix.contains(&addr))
    }
}

impl Host for &Replayer {
    fn precise_ns(&self) -> u64 {
        self.clock_ns.get()
    }

    fn coarse_ns(&self) -> u64 {
        self.clock_ns.get()
    }

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

    fn add(&self, place: usize, amount: u64) {
        if let Some(counter) = self.counters.borrow_mut().words_mut().get_mut(place) {
            *counter += amount;
        }
    }

    fn record(&self, histogram: u32, value_ns: u64) {
        if let Some(histogram) = self.handshakes.borrow_mut().get_mut(histogram as usize) {
            histogram.record(value_ns);
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

    fn scratch(&self) -> Option<&Flow> {
        Some(&self.scratch)
    }
}

impl<'a> Family<Ipv4> for &'a Replayer {
    type Table = View<'a, Ipv4>;
    const FLOWS: TableKind = TableKind::FlowsIpv4;
    const HALF_OPEN: TableKind = TableKind::HalfOpenIpv4;

    fn flows(&self) -> Self::Table {
        View { host: self, entries: &self.ipv4.settled, tags: self.tags.get() }
    }

    fn half_open(&self) -> Self::Table {
        View { host: self, entries: &self.ipv4.half_open, tags: self.tags.get() }
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

    fn flows(&self) -> Self::Table {
        View { host: self, entries: &self.ipv6.settled, tags: self.tags.get() }
    }

    fn half_open(&self) -> Self::Table {
        View { host: self, entries: &self.ipv6.half_open, tags: self.tags.get() }
    }

    fn is_local(&self, addr: &Ipv6) -> bool {
        let key = FlowKey6 { low_addr: *addr, high_addr: *addr, low_port: 0, high_port: 0 };
        self.holds(key.endpoint(Side::Low).0)
    }
}
