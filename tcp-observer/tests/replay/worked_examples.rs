//! Exchanges written out by hand, with the figures that follow from them by hand.

use tcp_observer::snapshot::{ConnState, FlowRecord, HalfOpen};
use tcp_observer_common::conn::{
    How, Initiator, Note, Outcome, Phase,
    State::{self, CloseWait, Closed, Established, FinWait1, FinWait2, LastAck, TimeWait},
};

use crate::packets::{ACK, FIN, MICROSECOND, PSH, RST, SECOND, SYN, Talk};

const CLIENT: &str = "192.168.1.116:3337";
const SERVER: &str = "192.168.1.123:7788";

fn states(flow: &FlowRecord) -> (State, State) {
    (flow.originator.state.expect("seen"), flow.responder.state.expect("seen"))
}

/// Both initial numbers are zero; the handshake takes two microseconds.
fn opened(client: &str, server: &str) -> Talk {
    let mut talk = Talk::between(client, server);
    talk.client(0, SYN, 0, 0, 0).server(MICROSECOND, SYN | ACK, 0, 1, 0).client(2 * MICROSECOND, ACK, 1, 1, 0);
    talk
}

#[test]
fn handshake_with_numbers() {
    for (client, server) in [(3_626_544_836, 1_739_326_486), (1_234_567, 7_654_321)] {
        let mut talk = Talk::between(CLIENT, SERVER);
        talk.client(0, SYN, client, 0, 0).server(1, SYN | ACK, server, client + 1, 0);
        talk.client(2, ACK, client + 1, server + 1, 0);
        let flow = talk.flow();
        assert_eq!((flow.originator.isn, flow.responder.isn), (Some(client), Some(server)));
        assert_eq!(flow.handshake.outcome, Outcome::Completed);
        assert_eq!(states(&flow), (Established, Established));
        assert_eq!((flow.originator.packets, flow.responder.packets), (2, 1));
        assert_eq!((flow.role, flow.originator.local, flow.inferred), (None, None, false));
    }
}

#[test]
fn loopback_handshake_and_a_short_talk() {
    let mut talk = Talk::between("127.0.0.1:39870", "127.0.0.1:9502");
    let (client, server) = (2_927_179_378, 1_721_825_043);
    // 14:12:45.104687 is the start; the talk begins at 14:13:01.415407.
    talk.client(0, SYN, client, 0, 0);
    talk.server(14 * MICROSECOND, SYN | ACK, server, client + 1, 0);
    talk.client(24 * MICROSECOND, ACK, client + 1, server + 1, 0);
    let talk_begins = 16 * SECOND + (415_407 - 104_687) * MICROSECOND;
    talk.client(talk_begins, PSH | ACK, client + 1, server + 1, 7);
    talk.server(talk_begins + 25 * MICROSECOND, ACK, server + 1, client + 8, 0);
    talk.server(talk_begins + 340 * MICROSECOND, PSH | ACK, server + 1, client + 8, 18);
    talk.client(talk_begins + 350 * MICROSECOND, ACK, client + 8, server + 19, 0);
    let flow = talk.flow();
    assert_eq!(flow.handshake.syn_to_synack_ns, Some(14 * MICROSECOND));
    assert_eq!(flow.handshake.synack_to_ack_ns, Some(10 * MICROSECOND));
    assert_eq!(flow.handshake.total_ns, Some(24 * MICROSECOND));
    assert!(!flow.handshake.retransmitted);
    assert_eq!((flow.originator.bytes, flow.responder.bytes), (7, 18));
    assert_eq!((flow.originator.packets, flow.responder.packets), (4, 3));
    assert_eq!((flow.originator.isn, flow.responder.isn), (Some(client), Some(server)));
    assert_eq!(flow.duration_ns(), talk_begins + 350 * MICROSECOND);
}

#[test]
fn four_way_close_passes_through_the_states_of_both_ends() {
    let mut talk = opened("192.0.2.9:55389", "192.0.2.1:80");
    talk.client(3 * MICROSECOND, PSH | ACK, 1, 1, 557).server(4 * MICROSECOND, PSH | ACK, 1, 558, 2444);
    talk.client(5 * MICROSECOND, ACK, 558, 2445, 0);
    talk.server(SECOND, FIN | ACK, 2445, 558, 0);
    assert_eq!(states(&talk.flow()), (CloseWait, FinWait1));
    talk.client(SECOND + 1, ACK, 558, 2446, 0);
    assert_eq!(states(&talk.flow()), (CloseWait, FinWait2));
    assert_eq!(talk.flow().phase, Phase::HalfClosed);
    talk.client(SECOND + 2, FIN | ACK, 558, 2446, 0);
    assert_eq!(states(&talk.flow()), (LastAck, TimeWait));
    talk.server(SECOND + 3, ACK, 2446, 559, 0);
    let flow = talk.flow();
    assert_eq!(states(&flow), (Closed, TimeWait));
    assert_eq!(flow.phase, Phase::TimeWait);
    assert_eq!((flow.close.initiator, flow.close.how), (Some(Initiator::Responder), Some(How::Fin)));
    assert!(flow.originator.fin && flow.responder.fin);
    // TIME-WAIT lasts a minute, and what is over is still shown at the capture's end.
    assert_eq!(talk.silence_until(59 * SECOND).flow().phase, Phase::TimeWait);
    assert_eq!(talk.silence_until(62 * SECOND).flow().phase, Phase::Closed);
    assert_eq!(talk.silence_until(600 * SECOND).flow().phase, Phase::Closed);
}

