//! A flow's history and completeness, against their definitions: Zeek's letters
//! (<https://docs.zeek.org/en/master/scripts/base/protocols/conn/main.zeek.html>, `TCP_Endpoint.cc` and
//! `TCPSessionAdapter.cc`) and Wireshark's `tcp.completeness` (packet-tcp.c). Every expectation is derived by hand.
//!
//! Letters: `s` SYN, `h` SYN-ACK, `a` pure ACK, `d` data, `f` FIN, `r` RST, `i` FIN with RST, `q` SYN with FIN or RST,
//! `t` retransmitted data, `w` zero window; capitals are the originator's. Completeness: SYN 1, SYN-ACK 2, ACK 4,
//! data 8, FIN 16, RST 32.

use std::collections::HashSet;

use proofs::memory::Memory;
use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed},
};
use tcp_observer_common::{
    conn::{Flow, Judged, Letter, Note, Role, State, Word, letter_alone, tell, tell_at_length},
    flow::Side,
    segment::{Flags, Options, Segment},
    seq::SeqNum,
};

use crate::support::{MILLISECOND, Talk};

const SYN: u8 = Flags::SYN;
const ACK: u8 = Flags::ACK;
const FIN: u8 = Flags::FIN;
const RST: u8 = Flags::RST;
const SYN_ACK: u8 = SYN | ACK;
const FIN_ACK: u8 = FIN | ACK;
const RST_ACK: u8 = RST | ACK;

/// A segment: whether the client sends it, flags, sequence and acknowledgement number, payload, window.
type Sent = (bool, u8, u32, u32, u32, u16);

fn client(flags: u8, seq: u32, ack: u32, bytes: u32) -> Sent {
    (true, flags, seq, ack, bytes, 512)
}

fn server(flags: u8, seq: u32, ack: u32, bytes: u32) -> Sent {
    (false, flags, seq, ack, bytes, 512)
}

/// The same with a window of zero.
fn closed((from_client, flags, seq, ack, bytes, _): Sent) -> Sent {
    (from_client, flags, seq, ack, bytes, 0)
}

fn told(segments: &[Sent]) -> (String, u8) {
    let talk = Talk::keeping_all();
    let (client, server) = talk.peers();
    for &(from_client, flags, seq, ack, bytes, window) in segments {
        let peer = if from_client { client } else { server };
        // Whether the machine takes it is not the question.
        let _ = peer.window(window).try_send(flags, seq, ack, bytes);
        talk.wait(200 * MILLISECOND);
    }
    (talk.history(), talk.completeness())
}

/// SYN 1000, SYN-ACK 5000, ACK, then these.
fn opened(rest: &[Sent]) -> Vec<Sent> {
    let handshake = [client(SYN, 1000, 0, 0), server(SYN_ACK, 5000, 1001, 0), client(ACK, 1001, 5001, 0)];
    [&handshake, rest].concat()
}

#[track_caller]
fn expect(segments: &[Sent], history: &str, completeness: u8) {
    assert_eq!(told(segments), (history.to_owned(), completeness), "{segments:?}");
}

#[test]
fn a_whole_life_has_a_letter_for_each_kind_of_segment_and_direction() {
    let life = opened(&[
        client(ACK, 1001, 5001, 10),
        server(ACK, 5001, 1011, 0),
        server(ACK, 5001, 1011, 20),
        client(ACK, 1011, 5021, 0),
        client(FIN_ACK, 1011, 5021, 0),
        server(FIN_ACK, 5021, 1012, 0),
        client(ACK, 1012, 5022, 0),
    ]);
    expect(&life, "ShADadFf", 31);
}

#[test]
fn attempts() {
    expect(&[client(SYN, 1000, 0, 0)], "S", 1);
    expect(&[client(SYN, 1000, 0, 0), server(RST_ACK, 0, 1001, 0)], "Sr", 1 | 32 | 4);
    expect(&[client(SYN, 1000, 0, 0), server(SYN_ACK, 5000, 1001, 0)], "Sh", 3);
    let reset = [client(SYN, 1000, 0, 0), server(SYN_ACK, 5000, 1001, 0), client(RST, 1001, 0, 0)];
    expect(&reset, "ShR", 1 | 2 | 32);
    expect(&opened(&[]), "ShA", 7);
}

