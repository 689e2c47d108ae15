//! Flows that were there before the observer: guessed roles, and how they become trusted.

use tcp_observer_common::{
    conn::{How, Initiator, Mark, Note, Outcome, Phase, Role, State::*},
    counters::Skip::*,
    seq::SeqNum,
};

use crate::support::{CLIENT_ADDR, Endpoint, SERVER_ADDR, Talk};

#[test]
fn data_begins_a_flow_whose_handshake_was_not_seen() {
    let talk = Talk::new();
    let (_, server) = talk.peers();
    server.data(5001, 1001, 100);
    // Of the client nothing was seen.
    talk.expect(Unknown, Established);
    talk.expect_phase(Phase::Established);
    talk.expect_outcome(Outcome::NotSeen);
    assert!(talk.word().has(Mark::Inferred));
    assert_eq!(talk.table_entries(), (0, 1));
    assert_eq!(talk.all_attempts(), 0);
}

#[test]
fn a_lone_ack_or_rst_begins_nothing() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.skipped(UnknownFlow).ack(1001, 5001);
    server.skipped(UnknownFlow).rst(5001);
    server.skipped(UnknownFlow).rst_ack(0, 1001);
    assert_eq!(talk.table_entries(), (0, 0));
}

#[test]
fn the_responder_is_guessed_by_its_port() {
    // Sender's and receiver's port, and what the sender is taken for.
    for (own, peer, role) in [
        (40000, 443, Role::Originator),
        (443, 40000, Role::Responder),
        (40000, 8080, Role::Originator),
        (8080, 40000, Role::Responder),
        (1023, 1024, Role::Responder),
        (1023, 22, Role::Originator),
        (22, 1023, Role::Responder),
        // Nothing tells them apart: the first that is seen.
        (5000, 5000, Role::Originator),
    ] {
        let talk = Talk::between(Endpoint { addr: CLIENT_ADDR, port: own }, Endpoint { addr: SERVER_ADDR, port: peer });
        let (sender, _) = talk.peers();
        sender.data(1, 1, 1);
        // The client's address is the lower one.
        assert_eq!(talk.word().role_of(tcp_observer_common::flow::Side::Low), role, "{own} to {peer}");
    }
}

#[test]
fn it_is_settled_once_both_ends_have_acknowledged_each_other() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    server.data(5001, 1001, 100);
    client.ack(1001, 5101);
    assert_eq!(talk.table_entries(), (0, 1));
    server.data(5101, 1001, 100);
    assert_eq!(talk.table_entries(), (1, 0));
    talk.expect(Established, Established);
    talk.expect_outcome(Outcome::NotSeen);
    assert_eq!((server.half().packets.get(), server.half().payload_bytes.get()), (2, 200));
    assert_eq!(client.half().packets.get(), 1);
    assert_eq!(talk.all_attempts(), 0);
}

#[test]
fn one_direction_alone_never_settles() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    for round in 0..10 {
        client.data(1001 + 10 * round, 5001, 10);
    }
    assert_eq!(talk.table_entries(), (0, 1));
    assert_eq!(client.half().packets.get(), 10);
}

#[test]
fn acknowledging_what_was_not_sent_settles_nothing() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.data(1001, 5001, 10);
    for ack in [1000, 1012, 1001 + (1 << 31)] {
        server.data(5001, ack, 10);
        client.ack(1011, 5011);
    }
    assert_eq!(talk.table_entries(), (0, 1));
    server.ack(5011, 1011);
    assert_eq!(talk.table_entries(), (1, 0));
}

#[test]
fn a_flow_that_was_picked_up_closes_like_any_other() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    server.data(5001, 1001, 100);
    client.fin(1001, 5101);
    talk.expect(FinWait1, CloseWait);
    server.ack(5101, 1002);
    talk.expect(FinWait2, CloseWait);
    talk.expect_phase(Phase::HalfClosed);
    server.fin(5101, 1002);
    client.ack(1002, 5102);
    talk.expect(TimeWait, Closed);
    talk.expect_close(Initiator::Originator, How::Fin);
    assert_eq!(talk.all_closes(), 1);
}

#[test]
fn a_fin_may_be_the_first_that_is_seen_of_an_end() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    server.data(5001, 3_000_000_000, 100);
    client.fin(3_000_000_000, 5101);
    assert_eq!(client.half().isn.get(), SeqNum(3_000_000_000));
    server.ack(5101, 3_000_000_001);
    talk.expect(FinWait2, CloseWait);
    assert_eq!(talk.table_entries(), (1, 0));
}

