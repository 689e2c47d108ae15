//! Where a script is played: an observer in memory, and the setting in which its segments become frames.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    rc::Rc,
};

use tcp_observer_common::{
    conn::{Flow, Phase, Sockets, State, adopted},
    counters::{HookDirection, Skip},
    flow::{FlowKey, Ipv4, Ipv6, Side, ipv4_word, ipv6_words},
    observer::Tap,
    sweep::{Found, end_without_socket},
    wire::Link,
};

use super::script::{Damage, End, Options, PAIRS, Script, Spoken, What};
use crate::{
    frames::{Frame, SYN},
    memory::{AnyKey, Memory},
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

/// What an observer is shown.
#[derive(Clone, Debug)]
pub struct Packet {
    pub link: Link,
    pub tap: Tap,
    pub bytes: Vec<u8>,
}

/// What an act asks of an observer.
#[derive(Clone, Debug)]
pub enum Asked {
    Packet(Packet),
    Sweep,
    /// To take in a flow that the socket table tells of.
    Adopt(AnyKey, Box<Flow>),
    /// To end a flow whose sockets are gone.
    Lose(AnyKey),
    Nothing,
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
        let mut stage = Self { memory, setting, last: None };
        let local = stage.local(script);
        stage.memory.set_local(&local);
        stage
    }

    /// The addresses that are this host's own, as the script has it.
    pub fn local(&self, script: &Script) -> Vec<IpAddr> {
        let local = [End::Client, End::Server].into_iter().zip(script.local).filter(|&(_, is_local)| is_local);
        local.map(|(end, _)| self.addr(end)).collect()
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
        let asked = self.asked(what);
        self.answer(&asked)
    }

    /// Does what an act asks.
    pub fn answer(&self, asked: &Asked) -> Came {
        match asked {
            Asked::Packet(packet) => return Came::Packet(self.show(packet)),
            Asked::Sweep => self.memory.sweep(),
            Asked::Adopt(key, flow) => self.adopt(*key, flow),
            Asked::Lose(key) => self.lose_socket(*key),
            Asked::Nothing => {}
        }
        Came::Else
    }

    /// What an act asks of any observer in this stage's setting that knows what this one knows.
    pub fn asked(&mut self, what: &What) -> Asked {
        match what {
            What::Spoken(spoken) => {
                self.last = Some(spoken.clone());
                Asked::Packet(self.packet(spoken))
            }
            What::Again { elsewhere } => match &self.last {
                Some(last) if *elsewhere => Asked::Packet(self.packet(&moved(last, ELSEWHERE))),
                Some(last) => Asked::Packet(self.packet(last)),
                None => Asked::Nothing,
            },
            What::Unreachable { pair, from, seq, code } => Asked::Packet(self.quote(*pair, *from, *seq, *code)),
            What::Damaged(spoken, damage) => {
                let bytes = damaged(self.frame(spoken).bytes(), *damage);
                Asked::Packet(Packet { link: Link::Ethernet, tap: tap(spoken), bytes })
            }
            What::Noise(bytes) => {
                let link = if bytes[1] & 1 == 0 { Link::Ethernet } else { Link::Ip };
                Asked::Packet(Packet { link, tap: Tap::new(1, HookDirection::Ingress), bytes: bytes.clone() })
            }
            What::Sweep => Asked::Sweep,
            What::Adopted { pair, states } => {
                self.adopted(*pair, *states).map_or(Asked::Nothing, |flow| Asked::Adopt(self.key(*pair).0, flow.into()))
            }
            What::Gone { pair } => match self.flow(*pair) {
                Some((flow, _)) if flow.word.load().phase() != Phase::Closed => Asked::Lose(self.key(*pair).0),
                _ => Asked::Nothing,
            },
        }
    }

    /// Shows the observer a segment in this stage's setting.
    pub fn take(&self, spoken: &Spoken) -> Result<(), Skip> {
        self.show(&self.packet(spoken))
    }

    fn show(&self, Packet { link, tap, bytes }: &Packet) -> Result<(), Skip> {
        self.memory.take(*link, *tap, bytes, 1)
    }

    fn packet(&self, spoken: &Spoken) -> Packet {
        let (frame, tap) = (self.frame(spoken), tap(spoken));
        match self.setting.wrapping {
            Wrapping::NoEthernet => Packet { link: Link::Ip, tap, bytes: frame.packet() },
            Wrapping::Trailer => {
                let mut bytes = frame.bytes();
                bytes.extend([0xee; 6]);
                Packet { link: Link::Ethernet, tap, bytes }
            }
            Wrapping::Plain | Wrapping::OneTag | Wrapping::TwoTags | Wrapping::Headers | Wrapping::FirstFragment => {
                Packet { link: Link::Ethernet, tap, bytes: frame.bytes() }
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

    fn quote(&self, pair: usize, from: End, seq: u32, code: u8) -> Packet {
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
        Packet { link: Link::Ethernet, tap: Tap::new(1, HookDirection::Ingress), bytes: frame.bytes() }
    }

    /// The key of a pair's flow, and on which side the client is.
    fn key(&self, pair: usize) -> (AnyKey, Side) {
        match (self.endpoint(pair, End::Client), self.endpoint(pair, End::Server)) {
            (SocketAddr::V4(client), SocketAddr::V4(server)) => {
                let (key, side) =
                    FlowKey::of(ipv4_word(*client.ip()), client.port(), ipv4_word(*server.ip()), server.port());
                (AnyKey::V4(key), side)
            }
            (SocketAddr::V6(client), SocketAddr::V6(server)) => {
                let (key, side) =
                    FlowKey::of(ipv6_words(*client.ip()), client.port(), ipv6_words(*server.ip()), server.port());
                (AnyKey::V6(key), side)
            }
            _ => unreachable!("both ends of a pair are of one family"),
        }
    }

    /// The flow of a pair of endpoints, and on which side the client is.
    pub fn flow(&self, pair: usize) -> Option<(Rc<Flow>, Side)> {
        let (key, side) = self.key(pair);
        self.memory.flow(&key).map(|flow| (flow, side))
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

    /// The flow that the agent makes of what the socket table tells: only where an end is local, and nothing is known.
    fn adopted(&self, pair: usize, states: [Option<State>; 2]) -> Option<Flow> {
        let local = [End::Client, End::Server].map(|end| match self.endpoint(pair, end).ip() {
            IpAddr::V4(addr) => self.memory.local4.contains(&ipv4_word(addr)),
            IpAddr::V6(addr) => self.memory.local6.contains(&ipv6_words(addr)),
        });
        let states = [states[0].filter(|_| local[0]), states[1].filter(|_| local[1])];
        if self.flow(pair).is_some() {
            return None;
        }
        let word = adopted(Sockets { originator: self.key(pair).1, states })?;
        Some(Flow::adopted(word, self.now_ns(), self.now_ns()))
    }

    fn adopt(&self, key: AnyKey, flow: &Flow) {
        let Memory { flows4, half_open4, flows6, half_open6, .. } = &self.memory;
        let is_settled = flow.word.load().is_settled();
        let put = match key {
            AnyKey::V4(key) => if is_settled { flows4 } else { half_open4 }.put(&key, flow),
            AnyKey::V6(key) => if is_settled { flows6 } else { half_open6 }.put(&key, flow),
        };
        put.expect("there is room, and the key is new");
    }

    fn lose_socket(&self, key: AnyKey) {
        let flow = self.memory.flow(&key).expect("it was known just now");
        let found = Found { word: flow.word.load(), last_seen_ns: flow.last_seen_ns() };
        match key {
            AnyKey::V4(key) => end_without_socket(&self.memory, &key, &flow, found, self.now_ns()),
            AnyKey::V6(key) => end_without_socket(&self.memory, &key, &flow, found, self.now_ns()),
        };
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
