//! What the watcher may say of an end, given what the end truly is.
//!
//! Each end has a history: its true state after each packet that it received or sent and each thing that befell it, as
//! it stands *on the wire*: a close whose FIN has not left yet has not happened, a RST or SYN likewise. Each step of the
//! history is *told* or in doubt. It is told
//!
//! - if it changes nothing,
//! - if it was a packet sent, once that packet or a copy passes the watcher,
//! - if it was a packet received, since that has passed the watcher before; but one that passed beyond a gap only when
//!   the end has spoken since, and so the SYN-ACK, whose receiver stays in SYN-SENT until its own ACK is seen.
//!
//! In doubt is what nobody was told: [`Doubt`] names every kind. The end is then in one of the states from the last step
//! that was told up to the present one, and the watcher has to say one of these, each moved on by what has passed the
//! watcher and is still to come to the end: a FIN in order, an acknowledgement of its FIN or of its SYN-ACK, a RST.
//! That set is a single state but for segments in flight or lost.
//!
//! For a near end nothing is in flight. Its doubts are only of the kinds for which [`Doubt::at_near_end`] says so.

use smoltcp::socket::tcp::State as TrueState;
use tcp_observer_common::conn::State;

use super::{
    packet::{Header, Packet},
    plan::{Action, End, Place, Plan},
    states::States,
    world::Cause,
};

/// Why a step of an end's history cannot be known yet, or ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// The packet that says so has not passed the watcher, or never will.
    NotPassed,
    /// It has received what had passed the watcher beyond a gap, and has said nothing since.
    BeyondGap,
    /// It has received a SYN-ACK, and its ACK has not passed.
    AckNotPassed,
    /// It has received a FIN behind a gap that more than one segment has filled, or that has passed before the gap was
    /// filled and comes again, and has said nothing since: a watcher that keeps where gaps end, and not where they
    /// begin, sees that they are filled by what is acknowledged.
    GapInPieces,
    /// It has lost its connection without a word.
    Crashed,
    /// Its TIME-WAIT is over. How long that lasts is the stack's own choice.
    TimeWaitOver,
    /// It has sent a SYN or SYN-ACK of a new connection while the old one was not known to be over.
    SynOverOld,
    /// It has sent or taken a RST whose number is not between what was acknowledged and what was sent.
    RstOutOfPlace,
    /// It has ignored a RST whose number is.
    RstIgnored,
    /// It has ignored an acknowledgement of its FIN or SYN-ACK whose own number lies at the edge of its window or beyond.
    AckIgnored,
    /// It has ignored a FIN in order behind data that it had already, as smoltcp does: it takes the end of the data for
    /// the end of the segment.
    FinIgnored,
    /// It answers a SYN of a connection that there has been before.
    OldSyn,
    /// It has sent a SYN after it had refused or ignored its peer's.
    SynRefused,
    /// It is in SYN-RECEIVED by a simultaneous open and has received a SYN-ACK, which smoltcp answers with an ACK and
    /// does not take; RFC 9293's figure 8 has it in ESTABLISHED.
    SynAckIgnored,
    /// It was in TIME-WAIT when a SYN passed towards it. RFC 9293, 3.6.1 lets it begin a connection, smoltcp does not.
    SynInTimeWait,
    /// A SYN or SYN-ACK of it has passed that it had sent before it gave up or was reset.
    LateSyn,
    /// It has closed before its peer's FIN came, but no FIN of it has passed until afterwards: not CLOSING by what
    /// passes, but LAST-ACK.
    FinHeldBack,
    /// A FIN or RST has passed that ends beyond the widest window that was advertised to its sender, behind data that
    /// does so too. RFC 9293, 3.8.6 forbids to send that; smoltcp heeds no window when it sends data again.
    BeyondWindow,
}

