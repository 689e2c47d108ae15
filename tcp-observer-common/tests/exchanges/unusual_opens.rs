//! Opening: what is lawful and seldom. Data on the SYN, Fast Open, ECN, the split handshake, and numbers that belong to
//! some other connection.

use tcp_observer_common::{
    conn::{Flow, Mark, Note, Outcome, Sockets, State::*, adopted},
    counters::Skip::*,
    segment::{Flags, Options},
    seq::SeqNum,
};

use crate::support::{MILLISECOND, SECOND, Talk};

// ---- What the SYNs offer ----

#[test]
fn each_syns_options_are_kept() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.mss(1460).shift(7).sack().timestamps(77, 0).syn(1000);
    server.mss(1400).syn_ack(5000, 1001);
    // Options of a later segment are no offer.
    client.mss(500).shift(1).timestamps(78, 0).ack(1001, 5001);
    let (own, peer) = (client.half(), server.half());
    assert_eq!((own.mss.get(), own.window_shift.get()), (1460, 7));
    assert_eq!(own.options.get() & (Options::SACK | Options::TIMESTAMPS), Options::SACK | Options::TIMESTAMPS);
    assert_eq!((own.first_ts.get(), own.last_ts.get()), (77, 78));
    assert_eq!((peer.mss.get(), peer.window_shift.get()), (1400, Options::NO_SHIFT));
    assert_eq!(peer.options.get() & (Options::SACK | Options::TIMESTAMPS | Options::FAST_OPEN), 0);
    talk.expect_notes([]);
}

#[test]
fn a_flow_picked_up_has_no_offers() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    client.mss(500).shift(1).data(1001, 5001, 10);
    assert_eq!((client.half().mss.get(), client.half().window_shift.get()), (0, Options::NO_SHIFT));
}

// ---- Data on the SYN, Fast Open (RFC 7413) ----

#[test]
fn fast_open_carries_data_on_the_syn_that_the_syn_ack_acknowledges() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.fast_open().syn_data(1000, 100);
    server.syn_ack(5000, 1101);
    // RFC 7413, section 3.1: the server may answer before the handshake is over.
    server.data(5001, 1101, 500);
    talk.expect(SynSent, SynReceived);
    client.ack(1101, 5501);
    talk.expect(Established, Established);
    talk.expect_outcome(Outcome::Completed);
    talk.expect_notes([Note::SynWithData, Note::FastOpen]);
    talk.expect_history("SThdA");
}

#[test]
fn data_on_the_syn_that_was_not_taken_comes_again() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.fast_open().syn_data(1000, 100);
    server.fast_open().syn_ack(5000, 1001);
    client.data(1001, 5001, 100);
    talk.expect(Established, Established);
    assert_eq!(client.half().retransmits.get(), 1);
    talk.expect_notes([Note::CompletedByData, Note::SynWithData, Note::FastOpen]);
    talk.expect_history("SThD");
}

/// RFC 7413, section 4.2.2: a server that does not take the data acknowledges the SYN alone, and the client begins again.
#[test]
fn a_stream_begins_again_after_data_on_the_syn_that_was_not_taken() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.fast_open().syn_data(1000, 100);
    server.syn_ack(5000, 1001);
    client.ack(1001, 5001);
    client.fin(1001, 5001);
    talk.expect(FinWait1, CloseWait);
    server.fin(5001, 1002);
    client.ack(1002, 5002);
    talk.expect(TimeWait, Closed);
    talk.expect_notes([Note::SynWithData, Note::FastOpen, Note::ThreeSegmentClose]);
}

/// Linux gives Fast Open up at once when the answer makes no sense, and sends its SYN again without data.
#[test]
fn a_syn_again_at_once_without_its_data_is_no_doubled_frame() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    client.fast_open().syn_data(1000, 100);
    client.syn(1000);
    talk.expect_notes([Note::SynRepeated, Note::SynWithData, Note::FastOpen]);
}

