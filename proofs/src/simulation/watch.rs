//! The observer between the ends, held against the [`Oracle`] after every packet.

use std::net::IpAddr;

use smoltcp::socket::tcp::State as TrueState;
use tcp_observer_common::{
    conn::{Flow, How, Mark, Outcome, Role, State, Word},
    counters::HookDirection,
    flow::{FlowKey, Side, ipv4_word, ipv6_words},
    observer::{Table, Tap},
    wire::Link,
};

use super::{
    account::Account,
    oracle::{Doubt, Follows, Oracle, core_state},
    packet::{Header, Packet},
    plan::{End, Hop, Place, Plan, SECOND},
    shrink::shrink,
    states::States,
    world::{Cause, Witness},
};
use crate::memory::Memory;

/// How long an end is said to wait in TIME-WAIT.
const TIME_WAIT_NS: u64 = 60 * SECOND;

/// What went on in a run, for a reader.
#[derive(Clone, Debug)]
pub enum Note {
    Stepped(End, Cause, TrueState),
    Sent(usize),
    Lost(usize, Hop),
    Passed(usize),
    Inferred([State; 2], [TrueState; 2]),
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub at_ns: u64,
    pub what: String,
    /// The flow as the watcher had it then.
    pub flow: String,
}

pub struct Watch<'a> {
    plan: &'a Plan,
    pub memory: Memory,
    pub oracle: Oracle,
    pub packets: Vec<Packet>,
    pub log: Option<Vec<(u64, Note)>>,
    account: Account,
    truth: [TrueState; 2],
    inferred: [State; 2],
    last_passed_ns: u64,
    /// The watcher has given the flow up, after silence.
    given_up: [Option<u32>; 2],
    connections: [u32; 2],
    pub failure: Option<Failure>,
    pub checks: u64,
    pub exact: u64,
    pub doubts: Vec<(bool, Doubt)>,
    /// The doubts under which a near end was taken to be in another state than it was in.
    pub strays: Vec<Doubt>,
    pub seen_states: States,
    pub packets_passed: u64,
    /// Packets that this one does not show to the observer: to find out whether a watcher that errs is found.
    pub hides: fn(&Header) -> bool,
}

impl<'a> Watch<'a> {
    pub fn new(plan: &'a Plan, keeps_log: bool) -> Self {
        let mut memory = Memory::new(0);
        if let Place::Near(end) = plan.place {
            memory.set_local(&[plan.host(end).addr]);
        }
        Self {
            plan,
            memory,
            oracle: Oracle::new(plan),
            packets: Vec::new(),
            log: keeps_log.then(Vec::new),
            account: Account::default(),
            truth: [TrueState::Closed; 2],
            inferred: [State::Closed; 2],
            last_passed_ns: 0,
            given_up: [None; 2],
            connections: [0; 2],
            failure: None,
            checks: 0,
            exact: 0,
            doubts: Vec::new(),
            strays: Vec::new(),
            seen_states: States::default(),
            packets_passed: 0,
            hides: |_| false,
        }
    }

    fn note(&mut self, now_ns: u64, note: Note) {
        if let Some(log) = &mut self.log {
            log.push((now_ns, note));
        }
    }

