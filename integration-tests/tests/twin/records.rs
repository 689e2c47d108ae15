//! An observer's records of a capture: its flows as they stand when they leave their table, and those that are left at
//! the end, as the agent makes records of them.

use std::collections::{BTreeMap, BTreeSet};

use proofs::memory::AnyKey;
use tcp_observer::{
    output::json,
    replay::steps::{Shown, Step},
    snapshot::{FlowRecord, Key, Moment},
};
use tcp_observer_common::{
    conn::{Flow, Outcome, Phase, Role, State},
    counters::Counters,
    flow::FlowKey,
    limits::Limits,
    segment::Flags,
    wire::{self, Link, Network},
};

/// What takes a capture's packets in besides the replay.
pub trait Observer {
    /// Forgets all flows; what was counted stays.
    fn begin_anew(&mut self);
    fn set_clock(&mut self, now_ns: u64);
    fn take(&mut self, packet: &Packet);
    fn sweep(&mut self, all: bool);
    /// All flows, by their keys.
    fn flows(&self) -> Vec<(AnyKey, Flow)>;
    /// The flow of a key, in either table.
    fn find(&self, key: &AnyKey) -> Option<Flow>;
    fn counters(&self) -> Counters;
}

/// A packet as it is handed to an observer.
#[derive(Clone, Debug)]
pub struct Packet {
    pub now_ns: u64,
    /// From one on, in the order in which the capture has them.
    pub interface: u32,
    pub link: Link,
    pub bytes: Vec<u8>,
    key: Option<AnyKey>,
}

/// A capture's steps, as observers other than the replay are shown them.
#[derive(Default)]
pub struct Script {
    steps: Vec<Task>,
    last_ns: u64,
    /// The VLANs that packets were in; live they are no part of a flow's identity, so that each has a run of its own.
    pub vlans: BTreeSet<Vec<u16>>,
    interfaces: Vec<u32>,
    /// Packets without IP that the link layer finds, by the reason.
    pub without_ip: BTreeMap<usize, u64>,
    /// Packets by how they are handed over.
    pub ethernet: u64,
    pub bare_ip: u64,
    /// Packets that end within their TCP header, as no live ones do.
    pub cut: u64,
}

enum Task {
    Sweep { now_ns: u64, all: bool },
    Take { vlans: Vec<u16>, packet: Packet },
}

impl Script {
    /// Adds a step. `is_bare` strips each packet of its link layer.
    pub fn add(&mut self, step: Step<'_>, is_bare: bool) {
        match step {
            Step::Sweep { now_ns, all } => self.steps.push(Task::Sweep { now_ns, all }),
            Step::Packet(shown) => self.add_packet(shown, is_bare),
        }
    }

    fn add_packet(&mut self, shown: Shown<'_>, is_bare: bool) {
        self.last_ns = shown.now_ns;
        let found = match shown.network {
            Ok(found) => found,
            Err(reason) => {
                *self.without_ip.entry(reason.index()).or_default() += 1;
                return;
            }
        };
        if found.packet.len() < found.packet_bytes && is_cut(found.version, found.packet) {
            self.cut += 1;
        }
        let known = self.interfaces.iter().position(|&index| index == shown.interface);
        let interface = known.unwrap_or_else(|| {
            self.interfaces.push(shown.interface);
            self.interfaces.len() - 1
        });
        // What the programs find behind Ethernet themselves they are shown with it.
        let packet_at = shown.frame.len() - found.packet.len();
        let is_ethernet = !is_bare
            && shown.is_ethernet
            && wire::network(shown.frame, Link::Ethernet).is_ok_and(|found_at| found_at == (found.version, packet_at));
        let (link, mut bytes, whole) = if is_ethernet {
            self.ethernet += 1;
            (Link::Ethernet, shown.frame.to_vec(), shown.frame_bytes)
        } else {
            self.bare_ip += 1;
            (Link::Ip, found.packet.to_vec(), found.packet_bytes)
        };
        // What lies behind the headers matters by its length only.
        bytes.resize(bytes.len().max(whole), 0);
        let vlans = found.vlans();
        self.vlans.insert(vlans.clone());
        let key = syn_key(found.version, found.packet);
        let packet = Packet { now_ns: shown.now_ns, interface: interface as u32 + 1, link, bytes, key };
        self.steps.push(Task::Take { vlans, packet });
    }

    pub fn interfaces(&self) -> usize {
        self.interfaces.len()
    }

    pub fn packets(&self) -> u64 {
        self.ethernet + self.bare_ip
    }

    /// The longest packet, in bytes.
    pub fn longest(&self) -> usize {
        let bytes = self.steps.iter().map(|task| match task {
            Task::Sweep { .. } => 0,
            Task::Take { packet, .. } => packet.bytes.len(),
        });
        bytes.max().unwrap_or_default()
    }
}

