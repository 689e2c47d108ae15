//! Opening: SYNs and SYN-ACKs sent again. The first and the last of them are kept, and timestamps tell which one was
//! answered (<https://www.rfc-editor.org/rfc/rfc7323#section-3.2>); the same frame seen twice is none sent again.

use tcp_observer_common::{
    conn::{Mark, Note, Outcome, State::*},
    counters::Retransmit,
    histogram::{HandshakePart, by_role},
    seq::SeqNum,
};

use crate::support::{MICROSECOND, MILLISECOND, Peer, SECOND, Talk};

// ---- Which SYN was answered ----

/// SYNs at 0 s and at 1 s, SYN-ACK 30 ms later, ACK 40 ms later.
fn second_syn(echo: u32) -> Talk {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.timestamps(100, 0).syn(1000);
    talk.wait(SECOND);
    client.timestamps(1100, 0).syn(1000);
    talk.wait(30 * MILLISECOND);
    server.timestamps(9000, echo).syn_ack(5000, 1001);
    talk.wait(40 * MILLISECOND);
    client.timestamps(1170, 9000).ack(1001, 5001);
    talk.expect(Established, Established);
    talk
}

#[test]
fn an_answer_that_echoes_the_first_syn_is_timed_from_the_first() {
    let talk = second_syn(100);
    let times = talk.flow().times.clone();
    assert_eq!(times.syn_to_synack_ns(), Some(1030 * MILLISECOND));
    assert_eq!(times.synack_to_ack_ns(), Some(40 * MILLISECOND));
    assert_eq!(times.total_ns(), Some(1070 * MILLISECOND));
    talk.expect_notes([Note::SynRepeated, Note::FirstSynAnswered]);
    talk.expect_history("ShA");
}

#[test]
fn an_answer_that_echoes_the_last_syn_is_timed_from_the_last() {
    let talk = second_syn(1100);
    let times = talk.flow().times.clone();
    assert_eq!(times.syn_to_synack_ns(), Some(30 * MILLISECOND));
    assert_eq!(times.total_ns(), Some(1070 * MILLISECOND));
    talk.expect_notes([Note::SynRepeated]);
}

#[test]
fn without_timestamps_the_last_syn_is_taken_for_the_one_that_was_answered() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    for gap in [0, 1, 2, 4] {
        talk.wait(gap * SECOND);
        client.syn(1000);
    }
    talk.wait(30 * MILLISECOND);
    server.syn_ack(5000, 1001);
    client.ack(1001, 5001);
    let times = talk.flow().times.clone();
    assert_eq!(times.syn_to_synack_ns(), Some(30 * MILLISECOND));
    assert_eq!(times.total_ns(), Some(7030 * MILLISECOND));
    assert_eq!(client.half().syn_retransmits.get(), 3);
    talk.expect_notes([Note::SynRepeated]);
    assert_eq!(talk.noted(Note::SynRepeated), 3);
}

#[test]
fn an_answer_to_a_syn_in_the_middle_is_timed_from_the_last_since_only_the_first_and_the_last_are_kept() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    for value in [100, 1100, 3100] {
        client.timestamps(value, 0).syn(1000);
        talk.wait(SECOND);
    }
    server.timestamps(9000, 1100).syn_ack(5000, 1001);
    assert_eq!(talk.flow().times.syn_to_synack_ns(), Some(SECOND));
    talk.expect_notes([Note::SynRepeated]);
}

// ---- Which SYN-ACK was acknowledged ----

/// SYN-ACKs at 20 ms and a second later, ACK 10 ms after that.
fn second_synack(echo: u32) -> Talk {
    let talk = Talk::on_server();
    let (client, server) = talk.peers();
    client.timestamps(100, 0).syn(1000);
    talk.wait(20 * MILLISECOND);
    server.timestamps(9000, 100).syn_ack(5000, 1001);
    talk.wait(SECOND);
    server.timestamps(10_000, 100).syn_ack(5000, 1001);
    talk.wait(10 * MILLISECOND);
    client.timestamps(1130, echo).ack(1001, 5001);
    talk.expect(Established, Established);
    assert_eq!(server.half().syn_retransmits.get(), 1);
    talk
}

#[test]
fn an_ack_that_echoes_the_last_syn_ack_is_timed_from_the_last() {
    let talk = second_synack(10_000);
    let times = talk.flow().times.clone();
    assert_eq!(times.synack_to_ack_ns(), Some(10 * MILLISECOND));
    assert_eq!(times.total_ns(), Some(1030 * MILLISECOND));
    talk.expect_notes([Note::SynAckRepeated, Note::LastSynAckAcked]);
}