impl Doubt {
    /// Whether such a doubt is admitted where nothing is lost and no time passes between the end and the watcher.
    pub fn at_near_end(self) -> bool {
        match self {
            Self::NotPassed | Self::AckNotPassed | Self::BeyondGap => false,
            Self::GapInPieces
            | Self::BeyondWindow
            | Self::Crashed
            | Self::TimeWaitOver
            | Self::SynOverOld
            | Self::RstOutOfPlace
            | Self::RstIgnored
            | Self::AckIgnored
            | Self::FinIgnored
            | Self::OldSyn
            | Self::SynRefused
            | Self::SynAckIgnored
            | Self::SynInTimeWait
            | Self::LateSyn
            | Self::FinHeldBack => true,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Step {
    connection: u32,
    state: State,
    doubt: Option<Doubt>,
    sent: Option<Header>,
    /// Of the end's own accord, with nothing on the wire.
    is_own: bool,
}

/// What has passed the watcher towards one connection of an end.
#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    fin: Option<InOrder>,
    fin_acked: bool,
    syn: bool,
    syn_acked: bool,
    syn_acked_by_syn: bool,
    /// A RST in place; another one.
    rst: bool,
    doubtful_rst: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct InOrder(bool);

/// How a segment that passes stands to what has passed before.
#[derive(Clone, Copy, Debug)]
struct Hearing {
    beyond_gap: bool,
    rst_in_place: bool,
    repeats_syn: bool,
    is_dropped: bool,
}

/// One connection of an end, as it has shown itself to the watcher, and as it is.
#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    isn: Option<u32>,
    /// The number after the highest one truly sent, and after its FIN.
    sent_next: u32,
    sent_fin: Option<u32>,
    window: Option<u16>,
    /// The widest window of it that has passed.
    max_window: u16,
    sent_ack: Option<u32>,
    /// The same of what has passed.
    seen: bool,
    /// Whether its SYN was known to begin a connection, and not to fall into another one.
    fits: Option<u32>,
    next: u32,
    seen_fin: Option<u32>,
    gap_end: Option<u32>,
    /// The highest number of it that was acknowledged past the watcher.
    acked: Option<u32>,
    /// What is in doubt of it besides its steps.
    rst_ignored: bool,
    ack_ignored: bool,
    fin_ignored: bool,
    /// It has ignored data with an old acknowledgement.
    data_ignored: bool,
    old_syn: bool,
    syn_refused: bool,
    syn_in_time_wait: bool,
    late_syn: bool,
    late_syn_ack: bool,
    fin_held_back: bool,
    facts: Facts,
}

impl Stream {
    fn send(&mut self, header: Header) {
        if header.syn && self.isn != Some(header.seq) {
            (self.isn, self.sent_next) = (Some(header.seq), header.end());
        }
        if after(header.end(), self.sent_next) {
            self.sent_next = header.end();
        }
        if header.fin {
            self.sent_fin = Some(header.end());
        }
        (self.window, self.sent_ack) = (Some(header.window), header.ack);
    }

    /// A true state as far as it has been put on the wire.
    fn on_wire(&self, state: State) -> State {
        match state {
            State::SynSent | State::SynReceived if self.isn.is_none() => State::Closed,
            State::FinWait1 if self.sent_fin.is_none() => State::Established,
            State::LastAck | State::Closing if self.sent_fin.is_none() => State::CloseWait,
            state => state,
        }
    }

    /// Whether a RST has the number of its FIN, or one between what was acknowledged and what was sent.
    fn places(&self, header: Header) -> bool {
        let is_fins = self.seen_fin.is_some_and(|fin| fin == header.seq.wrapping_add(1));
        let first = self.acked.or(self.isn).unwrap_or(self.next);
        self.seen && (is_fins || within(header.seq, first, self.next))
    }

    fn syn_ack_ignored(&self) -> bool {
        self.facts.syn_acked_by_syn && !self.facts.syn_acked
    }

    /// These states, and those that the watcher takes them for where it cannot know better.
    fn doubted(&self, states: States) -> States {
        use State::*;
        let mut all = states;
        let mut also = |is_so: bool, from: State, to: &[State]| {
            if is_so && all.has(from) {
                all = all.or(States::of(to));
            }
        };
        also(self.syn_refused, SynSent, &[SynReceived]);
        also(self.syn_ack_ignored() || self.ack_ignored, SynReceived, &[Established]);
        also(self.ack_ignored, FinWait1, &[FinWait2]);
        also(self.fin_ignored, SynReceived, &[CloseWait]);
        also(self.fin_ignored, Established, &[CloseWait]);
        also(self.fin_ignored, FinWait1, &[Closing]);
        also(self.fin_ignored, FinWait2, &[TimeWait]);
        also(self.ack_ignored, Closing, &[TimeWait]);
        also(self.fin_held_back, Closing, &[LastAck]);
        also(self.ack_ignored, LastAck, &[Closed]);
        also(self.fin_held_back || self.syn_in_time_wait, TimeWait, &[Closed]);
        if self.rst_ignored || self.old_syn {
            all = all.with(Closed);
        }
        if self.late_syn {
            all = all.with(SynSent);
            // One that has come since crosses it, and a FIN without an answer gives it up.
            all = if self.facts.syn { all.with(SynReceived) } else { all };
            all = if self.sent_fin.is_some() { all.with(Closed) } else { all };
        }
        if self.late_syn_ack { all.with(SynReceived) } else { all }
    }

    fn see(&mut self, header: Header) {
        if header.syn && self.isn == Some(header.seq) && !self.seen {
            (self.seen, self.next) = (true, header.end());
        } else if self.seen && !header.rst {
            let fills = |end: u32| {
                let begins_before = self.acked.is_some_and(|acked| !after(header.seq, acked));
                header.payload > 0 && begins_before && !after(end, header.end())
            };
            if self.gap_end.is_some_and(fills) {
                self.gap_end = None;
            }
            if after(header.seq, self.next) {
                self.gap_end = Some(header.seq);
            }
            if after(header.end(), self.next) {
                self.next = header.end();
            }
        }
    }

    fn is_acknowledged_by(&self, header: Header) -> bool {
        let (Some(isn), Some(ack)) = (self.isn, header.ack) else {
            return false;
        };
        within(ack, isn.wrapping_add(1), self.sent_next)
    }

    /// Takes in what passes towards it.
    fn hear(&mut self, header: Header, how: Hearing) {
        let Hearing { beyond_gap, rst_in_place, repeats_syn, is_dropped } = how;
        let acknowledges =
            self.isn.is_some_and(|isn| header.ack.is_some_and(|ack| within(ack, isn.wrapping_add(1), self.sent_next)));
        let facts = &mut self.facts;
        if header.rst {
            let counts = rst_in_place && (self.seen || self.isn.is_none());
            facts.rst |= counts;
            facts.doubtful_rst |= !counts;
            if rst_in_place {
                facts.syn = false;
            }
        } else if acknowledges {
            if self.acked.is_none_or(|acked| header.ack.is_some_and(|ack| after(ack, acked))) {
                self.acked = header.ack;
            }
            facts.syn_acked |= !header.syn && !repeats_syn;
            facts.syn_acked_by_syn |= header.syn;
            facts.fin_acked |= !is_dropped && self.sent_fin.is_some() && header.ack == self.sent_fin;
            if header.fin && facts.fin.is_none() {
                facts.fin = Some(InOrder(!beyond_gap));
            }
        } else if header.syn && header.ack.is_none() {
            facts.syn = true;
        }
    }
}

fn after(one: u32, other: u32) -> bool {
    (one.wrapping_sub(other) as i32) > 0
}

fn within(number: u32, first: u32, last: u32) -> bool {
    number.wrapping_sub(first) <= last.wrapping_sub(first)
}

pub struct Oracle {
    near: Option<End>,
    ends: [Side; 2],
    /// Counts the connections that the watcher knows of.
    epoch: u32,
    /// A SYN has passed that may have begun one, or not.
    is_ambiguous: bool,
    /// A connection has begun that the watcher takes for none, over one that both ends have lost.
    is_superseded: bool,
    /// A FIN or RST has passed that its sender was not allowed to send.
    is_beyond_window: bool,
}

#[derive(Default)]
struct Side {
    steps: Vec<Step>,
    /// The last step that is told, with all before it.
    told: usize,
    streams: Vec<Stream>,
    /// A SYN that has passed towards it and that it has not received, and whether a RST has passed after that.
    coming_syn: Option<u32>,
    coming_rst: bool,
    coming_doubtful_rst: bool,
    has_refused_syn: bool,
    taken_syns: Vec<u32>,
    /// The RSTs of it that have passed: of which connection, their numbers, and whether they were in place then.
    passed_rsts: Vec<(u32, u32, bool)>,
}

impl Side {
    fn stream(&mut self, connection: u32) -> &mut Stream {
        let index = connection as usize;
        if self.streams.len() <= index {
            self.streams.resize(index + 1, Stream::default());
        }
        &mut self.streams[index]
    }

    /// The connection that a segment acknowledges something of, else the last one.
    fn addressed(&mut self, header: Header) -> Option<&mut Stream> {
        // What a RST acknowledges says nothing, if it is smoltcp's in SYN-SENT.
        let acknowledged = self.streams.iter().rposition(|stream| !header.rst && stream.is_acknowledged_by(header));
        let index = acknowledged.or(self.streams.len().checked_sub(1))?;
        self.streams.get_mut(index)
    }

    /// The last SYN of which it is told.
    fn last_syn(&self) -> Option<Header> {
        self.steps[..=self.told].iter().rev().find_map(|step| step.sent.filter(|sent| sent.syn))
    }

    /// What an application does is done when its RST leaves.
    fn undo_unsent(&mut self) {
        if let [.., before, last] = &mut self.steps[..]
            && last.is_own
            && last.doubt == Some(Doubt::NotPassed)
        {
            (last.state, last.doubt) = (before.state, None);
        }
    }

    fn advance(&mut self) {
        while self.steps.get(self.told + 1).is_some_and(|step| step.doubt.is_none()) {
            self.told += 1;
        }
    }

    /// Everything up to this step is told.
    fn tell_up_to(&mut self, step: usize) {
        self.told = self.told.max(step);
        for earlier in &mut self.steps[..=step] {
            earlier.doubt = None;
        }
        self.advance();
    }
}

pub(super) fn core_state(state: TrueState) -> State {
    match state {
        // One that listens has no connection; the watcher's `listen` says no more than that either.
        TrueState::Closed | TrueState::Listen => State::Closed,
        TrueState::SynSent => State::SynSent,
        TrueState::SynReceived => State::SynReceived,
        TrueState::Established => State::Established,
        TrueState::FinWait1 => State::FinWait1,
        TrueState::FinWait2 => State::FinWait2,
        TrueState::CloseWait => State::CloseWait,
        TrueState::Closing => State::Closing,
        TrueState::LastAck => State::LastAck,
        TrueState::TimeWait => State::TimeWait,
    }
}

impl Oracle {
    pub fn new(plan: &Plan) -> Self {
        let near = match plan.place {
            Place::Near(end) => Some(end),
            Place::Middle => None,
        };
        let start = Step { connection: 0, state: State::Closed, doubt: None, sent: None, is_own: true };
        let side = || Side { steps: vec![start], ..Side::default() };
        Self {
            near,
            ends: [side(), side()],
            epoch: 0,
            is_ambiguous: false,
            is_superseded: false,
            is_beyond_window: false,
        }
    }

    fn end(&mut self, end: End) -> &mut Side {
        &mut self.ends[end as usize]
    }

    /// Takes an end's true state in. `packet` is the one that it has received or sent.
    pub fn stepped(&mut self, end: End, cause: Cause, truth: TrueState, connection: u32, packet: Option<&Packet>) {
        let (beyond_gap, is_old, rst_in_place) = match (cause, packet) {
            (Cause::Received(_), Some(packet)) => {
                (self.is_beyond_gap(packet), self.is_old(packet), self.is_in_place(packet))
            }
            _ => (false, false, false),
        };
        let near = self.near;
        let header = packet.map(|packet| packet.header);
        let sent = if let Cause::Sent(_) = cause { header } else { None };
        let is_placed = packet
            .is_some_and(|packet| self.end(packet.from).streams.iter().any(|stream| stream.places(packet.header)));
        // It may have overtaken the data before it, which has passed since.
        let rst_was_in_place = packet.is_none_or(|packet| {
            let passed = &self.end(packet.from).passed_rsts;
            let is_this = |rst: &&(u32, u32, bool)| (rst.0, rst.1) == (packet.connection, packet.header.seq);
            passed.iter().filter(is_this).any(|rst| rst.2)
        });
        let from_other = packet.filter(|packet| packet.from != end);
        let epoch = self.epoch;
        let syn_fits =
            from_other.is_none_or(|packet| self.end(packet.from).stream(packet.connection).fits == Some(epoch));
        let side = self.end(end);
        if side.streams.len() <= connection as usize {
            let taken = header.filter(|header| header.syn && matches!(cause, Cause::Received(_)));
            let is_old_syn = taken.is_some_and(|header| side.taken_syns.contains(&header.seq));
            side.taken_syns.extend(taken.map(|header| header.seq));
            side.stream(connection).old_syn = is_old_syn;
            side.stream(connection).syn_refused = side.has_refused_syn && !side.coming_rst;
            let facts = match cause {
                Cause::Received(_) if is_old_syn => Facts { doubtful_rst: side.coming_rst, ..Facts::default() },
                Cause::Received(_) => {
                    let (rst, doubtful_rst) = (side.coming_rst, side.coming_doubtful_rst);
                    Facts { rst, doubtful_rst, ..Facts::default() }
                }
                _ => {
                    let syn = (side.coming_syn.is_some() || side.has_refused_syn) && !side.coming_rst;
                    Facts { syn, ..Facts::default() }
                }
            };
            side.stream(connection).facts = facts;
        }
        if let (Cause::Received(_), Some(header)) = (cause, header)
            && header.syn
            && side.coming_syn == Some(header.seq)
        {
            side.coming_syn = None;
            side.has_refused_syn = core_state(truth) != State::SynReceived;
        }
        side.has_refused_syn |= cause == Cause::Acted(Action::Crash);
        let stream = side.stream(connection);
        if let Some(header) = sent.filter(|header| !header.rst) {
            stream.send(header);
        }
        let on_wire = stream.on_wire(core_state(truth));
        if sent.is_some_and(|header| header.rst) {
            side.undo_unsent();
        }
        let last = *side.steps.last().expect("a history has a beginning");
        let is_new =
            sent.is_some_and(|header| header.syn) && !side.steps.iter().any(|step| is_syn_of(step, connection));
        let changed = last.state != on_wire || is_new;
        let is_bare_syn = header.is_some_and(|header| header.syn && header.ack.is_none());
        // A SYN-ACK has passed before this SYN, so that no two SYNs seem to have crossed.
        let answered_before = side.stream(connection).facts.syn_acked_by_syn;
        let doubt = match cause {
            Cause::Received(_) if header.is_some_and(|header| header.rst) => {
                let stream = side.stream(connection);
                let may_have_crossed = on_wire == State::SynSent && (stream.syn_refused || stream.facts.syn);
                let is_ignored =
                    (rst_in_place || is_placed || may_have_crossed) && !changed && on_wire != State::Closed;
                stream.rst_ignored |= is_ignored;
                (changed && !(rst_in_place && rst_was_in_place)).then_some(Doubt::RstOutOfPlace)
            }
            _ if !changed => None,
            Cause::Received(_) if is_bare_syn && (!syn_fits || answered_before) => Some(Doubt::SynOverOld),
            Cause::Received(_) if (last.state, on_wire) == (State::SynSent, State::Established) => {
                Some(Doubt::AckNotPassed)
            }
            Cause::Received(_) => {
                // Where the FIN stood when it passed counts: what lacked then may have come since.
                let fin_beyond_gap = beyond_gap || side.stream(connection).facts.fin == Some(InOrder(false));
                let is_near = near == Some(end);
                match has_received_fin(on_wire) {
                    true if fin_beyond_gap && is_near => Some(Doubt::GapInPieces),
                    true if fin_beyond_gap && !is_near => Some(Doubt::BeyondGap),
                    _ => None,
                }
            }
            Cause::Sent(_) => Some(Doubt::NotPassed),
            Cause::Acted(Action::Crash) => Some(Doubt::Crashed),
            Cause::Acted(_) | Cause::Timer if last.state == State::TimeWait => Some(Doubt::TimeWaitOver),
            Cause::Acted(_) | Cause::Timer => Some(Doubt::NotPassed),
        };
        if let (Cause::Received(_), Some(header)) = (cause, header) {
            let stream = side.stream(connection);
            let acks = match on_wire {
                State::SynReceived => stream.isn.map(|isn| isn.wrapping_add(1)),
                _ => stream.sent_fin,
            };
            let is_due = matches!(on_wire, State::SynReceived | State::FinWait1 | State::Closing | State::LastAck);
            // It lacks what lies before, or has no room for it.
            let is_ahead = stream.sent_ack.is_some_and(|ack| after(header.seq, ack));
            let has_no_room = is_ahead || stream.window == Some(0) && header.payload > 0;
            let acks_less = stream.acked.is_some_and(|acked| header.ack.is_some_and(|ack| after(acked, ack)));
            stream.data_ignored |= header.payload > 0 && acks_less;
            let is_ignorable = header.payload > 0 || acks_less || stream.data_ignored;
            stream.fin_ignored |= header.fin && is_ignorable && has_taken_no_fin(on_wire);
            stream.ack_ignored |= is_due
                && (beyond_gap || is_old || has_no_room || stream.fin_ignored)
                && !header.syn
                && !header.rst
                && acks.is_some()
                && header.ack == acks;
        }
        let is_own = !matches!(cause, Cause::Sent(_) | Cause::Received(_));
        side.steps.push(Step { connection, state: on_wire, doubt, sent, is_own });
        side.advance();
    }

    /// Whether a FIN or anything else stands behind a gap that its receiver has not been seen to acknowledge.
    fn is_beyond_gap(&mut self, packet: &Packet) -> bool {
        let stream = *self.end(packet.from).stream(packet.connection);
        let unfilled = stream.gap_end.is_some_and(|end| stream.acked.is_none_or(|acked| after(end, acked)));
        unfilled || after(packet.header.seq, stream.next)
    }

    /// Whether a segment holds nothing but data that was acknowledged before, or lies before all that has passed: its
    /// receiver drops it, with its acknowledgement, and may not have acknowledged anything of that yet.
    fn is_old(&mut self, packet: &Packet) -> bool {
        let stream = *self.end(packet.from).stream(packet.connection);
        let is_passed = stream.seen && after(stream.next, packet.header.end());
        is_passed
            || packet.header.end() != packet.header.seq
                && stream.acked.is_some_and(|acked| !after(packet.header.end(), acked))
    }

    /// Whether a segment ends before what its receiver has acknowledged past the watcher: it is dropped, with its
    /// acknowledgement (RFC 9293, 3.10.7.4, first check).
    fn is_dropped(&mut self, packet: &Packet) -> bool {
        let acked = self.end(packet.from).stream(packet.connection).acked;
        acked.is_some_and(|acked| after(acked, packet.header.end()))
    }

    /// Whether a segment stands where its sender's data ends, beyond the widest window that its peer has advertised to it.
    /// The FIN's own number is not data. No end of the simulation has more room than a window without scale tells of.
    fn ends_beyond_window(&mut self, packet: &Packet) -> bool {
        let widest = self.end(packet.from.opposite()).streams.last().map_or(0, |peer| peer.max_window);
        let stream = *self.end(packet.from).stream(packet.connection);
        let is_own = stream.isn.is_some() && packet.header.end() == stream.sent_next;
        let edge = stream.acked.map(|acked| acked.wrapping_add(u32::from(widest) + 1));
        is_own && edge.is_some_and(|edge| after(packet.header.end(), edge))
    }

    /// Whether the watcher follows the connection that there is.
    pub fn is_followed(&self) -> bool {
        !self.is_superseded && !self.is_beyond_window
    }

    /// Whether a RST has a number between what its receiver has acknowledged and what its sender has sent, as far as both
    /// have passed, or acknowledges the SYN of a receiver that was not answered.
    fn is_in_place(&mut self, packet: &Packet) -> bool {
        let header = packet.header;
        let receiver_may_be = self.possible(packet.from.opposite());
        let waits = receiver_may_be.has(State::SynSent) && !receiver_may_be.has(State::SynReceived);
        let receiver = self.end(packet.from.opposite()).streams.last().copied().unwrap_or_default();
        if waits
            && receiver.acked.is_none()
            && receiver.seen
            && header.ack == receiver.isn.map(|isn| isn.wrapping_add(1))
        {
            return true;
        }
        let stream = *self.end(packet.from).stream(packet.connection);
        stream.fits == Some(self.epoch) && !self.is_ambiguous && stream.places(header)
    }

    /// Takes in that a packet passes the watcher.
    pub fn passed(&mut self, packet: &Packet) {
        let Packet { from, connection, header, step, .. } = *packet;
        let to = from.opposite();
        let rst_in_place = header.rst && self.is_in_place(packet);
        let beyond_gap = self.is_beyond_gap(packet);
        let is_dropped = self.is_dropped(packet);
        self.is_beyond_window |= (header.fin || header.rst) && self.ends_beyond_window(packet);
        if let Some(receiver) = self.end(from).streams.get_mut(connection as usize) {
            receiver.max_window = receiver.max_window.max(header.window);
        }
        if header.rst {
            self.end(from).passed_rsts.push((connection, header.seq, rst_in_place));
        }
        let syn_fits = header.syn && self.syn_fits(packet);
        let receiver = self.possible(to);
        let peer_fin = self.end(to).streams.last().and_then(|stream| stream.sent_fin);
        if header.syn && header.ack.is_none() {
            let is_first = self.end(from).stream(connection).fits.is_none();
            let crosses = self.known(to).has(State::SynSent);
            if syn_fits && is_first && !crosses {
                self.epoch += 1;
            }
            self.is_ambiguous = !syn_fits;
            self.is_superseded &= !syn_fits;
            self.is_beyond_window &= !syn_fits;
            let receiver = self.end(to);
            receiver.coming_syn = Some(header.seq);
            (receiver.coming_rst, receiver.coming_doubtful_rst) = (false, false);
            receiver.has_refused_syn = false;
        } else if rst_in_place {
            self.end(to).coming_rst = true;
        } else if header.rst {
            self.end(to).coming_doubtful_rst = true;
        }
        let syn_fits = syn_fits || header.ack.is_some_and(|ack| header.syn && self.settles(from, ack));
        // An attempt goes on that the watcher takes to have ended with another one that had crossed it.
        let crossed = self.end(to).streams.last().is_some_and(|stream| stream.rst_ignored && stream.acked.is_none());
        self.is_superseded |= header.syn && header.ack.is_some() && crossed;
        let epoch = self.epoch;
        let side = self.end(from);
        // As a keepalive does before anything else was acknowledged.
        let repeats_syn = side.stream(connection).isn == Some(header.seq);
        for index in side.told + 1..side.steps.len() {
            let earlier = &mut side.steps[index];
            match earlier.doubt {
                Some(Doubt::BeyondGap | Doubt::GapInPieces) if index <= step && !header.rst => earlier.doubt = None,
                Some(Doubt::AckNotPassed) if index <= step && !header.rst && !repeats_syn => earlier.doubt = None,
                Some(Doubt::NotPassed) if earlier.sent.is_some_and(|sent| is_same(&sent, &header)) => {
                    earlier.doubt = match (header.syn, header.rst) {
                        (true, _) if !syn_fits => Some(Doubt::SynOverOld),
                        (_, true) if !rst_in_place => Some(Doubt::RstOutOfPlace),
                        _ => None,
                    };
                }
                _ => {}
            }
        }
        let answered_before = header.ack.is_some() && side.stream(connection).facts.syn_acked_by_syn;
        if syn_fits
            && !answered_before
            && let Some(index) = side.steps.iter().rposition(|step| says_the_same(step, &header))
        {
            side.tell_up_to(index);
        }
        side.advance();
        let mut is_late_syn = false;
        let stream = side.stream(connection);
        if syn_fits {
            stream.fits = Some(epoch);
        }
        // Only a FIN that passes first tells whether it was sent before the peer's came.
        if header.fin && stream.seen_fin.is_none() {
            stream.seen_fin = Some(header.end());
            stream.fin_held_back = peer_fin.is_some() && header.ack == peer_fin;
        }
        if header.syn && header.ack.is_none() && stream.isn == Some(header.seq) {
            let was_reset = stream.facts.rst || stream.facts.doubtful_rst;
            (stream.facts.rst, stream.facts.doubtful_rst) = (false, was_reset);
            stream.late_syn |= was_reset;
            is_late_syn = true;
        }
        stream.see(header);
        if header.syn
            && header.ack.is_none()
            && let Some(stream) = self.end(to).streams.last_mut()
        {
            stream.syn_in_time_wait |= receiver.has(State::TimeWait);
            // For the watcher the SYN begins anew what a RST had ended.
            let was_reset = stream.facts.rst || stream.facts.doubtful_rst;
            (stream.facts.rst, stream.facts.doubtful_rst) = (false, was_reset);
        }
        if let Some(stream) = self.end(to).addressed(header) {
            stream.hear(header, Hearing { beyond_gap, rst_in_place, repeats_syn, is_dropped });
        }
        if header.syn && header.ack.is_some() {
            let side = self.end(from);
            let last = *side.steps.last().expect("a history has a beginning");
            let has_moved_on = last.connection != connection || matches!(last.state, State::Closed | State::TimeWait);
            if let Some(stream) = side.streams.last_mut() {
                stream.late_syn_ack |= has_moved_on;
            }
        }
        if is_late_syn {
            let side = self.end(from);
            let last = *side.steps.last().expect("a history has a beginning");
            let has_moved_on = last.connection != connection || last.state != State::SynSent;
            // What has passed towards it before crosses this one, as it seems.
            let crosses = has_moved_on && side.coming_syn.is_some() && !side.coming_rst;
            side.stream(connection).late_syn |= has_moved_on;
            side.stream(connection).facts.syn |= crosses;
            if let Some(stream) = side.streams.last_mut() {
                stream.late_syn |= has_moved_on;
            }
        }
        if header.syn
            && header.ack.is_some()
            && self.end(from).stream(connection).old_syn
            && let Some(stream) = self.end(to).streams.last_mut()
        {
            stream.late_syn = true;
        }
    }

    /// A SYN-ACK that acknowledges a SYN of which nobody knew whether it would begin a connection. Where the old one is
    /// over, it has; else the watcher goes on with the old one.
    fn settles(&mut self, from: End, ack: u32) -> bool {
        let to = from.opposite();
        let over = States::of(&[State::Closed, State::TimeWait]);
        let is_over = self.known(from).is_within(over) && self.known(to).is_within(over);
        let is_ambiguous = self.is_ambiguous;
        let receiver = self.end(to);
        let Some(index) = receiver.steps.iter().rposition(|step| step.sent.is_some_and(|sent| sent.syn)) else {
            return false;
        };
        let Step { connection, sent, .. } = receiver.steps[index];
        // A RST that answers another copy of the SYN has ended the attempt.
        let was_reset = receiver.streams.get(connection as usize).is_some_and(|stream| stream.facts.rst);
        if !is_ambiguous || was_reset || sent.is_none_or(|syn| syn.end() != ack) {
            return false;
        }
        if !is_over {
            self.is_superseded = true;
            return false;
        }
        receiver.tell_up_to(index);
        self.epoch += 1;
        self.is_ambiguous = false;
        let epoch = self.epoch;
        self.end(to).stream(connection).fits = Some(epoch);
        true
    }

    /// Whether a SYN or SYN-ACK is known to be of the connection that there is, or that begins.
    fn syn_fits(&mut self, packet: &Packet) -> bool {
        let (from, to) = (packet.from, packet.from.opposite());
        let (sender, receiver) = (self.known(from), self.known(to));
        let is_over = self.truth(to).0 == State::Closed;
        if packet.header.ack.is_none() && !is_over && self.end(to).streams.last().is_some_and(|stream| stream.old_syn) {
            return false;
        }
        let receiver_opens = self.end(to).last_syn().is_some_and(|syn| syn.ack.is_none());
        let closed = States::of(&[State::Closed]);
        let opening = States::of(&[State::SynSent, State::SynReceived]);
        match packet.header.ack {
            // Each has sent its SYN before the other's came.
            // One that has answered by a SYN-ACK of another number has lost that connection since.
            None if receiver.is_within(opening) && receiver_opens => {
                let answer = self.end(from).last_syn().filter(|syn| syn.ack.is_some() && syn.seq != packet.header.seq);
                sender.is_within(closed.or(opening)) && !(sender.has(State::SynReceived) && answer.is_some())
            }
            None => receiver == closed && sender.is_within(closed.with(State::TimeWait).with(State::SynSent)),
            Some(ack) => {
                let side = self.end(to);
                let syn = side.last_syn();
                let reset = side.streams.last().is_some_and(|stream| stream.facts.rst);
                let (epoch, sender) = (self.epoch, self.end(from));
                let is_renumbered = sender
                    .streams
                    .iter()
                    .enumerate()
                    .any(|(index, stream)| stream.fits == Some(epoch) && index != packet.connection as usize);
                !reset && !is_renumbered && syn.is_some_and(|syn| syn.end() == ack)
            }
        }
    }

    /// The states that the watcher may say.
    pub fn possible(&self, end: End) -> States {
        if !self.is_followed() {
            return States::of(State::ALL);
        }
        let side = &self.ends[end as usize];
        (side.told..side.steps.len()).fold(States::default(), |states, index| states.or(self.possible_at(end, index)))
    }

    /// Those that belong to one step. A near end has received all that has passed; but to a connection that it has lost
    /// things still come.
    fn possible_at(&self, end: End, index: usize) -> States {
        let side = &self.ends[end as usize];
        let step = side.steps[index];
        let stream = side.streams.get(step.connection as usize).copied().unwrap_or_default();
        let mut facts = stream.facts;
        if stream.rst_ignored {
            (facts.rst, facts.doubtful_rst) = (false, true);
        }
        let is_present = self.near == Some(end) && index + 1 == side.steps.len();
        stream.doubted(if is_present { States::of(&[step.state]) } else { moved_on(step.state, facts) })
    }

    /// What is known of an end, in doubt or not.
    fn known(&self, end: End) -> States {
        self.possible_at(end, self.ends[end as usize].told)
    }

    /// All the states that an end has been in.
    pub fn history(&self, end: End) -> States {
        self.ends[end as usize].steps.iter().fold(States::default(), |states, step| states.with(step.state))
    }

    /// The state that an end is in, on the wire, and the doubts about it.
    pub fn truth(&self, end: End) -> (State, Vec<Doubt>) {
        let side = &self.ends[end as usize];
        let last = side.steps.last().expect("a history has a beginning");
        let mut doubts: Vec<_> = side.steps[side.told + 1..].iter().filter_map(|step| step.doubt).collect();
        let stream = side.streams.get(last.connection as usize).copied().unwrap_or_default();
        let of_stream = [
            (stream.rst_ignored, Doubt::RstIgnored),
            (stream.ack_ignored, Doubt::AckIgnored),
            (stream.fin_ignored, Doubt::FinIgnored),
            (stream.old_syn, Doubt::OldSyn),
            (stream.syn_refused && last.state == State::SynSent, Doubt::SynRefused),
            (stream.syn_ack_ignored() && last.state == State::SynReceived, Doubt::SynAckIgnored),
            (stream.syn_in_time_wait, Doubt::SynInTimeWait),
            (stream.late_syn || stream.late_syn_ack, Doubt::LateSyn),
            (stream.fin_held_back && matches!(last.state, State::Closing | State::TimeWait), Doubt::FinHeldBack),
        ];
        doubts.extend(self.is_beyond_window.then_some(Doubt::BeyondWindow));
        doubts.extend(of_stream.into_iter().filter_map(|(is_so, doubt)| is_so.then_some(doubt)));
        (last.state, doubts)
    }
}

fn has_received_fin(state: State) -> bool {
    matches!(state, State::CloseWait | State::Closing | State::TimeWait)
}

fn has_taken_no_fin(state: State) -> bool {
    matches!(state, State::SynReceived | State::Established | State::FinWait1 | State::FinWait2)
}

fn is_syn_of(step: &Step, connection: u32) -> bool {
    step.connection == connection && step.sent.is_some_and(|sent| sent.syn)
}

fn says_the_same(step: &Step, header: &Header) -> bool {
    step.sent.is_some_and(|sent| is_same(&sent, header))
}

/// Whether two segments say the same of their sender's state.
fn is_same(one: &Header, other: &Header) -> bool {
    (one.syn, one.rst, one.fin) == (other.syn, other.rst, other.fin)
        && if one.fin { one.end() == other.end() } else { one.seq == other.seq }
}

/// A state after what is on its way to the end has come (RFC 9293, figure 5).
fn moved_on(state: State, facts: Facts) -> States {
    use State::*;
    let received_fin = |state| match state {
        SynReceived | Established => CloseWait,
        FinWait1 => Closing,
        FinWait2 => TimeWait,
        other => other,
    };
    if facts.rst {
        return States::of(&[Closed]);
    }
    let crossed = |state| if state == SynSent { SynReceived } else { state };
    let acked = |state| match state {
        SynReceived if facts.syn_acked => Established,
        FinWait1 if facts.fin_acked => FinWait2,
        Closing if facts.fin_acked => TimeWait,
        LastAck if facts.fin_acked => Closed,
        other => other,
    };
    // Whether two SYNs have crossed, or the one was over when the other came, packets do not tell.
    let states = States::of(&[state, if facts.syn { crossed(state) } else { state }]);
    let states = if facts.syn_acked_by_syn && states.has(SynReceived) { states.with(Established) } else { states };
    let states = states.map(acked);
    let states = match facts.fin {
        Some(InOrder(true)) => states.map(received_fin),
        Some(InOrder(false)) => states.or(states.map(received_fin)),
        None => states,
    };
    if facts.doubtful_rst { states.with(Closed) } else { states }
}
