//! Full and contended tables: the segment that finds no room, or always comes too late, is skipped, and costs nobody
//! else anything.

use tcp_observer_common::{
    conn::{Mark, Note, Outcome, State::*},
    counters::{Eviction, Skip::*, TableKind},
    seq::SeqNum,
};

use crate::support::Talk;

#[test]
fn a_syn_without_room_is_skipped_and_nothing_else_changes() {
    let talk = Talk::new();
    talk.memory.half_open4.limit(1);
    let (client, server) = talk.peers();
    let (other_client, other_server) = talk.peers_from(40001);
    client.syn(1000);
    let before = talk.counters();
    other_client.skipped(TableFull).syn(1);
    other_client.skipped(TableFull).data(2, 1, 5);
    other_client.skipped(TableFull).fin(2, 1);
    other_server.skipped(TableFull).syn_ack(1, 2);
    let mut after = talk.counters();
    assert_eq!(core::mem::take(&mut after.skipped[TableFull.index()]), 4);
    assert_eq!(after, before);
    server.syn_ack(5000, 1001);
    client.ack(1001, 5001);
    talk.expect(Established, Established);
    // It has moved on, and there is room again.
    other_client.syn(1);
    assert_eq!(talk.table_entries(), (1, 1));
}

#[test]
fn a_flood_of_syns_does_not_touch_established_flows() {
    let talk = Talk::new();
    talk.memory.half_open4.limit(8);
    talk.open();
    for port in 1025..1100 {
        let _ = talk.peers_from(port).0.try_send(tcp_observer_common::segment::Flags::SYN, 1, 0, 0);
    }
    assert_eq!(talk.table_entries(), (1, 8));
    assert_eq!(talk.skips(TableFull), 75 - 8);
    let (client, _) = talk.peers();
    client.data(1001, 5001, 10);
    talk.expect(Established, Established);
}

#[test]
fn a_handshake_that_completes_without_room_was_completed_all_the_same() {
    let talk = Talk::new();
    talk.memory.flows4.limit(1);
    talk.open();
    let (client, server) = talk.peers_from(40001);
    client.syn(1);
    server.syn_ack(1, 2);
    client.skipped(TableFull).ack(2, 2);
    assert_eq!(talk.attempts(Outcome::Completed), 2);
    assert_eq!(talk.table_entries(), (1, 0));
    talk.expect(Established, Established);
}

#[test]
fn a_new_incarnation_without_room_leaves_the_old_flow_as_it_is() {
    let talk = Talk::new();
    talk.open_and_close();
    talk.memory.half_open4.limit(0);
    let (client, _) = talk.peers();
    let word = talk.word();
    client.skipped(TableFull).syn(90_000);
    assert_eq!(talk.word(), word);
    talk.expect(TimeWait, Closed);
    assert_eq!(client.half().isn.get(), SeqNum(1000));
}

/// Another CPU puts a flow into the same bucket just then.
#[test]
fn a_new_attempt_that_gets_no_turn_leaves_nothing_of_the_old_one_and_begins_the_next_time() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    talk.memory.half_open4.occupy(1);
    client.syn(90_000);
    assert_eq!((talk.table_entries(), talk.attempts(Outcome::Abandoned), talk.skips(Contended)), ((0, 1), 1, 0));
    assert_eq!(client.half().isn.get(), SeqNum(90_000));
    // Each time the old one is gone already, or is none.
    client.syn(5_000);
    talk.memory.half_open4.occupy(32);
    client.skipped(Contended).syn(7_000);
    assert_eq!((talk.table_entries(), talk.attempts(Outcome::Abandoned)), ((0, 0), 3));
    client.syn(7_000);
    server.syn_ack(5000, 7_001);
    client.ack(7_001, 5001);
    talk.expect(Established, Established);
}

/// The sweep changes it just then, or takes it out.
#[test]
fn an_old_flow_that_another_cpu_changes_leaves_with_the_new_one_in_or_is_left_to_it() {
    for (slower, is_left) in [(0, false), (1, false), (2, true)] {
        let talk = Talk::new();
        talk.open_and_close();
        talk.memory.contention.set(slower);
        talk.peers().0.syn(90_000);
        let reused = talk.counters().evictions[TableKind::FlowsIpv4.index()][Eviction::Reused.index()];
        assert_eq!((talk.table_entries(), reused), ((usize::from(is_left), 1), u64::from(!is_left)), "{slower}");
        assert_eq!(talk.memory.contention.get(), 0);
    }
}

#[test]
fn a_segment_looks_again_when_another_cpu_was_faster() {
    let talk = Talk::new();
    talk.open();
    let (client, _) = talk.peers();
    talk.memory.contention.set(3);
    client.fin(1001, 5001);
    talk.expect(FinWait1, CloseWait);
    assert_eq!(client.half().packets.get(), 3);
}

#[test]
fn a_segment_that_always_comes_too_late_is_contended_and_changes_nothing() {
    let talk = Talk::new();
    talk.open();
    let (client, _) = talk.peers();
    let before = talk.counters();
    talk.memory.contention.set(32);
    client.skipped(Contended).fin(1001, 5001);
    talk.expect(Established, Established);
    let mut after = talk.counters();
    assert_eq!(core::mem::take(&mut after.skipped[Contended.index()]), 1);
    assert_eq!(after, before);
}

/// As it is found while another CPU moves or replaces it.
#[test]
fn an_entry_that_is_on_its_way_out_takes_no_segment() {
    let talk = Talk::new();
    talk.open();
    let (client, _) = talk.peers();
    let word = talk.word();
    let leaving = [word.with(Mark::Retired), word.with_outcome(Outcome::InProgress)];
    for leaving in leaving {
        talk.flow().word.0.set(leaving.0);
        client.skipped(Contended).fin(1001, 5001);
        assert_eq!((talk.word(), client.half().packets.get()), (leaving, 2));
    }
    talk.flow().word.0.set(word.0);
    client.fin(1001, 5001);
}

#[test]
fn a_letter_or_a_note_is_tried_twice_and_then_missing() {
    for (slower, history) in [(1, "ShAd"), (2, "ShA")] {
        let talk = Talk::new();
        talk.open();
        let (_, server) = talk.peers();
        talk.memory.contention.set(slower);
        server.data(5001, 1001, 10);
        talk.expect_history(history);
        assert_eq!(talk.memory.contention.get(), 0);
    }
    for (slower, is_noted) in [(1, true), (2, false)] {
        let talk = Talk::new();
        talk.open();
        let (client, _) = talk.peers();
        client.data(1001, 5001, 10);
        talk.memory.contention.set(slower);
        client.data(1101, 5001, 10);
        assert_eq!(talk.flow().story.has(Note::OutOfOrder), is_noted);
    }
}