#[test]
fn syns_again_add_no_letter() {
    let repeated = [
        client(SYN, 1000, 0, 0),
        client(SYN, 1000, 0, 0),
        server(SYN_ACK, 5000, 1001, 0),
        server(SYN_ACK, 5000, 1001, 0),
        client(ACK, 1001, 5001, 0),
        server(SYN_ACK, 5000, 1001, 0),
        client(SYN, 1000, 0, 0),
    ];
    expect(&repeated, "ShA", 7);
    // Zeek writes these with a flip of roles in front; ours are right from the start. SYN and SYN-ACK of one end share
    // one bit, but here they are of two.
    expect(&[server(SYN_ACK, 5000, 1001, 0), client(ACK, 1001, 5001, 0)], "hA", 6);
    let late_syn = [server(SYN_ACK, 5000, 1001, 0), client(SYN, 1000, 0, 0), client(ACK, 1001, 5001, 0)];
    expect(&late_syn, "hSA", 7);
    // Of a simultaneous open the SYN-ACKs have no letter: an end has one for SYN or SYN-ACK.
    let simultaneous = [
        client(SYN, 1000, 0, 0),
        server(SYN, 5000, 0, 0),
        client(SYN_ACK, 1000, 5001, 0),
        server(SYN_ACK, 5000, 1001, 0),
    ];
    expect(&simultaneous, "Ss", 3);
}

#[test]
fn data_on_a_syn_is_taken_for_a_retransmission_and_has_no_letter_of_its_own() {
    expect(&[client(SYN, 1000, 0, 100)], "ST", 1 | 8);
    let fast_open = [client(SYN, 1000, 0, 100), server(SYN_ACK, 5000, 1101, 0), client(ACK, 1101, 5001, 0)];
    expect(&fast_open, "SThA", 7 | 8);
    // On a SYN-ACK it does not count for completeness.
    expect(&[client(SYN, 1000, 0, 0), server(SYN_ACK, 5000, 1001, 50)], "Sht", 3);
    // Nor is there a second letter where nobody takes it: an ACK without SYN-ACK went before.
    let early = [client(SYN, 1000, 0, 0), client(ACK, 1001, 5001, 0)];
    let missed = server(SYN_ACK, 5000, 1001, 2);
    expect(&[early.as_slice(), &[missed, missed]].concat(), "SAht", 7);
    // Again: the second of the count, which has a letter at the first and the tenth.
    expect(&[client(SYN, 1000, 0, 100), client(SYN, 1000, 0, 100)], "ST", 1 | 8);
    let mut ten = vec![client(SYN, 1000, 0, 100), server(SYN_ACK, 5000, 1001, 0)];
    ten.extend([client(ACK, 1001, 5001, 100); 8]);
    expect(&ten, "SThD", 1 | 2 | 8);
    ten.push(client(ACK, 1001, 5001, 100));
    expect(&ten, "SThDT", 1 | 2 | 8);
}

#[test]
fn retransmissions_are_data_that_ends_at_or_before_the_highest_number() {
    let data = client(ACK, 1001, 5001, 10);
    expect(&opened(&[data, data]), "ShADT", 15);
    // A partial overlap is none, nor is a leap ahead; what fills the gap is one.
    expect(&opened(&[data, client(ACK, 1006, 5001, 10)]), "ShAD", 15);
    expect(&opened(&[data, client(ACK, 1021, 5001, 10)]), "ShAD", 15);
    expect(&opened(&[data, client(ACK, 1021, 5001, 10), client(ACK, 1011, 5001, 10)]), "ShADT", 15);
    // The first and the tenth.
    expect(&opened(&[data; 10]), "ShADT", 15);
    expect(&opened(&[data; 11]), "ShADTT", 15);
    // An empty keepalive is none; one with a byte of garbage is one.
    expect(&opened(&[data, client(ACK, 1010, 5001, 0)]), "ShAD", 15);
    expect(&opened(&[data, client(ACK, 1010, 5001, 1)]), "ShADT", 15);
}

