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

mod doubt;
mod facts;
mod history;
mod opening;
mod passed;
mod segment;
mod stepped;
mod stream;

use smoltcp::socket::tcp::State as TrueState;
use tcp_observer_common::conn::State;

pub use doubt::Doubt;
use facts::moved_on;
use history::{Side, Step};

use super::{
    plan::{End, Place, Plan},
    states::States,
};

/// What the watcher makes of a packet that passes.
#[derive(Clone, Copy, Debug)]
pub struct Follows {
    /// It takes it for the first of a connection.
    pub begins: bool,
    /// It has picked up a connection after its beginning, by what came after silence, and takes it to go on.
    pub is_picked_up: bool,
}

pub struct Oracle {
    near: Option<End>,
    ends: [Side; 2],
    /// Counts the connections that the watcher knows of.
    epoch: u32,
    /// A SYN has passed that may have begun one, or not.
    is_ambiguous: bool,
    /// A connection has begun that the watcher takes for none: over one that both ends have lost, over one that it has
    /// picked up after silence, with a SYN that a copy of an older one has followed, or with two that have crossed of which
    /// it takes one for none.
    is_superseded: bool,
    /// The SYN with which the connection has begun that the watcher follows, and whose it is.
    followed_syn: Option<(End, u32)>,
    /// The watcher follows a connection of which it has seen the SYN-ACK first.
    is_begun_by_synack: bool,
    /// A FIN or RST has passed that its sender was not allowed to send.
    is_beyond_window: bool,
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
            followed_syn: None,
            is_begun_by_synack: false,
            is_beyond_window: false,
        }
    }

    fn end(&mut self, end: End) -> &mut Side {
        &mut self.ends[end as usize]
    }

    /// Whether the watcher follows the connection that there is.
    pub fn is_followed(&self) -> bool {
        !self.is_superseded && !self.is_beyond_window
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
            (stream.piece_dropped, Doubt::PieceDropped),
            (stream.answers_other, Doubt::AnswersOther),
            (stream.refuses_late, Doubt::LateSyn),
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
