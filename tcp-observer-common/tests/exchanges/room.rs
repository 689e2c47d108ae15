//! Who makes room in a full table: what is over, what silence has ended, the oldest half-open flow; never an established
//! one.

use tcp_observer_common::{
    conn::{Mark, Outcome, State::*},
    counters::{Eviction, Skip::*, TableKind},
    flow::Ipv4,
};

use crate::support::{SECOND, Talk};

/// With this much room for half-open flows and settled ones.
fn talk(half_open: usize, settled: usize) -> Talk<Ipv4> {
    let mut talk = Talk::new();
    talk.memory.makes_room = true;
    talk.memory.half_open4.limit(half_open);
    talk.memory.flows4.limit(settled);
    talk
}

fn evicted(talk: &Talk<Ipv4>, table: TableKind, reason: Eviction) -> u64 {
    talk.counters().evictions[table.index()][reason.index()]
}

/// A handshake from another port of the client, which at its end finds room among the settled flows or does not.
fn settle_from(talk: &Talk<Ipv4>, port: u16, has_room: bool) {
    let (client, server) = talk.peers_from(port);
    client.syn(1);
    server.syn_ack(1, 2);
    if has_room {
        client.ack(2, 2);
    } else {
        client.skipped(TableFull).ack(2, 2);
    }
}

#[test]
fn a_flood_of_syns_renews_itself_and_each_that_gives_way_is_an_attempt_that_was_evicted() {
    let talk = talk(8, 8);
    talk.open();
    for port in 1025..1100 {
        talk.peers_from(port).0.syn(1);
        talk.wait(1);
    }
    assert_eq!(talk.table_entries(), (1, 8));
    assert_eq!((talk.skips(TableFull), talk.attempts(Outcome::Evicted)), (0, 75 - 8));
    assert_eq!(evicted(&talk, TableKind::HalfOpenIpv4, Eviction::Replaced), 75 - 8);
    // The latest eight are there, the ninth is not any more.
    let (ninth, eighth) = (talk.peers_from(1091), talk.peers_from(1092));
    eighth.1.syn_ack(5000, 2);
    eighth.0.ack(2, 5001);
    assert_eq!((talk.attempts(Outcome::Completed), talk.table_entries()), (2, (2, 7)));
    ninth.0.skipped(UnknownFlow).ack(2, 5001);
    let (client, _) = talk.peers();
    client.data(1001, 5001, 10);
    talk.expect(Established, Established);
}

#[test]
fn no_established_flow_gives_way_to_another() {
    let talk = talk(8, 1);
    talk.open();
    settle_from(&talk, 40001, false);
    assert_eq!(talk.table_entries(), (1, 0));
    talk.expect(Established, Established);
}

#[test]
fn what_is_over_and_only_shown_gives_way() {
    let talk = talk(8, 1);
    talk.open();
    let (client, _) = talk.peers();
    client.rst(1001);
    talk.expect(Closed, Closed);
    settle_from(&talk, 40001, true);
    assert_eq!((talk.table_entries(), talk.skips(TableFull)), ((1, 0), 0));
    assert_eq!(evicted(&talk, TableKind::FlowsIpv4, Eviction::Closed), 1);
    assert!(talk.find().is_none());
}

#[test]
fn time_wait_gives_way_once_it_is_over_though_no_sweep_has_said_so() {
    // 60 s on Linux (TCP_TIMEWAIT_LEN, include/net/tcp.h).
    for (waited_s, gives_way) in [(59, false), (61, true)] {
        let talk = talk(8, 1);
        talk.open_and_close();
        talk.expect(TimeWait, Closed);
        talk.wait(waited_s * SECOND);
        settle_from(&talk, 40001, gives_way);
        assert_eq!(talk.find().is_none(), gives_way, "after {waited_s} s");
        assert_eq!(evicted(&talk, TableKind::FlowsIpv4, Eviction::Closed), u64::from(gives_way));
    }
}