#[test]
fn zero_windows_are_counted_and_have_a_letter_at_the_first_and_the_tenth() {
    let data = client(ACK, 1001, 5001, 10);
    let full = closed(server(ACK, 5001, 1011, 0));
    expect(&opened(&[data, full]), "ShADaw", 15);
    expect(&opened(&[[data].as_slice(), &[full; 9]].concat()), "ShADaw", 15);
    expect(&opened(&[[data].as_slice(), &[full; 10]].concat()), "ShADaww", 15);
    // A probe of one new byte, and the same again.
    let probe = client(ACK, 1011, 5001, 1);
    expect(&opened(&[data, full, probe, probe]), "ShADawT", 15);
    // First what it is, then the window, then the retransmission.
    expect(&opened(&[data, closed(data)]), "ShADWT", 15);
    // Of a SYN and of a SYN-ACK, too, but never of a RST.
    expect(&[closed(client(SYN, 1000, 0, 0)), closed(server(SYN_ACK, 5000, 1001, 0))], "SWhw", 3);
    expect(&opened(&[closed(client(RST, 1001, 0, 0))]), "ShAR", 7 | 32);
}

#[test]
fn after_the_peers_fin_a_zero_window_has_no_letter_and_after_the_own_one_it_has() {
    let fin = client(FIN_ACK, 1001, 5001, 0);
    expect(&opened(&[fin, closed(server(ACK, 5001, 1002, 0))]), "ShAFa", 7 | 16);
    expect(&opened(&[fin, closed(client(ACK, 1002, 5001, 0))]), "ShAFW", 7 | 16);
    // Nor after the own RST, which also ends the counting of retransmissions.
    let reset = client(RST, 1001, 0, 0);
    expect(&opened(&[reset, closed(client(ACK, 1001, 5001, 0))]), "ShAR", 7 | 32);
    let data = client(ACK, 1001, 5001, 10);
    expect(&opened(&[data, client(RST, 1011, 0, 0), data]), "ShADR", 15 | 32);
}

#[test]
fn a_fin_has_a_letter_for_each_number_and_none_for_its_data() {
    expect(&opened(&[client(FIN_ACK, 1001, 5001, 10)]), "ShAF", 7 | 8 | 16);
    let data = client(ACK, 1001, 5001, 10);
    expect(&opened(&[data, client(FIN_ACK, 1011, 5001, 5)]), "ShADF", 15 | 16);
    // Again, alone and together with data before it: the same FIN.
    let fin = client(FIN_ACK, 1011, 5001, 0);
    expect(&opened(&[data, fin, fin]), "ShADF", 15 | 16);
    expect(&opened(&[data, fin, client(FIN_ACK, 1001, 5001, 10)]), "ShADFT", 15 | 16);
    // Another one.
    expect(&opened(&[data, fin, client(FIN_ACK, 1500, 5001, 0)]), "ShADFF", 15 | 16);
    // Without ACK it counts for the history and not for completeness.
    expect(&opened(&[client(FIN, 1001, 0, 0)]), "ShAF", 7);
    // Both at once.
    expect(&opened(&[client(FIN_ACK, 1001, 5001, 0), server(FIN_ACK, 5001, 1001, 0)]), "ShAFf", 7 | 16);
}

#[test]
fn a_rst_has_a_letter_for_each_number_and_none_for_its_data() {
    let reset = client(RST, 1001, 0, 0);
    expect(&opened(&[reset, reset]), "ShAR", 7 | 32);
    expect(&opened(&[reset, client(RST, 1002, 0, 0), reset]), "ShARRR", 7 | 32);
    // Its payload takes no numbers, so that the RST ends where the last segment did: a retransmission.
    expect(&opened(&[server(RST_ACK, 5001, 1001, 20)]), "ShArt", 7 | 8 | 32);
    expect(&[client(RST_ACK, 1001, 5001, 20)], "RT", 8 | 32);
    // One that nobody takes has one as well.
    expect(&opened(&[client(RST, 500_000_000, 0, 0), client(ACK, 1001, 5001, 10)]), "ShARD", 15 | 32);
}

