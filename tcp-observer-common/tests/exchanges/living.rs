//! Living: what data and acknowledgements say beside their numbers. Keepalives, heartbeats, closed windows,
//! repetitions, gaps, and flags that nobody sends. None of it moves a state.

use tcp_observer_common::{
    conn::{How, Initiator, Note, State::*},
    counters::Skip::*,
    segment::Flags,
    seq::SeqNum,
};

use crate::support::{MILLISECOND, SECOND, Talk};

const HOUR: u64 = 3600 * SECOND;

// ---- Keepalives (RFC 9293, section 3.8.4) ----

#[test]
fn a_keepalive_probe_has_the_number_before_the_next_and_nothing_or_one_byte() {
    for bytes in [0, 1] {
        let talk = Talk::new();
        let (client, server) = talk.peers();
        talk.open();
        talk.wait(2 * HOUR);
        client.send(Flags::ACK, 1000, 5001, bytes);
        talk.wait(MILLISECOND);
        server.ack(5001, 1001);
        talk.expect(Established, Established);
        talk.expect_notes([Note::Keepalive]);
        assert_eq!((client.half().keepalives.get(), server.half().keepalives.get()), (1, 0));
        assert_eq!(client.unanswered_keepalives(), 0);
        assert_eq!(client.half().next_seq.get(), SeqNum(1001));
    }
}

#[test]
fn unanswered_probes_are_counted_until_the_peer_says_something() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    let unanswered = || client.unanswered_keepalives();
    talk.wait(2 * HOUR);
    for probe in 1..=3 {
        client.ack(1000, 5001);
        assert_eq!(unanswered(), probe);
        talk.wait(75 * SECOND);
    }
    server.data(5001, 1001, 10);
    assert_eq!(unanswered(), 0);
    // Its own acknowledgement does not bring the old ones back, and neither does the next probe.
    talk.wait(40 * MILLISECOND);
    client.ack(1001, 5011);
    assert_eq!(unanswered(), 0);
    talk.wait(2 * HOUR);
    client.ack(1000, 5011);
    assert_eq!(unanswered(), 1);
    assert_eq!(client.half().keepalives.get(), 4);
}

#[test]
fn after_an_answer_the_shortest_path_keeps_no_probe_in_mind() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    let unanswered = || client.unanswered_keepalives();
    client.data(1001, 5001, 10);
    server.ack(5001, 1011);
    for _ in 0..3 {
        talk.wait(2 * HOUR);
        client.ack(1010, 5001);
        talk.wait(MILLISECOND);
        server.ack(5001, 1011);
        talk.wait(500 * MILLISECOND);
        // Two steady segments in a row, with nothing of the peer between them.
        client.ack(1011, 5001);
        talk.wait(500 * MILLISECOND);
        client.ack(1011, 5001);
        assert_eq!(unanswered(), 0);
    }
    assert_eq!(client.half().keepalives.get(), 3);
}

#[test]
fn probes_of_both_ends_answer_each_other_and_what_their_sender_says_answers_none() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    talk.wait(2 * HOUR);
    client.ack(1000, 5001);
    // The server's own probe shows that it is there; and so does the client's next one.
    server.ack(5000, 1001);
    assert_eq!((client.unanswered_keepalives(), server.unanswered_keepalives()), (0, 1));
    client.ack(1000, 5001);
    assert_eq!((client.unanswered_keepalives(), server.unanswered_keepalives()), (1, 0));
    client.data(1001, 5001, 10);
    assert_eq!(client.unanswered_keepalives(), 1);
    // Numbers that are none of this connection's answer nothing.
    server.skipped(Stale).fin(500_000_000, 1011);
    assert_eq!(client.unanswered_keepalives(), 1);
    server.ack(5001, 1011);
    assert_eq!((client.unanswered_keepalives(), server.unanswered_keepalives()), (0, 0));
}

/// Linux's defaults: nine probes 75 s apart, then a RST.
#[test]
fn a_dead_peer_is_probed_nine_times_and_reset() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    talk.open();
    talk.wait(2 * HOUR);
    for _ in 0..9 {
        client.ack(1000, 5001);
        talk.wait(75 * SECOND);
    }
    client.rst_ack(1001, 5001);
    talk.expect(Closed, Closed);
    talk.expect_close(Initiator::Originator, How::Rst);
    talk.expect_notes([Note::Keepalive, Note::AbortiveClose]);
    assert_eq!(client.unanswered_keepalives(), 9);
}

#[test]
fn a_repeated_last_byte_is_no_keepalive_while_it_is_not_acknowledged() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    talk.open();
    client.data(1001, 5001, 1);
    talk.wait(300 * MILLISECOND);
    client.data(1001, 5001, 1);
    talk.expect_notes([Note::Retransmitted]);
}

