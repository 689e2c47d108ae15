//! Where a script is played: an observer in memory, and the setting in which its segments become frames.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    rc::Rc,
};

use tcp_observer_common::{
    conn::{Flow, Sockets, adopted},
    counters::{HookDirection, Skip},
    flow::{FlowKey, FlowKey4, FlowKey6, Ipv4, Ipv6, Side, ipv4_word, ipv6_words},
    observer::{Table as _, Tap},
    sweep::{Found, end_without_socket},
    wire::Link,
};

use super::script::{Damage, End, Options, PAIRS, Script, Spoken, What};
use crate::{
    frames::{Frame, SYN},
    memory::Memory,
};

/// What may differ between two stages without making a difference.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Where the clients' numbers begin, and the servers'.
    pub bases: [u32; 2],
    /// Whether the servers' addresses are the lower ones instead of the clients'.
    pub swapped: bool,
    pub is_v6: bool,
    pub wrapping: Wrapping,
    pub start_ns: u64,
}

impl Default for Setting {
    fn default() -> Self {
        let start_ns = 1_000_000_000_000;
        Self { bases: [1_000_000, 5_000_000], swapped: false, is_v6: false, wrapping: Wrapping::Plain, start_ns }
    }
}

/// What is around a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapping {
    Plain,
    OneTag,
    TwoTags,
    /// IPv4's options, IPv6's extension headers.
    Headers,
    /// From the IP header on.
    NoEthernet,
    /// Bytes that belong to no packet: short frames are filled up.
    Trailer,
    FirstFragment,
}

impl Wrapping {
    pub const ALL: [Self; 7] =
        [Self::Plain, Self::OneTag, Self::TwoTags, Self::Headers, Self::NoEthernet, Self::Trailer, Self::FirstFragment];
}

/// The key of a flow, of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    pub low: SocketAddr,
    pub high: SocketAddr,
}

/// What an act came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Came {
    /// A packet was an update, or was skipped.
    Packet(Result<(), Skip>),
    /// Something else than a packet.
    Else,
}

/// An observer, and what has happened before it.
pub struct Stage {
    pub memory: Memory,
    pub setting: Setting,
    last: Option<Spoken>,
}

impl Stage {
    pub fn new(script: &Script, setting: Setting) -> Self {
        let mut memory = Memory::new(setting.start_ns);
        memory.keeps_all = script.keeps_all;
        let stage = Self { memory, setting, last: None };
        let ends = [End::Client, End::Server];
        let local = ends.into_iter().zip(script.local).filter(|&(_, is_local)| is_local);
        let local: Vec<_> = local.map(|(end, _)| stage.addr(end)).collect();
        let mut stage = stage;
        stage.memory.set_local(&local);
        stage
    }

