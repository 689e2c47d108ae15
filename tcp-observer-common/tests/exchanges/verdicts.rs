//! The verdict on each kind of segment in each pair of states, with numbers in place: a table in conntrack's manner,
//! written by hand from RFC 9293, section 3.10.7, and RFC 5961.
//!
//! A row is a pair of states that a talk reaches, its columns what the client, then the server may send next: `A` is
//! accepted, `s` is stale, `N` begins a new incarnation. A SYN has a number beyond all others, a SYN-ACK another
//! number than the first.

use tcp_observer_common::{
    conn::{
        State::{self, *},
        Word,
    },
    counters::{Eviction, Skip},
    segment::Flags,
};

use crate::support::Talk;

/// The kinds of segments, in the order of the columns.
const KINDS: [u8; 6] = [
    Flags::SYN,
    Flags::SYN | Flags::ACK,
    Flags::ACK,
    Flags::ACK | Flags::PSH,
    Flags::FIN | Flags::ACK,
    Flags::RST | Flags::ACK,
];

struct Row {
    /// Leads to the states; afterwards the client goes on at the first number, the server at the second.
    lead: fn(&Talk),
    next: (u32, u32),
    states: (State, State),
    client: &'static str,
    server: &'static str,
}

fn syn(talk: &Talk) {
    talk.peers().0.syn(1000);
}

fn syn_ack(talk: &Talk) {
    syn(talk);
    talk.peers().1.syn_ack(5000, 1001);
}

fn fin(talk: &Talk) {
    talk.open();
    talk.peers().0.fin(1001, 5001);
}

fn half_close(talk: &Talk) {
    fin(talk);
    talk.peers().1.ack(5001, 1002);
}

fn second_fin(talk: &Talk) {
    half_close(talk);
    talk.peers().1.fin(5001, 1002);
}

fn crossing_fins(talk: &Talk) {
    fin(talk);
    talk.peers().1.fin(5001, 1001);
}

fn refusal(talk: &Talk) {
    syn(talk);
    talk.peers().1.rst_ack(0, 1001);
}

fn reset(talk: &Talk) {
    talk.open();
    talk.peers().1.rst(5001);
}

// Columns: SYN, SYN-ACK, ACK, data, FIN, RST.
const ROWS: [Row; 10] = [
    // An ACK of the client's whose SYN-ACK was not seen is one of a flow that passes elsewhere; one of the server's is
    // half of a split handshake. What comes with data or FIN is dropped: of a local client no SYN-ACK was missed.
    Row { lead: syn, next: (1001, 5001), states: (SynSent, Listen), client: "NsAAAA", server: "AAAssA" },
    // A server's listener may answer again with another number (SYN cookies).
    Row { lead: syn_ack, next: (1001, 5001), states: (SynSent, SynReceived), client: "ssAAAA", server: "sAAAAA" },
    Row {
        lead: Talk::open,
        next: (1001, 5001),
        states: (Established, Established),
        client: "ssAAAA",
        server: "ssAAAA",
    },
    // A second FIN beyond the first is no FIN of this stream.
    Row { lead: fin, next: (1002, 5001), states: (FinWait1, CloseWait), client: "ssAAsA", server: "ssAAAA" },
    Row { lead: half_close, next: (1002, 5001), states: (FinWait2, CloseWait), client: "ssAAsA", server: "ssAAAA" },
    Row { lead: second_fin, next: (1002, 5002), states: (TimeWait, LastAck), client: "ssAAsA", server: "ssAAsA" },
    Row { lead: crossing_fins, next: (1002, 5002), states: (Closing, Closing), client: "ssAAsA", server: "ssAAsA" },
    // The one in TIME-WAIT opens again as it likes, its peer with a number beyond the last; and a SYN-ACK says that
    // a SYN was taken which did not look so.
    Row {
        lead: Talk::open_and_close,
        next: (1002, 5002),
        states: (TimeWait, Closed),
        client: "NNAAsA",
        server: "NNAAsA",
    },
    // After a reset each end may open; what trails in is accepted without meaning anything. A refused attempt is
    // over for everything but a SYN; another RST says no more than the first.
    Row { lead: reset, next: (1001, 5001), states: (Closed, Closed), client: "NNAAAA", server: "NNAAAA" },
    Row { lead: refusal, next: (1001, 5001), states: (Closed, Closed), client: "NssssA", server: "NssssA" },
];

fn verdict(row: &Row, from_client: bool, flags: u8) -> char {
    let talk = Talk::new();
    (row.lead)(&talk);
    talk.expect(row.states.0, row.states.1);
    let (client, server) = talk.peers();
    let (peer, seq, ack) =
        if from_client { (client, row.next.0, row.next.1) } else { (server, row.next.1, row.next.0) };
    let seq = if flags & Flags::SYN != 0 { seq + 100_000 } else { seq };
    let bytes = if flags & Flags::PSH != 0 { 10 } else { 0 };
    let reused = |talk: &Talk| -> u64 {
        talk.counters().evictions.iter().map(|by_reason| by_reason[Eviction::Reused.index()]).sum()
    };
    match peer.try_send(flags, seq, ack, bytes) {
        Ok(()) if reused(&talk) > 0 => 'N',
        Ok(()) => 'A',
        Err(Skip::Stale) => 's',
        Err(reason) => panic!("{reason:?}"),
    }
}

#[test]
fn each_kind_of_segment_in_each_state_has_the_tables_verdict() {
    for row in &ROWS {
        for (from_client, expected) in [(true, row.client), (false, row.server)] {
            let actual: String = KINDS.iter().map(|&flags| verdict(row, from_client, flags)).collect();
            assert_eq!(actual, expected, "{:?}, from client: {from_client}", row.states);
        }
    }
}

/// Pairs that no talk reaches included: the word may be anything, the machine must answer all the same.
#[test]
fn no_pair_of_states_and_no_segment_makes_the_machine_panic() {
    use tcp_observer_common::conn::{Outcome, Role};
    for &originator in State::ALL {
        for &responder in State::ALL {
            for &outcome in Outcome::ALL {
                for flags in KINDS {
                    for from_client in [true, false] {
                        let talk = Talk::new();
                        talk.open();
                        let cell = &talk.flow().word;
                        let word: Word = cell
                            .load()
                            .with_state(Role::Originator, originator)
                            .with_state(Role::Responder, responder)
                            .with_outcome(outcome);
                        cell.0.set(word.0);
                        let (client, server) = talk.peers();
                        let peer = if from_client { client } else { server };
                        let _ = peer.try_send(flags, 1001, 5001, 1);
                    }
                }
            }
        }
    }
}