// ---- Heartbeats ----

/// The client sends 20 bytes after each of these waits.
fn beats(waits_ns: &[u64]) -> Talk {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    let mut seq = 1001;
    for &wait_ns in waits_ns {
        talk.wait(wait_ns);
        client.data(seq, 5001, 20);
        seq += 20;
        server.ack(5001, seq);
    }
    talk
}

#[test]
fn small_data_at_a_steady_period_is_a_heartbeat() {
    let talk = beats(&[30 * SECOND; 4]);
    let (client, server) = talk.peers();
    assert_eq!(client.half().heartbeat_ns(), Some(30 * SECOND));
    assert_eq!(server.half().heartbeat_ns(), None);
    talk.expect_notes([Note::Heartbeat]);
}

#[test]
fn a_heartbeat_may_tremble_by_a_tenth() {
    let talk = beats(&[10 * SECOND, 11 * SECOND, 10 * SECOND, 9500 * MILLISECOND, 10 * SECOND]);
    assert_eq!(talk.peers().0.half().heartbeat_ns(), Some(10 * SECOND));
}

/// The longest period that can be kept is 655.35 s.
#[test]
fn a_heartbeat_beyond_eleven_minutes_has_the_longest_period() {
    let talk = beats(&[700 * SECOND; 4]);
    assert_eq!(talk.peers().0.half().heartbeat_ns(), Some(655_350 * MILLISECOND));
}

#[test]
fn irregular_data_is_no_heartbeat() {
    let talk = beats(&[5, 9, 3, 20, 4, 31, 2].map(|seconds| seconds * SECOND));
    assert_eq!(talk.peers().0.half().heartbeat_ns(), None);
    talk.expect_notes([]);
}

#[test]
fn a_stream_without_pauses_is_no_heartbeat() {
    let talk = beats(&[20 * MILLISECOND; 50]);
    assert_eq!(talk.peers().0.half().heartbeat_ns(), None);
    talk.expect_notes([]);
}

#[test]
fn large_data_at_a_steady_period_is_work() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    talk.open();
    for round in 0..6 {
        talk.wait(10 * SECOND);
        client.data(1001 + 1400 * round, 5001, 1400);
    }
    assert_eq!(client.half().heartbeat_ns(), None);
}

// ---- Windows (RFC 9293, section 3.8.6) ----

#[test]
fn a_closed_window_is_noted_once_each_time_that_it_closes() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.data(1001, 5001, 100);
    server.window(0).ack(5001, 1101);
    server.window(0).ack(5001, 1101);
    assert!(server.half().window_is_zero());
    server.ack(5001, 1101);
    assert!(!server.half().window_is_zero());
    client.data(1101, 5001, 100);
    server.window(0).ack(5001, 1201);
    talk.expect_notes([Note::ZeroWindow]);
    assert_eq!(talk.noted(Note::ZeroWindow), 2);
    assert_eq!(server.half().zero_windows.get(), 3);
    talk.expect(Established, Established);
}

/// Linux's `tcp_xmit_probe_skb`: empty, one number before what is acknowledged.
#[test]
fn linux_probes_a_closed_window_with_an_empty_segment() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.data(1001, 5001, 100);
    server.window(0).ack(5001, 1101);
    for _ in 0..3 {
        talk.wait(SECOND);
        client.ack(1100, 5001);
        server.window(0).ack(5001, 1101);
    }
    assert_eq!((client.half().window_probes.get(), client.half().keepalives.get()), (3, 0));
    talk.expect_notes([Note::ZeroWindow, Note::WindowProbe]);
    // Data that was under way when the window closed is not acknowledged, and the probe stands before it.
    server.ack(5001, 1101);
    client.data(1101, 5001, 50);
    server.window(0).ack(5001, 1101);
    client.ack(1100, 5001);
    assert_eq!(client.half().window_probes.get(), 4);
}

/// RFC 9293, section 3.8.6.1: "at least one octet of new data (if available)".
#[test]
fn a_window_probe_may_be_one_byte_of_new_data() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.data(1001, 5001, 100);
    server.window(0).ack(5001, 1101);
    for _ in 0..3 {
        talk.wait(SECOND);
        client.data(1101, 5001, 1);
        server.window(0).ack(5001, 1101);
    }
    assert_eq!(client.half().window_probes.get(), 3);
    talk.expect_notes([Note::ZeroWindow, Note::WindowProbe]);
}

