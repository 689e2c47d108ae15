//! A tuple used again: which SYN begins a new flow where an old one is still known
//! (<https://www.rfc-editor.org/rfc/rfc9293#section-3.6.1>, <https://www.rfc-editor.org/rfc/rfc6191>).

use tcp_observer_common::{
    conn::{Note, Outcome, Phase, State::*},
    counters::{Eviction, Skip::*, TableKind},
    seq::SeqNum,
};

use crate::support::{MILLISECOND, Peer, SECOND, Talk};

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

/// Its sender is in SYN-RECEIVED, whatever became of the attempt before (RFC 9293, 3.10.7.2): the SYN that it answers was
/// not taken for one.
#[test]
fn after_a_reset_attempt_a_syn_ack_of_another_number_begins_another_one() {
    for client_has_reset in [true, false] {
        let talk = Talk::new();
        let (client, server) = talk.peers();
        client.syn(1000);
        server.syn_ack(5000, 1001);
        if client_has_reset {
            client.rst(1001);
        } else {
            server.rst(5001);
        }
        talk.expect_outcome(Outcome::Reset);
        // The first one again is of the attempt that is over.
        server.skipped(Stale).syn_ack(5000, 1001);
        talk.expect(Closed, Closed);
        server.syn_ack(90_000, 70_001);
        talk.expect(SynSent, SynReceived);
        client.ack(70_001, 90_001);
        talk.expect(Established, Established);
        assert_eq!((talk.attempts(Outcome::Reset), talk.attempts(Outcome::Completed), talk.all_attempts()), (1, 1, 2));
    }
}

/// The copy comes at once; somebody listens meanwhile. Elsewhere the RST might have overtaken the SYN-ACK.
#[test]
fn a_local_server_answers_a_copy_of_the_syn_that_it_has_refused() {
    let talk = Talk::on_server();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.rst_ack(0, 1001);
    client.syn(1000);
    talk.expect(Closed, Closed);
    server.skipped(Stale).syn_ack(5000, 2001);
    server.syn_ack(5000, 1001);
    talk.expect(SynSent, SynReceived);
    client.ack(1001, 5001);
    talk.expect(Established, Established);
    assert_eq!((talk.attempts(Outcome::Refused), talk.attempts(Outcome::Completed)), (1, 1));
}

/// It is not the second sighting of one that was seen just before: that was the RST.
#[test]
fn a_syn_right_after_the_rst_that_has_overtaken_it_is_an_attempt_that_its_receiver_answers() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    talk.wait(SECOND);
    client.rst(1001);
    talk.expect_outcome(Outcome::Abandoned);
    client.syn(1000);
    talk.expect(SynSent, Listen);
    server.syn_ack(5000, 1001);
    talk.expect(SynSent, SynReceived);
    client.rst(1001);
    assert_eq!((talk.attempts(Outcome::Abandoned), talk.attempts(Outcome::Reset), talk.all_attempts()), (1, 1, 2));
}

/// A CPU that still has the word of the one before must not exchange it for one of the next.
#[test]
fn incarnations_that_are_not_of_the_same_moment_have_another_epoch() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    client.syn(1000);
    let before = talk.word();
    talk.wait(MILLISECOND);
    client.syn(90_000);
    assert_ne!(talk.word().0 >> 48, before.0 >> 48);
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

// ---- By timestamps (RFC 6191, section 2) ----

/// As [`closed_by_server`]; the client's last timestamp was 500.
fn closed_by_server_with_timestamps() -> Talk {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.timestamps(100, 0).syn(1000);
    server.timestamps(900, 100).syn_ack(5000, 1001);
    client.timestamps(101, 900).ack(1001, 5001);
    server.timestamps(1200, 101).fin(5001, 1001);
    client.timestamps(500, 1200).fin(1001, 5002);
    server.timestamps(1201, 500).ack(5002, 1002);
    talk.expect(Closed, TimeWait);
    talk
}

#[test]
fn in_time_wait_a_newer_timestamp_opens_again_though_the_number_is_older() {
    let talk = closed_by_server_with_timestamps();
    let (client, server) = talk.peers();
    client.timestamps(501, 0).syn(300);
    talk.expect(SynSent, Listen);
    talk.expect_notes([Note::TimeWaitReused]);
    server.timestamps(1300, 501).syn_ack(70, 301);
    client.timestamps(502, 1300).ack(301, 71);
    talk.expect(Established, Established);
}

