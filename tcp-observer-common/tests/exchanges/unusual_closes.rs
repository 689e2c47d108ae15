//! Closing: what each way to close is called, and the segments that come too late, too early or from somebody else
//! (<https://www.rfc-editor.org/rfc/rfc9293#section-3.6>, <https://www.rfc-editor.org/rfc/rfc5961>).

use tcp_observer_common::{
    conn::{How, Initiator, Note, Outcome, Phase, State::*},
    counters::Skip::*,
    histogram::half_close,
    segment::Flags,
};

use crate::support::{MILLISECOND, SECOND, SERVER_ADDR, Talk};

// ---- Names ----

#[test]
fn four_segments_need_no_note() {
    let talk = Talk::new();
    talk.open_and_close();
    talk.expect_notes([]);
    talk.expect_history("ShAFaf");
}

#[test]
fn a_second_fin_with_the_acknowledgement_of_the_first_is_a_close_in_three_segments() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.fin(1001, 5001);
    server.fin(5001, 1002);
    client.ack(1002, 5002);
    talk.expect(TimeWait, Closed);
    talk.expect_notes([Note::ThreeSegmentClose]);
    talk.expect_history("ShAFf");
}

#[test]
fn an_impossible_fin_in_between_is_no_close_in_three_segments() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.fin(1001, 5001);
    server.skipped(BadFlags).send(Flags::FIN, 5001, 0, 0);
    talk.expect_notes([Note::NonsenseFlags]);
}

#[test]
fn a_fin_with_data_is_noted_and_is_no_retransmission() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    talk.open();
    client.data(1001, 5001, 10);
    client.fin_data(1011, 5001, 100);
    talk.expect(FinWait1, CloseWait);
    talk.expect_notes([Note::FinWithData]);
    talk.expect_history("ShADF");
    assert_eq!(client.half().retransmits.get(), 0);
}

#[test]
fn fins_that_cross_are_a_simultaneous_close() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.fin(1001, 5001);
    server.fin(5001, 1001);
    talk.expect(Closing, Closing);
    server.ack(5002, 1002);
    client.ack(1002, 5002);
    talk.expect(TimeWait, TimeWait);
    talk.expect_notes([Note::SimultaneousClose]);
    talk.expect_history("ShAFfa");
}

// ---- Gaps before the FIN ----

#[test]
fn a_fin_that_overtakes_its_data_is_out_of_order_and_so_is_the_data() {
    for isn in [1000, 3_000_000_000, u32::MAX] {
        let talk = Talk::new();
        let (client, server) = talk.peers();
        let at = |offset: u32| u32::wrapping_add(isn, offset);
        client.syn(isn);
        server.syn_ack(5000, at(1));
        client.ack(at(1), 5001);
        client.fin(at(101), 5001);
        talk.expect(FinWait1, Established);
        client.data(at(1), 5001, 100);
        talk.expect_notes([Note::OutOfOrder, Note::FinOutOfOrder]);
        server.ack(5001, at(102));
        talk.expect(FinWait2, CloseWait);
    }
}

#[test]
fn a_fin_behind_data_that_lies_beyond_a_gap_waits_for_its_acknowledgement() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.data(1001, 5001, 100);
    client.data(1201, 5001, 100);
    client.fin(1301, 5001);
    talk.expect(FinWait1, Established);
    talk.expect_notes([Note::OutOfOrder, Note::FinOutOfOrder]);
    server.ack(5001, 1101);
    client.data(1101, 5001, 100);
    assert_eq!((talk.noted(Note::OutOfOrder), talk.noted(Note::Retransmitted)), (2, 0));
    server.ack(5001, 1302);
    talk.expect(FinWait2, CloseWait);
}

#[test]
fn the_only_end_that_is_seen_closes_in_order_whatever_its_numbers() {
    for first in [1001_u32, 3_000_000_000, u32::MAX - 5] {
        let talk = Talk::new();
        let (client, _) = talk.peers();
        client.data(first, 5001, 10);
        client.fin(first.wrapping_add(10), 5001);
        talk.expect(FinWait1, CloseWait);
    }
}

// ---- Half-close ----