#[test]
fn flags_that_no_tcp_sends_have_letters_of_their_own() {
    expect(&opened(&[client(FIN | RST | ACK, 1001, 5001, 0)]), "ShAI", 7 | 16 | 32);
    expect(&opened(&[server(SYN | FIN | RST, 5001, 0, 0)]), "ShAi", 7 | 32);
    // Its sender has no connection any more whose window could be closed.
    expect(
        &opened(&[server(FIN | RST | ACK, 5001, 1001, 0), closed(server(ACK, 5002, 1001, 0))]),
        "ShAia",
        7 | 16 | 32,
    );
    // The FIN takes a number, so that the segment's data is new.
    expect(&opened(&[server(FIN | RST | ACK, 5001, 1001, 3)]), "ShAi", 7 | 8 | 16 | 32);
    expect(&[client(FIN | RST, 1001, 0, 3)], "I", 32);
    expect(&opened(&[client(SYN | FIN, 1001, 0, 0)]), "ShAQ", 7);
    expect(&opened(&[client(SYN | RST, 1001, 0, 0)]), "ShAQ", 7 | 32);
    // Once.
    expect(&opened(&[client(SYN | FIN, 1001, 0, 0), client(SYN | FIN, 1005, 0, 0)]), "ShAQ", 7);
    // Nothing at all says nothing, unless there is data.
    expect(&opened(&[server(0, 5001, 0, 0)]), "ShA", 7);
    expect(&opened(&[server(0, 5001, 0, 10)]), "ShAd", 7);
}

#[test]
fn flows_picked_up() {
    expect(&[client(ACK, 1001, 5001, 10), server(ACK, 5001, 1011, 10)], "Dd", 8);
    // The first data is never a retransmission.
    expect(&[client(ACK, 1001, 5001, 10), client(ACK, 1001, 5001, 10)], "DT", 8);
    expect(&[client(ACK, 1001, 5001, 0), server(ACK, 5001, 1001, 0)], "Aa", 4);
    expect(&[client(FIN_ACK, 1001, 5001, 0), server(FIN_ACK, 5001, 1002, 0)], "Ff", 4 | 16);
    expect(&[server(RST, 5001, 0, 0)], "r", 32);
    expect(&[client(SYN | FIN, 1001, 0, 0)], "Q", 1);
}

// ---- Room ----

#[test]
fn twenty_four_letters_are_kept() {
    let resets: Vec<Sent> = (0..100).map(|round| client(RST, 2000 + round, 0, 0)).collect();
    let (history, _) = told(&opened(&resets));
    // The handshake's three and the first of them, then as many repetitions as leave room for what comes first.
    assert_eq!(history, format!("ShA{}", "R".repeat(14)));
    let rest = [server(FIN_ACK, 5001, 1001, 0), client(FIN_ACK, 1001, 5001, 0), server(RST, 5002, 0, 0)];
    let (history, _) = told(&opened(&[resets, rest.to_vec()].concat()));
    assert_eq!(history, format!("ShA{}fFr", "R".repeat(14)));
}

#[test]
fn repetitions_leave_room_for_what_comes_first_and_that_for_the_ends() {
    let resets: Vec<Sent> = (0..100).map(|round| client(RST, 2000 + round, 0, 0)).collect();
    // Three letters that come first fill twenty places; the fourth has none.
    let firsts = [server(ACK, 5001, 1001, 10), server(ACK, 5011, 1001, 0), client(ACK, 1001, 5001, 10)];
    let late = client(SYN | FIN, 1001, 0, 0);
    let ends = [server(FIN_ACK, 5011, 1001, 0), client(FIN_ACK, 1011, 5001, 0), server(RST, 5012, 0, 0)];
    let (history, _) = told(&opened(&[&resets[..], &firsts, &[late], &ends].concat()));
    assert_eq!(history, format!("ShA{}daDfFr", "R".repeat(14)));
}

