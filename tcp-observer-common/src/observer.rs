//! From a parsed segment to an updated flow: the one path that kernel, replay and tests share.
//!
//! ```text
//!   steady? ─yes─► count, advance, first letter       (data in order and ACKs of established flows end here)
//!     │no
//!     ▼
//!   SYN, or else data or FIN of no settled flow? ─yes─► begin one, unless it is known (where the table looks as it puts in)
//!     │
//!     ▼
//!   find ──► copy? ─yes─► skip: duplicate
//!     │        ▼
//!     │      next() ──► exchange the word ──► tell, note halves and times, count ──► settled now? move to the flows
//!     ▼
//!   none: begin a flow among the half-open ones, or skip
//! ```
//!
//! A table that has no room is asked for one that is worth less ([`room`]).
//!
//! Of the two tables, handshakes in progress and unconfirmed mid-stream pick-ups live in the half-open one, so that
//! a flood of either cannot take the room of established flows.
//!
//! Both directions of a flow may be on two CPUs at once. The word changes by compare-and-exchange, so each transition
//! happens, and is counted, once. What a word says that was sent is written before it says so. While a flow moves from
//! one table to the other its word already says that it has left; whoever finds it so looks again. All races and their
//! worst outcomes are in ARCHITECTURE.md.

use core::{cell::Cell, ops::Deref};

use crate::{
    conn::{
        Decision, Flow, Judged, Letter, Locality, Mark, Note, Outcome, Role, Sent, Story, Times, Verdict, Word,
        WordCell, acknowledges_what_was_sent, begin, count, next, on_quote, tell, tell_at_length, tell_beginning,
        tell_first,
    },
    counters::{Eviction, HookDirection, Skip, TableKind, place, tally},
    flow::{Address, FlowKey, Side},
    histogram::Sample,
    limits::Limits,
    room,
    segment::{Flags, Segment, SegmentKind},
    seq::SeqNum,
    table::{Looked, Refusal, There},
    verifier::forget,
    wire::Quote,
};

/// Where a segment was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tap(pub u32);

impl Tap {
    /// The hook of an interface, which has an index above zero, in one direction.
    #[inline(always)]
    pub const fn new(interface: u32, direction: HookDirection) -> Self {
        Self(interface << 1 | direction as u32)
    }

    /// The interface's index.
    #[inline(always)]
    pub const fn interface(self) -> u32 {
        self.0 >> 1
    }

    /// Which way packets pass here.
    #[inline(always)]
    pub const fn direction(self) -> HookDirection {
        HookDirection::from_bits((self.0 & 1) as u8)
    }
}

/// One segment, seen once.
#[derive(Clone, Copy, Debug)]
pub struct Sighting<'a> {
    /// The side of the flow's key that sent it.
    pub side: Side,
    pub segment: &'a Segment,
    pub tap: Tap,
}

/// A table of flows, shared by all CPUs.
pub trait Table<A> {
    type Entry: Deref<Target = Flow>;

    /// The flow with this key, if it is seen at this moment.
    fn find(&self, key: &FlowKey<A>) -> Option<Self::Entry>;
    /// Puts a flow in, unless the key is there and stays. Where there is no room, those that could make some are shown to
    /// `gives_way`, oldest first, each with the word that it had while it was to be found; the first of which that says so
    /// is taken out. A table without a bound shows none. `write` writes the flow where it will lie, over whatever was
    /// there, with this epoch in its word; nobody sees it before that is done.
    ///
    /// # Errors
    /// When the key is there and stays, there is no room, or no turn.
    fn insert(
        &self,
        key: &FlowKey<A>,
        there: There,
        gives_way: impl Fn(&FlowKey<A>, &Flow, Word) -> bool,
        write: impl FnOnce(&Flow, u16),
    ) -> Result<(), Refusal>;
    /// Takes out an entry that was found with this word and that is this CPU's to take out, since it has retired it or moves
    /// it; nothing where it has left already, with the key that was put in over it.
    fn take_out(&self, key: &FlowKey<A>, entry: &Self::Entry, word: Word);
}

/// A flow that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known<E> {
    pub flow: E,
    /// Among the settled ones, not in the half-open table.
    pub is_settled: bool,
}

/// For whom a flow is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seeker {
    /// The segment at hand, whose entry may have found it already.
    Segment,
    Agent,
}

