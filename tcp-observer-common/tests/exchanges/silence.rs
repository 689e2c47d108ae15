//! What silence ends, when, and how a flow that is over leaves its table.

use tcp_observer_common::{
    conn::{How, Initiator, Note, Outcome, Phase, State::*, Word},
    counters::{Endedness, Eviction, TableKind},
    sweep::{Found, end_without_socket},
};

use crate::support::{SECOND, SERVER_ADDR, Talk};

const DAY: u64 = 86_400 * SECOND;

fn evicted(talk: &Talk, table: TableKind, reason: Eviction) -> u64 {
    talk.counters().evictions[table.index()][reason.index()]
}

fn all_evicted(talk: &Talk) -> u64 {
    talk.counters().evictions.iter().flatten().sum()
}

#[test]
fn an_unanswered_syn_times_out_after_the_longest_wait_for_a_repetition() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    client.syn(1000);
    // Linux's last SYN comes 63 s after the first, and it gives up 64 s after that.
    for gap in [1, 2, 4, 8, 16, 32] {
        talk.wait(gap * SECOND);
        client.syn(1000);
    }
    talk.sweep_after(64 * SECOND);
    talk.expect(SynSent, Listen);
    talk.wait(SECOND);
    assert_eq!(talk.settled_states(), (Closed, Closed));
    talk.expect(SynSent, Listen);
    talk.memory.sweep();
    talk.expect(Closed, Closed);
    talk.expect_outcome(Outcome::TimedOut);
    assert_eq!((talk.attempts(Outcome::TimedOut), talk.all_attempts()), (1, 1));
    assert_eq!(client.half().syn_retransmits.get(), 6);
}

#[test]
fn an_attempt_that_timed_out_lingers_and_leaves_as_timed_out() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    client.syn(1000);
    talk.sweep_after(65 * SECOND);
    talk.sweep_after(5 * SECOND);
    assert_eq!(talk.table_entries(), (0, 1));
    talk.sweep_after(1);
    assert_eq!(talk.table_entries(), (0, 0));
    assert_eq!(evicted(&talk, TableKind::HalfOpenIpv4, Eviction::TimedOut), 1);
    assert_eq!((all_evicted(&talk), talk.all_attempts(), talk.all_closes()), (1, 1, 0));
}

#[test]
fn a_lost_syn_ack_leaves_the_server_half_open_until_its_retries_end() {
    let talk = Talk::on_server();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.syn_ack(5000, 1001);
    // Linux repeats after 1, 2, 4, 8 and 16 s, and gives up 32 s later.
    for gap in [1, 2, 4, 8, 16] {
        talk.sweep_after(gap * SECOND);
        server.syn_ack(5000, 1001);
    }
    talk.sweep_after(32 * SECOND);
    talk.expect(SynSent, SynReceived);
    talk.expect_phase(Phase::HalfOpen);
    talk.sweep_after(SECOND);
    talk.expect_outcome(Outcome::TimedOut);
    assert_eq!(server.half().syn_retransmits.get(), 5);
    assert_eq!(talk.attempts(Outcome::TimedOut), 1);
}

#[test]
fn a_syn_after_the_timeout_is_another_attempt() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    client.syn(1000);
    talk.sweep_after(65 * SECOND);
    client.syn(1000);
    talk.expect(SynSent, Listen);
    assert_eq!((talk.attempts(Outcome::TimedOut), talk.attempts(Outcome::Abandoned)), (1, 0));
}

#[test]
fn a_closed_flow_lingers_and_leaves_as_closed() {
    let talk = Talk::new();
    talk.open_and_close();
    talk.sweep_after(60 * SECOND);
    talk.expect(TimeWait, Closed);
    talk.sweep_after(SECOND);
    talk.expect(Closed, Closed);
    talk.sweep_after(5 * SECOND);
    assert_eq!(talk.table_entries(), (1, 0));
    talk.sweep_after(SECOND);
    assert_eq!(talk.table_entries(), (0, 0));
    assert_eq!(evicted(&talk, TableKind::FlowsIpv4, Eviction::Closed), 1);
    assert_eq!((all_evicted(&talk), talk.all_closes()), (1, 1));
}

#[test]
fn a_refused_attempt_lingers_and_leaves_as_closed() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.rst_ack(0, 1001);
    talk.sweep_after(5 * SECOND);
    assert_eq!(talk.table_entries(), (0, 1));
    talk.sweep_after(1);
    assert_eq!(talk.table_entries(), (0, 0));
    assert_eq!(evicted(&talk, TableKind::HalfOpenIpv4, Eviction::Closed), 1);
}

