//! Opening: the three-way handshake, its repetitions, and the simultaneous open
//! (<https://www.rfc-editor.org/rfc/rfc9293#section-3.5>).

use tcp_observer_common::{
    conn::{Locality, Mark, Outcome, Phase, State::*},
    counters::{Retransmit, Skip::*},
    flow::Ipv4,
    histogram::{HandshakePart, by_role},
    seq::SeqNum,
};

use crate::support::{Endpoint, MICROSECOND, MILLISECOND, SECOND, Talk};

fn addr(octets: [u8; 4]) -> Ipv4 {
    [u32::from_ne_bytes(octets)]
}

// ---- The three segments ----

#[test]
fn three_segments_open_both_ends() {
    let talk = Talk::between(
        Endpoint { addr: addr([192, 168, 1, 116]), port: 3337 },
        Endpoint { addr: addr([192, 168, 1, 123]), port: 7788 },
    );
    let (client, server) = talk.peers();
    client.syn(3626544836);
    talk.expect(SynSent, Listen);
    talk.expect_phase(Phase::HalfOpen);
    server.syn_ack(1739326486, 3626544837);
    talk.expect(SynSent, SynReceived);
    talk.expect_phase(Phase::HalfOpen);
    client.ack(3626544837, 1739326487);
    talk.expect(Established, Established);
    talk.expect_phase(Phase::Established);
    talk.expect_outcome(Outcome::Completed);
    assert_eq!(client.half().isn.get(), SeqNum(3626544836));
    assert_eq!(server.half().isn.get(), SeqNum(1739326486));
    assert_eq!(talk.attempts(Outcome::Completed), 1);
    assert_eq!(talk.table_entries(), (1, 0));
}

#[test]
fn a_loopback_handshake_and_a_short_talk_have_tcpdumps_times() {
    let lo = addr([127, 0, 0, 1]);
    let talk = Talk::between(Endpoint { addr: lo, port: 39870 }, Endpoint { addr: lo, port: 9502 });
    let (client, server) = talk.peers();
    let (client_isn, server_isn) = (2927179378, 1721825043);
    client.shift(3).window(32792).syn(client_isn);
    talk.wait(14 * MICROSECOND);
    server.shift(3).window(32768).syn_ack(server_isn, 2927179379);
    talk.wait(10 * MICROSECOND);
    client.ack(2927179379, 1721825044);
    let times = talk.flow().times.clone();
    assert_eq!(times.syn_to_synack_ns(), Some(14_000));
    assert_eq!(times.synack_to_ack_ns(), Some(10_000));
    assert_eq!(times.total_ns(), Some(24_000));
    assert_eq!(talk.word().locality(), Locality::Loopback);
    let total = talk.histogram(by_role(HandshakePart::Total, Locality::Loopback, false));
    assert_eq!((total.count(), total.sum_ns), (1, 24_000));

    talk.wait(16 * SECOND);
    client.data(client_isn + 1, server_isn + 1, 7);
    server.ack(server_isn + 1, client_isn + 8);
    server.data(server_isn + 1, client_isn + 8, 18);
    client.ack(client_isn + 8, server_isn + 19);
    assert_eq!((client.half().payload_bytes.get(), client.half().packets.get()), (7, 4));
    assert_eq!((server.half().payload_bytes.get(), server.half().packets.get()), (18, 3));
    assert_eq!(client.half().next_seq.get(), SeqNum(client_isn + 8));
    assert_eq!(client.half().acked.get(), SeqNum(server_isn + 19));
    assert_eq!(client.half().window_shift.get(), 3);
}

/// A coarse clock is a tick of 4 ms behind, where the kernel has 250 a second.
#[test]
fn the_handshake_and_the_close_are_timed_precisely_and_data_is_not() {
    let talk = Talk::new();
    talk.memory.coarse_lag_ns.set(4 * MILLISECOND);
    let (client, server) = talk.peers();
    client.syn(1000);
    talk.wait(MILLISECOND);
    server.syn_ack(5000, 1001);
    talk.wait(MILLISECOND);
    client.ack(1001, 5001);
    assert_eq!(talk.flow().times.synack_to_ack_ns(), Some(MILLISECOND));
    talk.wait(10 * MILLISECOND);
    client.data(1001, 5001, 10);
    assert_eq!(client.half().last_seen_ns.get(), talk.now_ns() - 4 * MILLISECOND);
    client.fin(1011, 5001);
    assert_eq!(talk.flow().times.changed_ns.get(), talk.now_ns());
}

#[test]
fn ipv6_opens_likewise() {
    let talk = Talk::new_v6();
    talk.open();
    talk.expect(Established, Established);
    assert_eq!(talk.word().locality(), Locality::Client);
    assert_eq!(talk.memory.flows6.len(), 1);
}

#[test]
fn numbers_may_wrap_during_the_handshake() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(u32::MAX);
    server.syn_ack(u32::MAX, 0);
    client.ack(0, 0);
    talk.expect(Established, Established);
}

