//! What happens to flows, one event after the other: what `replay --follow` shows.
//!
//! A segment that the core does not take by the shortest path is [told](Follower::told) here, with what it was judged
//! to be; once the core is done with it, it becomes an [`Event`] if it has changed a state or is worth a note. Ordinary
//! data and acknowledgements are neither, and most of them do not even come by. What silence ends has an event at the
//! moment at which its limit is reached: moments are kept in a heap, one for each flow that is alive.
//!
//! Numbers are relative to the same beginnings as tcpdump's (its `print-tcp.c`), which are learnt from a
//! conversation's first segment with an ACK.

use std::{
    cell::{Cell, RefCell},
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, HashMap},
    io,
    net::SocketAddr,
    ops::Deref,
};

use tcp_observer_common::{
    conn::{Flow, Judged, Locality, Note, Outcome, Phase, Role, Word},
    counters::Unreachable,
    flow::{FlowKey4, FlowKey6, Side},
    limits::Limits,
    segment::{Flags, Segment},
    seq::SeqNum,
};

use super::link::Tags;
use crate::snapshot::Key;

/// How far ahead moments are kept: a flow that is unchanged for longer is looked at again then, so that the moments of
/// flows that have come to another end do not pile up.
const AHEAD_NS: u64 = 30_000_000_000;

/// What the change of state says already.
const SAID_BY_STATES: [Note; 3] = [Note::Nothing, Note::SynAnswered, Note::Completed];

/// Something that happened to a flow.
#[derive(Clone, Debug)]
pub struct Event {
    pub unix_ns: u64,
    /// Whether the capture's time stamps are finer than microseconds.
    pub has_nanoseconds: bool,
    pub cause: Cause,
    pub originator: SocketAddr,
    pub responder: SocketAddr,
    /// What this host is to the flow; `None` where nobody said which addresses are local.
    pub role: Option<Locality>,
    /// The ids of the VLANs that the flow is in, outermost first.
    pub vlans: Vec<u16>,
    /// `None` where the flow begins.
    pub before: Option<Word>,
    pub after: Word,
    /// What is unusual about it.
    pub notes: Vec<Note>,
    /// Where this has completed the handshake.
    pub handshake: Option<Handshake>,
}

/// What an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Segment(Seen),
    /// A limit was reached.
    Silence,
    /// Another flow begins on the tuple.
    Replaced,
    /// An ICMP error.
    Unreachable(Unreachable),
}

/// A segment as tcpdump prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub from: Role,
    pub flags: Flags,
    /// The ninth flag, AE.
    pub accurate_ecn: bool,
    pub seq: Number,
    /// `None` without the ACK flag.
    pub ack: Option<Number>,
    pub payload_bytes: u32,
}

/// A sequence number as the header has it, and as it is printed: the same in SYNs, relative after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    pub raw: u32,
    pub shown: u32,
}

/// The times of a handshake that has completed, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    pub syn_to_synack_ns: Option<u64>,
    pub synack_to_ack_ns: Option<u64>,
    pub total_ns: Option<u64>,
}

impl Event {
    /// Whether an attempt has come to an end by this: its outcome.
    pub fn failure(&self) -> Option<Outcome> {
        let outcome = self.after.outcome();
        let is_over = !matches!(outcome, Outcome::InProgress | Outcome::Completed | Outcome::NotSeen);
        (is_over && self.before.is_none_or(|before| before.outcome() != outcome)).then_some(outcome)
    }

    /// Whether this was the last that had to happen for the connection to be closed, but for TIME-WAIT.
    pub fn closes(&self) -> bool {
        let is_over = |word: Word| {
            let is_connection = matches!(word.outcome(), Outcome::Completed | Outcome::NotSeen);
            is_connection && matches!(word.phase(), Phase::TimeWait | Phase::Closed)
        };
        is_over(self.after) && !self.before.is_some_and(is_over)
    }
}

/// A flow key of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Id {
    Ipv4(FlowKey4),
    Ipv6(FlowKey6),
}

impl From<FlowKey4> for Id {
    fn from(key: FlowKey4) -> Self {
        Self::Ipv4(key)
    }
}

impl From<FlowKey6> for Id {
    fn from(key: FlowKey6) -> Self {
        Self::Ipv6(key)
    }
}