/// Sent before the FIN, it has the number of the FIN, as a probe of a closed end has.
#[test]
fn an_ack_that_its_ends_fin_has_overtaken_looks_like_a_keepalive() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.fin(1001, 5001);
    server.ack(5001, 1002);
    assert_eq!(talk.noted(Note::Keepalive), 0);
    client.ack(1001, 5001);
    assert_eq!(talk.noted(Note::Keepalive), 1);
    talk.expect(FinWait2, CloseWait);
}

// ---- Repetitions and gaps ----

#[test]
fn data_again_is_a_retransmission() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.data(1001, 5001, 100);
    talk.wait(300 * MILLISECOND);
    client.data(1001, 5001, 100);
    server.ack(5001, 1101);
    talk.expect_notes([Note::Retransmitted]);
    assert_eq!(client.half().retransmits.get(), 1);
    assert_eq!(client.half().next_seq.get(), SeqNum(1101));
}

#[test]
fn data_beyond_a_gap_and_into_it_is_out_of_order() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.data(1001, 5001, 100);
    client.data(1201, 5001, 100);
    server.ack(5001, 1101);
    client.data(1101, 5001, 100);
    server.ack(5001, 1301);
    talk.expect_notes([Note::OutOfOrder]);
    assert_eq!(talk.noted(Note::OutOfOrder), 2);
    assert_eq!(client.half().next_seq.get(), SeqNum(1301));
    // Once all is acknowledged, nothing is missing.
    client.data(1201, 5001, 100);
    assert_eq!((talk.noted(Note::OutOfOrder), talk.noted(Note::Retransmitted)), (2, 1));
}

#[test]
fn data_beyond_a_gap_that_comes_again_is_a_retransmission() {
    let talk = Talk::new();
    talk.open();
    let (client, _) = talk.peers();
    client.data(1101, 5001, 100);
    talk.expect_notes([Note::OutOfOrder]);
    client.data(1101, 5001, 100);
    talk.expect_notes([Note::Retransmitted, Note::OutOfOrder]);
}

#[test]
fn a_fin_right_behind_its_data_leaves_no_gap_that_the_data_could_fill() {
    let talk = Talk::new();
    talk.open();
    let (client, _) = talk.peers();
    client.data(1001, 5001, 100);
    client.fin(1101, 5001);
    client.data(1001, 5001, 100);
    talk.expect_notes([Note::Retransmitted]);
}

#[test]
fn an_older_acknowledgement_takes_none_back() {
    let talk = Talk::new();
    talk.open();
    let (client, server) = talk.peers();
    client.data(1001, 5001, 100);
    server.ack(5001, 1101);
    server.data(5001, 1001, 10);
    assert_eq!(server.half().acked.get(), SeqNum(1101));
}

#[test]
fn a_gap_in_one_direction_is_known_before_the_other_is_seen() {
    for isn in [1001, 3_000_000_000, u32::MAX - 50] {
        let talk = Talk::new();
        let (client, _) = talk.peers();
        let at = |offset: u32| isn.wrapping_add(offset);
        client.data(at(0), 5001, 10);
        client.data(at(20), 5001, 10);
        client.data(at(10), 5001, 10);
        assert_eq!((talk.noted(Note::OutOfOrder), talk.noted(Note::Retransmitted)), (2, 0), "{isn}");
    }
}

#[test]
fn numbers_may_wrap_in_the_middle_of_everything() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(u32::MAX - 1);
    server.syn_ack(u32::MAX, u32::MAX);
    client.ack(u32::MAX, 0);
    client.data(u32::MAX, 0, 10);
    client.data(u32::MAX, 0, 10);
    client.data(19, 0, 10);
    server.ack(0, 9);
    client.data(9, 0, 10);
    server.data(0, 29, 5);
    client.fin(29, 5);
    server.fin(5, 30);
    client.ack(30, 6);
    talk.expect(TimeWait, Closed);
    talk.expect_notes([Note::Retransmitted, Note::OutOfOrder, Note::ThreeSegmentClose]);
    assert_eq!(client.half().next_seq.get(), SeqNum(30));
}

#[test]
fn hours_of_silence_change_nothing() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    let word = talk.word();
    for _ in 0..3 {
        talk.sweep_after(11 * HOUR);
        assert_eq!(talk.word(), word);
    }
    client.data(1001, 5001, 10);
    server.ack(5001, 1011);
    assert_eq!(talk.word(), word);
    talk.expect_notes([]);
}

// ---- One end has lost the connection (RFC 9293, section 3.5.1) ----

