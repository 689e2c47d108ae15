//! A snapshot at a glance: what is there by state, what is half open, how handshakes go and how connections end.
//!
//! Flows are counted one by one into a [`Tally`], so that none needs to be kept, and all is computed once into
//! [`Summary`], which is written as text for people or as one JSON object. Where nobody said which
//! addresses are local there are no roles: counts by role then stand under none, and closes go by who opened the
//! connection instead of by whose side they came from.

mod prefixes;
mod quantile;
mod text;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::{IpAddr, SocketAddr},
};

use serde::Serialize;
use tcp_observer_common::{
    conn::{How, Initiator, Locality, Note, Outcome, State},
    counters::{Endedness, PORT_SLOTS, Skip, Unreachable},
    histogram::{HandshakePart, Histogram, by_port, by_role, half_close},
};

use self::{
    prefixes::{Busy, Prefixes},
    quantile::Quantile,
};
use super::json::Timestamp;
use crate::snapshot::{
    FlowRecord, HalfOpen, PortsInUse, Snapshot, SocketView, Totals,
    census::{AGES, CLOSE_WAIT_AGES, Census, role_index},
    notable,
};

/// How the summary is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// Writes the summary of a snapshot.
///
/// # Errors
/// When `out` takes no more.
pub fn write(snapshot: &Snapshot, format: Format, out: &mut impl Write) -> io::Result<()> {
    let mut tally = Tally::default();
    snapshot.flows.iter().for_each(|flow| tally.add(flow, snapshot.taken_unix_ns, snapshot.sockets.as_ref()));
    write_tally(&tally, snapshot, format, out)
}

/// Writes the summary of flows that were counted and of all else that a snapshot knows; the flows in it do not matter.
///
/// # Errors
/// When `out` takes no more.
pub fn write_tally(tally: &Tally, snapshot: &Snapshot, format: Format, out: &mut impl Write) -> io::Result<()> {
    let summary = Summary::of(tally, snapshot);
    match format {
        Format::Text => text::write(&summary, out),
        Format::Json => {
            serde_json::to_writer(&mut *out, &summary)?;
            out.write_all(b"\n")
        }
    }
}

/// What a summary says of flows.
#[derive(Debug, Default)]
pub struct Tally {
    census: Census,
    prefixes: Prefixes,
    /// Closes by who began and how.
    closes: [[u64; How::COUNT]; Initiator::COUNT],
    has_roles: bool,
}

impl Tally {
    /// Counts a flow as it stands at this moment.
    /// `sockets` say who listens, where that is known.
    pub fn add(&mut self, flow: &FlowRecord, now_unix_ns: u64, sockets: Option<&SocketView>) {
        self.census.add_record(flow, now_unix_ns, sockets);
        self.prefixes.add(flow);
        self.has_roles |= flow.role.is_some();
        if let Some(how) = flow.close.how {
            self.closes[flow.close.initiator.unwrap_or(Initiator::Nobody).index()][how.index()] += 1;
        }
    }
}

