//! Closing: FINs, their acknowledgements, and TIME-WAIT
//! (<https://www.rfc-editor.org/rfc/rfc9293#section-3.6>).

use tcp_observer_common::{
    conn::{How, Initiator, Outcome, Phase, State::*},
    counters::{Endedness, Skip::*},
    segment::Flags,
    seq::SeqNum,
};

use crate::support::{CLIENT_ADDR, Endpoint, SECOND, SERVER_ADDR, Talk};

// ---- One end after the other ----

#[test]
fn four_segments_close_both_ends() {
    let talk = Talk::between(Endpoint { addr: CLIENT_ADDR, port: 55389 }, Endpoint { addr: SERVER_ADDR, port: 80 });
    let (client, server) = talk.peers();
    client.syn(0);
    server.syn_ack(0, 1);
    client.ack(1, 1);
    client.data(1, 1, 557);
    server.data(1, 558, 2444);
    client.ack(558, 2445);
    server.fin(2445, 558);
    talk.expect(CloseWait, FinWait1);
    talk.expect_phase(Phase::Closing);
    client.ack(558, 2446);
    talk.expect(CloseWait, FinWait2);
    talk.expect_phase(Phase::HalfClosed);
    client.fin(558, 2446);
    talk.expect(LastAck, TimeWait);
    talk.expect_phase(Phase::Closing);
    server.ack(2446, 559);
    talk.expect(Closed, TimeWait);
    talk.expect_phase(Phase::TimeWait);
    talk.expect_close(Initiator::Responder, How::Fin);
    assert_eq!(talk.all_closes(), 1);
}

/// As two CPUs, or a network card with several queues, may show them.
#[test]
fn a_fin_that_its_acknowledgement_has_overtaken_is_taken_nevertheless() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    server.ack(5001, 1002);
    client.fin(1001, 5001);
    talk.expect(FinWait1, CloseWait);
    server.ack(5001, 1002);
    talk.expect(FinWait2, CloseWait);
}

#[test]
fn three_segments_close_both_ends_when_the_second_fin_carries_the_acknowledgement() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.fin(1001, 5001);
    talk.expect(FinWait1, CloseWait);
    server.fin(5001, 1002);
    talk.expect(TimeWait, LastAck);
    client.ack(1002, 5002);
    talk.expect(TimeWait, Closed);
    talk.expect_close(Initiator::Originator, How::Fin);
    assert_eq!(talk.counters().closes[Endedness::Local.index()][How::Fin.index()], 1);
}

#[test]
fn ipv6_closes_likewise() {
    let talk = Talk::new_v6();
    talk.open_and_close();
    talk.expect(TimeWait, Closed);
}

#[test]
fn a_close_over_the_wrap_is_like_any_other() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(u32::MAX - 1);
    server.syn_ack(u32::MAX - 9, u32::MAX);
    client.ack(u32::MAX, u32::MAX - 8);
    client.fin(u32::MAX, u32::MAX - 8);
    server.data(u32::MAX - 8, 0, 9);
    talk.expect(FinWait2, CloseWait);
    server.fin(0, 0);
    client.ack(0, 1);
    talk.expect(TimeWait, Closed);
}

#[test]
fn a_fin_with_data_is_acknowledged_only_with_all_of_it() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.fin_data(1001, 5001, 100);
    talk.expect(FinWait1, CloseWait);
    server.ack(5001, 1001);
    server.ack(5001, 1101);
    talk.expect(FinWait1, CloseWait);
    server.ack(5001, 1102);
    talk.expect(FinWait2, CloseWait);
}

#[test]
fn the_segment_that_ends_the_handshake_may_carry_a_fin() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.syn_ack(5000, 1001);
    client.fin_data(1001, 5001, 10);
    talk.expect(FinWait1, CloseWait);
    server.fin(5001, 1012);
    client.ack(1012, 5002);
    talk.expect(TimeWait, Closed);
    assert_eq!(talk.table_entries(), (1, 0));
}

#[test]
fn a_responder_that_closes_before_the_last_ack_is_seen_is_in_fin_wait_1() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.syn_ack(5000, 1001);
    server.fin_data(5001, 1001, 50);
    talk.expect(SynSent, FinWait1);
    talk.expect_phase(Phase::HalfOpen);
    client.ack(1001, 5052);
    talk.expect(CloseWait, FinWait2);
    client.fin(1001, 5052);
    server.ack(5052, 1002);
    talk.expect(Closed, TimeWait);
    talk.expect_close(Initiator::Responder, How::Fin);
}