/// RFC 9293, figure 9: A crashes and opens again; B's acknowledgement is reset, and A's SYN comes again.
#[test]
fn a_restarted_peer_finds_the_connection_half_open_and_resets_it() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    server.data(5001, 1001, 100);
    client.ack(1001, 5101);
    talk.wait(60 * SECOND);
    client.skipped(Stale).syn(400);
    talk.expect(Established, Established);
    server.ack(5101, 1001);
    client.rst(1001);
    talk.expect(Closed, Closed);
    talk.expect_notes([Note::SynInConnection, Note::PeerRestarted, Note::AbortiveClose]);
    talk.wait(SECOND);
    client.syn(400);
    talk.expect(SynSent, Listen);
    server.syn_ack(9000, 401);
    client.ack(401, 9001);
    talk.expect(Established, Established);
    talk.expect_notes([Note::TupleReused]);
}

/// RFC 9293, figure 10: the active side sends data to an end that knows of nothing.
#[test]
fn data_to_a_peer_that_has_forgotten_the_connection_is_reset() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.data(1001, 5001, 100);
    server.rst(5001);
    talk.expect(Closed, Closed);
    talk.expect_close(Initiator::Responder, How::Rst);
    talk.expect_notes([Note::AbortiveClose]);
}

// ---- Flags that no TCP sends ----

/// NULL, FIN alone, XMAS, URG and PSH alone; SYN with FIN, with and without ACK.
const NONSENSE: [u8; 7] = [
    0,
    Flags::FIN,
    Flags::FIN | Flags::PSH | Flags::URG,
    Flags::URG,
    Flags::PSH,
    Flags::SYN | Flags::FIN,
    Flags::SYN | Flags::FIN | Flags::ACK,
];

#[test]
fn nonsense_to_a_known_flow_is_noted_and_moves_nothing() {
    for flags in NONSENSE {
        let talk = Talk::new();
        let (client, server) = talk.peers();
        talk.open();
        let word = talk.word();
        client.skipped(BadFlags).send(flags, 1001, 5001, 0);
        server.skipped(BadFlags).send(flags, 5001, 1001, 0);
        assert_eq!(talk.word(), word, "{flags:#04x}");
        talk.expect_notes([Note::NonsenseFlags]);
        // They were there to be seen.
        assert_eq!((client.half().packets.get(), server.half().packets.get()), (3, 2));
        assert_eq!((client.half().next_seq.get(), server.half().next_seq.get()), (SeqNum(1001), SeqNum(5001)));
    }
}

#[test]
fn nonsense_during_the_handshake_moves_nothing() {
    for flags in NONSENSE {
        let talk = Talk::new();
        let (client, server) = talk.peers();
        client.syn(1000);
        server.skipped(BadFlags).send(flags, 5000, 1001, 0);
        talk.expect(SynSent, Listen);
        server.syn_ack(5000, 1001);
        client.skipped(BadFlags).send(flags, 1001, 5001, 0);
        talk.expect(SynSent, SynReceived);
        client.ack(1001, 5001);
        talk.expect(Established, Established);
    }
}

#[test]
fn nonsense_begins_no_flow_but_in_a_capture() {
    for flags in NONSENSE {
        let talk = Talk::new();
        talk.peers().0.skipped(BadFlags).send(flags, 1001, 5001, 0);
        assert_eq!(talk.table_entries(), (0, 0), "{flags:#04x}");
        let talk = Talk::keeping_all();
        talk.peers().0.send(flags, 1001, 5001, 0);
        assert!(talk.flow().story.has(Note::NonsenseFlags), "{flags:#04x}");
    }
}

#[test]
fn a_rst_counts_whatever_else_is_set_and_is_noted() {
    for flags in [Flags::FIN | Flags::RST, Flags::SYN | Flags::RST, Flags::FIN | Flags::RST | Flags::ACK] {
        let talk = Talk::new();
        let (client, _) = talk.peers();
        talk.open();
        client.send(flags, 1001, 5001, 0);
        talk.expect(Closed, Closed);
        talk.expect_close(Initiator::Originator, How::Rst);
        talk.expect_notes([Note::NonsenseFlags, Note::AbortiveClose]);
        let talk = Talk::new();
        talk.peers().0.skipped(UnknownFlow).send(flags, 1001, 5001, 0);
        assert_eq!(talk.table_entries(), (0, 0));
    }
}

// ---- Segments that nobody takes ----

#[test]
fn what_a_stale_segment_says_of_its_window_is_not_believed() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.window(100).syn_ack(5000, 1001);
    client.ack(1001, 5001);
    let packets = server.half().packets.get();
    // Forged: a SYN-ACK of another number with the widest window.
    server.window(0xffff).skipped(Stale).syn_ack(9000, 1001);
    assert_eq!(server.half().packets.get(), packets + 1);
    assert_eq!(server.half().max_window.get(), 100);
    client.skipped(Stale).fin(5000, 5001);
}
