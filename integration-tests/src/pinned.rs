//! What lies in a running agent's maps, read through their pins: flows and counters as the core has them.

use std::{collections::BTreeMap, fmt, mem, net::SocketAddr};

use aya::maps::{Map, MapData, PerCpuArray};
use tcp_observer::snapshot::Key;
use tcp_observer_common::{
    abi::map,
    conn::{Flow, Half, Locality, Note, Role, Word},
    counters::Counters,
    flow::{FlowKey4, Ipv4, Ipv6, Side},
    histogram::{HandshakePart, Histogram, by_role},
};

use crate::{agent::Agent, tables::FlowTable};

type CounterWords = [u64; size_of::<Counters>() / 8];
type HistogramWords = [u64; size_of::<Histogram>() / 8];

/// A flow, and whose it is.
#[derive(Clone)]
pub struct Observed {
    pub originator: SocketAddr,
    pub responder: SocketAddr,
    pub flow: Flow,
}

impl Observed {
    pub fn word(&self) -> Word {
        self.flow.word.load()
    }

    pub fn half(&self, role: Role) -> &Half {
        self.flow.half(self.word().side_of(role))
    }

    pub fn has(&self, note: Note) -> bool {
        self.flow.story.has(note)
    }

    fn new(flow: Flow, endpoint: impl Fn(Side) -> SocketAddr) -> Self {
        let word = flow.word.load();
        let [originator, responder] = [Role::Originator, Role::Responder].map(|role| endpoint(word.side_of(role)));
        Self { originator, responder, flow }
    }
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let notes: Vec<_> = self.flow.story.notes().map(Note::label).collect();
        let states = [Role::Originator, Role::Responder].map(|role| self.word().state(role));
        write!(f, "{} → {} {states:?} {:?} {notes:?}", self.originator, self.responder, self.word().outcome())
    }
}

/// The flows that one of these ports belongs to, each once.
#[track_caller]
pub fn flows_of_port(agent: &Agent<'_>, port: u16) -> Vec<Observed> {
    let mut flows = BTreeMap::new();
    // As they move: what is found twice is settled.
    for name in [map::HALF_OPEN_IPV4, map::FLOWS_IPV4] {
        for (key, flow) in table::<Ipv4>(agent, name).entries() {
            let endpoint = |side| SocketAddr::from(key.endpoint(side));
            flows.insert(Side::BOTH.map(endpoint), Observed::new(flow, endpoint));
        }
    }
    for name in [map::HALF_OPEN_IPV6, map::FLOWS_IPV6] {
        for (key, flow) in table::<Ipv6>(agent, name).entries() {
            let endpoint = |side| SocketAddr::from(key.endpoint(side));
            flows.insert(Side::BOTH.map(endpoint), Observed::new(flow, endpoint));
        }
    }
    flows.into_values().filter(|flow| [flow.originator, flow.responder].iter().any(|end| end.port() == port)).collect()
}

/// The only flow of a port.
///
/// # Errors
/// When there is another number of them.
pub fn flow_of_port(agent: &Agent<'_>, port: u16) -> Result<Observed, String> {
    let mut flows = flows_of_port(agent, port);
    match (flows.pop(), flows.len()) {
        (Some(flow), 0) => Ok(flow),
        (_, others) => Err(format!("{others} flows beside one, or none")),
    }
}

/// Takes the only settled IPv4 flow of a port out of its table.
#[track_caller]
pub fn forget(agent: &Agent<'_>, port: u16) {
    let (table, key, _) = settled_ipv4(agent, port);
    assert!(table.remove(&key), "the flow can be removed");
}

/// Changes the only settled IPv4 flow of a port in its table.
#[track_caller]
pub fn falsify(agent: &Agent<'_>, port: u16, change: impl FnOnce(&Flow)) {
    let (table, key, _) = settled_ipv4(agent, port);
    table.change(&key, change);
}

/// Puts a copy of the only settled IPv4 flow of a port into its table, under another key.
#[track_caller]
pub fn invent(agent: &Agent<'_>, port: u16, change: impl FnOnce(&mut FlowKey4)) {
    let (table, mut key, flow) = settled_ipv4(agent, port);
    change(&mut key);
    table.put_anywhere(key, flow);
}

#[track_caller]
fn settled_ipv4(agent: &Agent<'_>, port: u16) -> (FlowTable<Ipv4>, FlowKey4, Flow) {
    let table = table::<Ipv4>(agent, map::FLOWS_IPV4);
    let mut found = table.entries().into_iter().filter(|(key, _)| [key.low_port, key.high_port].contains(&port));
    let (key, flow) = found.next().unwrap_or_else(|| panic!("no settled flow of port {port}"));
    assert!(found.next().is_none(), "several flows of port {port}");
    (table, key, flow)
}

/// All CPUs' counters, of packets and of the sweep.
#[track_caller]
pub fn counters(agent: &Agent<'_>) -> Counters {
    let array = PerCpuArray::<_, CounterWords>::try_from(open(agent, map::COUNTERS)).expect("the map is of this type");
    let mut counters = Counters::ZERO;
    for index in 0..2 {
        for words in array.get(&index, 0).expect("the counters can be read").iter() {
            // SAFETY: counters are these words.
            counters.add(&unsafe { mem::transmute::<CounterWords, Counters>(*words) });
        }
    }
    counters
}

/// How many handshakes there are in the histogram of this part for this role, repeated segments or not.
#[track_caller]
pub fn handshakes(agent: &Agent<'_>, part: HandshakePart, role: Locality) -> u64 {
    let array =
        PerCpuArray::<_, HistogramWords>::try_from(open(agent, map::HANDSHAKES)).expect("the map is of this type");
    let mut sum = 0;
    for repeated in [false, true] {
        for words in array.get(&by_role(part, role, repeated), 0).expect("a histogram can be read").iter() {
            // SAFETY: a histogram is these words.
            let histogram = unsafe { mem::transmute::<HistogramWords, Histogram>(*words) };
            sum += histogram.buckets.iter().sum::<u64>();
        }
    }
    sum
}

/// How often a note was counted.
#[track_caller]
pub fn noted(agent: &Agent<'_>, note: Note) -> u64 {
    counters(agent).notes[note as usize]
}

#[track_caller]
fn table<A: Copy + Eq>(agent: &Agent<'_>, name: &str) -> FlowTable<A> {
    FlowTable::new(name, |name| data(agent, name))
}

#[track_caller]
fn open(agent: &Agent<'_>, name: &str) -> Map {
    Map::from_map_data(data(agent, name)).expect("a map of a known type")
}

#[track_caller]
fn data(agent: &Agent<'_>, name: &str) -> MapData {
    let path = agent.pin_dir().join(name);
    MapData::from_pin(&path).unwrap_or_else(|error| panic!("cannot open `{}`: {error}", path.display()))
}
