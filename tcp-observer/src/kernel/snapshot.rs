//! From maps to a [`Snapshot`]: everything is read once, in the order in which flows move.
//!
//! A flow moves from the half-open table to the settled one. Half-open tables are read first, so that a flow which
//! moves meanwhile is found twice rather than never; the settled copy wins.

use std::{collections::HashSet, hash::Hash, io, sync::Arc};

use anyhow::Context;
use tcp_observer_common::{
    abi::InterfaceName,
    conn::{Flow, Mark, Word},
    counters::{Counters, PORT_SLOTS, TableKind},
    flow::FlowKey,
    histogram::{HISTOGRAMS, Histogram},
};

use super::{clock, listeners, mapped::MappedTable, maps::PinnedMaps, sockets};
use crate::{
    snapshot::{FlowRecord, Key, Moment, Snapshot, SocketView, TableUsage, Totals},
    source::Source,
};

/// A flow that moved while the tables were read was seen later than this before the reading began: more than two
/// ticks of the coarse clock at its slowest (HZ=100).
const TICKS_NS: u64 = 25_000_000;

impl Source for PinnedMaps {
    fn snapshot(&self) -> anyhow::Result<Snapshot> {
        // Counters before flows: a total may lag the flows by what came meanwhile, never the other way round.
        let totals = self.totals()?;
        let moment = self.moment();
        let interfaces = InterfaceNames::read(self)?;
        let mut reading = Reading { moment, interfaces: &interfaces, flows: Vec::new(), tables: Vec::new() };
        reading.family((TableKind::HalfOpenIpv4, &self.half_open_ipv4), (TableKind::FlowsIpv4, &self.flows_ipv4));
        reading.family((TableKind::HalfOpenIpv6, &self.half_open_ipv6), (TableKind::FlowsIpv6, &self.flows_ipv6));
        reading.tables.sort_by_key(|usage| usage.table.index());
        Ok(Snapshot {
            taken_unix_ns: moment.now_ns.saturating_add_signed(moment.unix_offset_ns),
            flows: reading.flows,
            totals,
            tables: reading.tables,
            sockets: socket_view(),
        })
    }
}

/// What the socket table of this network namespace says; `None` where the kernel does not show it.
fn socket_view() -> Option<SocketView> {
    let listeners = sockets::listeners().inspect_err(|error| tracing::debug!("{error}")).ok()?;
    Some(SocketView::new(&listeners, listeners::ephemeral_ports()))
}

impl PinnedMaps {
    /// Shows the record of every flow as it stands now to `visit`, one by one; the moment that they refer to, in
    /// nanoseconds since the Unix epoch. A flow that moves meanwhile is shown twice rather than never, and what is shown
    /// later is right.
    ///
    /// # Errors
    /// When the interfaces' names cannot be read.
    pub fn for_each_flow(&self, mut visit: impl FnMut(FlowRecord)) -> anyhow::Result<u64> {
        let moment = self.moment();
        let interfaces = InterfaceNames::read(self)?;
        let name = |index| interfaces.name(index);
        read_table(&self.half_open_ipv4, moment, name, |_, _, record| visit(record));
        read_table(&self.flows_ipv4, moment, name, |_, _, record| visit(record));
        read_table(&self.half_open_ipv6, moment, name, |_, _, record| visit(record));
        read_table(&self.flows_ipv6, moment, name, |_, _, record| visit(record));
        Ok(moment.now_ns.saturating_add_signed(moment.unix_offset_ns))
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

type Named<'a, A> = (TableKind, &'a MappedTable<A>);

struct Reading<'a> {
    moment: Moment<'a>,
    interfaces: &'a InterfaceNames,
    flows: Vec<FlowRecord>,
    tables: Vec<TableUsage>,
}

impl Reading<'_> {
    /// Both tables of one address family.
    fn family<A>(&mut self, half_open: Named<'_, A>, settled: Named<'_, A>)
    where
        FlowKey<A>: Key + Copy + Eq + Hash,
    {
        let mut candidates: Vec<(FlowKey<A>, FlowRecord)> = Vec::new();
        // Those that were about to move, however long ago they were seen.
        let mut leaving: HashSet<FlowKey<A>> = HashSet::new();
        let recently_ns = self.moment.now_ns.saturating_sub(TICKS_NS);
        self.table(half_open, |key, flow, record| {
            if Word(flow.word.0.get()).is_settled() {
                leaving.insert(*key);
            }
            candidates.push((*key, record));
        });
        let waiting: HashSet<FlowKey<A>> = candidates.iter().map(|(key, _)| *key).collect();
        let mut moved: HashSet<FlowKey<A>> = HashSet::new();
        let mut flows = std::mem::take(&mut self.flows);
        // Room for a full table is address space only, until it is used; growing would copy every record again. Where
        // even that is refused, it grows.
        let _ = flows.try_reserve(settled.1.capacity() as usize + candidates.len());
        self.table(settled, |key, flow, record| {
            // Most flows are older than this reading, and cost no lookup.
            if flow.last_seen_ns() >= recently_ns && waiting.contains(key) || leaving.contains(key) {
                moved.insert(*key);
            }
            flows.push(record);
        });
        flows.extend(candidates.into_iter().filter(|(key, _)| !moved.contains(key)).map(|(_, record)| record));
        self.flows = flows;
    }

    fn table<A>(&mut self, (table, map): Named<'_, A>, take: impl FnMut(&FlowKey<A>, &Flow, FlowRecord))
    where
        FlowKey<A>: Key,
    {
        let entries = read_table(map, self.moment, |index| self.interfaces.name(index), take);
        self.tables.push(TableUsage { table, entries, capacity: map.capacity() });
    }
}

/// Shows the flows of a table to `take`; how many entries it has, those included that are about to leave.
fn read_table<A>(
    table: &MappedTable<A>,
    moment: Moment<'_>,
    interface: impl Fn(u32) -> Option<Arc<str>>,
    mut take: impl FnMut(&FlowKey<A>, &Flow, FlowRecord),
) -> u64
where
    FlowKey<A>: Key,
{
    let mut entries = 0;
    table.for_each(|key, flow| {
        entries += 1;
        if !Word(flow.word.0.get()).has(Mark::Retired) {
            take(key, flow, FlowRecord::new(key, flow, moment, &interface));
        }
    });
    entries
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
    use super::*;

    #[test]
    fn a_name_ends_before_its_zeros_or_with_its_last_byte() {
        assert_eq!(&*name_of(b"eth0\0\0\0\0\0\0\0\0\0\0\0\0"), "eth0");
        assert_eq!(&*name_of(b"0123456789abcdef"), "0123456789abcdef");
    }
}
