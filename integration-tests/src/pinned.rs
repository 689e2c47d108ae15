//! What lies in a running agent's maps, read through their pins: flows and counters as the core has them.

use std::{collections::BTreeMap, fmt, mem, net::SocketAddr};

use aya::{
    Pod,
    maps::{HashMap, Map, MapData, PerCpuArray},
};
use tcp_observer_common::{
    abi::map,
    conn::{Flow, Half, Locality, Note, Role, Word},
    counters::Counters,
    flow::{FlowKey4, FlowKey6, Side},
    histogram::{HandshakePart, Histogram, by_role},
};

use crate::agent::Agent;

type FlowWords = [u64; size_of::<Flow>() / 8];
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
    for table in [map::HALF_OPEN_IPV4, map::FLOWS_IPV4] {
        for (bytes, flow) in entries::<[u8; 12]>(agent, table) {
            // SAFETY: a key is 12 bytes, of which any are one.
            let key = unsafe { mem::transmute::<[u8; 12], FlowKey4>(bytes) };
            let endpoint = |side| SocketAddr::from((key.addr(side)[0].to_ne_bytes(), key.port(side)));
            flows.insert(bytes.to_vec(), Observed::new(flow, endpoint));
        }
    }
    for table in [map::HALF_OPEN_IPV6, map::FLOWS_IPV6] {
        for (bytes, flow) in entries::<[u8; 36]>(agent, table) {
            // SAFETY: a key is 36 bytes, of which any are one.
            let key = unsafe { mem::transmute::<[u8; 36], FlowKey6>(bytes) };
            let octets = |side| -> [u8; 16] {
                let bytes = key.addr(side).map(u32::to_ne_bytes).concat();
                bytes.try_into().expect("four words")
            };
            let endpoint = |side| SocketAddr::from((octets(side), key.port(side)));
            flows.insert(bytes.to_vec(), Observed::new(flow, endpoint));
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

/// Takes the only settled IPv4 flow of a port out of its map.
#[track_caller]
pub fn forget(agent: &Agent<'_>, port: u16) {
    let (mut table, key, _) = settled_ipv4(agent, port);
    table.remove(&key).expect("the flow can be removed");
}

/// Puts the only settled IPv4 flow of a port into its map again, changed, and under the same key or another.
#[track_caller]
pub fn falsify(agent: &Agent<'_>, port: u16, change: impl FnOnce(&mut FlowKey4, &Flow)) {
    let (mut table, bytes, flow) = settled_ipv4(agent, port);
    // SAFETY: a key is 12 bytes, of which any are one.
    let mut key = unsafe { mem::transmute::<[u8; 12], FlowKey4>(bytes) };
    change(&mut key, &flow);
    // SAFETY: both are plain data of the same size, without padding.
    let (key, words) = unsafe { (mem::transmute::<FlowKey4, [u8; 12]>(key), mem::transmute::<Flow, FlowWords>(flow)) };
    table.insert(key, words, 0).expect("the flow can be written");
}

#[track_caller]
fn settled_ipv4(agent: &Agent<'_>, port: u16) -> (HashMap<MapData, [u8; 12], FlowWords>, [u8; 12], Flow) {
    let table = HashMap::try_from(open(agent, map::FLOWS_IPV4)).expect("the map is of this type");
    let mut found = entries::<[u8; 12]>(agent, map::FLOWS_IPV4).into_iter().filter(|(bytes, _)| {
        // SAFETY: a key is 12 bytes, of which any are one.
        let key = unsafe { mem::transmute::<[u8; 12], FlowKey4>(*bytes) };
        [key.low_port, key.high_port].contains(&port)
    });
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
fn entries<K: Pod>(agent: &Agent<'_>, name: &str) -> Vec<(K, Flow)> {
    let table = HashMap::<_, K, FlowWords>::try_from(open(agent, name)).expect("the map is of this type");
    // An entry may leave while the table is walked.
    let entries = table.iter().filter_map(Result::ok);
    // SAFETY: a flow is these words, of which any are one.
    entries.map(|(key, words)| (key, unsafe { mem::transmute::<FlowWords, Flow>(words) })).collect()
}

#[track_caller]
fn open(agent: &Agent<'_>, name: &str) -> Map {
    let path = agent.pin_dir().join(name);
    let data = MapData::from_pin(&path).unwrap_or_else(|error| panic!("cannot open `{}`: {error}", path.display()));
    Map::from_map_data(data).expect("a map of a known type")
}
