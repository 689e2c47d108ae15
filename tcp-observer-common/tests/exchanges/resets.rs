//! RST after the handshake: which ones count, and what each leaves
//! (<https://www.rfc-editor.org/rfc/rfc9293#section-3.5.3>, <https://www.rfc-editor.org/rfc/rfc5961#section-3>,
//! <https://www.rfc-editor.org/rfc/rfc1337>).

use tcp_observer_common::{
    conn::{How, Initiator, Phase, State::*},
    counters::{Endedness, Skip::*},
};

use crate::support::Talk;

#[test]
fn a_rst_ends_an_established_flow_at_once() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    talk.open();
    client.rst(1001);
    talk.expect(Closed, Closed);
    talk.expect_phase(Phase::Closed);
    talk.expect_close(Initiator::Originator, How::Rst);
    assert_eq!(talk.counters().resets[Phase::Established.index()], [1, 0]);
    assert_eq!(talk.counters().closes[Endedness::Local.index()][How::Rst.index()], 1);
    assert_eq!((talk.all_resets(), talk.all_closes()), (1, 1));
}

#[test]
fn a_rst_of_the_responder_names_the_responder() {
    let talk = Talk::new();
    let (_, server) = talk.peers();
    talk.open();
    server.rst_ack(5001, 1001);
    talk.expect_close(Initiator::Responder, How::Rst);
    assert_eq!(talk.counters().resets[Phase::Established.index()], [0, 1]);
    assert_eq!(talk.counters().closes[Endedness::Remote.index()][How::Rst.index()], 1);
}

#[test]
fn a_rst_out_of_place_closes_nothing() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.data(1001, 5001, 100);
    server.ack(5001, 1101);
    for seq in [0, 1000, 1100, 1102, 66636, 5001, 1101 + (1 << 31)] {
        client.skipped(Stale).rst(seq);
    }
    for seq in [0, 5000, 5002, 1101] {
        server.skipped(Stale).rst(seq);
    }
    talk.expect(Established, Established);
    assert_eq!((talk.all_resets(), talk.all_closes()), (0, 0));
}

#[test]
fn a_rst_may_stand_before_data_that_was_sent_and_not_acknowledged() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    talk.open();
    client.data(1001, 5001, 100);
    client.rst(1001);
    talk.expect(Closed, Closed);
}

#[test]
fn a_rst_over_the_wrap_is_in_place() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(u32::MAX - 10);
    server.syn_ack(5000, u32::MAX - 9);
    client.ack(u32::MAX - 9, 5001);
    client.data(u32::MAX - 9, 5001, 20);
    client.skipped(Stale).rst(11);
    client.skipped(Stale).rst(u32::MAX - 10);
    client.rst(0);
    talk.expect(Closed, Closed);
}

#[test]
fn a_rst_after_a_fin_is_how_the_flow_ended_and_the_fin_says_who_began() {
    for from_client in [true, false] {
        let talk = Talk::new();
        let (client, server) = talk.peers();
        talk.open();
        client.fin(1001, 5001);
        if from_client {
            client.rst(1002)
        } else {
            server.rst(5001)
        }
        talk.expect(Closed, Closed);
        talk.expect_close(Initiator::Originator, How::Rst);
        assert_eq!(talk.counters().resets[Phase::Closing.index()], [from_client.into(), (!from_client).into()]);
        assert_eq!(talk.all_closes(), 1);
    }
}

#[test]
fn a_rst_with_the_number_of_its_senders_fin_counts() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.fin(1001, 5001);
    server.ack(5001, 1002);
    client.skipped(Stale).rst(1000);
    client.rst(1001);
    talk.expect(Closed, Closed);
}

/// It is one before RCV.NXT: "If the RST bit is set and the sequence number is outside the current receive window,
/// silently drop the segment" (RFC 9293, 3.10.7.4), and Linux's `tcp_timewait_state_process` takes RCV.NXT only. The
/// closed end answers an ACK from before its FIN with such a RST (RFC 9293, 3.5.2, first group).
#[test]
fn a_rst_with_the_number_of_its_senders_fin_does_not_end_time_wait() {
    for talk in [Talk::new(), Talk::on_server()] {
        let (client, server) = talk.peers();
        talk.open_and_close();
        client.ack(1002, 5001);
        server.skipped(Stale).rst(5001);
        talk.expect(TimeWait, Closed);
        server.rst(5002);
        talk.expect(Closed, Closed);
    }
}

