//! Attempts to open that do not succeed at once: segments whose numbers do not fit, refusals, resets, abandonment
//! (<https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.3>).

use tcp_observer_common::{
    conn::{Locality, Mark, Outcome, Phase, Role, State::*},
    counters::Skip::*,
    seq::SeqNum,
};

use crate::support::{CLIENT_ADDR, Talk};

// ---- Numbers that do not fit ----

#[test]
fn an_ack_with_a_wrong_number_does_not_complete_the_handshake() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.syn_ack(5000, 1001);
    client.skipped(Stale).ack(1001, 5000);
    client.skipped(Stale).ack(1001, 5002);
    client.skipped(Stale).ack(1000, 5001);
    client.skipped(Stale).data(1001, 0, 10);
    talk.expect(SynSent, SynReceived);
    client.ack(1001, 5001);
    talk.expect(Established, Established);
}

/// RFC 9293, 3.10.7.4: an acknowledgement of what was not sent is answered and dropped, and its FIN with it; only a
/// capture of nothing but SYNs and FINs says less than what was sent.
#[test]
fn an_acknowledgement_beyond_what_was_sent_does_not_complete_the_handshake() {
    for talk in [Talk::new(), Talk::keeping_all()] {
        let (client, server) = talk.peers();
        client.syn(1000);
        server.syn_ack(5000, 1001);
        client.skipped(Stale).ack(1001, 5501);
        talk.expect(SynSent, SynReceived);
    }
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.syn_ack(5000, 1001);
    client.skipped(Stale).fin(1001, 5501);
    talk.expect(SynSent, SynReceived);
}

#[test]
fn an_ack_out_of_place_does_not_say_that_the_syn_ack_went_another_way() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    client.syn(1000);
    client.skipped(Stale).ack(1000, 5001);
    client.skipped(Stale).ack(1002, 5001);
    talk.expect_outcome(Outcome::InProgress);
    client.ack(1001, 5001);
    talk.expect_outcome(Outcome::NotSeen);
}

#[test]
fn a_syn_ack_of_another_syn_is_stale() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.skipped(Stale).syn_ack(5000, 1000);
    server.skipped(Stale).syn_ack(5000, 1002);
    server.skipped(Stale).syn_ack(5000, 0);
    talk.expect(SynSent, Listen);
    server.syn_ack(5000, 1001);
    talk.expect(SynSent, SynReceived);
}

#[test]
fn a_challenge_instead_of_a_syn_ack_changes_nothing() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.skipped(Stale).ack(8000, 300);
    talk.expect(SynSent, Listen);
    assert!(!talk.word().has_of(Mark::Seen, Role::Responder));
}

#[test]
fn a_syn_with_another_number_does_not_disturb_an_answered_attempt() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.syn_ack(5000, 1001);
    client.skipped(Stale).syn(90000);
    client.ack(1001, 5001);
    talk.expect(Established, Established);
}

// ---- Attempts that fail ----

#[test]
fn a_rst_that_acknowledges_the_syn_refuses_it() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.rst_ack(0, 1001);
    talk.expect(Closed, Closed);
    talk.expect_phase(Phase::Closed);
    talk.expect_outcome(Outcome::Refused);
    assert_eq!((talk.attempts(Outcome::Refused), talk.all_attempts()), (1, 1));
    assert_eq!(talk.counters().resets[Phase::HalfOpen.index()], [0, 1]);
}

#[test]
fn a_rst_that_does_not_acknowledge_the_syn_refuses_nothing() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.skipped(Stale).rst(0);
    server.skipped(Stale).rst(1001);
    server.skipped(Stale).rst_ack(0, 1000);
    server.skipped(Stale).rst_ack(0, 1002);
    talk.expect(SynSent, Listen);
    assert_eq!((talk.all_attempts(), talk.all_resets()), (0, 0));
}

#[test]
fn a_rst_of_either_end_after_the_syn_ack_resets_the_attempt() {
    for from_client in [true, false] {
        let talk = Talk::new();
        let (client, server) = talk.peers();
        client.syn(1000);
        server.syn_ack(5000, 1001);
        if from_client {
            client.rst(1001)
        } else {
            server.rst(5001)
        };
        talk.expect(Closed, Closed);
        talk.expect_outcome(Outcome::Reset);
        assert_eq!((talk.attempts(Outcome::Reset), talk.all_attempts()), (1, 1));
    }
}

#[test]
fn a_blind_rst_after_the_syn_ack_resets_nothing() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.syn_ack(5000, 1001);
    client.skipped(Stale).rst(5001);
    client.skipped(Stale).rst(1002);
    server.skipped(Stale).rst(4999);
    server.skipped(Stale).rst_ack(9, 1000);
    talk.expect(SynSent, SynReceived);
}

#[test]
fn an_originator_that_gives_up_before_any_answer_abandons_the_attempt() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    client.syn(1000);
    client.rst(1001);
    talk.expect(Closed, Closed);
    talk.expect_outcome(Outcome::Abandoned);
    assert_eq!((talk.attempts(Outcome::Abandoned), talk.all_attempts()), (1, 1));
}

#[test]
fn a_new_number_before_any_answer_abandons_the_attempt_and_begins_another() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    client.syn(90000);
    talk.expect(SynSent, Listen);
    assert_eq!((talk.attempts(Outcome::Abandoned), talk.all_attempts()), (1, 1));
    assert_eq!(client.half().isn.get(), SeqNum(90000));
    server.skipped(Stale).syn_ack(5000, 1001);
    server.syn_ack(5000, 90001);
    client.ack(90001, 5001);
    assert_eq!((talk.attempts(Outcome::Completed), talk.all_attempts()), (1, 2));
}

#[test]
fn what_trails_a_refused_attempt_is_stale() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.rst_ack(0, 1001);
    server.skipped(Stale).syn_ack(5000, 1001);
    client.skipped(Stale).ack(1001, 5001);
    // A RST says once more that there is no connection.
    server.rst_ack(0, 1001);
    talk.expect_outcome(Outcome::Refused);
    assert_eq!((talk.all_attempts(), talk.all_resets()), (1, 1));
}

/// The agent learns of a new address some milliseconds after it is used.
#[test]
fn an_address_that_becomes_local_after_the_handshake_changes_no_flow() {
    let mut talk = Talk::new();
    talk.memory.local4.clear();
    talk.open();
    assert_eq!(talk.word().locality(), Locality::Forwarded);
    talk.memory.local4.push(CLIENT_ADDR);
    let (client, _) = talk.peers();
    client.via(2).fin(1001, 5001);
    assert_eq!(talk.word().locality(), Locality::Forwarded);
}

#[test]
fn an_address_that_becomes_local_during_the_handshake_is_local_afterwards() {
    let mut talk = Talk::new();
    talk.memory.local4.clear();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.syn_ack(5000, 1001);
    assert_eq!(talk.word().locality(), Locality::Forwarded);
    talk.memory.local4.push(CLIENT_ADDR);
    let (client, _) = talk.peers();
    client.ack(1001, 5001);
    assert_eq!(talk.word().locality(), Locality::Client);
    let attempts: u64 =
        talk.counters().attempts.iter().map(|port| port[Locality::Client.index()].iter().sum::<u64>()).sum();
    assert_eq!(attempts, 1);
}
