//! From maps to a [`Snapshot`] or an [`Overview`]: everything is read once, in the order in which flows move.
//!
//! A flow moves from the half-open table to the settled one. Half-open tables are read first, so that a flow which
//! moves meanwhile is found twice rather than never; the settled copy wins.

use std::{collections::HashSet, hash::Hash, io, sync::Arc};

use anyhow::Context;
use foldhash::fast::RandomState;
use tcp_observer_common::{
    abi::InterfaceName,
    conn::{Flow, Mark, Word},
    counters::{Counters, PORT_SLOTS, TableKind},
    flow::FlowKey,
    histogram::{HISTOGRAMS, Histogram},
};

use super::{clock, listeners, mapped::MappedTable, maps::PinnedMaps, sockets};
use crate::{
    snapshot::{FlowRecord, Key, Moment, Overview, Snapshot, SocketView, Standing, TableUsage, Totals, census::Census},
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
        let mut flows = Vec::new();
        // Room for full tables is address space only, until it is used; growing would copy every record again. Where
        // even that is refused, it grows.
        let _ = flows.try_reserve(self.capacity() as usize);
        let tables = self.read(&Records { moment, interfaces }, |record| flows.push(record));
        let taken_unix_ns = moment.unix_ns(moment.now_ns);
        Ok(Snapshot { taken_unix_ns, flows, totals, tables, sockets: socket_view() })
    }

    fn overview(&self) -> anyhow::Result<Overview> {
        let totals = self.totals()?;
        let sockets = socket_view();
        let moment = self.moment();
        let now_unix_ns = moment.unix_ns(moment.now_ns);
        let mut census = Census::default();
        let tables = self.read(&Standings { moment }, |flow| census.add(&flow, now_unix_ns, sockets.as_ref()));
        Ok(Overview { census, totals, tables, sockets })
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
        let records = Records { moment, interfaces: InterfaceNames::read(self)? };
        read_table(&self.half_open_ipv4, &records, |_, _, record| visit(record));
        read_table(&self.flows_ipv4, &records, |_, _, record| visit(record));
        read_table(&self.half_open_ipv6, &records, |_, _, record| visit(record));
        read_table(&self.flows_ipv6, &records, |_, _, record| visit(record));
        Ok(moment.unix_ns(moment.now_ns))
    }

    /// Shows every flow to `take`, once; how full the tables are.
    fn read<V: View>(&self, view: &V, mut take: impl FnMut(V::Seen)) -> Vec<TableUsage> {
        let mut reading = Reading { view, tables: Vec::new() };
        let (half_open, settled) = (&self.half_open_ipv4, &self.flows_ipv4);
        reading.family((TableKind::HalfOpenIpv4, half_open), (TableKind::FlowsIpv4, settled), &mut take);
        let (half_open, settled) = (&self.half_open_ipv6, &self.flows_ipv6);
        reading.family((TableKind::HalfOpenIpv6, half_open), (TableKind::FlowsIpv6, settled), &mut take);
        reading.tables.sort_by_key(|usage| usage.table.index());
        reading.tables
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

/// What a reading makes of each flow.
trait View {
    type Seen;

    /// The moment as of which flows are seen.
    fn moment(&self) -> Moment<'_>;

    fn of<A>(&self, key: &FlowKey<A>, flow: &Flow) -> Self::Seen
    where
        FlowKey<A>: Key;
}

/// All that is known of it.
struct Records<'a> {
    moment: Moment<'a>,
    interfaces: InterfaceNames,
}

impl View for Records<'_> {
    type Seen = FlowRecord;

    fn moment(&self) -> Moment<'_> {
        self.moment
    }

    fn of<A>(&self, key: &FlowKey<A>, flow: &Flow) -> FlowRecord
    where
        FlowKey<A>: Key,
    {
        FlowRecord::new(key, flow, self.moment, |index| self.interfaces.name(index))
    }
}

/// What is counted of it.
struct Standings<'a> {
    moment: Moment<'a>,
}

impl View for Standings<'_> {
    type Seen = Standing;

    fn moment(&self) -> Moment<'_> {
        self.moment
    }

    #[inline]
    fn of<A>(&self, key: &FlowKey<A>, flow: &Flow) -> Standing
    where
        FlowKey<A>: Key,
    {
        Standing::new(key, flow, self.moment)
    }
}

type Named<'a, A> = (TableKind, &'a MappedTable<A>);

struct Reading<'a, V> {
    view: &'a V,
    tables: Vec<TableUsage>,
}

impl<V: View> Reading<'_, V> {
    /// Both tables of one address family.
    fn family<A>(&mut self, half_open: Named<'_, A>, settled: Named<'_, A>, take: &mut impl FnMut(V::Seen))
    where
        FlowKey<A>: Key + Copy + Eq + Hash,
    {
        let mut candidates: Vec<(FlowKey<A>, V::Seen)> = Vec::new();
        // Those that were about to move, however long ago they were seen.
        let mut leaving = HashSet::<FlowKey<A>, RandomState>::default();
        self.table(half_open, |key, flow, seen| {
            if Word(flow.word.0.get()).is_settled() {
                leaving.insert(*key);
            }
            candidates.push((*key, seen));
        });
        // Settled flows that may have been half open when those were read. Most are older than this reading, and cost
        // nothing.
        let mut moved = HashSet::<FlowKey<A>, RandomState>::default();
        let recently_ns = self.view.moment().now_ns.saturating_sub(TICKS_NS);
        self.table(settled, |key, flow, seen| {
            if flow.last_seen_ns() >= recently_ns && !candidates.is_empty() || leaving.contains(key) {
                moved.insert(*key);
            }
            take(seen);
        });
        candidates.into_iter().filter(|(key, _)| !moved.contains(key)).for_each(|(_, seen)| take(seen));
    }

    fn table<A>(&mut self, (table, map): Named<'_, A>, take: impl FnMut(&FlowKey<A>, &Flow, V::Seen))
    where
        FlowKey<A>: Key,
    {
        let entries = read_table(map, self.view, take);
        self.tables.push(TableUsage { table, entries, capacity: map.capacity() });
    }
}

/// Shows the flows of a table to `take`; how many entries it has, those included that are about to leave.
fn read_table<A, V: View>(table: &MappedTable<A>, view: &V, mut take: impl FnMut(&FlowKey<A>, &Flow, V::Seen)) -> u64
where
    FlowKey<A>: Key,
{
    let mut entries = 0;
    table.for_each(|key, flow| {
        entries += 1;
        if !Word(flow.word.0.get()).has(Mark::Retired) {
            take(key, flow, view.of(key, flow));
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
