//! What has happened stays so: states do not go back, an end is told once, a segment that its receiver drops leaves
//! nothing, and a copy is a copy. Scripts at random have found each of these (`cargo xtask prove fuzz`).

use tcp_observer_common::{
    conn::{Flow, How, Initiator, Note, Outcome, Sockets, State::*, adopted},
    counters::Skip::*,
};

use crate::support::{SECOND, Talk};

/// Known from the socket table, it closes before anything else of it is seen: a SYN would be of another connection.
#[test]
fn a_syn_of_an_adopted_responder_that_has_closed_does_not_open_it_again() {
    let talk = adopted_request();
    let (_, server) = talk.peers();
    server.fin(5001, 1001);
    talk.expect(SynSent, FinWait1);
    server.skipped(Stale).syn(5000);
    talk.expect(SynSent, FinWait1);
}

/// Its numbers are known from its SYN-ACK, and these are from before it.
#[test]
fn a_fin_from_before_the_syn_ack_that_a_flow_begins_with_is_stale() {
    let talk = Talk::new();
    let (_, server) = talk.peers();
    server.syn_ack(5000, 1001);
    server.skipped(Stale).fin(4981, 1001);
    talk.expect(SynSent, SynReceived);
    server.ack(5001, 1001);
    talk.expect(Unknown, Established);
}

/// A server's request socket, adopted into the half-open table.
fn adopted_request() -> Talk {
    let talk = Talk::new();
    let (key, side) = talk.key(&talk.peers().0);
    let now_ns = talk.now_ns();
    let word = adopted(Sockets { originator: side, states: [None, Some(SynReceived)] }).unwrap();
    talk.memory.half_open4.put(&key, &Flow::adopted(word, now_ns, now_ns)).unwrap();
    talk
}

#[test]
fn a_fin_after_silence_has_ended_the_flow_does_not_end_it_again() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    talk.sweep_after(6 * 86_400 * SECOND);
    talk.expect_close(Initiator::Nobody, How::Timeout);
    client.fin(1001, 5001);
    server.fin(5001, 1002);
    talk.expect_close(Initiator::Nobody, How::Timeout);
    assert_eq!(talk.all_closes(), 1);
}

/// RFC 9293, 3.10.7.4, first check: what is not acceptable is dropped, its acknowledgement included.
#[test]
fn a_fin_out_of_the_window_does_not_complete_a_handshake() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.window(100).syn_ack(5000, 1001);
    client.skipped(Stale).fin(1001 + 200, 5001);
    talk.expect(SynSent, SynReceived);
    talk.expect_outcome(Outcome::InProgress);
    client.via(2).skipped(Stale).fin(1001 + 200, 5001);
    assert_eq!(talk.noted(Note::FinOutOfWindow), 1);
    client.ack(1001, 5001);
    talk.expect(Established, Established);
}

#[test]
fn what_is_nobodys_counts_at_one_hook_also_before_anything_of_its_sender_was_accepted() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    // Picked up by the server's FIN.
    server.fin(5001, 1001);
    client.skipped(Stale).syn(1000);
    client.via(2).skipped(Stale).syn(1000);
    assert_eq!((client.half().packets.get(), talk.noted(Note::SynInConnection)), (1, 1));
}

/// The number zero is no beginning of the numbers: whether the first ACK is news does not depend on where they begin.
#[test]
fn the_first_acknowledgement_of_an_end_is_news_wherever_its_numbers_are() {
    for server_isn in [5_000, 3_000_000_000] {
        let talk = Talk::keeping_all();
        let (_, server) = talk.peers();
        server.rst(server_isn);
        server.via(2).ack(server_isn, server_isn);
        server.via(3).skipped(Duplicate).ack(server_isn, server_isn);
    }
}

#[test]
fn data_beyond_a_fin_at_two_hooks_is_counted_once() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    talk.open();
    client.fin(1001, 5001);
    client.data(1002, 5001, 10);
    client.via(2).skipped(Duplicate).data(1002, 5001, 10);
    client.via(2).skipped(Duplicate).data(1002, 5001, 10);
}
