//! Each exception beside what is like it and is none.

use tcp_observer_common::conn::{How, Initiator, Outcome};

use super::*;
use crate::kernel::{
    netstat::TcpCounts,
    sockets::{Listener, Timer, TimerKind},
};
use crate::snapshot::Close;

/// What becomes of a disagreement that does not change.
fn verdict(made: &Made) -> Option<Exception> {
    let report = made.report();
    match (report.excepted.as_slice(), report.differing.as_slice()) {
        ([one], []) => one.exception,
        ([], [one]) => {
            assert_eq!(one.exception, None);
            None
        }
        (excepted, differing) => panic!("{excepted:?} {differing:?}"),
    }
}

fn between(socket: Socket, flow: FlowRecord) -> Made {
    Made::still(vec![socket], vec![flow])
}

fn running(mut socket: Socket, kind: TimerKind, expires_ms: u32) -> Socket {
    socket.timer = Some(Timer { kind, expires_ms });
    socket
}

fn listener(queued: u32, backlog: u32) -> Listener {
    Listener { local: "0.0.0.0:443".parse().unwrap(), accepts_ipv4: true, interface: None, backlog, queued }
}

fn listened(mut made: Made, queued: u32, backlog: u32) -> Made {
    made.facts.listeners = vec![listener(queued, backlog)];
    made.facts.listening = made.facts.listeners.iter().collect();
    made
}

/// A listener's flow whose handshake has completed, beside a request that waits.
fn waiting(bytes: u64) -> Made {
    let mut flow = flow(State::Established);
    flow.originator.bytes = bytes;
    between(socket(State::SynReceived), flow)
}

/// A flow that nobody has a socket for, silent for so long and in its state for so long.
fn alone(state: State, silent_s: u64) -> FlowRecord {
    let mut flow = flow(state);
    flow.last_seen_unix_ns = TAKEN_UNIX_NS - silent_s * 1_000_000_000;
    flow.changed_unix_ns = flow.last_seen_unix_ns;
    flow
}

#[test]
fn every_exception_has_a_word_and_an_explanation_of_its_own() {
    for (index, exception) in Exception::ALL.iter().enumerate() {
        assert_eq!(exception.index(), index);
        assert!(exception.explanation().len() > 20);
    }
    let labels: HashSet<_> = Exception::ALL.iter().map(|exception| exception.label()).collect();
    assert_eq!(labels.len(), Exception::COUNT);
}

#[test]
fn a_socket_without_a_flow_is_expected_where_nobody_looks() {
    let lo = Socket::fixture("127.0.0.1:1", "127.0.0.1:2", State::Established);
    assert_eq!(verdict(&Made::still(vec![lo], vec![])), Some(Exception::NotObserved));
    assert_eq!(verdict(&Made::still(vec![socket(State::Established)], vec![])), None);
}

#[test]
fn a_socket_without_a_flow_is_expected_while_tables_are_full() {
    let mut made = Made::still(vec![socket(State::Established)], vec![]);
    made.facts.table_full = 1;
    assert_eq!(verdict(&made), Some(Exception::TableFull));
}

#[test]
fn a_socket_that_is_connected_to_itself_has_one_key_for_both_directions() {
    let own = Socket::fixture(OWN, OWN, State::FinWait2);
    assert_eq!(
        verdict(&between(own, fixture::flow(OWN, OWN, Some(Locality::Loopback)))),
        Some(Exception::SelfConnected)
    );
}

#[test]
fn sockets_that_differ_in_what_they_are_bound_to_are_one_flow() {
    let mut other = socket(State::FinWait2);
    (other.cookie, other.interface) = (2, Some(3));
    let report = Made::still(vec![socket(State::Established), other], vec![flow(State::Established)]).report();
    assert_eq!((report.excepted_by(Exception::SameTuple), report.compared, report.differing.len()), (2, 2, 0));
}

#[test]
fn a_syn_that_was_not_sent_or_not_seen_is_expected() {
    let unsent = socket(State::SynSent);
    assert_eq!(verdict(&Made::still(vec![unsent], vec![])), Some(Exception::DeferredConnect));
    let sent = running(unsent, TimerKind::Retransmit, 900);
    assert_eq!(verdict(&Made::still(vec![sent], vec![])), Some(Exception::SynUnseen));
    let mut timed_out = flow(State::Closed);
    timed_out.handshake.outcome = Outcome::TimedOut;
    assert_eq!(verdict(&between(sent, timed_out)), Some(Exception::SynUnseen));
    let mut refused = flow(State::Closed);
    refused.handshake.outcome = Outcome::Refused;
    assert_eq!(verdict(&between(sent, refused)), None);
}