/// What a new flow finds on its tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Predecessor {
    /// What to note of it; [`Note::Nothing`] where there was none.
    pub note: Note,
    /// Whether it lies, retired, in the half-open table, where the new flow takes its place.
    pub is_in_the_way: bool,
}

impl Predecessor {
    pub const NONE: Self = Self { note: Note::Nothing, is_in_the_way: false };
}

/// The tables of one address family, and which addresses of the family are this host's own.
pub trait Family<A> {
    type Table: Table<A>;
    const FLOWS: TableKind;
    const HALF_OPEN: TableKind;

    fn flows(&self) -> Self::Table;
    fn half_open(&self) -> Self::Table;
    fn is_local(&self, addr: &A) -> bool;
    /// Looks for a flow, first among the settled ones: where it is, it has settled last. A method, so that the kernel can
    /// look into both tables at once.
    #[inline(always)]
    fn find(&self, key: &FlowKey<A>, _seeker: Seeker) -> Looked<Known<<Self::Table as Table<A>>::Entry>> {
        if let Some(flow) = self.flows().find(key) {
            return Looked::Found(Known { flow, is_settled: true });
        }
        match self.half_open().find(key) {
            Some(flow) => Looked::Found(Known { flow, is_settled: false }),
            // It may have moved from the one table to the other between the two looks.
            None if self.flows().find(key).is_some() => Looked::Unsure,
            None => Looked::Absent,
        }
    }
    /// One attempt to take a segment in. A method, so that the kernel can make it a function of its own.
    fn attempt(&self, key: &FlowKey<A>, sighting: Sighting<'_>) -> Done
    where
        Self: Host + Sized,
        A: Address,
    {
        attempt(self, key, sighting)
    }
    /// Puts a copy of a flow into one of the two tables ([`room::put`]). A method likewise.
    ///
    /// # Errors
    /// As that has them.
    fn put(&self, key: &FlowKey<A>, flow: &Flow, there: There, is_half_open: bool) -> Result<(), Refusal>
    where
        Self: Host + Sized,
        A: Address,
    {
        room::put(self, key, there, is_half_open, |place, epoch| place.become_like(flow, epoch))
    }
    /// [`room::gives_way`]. A method likewise.
    fn gives_way(&self, key: &FlowKey<A>, flow: &Flow, word: Word, is_half_open: bool) -> bool
    where
        Self: Host + Sized,
        A: Address,
    {
        room::gives_way(self, key, flow, word, is_half_open)
    }
    /// [`begin_flow`]. A method likewise.
    fn begin(&self, key: &FlowKey<A>, sighting: Sighting<'_>, over: Predecessor) -> Done
    where
        Self: Host + Sized,
        A: Address,
    {
        begin_flow(self, key, sighting, over)
    }
    /// The same for a segment whose flow was not looked for, or not found: `None` where that is known, or may be. A table that
    /// looks for a key as it puts it in need not look twice.
    #[inline(always)]
    fn begin_unless_known(&self, _key: &FlowKey<A>, _sighting: Sighting<'_>) -> Option<Done> {
        None
    }
}

/// What the observer needs of the place it runs in.
pub trait Host {
    /// The time in nanoseconds, precisely.
    fn precise_ns(&self) -> u64;
    /// The same within a timer tick, for much less.
    fn coarse_ns(&self) -> u64;
    /// Exchanges the bits of a cell if they are still `current`; says whether they were.
    fn exchange_bits(&self, cell: &Cell<u64>, current: u64, new: u64) -> bool;
    /// Exchanges a flow's word likewise.
    #[inline(always)]
    fn exchange(&self, word: &WordCell, current: Word, new: Word) -> bool {
        self.exchange_bits(&word.0, current.0, new.0)
    }
    /// Adds to the counter at a [`place`].
    fn add(&self, place: usize, amount: u64);
    /// Adds a value to one of the histograms.
    fn record(&self, histogram: u32, sample: Sample);
    /// The counter slot of a responder's port. With `claim` a free slot is given to a port that has none.
    fn port_slot(&self, port: u16, claim: bool) -> usize;
    /// Counts what a transition means. A method, so that the kernel can make it a function of its own.
    fn account(&self, transition: &Transition, times: &Times)
    where
        Self: Sized,
    {
        tally::transition(self, *transition, times);
    }
    /// Whether flows begin with any segment, as one wants it of a capture, or only with those that a live flow sends.
    fn keeps_all(&self) -> bool;
    /// [`carry_out`]. A method, so that the kernel can make it a function of its own.
    fn carry_out(&self, flow: &Flow, segment: &Segment, transition: &Transition)
    where
        Self: Sized,
    {
        carry_out(self, flow, segment, transition);
    }
    /// Tells a flow's story on. A method, so that a replay can look at what was told.
    #[inline(always)]
    fn tell(&self, flow: &Flow, segment: &Segment, judged: Judged)
    where
        Self: Sized,
    {
        tell(self, flow, segment, judged);
    }
    /// The same of its first segment.
    #[inline(always)]
    fn tell_beginning(&self, flow: &Flow, segment: &Segment, judged: Judged)
    where
        Self: Sized,
    {
        tell_beginning(self, flow, segment, judged);
    }
    /// [`tell_at_length`]. A method, so that the kernel can make it a function of its own.
    fn tell_at_length(&self, flow: &Flow, segment: &Segment, judged: Judged) -> u64
    where
        Self: Sized,
    {
        tell_at_length(self, flow, segment, judged)
    }
    /// How long silence may last; `None` where no flow has to make room.
    fn limits(&self) -> Option<&Limits> {
        None
    }
}

/// One accepted segment, and what it has made of a flow's word. Without padding: the kernel passes it by address, and
/// the verifier asks for every byte.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Transition {
    pub before: Word,
    pub after: Word,
    pub now_ns: u64,
    /// The number after the highest one that the sender was seen to send before.
    pub next_seq: SeqNum,
    pub responder_port: u16,
    /// Who sent the segment.
    pub from: Role,
    pub note: Note,
}

const _: () = assert!(size_of::<Transition>() == 32);

/// How often a segment looks its flow up, when other CPUs change it meanwhile. Long enough for a flow to move from one
/// table to the other, which takes several times as long as to look it up: a FIN or RST that is not taken in leaves its
/// flow open for as long as silence may last. As often a flow that moves waits for its turn: it would be lost.
const ATTEMPTS: u32 = 32;

/// Takes one segment in: one flow is updated, or the reason why none is comes back. `options` reads the segment's
/// options, should they be asked for.
///
/// # Errors
/// The reason, which the caller counts.
#[inline(always)]
pub fn observe<A: Address, E: Host + Family<A>>(
    host: &E,
    key: &FlowKey<A>,
    sighting: Sighting<'_>,
    options: impl FnOnce() -> crate::segment::Options,
) -> Result<(), Skip> {
    if matches!(on_steady(host, key, sighting), Steady::Taken) {
        return Ok(());
    }
    let segment = Segment { options: options(), ..*sighting.segment };
    observe_unsteady(host, key, Sighting { segment: &segment, ..sighting })
}

/// The longer way of a segment that has left the shortest path, with its options.
///
/// # Errors
/// As [`observe`].
#[inline(always)]
pub fn observe_unsteady<A: Address, E: Host + Family<A>>(
    host: &E,
    key: &FlowKey<A>,
    sighting: Sighting<'_>,
) -> Result<(), Skip> {
    // Most likely of a connection that nobody knows, unless the shortest path has found it. Nonsense begins none, and is
    // told of one that is known.
    let segment = sighting.segment;
    let may_begin = matches!(segment.kind(), SegmentKind::Syn | SegmentKind::Fin | SegmentKind::Data);
    if may_begin && segment.flags.are_plausible() {
        match host.begin_unless_known(key, sighting) {
            Some(Done::Updated) => {
                count_segments(host, sighting);
                return Ok(());
            }
            Some(Done::Skipped(reason)) => return Err(reason),
            Some(Done::Again) | None => {}
        }
    }
    let mut attempts = 0;
    while attempts < ATTEMPTS {
        attempts += 1;
        match host.attempt(key, sighting) {
            Done::Updated => return Ok(()),
            Done::Skipped(reason) => return Err(reason),
            Done::Again => {}
        }
    }
    Err(Skip::Contended)
}

/// Takes in an ICMP error: the attempt whose SYN it quotes is over.
///
/// # Errors
/// [`Skip::NotTcp`] where it ends nothing, as for any other ICMP packet.
#[inline(always)]
pub fn observe_quote<A: Address, E: Host + Family<A>>(host: &E, quote: &Quote<A>) -> Result<(), Skip> {
    let Some(flow) = host.half_open().find(&quote.key) else {
        return Err(Skip::NotTcp);
    };
    let word = flow.word.load();
    let from = word.role_of(quote.side);
    let Some(after) = on_quote(word, from, quote.seq, flow.half(quote.side)) else {
        return Err(Skip::NotTcp);
    };
    if word.has(Mark::Retired) || !host.exchange(&flow.word, word, after) {
        return Err(Skip::Contended);
    }
    flow.times.changed_ns.set(host.precise_ns());
    host.add(place::unreachable(quote.reason), 1);
    count(host, Note::Unreachable);
    // A sender that tries on meets the same error again: one attempt.
    if !flow.story.has(Note::Unreachable) {
        flow.story.add(host, Story::unreachable_bits(quote.reason));
        tally::attempt(host, after, quote.key.port(after.side_of(Role::Responder)), Outcome::Unreachable);
    }
    Ok(())
}

/// What came of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    Updated,
    Skipped(Skip),
    /// Somebody else was faster: look again.
    Again,
}

