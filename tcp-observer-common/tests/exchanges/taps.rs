//! One segment on several interfaces: counted once, by whichever hook saw its direction first.

use tcp_observer_common::{
    conn::{Flow, State::*},
    counters::Skip::*,
};

use crate::support::{Peer, Talk};

/// A whole life, each segment of which is also seen on another interface when `twice`.
fn life(talk: &Talk, twice: bool) {
    let (client, server) = talk.peers();
    let both = |peer: Peer<'_, _>, send: &dyn Fn(Peer<'_, _>)| {
        send(peer);
        if twice {
            send(peer.via(2).skipped(Duplicate));
        }
    };
    both(client, &|peer| peer.syn(1000));
    both(client, &|peer| peer.syn(1000));
    both(server, &|peer| peer.syn_ack(5000, 1001));
    both(client, &|peer| peer.ack(1001, 5001));
    both(client, &|peer| peer.data(1001, 5001, 100));
    both(server, &|peer| peer.ack(5001, 1101));
    both(server, &|peer| peer.data(5001, 1101, 300));
    both(client, &|peer| peer.fin(1101, 5301));
    both(server, &|peer| peer.ack(5301, 1102));
    both(server, &|peer| peer.fin(5301, 1102));
    both(client, &|peer| peer.ack(1102, 5302));
}

fn record(flow: &Flow) -> String {
    format!("{flow:?}")
}

#[test]
fn a_life_seen_twice_leaves_the_record_of_one_seen_once() {
    let (once, twice) = (Talk::new(), Talk::new());
    life(&once, false);
    life(&twice, true);
    twice.expect(TimeWait, Closed);
    assert_eq!(record(&once.flow()), record(&twice.flow()));
    assert_eq!(twice.skips(Duplicate), 11);
    let mut counters = twice.counters();
    counters.skipped = once.counters().skipped;
    assert_eq!(counters, once.counters());
}

#[test]
fn a_repetition_on_the_same_interface_is_no_duplicate() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    talk.open();
    client.data(1001, 5001, 100);
    client.data(1001, 5001, 100);
    assert_eq!((client.half().packets.get(), client.half().payload_bytes.get()), (4, 200));
    assert_eq!(talk.skips(Duplicate), 0);
}

#[test]
fn each_direction_may_have_an_interface_of_its_own() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    let server = server.via(2);
    client.syn(1000);
    server.syn_ack(5000, 1001);
    client.ack(1001, 5001);
    server.data(5001, 1001, 10);
    client.ack(1001, 5011);
    assert_eq!((client.half().packets.get(), server.half().packets.get()), (3, 2));
    assert_eq!(talk.skips(Duplicate), 0);
}

#[test]
fn news_on_another_interface_says_that_the_path_has_changed() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    talk.open();
    client.via(2).data(1001, 5001, 100);
    client.skipped(Duplicate).data(1001, 5001, 100);
    client.via(2).data(1101, 5001, 100);
    client.via(2).data(1101, 5001, 100);
    assert_eq!((client.half().packets.get(), client.half().payload_bytes.get()), (5, 300));
    // And back again.
    client.data(1201, 5001, 100);
    client.via(2).skipped(Duplicate).data(1201, 5001, 100);
}

#[test]
fn a_syn_with_another_number_on_another_interface_is_another_attempt() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    client.syn(1000);
    client.via(2).syn(2000);
    assert_eq!(talk.skips(Duplicate), 0);
    assert_eq!(client.half().isn.get().0, 2000);
}

#[test]
fn a_rst_seen_twice_is_one_reset() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    talk.open();
    client.rst(1001);
    client.via(2).skipped(Duplicate).rst(1001);
    assert_eq!((talk.all_resets(), talk.all_closes()), (1, 1));
}

#[test]
fn a_stale_segment_does_not_change_the_path() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    talk.open();
    client.via(2).skipped(Stale).rst(9);
    client.data(1001, 5001, 100);
    client.via(2).skipped(Duplicate).data(1001, 5001, 100);
}