#[test]
fn an_attempt_may_go_on_after_an_icmp_error() {
    let sent = running(socket(State::SynSent), TimerKind::Retransmit, 900);
    let mut ended = flow(State::Closed);
    ended.handshake.outcome = Outcome::Unreachable;
    assert_eq!(verdict(&between(sent, ended.clone())), Some(Exception::Unreachable));
    assert_eq!(verdict(&between(socket(State::Established), ended)), None);
}

#[test]
fn a_flow_of_which_one_direction_was_never_seen_knows_no_better() {
    let mut flow = flow(State::Established);
    flow.handshake.outcome = Outcome::NotSeen;
    flow.responder.packets = 0;
    assert_eq!(verdict(&between(socket(State::FinWait2), flow.clone())), Some(Exception::OneDirection));
    flow.responder.state = None;
    assert_eq!(verdict(&between(socket(State::Established), flow.clone())), Some(Exception::OneDirection));
    flow.notes = [Note::Adopted].into_iter().collect();
    assert_eq!(verdict(&between(socket(State::Established), flow.clone())), None);
    flow.notes = Default::default();
    flow.handshake.outcome = Outcome::Completed;
    assert_eq!(verdict(&between(socket(State::Established), flow)), None);
}

#[test]
fn a_flow_that_was_picked_up_after_a_fin_is_taken_to_be_established() {
    let mut picked_up = flow(State::Established);
    picked_up.handshake.outcome = Outcome::NotSeen;
    picked_up.notes = [Note::PickedUp].into_iter().collect();
    assert_eq!(verdict(&between(socket(State::CloseWait), picked_up.clone())), Some(Exception::PickedUp));
    let mut closing = picked_up.clone();
    closing.originator.fin = true;
    assert_eq!(verdict(&between(socket(State::CloseWait), closing)), None, "the FIN was seen");
    assert_eq!(verdict(&between(socket(State::LastAck), picked_up)), None);
    assert_eq!(verdict(&between(socket(State::CloseWait), flow(State::Established))), None);
}

#[test]
fn a_request_may_wait_although_its_handshake_is_complete() {
    assert_eq!(verdict(&listened(waiting(0), 0, 8)), Some(Exception::DeferredAccept));
    assert_eq!(verdict(&listened(waiting(0), 9, 8)), Some(Exception::AcceptQueueFull));
    assert_eq!(verdict(&listened(waiting(100), 9, 8)), Some(Exception::AcceptQueueFull));
    assert_eq!(verdict(&listened(waiting(100), 8, 8)), None, "data ends deferring, and there is room");
    let mut overflowed = listened(waiting(100), 0, 8);
    overflowed.facts.counts.listen_overflows = 1;
    assert_eq!(verdict(&overflowed), Some(Exception::AcceptQueueFull));
    // The other way round there is no excuse.
    let mut early = flow(State::SynReceived);
    early.handshake.outcome = Outcome::InProgress;
    assert_eq!(verdict(&between(socket(State::Established), early)), None);
}

#[test]
fn a_fin_may_wait_behind_data_that_nobody_takes() {
    let closed = |state, send_queue| Socket { send_queue, ..socket(state) };
    for (kernels, ours) in
        [(State::FinWait1, State::Established), (State::LastAck, State::CloseWait), (State::Closing, State::CloseWait)]
    {
        assert_eq!(verdict(&between(closed(kernels, 1001), flow(ours))), Some(Exception::FinUnsent), "{kernels:?}");
        let probing = running(closed(kernels, 1), TimerKind::Probe, 200);
        assert_eq!(verdict(&between(probing, flow(ours))), Some(Exception::FinUnsent), "{kernels:?}");
        let sent = running(closed(kernels, 1), TimerKind::Retransmit, 200);
        assert_eq!(verdict(&between(sent, flow(ours))), None, "a FIN alone is under way");
        let mut seen = flow(ours);
        seen.responder.fin = true;
        assert_eq!(verdict(&between(closed(kernels, 1001), seen)), None, "the FIN was seen");
    }
    assert_eq!(verdict(&between(closed(State::FinWait2, 0), flow(State::Established))), None);
}

