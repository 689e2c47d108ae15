//! An exchange between two peers, past one observer, and what can be asked of it afterwards.

use std::{cell::Cell, hash::Hash, rc::Rc};

use tcp_observer_common::{
    conn::{Flow, How, Initiator, Note, Outcome, Phase, Role, State, Word},
    counters::{Counters, HookDirection, Skip, Unreachable, place},
    flow::{Address, FlowKey, Ipv4, Ipv6, Side},
    histogram::Histogram,
    observer::{Family, Host, Sighting, Table, Tap, observe, observe_quote},
    segment::{Options, Segment},
    seq::SeqNum,
    wire::Quote,
};

use proofs::memory::MemoryTable;

use super::{Memory, Peer, SECOND};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint<A> {
    pub addr: A,
    pub port: u16,
}

/// Two endpoints and the observer between them. The client's address is the observing host's own, unless the test
/// says otherwise.
pub struct Talk<A = Ipv4> {
    pub memory: Memory,
    pub client: Endpoint<A>,
    pub server: Endpoint<A>,
    passed: Cell<u64>,
}

pub const CLIENT_ADDR: Ipv4 = [u32::from_ne_bytes([192, 0, 2, 1])];
pub const SERVER_ADDR: Ipv4 = [u32::from_ne_bytes([198, 51, 100, 2])];

impl Talk<Ipv4> {
    /// 192.0.2.1:40000 is the client and local, 198.51.100.2:443 the server.
    pub fn new() -> Self {
        let talk =
            Self::between(Endpoint { addr: CLIENT_ADDR, port: 40000 }, Endpoint { addr: SERVER_ADDR, port: 443 });
        talk.with_local(CLIENT_ADDR)
    }

    /// The same with the observer on the server.
    pub fn on_server() -> Self {
        let mut talk = Self::new();
        talk.memory.local4 = vec![SERVER_ADDR];
        talk
    }

    /// The same, where a lone ACK or RST begins a flow, as in a capture.
    pub fn keeping_all() -> Self {
        let mut talk = Self::new();
        talk.memory.keeps_all = true;
        talk
    }

    pub fn with_local(mut self, addr: Ipv4) -> Self {
        self.memory.local4.push(addr);
        self
    }
}

impl Talk<Ipv6> {
    /// 2001:db8::1 port 40000 is the client and local, 2001:db8::2 port 443 the server.
    pub fn new_v6() -> Self {
        let addr = |last: u32| [0x2001_0db8_u32.to_be(), 0, 0, last.to_be()];
        let mut talk = Self::between(Endpoint { addr: addr(1), port: 40000 }, Endpoint { addr: addr(2), port: 443 });
        talk.memory.local6 = vec![addr(1)];
        talk
    }
}