#[test]
fn in_time_wait_with_an_equal_timestamp_the_number_decides() {
    let talk = closed_by_server_with_timestamps();
    let (client, _) = talk.peers();
    client.timestamps(500, 0).skipped(Stale).syn(300);
    talk.expect(Closed, TimeWait);
    client.timestamps(500, 0).syn(90_000);
    talk.expect(SynSent, Listen);
}

#[test]
fn in_time_wait_an_older_timestamp_is_refused_whatever_the_number() {
    let talk = closed_by_server_with_timestamps();
    let (client, server) = talk.peers();
    client.timestamps(499, 0).skipped(Stale).syn(90_000);
    client.timestamps(499, 0).skipped(Stale).syn(300);
    talk.expect(Closed, TimeWait);
    assert!(talk.flow().story.has(Note::SynInConnection));
    // Linux answers with the last acknowledgement; the client resets that (RFC 9293, 3.10.7.3) and TIME-WAIT with it.
    server.ack(5002, 1002);
    client.rst(1002);
    talk.expect(Closed, Closed);
}

#[test]
fn timestamps_may_wrap() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.timestamps(u32::MAX - 2, 0).syn(1000);
    server.timestamps(1, u32::MAX - 2).syn_ack(5000, 1001);
    client.timestamps(u32::MAX - 1, 1).ack(1001, 5001);
    server.timestamps(2, u32::MAX - 1).fin(5001, 1001);
    client.timestamps(u32::MAX, 2).fin(1001, 5002);
    server.ack(5002, 1002);
    client.timestamps(3, 0).syn(300);
    talk.expect(SynSent, Listen);
}

#[test]
fn without_a_timestamp_on_the_syn_the_number_decides() {
    let talk = closed_by_server_with_timestamps();
    let (client, _) = talk.peers();
    client.skipped(Stale).syn(300);
    client.syn(90_000);
    talk.expect(SynSent, Listen);
    talk.expect_notes([Note::TimeWaitReused]);
}

// ---- What the new flow remembers ----

#[test]
fn each_reuse_is_noted_with_the_new_flow() {
    // After a reset, after a refusal, after TIME-WAIT.
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    server.rst(5001);
    talk.wait(10 * MILLISECOND);
    client.syn(90_000);
    talk.expect_notes([Note::TupleReused]);
    talk.expect_history("S");

    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.rst_ack(0, 1001);
    talk.wait(10 * MILLISECOND);
    client.syn(90_000);
    talk.expect_notes([Note::TupleReused]);

    let talk = closed_by_server();
    let (client, _) = talk.peers();
    client.syn(90_000);
    talk.expect_notes([Note::TimeWaitReused]);
    assert_eq!(client.half().packets.get(), 1);
}

#[test]
fn reuse_after_a_reset_does_not_ask_for_the_number() {
    for seq in [999, 1002, 90_000, 1001_u32.wrapping_sub(1 << 30)] {
        let talk = Talk::new();
        let (client, server) = talk.peers();
        talk.open();
        server.rst(5001);
        client.syn(seq);
        talk.expect(SynSent, Listen);
        talk.expect_notes([Note::TupleReused]);
    }
}

#[test]
fn a_life_after_another_has_each_frame_twice_and_is_two_lives() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    let both = |peer: Peer<'_, _>, send: &dyn Fn(Peer<'_, _>)| {
        talk.wait(20 * MILLISECOND);
        send(peer);
        talk.wait(5000);
        send(peer);
    };
    for isn in [1000, 2_000_000] {
        both(client, &|peer| peer.syn(isn));
        both(server, &|peer| peer.syn_ack(5000 + isn, isn + 1));
        both(client, &|peer| peer.ack(isn + 1, 5001 + isn));
        both(client, &|peer| peer.rst_ack(isn + 1, 5001 + isn));
        talk.expect(Closed, Closed);
    }
    assert_eq!((talk.attempts(Outcome::Completed), talk.all_attempts()), (2, 2));
    assert_eq!((talk.all_closes(), talk.all_resets()), (2, 2));
    assert_eq!(reused(&talk, TableKind::FlowsIpv4), 1);
    talk.expect_notes([Note::TupleReused, Note::FramesDoubled, Note::AbortiveClose, Note::ResetAfterClose]);
}