    /// The flow as the watcher has it, and the side of its key that the left end is.
    fn flow(&self) -> Option<(Flow, Side)> {
        let [left, right] = self.plan.hosts;
        match (left.addr, right.addr) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let (key, side) = FlowKey::of(ipv4_word(from), left.port, ipv4_word(to), right.port);
                let found = self.memory.flows4.find(&key).or_else(|| self.memory.half_open4.find(&key));
                found.map(|flow| ((*flow).clone(), side))
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let (key, side) = FlowKey::of(ipv6_words(from), left.port, ipv6_words(to), right.port);
                let found = self.memory.flows6.find(&key).or_else(|| self.memory.half_open6.find(&key));
                found.map(|flow| ((*flow).clone(), side))
            }
            _ => unreachable!("both ends of a plan have addresses of one family"),
        }
    }

    fn fail(&mut self, at_ns: u64, what: String) {
        let flow = format!("{:?}", self.flow().map(|(flow, _)| flow));
        self.failure.get_or_insert(Failure { at_ns, what, flow });
    }

    fn check(&mut self, now_ns: u64) {
        self.memory.now_ns.set(now_ns);
        let flow = self.flow();
        let (word, states) = match &flow {
            None => (None, [State::Closed; 2]),
            Some((flow, left)) => {
                let word = flow.settled_at(now_ns, &self.memory.limits);
                (Some(word), [word.state(word.role_of(*left)), word.state(word.role_of(left.opposite()))])
            }
        };
        if let (Some((flow, _)), Some(word)) = (&flow, word) {
            self.check_silence(now_ns, flow.word.load(), word);
        }
        let states = states.map(|state| if state == State::Listen { State::Closed } else { state });
        if states != self.inferred {
            self.note(now_ns, Note::Inferred(states, self.truth));
            self.inferred = states;
        }
        for end in End::BOTH {
            let possible = self.oracle.possible(end);
            let state = states[end as usize];
            self.seen_states = self.seen_states.with(state);
            self.checks += 1;
            self.exact += u64::from(possible.len() == 1);
            let (truth, doubts) = self.oracle.truth(end);
            let is_near = self.plan.place == Place::Near(end);
            // It waits if what was on its way to it has come, and nobody waits for longer.
            if possible.has(State::TimeWait) && state == State::Closed && now_ns - self.last_passed_ns >= TIME_WAIT_NS {
                self.given_up[end as usize] = Some(self.connections[end as usize]);
            }
            for &doubt in &doubts {
                if !self.doubts.contains(&(is_near, doubt)) {
                    self.doubts.push((is_near, doubt));
                }
                if is_near && !doubt.at_near_end() {
                    self.fail(now_ns, format!("{end:?} is near, and there is a doubt: {doubt:?}"));
                }
            }
            if is_near && state != truth {
                self.strays.extend(&doubts);
            }
            if !possible.has(state) && !self.is_excused(flow.as_ref(), end, state, possible) {
                self.fail(
                    now_ns,
                    format!(
                        "{end:?} near={is_near}: {} where it is {}, may be {possible} ({doubts:?})",
                        state.label(),
                        truth.label()
                    ),
                );
            }
        }
    }

    /// Holds the end that silence brings about against how long it has lasted. `kept` is the word as it lies in the
    /// table, `word` what a reader makes of it.
    fn check_silence(&mut self, now_ns: u64, kept: Word, word: Word) {
        let is_timeout = |word: Word| word.how() == How::Timeout || word.outcome() == Outcome::TimedOut;
        if is_timeout(word) {
            self.given_up = self.connections.map(Some);
        }
        let Some(limit_ns) = patience_ns(kept) else {
            return;
        };
        let silent_ns = now_ns - self.last_passed_ns;
        if is_timeout(word) != (silent_ns > limit_ns) {
            self.fail(now_ns, format!("{word:?} after {silent_ns} ns of silence, where {limit_ns} is the limit"));
        }
    }

    fn is_excused(&self, flow: Option<&(Flow, Side)>, end: End, state: State, possible: States) -> bool {
        if self.given_up[end as usize] == Some(self.connections[end as usize]) && state == State::Closed {
            return true;
        }
        match flow {
            // It began with a SYN-ACK, perhaps one that comes again after all was over.
            Some((flow, left))
                if flow.word.load().has(Mark::Inferred) && flow.word.load().outcome() == Outcome::InProgress =>
            {
                let side = if end == End::Left { *left } else { left.opposite() };
                match flow.word.load().role_of(side) {
                    Role::Originator => state == State::SynSent,
                    Role::Responder => state == State::SynReceived,
                }
            }
            Some((flow, left)) if flow.word.load().outcome() == Outcome::NotSeen => {
                let side = if end == End::Left { *left } else { left.opposite() };
                let word = flow.word.load();
                let role = word.role_of(side);
                let unseen = !word.has_of(Mark::Seen, role);
                let own = word.has_of(Mark::FinSent, role);
                let peers = word.has_of(Mark::FinSent, role.opposite());
                let history = possible.or(self.oracle.history(end));
                state == State::Unknown && unseen || picked_up(history, own, peers).has(state)
            }
            _ => false,
        }
    }
}

/// Whether a flow that was picked up is not over yet, as far as is known of it.
fn goes_on_picked_up(word: Word) -> bool {
    let is_over = |role| word.state(role).is_over();
    word.outcome() == Outcome::NotSeen && !(is_over(Role::Originator) && is_over(Role::Responder))
}