/// What has come of a segment on the shortest path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steady<E> {
    /// It is taken in.
    Taken,
    /// It goes the longer way, and this settled flow is its own.
    Known(E),
    /// It goes the longer way, and its flow is yet to be found, if there is one.
    Unknown,
}

/// The shortest path: data in order or an ACK of an established flow, at the hook that its direction belongs to, when
/// nothing about it is new but that it may be the first of its kind: the window is open, and the direction was not silent
/// for long.
#[inline(always)]
pub fn on_steady<A: Address, E: Host + Family<A>>(
    host: &E,
    key: &FlowKey<A>,
    sighting: Sighting<'_>,
) -> Steady<<E::Table as Table<A>>::Entry> {
    let Sighting { side, segment, tap } = sighting;
    let flags = segment.flags;
    // A SYN most likely belongs to none of them; nor does a RST, of which there may be many.
    if flags.has(Flags::SYN | Flags::RST) {
        return Steady::Unknown;
    }
    let Some(flow) = host.flows().find(key) else {
        return Steady::Unknown;
    };
    let (kind, letter) =
        if segment.payload_bytes > 0 { (SegmentKind::Data, Letter::Data) } else { (SegmentKind::Ack, Letter::Ack) };
    let half = flow.half(side);
    let is_expected = half.tap.get() == tap.0
        && half.next_seq.get() == segment.seq
        && !half.window_is_zero()
        && segment.window != 0
        && flags.are_plain();
    let word = flow.word.load();
    if !is_expected || !word.is_steady() {
        return Steady::Known(flow);
    }
    let now_ns = host.coarse_ns();
    if half.is_lulled(now_ns) {
        return Steady::Known(flow);
    }
    if !half.has(letter) {
        // Into a closed window it may be a probe.
        if flow.half(side.opposite()).window_is_zero() {
            return Steady::Known(flow);
        }
        tell_first(host, &flow.story, half, segment, word.role_of(side), letter);
    }
    half.count(segment, now_ns);
    half.advance_in_order(segment);
    host.add(place::segments(tap.direction(), kind), u64::from(segment.wire_segments));
    Steady::Taken
}

