//! Laws of parsing, over bytes at random and over frames that an independent library has built.

use etherparse::{PacketBuilder, TcpOptionElement};
use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed},
};

use super::*;
use crate::seq::SeqNum;

fn config() -> Config {
    Config { cases: 512, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::default() }
}

/// What a frame is built from.
#[derive(Clone, Debug)]
struct Recipe {
    tags: u8,
    /// IPv4 addresses, or the last words of IPv6 ones.
    addrs: (u32, u32),
    is_v6: bool,
    ports: (u16, u16),
    seq: u32,
    ack: u32,
    window: u16,
    flags: u8,
    shift: Option<u8>,
    payload: Vec<u8>,
}

fn recipes() -> impl Strategy<Value = Recipe> {
    let plausible = prop::sample::select(vec![0x02, 0x12, 0x10, 0x18, 0x11, 0x19, 0x04, 0x14]);
    let addressing = (0_u8..3, any::<(u32, u32)>(), any::<bool>(), any::<(u16, u16)>());
    let numbers = (any::<u32>(), any::<u32>(), any::<u16>(), plausible);
    let rest = (prop::option::of(0_u8..=14), prop::collection::vec(any::<u8>(), 0..80));
    (addressing, numbers, rest).prop_map(
        |((tags, addrs, is_v6, ports), (seq, ack, window, flags), (shift, payload))| Recipe {
            tags,
            addrs,
            is_v6,
            ports,
            seq,
            ack,
            window,
            flags,
            shift,
            payload,
        },
    )
}

fn v6_addr(last: u32) -> [u8; 16] {
    let mut octets = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    octets[12..].copy_from_slice(&last.to_be_bytes());
    octets
}

fn build(recipe: &Recipe) -> Vec<u8> {
    use etherparse::VlanId;
    let id = |number| VlanId::try_new(number).expect("below 4096");
    let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let (source, destination) = recipe.addrs;
    let (v4_source, v4_destination) = (source.to_be_bytes(), destination.to_be_bytes());
    let (v6_source, v6_destination) = (v6_addr(source), v6_addr(destination));
    let packet = match (recipe.tags, recipe.is_v6) {
        (0, false) => link.ipv4(v4_source, v4_destination, 64),
        (0, true) => link.ipv6(v6_source, v6_destination, 64),
        (1, false) => link.single_vlan(id(7)).ipv4(v4_source, v4_destination, 64),
        (1, true) => link.single_vlan(id(7)).ipv6(v6_source, v6_destination, 64),
        (_, false) => link.double_vlan(id(7), id(8)).ipv4(v4_source, v4_destination, 64),
        (_, true) => link.double_vlan(id(7), id(8)).ipv6(v6_source, v6_destination, 64),
    };
    let mut packet = packet.tcp(recipe.ports.0, recipe.ports.1, recipe.seq, recipe.window);
    let has = |bit| recipe.flags & bit != 0;
    if has(Flags::ACK) {
        packet = packet.ack(recipe.ack);
    }
    if has(Flags::FIN) {
        packet = packet.fin();
    }
    if has(Flags::SYN) {
        packet = packet.syn();
    }
    if has(Flags::RST) {
        packet = packet.rst();
    }
    if has(Flags::PSH) {
        packet = packet.psh();
    }
    if let Some(shift) = recipe.shift {
        let options = [TcpOptionElement::MaximumSegmentSize(1460), TcpOptionElement::WindowScale(shift)];
        packet = packet.options(&options).expect("these fit");
    }
    let mut frame = Vec::new();
    packet.write(&mut frame, &recipe.payload).expect("a vector takes everything");
    frame
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn parsing_never_panics_on_any_bytes(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        is_ethernet in any::<bool>(),
        version in prop::sample::select(vec![0x45, 0x46, 0x60, 0x4f]),
        ethertype in prop::sample::select(vec![0x0800_u16, 0x86dd, 0x8100, 0x88a8]),
        true_bytes in 0_usize..70_000,
    ) {
        let mut bytes = bytes;
        // Half the time far enough to be worth it: a known ethertype and version.
        if is_ethernet && bytes.len() > 14 {
            bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
            bytes[14] = version;
        }
        let link = if is_ethernet { Link::Ethernet } else { Link::Ip };
        let _ = parse(&bytes[..], link);
        let _ = parse(&Cut { bytes: &bytes, true_bytes, wire_segments: 1 }, link);
    }

    #[test]
    fn what_was_built_is_what_is_parsed(recipe in recipes()) {
        let parsed = parse(&build(&recipe)[..], Link::Ethernet);
        let segment = Segment {
            seq: SeqNum(recipe.seq),
            ack: SeqNum(if recipe.flags & ACK != 0 { recipe.ack } else { 0 }),
            payload_bytes: recipe.payload.len() as u32,
            wire_segments: 1,
            window: recipe.window,
            flags: Flags(recipe.flags),
            accurate_ecn: 0,
            options: Options {
                mss: if recipe.shift.is_some() { 1460 } else { 0 },
                window_shift: recipe.shift.unwrap_or(Options::NO_SHIFT),
                ..Options::NONE
            },
        };
        // The lower address comes first in the key, and between equal ones the lower port.
        let sender_is_low = (recipe.addrs.0, recipe.ports.0) <= (recipe.addrs.1, recipe.ports.1);
        let (low, high) = (recipe.ports.0, recipe.ports.1);
        let expected = Read {
            network: if recipe.is_v6 { Network::Ipv6 } else { Network::Ipv4 },
            side: if sender_is_low { Side::Low } else { Side::High },
            ports: if sender_is_low { (low, high) } else { (high, low) },
            segment,
        };
        prop_assert_eq!(parsed, Ok(expected));
    }

    #[test]
    fn every_prefix_is_truncated(recipe in recipes()) {
        let frame = build(&recipe);
        for bytes in 0..frame.len() {
            prop_assert_eq!(parse(&frame[..bytes], Link::Ethernet), Err(Skip::Truncated));
        }
    }

    #[test]
    fn a_flipped_bit_never_panics(recipe in recipes(), at in any::<prop::sample::Index>(), bit in 0..8) {
        let mut frame = build(&recipe);
        let at = at.index(frame.len());
        frame[at] ^= 1_u8 << bit;
        let _ = parse(&frame[..], Link::Ethernet);
    }
}