    fn addr(&self, end: End) -> IpAddr {
        let last = if (end == End::Client) != self.setting.swapped { 1 } else { 2 };
        if self.setting.is_v6 {
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).into()
        } else {
            Ipv4Addr::new(192, 0, 2, last as u8).into()
        }
    }

    /// Well-known, registered and ephemeral ports: by these roles are guessed.
    pub fn endpoint(&self, pair: usize, end: End) -> SocketAddr {
        let [client, server] = [[40_000, 443], [40_001, 8080], [22, 443], [5000, 50_000]][pair];
        SocketAddr::new(self.addr(end), if end == End::Client { client } else { server })
    }

    pub fn now_ns(&self) -> u64 {
        self.memory.now_ns.get()
    }

    pub fn wait(&self, ns: u64) {
        self.memory.now_ns.set(self.now_ns() + ns);
    }

    /// The segment that was spoken last.
    pub fn last(&self) -> Option<&Spoken> {
        self.last.as_ref()
    }

    pub fn perform(&mut self, what: &What) -> Came {
        match what {
            What::Spoken(spoken) => {
                self.last = Some(spoken.clone());
                Came::Packet(self.take(spoken))
            }
            What::Again { elsewhere } => {
                let Some(last) = self.last.clone() else { return Came::Else };
                Came::Packet(self.take(&if *elsewhere { moved(&last, ELSEWHERE) } else { last }))
            }
            What::Unreachable { pair, from, seq, code } => Came::Packet(self.take_quote(*pair, *from, *seq, *code)),
            What::Damaged(spoken, damage) => {
                let bytes = damaged(self.frame(spoken).bytes(), *damage);
                Came::Packet(self.memory.take(Link::Ethernet, tap(spoken), &bytes, 1))
            }
            What::Noise(bytes) => {
                let link = if bytes[1] & 1 == 0 { Link::Ethernet } else { Link::Ip };
                Came::Packet(self.memory.take(link, Tap::new(1, HookDirection::Ingress), bytes, 1))
            }
            What::Sweep => {
                self.memory.sweep();
                Came::Else
            }
            What::Adopted { pair, states } => {
                self.adopt(*pair, *states);
                Came::Else
            }
            What::Gone { pair } => {
                self.lose_socket(*pair);
                Came::Else
            }
        }
    }

    /// Shows the observer a segment in this stage's setting.
    pub fn take(&self, spoken: &Spoken) -> Result<(), Skip> {
        let frame = self.frame(spoken);
        match self.setting.wrapping {
            Wrapping::NoEthernet => self.memory.take(Link::Ip, tap(spoken), &frame.packet(), 1),
            Wrapping::Trailer => {
                let mut bytes = frame.bytes();
                bytes.extend([0xee; 6]);
                self.memory.take(Link::Ethernet, tap(spoken), &bytes, 1)
            }
            Wrapping::Plain | Wrapping::OneTag | Wrapping::TwoTags | Wrapping::Headers | Wrapping::FirstFragment => {
                self.memory.take(Link::Ethernet, tap(spoken), &frame.bytes(), 1)
            }
        }
    }

    fn frame(&self, spoken: &Spoken) -> Frame {
        let Setting { bases, is_v6, wrapping, .. } = self.setting;
        let (source, destination) =
            (self.endpoint(spoken.pair, spoken.from), self.endpoint(spoken.pair, other(spoken.from)));
        let (own, peer) = (bases[spoken.from as usize], bases[other(spoken.from) as usize]);
        let ack = spoken.ack.map_or(0, |ack| ack.wrapping_add(peer));
        let mut frame = Frame::new(source, destination, spoken.flags, spoken.seq.wrapping_add(own), ack);
        frame.window = spoken.window;
        frame.accurate_ecn = spoken.accurate_ecn;
        frame.tcp_options = written(&spoken.options, peer);
        frame.payload = vec![b'x'; usize::from(spoken.payload_bytes)];
        match wrapping {
            Wrapping::Plain | Wrapping::NoEthernet | Wrapping::Trailer => {}
            Wrapping::OneTag => frame.vlans = vec![(0x8100, 7)],
            Wrapping::TwoTags => frame.vlans = vec![(0x88a8, 7), (0x8100, 8)],
            Wrapping::Headers if is_v6 => frame.extensions = vec![(0, vec![1, 4]), (60, vec![1, 12, 0, 0])],
            Wrapping::Headers => frame.ip_options = vec![0x94, 4, 0, 0, 1, 1, 0],
            Wrapping::FirstFragment => frame.fragment = Some((0, true)),
        }
        frame
    }

    fn take_quote(&self, pair: usize, from: End, seq: u32, code: u8) -> Result<(), Skip> {
        let (source, destination) = (self.endpoint(pair, from), self.endpoint(pair, other(from)));
        let seq = seq.wrapping_add(self.setting.bases[from as usize]);
        let mut frame = Frame::new(source, destination, SYN, seq, 0);
        // Port unreachable, in each family's numbers; or that time was exceeded.
        frame.quoted = Some(match (self.setting.is_v6, code & 1) {
            (false, 0) => (3, 3),
            (true, 0) => (1, 4),
            (false, _) => (11, 0),
            (true, _) => (3, 0),
        });
        self.memory.take(Link::Ethernet, Tap::new(1, HookDirection::Ingress), &frame.bytes(), 1)
    }

    fn key4(&self, pair: usize) -> Option<(FlowKey4, Side)> {
        match (self.endpoint(pair, End::Client), self.endpoint(pair, End::Server)) {
            (SocketAddr::V4(client), SocketAddr::V4(server)) => {
                Some(FlowKey::of(ipv4_word(*client.ip()), client.port(), ipv4_word(*server.ip()), server.port()))
            }
            _ => None,
        }
    }

    fn key6(&self, pair: usize) -> Option<(FlowKey6, Side)> {
        match (self.endpoint(pair, End::Client), self.endpoint(pair, End::Server)) {
            (SocketAddr::V6(client), SocketAddr::V6(server)) => {
                Some(FlowKey::of(ipv6_words(*client.ip()), client.port(), ipv6_words(*server.ip()), server.port()))
            }
            _ => None,
        }
    }

    /// The flow of a pair of endpoints, and on which side the client is.
    pub fn flow(&self, pair: usize) -> Option<(Rc<Flow>, Side)> {
        if let Some((key, side)) = self.key4(pair) {
            let flow = self.memory.flows4.find(&key).or_else(|| self.memory.half_open4.find(&key));
            return flow.map(|flow| (flow, side));
        }
        let (key, side) = self.key6(pair)?;
        let flow = self.memory.flows6.find(&key).or_else(|| self.memory.half_open6.find(&key));
        flow.map(|flow| (flow, side))
    }

    /// Every flow that is known: its key, the flow, and whether it is among the settled ones.
    pub fn flows(&self) -> Vec<(Id, Rc<Flow>, bool)> {
        let mut flows = Vec::new();
        let mut add = |ends: [SocketAddr; 2], flow: &Flow, is_settled: bool| {
            let [low, high] = ends;
            flows.push((Id { low, high }, Rc::new(flow.clone()), is_settled));
        };
        for (table, is_settled) in [(&self.memory.half_open4, false), (&self.memory.flows4, true)] {
            table.for_each(|key, flow| {
                let end = |addr: Ipv4, port| SocketAddr::new(Ipv4Addr::from(u32::from_be(addr[0])).into(), port);
                add([end(key.low_addr, key.low_port), end(key.high_addr, key.high_port)], flow, is_settled);
            });
        }
        for (table, is_settled) in [(&self.memory.half_open6, false), (&self.memory.flows6, true)] {
            table.for_each(|key, flow| {
                let bits = |addr: Ipv6| addr.iter().fold(0, |bits, &word| bits << 32 | u128::from(u32::from_be(word)));
                let end = |addr: Ipv6, port| SocketAddr::new(Ipv6Addr::from(bits(addr)).into(), port);
                add([end(key.low_addr, key.low_port), end(key.high_addr, key.high_port)], flow, is_settled);
            });
        }
        flows
    }

    /// As the agent takes in what the socket table tells: only what has a local end, and only what is not known.
    fn adopt(&self, pair: usize, states: [Option<tcp_observer_common::conn::State>; 2]) {
        let local = [End::Client, End::Server].map(|end| match self.endpoint(pair, end).ip() {
            IpAddr::V4(addr) => self.memory.local4.contains(&ipv4_word(addr)),
            IpAddr::V6(addr) => self.memory.local6.contains(&ipv6_words(addr)),
        });
        let states = [states[0].filter(|_| local[0]), states[1].filter(|_| local[1])];
        if self.flow(pair).is_some() {
            return;
        }
        let side = self.key4(pair).map(|(_, side)| side).or_else(|| self.key6(pair).map(|(_, side)| side));
        let Some(word) = adopted(Sockets { originator: side.expect("a pair has a key"), states }) else { return };
        let now_ns = self.now_ns();
        let flow = Flow::adopted(word, now_ns, now_ns);
        if let Some((key, _)) = self.key4(pair) {
            let table = if word.is_settled() { &self.memory.flows4 } else { &self.memory.half_open4 };
            table.put(&key, &flow).expect("there is room, and the key is new");
        }
        if let Some((key, _)) = self.key6(pair) {
            let table = if word.is_settled() { &self.memory.flows6 } else { &self.memory.half_open6 };
            table.put(&key, &flow).expect("there is room, and the key is new");
        }
    }

    fn lose_socket(&self, pair: usize) {
        let Some((flow, _)) = self.flow(pair) else { return };
        let word = flow.word.load();
        if word.phase() == tcp_observer_common::conn::Phase::Closed {
            return;
        }
        let found = Found { word, last_seen_ns: flow.last_seen_ns() };
        if let Some((key, _)) = self.key4(pair) {
            end_without_socket::<Ipv4, _>(&self.memory, &key, &flow, found, self.now_ns());
        }
        if let Some((key, _)) = self.key6(pair) {
            end_without_socket::<Ipv6, _>(&self.memory, &key, &flow, found, self.now_ns());
        }
    }
}

