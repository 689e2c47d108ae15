//! The shortest path: which segments end there, and which take the longer way because something about them is new.
//!
//! Both ways leave the same record, so that nothing but the question itself can tell them apart.

use tcp_observer_common::{
    conn::LULL_NS,
    counters::HookDirection,
    flow::Ipv4,
    observer::{Sighting, Tap, on_steady},
    segment::{Flags, Options, Segment},
    seq::SeqNum,
};

use crate::support::{MILLISECOND, Peer, Talk};

const ACK: u8 = Flags::ACK;

/// Whether a segment of the client's with this window ends on the shortest path, on interface 1.
fn ends_there(talk: &Talk, sender: &Peer<'_, Ipv4>, flags: u8, seq: u32, payload_bytes: u32, window: u16) -> bool {
    ends_there_on(Tap::new(1, HookDirection::Egress), talk, sender, flags, seq, payload_bytes, window)
}

fn ends_there_on(
    tap: Tap,
    talk: &Talk,
    sender: &Peer<'_, Ipv4>,
    flags: u8,
    seq: u32,
    payload_bytes: u32,
    window: u16,
) -> bool {
    let segment = Segment {
        seq: SeqNum(seq),
        ack: SeqNum(5001),
        payload_bytes,
        wire_segments: 1,
        window,
        flags: Flags(flags),
        accurate_ecn: 0,
        options: Options::NONE,
    };
    let (key, side) = talk.key(sender);
    on_steady(&talk.memory, &key, Sighting { side, segment: &segment, tap })
}

/// An established flow whose client has sent an ACK and data before, and goes on at 1101.
fn living() -> Talk {
    let talk = Talk::new();
    talk.open();
    let (client, server) = talk.peers();
    client.data(1001, 5001, 100);
    server.ack(5001, 1101);
    talk
}

#[test]
fn data_in_order_and_acks_end_there() {
    let talk = living();
    let (client, _) = talk.peers();
    assert!(ends_there(&talk, &client, ACK, 1101, 100, 512));
    assert!(ends_there(&talk, &client, ACK | Flags::PSH, 1201, 1, 512));
    assert!(ends_there(&talk, &client, ACK, 1202, 0, 512));
    assert_eq!((client.half().next_seq.get(), client.half().packets.get()), (SeqNum(1202), 6));
}

#[test]
fn what_is_no_data_out_of_order_or_without_room_does_not() {
    let talk = living();
    let (client, _) = talk.peers();
    for (flags, seq, bytes, window) in [
        (ACK | Flags::FIN, 1101, 0, 512),
        (ACK | Flags::RST, 1101, 0, 512),
        (ACK | Flags::SYN, 1101, 0, 512),
        (Flags::SYN, 1101, 0, 512),
        (ACK, 1102, 100, 512),
        (ACK, 1100, 100, 512),
        (ACK, 1100, 0, 512),
        (ACK, 1101, 100, 0),
        (Flags::PSH, 1101, 100, 512),
    ] {
        assert!(!ends_there(&talk, &client, flags, seq, bytes, window), "{flags:#x} {seq} {bytes} {window}");
    }
    assert_eq!(client.half().packets.get(), 3);
}

#[test]
fn the_first_letter_of_each_kind_and_another_hook_take_the_longer_way() {
    let talk = Talk::new();
    talk.open();
    let (client, server) = talk.peers();
    assert!(!ends_there(&talk, &client, ACK, 1001, 100, 512));
    let hook = |interface, direction| Tap::new(interface, direction);
    client.data(1001, 5001, 100);
    assert!(!ends_there_on(hook(2, HookDirection::Egress), &talk, &client, ACK, 1101, 0, 512));
    assert!(!ends_there_on(hook(1, HookDirection::Ingress), &talk, &client, ACK, 1101, 0, 512));
    assert!(ends_there(&talk, &client, ACK, 1101, 0, 512));
    // The server has sent its SYN-ACK, and no ACK yet.
    assert!(!ends_there_on(hook(1, HookDirection::Ingress), &talk, &server, ACK, 5001, 0, 512));
}

#[test]
fn a_closed_window_and_probes_without_an_answer_take_the_longer_way() {
    let talk = living();
    let (client, _) = talk.peers();
    client.window(0).ack(1101, 5001);
    assert!(!ends_there(&talk, &client, ACK, 1101, 100, 512));
    client.ack(1101, 5001);
    assert!(ends_there(&talk, &client, ACK, 1101, 0, 512));
    talk.wait(MILLISECOND);
    client.ack(1100, 5001);
    assert!(!ends_there(&talk, &client, ACK, 1101, 100, 512));
}

#[test]
fn a_lull_takes_the_longer_way_and_less_does_not() {
    let talk = living();
    let (client, _) = talk.peers();
    talk.wait(LULL_NS - 1);
    assert!(ends_there(&talk, &client, ACK, 1101, 100, 512));
    talk.wait(LULL_NS);
    assert!(!ends_there(&talk, &client, ACK, 1201, 100, 512));
}

#[test]
fn neither_a_handshake_nor_a_close_has_a_shortest_path() {
    let talk = Talk::new();
    let (client, server) = talk.peers();
    client.syn(1000);
    server.syn_ack(5000, 1001);
    assert!(!ends_there(&talk, &client, ACK, 1001, 0, 512));
    let talk = living();
    let (client, server) = talk.peers();
    server.fin(5001, 1101);
    assert!(!ends_there(&talk, &client, ACK, 1101, 100, 512));
}
