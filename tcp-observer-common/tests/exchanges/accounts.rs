//! Counters: each packet is accounted for once, and each event is counted exactly once.

use proofs::memory::Memory;
use tcp_observer_common::{
    conn::{Locality, Note, Outcome, Role, State, Times, Word},
    counters::{Counters, HookDirection, PORT_SLOTS, Retransmit, Skip::*, tally},
    flow::Ipv4,
    histogram::Histogram,
    observer::Transition,
    segment::SegmentKind,
    seq::SeqNum,
};

use crate::support::{CLIENT_ADDR, Endpoint, SECOND, SERVER_ADDR, Talk};

#[test]
fn segments_are_counted_by_kind_and_direction() {
    let talk = Talk::new();
    talk.open_and_close();
    let (client, server) = talk.peers();
    client.data(1002, 5002, 5);
    server.rst(5002);
    let by_kind =
        |direction: HookDirection, kind: SegmentKind| talk.counters().segments[direction.index()][kind.index()];
    use HookDirection::{Egress, Ingress};
    for (kind, egress, ingress) in [
        (SegmentKind::Rst, 0, 1),
        (SegmentKind::Syn, 1, 0),
        (SegmentKind::SynAck, 0, 1),
        (SegmentKind::Fin, 1, 1),
        (SegmentKind::Data, 1, 0),
        (SegmentKind::Ack, 2, 1),
    ] {
        assert_eq!((by_kind(Egress, kind), by_kind(Ingress, kind)), (egress, ingress), "{kind:?}");
    }
}

#[test]
fn every_packet_is_an_update_or_a_skip() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.skipped(Stale).syn(7);
    server.via(3).skipped(Duplicate).syn_ack(5000, 1001);
    client.skipped(Stale).rst(7);
    talk.peers_from(9999).0.skipped(UnknownFlow).rst(7);
    client.fin(1001, 5001);
    let counters = talk.counters();
    let updates: u64 = counters.segments.iter().flatten().sum();
    let skips: u64 = counters.skipped.iter().sum();
    assert_eq!((updates, skips), (4, 4));
    assert_eq!(updates + skips, talk.passed());
}

#[test]
fn a_repeated_segment_of_the_handshake_is_counted_once_each_time() {
    let talk = Talk::on_server();
    let (client, server) = talk.peers();
    client.syn(1000);
    talk.wait(SECOND);
    client.syn(1000);
    server.syn_ack(5000, 1001);
    talk.wait(2 * SECOND);
    client.syn(1000);
    server.syn_ack(5000, 1001);
    client.ack(1001, 5001);
    talk.wait(SECOND);
    client.syn(1000);
    let by_kind = talk.counters().handshake_retransmits;
    assert_eq!(by_kind[Retransmit::Syn.index()], [0, 3, 0, 0]);
    assert_eq!(by_kind[Retransmit::SynAck.index()], [0, 1, 0, 0]);
    assert_eq!((talk.attempts(Outcome::Completed), talk.all_attempts()), (1, 1));
}

#[test]
fn attempts_are_counted_by_what_this_host_is_to_them() {
    let stranger: Ipv4 = [u32::from_ne_bytes([203, 0, 113, 9])];
    for (local, locality) in [
        (vec![CLIENT_ADDR], Locality::Client),
        (vec![SERVER_ADDR], Locality::Server),
        (vec![CLIENT_ADDR, SERVER_ADDR], Locality::Loopback),
        (vec![stranger], Locality::Forwarded),
    ] {
        let mut talk = Talk::new();
        talk.memory.local4 = local;
        talk.open();
        assert_eq!(talk.word().locality(), locality);
        // The first port whose handshake completes takes the first slot.
        assert_eq!(talk.counters().attempts[0][locality.index()][Outcome::Completed.index()], 1);
    }
}

#[test]
fn a_port_whose_attempts_only_fail_takes_no_slot() {
    let talk = Talk::between(Endpoint { addr: CLIENT_ADDR, port: 40000 }, Endpoint { addr: SERVER_ADDR, port: 9 });
    let (client, server) = talk.peers();
    client.syn(1000);
    server.rst_ack(0, 1001);
    assert_eq!(talk.counters().attempts[PORT_SLOTS][Locality::Forwarded.index()][Outcome::Refused.index()], 1);
}

/// From any two states of the endpoints to any other two.
#[test]
fn a_transition_that_may_not_count_changes_no_counter() {
    let words: Vec<Word> = State::ALL
        .iter()
        .flat_map(|&originator| State::ALL.iter().map(move |&responder| (originator, responder)))
        .map(|(originator, responder)| {
            Word::fresh(0).with_state(Role::Originator, originator).with_state(Role::Responder, responder)
        })
        .collect();
    let memory = Memory::new(0);
    let mut uncounted = 0;
    // The outcome stays, or the handshake ends.
    let outcomes = Outcome::ALL.iter().flat_map(|&outcome| [(outcome, outcome), (Outcome::InProgress, outcome)]);
    for (first, last) in outcomes {
        for (&before, &after) in words.iter().flat_map(|before| words.iter().map(move |after| (before, after))) {
            for note in [Note::Nothing, Note::SynAnswered, Note::SynRepeated, Note::Refused] {
                let (before, after) = (before.with_outcome(first), after.with_outcome(last));
                let from = Role::Originator;
                let next_seq = SeqNum(0);
                let transition = Transition { before, after, now_ns: 0, next_seq, responder_port: 443, from, note };
                if !tally::may_count(&transition) {
                    tally::transition(&memory, transition, &Times::default());
                    uncounted += 1;
                }
            }
        }
    }
    assert!(uncounted > 0);
    assert!(memory.counters.into_inner() == Counters::ZERO);
    assert!(memory.histograms.into_inner().iter().all(|histogram| *histogram == Histogram::default()));
}