#[test]
fn data_in_a_half_close_is_noted_and_its_duration_kept() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.fin(1001, 5001);
    assert_eq!(talk.flow().times.half_closed_for_ns(talk.word(), talk.now_ns()), None);
    talk.wait(10 * MILLISECOND);
    server.ack(5001, 1002);
    talk.expect_phase(Phase::HalfClosed);
    talk.wait(3 * SECOND);
    server.data(5001, 1002, 500);
    client.ack(1002, 5501);
    assert_eq!(talk.flow().times.half_closed_for_ns(talk.word(), talk.now_ns()), Some(3 * SECOND));
    talk.wait(2 * SECOND);
    server.fin(5501, 1002);
    talk.wait(7 * SECOND);
    assert_eq!(talk.flow().times.half_closed_for_ns(talk.word(), talk.now_ns()), Some(5 * SECOND));
    talk.expect_notes([Note::HalfCloseData]);
    let histogram = talk.histogram(half_close(talk.word().locality()));
    assert_eq!((histogram.count(), histogram.sum_ns), (1, 5 * SECOND));
}

#[test]
fn data_of_the_end_that_has_closed_is_no_half_closes() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.data(1001, 5001, 10);
    client.fin(1011, 5001);
    server.ack(5001, 1012);
    talk.wait(SECOND);
    client.data(1001, 5001, 10);
    talk.expect_notes([Note::Retransmitted]);
}

#[test]
fn an_orphan_in_fin_wait_2_is_given_up_and_its_half_close_has_lasted_as_long() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.fin(1001, 5001);
    server.ack(5001, 1002);
    talk.sweep_after(61 * SECOND);
    talk.expect(Closed, Closed);
    talk.expect_close(Initiator::Originator, How::Timeout);
    talk.wait(SECOND);
    assert_eq!(talk.flow().times.half_closed_for_ns(talk.word(), talk.now_ns()), Some(61 * SECOND));
}

// ---- FINs again ----

#[test]
fn a_fin_again_is_counted() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    talk.open();
    client.fin(1001, 5001);
    for wait in [1, 2, 4] {
        talk.wait(wait * SECOND);
        client.fin(1001, 5001);
    }
    talk.expect(FinWait1, CloseWait);
    assert_eq!(client.half().fin_retransmits.get(), 3);
    talk.expect_notes([Note::FinRepeated]);
    talk.expect_history("ShAF");
}

#[test]
fn a_fin_again_in_time_wait_says_that_the_last_ack_was_lost_and_the_wait_begins_again() {
    let talk = Talk::new();
    let (_, server) = talk.peers();
    talk.open_and_close();
    talk.wait(50 * SECOND);
    server.fin(5001, 1002);
    talk.wait(60 * SECOND);
    assert_eq!(talk.settled_states(), (TimeWait, Closed));
    talk.wait(1);
    assert_eq!(talk.settled_states(), (Closed, Closed));
    talk.expect_notes([Note::LastAckLost]);
    assert_eq!(server.half().fin_retransmits.get(), 1);
}

#[test]
fn a_second_end_is_no_end() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    talk.open();
    client.fin(1001, 5001);
    client.skipped(Stale).fin(1101, 5001);
    talk.expect(FinWait1, CloseWait);
    talk.expect_notes([Note::SecondFin]);
}

#[test]
fn a_fin_out_of_the_window_is_noted_and_the_true_one_has_a_letter_of_its_own() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    talk.open();
    client.skipped(Stale).fin(1001 + (1 << 30), 5001);
    talk.expect(Established, Established);
    client.fin(1001, 5001);
    talk.expect(FinWait1, CloseWait);
    talk.expect_notes([Note::FinOutOfWindow]);
    talk.expect_history("ShAFF");
}

// ---- RST ----

#[test]
fn a_rst_instead_of_a_fin_is_an_abortive_close() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    talk.open();
    client.rst_ack(1001, 5001);
    talk.expect_notes([Note::AbortiveClose]);
    talk.expect_history("ShAR");
}

#[test]
fn a_rst_after_a_fin_is_noted() {
    // The responder has closed its socket with data unread; or the originator after its own FIN.
    for from_client in [true, false] {
        let talk = Talk::new();
        let (client, server) = talk.peers();
        talk.open();
        client.fin(1001, 5001);
        if from_client {
            client.rst(1002);
        } else {
            server.rst(5001);
        }
        talk.expect(Closed, Closed);
        talk.expect_notes([Note::ResetAfterFin]);
    }
}

#[test]
fn a_rst_in_time_wait_assassinates_it() {
    let talk = Talk::new();
    let (_, server) = talk.peers();
    talk.open_and_close();
    server.rst(5002);
    talk.expect(Closed, Closed);
    talk.expect_close(Initiator::Originator, How::Fin);
    talk.expect_notes([Note::TimeWaitAssassinated]);
}

#[test]
fn a_rst_of_a_connection_that_is_over_ends_nothing_more() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.rst(1001);
    server.data(5001, 1001, 10);
    client.rst(1001);
    talk.expect_close(Initiator::Originator, How::Rst);
    talk.expect_notes([Note::AbortiveClose, Note::ResetAfterClose]);
    assert_eq!((talk.all_resets(), talk.all_closes()), (1, 1));
}