#[test]
fn a_flow_that_is_never_confirmed_leaves_as_unconfirmed() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    client.data(1001, 5001, 10);
    talk.sweep_after(120 * SECOND);
    talk.expect(Established, Unknown);
    talk.sweep_after(1);
    talk.expect(Closed, Closed);
    talk.sweep_after(6 * SECOND);
    assert_eq!(talk.table_entries(), (0, 0));
    assert_eq!(evicted(&talk, TableKind::HalfOpenIpv4, Eviction::Unconfirmed), 1);
    assert_eq!((all_evicted(&talk), talk.all_closes(), talk.all_attempts()), (1, 0, 0));
}

#[test]
fn an_established_flow_may_be_silent_for_days() {
    let talk = Talk::new();
    talk.open();
    talk.sweep_after(5 * DAY);
    talk.expect(Established, Established);
    talk.sweep_after(1);
    talk.expect(Closed, Closed);
    talk.expect_close(Initiator::Nobody, How::Timeout);
    assert_eq!(talk.counters().closes[Endedness::Nobody.index()][How::Timeout.index()], 1);
    talk.sweep_after(6 * SECOND);
    assert_eq!(evicted(&talk, TableKind::FlowsIpv4, Eviction::TimedOut), 1);
}

#[test]
fn any_segment_of_either_end_breaks_the_silence() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    talk.sweep_after(4 * DAY);
    server.ack(5001, 1001);
    talk.sweep_after(4 * DAY);
    client.ack(1000, 5001);
    talk.sweep_after(4 * DAY);
    talk.expect(Established, Established);
}

#[test]
fn our_own_fin_wait_2_is_an_orphan_after_a_minute() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    talk.open();
    client.fin(1001, 5001);
    server.ack(5001, 1002);
    talk.sweep_after(60 * SECOND);
    talk.expect(FinWait2, CloseWait);
    talk.sweep_after(1);
    talk.expect(Closed, Closed);
    talk.expect_close(Initiator::Originator, How::Timeout);
}

#[test]
fn our_own_close_wait_lasts_as_long_as_its_application_likes() {
    let mut talk = Talk::new();
    talk.memory.local4 = vec![SERVER_ADDR];
    let (client, server) = talk.peers();
    talk.open();
    client.fin(1001, 5001);
    server.ack(5001, 1002);
    talk.sweep_after(DAY);
    talk.expect(FinWait2, CloseWait);
}

#[test]
fn a_fin_that_nobody_acknowledges_is_given_up() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    talk.open();
    client.fin(1001, 5001);
    talk.sweep_after(130 * SECOND);
    talk.expect(FinWait1, CloseWait);
    talk.sweep_after(1);
    talk.expect(Closed, Closed);
    talk.expect_close(Initiator::Originator, How::Timeout);
    assert_eq!(talk.counters().closes[Endedness::Local.index()][How::Timeout.index()], 1);
}

#[test]
fn sweeping_again_changes_nothing_more() {
    let talk = Talk::new();
    let (client, _) = talk.peers_from(50000);
    talk.open_and_close();
    client.syn(1);
    talk.sweep_after(66 * SECOND);
    let counters = talk.counters();
    talk.memory.sweep();
    talk.memory.sweep();
    assert_eq!(talk.counters(), counters);
}

#[test]
fn a_flow_that_was_picked_up_and_confirmed_leaves_as_closed() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.data(1001, 5001, 10);
    server.ack(5001, 1011);
    client.ack(1011, 5001);
    client.rst(1011);
    talk.expect(Closed, Closed);
    talk.sweep_after(6 * SECOND);
    assert_eq!(talk.table_entries(), (0, 0));
    assert_eq!(evicted(&talk, TableKind::FlowsIpv4, Eviction::Closed), 1);
}

// ---- Sockets that are gone ----

/// What is left of an open flow when its socket is found gone by somebody who had seen this of it before.
fn without_socket(word: impl Fn(Word) -> Word, last_seen_later_ns: u64) -> Talk {
    let talk = Talk::new();
    talk.open();
    let flow = talk.flow();
    let found = Found { word: word(talk.word()), last_seen_ns: flow.last_seen_ns() + last_seen_later_ns };
    let (key, _) = talk.key(&talk.peers().0);
    talk.wait(SECOND);
    end_without_socket(&talk.memory, &key, &flow, found, talk.now_ns());
    talk
}

#[test]
fn a_flow_whose_socket_is_gone_has_ended_unseen() {
    let talk = without_socket(|word| word, 0);
    talk.expect(Closed, Closed);
    talk.expect_close(Initiator::Nobody, How::Timeout);
    talk.expect_notes([Note::SocketGone]);
    assert_eq!((talk.noted(Note::SocketGone), talk.all_closes()), (1, 1));
    assert_eq!(talk.flow().times.changed_ns.get(), talk.now_ns());
}

#[test]
fn a_flow_to_which_something_has_happened_since_it_was_found_lives_on() {
    for talk in [without_socket(|word| word.in_epoch(9), 0), without_socket(|word| word, 1)] {
        talk.expect(Established, Established);
        talk.expect_notes([]);
    }
}