impl<A: Address + Hash> Talk<A>
where
    Memory: Family<A, Table = MemoryTable<A>>,
{
    pub fn between(client: Endpoint<A>, server: Endpoint<A>) -> Self {
        Self { memory: Memory::new(1000 * SECOND), client, server, passed: Cell::new(0) }
    }

    /// The client, then the server.
    pub fn peers(&self) -> (Peer<'_, A>, Peer<'_, A>) {
        (Peer::new(self, self.client, self.server), Peer::new(self, self.server, self.client))
    }

    /// The peers of another flow between the same hosts, from another port of the client.
    pub fn peers_from(&self, port: u16) -> (Peer<'_, A>, Peer<'_, A>) {
        let client = Endpoint { port, ..self.client };
        (Peer::new(self, client, self.server), Peer::new(self, self.server, client))
    }

    pub fn wait(&self, ns: u64) {
        self.memory.now_ns.set(self.memory.now_ns.get() + ns);
    }

    pub fn now_ns(&self) -> u64 {
        self.memory.now_ns.get()
    }

    /// Lets time pass, then sweeps once. A flow that silence ends stays and lingers; a later sweep removes it.
    pub fn sweep_after(&self, ns: u64) {
        self.wait(ns);
        self.memory.sweep();
    }

    pub fn key(&self, sender: &Peer<'_, A>) -> (FlowKey<A>, Side) {
        FlowKey::of(sender.own.addr, sender.own.port, sender.other.addr, sender.other.port)
    }

    pub(super) fn pass(&self, sender: &Peer<'_, A>, interface: u32, segment: &Segment) -> Result<(), Skip> {
        let (key, side) = self.key(sender);
        let direction =
            if self.memory.is_local(&sender.own.addr) { HookDirection::Egress } else { HookDirection::Ingress };
        // As the parser has it: the options are read only where they are asked for.
        let bare = Segment { options: Options::NONE, ..*segment };
        let sighting = Sighting { side, segment: &bare, tap: Tap::new(interface, direction) };
        self.passed.set(self.passed.get() + 1);
        let result = observe(&self.memory, &key, sighting, || segment.options);
        if let Err(reason) = result {
            self.memory.add(place::skipped(reason), 1);
        }
        result
    }

    /// The flow between the two peers.
    #[track_caller]
    pub fn flow(&self) -> Rc<Flow> {
        self.find().expect("the flow is in one of the tables")
    }

    pub fn find(&self) -> Option<Rc<Flow>> {
        let (key, _) = FlowKey::of(self.client.addr, self.client.port, self.server.addr, self.server.port);
        let settled = self.memory.flows().find(&key);
        let half_open = self.memory.half_open().find(&key);
        assert!(settled.is_none() || half_open.is_none(), "a flow is in one table only");
        settled.or(half_open)
    }

    /// How many flows are settled, and how many half open.
    pub fn table_entries(&self) -> (usize, usize) {
        (self.memory.flows().len(), self.memory.half_open().len())
    }

    #[track_caller]
    pub fn word(&self) -> Word {
        self.flow().word.load()
    }

    /// The state of the one who is taken to be the originator, and of the other.
    #[track_caller]
    pub fn states(&self) -> (State, State) {
        let word = self.word();
        (word.state(Role::Originator), word.state(Role::Responder))
    }

    /// The states that silence has brought about by now.
    pub fn settled_states(&self) -> (State, State) {
        let word = self.flow().settled_at(self.memory.now_ns.get(), &self.memory.limits);
        (word.state(Role::Originator), word.state(Role::Responder))
    }

    #[track_caller]
    pub fn expect(&self, originator: State, responder: State) {
        assert_eq!(self.states(), (originator, responder));
    }

    #[track_caller]
    pub fn expect_phase(&self, phase: Phase) {
        assert_eq!(self.word().phase(), phase);
    }

    #[track_caller]
    pub fn expect_outcome(&self, outcome: Outcome) {
        assert_eq!(self.word().outcome(), outcome);
    }

    #[track_caller]
    pub fn expect_close(&self, initiator: Initiator, how: How) {
        assert_eq!((self.word().initiator(), self.word().how()), (initiator, how));
    }

    /// What was noted of the flow, in the order of the notes' declaration.
    #[track_caller]
    pub fn expect_notes<const N: usize>(&self, notes: [Note; N]) {
        assert_eq!(self.flow().story.notes().collect::<Vec<_>>(), notes);
    }

    #[track_caller]
    pub fn expect_history(&self, history: &str) {
        assert_eq!(self.history(), history);
    }

    /// The letters of the flow's history; capitals are the originator's.
    #[track_caller]
    pub fn history(&self) -> String {
        let letter = |(role, letter): (Role, tcp_observer_common::conn::Letter)| match role {
            Role::Originator => letter.label().to_uppercase(),
            Role::Responder => letter.label().to_owned(),
        };
        self.flow().story.history().map(letter).collect()
    }

    /// Wireshark's completeness, of both directions.
    #[track_caller]
    pub fn completeness(&self) -> u8 {
        let flow = self.flow();
        flow.low.completeness() | flow.high.completeness()
    }

    /// How often this was noted of any flow.
    pub fn noted(&self, note: Note) -> u64 {
        self.counters().notes[note.index()]
    }

    /// An ICMP error that quotes a segment of `sender` comes by.
    pub fn quote(&self, sender: &Peer<'_, A>, seq: u32, reason: Unreachable) -> Result<(), Skip> {
        let (key, side) = self.key(sender);
        observe_quote(&self.memory, &Quote { key, side, seq: SeqNum(seq), reason })
    }

    /// How many segments the peers have sent so far.
    pub fn passed(&self) -> u64 {
        self.passed.get()
    }

    pub fn counters(&self) -> Counters {
        self.memory.counters.borrow().clone()
    }

    /// How many attempts ended in this way, whatever their port and role.
    pub fn attempts(&self, outcome: Outcome) -> u64 {
        self.counters().attempts.iter().flatten().map(|by_outcome| by_outcome[outcome.index()]).sum()
    }

    /// How many attempts ended at all.
    pub fn all_attempts(&self) -> u64 {
        self.counters().attempts.iter().flatten().flatten().sum()
    }

    pub fn all_closes(&self) -> u64 {
        self.counters().closes.iter().flatten().sum()
    }

    pub fn all_resets(&self) -> u64 {
        self.counters().resets.iter().flatten().sum()
    }

    pub fn skips(&self, reason: Skip) -> u64 {
        self.counters().skipped[reason.index()]
    }

    pub fn histogram(&self, place: u32) -> Histogram {
        self.memory.histograms.borrow()[place as usize]
    }

    /// SYN 1000, SYN-ACK 5000, ACK: what most tests begin with. The client goes on at 1001, the server at 5001.
    #[track_caller]
    pub fn open(&self) {
        let (client, server) = self.peers();
        client.syn(1000);
        server.syn_ack(5000, 1001);
        client.ack(1001, 5001);
    }

    /// [`Self::open`], then the client closes first and the server answers with its own FIN. The client is left in
    /// TIME-WAIT and goes on at 1002, the server at 5002.
    #[track_caller]
    pub fn open_and_close(&self) {
        let (client, server) = self.peers();
        self.open();
        client.fin(1001, 5001);
        server.ack(5001, 1002);
        server.fin(5001, 1002);
        client.ack(1002, 5002);
    }
}