/// A word, and how often.
type Counts = Vec<(&'static str, u64)>;

#[derive(Serialize)]
struct Summary {
    taken: Timestamp,
    flows: u64,
    connections: Vec<ByRole>,
    half_open: Vec<HalfOpenByRole>,
    attempts: Vec<ByRole>,
    closes: Vec<Closes>,
    handshakes: Vec<HandshakeTimes>,
    /// What did not occur is left out.
    half_closes: Vec<HalfCloseTimes>,
    #[serde(serialize_with = "as_map")]
    close_wait: Counts,
    /// Notes that did not occur are left out.
    #[serde(serialize_with = "as_map")]
    recognised: Counts,
    /// Likewise.
    #[serde(serialize_with = "as_map")]
    unreachable: Counts,
    listen_overflow: ListenOverflow,
    ephemeral_ports: Vec<EphemeralPorts>,
    busiest_prefixes: Vec<Busy>,
    tables: Vec<Table>,
    /// Reasons that did not occur are left out.
    #[serde(serialize_with = "as_map")]
    skipped_packets: Counts,
}

/// Counts of what `role` says; `None` where roles are not known.
#[derive(Serialize)]
struct ByRole {
    role: Option<&'static str>,
    #[serde(serialize_with = "as_map")]
    counts: Counts,
}

#[derive(Serialize)]
struct HalfOpenByRole {
    kind: &'static str,
    role: Option<&'static str>,
    #[serde(serialize_with = "as_map")]
    ages: Counts,
}

#[derive(Serialize)]
struct Closes {
    initiator: &'static str,
    #[serde(serialize_with = "as_map")]
    how: Counts,
}

#[derive(Serialize)]
struct HandshakeTimes {
    /// `None` for all ports together.
    port: Option<String>,
    role: Option<&'static str>,
    segment: &'static str,
    #[serde(flatten)]
    times: Times,
}

/// How many values there were, and how they are spread.
#[derive(Serialize)]
struct Times {
    count: u64,
    p50: Option<Quantile>,
    p90: Option<Quantile>,
    p99: Option<Quantile>,
    max: Option<Quantile>,
}

#[derive(Serialize)]
struct HalfCloseTimes {
    role: Option<&'static str>,
    #[serde(flatten)]
    times: Times,
}

impl Times {
    fn of(histogram: &Histogram) -> Self {
        Self {
            count: histogram.count(),
            p50: quantile::percentile(histogram, 50),
            p90: quantile::percentile(histogram, 90),
            p99: quantile::percentile(histogram, 99),
            max: quantile::maximum(histogram),
        }
    }
}

/// What speaks for listeners that cannot keep up.
#[derive(Serialize)]
struct ListenOverflow {
    synack_after_ack: u64,
    synack_after_data: u64,
    /// SYNs that wait for an answer by the port that is listened on; `None`, as the next one, where it is not known who
    /// listens.
    unanswered_syns: Option<BTreeMap<u16, u64>>,
    overflowing_listeners: Option<u64>,
}

#[derive(Serialize)]
struct EphemeralPorts {
    local: IpAddr,
    remote: SocketAddr,
    in_use: u64,
    available: Option<u64>,
}

#[derive(Serialize)]
struct Table {
    table: &'static str,
    entries: u64,
    capacity: u64,
}

/// What the roles of a snapshot are called: nothing, where nobody said which addresses are local.
struct Roles {
    are_known: bool,
}

impl Roles {
    fn label(&self, role: Locality) -> Option<&'static str> {
        self.are_known.then(|| role.label())
    }

    /// Roles under which a counter can have counted. Without local addresses every flow is neither end's.
    fn counted(&self) -> &'static [Locality] {
        if self.are_known { Locality::ALL } else { &[Locality::Forwarded] }
    }
}

impl Summary {
    fn of(tally: &Tally, snapshot: &Snapshot) -> Self {
        let census = &tally.census;
        let roles = Roles { are_known: census.flows == 0 || tally.has_roles };
        let totals = &snapshot.totals;
        let skipped = Skip::ALL.iter().map(|reason| (reason.label(), totals.counters.skipped[reason.index()]));
        Self {
            taken: Timestamp(snapshot.taken_unix_ns),
            flows: census.flows,
            connections: connections(census, &roles),
            half_open: half_open(census, &roles),
            attempts: attempts(totals, &roles),
            closes: if roles.are_known { closes_by_side(totals) } else { closes_by_opener(tally) },
            handshakes: handshakes(totals, &roles),
            half_closes: half_closes(totals, &roles),
            close_wait: CLOSE_WAIT_AGES.iter().zip(census.close_wait).map(|(&(_, age), count)| (age, count)).collect(),
            recognised: occurred(notable().map(|note| (note.label(), totals.counters.notes[note.index()]))),
            unreachable: occurred(
                Unreachable::ALL.iter().map(|code| (code.label(), totals.counters.unreachable[code.index()])),
            ),
            listen_overflow: listen_overflow(snapshot, census),
            ephemeral_ports: ephemeral_ports(snapshot, census),
            busiest_prefixes: tally.prefixes.busiest(),
            tables: (snapshot.tables.iter())
                .map(|usage| Table { table: usage.table.label(), entries: usage.entries, capacity: usage.capacity })
                .collect(),
            skipped_packets: occurred(skipped),
        }
    }
}