#[test]
fn data_on_a_syn_without_the_option_is_no_fast_open() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn_data(1000, 100);
    server.syn_ack(5000, 1001);
    client.ack(1101, 5001);
    talk.expect_notes([Note::SynWithData]);
}

#[test]
fn a_fin_that_gives_up_an_attempt_with_data_repeats_nothing() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    client.fast_open().syn_data(1000, 1);
    client.fin(1001, 5001);
    talk.expect_outcome(Outcome::Abandoned);
    talk.expect_notes([Note::SynWithData, Note::FastOpen]);
}

#[test]
fn a_request_for_a_cookie_is_a_fast_open_without_data() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    client.fast_open().syn(1000);
    talk.expect_notes([Note::FastOpen]);
}

#[test]
fn an_acknowledgement_beyond_the_syns_data_is_of_another_connection() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn_data(1000, 100);
    server.skipped(Stale).syn_ack(5000, 1102);
    talk.expect(SynSent, Listen);
    talk.expect_notes([Note::SynWithData, Note::WrongSynAck]);
}

// ---- ECN ----

const ECE: u8 = Flags::ECE;
const CWR: u8 = Flags::CWR;

/// What is noted when the SYN and the SYN-ACK have these flags: AE, and ECE and CWR.
fn ecn_notes(syn: (bool, u8), syn_ack: (bool, u8)) -> Vec<Note> {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    let client = if syn.0 { client.accurate_ecn() } else { client };
    let server = if syn_ack.0 { server.accurate_ecn() } else { server };
    client.ecn(syn.1).syn(1000);
    server.ecn(syn_ack.1).syn_ack(5000, 1001);
    talk.flow().story.notes().collect()
}

/// RFC 3168, section 6.1.1: an ECN-setup SYN has ECE and CWR, an ECN-setup SYN-ACK has ECE and not CWR.
#[test]
fn a_syn_ack_with_ece_agrees_to_ecn() {
    let setup = (false, ECE | CWR);
    assert_eq!(ecn_notes(setup, (false, ECE)), [Note::Ecn]);
    assert_eq!(ecn_notes(setup, (false, 0)), []);
    // Flags sent back as they came are no ECN-setup SYN-ACK.
    assert_eq!(ecn_notes(setup, setup), []);
    // Nobody has asked, or with half of the question.
    for flags in [0, ECE, CWR] {
        assert_eq!(ecn_notes((false, flags), (false, ECE)), []);
    }
}

/// RFC 9768, table 2: (AE, CWR, ECE) of the SYN-ACK that answers a SYN with all three.
#[test]
fn a_syn_ack_agrees_to_accurate_ecn_as_the_rfcs_table_has_it() {
    let setup = (true, ECE | CWR);
    for (ae, flags, expected) in [
        // The SYN arrived not-ECT, ECT(1), ECT(0), CE.
        (false, CWR, Some(Note::AccurateEcn)),
        (false, CWR | ECE, Some(Note::AccurateEcn)),
        (true, 0, Some(Note::AccurateEcn)),
        (true, CWR, Some(Note::AccurateEcn)),
        // Reserved: to be taken as agreement (section 3.1.3).
        (true, ECE, Some(Note::AccurateEcn)),
        // A server that knows RFC 3168 only.
        (false, ECE, Some(Note::Ecn)),
        // One that knows none, and one that sends everything back.
        (false, 0, None),
        (true, ECE | CWR, None),
    ] {
        assert_eq!(ecn_notes(setup, (ae, flags)), Vec::from_iter(expected), "{ae} {flags:#04x}");
    }
    // A server that speaks of accurate ECN to one who has asked for RFC 3168's.
    assert_eq!(ecn_notes((false, ECE | CWR), (true, 0)), []);
}

// ---- Split handshake ----

#[test]
fn a_split_handshake_opens_in_four_segments() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.ack(5000, 1001);
    talk.expect(SynSent, Listen);
    server.syn(5000);
    talk.expect(Established, SynReceived);
    talk.expect_outcome(Outcome::InProgress);
    client.ack(1001, 5001);
    talk.expect(Established, Established);
    talk.expect_outcome(Outcome::Completed);
    talk.expect_notes([Note::SplitHandshake]);
    talk.expect_history("SasA");
    assert_eq!(talk.attempts(Outcome::Completed), 1);
}