#[test]
fn the_first_data_completes_a_handshake_whose_last_ack_was_lost() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.syn_ack(5000, 1001);
    client.data(1001, 5001, 100);
    talk.expect(Established, Established);
    talk.expect_outcome(Outcome::Completed);
    assert_eq!(client.half().next_seq.get(), SeqNum(1101));
}

#[test]
fn data_of_the_responder_does_not_complete_the_handshake() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.syn_ack(5000, 1001);
    server.data(5001, 1001, 50);
    talk.expect(SynSent, SynReceived);
    client.ack(1001, 5051);
    talk.expect(Established, Established);
}

#[test]
fn a_syn_with_data_is_acknowledged_with_it_or_without() {
    for acknowledged in [1101, 1001] {
        let talk = Talk::new();
        let (client, server) = talk.peers();
        client.syn_data(1000, 100);
        server.syn_ack(5000, acknowledged);
        client.data(acknowledged, 5001, 1201 - acknowledged);
        talk.expect(Established, Established);
        assert_eq!(client.half().next_seq.get(), SeqNum(1201));
    }
}

#[test]
fn a_handshake_first_seen_at_its_syn_ack_completes_without_a_total_time() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    server.syn_ack(5000, 1001);
    talk.expect(SynSent, SynReceived);
    assert!(talk.word().has(Mark::Inferred));
    talk.wait(40 * MILLISECOND);
    client.ack(1001, 5001);
    talk.expect_outcome(Outcome::Completed);
    let times = talk.flow().times.clone();
    assert_eq!((times.syn_to_synack_ns(), times.total_ns()), (None, None));
    assert_eq!(times.synack_to_ack_ns(), Some(40 * MILLISECOND));
}

#[test]
fn a_syn_that_is_seen_after_its_syn_ack_still_belongs_to_it() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    server.syn_ack(5000, 1001);
    client.skipped(Stale).syn(2000);
    client.syn(1000);
    client.ack(1001, 5001);
    talk.expect(Established, Established);
    assert_eq!(client.half().isn.get(), SeqNum(1000));
}

#[test]
fn an_acknowledgement_without_a_syn_ack_is_a_flow_whose_other_direction_passes_elsewhere() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    client.syn(1000);
    client.ack(1001, 5001);
    talk.expect_outcome(Outcome::NotSeen);
    assert_eq!(talk.table_entries(), (0, 1));
    assert_eq!(talk.all_attempts(), 0);
}

// ---- Repetitions ----

#[test]
fn a_repeated_syn_counts_and_the_answered_one_is_timed() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    talk.wait(SECOND);
    client.syn(1000);
    talk.wait(30 * MILLISECOND);
    server.syn_ack(5000, 1001);
    talk.wait(40 * MILLISECOND);
    client.ack(1001, 5001);
    let times = talk.flow().times.clone();
    assert_eq!(times.syn_to_synack_ns(), Some(30 * MILLISECOND));
    assert_eq!(times.synack_to_ack_ns(), Some(40 * MILLISECOND));
    assert_eq!(times.total_ns(), Some(1070 * MILLISECOND));
    assert!(talk.word().has(Mark::SynRepeated) && !talk.word().has(Mark::SynAckRepeated));
    assert_eq!(client.half().syn_retransmits.get(), 1);
    assert_eq!(talk.counters().handshake_retransmits[Retransmit::Syn.index()][Locality::Client.index()], 1);
    assert_eq!(talk.histogram(by_role(HandshakePart::Total, Locality::Client, true)).count(), 1);
    assert_eq!(talk.histogram(by_role(HandshakePart::Total, Locality::Client, false)).count(), 0);
}

#[test]
fn a_repeated_syn_ack_counts_and_the_first_one_is_timed() {
    let talk = Talk::on_server();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.syn_ack(5000, 1001);
    talk.wait(SECOND);
    server.syn_ack(5000, 1001);
    talk.wait(10 * MILLISECOND);
    client.ack(1001, 5001);
    assert_eq!(talk.flow().times.synack_to_ack_ns(), Some(1010 * MILLISECOND));
    assert!(talk.word().has(Mark::SynAckRepeated) && !talk.word().has(Mark::SynRepeated));
    assert_eq!(server.half().syn_retransmits.get(), 1);
    assert_eq!(talk.counters().handshake_retransmits[Retransmit::SynAck.index()][Locality::Server.index()], 1);
}

#[test]
fn a_syn_repeated_after_its_answer_leaves_the_answered_one_timed() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    talk.wait(20 * MILLISECOND);
    server.syn_ack(5000, 1001);
    talk.wait(SECOND);
    client.syn(1000);
    server.syn_ack(5000, 1001);
    client.ack(1001, 5001);
    assert_eq!(talk.flow().times.syn_to_synack_ns(), Some(20 * MILLISECOND));
    assert_eq!((client.half().syn_retransmits.get(), server.half().syn_retransmits.get()), (1, 1));
    assert_eq!(talk.attempts(Outcome::Completed), 1);
}