/// One attempt to take a segment in.
#[inline(always)]
pub fn attempt<A: Address, E: Host + Family<A>>(host: &E, key: &FlowKey<A>, sighting: Sighting<'_>) -> Done {
    let done = match host.find(key, Seeker::Segment) {
        Looked::Found(Known { flow, is_settled }) => update(host, key, &flow, is_settled, sighting),
        Looked::Unsure => Done::Again,
        Looked::Absent => host.begin(key, sighting, Predecessor::NONE),
    };
    if matches!(done, Done::Updated) {
        count_segments(host, sighting);
    }
    done
}

#[inline(always)]
fn count_segments(host: &impl Host, Sighting { segment, tap, .. }: Sighting<'_>) {
    host.add(place::segments(tap.direction(), segment.kind()), u64::from(segment.wire_segments));
}

/// A segment of a flow that is known.
#[inline(always)]
fn update<A: Address, E: Host + Family<A>>(
    host: &E,
    key: &FlowKey<A>,
    flow: &<E::Table as Table<A>>::Entry,
    is_settled: bool,
    sighting: Sighting<'_>,
) -> Done {
    let Sighting { side, segment, tap } = sighting;
    let word = flow.word.load();
    let half = flow.half(side);
    let kind = segment.kind();
    if word.has(Mark::Retired) || word.is_settled() != is_settled {
        return Done::Again;
    }
    let from = word.role_of(side);
    let is_elsewhere = half.tap.get() != tap.0;
    if word.has_of(Mark::Seen, from) && is_elsewhere && !brings_news(word, from, segment, flow) {
        return Done::Skipped(Skip::Duplicate);
    }
    let now_ns =
        if matches!(kind, SegmentKind::Data | SegmentKind::Ack) && !matches!(word.outcome(), Outcome::InProgress) {
            host.coarse_ns()
        } else {
            host.precise_ns()
        };
    let peer = flow.half(side.opposite());
    let verdict = if segment.flags.are_plausible() {
        let silent_ns = if word.has_of(Mark::Seen, from) { half.silent_ns(now_ns) } else { u64::MAX >> 1 };
        next(word, from, segment, &Sent { sender: half, receiver: peer, silent_ns })
    } else {
        Verdict::stale(Note::NonsenseFlags)
    };
    let note = Note::from_bits(forget(verdict.note() as u64) as u8);
    let next_seq = half.next_seq.get();
    let judged = Judged { word, from, note, next_seq };
    let after = match verdict.decision() {
        Decision::Accept(after) => said(after, from, note),
        Decision::Stale => {
            // Nobody takes it for the connection's, but it was there to be seen: at one hook.
            if is_elsewhere && half.tap.get() != 0 {
                return Done::Skipped(Skip::Stale);
            }
            host.tell(flow, segment, judged);
            half.sight(segment, now_ns);
            half.tap.set(tap.0);
            return Done::Skipped(if matches!(note, Note::NonsenseFlags) { Skip::BadFlags } else { Skip::Stale });
        }
        Decision::Reincarnate => return reincarnate(host, key, flow, judged, is_settled, sighting),
    };
    let (word, after) = (Word(forget(word.0)), Word(forget(after.0)));
    let from = word.role_of(side);
    let settles = after.is_settled() && !is_settled;
    // The address may be younger than the flow, by as much as the agent takes to notice it.
    let after = if settles && matches!(after.locality(), Locality::Forwarded) {
        with_locality(host, key, after).forgotten()
    } else {
        after
    };
    // Numbers before the word that says that they are there, for whoever reads them on another CPU at this moment.
    if !word.has_of(Mark::Seen, from) {
        half.introduce(segment, tap.0);
    }
    // Likewise the end of the stream: an acknowledgement of the last data must not be taken for one of the FIN.
    if matches!(kind, SegmentKind::Fin) {
        half.next_seq.set(segment.end());
    }
    if after != word && !host.exchange(&flow.word, word, after) {
        half.next_seq.set(next_seq);
        return Done::Again;
    }
    // The first that is seen of this direction; or the path has changed, or this hook lies before the other one.
    half.tap.set(tap.0);
    let responder_port = key.port(after.side_of(Role::Responder));
    host.carry_out(flow, segment, &Transition { before: word, after, now_ns, next_seq, responder_port, from, note });
    if settles { settle(host, key, flow, word) } else { Done::Updated }
}