#[test]
fn an_ack_that_echoes_the_first_syn_ack_is_timed_from_the_first() {
    let talk = second_synack(9000);
    let times = talk.flow().times.clone();
    assert_eq!(times.syn_to_synack_ns(), Some(20 * MILLISECOND));
    assert_eq!(times.synack_to_ack_ns(), Some(1010 * MILLISECOND));
    talk.expect_notes([Note::SynAckRepeated]);
}

// ---- SYN-ACKs after their acknowledgement ----

#[test]
fn a_syn_ack_after_its_ack_says_that_the_ack_was_lost_or_dropped() {
    for (sends_data, note) in [(false, Note::SynAckAfterAck), (true, Note::SynAckAfterData)] {
        let talk = Talk::on_server();
        let (client, server) = talk.peers();
        talk.open();
        if sends_data {
            client.data(1001, 5001, 100);
        }
        talk.wait(SECOND);
        server.syn_ack(5000, 1001);
        talk.expect(Established, Established);
        talk.expect_notes([note]);
        assert_eq!(server.half().syn_retransmits.get(), 1);
        // How long the handshake took is not changed by what came after.
        assert!(!talk.word().has(Mark::SynAckRepeated));
    }
}

#[test]
fn a_syn_ack_that_comes_late_takes_no_acknowledgement_back() {
    let talk = Talk::on_server();
    let (client, server) = talk.peers();
    talk.open();
    client.data(1001, 5001, 100);
    server.ack(5001, 1101);
    talk.wait(SECOND);
    server.syn_ack(5000, 1001);
    assert_eq!(server.half().acked.get(), SeqNum(1101));
}

#[test]
fn the_final_ack_lost_its_data_completes_the_handshake() {
    let talk = Talk::on_server();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.syn_ack(5000, 1001);
    talk.wait(SECOND);
    server.syn_ack(5000, 1001);
    client.data(1001, 5001, 10);
    talk.expect(Established, Established);
    talk.expect_notes([Note::SynAckRepeated, Note::CompletedByData]);
    talk.expect_history("ShD");
}

#[test]
fn a_fin_may_complete_it_as_well() {
    let talk = Talk::on_server();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.syn_ack(5000, 1001);
    client.fin(1001, 5001);
    talk.expect(FinWait1, CloseWait);
    talk.expect_notes([Note::CompletedByData]);
}

// ---- SYN cookies (RFC 4987, section 3.6) ----

#[test]
fn numbering_begins_again_with_the_other_number_though_it_is_a_lower_one() {
    let talk = Talk::on_server();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.timestamps(7, 0).syn_ack(5000, 1001);
    talk.wait(SECOND);
    server.timestamps(9, 0).syn_ack(3000, 1001);
    assert_eq!((server.half().next_seq.get(), server.half().first_ts.get()), (SeqNum(3001), 9));
}

#[test]
fn a_syn_ack_with_another_number_is_a_syn_cookie() {
    let talk = Talk::on_server();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.syn_ack(5000, 1001);
    talk.wait(SECOND);
    client.syn(1000);
    server.syn_ack(7000, 1001);
    client.ack(1001, 7001);
    talk.expect(Established, Established);
    talk.expect_notes([Note::LateSyn, Note::SynAckRenumbered]);
    assert_eq!(server.half().isn.get(), SeqNum(7000));
    assert_eq!(talk.counters().handshake_retransmits[Retransmit::SynAck.index()].iter().sum::<u64>(), 1);
}

// ---- The same frame seen twice ----

/// A whole life. Each segment is seen twice, a few microseconds apart, when `twice`.
fn life(talk: &Talk, twice: bool) {
    let (client, server) = talk.peers();
    let both = |peer: Peer<'_, _>, send: &dyn Fn(Peer<'_, _>)| {
        talk.wait(20 * MILLISECOND);
        send(peer);
        if twice {
            talk.wait(5000);
            send(peer);
        }
    };
    both(client, &|peer| peer.timestamps(7, 0).syn(1000));
    both(server, &|peer| peer.timestamps(8, 7).syn_ack(5000, 1001));
    both(client, &|peer| peer.timestamps(9, 8).ack(1001, 5001));
    both(client, &|peer| peer.data(1001, 5001, 100));
    both(server, &|peer| peer.ack(5001, 1101));
    both(server, &|peer| peer.data(5001, 1101, 300));
    both(client, &|peer| peer.fin(1101, 5301));
    both(server, &|peer| peer.ack(5301, 1102));
    both(server, &|peer| peer.fin(5301, 1102));
    both(client, &|peer| peer.ack(1102, 5302));
}

