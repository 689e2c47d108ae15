//! Who watches a script being played and knows, from the RFC and docs/semantics.md alone, what may become of flows and
//! counters: arrows of figure 5, what only goes forward, what is counted once, what a limit may end.

use std::collections::BTreeMap;

use tcp_observer_common::{
    conn::{How, Initiator, Mark, Note, Outcome, Phase, Role, State, Word},
    counters::{Counters, Eviction, Skip},
    flow::Side,
    segment::SegmentKind,
};

use super::{
    arrows::{Draws, is_way},
    script::{End, Script, Spoken, What},
    stage::{Came, ELSEWHERE, Id, Setting, Stage, moved},
};
use crate::frames::{ACK, FIN, RST, SYN};

/// How far a script has come: what was seen at least once while it was played.
#[derive(Clone, Debug)]
pub struct Reached {
    pub states: [bool; State::COUNT],
    pub phases: [bool; Phase::COUNT],
    pub outcomes: [bool; Outcome::COUNT],
    pub hows: [bool; How::COUNT],
    pub initiators: [bool; Initiator::COUNT],
    pub notes: [bool; Note::COUNT],
    pub skips: [bool; Skip::COUNT],
    pub evictions: [bool; Eviction::COUNT],
}

impl Default for Reached {
    fn default() -> Self {
        Self {
            states: [false; State::COUNT],
            phases: [false; Phase::COUNT],
            outcomes: [false; Outcome::COUNT],
            hows: [false; How::COUNT],
            initiators: [false; Initiator::COUNT],
            notes: [false; Note::COUNT],
            skips: [false; Skip::COUNT],
            evictions: [false; Eviction::COUNT],
        }
    }
}

/// What the witness knows of a flow.
#[derive(Clone, Copy, Debug)]
struct Known {
    word: Word,
    is_settled: bool,
    last_seen_ns: u64,
    changed_ns: u64,
    /// Whether an ICMP error has ended the attempt before: it is counted once.
    was_unreachable: bool,
}

/// What must have been counted by now.
#[derive(Default)]
struct Owed {
    attempts: [u64; Outcome::COUNT],
    closes: [u64; How::COUNT],
    begun: u64,
    left: [u64; Eviction::COUNT],
}

struct Witness {
    flows: BTreeMap<Id, Known>,
    counters: Counters,
    owed: Owed,
    reached: Reached,
}

/// Plays a script before one observer and checks everything after each act. What was reached comes back.
///
/// # Panics
/// Where something is wrong.
pub fn play(script: &Script) -> Reached {
    let mut stage = Stage::new(script, Setting { is_v6: script.is_v6, ..Setting::default() });
    let mut witness = Witness {
        flows: BTreeMap::new(),
        counters: Counters::ZERO,
        owed: Owed::default(),
        reached: Reached::default(),
    };
    for act in &script.acts {
        stage.wait(act.after_ns);
        let came = stage.perform(&act.what);
        witness.look(&stage, &act.what, &came);
    }
    // Whatever was begun is over in the end, and has left.
    for _ in 0..4 {
        stage.wait(6 * 86_400 * 1_000_000_000);
        stage.perform(&What::Sweep);
        witness.look(&stage, &What::Sweep, &Came::Else);
    }
    assert!(witness.flows.is_empty(), "flows that never leave: {:?}", witness.flows);
    witness.reached
}

/// Updates, ICMP errors that ended an attempt, and skips.
fn packets(counters: &Counters) -> u64 {
    counters.segments.iter().flatten().chain(&counters.unreachable).chain(&counters.skipped).sum()
}