/// The word of a flow once one of its ends has said something: whatever it was, it answers the peer's probes.
#[inline(always)]
const fn said(word: Word, from: Role, note: Note) -> Word {
    let word = word.with_of(Mark::Seen, from).without_of(Mark::Probing, from.opposite());
    if matches!(note, Note::Keepalive) { word.with_of(Mark::Probing, from) } else { word }
}

/// Writes down what a transition, which the flow's word says already, leaves behind: story, half, times and counters.
#[inline(always)]
pub fn carry_out<H: Host>(host: &H, flow: &Flow, segment: &Segment, transition: &Transition) {
    let &Transition { before, after, now_ns, next_seq, from, note, .. } = transition;
    host.tell(flow, segment, Judged { word: before, from, note, next_seq });
    let side = before.side_of(from);
    let (half, peer) = (flow.half(side), flow.half(side.opposite()));
    let peer_last_ns = peer.last_seen_ns.get();
    half.note(before, from, segment, note, next_seq, peer, now_ns);
    flow.times.note(before, after, note, peer_last_ns, now_ns);
    if tally::may_count(transition) {
        host.account(transition, &flow.times);
    }
}

/// Whether a segment that another hook than its direction's own has seen is no copy: it says what was not said yet.
#[inline(always)]
fn brings_news(word: Word, from: Role, segment: &Segment, flow: &Flow) -> bool {
    let half = flow.half(word.side_of(from));
    match segment.kind() {
        SegmentKind::Syn | SegmentKind::SynAck => !word.has_of(Mark::IsnSeen, from) || segment.seq != half.isn.get(),
        SegmentKind::Rst => !word.has_of(Mark::RstSent, from),
        SegmentKind::Fin => !word.has_of(Mark::FinSent, from),
        SegmentKind::Data | SegmentKind::Ack => {
            // Until its first ACK an end has acknowledged nothing that could be compared, and without the flag the
            // field says nothing.
            let acknowledges = segment.flags.has(Flags::ACK)
                && (!half.has_acknowledged() || segment.ack.after(half.acked.get()))
                && acknowledges_what_was_sent(word, from, segment, flow.half(word.side_of(from.opposite())));
            // Nothing comes after a FIN.
            let goes_on = segment.end().after(half.next_seq.get()) && !word.has_of(Mark::FinSent, from);
            acknowledges || goes_on
        }
    }
}