/// Without what did not.
fn occurred(counts: impl Iterator<Item = (&'static str, u64)>) -> Counts {
    counts.filter(|&(_, count)| count > 0).collect()
}

/// The roles that flows have, each with its place in the census.
fn census_roles(roles: &Roles) -> Vec<(usize, Option<&'static str>)> {
    match roles.are_known {
        true => Locality::ALL.iter().map(|role| (role.index(), Some(role.label()))).collect(),
        false => vec![(role_index(None), None)],
    }
}

fn connections(census: &Census, roles: &Roles) -> Vec<ByRole> {
    let counts = |role: usize| State::ALL.iter().map(move |state| (state.label(), census.states[role][state.index()]));
    census_roles(roles).into_iter().map(|(index, role)| ByRole { role, counts: counts(index).collect() }).collect()
}

fn half_open(census: &Census, roles: &Roles) -> Vec<HalfOpenByRole> {
    let ages = |kind: HalfOpen, role: usize| {
        AGES.iter().zip(census.half_open[kind as usize][role]).map(|(&(_, age), count)| (age, count)).collect()
    };
    (HalfOpen::ALL.into_iter())
        .flat_map(|kind| census_roles(roles).into_iter().map(move |(index, role)| (kind, index, role)))
        .map(|(kind, index, role)| HalfOpenByRole { kind: kind.label(), role, ages: ages(kind, index) })
        .collect()
}

fn attempts(totals: &Totals, roles: &Roles) -> Vec<ByRole> {
    let count = |role: Locality, outcome: Outcome| -> u64 {
        totals.counters.attempts.iter().map(|port| port[role.index()][outcome.index()]).sum()
    };
    // Those in progress are the half-open ones, and those that were not seen were no attempts that we know of.
    let outcomes = || Outcome::ALL.iter().filter(|outcome| !matches!(outcome, Outcome::InProgress | Outcome::NotSeen));
    (roles.counted().iter())
        .map(|&role| ByRole {
            role: roles.label(role),
            counts: outcomes().map(|&outcome| (outcome.label(), count(role, outcome))).collect(),
        })
        .collect()
}

fn ways() -> impl Iterator<Item = How> {
    How::ALL.iter().copied().filter(|&how| how != How::Open)
}

fn closes_by_side(totals: &Totals) -> Vec<Closes> {
    let count = |initiator: Endedness, how: How| totals.counters.closes[initiator.index()][how.index()];
    (Endedness::ALL.iter())
        .map(|&initiator| Closes {
            initiator: initiator.label(),
            how: ways().map(|how| (how.label(), count(initiator, how))).collect(),
        })
        .collect()
}

fn closes_by_opener(tally: &Tally) -> Vec<Closes> {
    let count = |initiator: Initiator, how: How| tally.closes[initiator.index()][how.index()];
    (Initiator::ALL.iter())
        .map(|&initiator| Closes {
            initiator: initiator.label(),
            how: ways().map(|how| (how.label(), count(initiator, how))).collect(),
        })
        .collect()
}

fn half_closes(totals: &Totals, roles: &Roles) -> Vec<HalfCloseTimes> {
    let times = |&role: &Locality| {
        let histogram = totals.handshakes.get(half_close(role) as usize).copied().unwrap_or_default();
        (histogram.count() > 0).then(|| HalfCloseTimes { role: roles.label(role), times: Times::of(&histogram) })
    };
    roles.counted().iter().filter_map(times).collect()
}

fn listen_overflow(snapshot: &Snapshot, census: &Census) -> ListenOverflow {
    let noted = |note: Note| snapshot.totals.counters.notes[note.index()];
    ListenOverflow {
        synack_after_ack: noted(Note::SynAckAfterAck),
        synack_after_data: noted(Note::SynAckAfterData),
        unanswered_syns: snapshot.sockets.as_ref().map(|_| census.unanswered_by_listener.clone()),
        overflowing_listeners: snapshot.sockets.as_ref().map(|sockets| sockets.overflowing),
    }
}

fn ephemeral_ports(snapshot: &Snapshot, census: &Census) -> Vec<EphemeralPorts> {
    let available = snapshot.sockets.as_ref().and_then(|sockets| sockets.ephemeral_ports());
    let row =
        |&PortsInUse { local, remote, ports }: &PortsInUse| EphemeralPorts { local, remote, in_use: ports, available };
    census.ports_in_use().iter().map(row).collect()
}

/// By role, then by port and role; what did not occur is left out.
fn handshakes(totals: &Totals, roles: &Roles) -> Vec<HandshakeTimes> {
    let at = |place: u32| totals.handshakes.get(place as usize).copied().unwrap_or_default();
    let mut rows = Vec::new();
    let mut add = |port: Option<String>, role: Locality, part: HandshakePart, histogram: &Histogram| {
        if histogram.count() > 0 {
            rows.push(HandshakeTimes {
                port,
                role: roles.label(role),
                segment: part.label(),
                times: Times::of(histogram),
            });
        }
    };
    for &role in roles.counted() {
        for &part in HandshakePart::ALL {
            let mut sum = at(by_role(part, role, false));
            sum.add(&at(by_role(part, role, true)));
            add(None, role, part, &sum);
        }
    }
    // By number; a slot without one is the one for all others.
    let slots = (0..=PORT_SLOTS).map(|slot| (totals.ports.get(slot).copied().flatten(), slot));
    let mut by_number: BTreeMap<(bool, Option<u16>), Vec<usize>> = BTreeMap::new();
    for (port, slot) in slots {
        by_number.entry((port.is_none(), port)).or_default().push(slot);
    }
    for ((_, port), slots) in by_number {
        let name = port.map_or_else(|| "other".to_owned(), |port| port.to_string());
        for &role in roles.counted() {
            for &part in HandshakePart::ALL {
                let mut sum = Histogram::default();
                slots.iter().for_each(|&slot| sum.add(&at(by_port(slot, part, role))));
                add(Some(name.clone()), role, part, &sum);
            }
        }
    }
    rows
}

fn as_map<S: serde::Serializer>(counts: &Counts, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(counts.iter().copied())
}

#[cfg(test)]
mod tests;
