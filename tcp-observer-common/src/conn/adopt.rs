//! Flows that are known from the kernel's socket table instead of packets: what a local socket's state says of the
//! whole connection, and what it means that the socket is gone.
//!
//! The table says nothing of numbers. Until packets do, both halves of such a flow are unseen.

use super::{
    expiry::given_up,
    note::Note,
    record::Flow,
    state::{Phase, State},
    word::{How, Initiator, Mark, Outcome, Role, Word},
};
use crate::flow::Side;

/// A flow as the sockets of this host tell of it.
#[derive(Clone, Copy, Debug)]
pub struct Sockets {
    /// The side of the key that is taken for the originator's.
    pub originator: Side,
    /// The states of originator and responder; `None` for an end that is not local.
    pub states: [Option<State>; 2],
}

/// The word of such a flow, or `None` where there is nothing to adopt: no local end, or one that says nothing of a
/// connection.
pub fn adopted(sockets: Sockets) -> Option<Word> {
    let [originator, responder] = sockets.states;
    let (originator_state, responder_state) = match (originator, responder) {
        (Some(originator), Some(responder)) => (originator, responder),
        (Some(own), None) => (own, peer_of(own)?),
        (None, Some(own)) => (peer_of(own)?, own),
        (None, None) => return None,
    };
    let word = Word::fresh(0)
        .with(Mark::Inferred)
        .with_state(Role::Originator, originator_state)
        .with_state(Role::Responder, responder_state);
    let word = if sockets.originator == Side::High { word.with(Mark::OriginatorIsHigh) } else { word };
    let word = if originator.is_some() { word.with_of(Mark::Local, Role::Originator) } else { word };
    let word = if responder.is_some() { word.with_of(Mark::Local, Role::Responder) } else { word };
    if responder_state == State::SynReceived {
        return Some(word.with_state(Role::Originator, State::SynSent).with_outcome(Outcome::InProgress));
    }
    if originator_state == State::SynSent {
        // The SYN comes again, and begins the flow with its numbers.
        return None;
    }
    let (initiator, how) = closing(originator_state, responder_state);
    let word = if has_sent_fin(originator_state, responder_state) {
        word.with_of(Mark::FinSent, Role::Originator)
    } else {
        word
    };
    let word = if has_sent_fin(responder_state, originator_state) {
        word.with_of(Mark::FinSent, Role::Responder)
    } else {
        word
    };
    Some(
        word.with_outcome(Outcome::NotSeen)
            .with_of(Mark::Confirmed, Role::Originator)
            .with_of(Mark::Confirmed, Role::Responder)
            .with_close(initiator, how),
    )
}

/// The state that the other end is in, most likely, when this one's socket says so; `None` where the socket has no
/// connection.
fn peer_of(own: State) -> Option<State> {
    Some(match own {
        State::Established => State::Established,
        State::SynReceived => State::SynSent,
        State::SynSent => State::Listen,
        State::FinWait1 => State::Established,
        State::FinWait2 => State::CloseWait,
        State::CloseWait | State::LastAck => State::FinWait2,
        State::Closing => State::Closing,
        State::TimeWait => State::Closed,
        State::Unknown | State::Listen | State::Closed => return None,
    })
}

/// Whether the end in this state has sent its FIN, or the other one has received it.
fn has_sent_fin(own: State, peer: State) -> bool {
    use State::*;
    matches!(own, FinWait1 | FinWait2 | Closing | LastAck | TimeWait)
        || matches!(peer, CloseWait | LastAck | Closing | TimeWait)
}

/// Who has begun to close, by the states.
fn closing(originator: State, responder: State) -> (Initiator, How) {
    let is_first = |state| matches!(state, State::FinWait1 | State::FinWait2 | State::TimeWait);
    match (is_first(originator), is_first(responder)) {
        (true, false) => (Initiator::Originator, How::Fin),
        (false, true) => (Initiator::Responder, How::Fin),
        (true, true) => (Initiator::Both, How::Simultaneous),
        (false, false) if originator == State::Closing => (Initiator::Both, How::Simultaneous),
        (false, false) => (Initiator::Nobody, How::Open),
    }
}

impl Flow {
    /// A flow with this word of which no packet was seen. Its state has lasted since `changed_ns`.
    pub fn adopted(word: Word, now_ns: u64, changed_ns: u64) -> Self {
        let flow = Self::default();
        flow.clear();
        flow.times.first_ns.set(now_ns);
        flow.times.changed_ns.set(changed_ns);
        if word.is_half_closed() {
            flow.times.begin_half_close(changed_ns);
        }
        flow.story.notes.set(Note::Adopted.bit());
        flow.word.0.set(word.in_epoch((now_ns >> 10) as u16).0);
        flow
    }
}