/// What these states are taken for where the flow was picked up after it had begun: a FIN is known of only if it has
/// passed since.
fn picked_up(states: States, own_fin: bool, peers_fin: bool) -> States {
    use State::*;
    let mut all = states;
    for state in states.iter() {
        let (own, peers) = match state {
            Established => (0, false),
            FinWait1 => (1, false),
            FinWait2 => (2, false),
            CloseWait => (0, true),
            Closing | LastAck => (1, true),
            TimeWait | Closed => (2, true),
            Unknown | Listen | SynSent | SynReceived => continue,
        };
        for own in if own_fin { own.min(1)..=own } else { 0..=0 } {
            for peers in [peers && peers_fin, false] {
                all = match (own, peers) {
                    (0, false) => all.with(Established),
                    (0, true) => all.with(CloseWait),
                    (1, false) => all.with(FinWait1),
                    (1, true) => all.with(Closing).with(LastAck),
                    (_, false) => all.with(FinWait2),
                    (_, true) => all.with(TimeWait).with(Closed),
                };
            }
        }
    }
    all
}

/// How long silence may last, as docs/semantics.md has it, section "Times and expiry"; `None` where TIME-WAIT or nothing
/// ends it.
fn patience_ns(word: Word) -> Option<u64> {
    use State::*;
    let states = [Role::Originator, Role::Responder].map(|role| word.state(role));
    let is_local = [Role::Originator, Role::Responder].map(|role| word.has_of(Mark::Local, role));
    let orphan = |waits: usize| states[waits] == FinWait2 && is_local[waits] && !is_local[1 - waits];
    let seconds = match (word.outcome(), states) {
        (Outcome::InProgress, [_, Listen | Unknown]) => 64.5,
        (Outcome::InProgress, _) => 32.5,
        (_, [Closed, Closed] | [TimeWait, TimeWait | Closed | Unknown] | [Closed | Unknown, TimeWait]) => return None,
        _ if !word.is_settled() => 120.0,
        (_, [FinWait2, CloseWait]) if orphan(0) => 60.0,
        (_, [CloseWait, FinWait2]) if orphan(1) => 60.0,
        (_, [Established, Established] | [FinWait2, CloseWait] | [CloseWait, FinWait2]) => 5.0 * 86_400.0,
        _ => 130.0,
    };
    Some((seconds * 1e9) as u64)
}

impl Witness for Watch<'_> {
    fn stepped(&mut self, now_ns: u64, end: End, cause: Cause, state: TrueState, connections: u32) {
        let packet = match cause {
            Cause::Received(id) | Cause::Sent(id) => Some(&self.packets[id]),
            Cause::Acted(_) | Cause::Timer => None,
        };
        self.oracle.stepped(end, cause, state, connections, packet);
        self.truth[end as usize] = state;
        self.connections[end as usize] = connections;
        self.note(now_ns, Note::Stepped(end, cause, state));
    }

    fn sent(&mut self, now_ns: u64, id: usize, packet: &Packet) {
        self.packets.push(packet.clone());
        self.note(now_ns, Note::Sent(id));
    }

    fn lost(&mut self, now_ns: u64, id: usize, _: &Packet, hop: Hop) {
        self.note(now_ns, Note::Lost(id, hop));
    }

    fn passed(&mut self, now_ns: u64, id: usize, packet: &Packet) {
        self.note(now_ns, Note::Passed(id));
        self.memory.now_ns.set(now_ns);
        let direction = match (self.plan.place, packet.from) {
            (Place::Near(near), from) if near == from => HookDirection::Egress,
            (Place::Near(_), _) | (Place::Middle, End::Left) => HookDirection::Ingress,
            (Place::Middle, End::Right) => HookDirection::Egress,
        };
        self.packets_passed += 1;
        if !(self.hides)(&packet.header) {
            // The reason why a packet updates nothing is in the counters.
            let _ = self.memory.take(Link::Ip, Tap::new(1, direction), &packet.bytes, 1);
        }
        let flow = self.flow();
        let begins = self.account.pass(now_ns, packet.from, packet.header, flow.as_ref().map(|(flow, _)| flow));
        let is_picked_up = flow.as_ref().is_some_and(|(flow, _)| goes_on_picked_up(flow.word.load()));
        self.oracle.passed(packet, Follows { begins, is_picked_up });
        if let Some((flow, left)) = &flow
            && self.oracle.is_followed()
            && let Err(what) = self.account.check(flow, *left)
        {
            self.fail(now_ns, what);
        }
        self.last_passed_ns = now_ns;
        // Where the receiver is near it takes this in at the same moment, and then is looked at.
        if self.plan.place != Place::Near(packet.from.opposite()) {
            self.check(now_ns);
        }
    }

    fn settled(&mut self, now_ns: u64) -> bool {
        self.check(now_ns);
        self.failure.is_none()
    }

    fn swept(&mut self, now_ns: u64) {
        self.check(now_ns);
        self.memory.sweep();
    }
}