/// RFC 9293, 3.10.7.4: it is RCV.NXT for as long as the FIN has not arrived, which the receiver has not said.
#[test]
fn a_rst_with_the_number_of_a_fin_that_may_be_lost_counts() {
    for talk in [Talk::new(), Talk::on_server()] {
        let (client, server) = talk.peers();
        talk.open();
        client.fin(1001, 5001);
        server.ack(5001, 1002);
        server.fin(5001, 1002);
        talk.expect(TimeWait, LastAck);
        server.rst(5001);
        talk.expect(Closed, Closed);
    }
}

#[test]
fn a_rst_ends_a_half_closed_flow() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.fin(1001, 5001);
    server.ack(5001, 1002);
    server.rst(5001);
    talk.expect(Closed, Closed);
    talk.expect_close(Initiator::Originator, How::Rst);
    assert_eq!(talk.counters().resets[Phase::HalfClosed.index()], [0, 1]);
}

#[test]
fn a_rst_in_last_ack_ends_what_was_closing() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.fin(1001, 5001);
    server.fin(5001, 1002);
    client.rst(1002);
    talk.expect(Closed, Closed);
    talk.expect_close(Initiator::Originator, How::Rst);
    assert_eq!(talk.counters().resets[Phase::Closing.index()], [1, 0]);
}

#[test]
fn a_rst_in_time_wait_only_cuts_it_short() {
    let talk = Talk::new();
    let (_, server) = talk.peers();
    talk.open_and_close();
    server.rst(5002);
    talk.expect(Closed, Closed);
    talk.expect_close(Initiator::Originator, How::Fin);
    assert_eq!(talk.counters().resets[Phase::TimeWait.index()], [0, 1]);
    assert_eq!(talk.all_closes(), 1);
}

#[test]
fn a_blind_rst_does_not_assassinate_time_wait() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open_and_close();
    server.skipped(Stale).rst(5003);
    server.skipped(Stale).rst(4000);
    client.skipped(Stale).rst(5002);
    talk.expect(TimeWait, Closed);
}

#[test]
fn a_second_rst_ends_nothing_more() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.rst(1001);
    client.rst(1001);
    server.rst(5001);
    talk.expect_close(Initiator::Originator, How::Rst);
    assert_eq!((talk.all_resets(), talk.all_closes()), (1, 1));
}

#[test]
fn a_syn_into_an_established_flow_is_answered_by_a_challenge_and_changes_nothing() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    let word = talk.word();
    client.skipped(Stale).syn(90000);
    server.ack(5001, 1001);
    client.skipped(Stale).syn(1001);
    server.skipped(Stale).syn(5001);
    server.skipped(Stale).syn_ack(9000, 90001);
    assert_eq!(talk.word(), word);
}

#[test]
fn a_rst_answers_the_challenge_of_a_peer_that_has_forgotten_the_flow() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    // The client has restarted and opens again from the same port; the server still has the old connection.
    client.skipped(Stale).syn(90000);
    server.ack(5001, 1001);
    client.rst(1001);
    talk.expect(Closed, Closed);
    client.syn(90000);
    talk.expect(SynSent, Listen);
}

#[test]
fn data_sent_far_ahead_does_not_help_a_blind_rst_or_fin() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.syn_ack(5000, 1001);
    client.ack(1001, 5001);
    // A forger who speaks as the client: data beyond any window that the server has offered, then an end right there.
    client.data(1001 + (1 << 30), 5001, 10);
    client.skipped(Stale).rst(1001 + (1 << 30) + 10);
    client.skipped(Stale).fin(1001 + (1 << 30) + 10, 5001);
    talk.expect(Established, Established);
    // The client's own RST still counts.
    client.rst(1001);
    talk.expect(Closed, Closed);
}

/// The originator has only sent its SYN: no acknowledgement of its own bounds what it takes.
#[test]
fn a_rst_behind_its_senders_data_is_stale_while_the_receiver_has_acknowledged_nothing() {
    let talk = Talk::on_server();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.data(5001, 1001, 100);
    server.skipped(Stale).rst(4000);
    talk.expect(Established, Established);
    server.rst(5101);
    talk.expect(Closed, Closed);
}