impl Witness {
    fn look(&mut self, stage: &Stage, what: &What, came: &Came) {
        let before = std::mem::replace(&mut self.counters, stage.memory.counters.borrow().clone());
        self.check_counters(&before, what, came);
        let spoken = spoken(stage, what);
        let reused = self.left(Eviction::Reused) > sum_of(&before, Eviction::Reused);
        let seen: BTreeMap<Id, Known> = stage
            .flows()
            .into_iter()
            .map(|(id, flow, is_settled)| {
                let word = flow.word.load();
                let was_unreachable = flow.story.has(Note::Unreachable);
                let (last_seen_ns, changed_ns) = (flow.last_seen_ns(), flow.times.changed_ns.get());
                for note in flow.story.notes() {
                    self.reached.notes[note.index()] = true;
                }
                (id, Known { word, is_settled, last_seen_ns, changed_ns, was_unreachable })
            })
            .collect();
        let mut changed = 0;
        let flows = std::mem::take(&mut self.flows);
        for (id, &now) in &seen {
            assert!(!now.word.has(Mark::Retired), "{id:?} has left and is still there");
            assert_eq!(now.word.is_settled(), now.is_settled, "{id:?} is in the wrong table: {:?}", now.word);
            let sender = spoken.as_ref().map(|spoken| stage.endpoint(spoken.pair, spoken.from));
            let facts = spoken.as_ref().zip(sender).filter(|(_, sender)| *sender == id.low || *sender == id.high);
            let facts = facts.map(|(spoken, sender)| (spoken, if sender == id.low { Side::Low } else { Side::High }));
            let was = flows.get(id);
            if was.is_none_or(|was| was.word != now.word) {
                changed += 1;
                assert!(!matches!(came, Came::Packet(Err(_))), "{what:?} was skipped and has moved {id:?}");
            }
            match was {
                Some(was) if reused && is_of(stage, what, id) => {
                    self.replaced(was, what);
                    self.begins(id, now.word, facts, what);
                }
                Some(was) => self.moves(id, was, &now, facts, what, stage),
                None => self.begins(id, now.word, facts, what),
            }
            self.reach(now.word);
        }
        for (id, was) in &flows {
            if !seen.contains_key(id) {
                self.leaves(id, was, what, stage);
            }
        }
        assert!(changed <= 1 || !matches!(came, Came::Packet(_)), "one packet has moved {changed} flows");
        self.flows = seen;
        self.settle_accounts();
    }

    /// Every packet is one update or one skip, and nothing that was counted is taken back.
    fn check_counters(&mut self, before: &Counters, what: &What, came: &Came) {
        let after = &self.counters;
        let is_monotone = before.words().iter().zip(after.words()).all(|(before, after)| before <= after);
        assert!(is_monotone, "a counter went down after {what:?}");
        let raised = packets(after) - packets(before);
        let skipped = |reason: Skip| after.skipped[reason.index()] - before.skipped[reason.index()];
        match came {
            Came::Else => assert_eq!(raised, 0, "{what:?} is no packet"),
            Came::Packet(result) => {
                assert_eq!(raised, 1, "one packet is one update or one skip: {what:?}");
                match result {
                    Ok(()) => assert_eq!(Skip::ALL.iter().map(|&reason| skipped(reason)).sum::<u64>(), 0),
                    Err(reason) => assert_eq!(skipped(*reason), 1, "{what:?}"),
                }
                let contended = matches!(result, Err(Skip::Contended | Skip::TableFull));
                assert!(!contended, "there is one CPU here, and there is room");
            }
        }
        if let (What::Spoken(spoken), Came::Packet(Ok(()))) = (what, came) {
            let [direction, kind] = [spoken.direction as usize, kind(spoken).index()];
            assert_eq!(after.segments[direction][kind] - before.segments[direction][kind], 1, "{spoken:?}");
        }
        for skip in Skip::ALL {
            self.reached.skips[skip.index()] |= after.skipped[skip.index()] > 0;
        }
        for note in Note::ALL {
            self.reached.notes[note.index()] |= after.notes[note.index()] > 0;
        }
        for eviction in Eviction::ALL {
            self.reached.evictions[eviction.index()] |= sum_of(after, *eviction) > 0;
        }
    }

    /// A flow's first word says what its first segment said.
    fn begins(&mut self, id: &Id, word: Word, facts: Option<(&Spoken, Side)>, what: &What) {
        self.owed.begun += 1;
        assert!(!matches!(what, What::Sweep | What::Gone { .. } | What::Unreachable { .. }), "{what:?} begins nothing");
        let Some((spoken, side)) = facts else { return };
        let from = word.role_of(side);
        let guessed = guessed_role(id, side);
        let (role, own, peer) = match kind(spoken) {
            SegmentKind::Syn => (Role::Originator, State::SynSent, State::Listen),
            SegmentKind::SynAck => (Role::Responder, State::SynReceived, State::SynSent),
            SegmentKind::Data | SegmentKind::Ack => (guessed, State::Established, State::Unknown),
            SegmentKind::Fin => (guessed, State::FinWait1, State::Unknown),
            SegmentKind::Rst => (guessed, State::Closed, State::Closed),
        };
        assert_eq!((from, word.state(from), word.state(from.opposite())), (role, own, peer), "begun by {spoken:?}");
        if matches!(word.phase(), Phase::Closed) && word.is_settled() {
            self.owed.closes[word.how().index()] += 1;
        }
    }