/// RFC 9293, section 3.10.7.3: an endpoint in SYN-SENT answers a SYN without ACK with a SYN-ACK.
#[test]
fn a_split_handshake_may_end_with_a_syn_ack_of_the_originator() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.ack(5000, 1001);
    server.syn(5000);
    client.syn_ack(1000, 5001);
    talk.expect(Established, Established);
    server.ack(5001, 1001);
    talk.expect_outcome(Outcome::Completed);
    assert_eq!(talk.attempts(Outcome::Completed), 1);
}

#[test]
fn in_a_split_handshake_the_syn_begins_to_number_though_its_ack_came_before() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.timestamps(7, 0).ack(5000, 1001);
    server.timestamps(9, 0).syn(5000);
    assert_eq!(server.half().first_ts.get(), 9);
    assert_eq!(server.half().next_seq.get(), SeqNum(5001));
}

#[test]
fn in_a_split_handshake_a_syn_ack_may_follow_the_ack_instead() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.ack(5000, 1001);
    server.syn_ack(5000, 1001);
    client.ack(1001, 5001);
    talk.expect(Established, Established);
}

// ---- The other way round ----

#[test]
fn simultaneous_open_is_noted() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(u32::MAX);
    server.syn(u32::MAX);
    client.syn_ack(u32::MAX, 0);
    server.syn_ack(u32::MAX, 0);
    talk.expect(Established, Established);
    talk.expect_notes([Note::SimultaneousOpen]);
    talk.expect_history("Ss");
}

#[test]
fn ends_of_a_simultaneous_open_may_close_whatever_their_numbers() {
    for (client_isn, server_isn) in [(100, 300), (3_000_000_000, 1), (u32::MAX, u32::MAX - 1), (1 << 31, 1 << 30)] {
        let talk = Talk::new();
        let (client, server) = talk.peers();
        let (own, other) = (u32::wrapping_add(client_isn, 1), u32::wrapping_add(server_isn, 1));
        client.syn(client_isn);
        server.syn(server_isn);
        client.fin(own, other);
        talk.expect(FinWait1, CloseWait);
        server.ack(other, own.wrapping_add(1));
        talk.expect(FinWait2, CloseWait);
        talk.expect_outcome(Outcome::Completed);
    }
}

#[test]
fn a_responder_may_close_before_the_last_ack_whatever_its_numbers() {
    for isn in [5000_u32, 3_000_000_000, u32::MAX] {
        let talk = Talk::new();
        let (client, server) = talk.peers();
        client.syn(1000);
        server.syn_ack(isn, 1001);
        server.fin_data(isn.wrapping_add(1), 1001, 50);
        talk.expect(SynSent, FinWait1);
        client.ack(1001, isn.wrapping_add(52));
        talk.expect(CloseWait, FinWait2);
    }
}

#[test]
fn a_syn_after_its_syn_ack_is_noted_and_the_roles_are_no_guess() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    server.syn_ack(5000, 1001);
    client.syn(1000);
    assert!(!talk.word().has(Mark::Inferred));
    client.ack(1001, 5001);
    talk.expect(Established, Established);
    talk.expect_notes([Note::SynAfterSynAck]);
    assert_eq!(talk.flow().times.syn_to_synack_ns(), None);
}

// ---- Somebody else's segments ----

/// RFC 9293, section 3.10.7.3: a SYN-ACK that acknowledges something else is answered with a RST of that number.
#[test]
fn a_wrong_syn_ack_and_the_rst_that_answers_it_leave_the_attempt_alive() {
    for wrong in [1002, 90_001, 1000, 0] {
        let talk = Talk::new();
        let (client, server) = talk.peers();
        client.syn(1000);
        server.skipped(Stale).syn_ack(5000, wrong);
        client.skipped(Stale).rst(wrong);
        talk.expect(SynSent, Listen);
        talk.expect_outcome(Outcome::InProgress);
        talk.wait(SECOND);
        client.syn(1000);
        server.syn_ack(7000, 1001);
        client.ack(1001, 7001);
        talk.expect(Established, Established);
        assert_eq!((talk.all_attempts(), talk.all_resets()), (1, 0));
        assert!(talk.flow().story.has(Note::WrongSynAck), "{wrong}");
    }
}