impl Id {
    fn endpoint(&self, side: Side) -> SocketAddr {
        match self {
            Self::Ipv4(key) => key.endpoint(side),
            Self::Ipv6(key) => key.endpoint(side),
        }
        .into()
    }
}

/// A flow of a capture: its key, and the VLANs it is in.
pub(super) type Tagged = (Tags, Id);

/// What is kept of a flow besides its record.
#[derive(Clone, Copy, Debug, Default)]
struct Living {
    /// Where the numbers of the low and of the high side begin; learnt from the first ACK.
    begins: Option<[SeqNum; 2]>,
    /// Its moment in the heap that counts; others are left over.
    due_ns: Option<u64>,
}

/// A moment at which silence may change a flow.
#[derive(Clone, Copy, Debug)]
struct Due {
    at_ns: u64,
    /// What was put in first comes first.
    order: u64,
    id: Tagged,
}

impl Due {
    fn precedence(&self) -> (u64, u64) {
        (self.at_ns, self.order)
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        self.precedence().cmp(&other.precedence())
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.precedence() == other.precedence()
    }
}

impl Eq for Due {}

/// A segment between being judged and having been taken in.
#[derive(Clone, Copy, Debug)]
struct Told {
    segment: Segment,
    from: Role,
    before: Option<Word>,
    after: Word,
    notes: u64,
}

/// When something happens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// By the clock of the flows' own times.
    pub now_ns: u64,
    pub unix_ns: u64,
    pub knows_local: bool,
}

/// What happens to a flow.
struct Change {
    cause: Cause,
    before: Option<Word>,
    after: Word,
    notes: Vec<Note>,
    handshake: Option<Handshake>,
}

/// Makes events of what the core tells.
#[derive(Debug, Default)]
pub(super) struct Follower {
    pub has_nanoseconds: Cell<bool>,
    told: Cell<Option<Told>>,
    living: RefCell<HashMap<Tagged, Living>>,
    dues: RefCell<BinaryHeap<Reverse<Due>>>,
    put_in: Cell<u64>,
    events: RefCell<Vec<Event>>,
}

impl Follower {
    /// Takes what the core says of a segment: `notes` are those of this one.
    pub fn told(&self, flow: &Flow, segment: &Segment, judged: Judged, notes: u64) {
        // Of no flow but one that begins is nothing known of either end.
        let begins = judged.word.states() == 0;
        let (before, notes) = if begins { (None, flow.story.notes.get()) } else { (Some(judged.word), notes) };
        // The word was exchanged before.
        let after = flow.word.load();
        self.told.set(Some(Told { segment: *segment, from: judged.from, before, after, notes }));
    }

    /// The core is done with a packet. `find` finds the flow that its segment belongs to by now.
    pub fn taken<F: Deref<Target = Flow>>(&self, id: Tagged, moment: Moment, find: impl FnOnce() -> Option<F>) {
        let Some(Told { segment, from, before, after, notes }) = self.told.take() else {
            return;
        };
        let flow = find();
        if let Some(flow) = &flow {
            self.wait(id, flow, moment.now_ns);
        }
        let seen = self.seen(id, after.side_of(from), from, &segment);
        let is_told = |note: &Note| notes & note.bit() != 0 && !SAID_BY_STATES.contains(note);
        let notes: Vec<_> = Note::ALL.iter().copied().filter(is_told).collect();
        if notes.is_empty() && before.is_some_and(|before| !is_changed(before, after)) {
            return;
        }
        let was_open = before.is_some_and(|before| before.outcome() == Outcome::InProgress);
        let completes = was_open && after.outcome() == Outcome::Completed;
        let handshake = flow.filter(|_| completes).map(|flow| Handshake {
            syn_to_synack_ns: flow.times.syn_to_synack_ns(),
            synack_to_ack_ns: flow.times.synack_to_ack_ns(),
            total_ns: flow.times.total_ns(),
        });
        self.add(id, moment, Change { cause: Cause::Segment(seen), before, after, notes, handshake });
    }

    /// Something else than a segment has changed a flow's word.
    pub fn changed(&self, id: Tagged, moment: Moment, cause: Cause, before: Word, after: Word) {
        if is_changed(before, after) {
            let change = Change { cause, before: Some(before), after, notes: Vec::new(), handshake: None };
            self.add(id, moment, change);
        }
    }