    /// The end of a flow in whose place another has begun.
    fn replaced(&mut self, was: &Known, what: &What) {
        self.owed.left[Eviction::Reused.index()] += 1;
        let [originator, responder] = [Role::Originator, Role::Responder].map(|role| was.word.state(role));
        let is_unanswered = was.word.outcome() == Outcome::InProgress;
        assert!(
            is_unanswered || originator.is_over() && responder.is_over(),
            "{what:?} replaces a living connection: {:?}",
            was.word
        );
        if is_unanswered {
            self.owed.attempts[Outcome::Abandoned.index()] += 1;
        }
    }

    fn moves(&mut self, id: &Id, was: &Known, now: &Known, facts: Option<(&Spoken, Side)>, what: &What, stage: &Stage) {
        let context = || format!("{id:?} went from {:?} to {:?} by {what:?}", was.word, now.word);
        goes_forward(was.word, now.word, &context);
        match what {
            What::Sweep => ended_by_silence(was, now, stage, &context),
            What::Spoken(_) | What::Again { .. } => {
                if let Some((spoken, side)) = facts {
                    follows_the_arrows(was.word, now.word, spoken, side, &context);
                }
            }
            What::Gone { .. } => assert!(
                was.word == now.word
                    || [Role::Originator, Role::Responder].iter().all(|&role| {
                        let (before, after) = (was.word.state(role), now.word.state(role));
                        before == after || after == State::Closed
                    }),
                "{}",
                context()
            ),
            What::Unreachable { .. } => {
                assert!(was.word == now.word || now.word.outcome() == Outcome::Unreachable, "{}", context())
            }
            What::Adopted { .. } => assert_eq!(was.word, now.word, "{}", context()),
            What::Damaged(..) | What::Noise(_) => {}
        }
        let (before, after) = (was.word.outcome(), now.word.outcome());
        let is_counted = match after {
            Outcome::InProgress | Outcome::NotSeen => false,
            Outcome::Unreachable => !was.was_unreachable,
            _ => true,
        };
        if before == Outcome::InProgress && is_counted {
            self.owed.attempts[after.index()] += 1;
        }
        let is_over = |word: Word| matches!(word.phase(), Phase::TimeWait | Phase::Closed);
        if now.word.is_settled() && is_over(now.word) && !is_over(was.word) {
            self.owed.closes[now.word.how().index()] += 1;
        }
    }

    fn leaves(&mut self, id: &Id, was: &Known, what: &What, stage: &Stage) {
        assert!(matches!(what, What::Sweep), "{id:?} has left after {what:?}");
        assert_eq!(was.word.phase(), Phase::Closed, "{id:?} has left before it was over");
        let lingered_ns = stage.now_ns() - was.changed_ns;
        assert!(lingered_ns > 5_000_000_000, "{id:?} has left after {lingered_ns} ns");
        let reason = match (was.word.outcome(), was.word.how()) {
            (Outcome::NotSeen, _) if !was.is_settled => Eviction::Unconfirmed,
            (Outcome::TimedOut, _) | (_, How::Timeout) => Eviction::TimedOut,
            _ => Eviction::Closed,
        };
        self.owed.left[reason.index()] += 1;
    }

    fn left(&self, reason: Eviction) -> u64 {
        sum_of(&self.counters, reason)
    }

    /// What was counted is what happened.
    fn settle_accounts(&self) {
        for &outcome in Outcome::ALL {
            let counted: u64 = self.counters.attempts.iter().flatten().map(|by| by[outcome.index()]).sum();
            assert_eq!(counted, self.owed.attempts[outcome.index()], "attempts that were {outcome:?}");
        }
        for &how in How::ALL {
            let counted: u64 = self.counters.closes.iter().map(|by| by[how.index()]).sum();
            assert_eq!(counted, self.owed.closes[how.index()], "closes by {how:?}");
        }
        for &reason in Eviction::ALL {
            assert_eq!(self.left(reason), self.owed.left[reason.index()], "evictions as {reason:?}");
        }
        let left: u64 = self.owed.left.iter().sum();
        assert_eq!(self.owed.begun, left + self.flows.len() as u64, "flows that began and never left");
    }

    fn reach(&mut self, word: Word) {
        let reached = &mut self.reached;
        for role in [Role::Originator, Role::Responder] {
            reached.states[word.state(role).index()] = true;
        }
        reached.phases[word.phase().index()] = true;
        reached.outcomes[word.outcome().index()] = true;
        reached.hows[word.how().index()] = true;
        reached.initiators[word.initiator().index()] = true;
    }
}