#[test]
fn a_second_end_before_the_last_ack_is_seen_does_not_move_the_first() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.syn_ack(5000, 1001);
    server.fin(5001, 1001);
    server.skipped(Stale).fin(6000, 1001);
    assert_eq!(server.half().next_seq.get(), SeqNum(5002));
    client.ack(1001, 5002);
    talk.expect(CloseWait, FinWait2);
}

/// RFC 9293, 3.10.7.4: "first, check sequence number"; what is not acceptable is dropped, ACK and FIN.
#[test]
fn a_fin_out_of_the_window_does_not_complete_the_handshake() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.syn_ack(5000, 1001);
    client.skipped(Stale).fin(1002 + 65535, 5001);
    talk.expect(SynSent, SynReceived);
    client.fin(1001 + 65535, 5001);
    talk.expect(FinWait1, Established);
}

#[test]
fn either_end_of_a_simultaneous_open_may_close_before_it_is_over() {
    for first_closes in [true, false] {
        let talk = Talk::new();
        let (client, server) = talk.peers();
        client.syn(100);
        server.syn(300);
        let (closer, peer, own, other) =
            if first_closes { (client, server, 101, 301) } else { (server, client, 301, 101) };
        closer.fin(own, other);
        closer.fin(own, other);
        talk.expect_outcome(Outcome::InProgress);
        peer.ack(other, own + 1);
        talk.expect_outcome(Outcome::Completed);
        let expected = if first_closes { (FinWait2, CloseWait) } else { (CloseWait, FinWait2) };
        assert_eq!(talk.states(), expected);
    }
}

#[test]
fn after_half_a_close_the_other_half_goes_on_talking() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.fin(1001, 5001);
    server.ack(5001, 1002);
    for round in 0..3 {
        server.data(5001 + 500 * round, 1002, 500);
        client.ack(1002, 5501 + 500 * round);
        talk.expect(FinWait2, CloseWait);
        talk.expect_phase(Phase::HalfClosed);
    }
    assert_eq!(server.half().payload_bytes.get(), 1500);
    server.fin(6501, 1002);
    talk.expect(TimeWait, LastAck);
    client.ack(1002, 6502);
    talk.expect(TimeWait, Closed);
}

// ---- Fins that may not have arrived ----

#[test]
fn a_fin_beyond_a_gap_is_received_only_when_it_is_acknowledged() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.fin(1101, 5001);
    talk.expect(FinWait1, Established);
    server.ack(5001, 1001);
    client.data(1001, 5001, 100);
    talk.expect(FinWait1, Established);
    server.ack(5001, 1101);
    talk.expect(FinWait1, Established);
    server.ack(5001, 1102);
    talk.expect(FinWait2, CloseWait);
}

/// Sent after the FIN, an ACK has the number after it; the FIN was lost, or was overtaken.
#[test]
fn a_fin_that_its_own_ends_ack_has_overtaken_is_received_when_it_passes() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.data(1001, 5001, 100);
    server.data(5001, 1101, 300);
    client.ack(1102, 5301);
    talk.expect(Established, Established);
    client.fin(1101, 5301);
    talk.expect(FinWait1, CloseWait);
    server.ack(5301, 1102);
    talk.expect(FinWait2, CloseWait);
}

#[test]
fn an_acknowledgement_beyond_the_fin_acknowledges_nothing() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.fin(1001, 5001);
    let _ = server.try_send(Flags::ACK, 5001, 1003, 0);
    talk.expect(FinWait1, CloseWait);
}

#[test]
fn data_beyond_a_fin_does_not_put_off_its_acknowledgement() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.fin(1001, 5001);
    let _ = client.try_send(Flags::ACK, 1002, 5001, 10);
    assert_eq!(client.half().next_seq.get(), SeqNum(1002));
    server.ack(5001, 1002);
    talk.expect(FinWait2, CloseWait);
}

#[test]
fn a_repeated_fin_moves_nothing() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    talk.open();
    client.fin(1001, 5001);
    let word = talk.word();
    client.fin(1001, 5001);
    assert_eq!(talk.word(), word);
    assert_eq!(client.half().next_seq.get(), SeqNum(1002));
}

#[test]
fn a_fin_repeated_together_with_the_data_before_it_is_the_same_fin() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.data(1001, 5001, 100);
    client.fin(1101, 5001);
    client.fin_data(1001, 5001, 100);
    client.skipped(Stale).fin(1102, 5001);
    server.ack(5001, 1102);
    talk.expect(FinWait2, CloseWait);
}

