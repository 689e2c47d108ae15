//! The shortest path: which segments end there, and which take the longer way because something about them is new.
//!
//! Both ways leave the same record, so that nothing but the question itself can tell them apart.

use tcp_observer_common::{
    conn::{LULL_NS, Letter, Role},
    counters::HookDirection,
    flow::{FlowKey4, Ipv4},
    observer::{Sighting, Steady, Tap, observe_unsteady, on_steady},
    segment::{Flags, Options, Segment},
    seq::SeqNum,
};

use crate::support::{MILLISECOND, Peer, Talk};

const ACK: u8 = Flags::ACK;

/// A segment that acknowledges all that the server has sent.
fn segment(flags: u8, seq: u32, payload_bytes: u32, window: u16) -> Segment {
    Segment {
        seq: SeqNum(seq),
        ack: SeqNum(5001),
        payload_bytes,
        wire_segments: 1,
        window,
        flags: Flags(flags),
        accurate_ecn: 0,
        options: Options::NONE,
    }
}

/// Whether a segment of the client's with this window ends on the shortest path, on interface 1.
fn ends_there(talk: &Talk, sender: &Peer<'_, Ipv4>, flags: u8, seq: u32, payload_bytes: u32, window: u16) -> bool {
    ends_there_on(Tap::new(1, HookDirection::Egress), talk, sender, &segment(flags, seq, payload_bytes, window))
}

fn ends_there_on(tap: Tap, talk: &Talk, sender: &Peer<'_, Ipv4>, segment: &Segment) -> bool {
    let (key, side) = talk.key(sender);
    matches!(on_steady(&talk.memory, &key, Sighting { side, segment, tap }), Steady::Taken)
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
fn another_hook_takes_the_longer_way() {
    let talk = living();
    let (client, _) = talk.peers();
    let hook = |interface, direction| Tap::new(interface, direction);
    let ack = segment(ACK, 1101, 0, 512);
    assert!(!ends_there_on(hook(2, HookDirection::Egress), &talk, &client, &ack));
    assert!(!ends_there_on(hook(1, HookDirection::Ingress), &talk, &client, &ack));
    assert!(ends_there_on(hook(1, HookDirection::Egress), &talk, &client, &ack));
}

/// What is known of a flow whose client sends its first data, and whose server then answers by its first ACK.
fn after_the_first(take: impl Fn(&Talk, Sighting<'_>, &FlowKey4)) -> (String, [(u32, u64, u64, u8); 2]) {
    let talk = Talk::new();
    talk.open();
    let (client, server) = talk.peers();
    let from_server = Segment { seq: SeqNum(5001), ack: SeqNum(1101), ..segment(ACK, 0, 0, 512) };
    let segments = [
        (&client, HookDirection::Egress, segment(ACK, 1001, 100, 512)),
        (&server, HookDirection::Ingress, from_server),
    ];
    for (peer, direction, segment) in &segments {
        let (key, side) = talk.key(peer);
        take(&talk, Sighting { side, segment, tap: Tap::new(1, *direction) }, &key);
    }
    let flow = talk.find().unwrap();
    let letter = |(role, letter): (Role, Letter)| match role {
        Role::Originator => letter.label().to_uppercase(),
        Role::Responder => letter.label().to_owned(),
    };
    let of = |peer: &Peer<'_, Ipv4>| {
        let half = peer.half();
        (half.next_seq.get().0, half.packets.get(), half.payload_bytes.get(), half.completeness())
    };
    (flow.story.history().map(letter).collect(), [of(&client), of(&server)])
}

/// By hand: Zeek's letters, and of Wireshark's completeness SYN 1, SYN-ACK 2, ACK 4, data 8.
#[test]
fn the_first_data_and_the_first_ack_end_there_with_all_that_the_longer_way_tells() {
    let short = after_the_first(|talk, sighting, key| {
        assert!(matches!(on_steady(&talk.memory, key, sighting), Steady::Taken));
    });
    let long = after_the_first(|talk, sighting, key| {
        assert_eq!(observe_unsteady(&talk.memory, key, sighting), Ok(()));
    });
    assert_eq!(short, long);
    assert_eq!(short, ("ShADa".to_owned(), [(1101, 3, 100, 1 | 4 | 8), (5001, 2, 0, 2 | 4)]));
}

#[test]
fn the_first_data_into_a_closed_window_takes_the_longer_way() {
    let talk = Talk::new();
    talk.open();
    let (client, server) = talk.peers();
    server.window(0).ack(5001, 1001);
    assert!(!ends_there(&talk, &client, ACK, 1001, 1, 512));
    server.ack(5001, 1001);
    assert!(ends_there(&talk, &client, ACK, 1001, 1, 512));
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