#[test]
fn a_syn_ack_with_another_number_is_the_one_to_be_acknowledged() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.syn_ack(5000, 1001);
    server.syn_ack(7000, 1001);
    client.ack(1001, 7001);
    talk.expect(Established, Established);
    assert_eq!(server.half().isn.get(), SeqNum(7000));
}

#[test]
fn a_syn_ack_repeated_after_the_last_ack_is_counted_and_changes_nothing() {
    let talk = Talk::on_server();
    let (client, server) = talk.peers();
    talk.open();
    let word = talk.word();
    talk.wait(SECOND);
    server.syn_ack(5000, 1001);
    client.ack(1001, 5001);
    assert_eq!(talk.word(), word);
    assert_eq!(server.half().syn_retransmits.get(), 1);
    assert_eq!(talk.counters().handshake_retransmits[Retransmit::SynAck.index()][Locality::Server.index()], 1);
}

#[test]
fn a_repeated_syn_without_its_data_does_not_take_the_data_back() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn_data(1000, 100);
    client.syn(1000);
    server.syn_ack(5000, 1101);
    client.ack(1101, 5001);
    talk.expect(Established, Established);
}

#[test]
fn a_repeated_syn_ack_does_not_take_back_what_was_sent_behind_the_first() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.syn_ack(5000, 1001);
    server.data(5001, 1001, 50);
    server.syn_ack(5000, 1001);
    client.ack(1001, 5051);
    talk.expect(Established, Established);
}

// ---- Simultaneous open (RFC 9293, figure 7) ----

#[test]
fn two_syns_that_cross_open_one_connection() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(100);
    server.syn(300);
    talk.expect(SynReceived, SynReceived);
    talk.expect_phase(Phase::HalfOpen);
    client.syn_ack(100, 301);
    talk.expect(SynReceived, Established);
    server.syn_ack(300, 101);
    talk.expect(Established, Established);
    talk.expect_outcome(Outcome::Completed);
    assert_eq!(talk.attempts(Outcome::Completed), 1);
    assert_eq!(talk.table_entries(), (1, 0));
}

#[test]
fn a_simultaneous_open_may_end_with_plain_acknowledgements() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(u32::MAX);
    server.syn(300);
    server.syn_ack(300, 0);
    talk.expect(Established, SynReceived);
    client.ack(0, 301);
    talk.expect(Established, Established);
}

#[test]
fn in_a_simultaneous_open_each_end_needs_its_own_syn_acknowledged() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(100);
    server.syn(300);
    client.ack(101, 301);
    talk.expect(SynReceived, Established);
    talk.expect_outcome(Outcome::InProgress);
    server.ack(301, 101);
    talk.expect(Established, Established);
    talk.expect_outcome(Outcome::Completed);
}

/// The client, which has both SYNs, answers it by an ACK (RFC 9293, 3.10.7.4, first check).
#[test]
fn after_crossing_syns_a_syn_ack_of_another_number_is_stale_to_a_local_end() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(100);
    server.syn(300);
    client.syn_ack(100, 301);
    talk.expect(SynReceived, Established);
    server.skipped(Stale).syn_ack(900, 101);
    talk.expect(SynReceived, Established);
    server.rst(301);
    talk.expect(Closed, Closed);
}

/// Nor to one elsewhere that has acknowledged the first, and so has it. One that has not may have got neither.
#[test]
fn after_crossing_syns_a_syn_ack_of_another_number_is_stale_to_whoever_has_acknowledged_the_first() {
    for has_acknowledged in [true, false] {
        let mut talk = Talk::new();
        talk.memory.local4.clear();
        let (client, server) = talk.peers();
        client.syn(100);
        server.syn(300);
        if has_acknowledged {
            client.syn_ack(100, 301);
            server.skipped(Stale).syn_ack(900, 101);
            talk.expect(SynReceived, Established);
        } else {
            server.syn_ack(900, 101);
            talk.expect(Established, SynReceived);
        }
    }
}

// ---- What lies before all that is expected is dropped, its acknowledgement with it (RFC 9293, 3.10.7.4, first check) ----

#[test]
fn a_keepalive_of_the_syns_number_completes_no_handshake_that_is_first_seen_at_its_syn_ack() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    server.syn_ack(5000, 1001);
    client.skipped(Stale).ack(1000, 5001);
    client.skipped(Stale).data(1000, 5001, 1);
    talk.expect(SynSent, SynReceived);
    client.ack(1001, 5001);
    talk.expect(Established, Established);
    talk.expect_outcome(Outcome::Completed);
}

#[test]
fn a_keepalive_of_the_syns_number_completes_no_simultaneous_open() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(100);
    server.syn(300);
    client.syn_ack(100, 301);
    server.ack(300, 101);
    talk.expect(SynReceived, Established);
    talk.expect_outcome(Outcome::InProgress);
    server.ack(301, 101);
    talk.expect(Established, Established);
    talk.expect_outcome(Outcome::Completed);
}