/// The word of a flow whose local sockets are gone.
#[inline(always)]
#[must_use]
pub fn without_socket(word: Word) -> Word {
    if !matches!(word.phase(), Phase::TimeWait) {
        return given_up(word);
    }
    // It was over before; only the waiting has ended early, as when there are too many that wait.
    let mut word = word;
    for role in [Role::Originator, Role::Responder] {
        if word.has_of(Mark::Local, role) {
            word = word.with_state(role, State::Closed);
        }
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(word: Word) -> (State, State) {
        (word.state(Role::Originator), word.state(Role::Responder))
    }

    #[test]
    fn a_local_socket_tells_both_ends_states() {
        // RFC 9293, figure 5: which states the two ends can be in together.
        for (own, peer) in [
            (State::Established, State::Established),
            (State::FinWait2, State::CloseWait),
            (State::CloseWait, State::FinWait2),
            (State::LastAck, State::FinWait2),
            (State::Closing, State::Closing),
            (State::TimeWait, State::Closed),
        ] {
            let client = adopted(Sockets { originator: Side::Low, states: [Some(own), None] }).unwrap();
            assert_eq!(states(client), (own, peer));
            assert!(client.is_settled() && client.has(Mark::Inferred));
            let server = adopted(Sockets { originator: Side::High, states: [None, Some(own)] }).unwrap();
            assert_eq!(states(server), (peer, own));
            assert_eq!(server.side_of(Role::Originator), Side::High);
        }
    }

    #[test]
    fn a_request_socket_is_a_half_open_flow() {
        let word = adopted(Sockets { originator: Side::Low, states: [None, Some(State::SynReceived)] }).unwrap();
        assert_eq!(states(word), (State::SynSent, State::SynReceived));
        assert_eq!(word.phase(), Phase::HalfOpen);
    }

    #[test]
    fn what_says_nothing_of_a_connection_is_not_adopted() {
        for state in [State::Listen, State::Closed, State::Unknown, State::SynSent] {
            assert_eq!(adopted(Sockets { originator: Side::Low, states: [Some(state), None] }), None, "{state:?}");
        }
        assert_eq!(adopted(Sockets { originator: Side::Low, states: [None, None] }), None);
    }

    #[test]
    fn both_sockets_of_a_loopback_connection_are_believed() {
        let both = [Some(State::TimeWait), Some(State::CloseWait)];
        let word = adopted(Sockets { originator: Side::Low, states: both }).unwrap();
        assert_eq!(states(word), (State::TimeWait, State::CloseWait));
    }

    /// RFC 9293, figure 5: which FINs have been sent when an endpoint is in a state, and who was the first.
    #[test]
    fn a_sockets_state_tells_who_has_closed() {
        use State::*;
        for (own, fins, initiator, how) in [
            (Established, [false, false], Initiator::Nobody, How::Open),
            (FinWait1, [true, false], Initiator::Originator, How::Fin),
            (FinWait2, [true, false], Initiator::Originator, How::Fin),
            (CloseWait, [false, true], Initiator::Responder, How::Fin),
            (LastAck, [true, true], Initiator::Responder, How::Fin),
            (Closing, [true, true], Initiator::Both, How::Simultaneous),
            (TimeWait, [true, true], Initiator::Originator, How::Fin),
        ] {
            let word = adopted(Sockets { originator: Side::Low, states: [Some(own), None] }).unwrap();
            let sent = [Role::Originator, Role::Responder].map(|role| word.has_of(Mark::FinSent, role));
            assert_eq!((sent, word.initiator(), word.how()), (fins, initiator, how), "{own:?}");
        }
    }

    #[test]
    fn a_half_close_has_lasted_since_its_socket_changed() {
        for (own, for_ns) in [(State::FinWait2, Some(1300)), (State::CloseWait, Some(1300)), (State::Established, None)]
        {
            let word = adopted(Sockets { originator: Side::Low, states: [Some(own), None] }).unwrap();
            let flow = Flow::adopted(word, 1000, 700);
            assert_eq!(flow.times.half_closed_for_ns(word, 2000), for_ns, "{own:?}");
            assert_eq!((flow.times.first_ns.get(), flow.times.changed_ns.get()), (1000, 700));
        }
    }

    #[test]
    fn adoptions_of_different_moments_have_different_epochs() {
        let word = adopted(Sockets { originator: Side::Low, states: [Some(State::Established), None] }).unwrap();
        let [one, other] = [1_000_000, 2_000_000].map(|now_ns| Flow::adopted(word, now_ns, 0).word.load());
        assert_ne!(one, other);
        assert_eq!(one.in_epoch(0), other.in_epoch(0));
    }

    #[test]
    fn without_its_socket_a_flow_has_timed_out_and_time_wait_is_over() {
        let open = adopted(Sockets { originator: Side::Low, states: [Some(State::Established), None] }).unwrap();
        let gone = without_socket(open);
        assert_eq!((states(gone), gone.how()), ((State::Closed, State::Closed), How::Timeout));
        let waiting = adopted(Sockets { originator: Side::Low, states: [Some(State::TimeWait), None] }).unwrap();
        let gone = without_socket(waiting);
        assert_eq!((states(gone), gone.how()), ((State::Closed, State::Closed), How::Fin));
    }
}