#[test]
fn an_attempt_that_silence_has_ended_has_timed_out_when_it_gives_way() {
    let talk = talk(1, 8);
    talk.peers().0.syn(1);
    // Linux waits at most 64 s before it repeats a SYN again or gives up.
    talk.wait(70 * SECOND);
    talk.peers_from(40001).0.syn(1);
    assert_eq!(talk.table_entries(), (0, 1));
    assert_eq!((talk.attempts(Outcome::TimedOut), talk.attempts(Outcome::Evicted)), (1, 0));
    assert_eq!(evicted(&talk, TableKind::HalfOpenIpv4, Eviction::TimedOut), 1);
}

#[test]
fn a_handshake_that_was_refused_gives_way_without_being_counted_twice() {
    let talk = talk(1, 8);
    let (client, server) = talk.peers();
    client.syn(1000);
    server.rst_ack(0, 1001);
    assert_eq!(talk.attempts(Outcome::Refused), 1);
    talk.peers_from(40001).0.syn(1);
    assert_eq!((talk.attempts(Outcome::Refused), talk.all_attempts()), (1, 1));
    assert_eq!(evicted(&talk, TableKind::HalfOpenIpv4, Eviction::Closed), 1);
}

#[test]
fn the_four_oldest_are_looked_at_and_no_more() {
    for (established, gives_way) in [(3, true), (4, false)] {
        let talk = talk(8, established + 1);
        let open_from = |port: u16| {
            let (client, server) = talk.peers_from(port);
            client.syn(1000);
            server.syn_ack(5000, 1001);
            client.ack(1001, 5001);
            talk.wait(1);
            client
        };
        for port in 0..established as u16 {
            open_from(50_000 + port);
        }
        open_from(51_000).rst(1001);
        settle_from(&talk, 52_000, gives_way);
        assert_eq!(evicted(&talk, TableKind::FlowsIpv4, Eviction::Closed), u64::from(gives_way));
    }
}

/// As it is found while another CPU takes it out, or moves it.
#[test]
fn what_is_on_its_way_out_does_not_give_way() {
    let talk = talk(1, 8);
    talk.peers().0.syn(1);
    let word = talk.word();
    for leaving in [word.with(Mark::Retired), word.with_outcome(Outcome::Completed)] {
        talk.flow().word.0.set(leaving.0);
        talk.peers_from(40001).0.skipped(TableFull).syn(1);
        assert_eq!(talk.word(), leaving);
    }
    assert_eq!((talk.all_attempts(), evicted(&talk, TableKind::HalfOpenIpv4, Eviction::Replaced)), (0, 0));
    talk.flow().word.0.set(word.0);
    talk.peers_from(40001).0.syn(1);
    assert_eq!(evicted(&talk, TableKind::HalfOpenIpv4, Eviction::Replaced), 1);
}

#[test]
fn a_flow_that_was_picked_up_and_gives_way_was_no_attempt() {
    let talk = talk(1, 8);
    talk.peers().0.data(1001, 5001, 10);
    talk.peers_from(40001).0.syn(1);
    assert_eq!((talk.all_attempts(), evicted(&talk, TableKind::HalfOpenIpv4, Eviction::Replaced)), (0, 1));
}

/// While other CPUs put flows into the same bucket.
#[test]
fn a_flow_that_gets_no_turn_tries_again_and_is_lost_only_after_32_times() {
    for (times, settles) in [(0, true), (31, true), (32, false)] {
        let talk = talk(8, 8);
        let (client, server) = talk.peers();
        // As often a new one: its segment is taken in as a whole again.
        talk.memory.half_open4.occupy(times);
        if !settles {
            client.skipped(Contended).syn(1000);
        }
        client.syn(1000);
        server.syn_ack(5000, 1001);
        talk.memory.flows4.occupy(times);
        if settles {
            client.ack(1001, 5001);
            assert_eq!((talk.table_entries(), talk.skips(Contended)), ((1, 0), 0), "{times}");
        } else {
            client.skipped(Contended).ack(1001, 5001);
            assert_eq!((talk.table_entries(), talk.skips(Contended)), ((0, 0), 2), "{times}");
        }
        assert_eq!(talk.attempts(Outcome::Completed), 1);
    }
}