#[test]
fn frames_seen_twice_change_neither_states_nor_outcome_nor_times() {
    let (once, twice) = (Talk::new(), Talk::new());
    life(&once, false);
    life(&twice, true);
    twice.expect(TimeWait, Closed);
    assert_eq!(once.states(), twice.states());
    twice.expect_outcome(Outcome::Completed);
    assert!(!twice.word().has(Mark::SynRepeated) && !twice.word().has(Mark::SynAckRepeated));
    let (client, server) = twice.peers();
    assert_eq!((client.half().syn_retransmits.get(), server.half().syn_retransmits.get()), (0, 0));
    assert_eq!((client.half().fin_retransmits.get(), server.half().fin_retransmits.get()), (0, 0));
    assert_eq!(twice.counters().handshake_retransmits, once.counters().handshake_retransmits);
    let part = |talk: &Talk, retransmitted| {
        talk.histogram(by_role(HandshakePart::Total, talk.word().locality(), retransmitted)).count()
    };
    assert_eq!((part(&twice, false), part(&twice, true)), (1, 0));
    // The second sighting of the SYN is 5 µs later, and each part is between the first sightings but for that.
    assert_eq!(twice.flow().times.syn_to_synack_ns(), Some(20 * MILLISECOND + 5000));
    assert!(twice.flow().story.has(Note::FramesDoubled) && !once.flow().story.has(Note::FramesDoubled));
    assert_eq!((twice.all_attempts(), twice.all_closes()), (once.all_attempts(), once.all_closes()));
    // Data seen twice is data sent twice, for all that an observer can tell.
    twice.expect_history("ShADTadtFf");
}

/// Nobody repeats a SYN within 100 ms, nor a FIN within 500 µs.
#[test]
fn a_segment_again_is_a_second_sighting_only_while_no_tcp_would_repeat_it() {
    for (since_ns, note) in [(100 * MILLISECOND - 1, Note::FramesDoubled), (100 * MILLISECOND, Note::SynRepeated)] {
        let talk = Talk::new();
        let (client, _) = talk.peers();
        client.syn(1000);
        talk.wait(since_ns);
        client.syn(1000);
        talk.expect_notes([note]);
    }
    for (since_ns, note) in [(500 * MICROSECOND - 1, Note::FramesDoubled), (500 * MICROSECOND, Note::FinRepeated)] {
        let talk = Talk::new();
        let (client, _) = talk.peers();
        talk.open();
        client.fin(1001, 5001);
        talk.wait(since_ns);
        client.fin(1001, 5001);
        talk.expect_notes([note]);
    }
}

#[test]
fn a_note_that_is_there_stays_when_it_comes_again_with_another() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    client.syn_data(1000, 100);
    talk.wait(SECOND);
    client.syn_data(1000, 100);
    talk.expect_notes([Note::SynRepeated, Note::SynWithData]);
}

#[test]
fn a_syn_seen_again_right_after_the_handshake_is_no_late_one() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    talk.open();
    client.syn(1000);
    talk.expect(Established, Established);
    talk.expect_notes([Note::FramesDoubled]);
    assert_eq!(client.half().syn_retransmits.get(), 0);
}

#[test]
fn data_behind_the_syn_ack_may_come_again_before_the_handshake_is_over() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.syn_ack(5000, 1001);
    server.data(5001, 1001, 50);
    server.data(5001, 1001, 50);
    talk.expect(SynSent, SynReceived);
    talk.expect_notes([Note::Retransmitted]);
}

#[test]
fn a_refusal_seen_twice_is_one_refusal() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    client.syn(1000);
    server.rst_ack(0, 1001);
    server.rst_ack(0, 1001);
    client.syn(1000);
    talk.expect_outcome(Outcome::Refused);
    assert_eq!((talk.all_attempts(), talk.all_resets()), (1, 1));
    talk.expect_history("Sr");
}

#[test]
fn a_simultaneous_open_seen_twice_opens_one_connection() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(100);
    client.syn(100);
    server.syn(300);
    server.syn(300);
    client.syn_ack(100, 301);
    client.syn_ack(100, 301);
    talk.expect(SynReceived, Established);
    server.syn_ack(300, 101);
    server.syn_ack(300, 101);
    talk.expect(Established, Established);
    talk.expect_notes([Note::SimultaneousOpen, Note::FramesDoubled]);
    assert_eq!(talk.all_attempts(), 1);
}