/// RFC 5961, section 3.2: outside of the window it is dropped, inside but not at its beginning it is challenged.
#[test]
fn a_rst_out_of_place_is_out_of_the_window_or_challenged() {
    for (seq, note) in [
        (1102, Note::RstChallenged),
        (1101 + 65_535, Note::RstChallenged),
        (1101 + 65_536, Note::RstOutOfWindow),
        (1100, Note::RstOutOfWindow),
        (1101_u32.wrapping_sub(1 << 30), Note::RstOutOfWindow),
    ] {
        let talk = Talk::new();
        let (client, server) = talk.peers();
        talk.open();
        client.data(1001, 5001, 100);
        server.ack(5001, 1101);
        client.skipped(Stale).rst(seq);
        talk.expect(Established, Established);
        talk.expect_notes([note]);
        // The answer to it, should it be the challenge.
        server.ack(5001, 1101);
        talk.expect(Established, Established);
    }
}

#[test]
fn a_rst_with_the_challenges_number_ends_what_it_was_challenged_for() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.skipped(Stale).rst(1500);
    server.ack(5001, 1001);
    client.rst(1001);
    talk.expect(Closed, Closed);
    talk.expect_notes([Note::AbortiveClose, Note::RstChallenged]);
}

#[test]
fn a_fin_with_a_rst_is_a_rst() {
    let talk = Talk::new();
    let (_, server) = talk.peers();
    talk.open();
    server.send(Flags::FIN | Flags::RST | Flags::ACK, 5001, 1001, 0);
    talk.expect(Closed, Closed);
    talk.expect_close(Initiator::Responder, How::Rst);
    talk.expect_history("ShAi");
}

#[test]
fn a_syn_with_a_fin_closes_nothing() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    talk.open();
    client.skipped(BadFlags).send(Flags::SYN | Flags::FIN, 1001, 0, 0);
    talk.expect(Established, Established);
    talk.expect_history("ShAQ");
}

// ---- After TIME-WAIT has begun ----

#[test]
fn what_the_peer_of_time_wait_still_says_begins_the_wait_again() {
    let mut talk = Talk::new();
    talk.memory.local4 = vec![SERVER_ADDR];
    let (_, server) = talk.peers();
    talk.open_and_close();
    talk.wait(50 * SECOND);
    server.ack(5002, 1002);
    talk.wait(60 * SECOND);
    assert_eq!(talk.settled_states(), (TimeWait, Closed));
    talk.wait(1);
    assert_eq!(talk.settled_states(), (Closed, Closed));
}

/// RFC 9293, 3.10.7.4, fifth check: such a segment is dropped, its FIN as well.
#[test]
fn a_fin_that_acknowledges_what_a_local_end_has_not_sent_is_stale() {
    let talk = Talk::on_server();
    talk.open();
    let (client, server) = talk.peers();
    assert_eq!(client.try_send(Flags::FIN | Flags::ACK, 1001, 15_000, 0), Err(Stale));
    talk.expect(Established, Established);
    talk.expect_notes([Note::WrongAck]);
    client.data(1001, 5001, 1000);
    server.ack(5001, 2001);
    talk.expect(Established, Established);
}

/// What an observer of another host's packets has missed may well be acknowledged.
#[test]
fn a_fin_that_acknowledges_what_was_not_seen_of_another_host_counts() {
    let talk = Talk::new();
    talk.open();
    let (client, _) = talk.peers();
    client.fin(1001, 15_000);
    talk.expect(FinWait1, CloseWait);
}

/// What `tcpdump 'tcp[tcpflags] & (tcp-syn|tcp-fin|tcp-rst) != 0'` keeps of a connection.
#[test]
fn a_capture_of_syns_and_fins_alone_has_its_handshake_and_its_close() {
    let talk = Talk::keeping_all();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.syn_ack(5000, 1001);
    server.fin(905_001, 1501);
    client.fin(1501, 905_002);
    talk.expect_outcome(Outcome::Completed);
    talk.expect_close(Initiator::Responder, How::Fin);
    talk.expect(LastAck, TimeWait);
    talk.expect_history("ShfF");
}

#[test]
fn in_such_a_capture_the_originators_fin_completes_the_handshake() {
    let talk = Talk::keeping_all();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.syn_ack(5000, 1001);
    client.fin(1501, 905_001);
    talk.expect_outcome(Outcome::Completed);
    server.fin(905_001, 1502);
    talk.expect_close(Initiator::Originator, How::Fin);
    talk.expect(TimeWait, LastAck);
}