#[test]
fn lost_synack_leaves_the_server_half_open_until_its_retries_end() {
    let mut talk = Talk::between(CLIENT, SERVER);
    talk.client(0, SYN, 100, 0, 0);
    for (retry, seconds) in [0, 1, 3, 7, 15, 31].into_iter().enumerate() {
        talk.server(seconds * SECOND + 10, SYN | ACK, 500, 101, 0);
        let flow = talk.flow();
        assert_eq!(flow.half_open(), Some(HalfOpen::UnackedSynAck));
        assert_eq!(usize::from(flow.responder.syn_retransmits), retry);
        assert_eq!(flow.handshake.outcome, Outcome::InProgress);
    }
    // 63 s after the first SYN-ACK Linux gives up.
    let flow = talk.silence_until(70 * SECOND).flow();
    assert_eq!((flow.handshake.outcome, flow.half_open()), (Outcome::TimedOut, None));
    assert_eq!(states(&flow), (Closed, Closed));
}

#[test]
fn stale_syn_opens_nothing_and_leaves_the_connection_before_it_as_it_was() {
    let mut talk = Talk::between(CLIENT, SERVER);
    // 900 was sent first and is delayed.
    talk.client(0, SYN, 1000, 0, 0).server(1, SYN | ACK, 5000, 1001, 0).client(2, ACK, 1001, 5001, 0);
    talk.client(3, PSH | ACK, 1001, 5001, 10).server(4, ACK, 5001, 1011, 0);
    talk.client(5, FIN | ACK, 1011, 5001, 0).server(6, FIN | ACK, 5001, 1012, 0).client(7, ACK, 1012, 5002, 0);
    talk.client(SECOND, SYN, 900, 0, 0).server(SECOND + 1, SYN | ACK, 7000, 901, 0).client(SECOND + 2, RST, 901, 0, 0);
    let [first, stale] = <[FlowRecord; 2]>::try_from(talk.flows()).expect("two flows");
    assert_eq!((first.originator.isn, first.handshake.outcome), (Some(1000), Outcome::Completed));
    assert_eq!((first.close.initiator, first.close.how), (Some(Initiator::Originator), Some(How::Fin)));
    assert_eq!((first.originator.packets, first.responder.packets, first.originator.bytes), (5, 3, 10));
    assert_eq!((stale.originator.isn, stale.handshake.outcome), (Some(900), Outcome::Reset));
    assert!(stale.originator.rst && !stale.responder.rst);
    assert_eq!(states(&stale), (Closed, Closed));
}

#[test]
fn lost_last_ack_is_repeated_from_time_wait_whose_two_msl_begin_again() {
    let mut talk = opened(CLIENT, SERVER);
    talk.client(SECOND, FIN | ACK, 1, 1, 0).server(SECOND + 1, ACK, 1, 2, 0);
    talk.server(SECOND + 2, FIN | ACK, 1, 2, 0);
    // The ACK of this FIN is lost before it passes here.
    assert_eq!(states(&talk.flow()), (TimeWait, LastAck));
    talk.server(50 * SECOND, FIN | ACK, 1, 2, 0);
    assert_eq!(states(&talk.flow()), (TimeWait, LastAck));
    talk.client(50 * SECOND + 1, ACK, 2, 2, 0);
    assert_eq!(states(&talk.flow()), (TimeWait, Closed));
    // More than a minute after the first FIN, less than a minute after the second.
    assert_eq!(states(&talk.silence_until(105 * SECOND).flow()), (TimeWait, Closed));
    let flow = talk.silence_until(112 * SECOND).flow();
    assert_eq!(states(&flow), (Closed, Closed));
    assert_eq!((flow.close.initiator, flow.close.how), (Some(Initiator::Originator), Some(How::Fin)));
}

#[test]
fn half_close_lets_the_server_go_on() {
    let mut talk = opened(CLIENT, SERVER);
    talk.client(SECOND, FIN | ACK, 1, 1, 0).server(SECOND + 1, ACK, 1, 2, 0);
    for round in 0..3 {
        let sent = 1 + 100 * round;
        talk.server(2 * SECOND + u64::from(round), PSH | ACK, sent, 2, 100);
        talk.client(2 * SECOND + u64::from(round), ACK, 2, sent + 100, 0);
        assert_eq!(states(&talk.flow()), (FinWait2, CloseWait));
        assert_eq!(talk.flow().phase, Phase::HalfClosed);
    }
    talk.server(3 * SECOND, FIN | ACK, 301, 2, 0).client(3 * SECOND + 1, ACK, 2, 302, 0);
    let flow = talk.flow();
    assert_eq!(states(&flow), (TimeWait, Closed));
    assert_eq!((flow.originator.bytes, flow.responder.bytes), (0, 300));
    assert_eq!((flow.originator.packets, flow.responder.packets), (7, 6));
    // From the FIN's acknowledgement to the other FIN.
    assert_eq!(flow.half_close_ns, Some(2 * SECOND - 1));
    assert_eq!((flow.conn_state(), flow.history.to_string()), (ConnState::Sf, "ShAFadf".to_owned()));
    assert_eq!(flow.completeness, 31);
    assert!(flow.notes.has(Note::HalfCloseData));
}

