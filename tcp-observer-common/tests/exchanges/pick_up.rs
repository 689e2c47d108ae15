//! Flows that were there before the observer: guessed roles, and how they become trusted.

use tcp_observer_common::{
    conn::{How, Initiator, Mark, Outcome, Phase, Role, State::*},
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