#[test]
fn a_fin_out_of_the_receivers_window_is_stale() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.data(1001, 5001, 100);
    server.ack(5001, 1101);
    // Acknowledged up to 1101, window 65535 unscaled: data up to 66635 fits, and the FIN right behind it.
    client.skipped(Stale).fin(66637, 5001);
    client.skipped(Stale).fin(1050, 5001);
    client.skipped(Stale).fin(1101_u32.wrapping_sub(1 << 30), 5001);
    talk.expect(Established, Established);
    client.fin(66636, 5001);
    talk.expect(FinWait1, Established);
}

/// 4.4BSD and smoltcp send it so, and take it.
#[test]
fn a_fin_behind_data_that_fills_the_window_counts() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.window(100).syn_ack(5000, 1001);
    client.ack(1001, 5001);
    client.fin_data(1001, 5001, 100);
    talk.expect(FinWait1, CloseWait);
    server.ack(5001, 1102);
    talk.expect(FinWait2, CloseWait);
}

/// The receiver has the data by then; the FIN is the first thing that passes behind it in order.
#[test]
fn a_fin_that_comes_again_once_nothing_is_missing_is_received() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.fin(1101, 5001);
    talk.expect(FinWait1, Established);
    client.data(1001, 5001, 100);
    server.ack(5001, 1101);
    talk.expect(FinWait1, Established);
    talk.wait(300_000_000);
    client.fin(1101, 5001);
    talk.expect(FinWait1, CloseWait);
}

/// It was delayed on its way; what it acknowledges was never sent in this connection.
#[test]
fn an_acknowledgement_of_what_was_not_sent_does_not_stand_in_a_rsts_way() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.data(1001, 5001, 100);
    server.ack(5001, 1101);
    server.data(4000, 900_000_000, 10);
    client.rst(1101);
    talk.expect(Closed, Closed);
}

#[test]
fn the_window_is_scaled_when_both_syns_offered_it() {
    for (client_shift, server_shift, fits) in [(Some(2), Some(7), true), (Some(2), None, false), (None, Some(7), false)]
    {
        let talk = Talk::new();
        let (client, server) = talk.peers();
        client_shift.map_or(client, |shift| client.shift(shift)).syn(1000);
        let server = server.window(100);
        server_shift.map_or(server, |shift| server.shift(shift)).syn_ack(5000, 1001);
        client.ack(1001, 5001);
        // 12800 numbers and a FIN fit into a window of 100 shifted by seven, and 100 otherwise.
        if fits {
            client.skipped(Stale).fin(1002 + 12800, 5001);
            client.fin(1001 + 12800, 5001);
        } else {
            client.skipped(Stale).fin(1102, 5001);
            client.fin(1101, 5001);
        }
        talk.expect(FinWait1, Established);
    }
}

/// Only a capture without any data may be one of nothing but SYNs and FINs.
#[test]
fn in_a_capture_of_data_a_fin_out_of_the_receivers_window_is_stale_as_well() {
    let talk = Talk::keeping_all();
    let (client, server) = talk.peers();
    talk.open();
    client.data(1001, 5001, 100);
    server.ack(5001, 1101);
    client.skipped(Stale).fin(66637, 5001);
    talk.expect(Established, Established);
}

#[test]
fn where_one_syn_was_not_seen_the_window_may_be_scaled() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    server.window(100).syn_ack(5000, 1001);
    client.ack(1001, 5001);
    client.fin(1001 + 12800, 5001);
    talk.expect(FinWait1, Established);
}

/// RFC 7323, section 2.3: 14 is the largest shift, and a lawful one.
#[test]
fn the_window_may_be_shifted_by_fourteen() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.shift(14).syn(1000);
    let server = server.window(1);
    server.shift(14).syn_ack(5000, 1001);
    client.ack(1001, 5001);
    client.skipped(Stale).fin(1002 + 16384, 5001);
    client.fin(1001 + 16384, 5001);
    talk.expect(FinWait1, Established);
}

// ---- Both at once (RFC 9293, figure 13) ----

#[test]
fn fins_that_cross_close_both_ends_through_closing() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.fin(1001, 5001);
    server.fin(5001, 1001);
    talk.expect(Closing, Closing);
    talk.expect_phase(Phase::Closing);
    client.ack(1002, 5002);
    talk.expect(Closing, TimeWait);
    server.ack(5002, 1002);
    talk.expect(TimeWait, TimeWait);
    talk.expect_phase(Phase::TimeWait);
    talk.expect_close(Initiator::Both, How::Simultaneous);
    assert_eq!(talk.counters().closes[Endedness::Both.index()][How::Simultaneous.index()], 1);
    assert_eq!(talk.all_closes(), 1);
}