/// It was in CLOSING, which on the wire is the peer closing first.
#[test]
fn a_fin_that_had_to_wait_for_the_peers_leaves_a_time_wait_that_packets_do_not_show() {
    let closed_by = |initiator, kernels, ours| {
        let mut flow = flow(ours);
        (flow.originator.fin, flow.responder.fin) = (true, true);
        flow.close = Close { initiator: Some(initiator), how: Some(How::Fin) };
        verdict(&between(running(socket(kernels), TimerKind::TimeWait, 30_000), flow))
    };
    for (kernels, ours) in [(State::TimeWait, State::Closed), (State::Closing, State::LastAck)] {
        assert_eq!(closed_by(Initiator::Originator, kernels, ours), Some(Exception::FinUnsent));
        assert_eq!(closed_by(Initiator::Responder, kernels, ours), None, "the observer should have it in {kernels:?}");
    }
}

#[test]
fn the_two_ends_of_time_wait_are_some_seconds_apart() {
    let ending = running(socket(State::TimeWait), TimerKind::TimeWait, 800);
    let lasting = running(socket(State::TimeWait), TimerKind::TimeWait, 30_000);
    assert_eq!(verdict(&Made::still(vec![ending], vec![])), Some(Exception::TimeWaitEnd));
    assert_eq!(verdict(&between(ending, flow(State::Closed))), Some(Exception::TimeWaitEnd));
    assert_eq!(verdict(&Made::still(vec![lasting], vec![])), None);
    assert_eq!(verdict(&between(lasting, flow(State::Closed))), None);
    assert_eq!(verdict(&Made::still(vec![], vec![alone(State::TimeWait, 59)])), Some(Exception::TimeWaitEnd));
    assert_eq!(verdict(&Made::still(vec![], vec![alone(State::TimeWait, 30)])), None);
}

#[test]
fn the_kernel_may_have_no_room_for_time_wait() {
    let mut made = Made::still(vec![], vec![alone(State::TimeWait, 30)]);
    made.facts.counts = TcpCounts { time_wait_overflows: 1, ..TcpCounts::default() };
    assert_eq!(verdict(&made), Some(Exception::TimeWaitOverflow));
}

#[test]
fn a_listener_may_keep_no_request() {
    let made = |silent_s| {
        let mut flow = alone(State::SynReceived, silent_s);
        flow.handshake.outcome = Outcome::InProgress;
        Made::still(vec![], vec![flow])
    };
    let mut cookies = listened(made(1), 0, 8);
    cookies.facts.counts.syn_cookies_sent = 1;
    assert_eq!(verdict(&cookies), Some(Exception::SynCookies));
    cookies.facts.listening = Default::default();
    assert_eq!(verdict(&cookies), None, "nobody listens");
    assert_eq!(verdict(&listened(made(31), 0, 8)), Some(Exception::RequestExpired));
    assert_eq!(verdict(&listened(made(30), 0, 8)), None);
    // The cookie's ACK found no room.
    let full = |said_bytes| {
        let mut flow = alone(State::Established, 1);
        flow.responder.bytes = said_bytes;
        let mut made = listened(Made::still(vec![], vec![flow]), 1, 0);
        made.facts.counts = TcpCounts { syn_cookies_sent: 1, listen_overflows: 1, ..TcpCounts::default() };
        made
    };
    assert_eq!(verdict(&full(0)), Some(Exception::SynCookies));
    assert_eq!(verdict(&full(1)), None, "it has spoken since");
}

#[test]
fn what_repeats_itself_without_an_answer_may_be_given_up_in_silence() {
    let repeating = |silent_s| {
        let mut flow = alone(State::Established, silent_s);
        flow.responder.retransmits = 15;
        Made::still(vec![], vec![flow])
    };
    assert_eq!(verdict(&repeating(300)), Some(Exception::GivenUp));
    assert_eq!(verdict(&repeating(316)), None, "it should have been looked up by now");
    assert_eq!(verdict(&Made::still(vec![], vec![alone(State::Established, 300)])), None);
    let mut peers = alone(State::Established, 300);
    peers.originator.retransmits = 15;
    assert_eq!(verdict(&Made::still(vec![], vec![peers])), None, "the other end has repeated itself");
}

#[test]
fn an_end_that_speaks_on_without_a_socket_is_somebody_elses() {
    let looks: Vec<_> = (0..5)
        .map(|packets| {
            let mut flow = alone(State::Established, 0);
            flow.responder.packets = 10 + packets;
            (vec![], vec![flow], vec![])
        })
        .collect();
    assert_eq!(verdict(&Made::new(looks)), Some(Exception::Elsewhere));
}
