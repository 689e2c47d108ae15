//! Torn and hostile frames: whatever comes, one packet is one update or one skip, on both sides the same.

use integration_tests::{
    frames::{ACK, Frame, PSH, SYN},
    pair::Family,
    prelude::bounded,
    random::Random,
};

use crate::{Hook, L3_IN, TC_IN, TC_OUT, Twins, XDP, ends, state::packets, wrapping};

/// Linux refuses to run XDP on less than an Ethernet header, and tc on less than one and a byte.
const SHORTEST_XDP: usize = 14;
const SHORTEST_TC: usize = 15;
/// ... and tc on an IPv4 packet without its whole fixed header.
const SHORTEST_TC_IPV4: usize = 34;

/// Whether the kernel would run this hook on this frame at all.
pub fn runs(hook: Hook, bytes: &[u8]) -> bool {
    let ethertype = bytes.get(12..14);
    match hook.program {
        name if name == XDP.program => bytes.len() >= SHORTEST_XDP,
        _ if ethertype == Some(&[0x08, 0x00]) => bytes.len() >= SHORTEST_TC_IPV4,
        _ if ethertype == Some(&[0x86, 0xdd]) => bytes.len() >= 54,
        _ => bytes.len() >= SHORTEST_TC,
    }
}

/// Shows both a frame, and checks that exactly one counter of packets has moved by one.
#[track_caller]
fn one_packet(twins: &mut Twins, hook: Hook, bytes: &[u8]) {
    if !runs(hook, bytes) {
        return;
    }
    let before = packets(&twins.kernel.counters());
    twins.take(hook, bytes, 1);
    let counters = twins.kernel.counters();
    assert_eq!(packets(&counters) - before, 1, "{} on {bytes:02x?}", hook.program);
    // All else is compared now and then: reading every table takes much longer than a packet.
    assert!(counters == twins.replica.counters(), "{} counts otherwise on {bytes:02x?}", hook.program);
}

const HOOKS: [Hook; 4] = [XDP, TC_IN, TC_OUT, L3_IN];

fn specimens() -> Vec<Frame> {
    let mut frames = Vec::new();
    for family in Family::BOTH {
        let (client, server) = ends(family, 0);
        frames.push(Frame::new(client, server, SYN, 1, 0));
        frames.push(Frame::new(client, server, PSH | ACK, 2, 5).with_payload(20));
        let error = if client.is_ipv4() { (3, 1) } else { (1, 3) };
        frames.push(Frame { quoted: Some(error), ..Frame::new(client, server, SYN, 1, 0) });
        frames.extend(wrapping::ALL.map(|(_, wrap)| wrap(Frame::new(client, server, SYN, 1, 0))));
    }
    frames
}

#[test]
fn every_prefix_of_a_frame_is_one_packet() {
    let _bound = bounded();
    for hook in HOOKS {
        let mut twins = Twins::new(&[]);
        for frame in specimens() {
            let bytes = hook.bytes(&frame);
            for length in 0..=bytes.len() {
                one_packet(&mut twins, hook, &bytes[..length]);
            }
            twins.assert_alike(&format!("prefixes of {frame:?}"));
        }
    }
}

#[test]
fn every_byte_may_lie() {
    let _bound = bounded();
    for hook in HOOKS {
        let mut twins = Twins::new(&[]);
        for frame in specimens() {
            let bytes = hook.bytes(&frame);
            for at in 12.min(bytes.len())..bytes.len().min(100) {
                for value in [0, 0x45, 0xff] {
                    let mut bytes = bytes.clone();
                    bytes[at] = value;
                    one_packet(&mut twins, hook, &bytes);
                }
            }
            twins.assert_alike(&format!("lies in {frame:?}"));
        }
    }
}

#[test]
fn noise_is_one_packet_each() {
    let _bound = bounded();
    let mut random = Random::new(7);
    for hook in HOOKS {
        let mut twins = Twins::new(&[]);
        for round in 0..600 {
            let length = 14 + random.word() as usize % 120;
            let mut bytes: Vec<u8> = (0..length).map(|_| random.word() as u8).collect();
            // Two of three get past the first check.
            if round % 3 > 0 {
                let ethertype = if round % 3 == 1 { [0x08, 0x00, 0x45] } else { [0x86, 0xdd, 0x60] };
                bytes[12..14].copy_from_slice(&ethertype[..2]);
                if let Some(byte) = bytes.get_mut(14) {
                    *byte = ethertype[2];
                }
            }
            one_packet(&mut twins, hook, &bytes);
        }
        twins.assert_alike("noise");
    }
}