#[test]
fn half_close_that_silence_ends_has_no_length() {
    let mut talk = opened(CLIENT, SERVER);
    talk.client(SECOND, FIN | ACK, 1, 1, 0).server(SECOND + 1, ACK, 1, 2, 0);
    assert_eq!(talk.flow().half_close_ns, Some(0));
    let flow = talk.silence_until(6 * 86_400 * SECOND).flow();
    assert_eq!((flow.phase, flow.close.how, flow.half_close_ns), (Phase::Closed, Some(How::Timeout), None));
}

#[test]
fn keepalive_after_two_hours_finds_the_connection_established() {
    for garbage in [0, 1] {
        let mut talk = opened(CLIENT, SERVER);
        talk.client(3 * MICROSECOND, PSH | ACK, 1, 1, 10).server(4 * MICROSECOND, ACK, 1, 11, 0);
        talk.client(7200 * SECOND, ACK, 10, 1, garbage).server(7200 * SECOND + 1, ACK, 1, 11, 0);
        let flow = talk.flow();
        assert_eq!(states(&flow), (Established, Established));
        assert_eq!((flow.originator.packets, flow.responder.packets), (4, 3));
        assert_eq!(flow.close.how, None);
        assert_eq!((flow.originator.keepalives, flow.originator.unanswered_keepalives), (1, 0));
        assert!(flow.notes.has(Note::Keepalive));
    }
}

#[test]
fn full_accept_queue_repeats_a_synack_that_was_acknowledged() {
    let mut talk = opened(CLIENT, SERVER);
    talk.server(SECOND, SYN | ACK, 0, 1, 0).client(SECOND + 1, ACK, 1, 1, 0);
    let flow = talk.flow();
    assert_eq!((flow.handshake.outcome, flow.responder.syn_retransmits), (Outcome::Completed, 1));
    assert_eq!(flow.handshake.total_ns, Some(2 * MICROSECOND));
}

#[test]
fn attempt_given_up_for_another_is_kept_as_abandoned() {
    for says_so in [true, false] {
        let mut talk = Talk::between(CLIENT, SERVER);
        talk.client(0, SYN, 100, 0, 0);
        if says_so {
            talk.client(SECOND, RST, 101, 0, 0);
        }
        talk.client(2 * SECOND, SYN, 70_000, 0, 0);
        let [first, second] = <[FlowRecord; 2]>::try_from(talk.flows()).expect("two flows");
        assert_eq!((first.originator.isn, first.handshake.outcome), (Some(100), Outcome::Abandoned));
        assert_eq!((states(&first), first.phase), ((Closed, Closed), Phase::Closed));
        assert_eq!((second.originator.isn, second.handshake.outcome), (Some(70_000), Outcome::InProgress));
    }
}

#[test]
fn tuple_used_again_out_of_time_wait_is_two_flows_of_which_the_first_is_over() {
    let mut talk = opened(CLIENT, SERVER);
    talk.client(SECOND, FIN | ACK, 1, 1, 0).server(SECOND + 1, FIN | ACK, 1, 2, 0).client(SECOND + 2, ACK, 2, 2, 0);
    talk.client(2 * SECOND, SYN, 90_000, 0, 0).server(2 * SECOND + 1, SYN | ACK, 80_000, 90_001, 0);
    talk.client(2 * SECOND + 2, ACK, 90_001, 80_001, 0);
    let [first, second] = <[FlowRecord; 2]>::try_from(talk.flows()).expect("two flows");
    assert_eq!((states(&first), first.phase), ((Closed, Closed), Phase::Closed));
    assert_eq!((first.close.initiator, first.close.how), (Some(Initiator::Originator), Some(How::Fin)));
    assert_eq!((first.originator.packets, first.responder.packets), (4, 2));
    assert_eq!(states(&second), (Established, Established));
    assert_eq!((second.originator.packets, second.responder.packets), (2, 1));
}

#[test]
fn one_tuple_in_two_vlans_is_two_flows() {
    let mut talk = opened(CLIENT, SERVER);
    let again = opened(CLIENT, SERVER).segments;
    talk.segments.extend(again);
    talk.segments[3..].iter_mut().for_each(|(_, segment)| segment.vlans = vec![7]);
    let flows = talk.flows();
    assert_eq!(flows.len(), 2);
    for flow in flows {
        assert_eq!((flow.originator.packets, flow.responder.packets), (2, 1));
    }
}