fn without_syn() -> impl Strategy<Value = Sent> {
    let flags = prop::sample::select(vec![ACK, ACK, FIN_ACK, FIN_ACK, RST, RST_ACK, FIN | RST, 0, FIN]);
    let window = prop::sample::select(vec![0_u16, 0, 512]);
    (any::<bool>(), flags, 0..200_u32, 0..50_u32, 0..3_u32, window).prop_map(
        |(from_client, flags, seq, ack, bytes, window)| {
            let (own, other) = if from_client { (1001, 5001) } else { (5001, 1001) };
            (from_client, flags, own + seq, other + ack, bytes, window)
        },
    )
}

proptest! {
    #![proptest_config(Config { cases: 256, rng_seed: RngSeed::Fixed(9), failure_persistence: None, ..Config::default() })]

    #[test]
    fn the_first_fin_and_the_first_rst_of_a_direction_are_never_lost(
        segments in prop::collection::vec(without_syn(), 1..120),
    ) {
        let (history, _) = told(&opened(&segments));
        prop_assert!(history.len() <= 24);
        for (from_client, flag, letter) in [(true, FIN, 'F'), (false, FIN, 'f'), (true, RST, 'R'), (false, RST, 'r')] {
            let controls = |flags| flags & (SYN | FIN | RST);
            let sent = segments.iter().any(|sent| sent.0 == from_client && controls(sent.1) == flag);
            prop_assert_eq!(history.contains(letter), sent, "{} in {}", letter, history);
        }
    }
}

/// Flags of all kinds with every note, towards a peer that lives, has closed or is gone; as the first of their kind and
/// again.
#[test]
fn what_is_told_by_a_letter_alone_is_what_would_be_told_at_length() {
    let told = |tell: fn(&Memory, &Flow, &Segment, Judged) -> u64, segment: &Segment, judged, letters| {
        let (memory, flow) = (Memory::new(0), Flow::default());
        flow.half(Side::Low).letters.set(letters);
        let notes = tell(&memory, &flow, segment, judged);
        (notes, format!("{flow:?}"), memory.counters.into_inner())
    };
    let controls = [0, SYN, SYN_ACK, ACK, FIN, FIN_ACK, RST, RST_ACK, SYN | FIN, FIN | RST, SYN | RST, SYN_ACK | FIN];
    let flags = controls.iter().flat_map(|flags| [0, Flags::ECE, Flags::CWR, Flags::PSH].map(|more| flags | more));
    let peers = [State::Established, State::FinWait1, State::Closed];
    let judged = flags.flat_map(|flags| Note::ALL.iter().flat_map(move |&note| peers.map(|peer| (flags, note, peer))));
    let kinds = [(1, 0, 0, 0), (0, 0, 0, 0), (1, 1, 0, 0), (1, 0, Options::FAST_OPEN, 0), (1, 0, 0, 1)];
    let mut alone = HashSet::new();
    for ((flags, note, peer), (window, payload_bytes, present, accurate_ecn)) in
        judged.flat_map(|judged| kinds.map(|kind| (judged, kind)))
    {
        let segment = Segment {
            seq: SeqNum(7),
            ack: SeqNum(9),
            payload_bytes,
            wire_segments: 1,
            window,
            flags: Flags(flags),
            accurate_ecn,
            options: Options { present, ..Options::NONE },
        };
        let word = Word::fresh(0).with_state(Role::Responder, peer);
        let judged = Judged { word, from: Role::Originator, note, next_seq: SeqNum(7) };
        for letters in [0, u8::MAX] {
            let flow = Flow::default();
            flow.half(Side::Low).letters.set(letters);
            alone.extend(letter_alone(&flow, &segment, judged));
            let [short, long] = [tell, tell_at_length].map(|tell| told(tell, &segment, judged, letters));
            assert!(short == long, "{segment:?} {judged:?}: {} and not {}", short.1, long.1);
        }
    }
    assert_eq!(alone, HashSet::from([Letter::Syn, Letter::SynAck, Letter::Ack, Letter::Fin]));
}