/// RFC 9293, section 3.5.2 and figure 8: the SYN of an earlier connection, late, is answered; its sender resets.
#[test]
fn a_stale_syn_is_answered_and_reset() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open_and_close();
    talk.sweep_after(61 * SECOND);
    talk.expect(Closed, Closed);
    client.syn(1000);
    server.syn_ack(8000, 1001);
    client.rst(1001);
    talk.expect(Closed, Closed);
    talk.expect_outcome(Outcome::Reset);
    talk.expect_notes([Note::OldSyn, Note::StaleSyn, Note::HandshakeReset]);
    talk.expect_history("ShR");
}

#[test]
fn a_port_scan_on_the_same_ports_is_no_stale_syn() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open_and_close();
    talk.sweep_after(61 * SECOND);
    // Another number, though an older one.
    client.syn(500);
    server.syn_ack(8000, 501);
    client.rst(501);
    talk.expect_notes([Note::TupleReused, Note::HandshakeReset]);
}

#[test]
fn a_new_number_before_any_answer_is_a_tuple_used_again() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    talk.wait(20 * MILLISECOND);
    client.syn(90_000);
    talk.expect_notes([Note::TupleReused]);
    talk.expect_history("S");
    server.syn_ack(5000, 90_001);
    client.ack(90_001, 5001);
    assert_eq!(client.half().isn.get(), SeqNum(90_000));
    assert_eq!((talk.attempts(Outcome::Abandoned), talk.attempts(Outcome::Completed)), (1, 1));
}

#[test]
fn a_challenge_instead_of_a_syn_ack_is_noted_and_the_rst_that_follows_leaves_the_attempt_alive() {
    // RFC 9293, figure 9, with the roles of the two connections: the server still has the old one, the client resets
    // it by the challenge's number and its SYN comes again.
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.skipped(Stale).ack(8000, 300);
    client.skipped(Stale).rst(300);
    talk.expect_notes([Note::ChallengeAck, Note::RstOutOfWindow]);
    talk.wait(SECOND);
    client.syn(1000);
    server.syn_ack(5000, 1001);
    client.ack(1001, 5001);
    talk.expect(Established, Established);
}

#[test]
fn a_rst_forged_before_the_syn_ack_changes_nothing() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.skipped(Stale).rst(5001);
    server.skipped(Stale).rst_ack(0, 0);
    talk.expect_notes([Note::RstBeforeAnswer]);
    server.syn_ack(5000, 1001);
    client.ack(1001, 5001);
    talk.expect(Established, Established);
    assert_eq!(talk.noted(Note::RstBeforeAnswer), 2);
}

#[test]
fn a_rst_with_number_zero_in_a_simultaneous_open_is_stale() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(100);
    server.syn(300);
    client.skipped(Stale).rst(0);
    server.skipped(Stale).rst(0);
    talk.expect(SynReceived, SynReceived);
}

/// Both ends are in SYN-RECEIVED, where the number has to fit and the acknowledgement says nothing (RFC 9293, 3.10.7.4).
#[test]
fn a_rst_that_refuses_a_syn_of_a_simultaneous_open_is_stale() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(100);
    server.syn(300);
    server.skipped(Stale).rst_ack(0, 101);
    talk.expect(SynReceived, SynReceived);
    server.rst_ack(301, 101);
    talk.expect(Closed, Closed);
}

#[test]
fn an_acknowledgement_of_something_else_is_noted() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.syn_ack(5000, 1001);
    client.skipped(Stale).ack(1001, 4000);
    talk.expect_notes([Note::WrongAck]);
}