/// The handshake is over, or both directions are confirmed: the flow moves among the settled ones.
#[inline(always)]
fn settle<A: Address, E: Host + Family<A>>(
    host: &E,
    key: &FlowKey<A>,
    flow: &<E::Table as Table<A>>::Entry,
    word: Word,
) -> Done {
    let (mut inserted, mut attempts) = (Err(Refusal::Busy), 0);
    while attempts < ATTEMPTS && matches!(inserted, Err(Refusal::Busy)) {
        attempts += 1;
        inserted = host.put(key, flow, There::Stays, false);
    }
    host.half_open().take_out(key, flow, word);
    match inserted {
        Ok(()) => Done::Updated,
        // What is there is this flow's predecessor, which nobody could find any more.
        Err(Refusal::Exists | Refusal::Busy) => Done::Skipped(Skip::Contended),
        Err(Refusal::Full) => Done::Skipped(Skip::TableFull),
    }
}

/// A segment of a flow that is not known: the flow goes into the half-open table, if there is room to be had.
#[inline(always)]
pub fn begin_flow<A: Address, E: Host + Family<A>>(
    host: &E,
    key: &FlowKey<A>,
    sighting: Sighting<'_>,
    over: Predecessor,
) -> Done {
    let beginning = match Beginning::of(host, key, sighting, over.note) {
        Ok(beginning) => beginning,
        Err(reason) => return Done::Skipped(reason),
    };
    let there = if over.is_in_the_way { There::IsReplaced } else { There::Stays };
    let put = room::put(host, key, there, true, |flow, epoch| beginning.write(host, flow, epoch));
    beginning.counted(host, put)
}

/// A flow that a segment begins, before it lies anywhere.
#[derive(Clone, Copy, Debug)]
pub struct Beginning<'a> {
    sighting: Sighting<'a>,
    word: Word,
    note: Note,
    now_ns: u64,
}

impl<'a> Beginning<'a> {
    /// What a segment begins; `over` notes what it finds on its tuple.
    ///
    /// # Errors
    /// Why it begins nothing.
    #[inline(always)]
    pub fn of<A: Address, E: Host + Family<A>>(
        host: &E,
        key: &FlowKey<A>,
        sighting: Sighting<'a>,
        over: Note,
    ) -> Result<Self, Skip> {
        let Sighting { side, segment, .. } = sighting;
        let Some((word, note)) = begin(key, side, segment, host.keeps_all()) else {
            let is_nonsense = !segment.flags.are_plausible();
            return Err(if is_nonsense { Skip::BadFlags } else { Skip::UnknownFlow });
        };
        let now_ns = host.precise_ns();
        let word = with_locality(host, key, word);
        let word = if host.keeps_all() { word.with(Mark::MayLack) } else { word };
        let note = if matches!(over, Note::Nothing) { note } else { over };
        let note = Note::from_bits(forget(note as u64) as u8);
        Ok(Self { sighting, word: word.forgotten(), note, now_ns })
    }

