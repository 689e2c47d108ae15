//! A tuple used again: which SYN begins a new flow where an old one is still known
//! (<https://www.rfc-editor.org/rfc/rfc9293#section-3.6.1>, <https://www.rfc-editor.org/rfc/rfc6191>).

use tcp_observer_common::{
    conn::{Outcome, Phase, State::*},
    counters::{Eviction, Skip::*, TableKind},
    seq::SeqNum,
};

use crate::support::{SECOND, Talk};

fn reused(talk: &Talk, table: TableKind) -> u64 {
    talk.counters().evictions[table.index()][Eviction::Reused.index()]
}

/// The server closes first and is left in TIME-WAIT. The client has used 1000 to 1001, the server 5000 to 5001.
fn closed_by_server() -> Talk {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    server.fin(5001, 1001);
    client.fin(1001, 5002);
    server.ack(5002, 1002);
    talk.expect(Closed, TimeWait);
    talk
}

#[test]
fn a_syn_beyond_all_that_was_received_begins_anew_in_time_wait() {
    for seq in [1003, 50_000, 1001 + 0x7fff_ffff] {
        let talk = closed_by_server();
        let (client, server) = talk.peers();
        client.syn(seq);
        talk.expect(SynSent, Listen);
        talk.expect_phase(Phase::HalfOpen);
        assert_eq!(reused(&talk, TableKind::FlowsIpv4), 1);
        assert_eq!(talk.table_entries(), (0, 1));
        server.syn_ack(99, seq.wrapping_add(1));
        client.ack(seq.wrapping_add(1), 100);
        talk.expect(Established, Established);
        assert_eq!(client.half().packets.get(), 2);
        assert_eq!(talk.attempts(Outcome::Completed), 2);
        assert_eq!(talk.all_closes(), 1);
    }
}

#[test]
fn an_old_syn_does_not_disturb_time_wait() {
    let talk = closed_by_server();
    let (client, _) = talk.peers();
    client.skipped(Stale).syn(1001);
    client.skipped(Stale).syn(500);
    client.skipped(Stale).syn(1002_u32.wrapping_sub(1 << 30));
    talk.expect(Closed, TimeWait);
    assert_eq!(reused(&talk, TableKind::FlowsIpv4), 0);
}

#[test]
fn an_answer_tells_that_time_wait_took_a_syn_that_looked_old() {
    let talk = closed_by_server();
    let (client, server) = talk.peers();
    client.skipped(Stale).syn(500);
    server.syn_ack(7000, 501);
    talk.expect(SynSent, SynReceived);
    client.ack(501, 7001);
    talk.expect_outcome(Outcome::Completed);
}

#[test]
fn the_endpoint_in_time_wait_may_open_again_with_any_number() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    talk.open_and_close();
    talk.wait(SECOND);
    client.syn(77);
    talk.expect(SynSent, Listen);
    assert_eq!(client.half().isn.get(), SeqNum(77));
    assert_eq!(reused(&talk, TableKind::FlowsIpv4), 1);
}

#[test]
fn a_syn_the_other_way_round_turns_the_roles() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open_and_close();
    server.syn(5003);
    talk.expect(SynSent, Listen);
    client.syn_ack(70, 5004);
    talk.expect(SynSent, SynReceived);
    assert_eq!(server.half().isn.get(), SeqNum(5003));
}

#[test]
fn after_a_reset_any_syn_begins_anew() {
    for seq in [1000, 3, 90_000] {
        let talk = Talk::new();
        let (client, server) = talk.peers();
        talk.open();
        server.rst(5001);
        talk.wait(SECOND);
        client.syn(seq);
        talk.expect(SynSent, Listen);
        assert_eq!(reused(&talk, TableKind::FlowsIpv4), 1);
    }
}

#[test]
fn after_a_refusal_the_next_attempt_is_an_attempt_of_its_own() {
    for seq in [1000, 3, 90_000_u32] {
        let talk = Talk::new();
        let (client, server) = talk.peers();
        client.syn(1000);
        server.rst_ack(0, 1001);
        talk.wait(SECOND);
        client.syn(seq);
        talk.expect(SynSent, Listen);
        talk.expect_outcome(Outcome::InProgress);
        server.rst_ack(0, seq + 1);
        assert_eq!((talk.attempts(Outcome::Refused), talk.all_attempts()), (2, 2));
        assert_eq!(reused(&talk, TableKind::HalfOpenIpv4), 1);
    }
}

#[test]
fn a_stale_syn_after_the_talk_is_over_ends_as_a_reset_attempt() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open_and_close();
    talk.sweep_after(61 * SECOND);
    talk.expect(Closed, Closed);
    // The first SYN was delayed that long: the server answers, the client knows of no such attempt.
    client.syn(1000);
    server.syn_ack(8000, 1001);
    client.rst(1001);
    talk.expect(Closed, Closed);
    talk.expect_outcome(Outcome::Reset);
    assert_eq!((talk.attempts(Outcome::Completed), talk.attempts(Outcome::Reset)), (1, 1));
    assert_eq!(talk.all_attempts(), 2);
}

#[test]
fn a_new_incarnation_over_the_wrap_is_told_by_the_ring() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(u32::MAX - 2);
    server.syn_ack(5000, u32::MAX - 1);
    client.ack(u32::MAX - 1, 5001);
    server.fin(5001, u32::MAX - 1);
    client.fin(u32::MAX - 1, 5002);
    server.ack(5002, u32::MAX);
    talk.expect(Closed, TimeWait);
    client.skipped(Stale).syn(u32::MAX - 1);
    client.syn(1);
    talk.expect(SynSent, Listen);
}
