//! Opening: attempts that an ICMP error ends, since it quotes their SYN
//! (<https://www.rfc-editor.org/rfc/rfc5927#section-4>).

use tcp_observer_common::{
    conn::{Note, Outcome, Phase, State::*},
    counters::{Skip, Unreachable},
};

use crate::support::{SECOND, Talk};

#[test]
fn an_error_that_quotes_the_syn_ends_the_attempt_whatever_the_reason() {
    for &reason in Unreachable::ALL {
        let talk = Talk::new();
        let (client, _) = talk.peers();
        client.syn(1000);
        assert_eq!(talk.quote(&client, 1000, reason), Ok(()));
        talk.expect(Closed, Closed);
        talk.expect_phase(Phase::Closed);
        talk.expect_outcome(Outcome::Unreachable);
        talk.expect_notes([Note::Unreachable]);
        assert_eq!(talk.flow().story.unreachable(), Some(reason));
        assert_eq!(talk.counters().unreachable[reason.index()], 1);
        assert_eq!((talk.attempts(Outcome::Unreachable), talk.all_attempts()), (1, 1));
    }
}

#[test]
fn it_does_so_over_ipv6() {
    let talk = Talk::new_v6();
    let (client, _) = talk.peers();
    client.syn(1000);
    assert_eq!(talk.quote(&client, 1000, Unreachable::Prohibited), Ok(()));
    talk.expect_outcome(Outcome::Unreachable);
    assert_eq!(talk.flow().story.unreachable(), Some(Unreachable::Prohibited));
}

#[test]
fn a_flow_without_such_an_error_has_no_reason() {
    let talk = Talk::new();
    talk.open();
    assert_eq!(talk.flow().story.unreachable(), None);
}

#[test]
fn a_quote_of_another_number_changes_nothing() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    for seq in [999, 1001, 0, 1000 + (1 << 31)] {
        assert_eq!(talk.quote(&client, seq, Unreachable::Port), Err(Skip::NotTcp));
    }
    // Nor does one of a SYN that the server is said to have sent.
    assert_eq!(talk.quote(&server, 1000, Unreachable::Port), Err(Skip::NotTcp));
    talk.expect(SynSent, Listen);
    talk.expect_notes([]);
    assert_eq!(talk.counters().unreachable, [0; Unreachable::COUNT]);
}

#[test]
fn a_quote_after_the_answer_changes_nothing() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.syn_ack(5000, 1001);
    assert_eq!(talk.quote(&client, 1000, Unreachable::Host), Err(Skip::NotTcp));
    assert_eq!(talk.quote(&server, 5000, Unreachable::Host), Err(Skip::NotTcp));
    client.ack(1001, 5001);
    // RFC 1122, section 4.2.3.9: an established connection is not aborted.
    assert_eq!(talk.quote(&client, 1000, Unreachable::Host), Err(Skip::NotTcp));
    assert_eq!(talk.quote(&client, 1001, Unreachable::Host), Err(Skip::NotTcp));
    talk.expect(Established, Established);
}

#[test]
fn a_quote_of_no_known_flow_changes_nothing() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    assert_eq!(talk.quote(&client, 1000, Unreachable::Host), Err(Skip::NotTcp));
    assert_eq!(talk.table_entries(), (0, 0));
}

#[test]
fn the_second_error_for_one_attempt_counts_nothing() {
    let talk = Talk::new();
    let (client, _) = talk.peers();
    client.syn(1000);
    assert_eq!(talk.quote(&client, 1000, Unreachable::Host), Ok(()));
    assert_eq!(talk.quote(&client, 1000, Unreachable::Network), Err(Skip::NotTcp));
    assert_eq!(talk.flow().story.unreachable(), Some(Unreachable::Host));
    assert_eq!(talk.all_attempts(), 1);
}

#[test]
fn the_same_syn_again_goes_on_with_the_attempt() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    assert_eq!(talk.quote(&client, 1000, Unreachable::Host), Ok(()));
    talk.wait(SECOND);
    client.syn(1000);
    talk.expect(SynSent, Listen);
    talk.expect_notes([Note::SynRepeated, Note::Unreachable]);
    // The error once more: still one attempt.
    assert_eq!(talk.quote(&client, 1000, Unreachable::Host), Ok(()));
    assert_eq!(talk.all_attempts(), 1);
    talk.wait(2 * SECOND);
    client.syn(1000);
    server.syn_ack(5000, 1001);
    client.ack(1001, 5001);
    talk.expect_outcome(Outcome::Completed);
    assert_eq!(talk.flow().story.unreachable(), Some(Unreachable::Host));
}

#[test]
fn another_syn_is_another_attempt() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    assert_eq!(talk.quote(&client, 1000, Unreachable::Host), Ok(()));
    talk.wait(SECOND);
    client.syn(9000);
    talk.expect(SynSent, Listen);
    talk.expect_notes([Note::TupleReused]);
    server.syn_ack(5000, 9001);
    client.ack(9001, 5001);
    talk.expect_outcome(Outcome::Completed);
    assert_eq!(talk.flow().story.unreachable(), None);
    assert_eq!(talk.all_attempts(), 2);
}