fn sum_of(counters: &Counters, reason: Eviction) -> u64 {
    counters.evictions.iter().map(|by| by[reason.index()]).sum()
}

/// The segment that an act shows.
fn spoken(stage: &Stage, what: &What) -> Option<Spoken> {
    match what {
        What::Spoken(spoken) => Some(spoken.clone()),
        What::Again { elsewhere: false } => stage.last().cloned(),
        What::Again { elsewhere: true } => stage.last().map(|last| moved(last, ELSEWHERE)),
        What::Unreachable { .. }
        | What::Damaged(..)
        | What::Noise(_)
        | What::Sweep
        | What::Adopted { .. }
        | What::Gone { .. } => None,
    }
}

/// Whether an act is about the flow of these endpoints.
fn is_of(stage: &Stage, what: &What, id: &Id) -> bool {
    let pair = match what {
        What::Spoken(spoken) | What::Damaged(spoken, _) => spoken.pair,
        What::Again { .. } => stage.last().map_or(0, |spoken| spoken.pair),
        What::Unreachable { pair, .. } | What::Adopted { pair, .. } | What::Gone { pair } => *pair,
        What::Noise(_) | What::Sweep => return false,
    };
    [End::Client, End::Server].iter().all(|&end| [id.low, id.high].contains(&stage.endpoint(pair, end)))
}

/// `rst`, `syn`, `synack`, `fin`, `data`, `ack`: the first that applies.
fn kind(spoken: &Spoken) -> SegmentKind {
    match spoken.flags {
        flags if flags & RST != 0 => SegmentKind::Rst,
        flags if flags & (SYN | ACK) == SYN | ACK => SegmentKind::SynAck,
        flags if flags & SYN != 0 => SegmentKind::Syn,
        flags if flags & FIN != 0 => SegmentKind::Fin,
        _ if spoken.payload_bytes > 0 => SegmentKind::Data,
        _ => SegmentKind::Ack,
    }
}

/// "The endpoint with a port below 1024 is the responder; if both or neither has one, the endpoint with the lower port
/// is."
fn guessed_role(id: &Id, side: Side) -> Role {
    let (own, peer) = match side {
        Side::Low => (id.low.port(), id.high.port()),
        Side::High => (id.high.port(), id.low.port()),
    };
    let is_server = if (own < 1024) == (peer < 1024) { own < peer } else { own < 1024 };
    if is_server { Role::Responder } else { Role::Originator }
}

/// What does not come back within one incarnation.
fn goes_forward(was: Word, now: Word, context: &impl Fn() -> String) {
    let (before, after) = (was.outcome(), now.outcome());
    // "After `unreachable` the same SYN goes on with the attempt."
    let resumes = (before, after) == (Outcome::Unreachable, Outcome::InProgress);
    assert!(before == after || before == Outcome::InProgress || resumes, "{}", context());
    let rank = |how| match how {
        How::Open => 0,
        How::Fin => 1,
        How::Simultaneous => 2,
        How::Rst | How::Timeout => 3,
    };
    assert!(was.how() == now.how() || rank(was.how()) < rank(now.how()), "{}", context());
    let begun = match (was.initiator(), now.initiator()) {
        (before, after) if before == after => true,
        (Initiator::Nobody, _) => true,
        (Initiator::Originator | Initiator::Responder, Initiator::Both) => true,
        (Initiator::Originator | Initiator::Responder | Initiator::Both, _) => false,
    };
    assert!(begun, "{}", context());
    let rank = |phase| match phase {
        Phase::HalfOpen => 0,
        Phase::Established => 1,
        Phase::HalfClosed | Phase::Closing => 2,
        Phase::TimeWait => 3,
        Phase::Closed => 4,
    };
    assert!(resumes || rank(was.phase()) <= rank(now.phase()), "{}", context());
    assert!(!was.is_settled() || now.is_settled(), "{}", context());
    for mark in [Mark::Seen, Mark::FinSent, Mark::RstSent, Mark::IsnSeen, Mark::Confirmed, Mark::Local] {
        for role in [Role::Originator, Role::Responder] {
            assert!(now.has_of(mark, role) || !was.has_of(mark, role), "{mark:?} was taken back: {}", context());
        }
    }
    assert_eq!(was.role_of(Side::Low), now.role_of(Side::Low), "{}", context());
    assert!(was.has(Mark::Inferred) || !now.has(Mark::Inferred), "{}", context());
}