    /// Writes the flow, over whatever lies there.
    #[inline(always)]
    pub fn write<H: Host>(&self, host: &H, flow: &Flow, epoch: u16) {
        let &Self { sighting: Sighting { side, segment, tap }, word, note, now_ns } = self;
        flow.start(word.in_epoch(epoch), side, segment, now_ns, tap.0);
        flow.story.notes.set(note.bit() & !Note::Nothing.bit());
        let told = Word::fresh(0).with_roles_of(word);
        let judged = Judged { word: told, from: word.role_of(side), note: Note::Nothing, next_seq: segment.seq };
        host.tell_beginning(flow, segment, judged);
    }

    /// What has come of it, counted once it has room.
    #[inline(always)]
    pub fn counted<H: Host>(&self, host: &H, put: Result<(), Refusal>) -> Done {
        match put {
            Ok(()) => {
                count(host, self.note);
                Done::Updated
            }
            Err(Refusal::Exists | Refusal::Busy) => Done::Again,
            Err(Refusal::Full) => Done::Skipped(Skip::TableFull),
        }
    }
}

/// The word with what is known now of which ends are this host's.
#[inline(always)]
fn with_locality<A: Address, E: Family<A>>(host: &E, key: &FlowKey<A>, word: Word) -> Word {
    let (originator, responder) = (word.side_of(Role::Originator), word.side_of(Role::Responder));
    let word = if is_local(host, key.addr(originator)) { word.with_of(Mark::Local, Role::Originator) } else { word };
    if is_local(host, key.addr(responder)) { word.with_of(Mark::Local, Role::Responder) } else { word }
}

#[inline(always)]
fn is_local<A: Address, E: Family<A>>(host: &E, addr: &A) -> bool {
    addr.is_loopback() || host.is_local(addr)
}

/// A new incarnation of a tuple whose flow is over, or whose attempt is given up. The new one goes in first, where
/// it has another table to go to, so that a full table costs nobody the old one.
#[inline(always)]
fn reincarnate<A: Address, E: Host + Family<A>>(
    host: &E,
    key: &FlowKey<A>,
    old: &<E::Table as Table<A>>::Entry,
    judged: Judged,
    is_settled: bool,
    sighting: Sighting<'_>,
) -> Done {
    let Judged { word, note, .. } = judged;
    let over = Predecessor { note, is_in_the_way: !is_settled };
    if !is_settled {
        if !host.exchange(&old.word, word, word.with(Mark::Retired)) {
            return Done::Again;
        }
        if matches!(word.outcome(), Outcome::InProgress) {
            tally::attempt(host, word, key.port(word.side_of(Role::Responder)), Outcome::Abandoned);
        }
        host.add(place::evictions(E::HALF_OPEN, Eviction::Reused), 1);
        let started = host.begin(key, sighting, over);
        if !matches!(started, Done::Updated) {
            host.half_open().take_out(key, old, word);
        }
        return started;
    }
    let started = host.begin(key, sighting, over);
    if !matches!(started, Done::Updated) {
        return started;
    }
    let mut word = word;
    if !host.exchange(&old.word, word, word.with(Mark::Retired)) {
        // Another CPU or the sweep was faster. The new flow is there and has its segment: what is left is to take away
        // the old one, unless somebody does.
        word = old.word.load();
        let is_the_same = !word.has(Mark::Retired) && word.epoch() == judged.word.epoch();
        if !is_the_same || !host.exchange(&old.word, word, word.with(Mark::Retired)) {
            return started;
        }
    }
    host.add(place::evictions(E::FLOWS, Eviction::Reused), 1);
    host.flows().take_out(key, old, word);
    started
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_says_which_interface_and_which_way() {
        for (interface, direction) in [(1, HookDirection::Ingress), (u32::MAX >> 1, HookDirection::Egress)] {
            let tap = Tap::new(interface, direction);
            assert_eq!((tap.interface(), tap.direction()), (interface, direction));
        }
    }
}