/// The records of a capture as JSON, in alphabetical order.
pub fn records(observer: &mut impl Observer, script: &Script) -> Vec<String> {
    let mut lines = Vec::new();
    for vlans in &script.vlans {
        observer.begin_anew();
        let mut add = |key: &AnyKey, flow: &Flow, now_ns| lines.push(line(key, flow, now_ns, vlans));
        for task in &script.steps {
            match task {
                Task::Sweep { now_ns, all } => sweep(observer, *now_ns, *all, &mut add),
                Task::Take { vlans: in_vlans, packet } if in_vlans == vlans => take(observer, packet, &mut add),
                Task::Take { .. } => {}
            }
        }
        observer.flows().iter().for_each(|(key, flow)| add(key, flow, script.last_ns));
    }
    lines.sort();
    lines
}

/// A round of the sweep; what is gone afterwards is recorded as it was.
fn sweep(observer: &mut impl Observer, now_ns: u64, all: bool, add: &mut impl FnMut(&AnyKey, &Flow, u64)) {
    observer.set_clock(now_ns);
    let before = observer.flows();
    // Only what is closed leaves; without any there is nothing to be missed.
    let closed: Vec<_> = before.iter().filter(|(_, flow)| flow.word.load().phase() == Phase::Closed).collect();
    observer.sweep(all);
    for (key, flow) in closed {
        if observer.find(key).is_none() {
            add(key, flow, now_ns);
        }
    }
}

/// A packet; what it replaces is recorded as replay has it: neither end has a socket any more.
fn take(observer: &mut impl Observer, packet: &Packet, add: &mut impl FnMut(&AnyKey, &Flow, u64)) {
    observer.set_clock(packet.now_ns);
    let Some(key) = &packet.key else { return observer.take(packet) };
    let before = observer.find(key);
    let reused = |observer: &dyn Fn() -> Counters| {
        use tcp_observer_common::counters::Eviction;
        observer().evictions.iter().map(|table| table[Eviction::Reused as usize]).sum::<u64>()
    };
    let reused_before = reused(&|| observer.counters());
    observer.take(packet);
    if let Some(flow) = before
        && reused(&|| observer.counters()) > reused_before
    {
        let word = flow.word.load();
        let word = word.with_state(Role::Originator, State::Closed).with_state(Role::Responder, State::Closed);
        let is_attempt = word.outcome() == Outcome::InProgress;
        flow.word.0.set(if is_attempt { word.with_outcome(Outcome::Abandoned) } else { word }.0);
        add(key, &flow, packet.now_ns);
    }
}

fn line(key: &AnyKey, flow: &Flow, now_ns: u64, vlans: &[u16]) -> String {
    match key {
        AnyKey::V4(key) => line_of(key, flow, now_ns, vlans),
        AnyKey::V6(key) => line_of(key, flow, now_ns, vlans),
    }
}

fn line_of<A>(key: &FlowKey<A>, flow: &Flow, now_ns: u64, vlans: &[u16]) -> String
where
    FlowKey<A>: Key,
{
    let moment = Moment { now_ns, unix_offset_ns: -1, limits: &Limits::DEFAULT, knows_local: false };
    let mut record = FlowRecord::new(key, flow, moment, |_| None);
    record.vlan = (!vlans.is_empty()).then(|| vlans.into());
    json_line(&record)
}

/// One record as `dump` and `replay` write it.
pub fn json_line(record: &FlowRecord) -> String {
    let mut out = Vec::new();
    json::write(&[record], &mut out).expect("memory takes it");
    String::from_utf8(out).expect("JSON is UTF-8")
}

/// The key of a segment that may begin a flow where there is one.
fn syn_key(version: Network, packet: &[u8]) -> Option<AnyKey> {
    match version {
        Network::Ipv4 => {
            let parsed = wire::segment4(packet, 0).ok()?;
            parsed.segment.flags.has(Flags::SYN).then_some(AnyKey::V4(parsed.key))
        }
        Network::Ipv6 => {
            let parsed = wire::segment6(packet, 0).ok()?;
            parsed.segment.flags.has(Flags::SYN).then_some(AnyKey::V6(parsed.key))
        }
    }
}

/// Whether a packet of which not all was captured ends within its headers.
fn is_cut(version: Network, packet: &[u8]) -> bool {
    const TCP: u8 = 6;
    let at = |offset: usize| packet.get(offset).copied().unwrap_or_default();
    let tcp_at = match version {
        Network::Ipv4 if at(9) == TCP => usize::from(at(0) & 15) * 4,
        Network::Ipv6 if at(6) == TCP => 40,
        // Extension headers, or a quote: room for both.
        Network::Ipv4 | Network::Ipv6 => 120,
    };
    packet.len() < tcp_at + 20 || packet.len() < tcp_at + usize::from(at(tcp_at + 12) >> 4) * 4
}