    fn add(&self, (tags, id): Tagged, moment: Moment, change: Change) {
        let Change { cause, before, after, notes, handshake } = change;
        let event = Event {
            unix_ns: moment.unix_ns,
            has_nanoseconds: self.has_nanoseconds.get(),
            cause,
            originator: id.endpoint(after.side_of(Role::Originator)),
            responder: id.endpoint(after.side_of(Role::Responder)),
            role: moment.knows_local.then(|| after.locality()),
            vlans: tags.ids().to_vec(),
            before,
            after,
            notes,
            handshake,
        };
        self.events.borrow_mut().push(event);
    }

    /// A segment with its numbers as tcpdump shows them: those of a conversation's first ACK, and of SYNs, as they are.
    fn seen(&self, id: Tagged, side: Side, from: Role, segment: &Segment) -> Seen {
        let (seq, ack) = (segment.seq, segment.ack);
        let mut living = self.living.borrow_mut();
        let begins = &mut living.entry(id).or_default().begins;
        let (own, peers) = (side as usize, side.opposite() as usize);
        let relative_to = match *begins {
            _ if !segment.flags.has(Flags::ACK) => [SeqNum(0); 2],
            Some(begins) if !segment.flags.has(Flags::SYN) => begins,
            Some(_) | None => {
                let mut learnt = [seq; 2];
                learnt[peers] = SeqNum(ack.0.wrapping_sub(1));
                *begins = Some(learnt);
                [SeqNum(0); 2]
            }
        };
        let number = |SeqNum(raw), SeqNum(begin)| Number { raw, shown: u32::wrapping_sub(raw, begin) };
        Seen {
            from,
            flags: segment.flags,
            accurate_ecn: segment.accurate_ecn != 0,
            seq: number(seq, relative_to[own]),
            ack: segment.flags.has(Flags::ACK).then(|| number(ack, relative_to[peers])),
            payload_bytes: segment.payload_bytes,
        }
    }

    /// Sees to it that a flow is looked at right after the last moment at which it is unchanged, unless something
    /// happens to it before.
    pub fn wait(&self, id: Tagged, flow: &Flow, now_ns: u64) {
        let Some(unchanged_until_ns) = flow.unchanged_until_ns(&Limits::DEFAULT) else {
            return;
        };
        // After the end of time there is nothing to wait for.
        let Some(at_ns) = unchanged_until_ns.min(now_ns.saturating_add(AHEAD_NS)).checked_add(1) else {
            return;
        };
        let mut living = self.living.borrow_mut();
        let living = living.entry(id).or_default();
        if living.due_ns.is_none_or(|due_ns| at_ns < due_ns) {
            living.due_ns = Some(at_ns);
            let order = self.put_in.replace(self.put_in.get() + 1);
            self.dues.borrow_mut().push(Reverse(Due { at_ns, order, id }));
        }
    }

    /// The next moment that has come by `now_ns`, and whose it is; to be asked until there is none.
    pub fn due(&self, now_ns: u64) -> Option<(u64, Tagged)> {
        loop {
            let mut dues = self.dues.borrow_mut();
            if dues.peek()?.0.at_ns > now_ns {
                return None;
            }
            let Reverse(Due { at_ns, id, .. }) = dues.pop()?;
            // Others were put in before it became known that an earlier one is to be waited for.
            if let Some(living) = self.living.borrow_mut().get_mut(&id)
                && living.due_ns == Some(at_ns)
            {
                living.due_ns = None;
                return Some((at_ns, id));
            }
        }
    }

    /// A flow has left.
    pub fn forget(&self, id: Tagged) {
        self.living.borrow_mut().remove(&id);
    }

    /// Hands over what has happened since the last time.
    ///
    /// # Errors
    /// When `sink` takes no more.
    pub fn hand_over(&self, sink: &mut impl FnMut(Event) -> io::Result<()>) -> io::Result<()> {
        self.events.borrow_mut().drain(..).try_for_each(sink)
    }
}

/// Whether the states or the phase are others, or the outcome.
fn is_changed(before: Word, after: Word) -> bool {
    let outside = |word: Word| (word.states(), word.outcome(), word.phase());
    outside(before) != outside(after)
}