#[test]
fn a_rst_ends_it_where_the_numbers_fit() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.data(1001, 5001, 100);
    server.skipped(Stale).rst(5000);
    server.skipped(Stale).rst(1101);
    client.skipped(Stale).rst(5001);
    server.rst(5001);
    talk.expect(Closed, Closed);
}

#[test]
fn its_first_number_stands_in_for_the_initial_one() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.data(u32::MAX - 4, 5001, 10);
    server.ack(5001, 5);
    assert_eq!(client.half().isn.get(), SeqNum(u32::MAX - 4));
    assert_eq!(client.half().next_seq.get(), SeqNum(5));
    assert!(!talk.word().has_of(Mark::IsnSeen, Role::Originator));
    client.ack(5, 5001);
    assert_eq!(talk.table_entries(), (1, 0));
}

#[test]
fn a_syn_into_it_is_stale() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.data(1001, 5001, 10);
    client.skipped(Stale).syn(1000);
    server.skipped(Stale).syn_ack(5000, 1001);
    talk.expect(Established, Unknown);
}

// ---- In the middle of a close, and whatever a capture begins with ----

#[test]
fn a_fin_begins_a_flow_in_the_middle_of_its_close() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.fin(1001, 5001);
    talk.expect(FinWait1, Unknown);
    talk.expect_phase(Phase::Closing);
    talk.expect_outcome(Outcome::NotSeen);
    talk.expect_close(Initiator::Originator, How::Fin);
    server.fin(5001, 1002);
    talk.expect(TimeWait, LastAck);
    client.ack(1002, 5002);
    talk.expect(TimeWait, Closed);
    talk.expect_notes([Note::PickedUpClosing, Note::ThreeSegmentClose]);
    talk.expect_history("FfA");
    assert_eq!(talk.all_attempts(), 0);
}

#[test]
fn a_fin_of_the_responder_begins_one_likewise() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    server.fin_data(3_000_000_000, 1001, 10);
    talk.expect(Unknown, FinWait1);
    client.ack(1001, 3_000_000_011);
    talk.expect(CloseWait, FinWait2);
    talk.expect_phase(Phase::HalfClosed);
    client.data(1001, 3_000_000_011, 10);
    talk.expect_notes([Note::PickedUpClosing, Note::FinWithData, Note::HalfCloseData]);
}

#[test]
fn in_a_capture_an_ack_begins_a_flow() {
    let talk = Talk::keeping_all();
    let (client, server) = talk.peers();
    server.ack(5001, 1001);
    talk.expect(Unknown, Established);
    talk.expect_notes([Note::PickedUp]);
    client.data(1001, 5001, 10);
    server.ack(5001, 1011);
    talk.expect(Established, Established);
    talk.expect_history("aD");
}

#[test]
fn in_a_capture_the_last_ack_of_a_close_is_a_flow_that_is_never_confirmed() {
    let talk = Talk::keeping_all();
    let (client, _) = talk.peers();
    client.ack(1002, 5002);
    talk.sweep_after(121 * 1_000_000_000);
    talk.expect(Closed, Closed);
    assert_eq!(talk.all_closes(), 0);
}

#[test]
fn in_a_capture_a_rst_is_a_flow_that_is_over() {
    for from_client in [true, false] {
        let talk = Talk::keeping_all();
        let (client, server) = talk.peers();
        if from_client {
            client.rst(1001);
        } else {
            server.rst_ack(5001, 1001);
        }
        talk.expect(Closed, Closed);
        talk.expect_phase(Phase::Closed);
        talk.expect_outcome(Outcome::NotSeen);
        let initiator = if from_client { Initiator::Originator } else { Initiator::Responder };
        talk.expect_close(initiator, How::Rst);
        talk.expect_notes([Note::PickedUpClosing]);
        talk.expect_history(if from_client { "R" } else { "r" });
        // Nothing that was seen alive has ended.
        assert_eq!((talk.all_closes(), talk.all_resets(), talk.all_attempts()), (0, 0, 0));
        client.syn(90_000);
        talk.expect(SynSent, Listen);
    }
}

#[test]
fn one_direction_or_both_may_be_picked_up() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.data(1001, 5001, 10);
    client.data(1011, 5001, 10);
    talk.expect(Established, Unknown);
    talk.expect_notes([Note::PickedUp]);
    server.ack(5001, 1021);
    client.ack(1021, 5001);
    talk.expect(Established, Established);
    assert_eq!(talk.table_entries(), (1, 0));
    talk.expect_notes([Note::PickedUp]);
    talk.expect_history("DaA");
}