/// All pairs of endpoints.
pub fn pairs() -> std::ops::Range<usize> {
    0..PAIRS
}

pub fn other(end: End) -> End {
    match end {
        End::Client => End::Server,
        End::Server => End::Client,
    }
}

fn tap(spoken: &Spoken) -> Tap {
    Tap::new(spoken.interface, spoken.direction)
}

/// How far from its own interface a segment is seen again.
pub const ELSEWHERE: u32 = 10;

/// The same segment at the hook of an interface so much further on.
pub fn moved(spoken: &Spoken, by: u32) -> Spoken {
    Spoken { interface: spoken.interface + by, ..spoken.clone() }
}

fn damaged(mut bytes: Vec<u8>, damage: Damage) -> Vec<u8> {
    match damage {
        Damage::Set { at, value } => {
            let at = usize::from(at) % bytes.len();
            bytes[at] = value;
        }
        Damage::Flip { at, bit } => {
            let at = usize::from(at) % bytes.len();
            bytes[at] ^= 1 << bit;
        }
        Damage::Cut { to } => bytes.truncate(usize::from(to) % bytes.len()),
        Damage::Pad { by } => bytes.resize(bytes.len() + usize::from(by), 0xee),
    }
    bytes
}

/// The options' bytes (<https://www.iana.org/assignments/tcp-parameters>).
fn written(options: &Options, peer_base: u32) -> Vec<u8> {
    let Options { mss, shift, sack_permitted, timestamps, fast_open, sack } = *options;
    let mut bytes = Vec::new();
    if let Some(mss) = mss {
        bytes.extend([2, 4]);
        bytes.extend(mss.to_be_bytes());
    }
    if let Some(shift) = shift {
        bytes.extend([3, 3, shift]);
    }
    if sack_permitted {
        bytes.extend([4, 2]);
    }
    if let Some((value, echo)) = timestamps {
        bytes.extend([8, 10]);
        bytes.extend(value.to_be_bytes());
        bytes.extend(echo.to_be_bytes());
    }
    if fast_open {
        bytes.extend([34, 2]);
    }
    if let Some((first, end)) = sack {
        bytes.extend([5, 10]);
        bytes.extend(first.wrapping_add(peer_base).to_be_bytes());
        bytes.extend(end.wrapping_add(peer_base).to_be_bytes());
    }
    bytes
}