/// A run in words: one line for each packet and whatever else happened.
pub fn print(watch: &Watch<'_>) -> String {
    let mut text = String::new();
    let isn: Vec<Option<u32>> = End::BOTH
        .iter()
        .map(|&end| {
            watch.packets.iter().find(|packet| packet.from == end && packet.header.syn).map(|packet| packet.header.seq)
        })
        .collect();
    let line = |packet: &Packet| {
        let header = packet.header;
        let relative = |number: u32, end: End| number.wrapping_sub(isn[end as usize].unwrap_or(0)) as i32;
        let mut flags = String::new();
        for (is_set, letter) in [(header.syn, 'S'), (header.fin, 'F'), (header.rst, 'R'), (header.ack.is_some(), '.')] {
            if is_set {
                flags.push(letter);
            }
        }
        let ack = header.ack.map_or(String::new(), |ack| format!(" ack {}", relative(ack, packet.from.opposite())));
        format!(
            "[{flags}] seq {}:{}{ack} win {} c{}",
            relative(header.seq, packet.from),
            relative(header.end(), packet.from),
            header.window,
            packet.connection
        )
    };
    for (at_ns, note) in watch.log.iter().flatten() {
        let what = match note {
            Note::Stepped(_, Cause::Sent(_), _) => continue,
            Note::Stepped(end, Cause::Received(id), state) => format!("    {end:?} receives #{id}: {state}"),
            Note::Stepped(end, Cause::Acted(action), state) => format!("    {end:?} {action:?}: {state}"),
            Note::Stepped(end, Cause::Timer, state) => format!("    {end:?} timer: {state}"),
            Note::Sent(id) => format!("{:?} sends #{id} {}", watch.packets[*id].from, line(&watch.packets[*id])),
            Note::Lost(id, hop) => format!("    #{id} is lost {hop:?}"),
            Note::Passed(id) => format!("  {:?} #{id} passes {}", watch.packets[*id].from, line(&watch.packets[*id])),
            Note::Inferred(states, truth) => format!(
                "      inferred {} {}; true {} {}",
                states[0].label(),
                states[1].label(),
                core_state(truth[0]).label(),
                core_state(truth[1]).label()
            ),
        };
        text += &format!("{:>14.6} {what}\n", *at_ns as f64 / 1e9);
    }
    text
}

/// Runs a plan before the observer and the oracle.
pub fn judge(plan: &Plan, keeps_log: bool) -> Watch<'_> {
    judge_hiding(plan, keeps_log, |_| false)
}

/// The same before an observer that is not shown everything.
pub fn judge_hiding(plan: &Plan, keeps_log: bool, hides: fn(&Header) -> bool) -> Watch<'_> {
    let mut watch = Watch::new(plan, keeps_log);
    watch.hides = hides;
    super::world::run(plan, &mut watch);
    watch
}

/// A failure for a reader: the smallest plan found that fails, its trace, and the seed to run it again.
pub fn explain(plan: &Plan, hides: fn(&Header) -> bool) -> String {
    const TRIES: u32 = 2_000;
    let small = shrink(plan, TRIES, |plan| judge_hiding(plan, false, hides).failure.is_some());
    let watch = judge_hiding(&small, true, hides);
    let Some(failure) = &watch.failure else {
        return "a run that fails once and not again".to_owned();
    };
    let Plan { seed, place, hosts, hops_ns, faults, .. } = &small;
    format!(
        "{}\n\n{}\nplace: {place:?}, hops: {hops_ns:?} ns\nhosts: {hosts:#?}\nfaults: {faults:?}\nflow: {}\n\
         again: PROVE_SIMULATION_SEED={seed} PROVE_SIMULATION=1 cargo test -p proofs --test simulation",
        failure.what,
        print(&watch),
        failure.flow
    )
}