#[test]
fn fins_cross_as_well_when_one_of_them_lies_beyond_a_gap() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.fin(1101, 5001);
    server.fin(5001, 1001);
    talk.expect(Closing, FinWait1);
    talk.expect_close(Initiator::Both, How::Simultaneous);
    client.data(1001, 5002, 100);
    talk.expect(Closing, FinWait2);
    server.ack(5002, 1102);
    talk.expect(TimeWait, TimeWait);
}

// ---- TIME-WAIT ----

#[test]
fn time_wait_lasts_two_msl() {
    let talk = Talk::new();
    talk.open_and_close();
    talk.wait(60 * SECOND);
    assert_eq!(talk.settled_states(), (TimeWait, Closed));
    talk.wait(1);
    assert_eq!(talk.settled_states(), (Closed, Closed));
}

#[test]
fn a_repeated_fin_begins_time_wait_again() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.fin(1001, 5001);
    server.fin(5001, 1002);
    talk.expect(TimeWait, LastAck);
    talk.wait(10 * SECOND);
    server.fin(5001, 1002);
    talk.expect(TimeWait, LastAck);
    client.ack(1002, 5002);
    talk.expect(TimeWait, Closed);
    // That ACK was lost beyond the observer.
    talk.wait(50 * SECOND);
    server.fin(5001, 1002);
    talk.wait(60 * SECOND);
    assert_eq!(talk.settled_states(), (TimeWait, Closed));
    talk.wait(1);
    assert_eq!(talk.settled_states(), (Closed, Closed));
    talk.expect_close(Initiator::Originator, How::Fin);
    assert_eq!(talk.all_closes(), 1);
}

#[test]
fn an_acknowledgement_of_time_waits_own_endpoint_does_not_begin_it_again() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    talk.open_and_close();
    talk.wait(50 * SECOND);
    client.ack(1002, 5002);
    talk.wait(11 * SECOND);
    assert_eq!(talk.settled_states(), (Closed, Closed));
}

// ---- Silence broken by keepalive ----

#[test]
fn a_keepalive_probe_moves_nothing() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    let word = talk.word();
    talk.wait(7200 * SECOND);
    client.ack(1000, 5001);
    server.ack(5001, 1001);
    talk.wait(7200 * SECOND);
    client.data(1000, 5001, 1);
    server.ack(5001, 1001);
    assert_eq!(talk.word(), word);
    assert_eq!(client.half().next_seq.get(), SeqNum(1001));
}

/// A keepalive's number, or that of an ACK which was overtaken by data: RFC 9293, 3.10.7.4 has its receiver drop it.
#[test]
fn an_acknowledgement_of_a_fin_before_what_its_receiver_expects_is_dropped() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.fin(1001, 5001);
    server.data(5001, 1001, 10);
    client.ack(1002, 5011);
    server.ack(5001, 1002);
    talk.expect(FinWait1, CloseWait);
    server.ack(5011, 1002);
    talk.expect(FinWait2, CloseWait);
}

/// Everything has passed here, in an order that leaves nothing out; the receiver's acknowledgement is delayed.
/// Picked up with the SYN-ACK; the data before the FIN was lost on its way here.
#[test]
fn a_fin_that_is_the_first_seen_of_its_sender_may_lie_beyond_a_gap() {
    let talk = Talk::on_server();
    let (client, server) = talk.peers();
    server.syn_ack(5000, 1001);
    client.fin(1101, 5001);
    talk.expect(FinWait1, Established);
    client.data(1001, 5001, 100);
    server.ack(5001, 1102);
    talk.expect(FinWait2, CloseWait);
}

#[test]
fn a_fin_behind_a_gap_that_was_filled_is_received_before_anything_is_acknowledged() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    server.ack(5001, 1001);
    client.data(1101, 5001, 100);
    client.data(1001, 5001, 100);
    client.fin(1201, 5001);
    talk.expect(FinWait1, CloseWait);
}

#[test]
fn a_fin_behind_a_gap_that_was_filled_in_part_is_not_received() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    server.ack(5001, 1001);
    client.data(1101, 5001, 100);
    client.data(1001, 5001, 99);
    client.data(1051, 5001, 50);
    client.fin(1201, 5001);
    talk.expect(FinWait1, Established);
}

/// The FIN's number may lie a number beyond the window, and the RST stands right behind it.
#[test]
fn a_rst_behind_a_fin_at_the_windows_edge_is_in_place() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.window(100).syn_ack(5000, 1001);
    client.ack(1001, 5001);
    client.fin_data(1001, 5001, 100);
    talk.expect(FinWait1, CloseWait);
    client.rst(1102);
    talk.expect(Closed, Closed);
}