#[test]
fn data_that_acknowledges_another_hosts_syn_shows_that_its_syn_ack_was_missed() {
    let talk = Talk::on_server();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.data(5001, 1001, 100);
    talk.expect(Established, Established);
    talk.expect_outcome(Outcome::NotSeen);
    talk.expect_notes([Note::PickedUp]);
    client.ack(1001, 5101);
    server.ack(5101, 1001);
    assert_eq!(talk.table_entries(), (1, 0));
}

#[test]
fn data_behind_a_syn_ack_shows_that_an_originator_was_missed_of_which_nothing_is_seen() {
    let talk = Talk::on_server();
    let (_, server) = talk.peers();
    server.syn_ack(5000, 1001);
    server.data(5001, 1001, 100);
    talk.expect(Unknown, Established);
    talk.expect_outcome(Outcome::NotSeen);
    talk.expect_notes([Note::PickedUp]);
}

/// RFC 9293, 3.10.7.3: in SYN-SENT a segment without SYN is dropped. Of this host's own nothing was missed.
#[test]
fn data_that_acknowledges_this_hosts_syn_without_a_syn_ack_is_stale() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.skipped(Stale).data(5001, 1001, 100);
    talk.expect(SynSent, Listen);
    talk.expect_notes([Note::ChallengeAck]);
}

/// RFC 9293, 3.10.7.4, fifth check: what acknowledges more than was sent is dropped, and its number with it.
#[test]
fn a_wrong_acknowledgement_before_the_handshake_is_over_does_not_stay() {
    for closes in [false, true] {
        let talk = Talk::new();
        let (client, server) = talk.peers();
        client.syn(1000);
        server.syn_ack(5000, 1001);
        server.skipped(Stale).data(5001, 900_000, 10);
        if closes {
            server.fin(5011, 1001)
        } else {
            server.data(5011, 1001, 10)
        }
        assert_eq!(server.half().acked.get(), SeqNum(1001));
    }
}

// ---- Handshakes that are known from the socket table ----

/// A server's request socket, adopted into the half-open table.
fn adopted_request() -> Talk {
    let talk = Talk::on_server();
    let (client, _) = talk.peers();
    let (key, side) = talk.key(&client);
    let word = adopted(Sockets { originator: side, states: [None, Some(SynReceived)] }).unwrap();
    let now_ns = talk.memory.now_ns.get();
    talk.memory.half_open4.put(&key, &Flow::adopted(word, now_ns, now_ns)).unwrap();
    talk
}

#[test]
fn the_ack_of_an_adopted_handshake_completes_it_without_a_time() {
    let talk = adopted_request();
    let (client, _) = talk.peers();
    client.ack(1001, 5001);
    talk.expect(Established, Established);
    talk.expect_outcome(Outcome::Completed);
    assert_eq!(talk.flow().times.total_ns(), None);
}

/// A Fast Open server sends before the handshake is over (RFC 7413, section 3.1).
#[test]
fn data_of_an_adopted_handshakes_responder_leaves_it_open() {
    let talk = adopted_request();
    let (client, server) = talk.peers();
    server.data(5001, 1001, 100);
    talk.expect(SynSent, SynReceived);
    client.ack(1001, 5101);
    talk.expect(Established, Established);
}

#[test]
fn a_reset_ends_an_adopted_handshake_from_either_side() {
    let talk = adopted_request();
    talk.peers().0.rst(1001);
    talk.expect_outcome(Outcome::Reset);
    let talk = adopted_request();
    talk.peers().1.rst(5001);
    talk.expect_outcome(Outcome::Reset);
}

// ---- Refusals ----

#[test]
fn refusals_and_resets_of_attempts_are_noted() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.rst_ack(0, 1001);
    talk.expect_notes([Note::Refused]);
    talk.expect_history("Sr");

    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.syn_ack(5000, 1001);
    client.rst(1001);
    talk.expect_notes([Note::HandshakeReset]);
    talk.expect_history("ShR");
}