/// Each end's state follows along figure 5 on what this segment says of it.
fn follows_the_arrows(was: Word, now: Word, spoken: &Spoken, side: Side, context: &impl Fn() -> String) {
    let has = |flag: u8| spoken.flags & flag != 0;
    let from = was.role_of(side);
    if now.outcome() == Outcome::InProgress && was.outcome() == Outcome::Unreachable {
        // The attempt goes on from its beginning.
        assert_eq!((now.state(from), now.state(from.opposite())), (State::SynSent, State::Listen), "{}", context());
        return;
    }
    if was.states() != now.states() && now.outcome() == Outcome::Abandoned {
        // "FIN right after the SYN, no SYN-ACK seen: both closed."
        let is_closed = |role| now.state(role) == State::Closed;
        assert!(is_closed(Role::Originator) && is_closed(Role::Responder), "{}", context());
        assert!(has(FIN) || has(RST), "{}", context());
        return;
    }
    let peer = from.opposite();
    let picks_up = now.outcome() == Outcome::NotSeen;
    let sender = |draws| match draws {
        Draws::SendsSyn => has(SYN),
        Draws::SendsFin => has(FIN),
        Draws::SendsAck => has(ACK),
        Draws::SendsRst => has(RST),
        // What had passed before has arrived, as this acknowledgement says.
        Draws::GetsSyn => was.has_of(Mark::IsnSeen, peer),
        Draws::GetsFin => has(ACK) && was.has_of(Mark::FinSent, peer),
        Draws::GetsAck => has(ACK) && was.has_of(Mark::Seen, peer) && was.outcome() == Outcome::InProgress,
        Draws::GetsRst => false,
        Draws::Overlooked => picks_up,
    };
    assert!(is_way(was.state(from), now.state(from), &sender), "no arrow for the sender: {}", context());
    let receiver = |draws| match draws {
        Draws::GetsSyn => has(SYN),
        Draws::GetsFin => has(FIN),
        Draws::GetsAck => has(ACK),
        Draws::GetsRst => has(RST),
        Draws::SendsSyn | Draws::SendsFin | Draws::SendsAck | Draws::SendsRst => false,
        Draws::Overlooked => picks_up,
    };
    assert!(is_way(was.state(peer), now.state(peer), &receiver), "no arrow for the receiver: {}", context());
}

const SECOND: u64 = 1_000_000_000;

/// docs/semantics.md, "Times and expiry": what may be ended is ended, and nothing else.
fn ended_by_silence(was: &Known, now: &Known, stage: &Stage, context: &impl Fn() -> String) {
    let silent_ns = stage.now_ns().saturating_sub(was.last_seen_ns);
    let is_local = |role| was.word.has_of(Mark::Local, role);
    let limit_ns = match was.word.phase() {
        Phase::Closed => return assert_eq!(was.word, now.word, "{}", context()),
        Phase::TimeWait => {
            let is_over = stage.now_ns().saturating_sub(was.changed_ns) > 60 * SECOND;
            for role in [Role::Originator, Role::Responder] {
                let ends = is_over && was.word.state(role) == State::TimeWait;
                let after = if ends { State::Closed } else { was.word.state(role) };
                assert_eq!(now.word.state(role), after, "{}", context());
            }
            return;
        }
        Phase::HalfOpen if matches!(was.word.state(Role::Responder), State::Listen | State::Unknown) => {
            129 * SECOND / 2
        }
        Phase::HalfOpen => 65 * SECOND / 2,
        _ if !was.is_settled => 120 * SECOND,
        Phase::Established => 5 * 86_400 * SECOND,
        // "60 s if this host's only endpoint is in FIN_WAIT_2"
        Phase::HalfClosed => {
            let waits = |role| is_local(role) && was.word.state(role) == State::FinWait2;
            let is_only = is_local(Role::Originator) != is_local(Role::Responder);
            let orphan = is_only && (waits(Role::Originator) || waits(Role::Responder));
            if orphan { 60 * SECOND } else { 5 * 86_400 * SECOND }
        }
        Phase::Closing => 130 * SECOND,
    };
    let states = [Role::Originator, Role::Responder].map(|role| now.word.state(role));
    if silent_ns > limit_ns {
        assert_eq!(states, [State::Closed; 2], "after {silent_ns} ns: {}", context());
        let outcome = now.word.outcome();
        let is_told = outcome == Outcome::TimedOut || now.word.how() == How::Timeout;
        assert!(is_told, "{}", context());
    } else {
        assert_eq!(was.word, now.word, "after {silent_ns} ns: {}", context());
    }
}
