//! Every link type and every header between it and IP, each as a frame written by hand after its public definition:
//! <https://www.tcpdump.org/linktypes.html> and what it refers to. The same connection comes out of all of them.
//! Letters stand for addresses and other things that nobody reads here, and so do lengths of what follows.

use tcp_observer_common::counters::Skip;

use crate::{
    formats::{assert_is_the_talk, talk},
    packets::{Segment, Talk, append, pcap_header, replay},
};

/// What goes before a packet, for IPv4 and for IPv6: two bytes of type differ, or one.
struct Link {
    number: u32,
    what: &'static str,
    /// An ethertype, a PPP protocol, an address family: whatever this link tells the two by.
    types: [&'static [u8]; 2],
    before_type: &'static [u8],
    after_type: &'static [u8],
}

const ETHERTYPES: [&[u8]; 2] = [&[0x08, 0x00], &[0x86, 0xdd]];
const PPP: [&[u8]; 2] = [&[0x00, 0x21], &[0x00, 0x57]];
const PPP_COMPRESSED: [&[u8]; 2] = [&[0x21], &[0x57]];
/// For headers that leave it to the packet's first bits.
const NONE: [&[u8]; 2] = [&[], &[]];
const OSI: [&[u8]; 2] = [&[0xcc], &[0x8e]];

const fn link(
    number: u32,
    what: &'static str,
    before_type: &'static [u8],
    types: [&'static [u8]; 2],
    after_type: &'static [u8],
) -> Link {
    Link { number, what, types, before_type, after_type }
}

/// What goes without a link type of its own is behind an Ethernet header: destination and source come first.
const LINKS: &[Link] = &[
    link(1, "Ethernet", b"DDDDDDSSSSSS", ETHERTYPES, &[]),
    link(1, "one VLAN tag", b"DDDDDDSSSSSS\x81\x00\x00\x32", ETHERTYPES, &[]),
    link(1, "three VLAN tags", b"DDDDDDSSSSSS\x88\xa8\x00\x32\x81\x00\x00\x33\x91\x00\x00\x34", ETHERTYPES, &[]),
    // A label of 20 bits, 3 bits of traffic class, the bottom of the stack, a time to live.
    link(1, "MPLS", b"DDDDDDSSSSSS\x88\x47\x00\x01\x01\x40", NONE, &[]),
    link(1, "MPLS multicast, two labels", b"DDDDDDSSSSSS\x88\x48\x00\x01\x00\x40\x00\x02\x01\x40", NONE, &[]),
    link(
        1,
        "Ethernet over MPLS with a control word",
        b"DDDDDDSSSSSS\x88\x47\x00\x01\x01\x40\x00\x00\x00\x07DDDDDDSSSSSS",
        ETHERTYPES,
        &[],
    ),
    link(
        1,
        "Ethernet over MPLS without a control word, to an address that begins with zeros",
        b"DDDDDDSSSSSS\x88\x47\x00\x01\x01\x40\x00\x1b\x21\x01\x02\x03SSSSSS",
        ETHERTYPES,
        &[],
    ),
    link(
        1,
        "Ethernet over MPLS without a control word",
        b"DDDDDDSSSSSS\x88\x47\x00\x01\x01\x40\xf0\x1b\x21\x01\x02\x03SSSSSS",
        ETHERTYPES,
        &[],
    ),
    // Version and type, code, session, length.
    link(1, "PPPoE", b"DDDDDDSSSSSS\x88\x64\x11\x00\x00\x07\x00\x40", PPP, &[]),
    link(1, "PPPoE, compressed", b"DDDDDDSSSSSS\x88\x64\x11\x00\x00\x07\x00\x40", PPP_COMPRESSED, &[]),
    link(1, "PPPoE in a VLAN", b"DDDDDDSSSSSS\x81\x00\x00\x32\x88\x64\x11\x00\x00\x07\x00\x40", PPP, &[]),
    // A length, two access points, a control byte, an organisation.
    link(1, "802.3 with LLC and SNAP", b"DDDDDDSSSSSS\x00\x50\xaa\xaa\x03\x00\x00\x00", ETHERTYPES, &[]),
    link(1, "802.3 with LLC alone", b"DDDDDDSSSSSS\x00\x50\x06\x06\x03", NONE, &[]),
    link(12, "raw IP as BSD has it", &[], NONE, &[]),
    link(14, "raw IP as OpenBSD has it", &[], NONE, &[]),
    link(101, "raw IP", &[], NONE, &[]),
    link(0, "BSD loopback", &[], [&[2], &[30]], &[0, 0, 0]),
    link(0, "BSD loopback, big-endian", &[0, 0, 0], [&[2], &[28]], &[]),
    link(108, "OpenBSD loopback", &[0, 0, 0], [&[2], &[24]], &[]),
    // Packet type, device type, length of the address, address.
    link(113, "Linux cooked", b"\x00\x00\x00\x01\x00\x06SSSSSS\x00\x00", ETHERTYPES, &[]),
    link(113, "Linux cooked with a tag", b"\x00\x00\x00\x01\x00\x06SSSSSS\x00\x00\x81\x00\x00\x32", ETHERTYPES, &[]),
    // Reserved, interface, device type, packet type, length of the address, address.
    link(276, "Linux cooked 2", &[], ETHERTYPES, b"\x00\x00\x00\x00\x00\x03\x00\x01\x00\x06SSSSSS\x00\x00"),
    link(9, "PPP", &[], PPP, &[]),
    link(9, "PPP in HDLC framing", &[0xff, 0x03], PPP, &[]),
    link(9, "PPP in HDLC framing, compressed", &[0xff, 0x03], PPP_COMPRESSED, &[]),
    link(9, "MPLS over PPP", &[0xff, 0x03, 0x02, 0x81, 0x00, 0x01, 0x01, 0x40], NONE, &[]),
    link(50, "PPP over serial", &[0xff, 0x03], PPP, &[]),
    link(50, "Cisco HDLC over serial", &[0x0f, 0x00], ETHERTYPES, &[]),
    link(51, "PPPoE alone", &[0x11, 0x00, 0x00, 0x07, 0x00, 0x40], PPP, &[]),
    link(166, "pppd", &[0x01, 0x03], PPP, &[]),
    link(204, "PPP with a direction", &[0x01, 0xff, 0x03], PPP, &[]),
    link(104, "Cisco HDLC", &[0x0f, 0x00], ETHERTYPES, &[]),
    link(205, "Cisco HDLC with a direction", &[0x00, 0x8f, 0x00], ETHERTYPES, &[]),
    // A DLCI in two bytes, unnumbered information.
    link(107, "frame relay", &[0x18, 0x41, 0x03], OSI, &[]),
    link(107, "frame relay, an address of four bytes", &[0x18, 0x40, 0x00, 0x01, 0x03], OSI, &[]),
    link(107, "frame relay with SNAP", &[0x18, 0x41, 0x03, 0x00, 0x80, 0, 0, 0], ETHERTYPES, &[]),
    link(107, "frame relay as Cisco has it", &[0x18, 0x41], ETHERTYPES, &[]),
    link(206, "frame relay with a direction", &[0x00, 0x18, 0x41, 0x03], OSI, &[]),
    link(100, "ATM", &[0xaa, 0xaa, 0x03, 0, 0, 0], ETHERTYPES, &[]),
    // Access control, frame control, addresses.
    link(6, "token ring", b"\x10\x40DDDDDD\x00SSSSS\xaa\xaa\x03\x00\x00\x00", ETHERTYPES, &[]),
    // Six bytes of route.
    link(6, "token ring with a route", b"\x10\x40DDDDDD\x80SSSSS\x06\x30abcd\xaa\xaa\x03\x00\x00\x00", ETHERTYPES, &[]),
    link(10, "FDDI", b"\x50DDDDDDSSSSSS\xaa\xaa\x03\x00\x00\x00", ETHERTYPES, &[]),
    link(122, "IP over Fibre Channel", b"DDDDDDDDSSSSSSSS\xaa\xaa\x03\x00\x00\x00", ETHERTYPES, &[]),
    link(138, "IP over IEEE 1394", b"DDDDDDDDSSSSSSSS", ETHERTYPES, &[]),
    // Frame control, parameter, length, checksum of the header.
    link(143, "DOCSIS", b"\x00\x00\x00\x50\xab\xcdDDDDDDSSSSSS", ETHERTYPES, &[]),
    link(143, "DOCSIS with an extended header", b"\x01\x03\x00\x53abc\xab\xcdDDDDDDSSSSSS", ETHERTYPES, &[]),
    // Frame control, duration, three addresses, sequence.
    link(105, "802.11", b"\x08\x01\x00\x00BBBBBBSSSSSSDDDDDD\x00\x00\xaa\xaa\x03\x00\x00\x00", ETHERTYPES, &[]),
    link(
        105,
        "802.11 with QoS",
        b"\x88\x02\x00\x00DDDDDDBBBBBBSSSSSS\x00\x00\x05\x00\xaa\xaa\x03\x00\x00\x00",
        ETHERTYPES,
        &[],
    ),
    link(
        105,
        "802.11 with QoS, four addresses and HT control",
        b"\x88\x83\x00\x00RRRRRRTTTTTTDDDDDD\x00\x00SSSSSS\x05\x00abcd\xaa\xaa\x03\x00\x00\x00",
        ETHERTYPES,
        &[],
    ),
    // Version, padding, length, fields: none.
    link(
        127,
        "radiotap",
        b"\x00\x00\x08\x00\x00\x00\x00\x00\x08\x01\x00\x00BBBBBBSSSSSSDDDDDD\x00\x00\xaa\xaa\x03\x00\x00\x00",
        ETHERTYPES,
        &[],
    ),
    // Fields: a time, flags, and a second word of fields; the time is aligned. Flags: the header behind is padded.
    link(
        127,
        "radiotap with padding behind the header",
        b"\x00\x00\x19\x00\x03\x00\x00\x80\x00\x00\x00\x00abcd\x01\x02\x03\x04\x05\x06\x07\x08\x20\
          \x88\x01\x00\x00BBBBBBSSSSSSDDDDDD\x00\x00\x00\x00\x00\x00\xaa\xaa\x03\x00\x00\x00",
        ETHERTYPES,
        &[],
    ),
    // Version, length.
    link(
        163,
        "AVS",
        b"\x80\x21\x10\x01\x00\x00\x00\x0cabcd\x08\x01\x00\x00BBBBBBSSSSSSDDDDDD\x00\x00\xaa\xaa\x03\x00\x00\x00",
        ETHERTYPES,
        &[],
    ),
    // Version, flags, length, link type.
    link(
        192,
        "PPI",
        b"\x00\x00\x08\x00\x69\x00\x00\x00\x08\x01\x00\x00BBBBBBSSSSSSDDDDDD\x00\x00\xaa\xaa\x03\x00\x00\x00",
        ETHERTYPES,
        &[],
    ),
    link(219, "MPLS alone", &[0x00, 0x01, 0x01, 0x40], NONE, &[]),
    // Family, version, group; a prefix with its padding, the packet: length and type each.
    link(239, "NFLOG", b"\x02\x00\x00\x05\x05\x00\x0a\x00\x00\x00\x00\x00\x40\x00\x09\x00", NONE, &[]),
    link(239, "NFLOG, big-endian", b"\x02\x00\x00\x05\x00\x05\x00\x0a\x00\x00\x00\x00\x00\x40\x00\x09", NONE, &[]),
    // Length, family, action, reason, interface, ruleset, rules, users, direction; padded to 64 bytes.
    link(
        117,
        "PFLOG",
        b"\x3d",
        [&[2], &[24]],
        b"\x00\x00em0\0\0\0\0\0\0\0\0\0\0\0\0\0ruleset\0\0\0\0\0\0\0\0\0RRRRSSSSUUUUPPPPuuuuppppDxxx",
    ),
    // Version, family, hook, length, interface, group of interfaces, zones.
    link(226, "IPNET", &[2], [&[2], &[26]], b"\x00\x00\x00\x00\x00\x40\x00\x00\x00\x03\x00\x00\x00\x00ZZZZzzzz"),
    link(242, "IP over InfiniBand", &[b'G'; 40], ETHERTYPES, &[0, 0]),
    // Flags: version 1.
    link(240, "netANALYZER", b"\x00\x04\x40\x00DDDDDDSSSSSS", ETHERTYPES, &[]),
    link(
        241,
        "netANALYZER with preamble",
        b"\x00\x06\x40\x00\x55\x55\x55\x55\x55\x55\x55\xd5DDDDDDSSSSSS",
        ETHERTYPES,
        &[],
    ),
    link(274, "mPacket", b"\x55\x55\x55\x55\x55\x55\x55\xd5DDDDDDSSSSSS", ETHERTYPES, &[]),
];

impl Link {
    fn frame(&self, segment: &Segment) -> Vec<u8> {
        let kind = self.types[usize::from(segment.from.is_ipv6())];
        [self.before_type, kind, self.after_type, &segment.packet()].concat()
    }

    fn capture(&self, talk: &Talk) -> Vec<u8> {
        let mut file = pcap_header(self.number);
        for (at_ns, segment) in &talk.segments {
            append(&mut file, *at_ns, &self.frame(segment));
        }
        file
    }
}

#[test]
fn every_link_type_carries_the_same_connection_over_ipv4_and_ipv6() {
    for link in LINKS {
        for talk in [talk(), talk_v6()] {
            let replay = replay(&link.capture(&talk));
            assert_eq!(replay.fault, None, "{}", link.what);
            let snapshot = replay.into_snapshot();
            assert_eq!(snapshot.flows.len(), 1, "{}: {:?}", link.what, snapshot.totals.counters.skipped);
            assert_is_the_talk(&snapshot.flows[0]);
        }
    }
}

fn talk_v6() -> Talk {
    let mut talk = talk();
    let v6 = |port: u16| format!("[2001:db8::{port:x}]:{port}").parse().unwrap();
    for (_, segment) in &mut talk.segments {
        (segment.from, segment.to) = (v6(segment.from.port()), v6(segment.to.port()));
    }
    talk
}

#[test]
fn long_headers_are_skipped_as_a_whole() {
    let wireless = b"\x08\x01\x00\x00BBBBBBSSSSSSDDDDDD\x00\x00\xaa\xaa\x03\x00\x00\x00\x08\x00";
    // Length, a packet follows, its link type; then names and numbers.
    let pktap = |link: u32| [&[108, 1, link].map(u32::to_le_bytes).concat()[..], &[b'x'; 96]].concat();
    for (number, header) in [
        (119, [&[0x44; 144][..], wireless].concat()),
        (258, [&pktap(1)[..], b"DDDDDDSSSSSS\x08\x00"].concat()),
        (258, pktap(12)),
    ] {
        let mut file = pcap_header(number);
        for (at_ns, segment) in talk().segments {
            append(&mut file, at_ns, &[&header[..], &segment.packet()].concat());
        }
        assert_is_the_talk(&replay(&file).into_snapshot().flows[0]);
    }
}

#[test]
fn what_ends_within_its_headers_is_truncated_and_what_is_unknown_is_not_ip() {
    let skipped = |number: u32, frame: &[u8]| {
        let mut file = pcap_header(number);
        append(&mut file, 0, frame);
        let skipped = replay(&file).into_snapshot().totals.counters.skipped;
        [Skip::NotIp, Skip::Truncated].map(|reason| skipped[reason.index()])
    };
    let (not_ip, truncated) = ([1, 0], [0, 1]);
    for link in LINKS {
        let header_bytes = link.before_type.len() + link.types[0].len() + link.after_type.len();
        let frame = link.frame(&talk().segments[0].1);
        assert_eq!(skipped(link.number, &frame[..header_bytes]), truncated, "{}", link.what);
        assert_eq!(skipped(link.number, &[]), truncated, "{}", link.what);
    }
    for (number, what, frame) in [
        (1, "ARP", &b"DDDDDDSSSSSS\x08\x06"[..]),
        (1, "spanning tree", b"DDDDDDSSSSSS\x00\x26\x42\x42\x03"),
        (1, "PPPoE that sets up its link", b"DDDDDDSSSSSS\x88\x64\x11\x00\x00\x07\x00\x40\xc0\x21"),
        (1, "PPPoE discovery", b"DDDDDDSSSSSS\x88\x63\x11\x09\x00\x00\x00\x00"),
        (1, "SNAP of some organisation", b"DDDDDDSSSSSS\x00\x50\xaa\xaa\x03\x00\x00\x0c\x20\x00"),
        (1, "an associated channel of MPLS", b"DDDDDDSSSSSS\x88\x47\x00\x01\x01\x40\x10\x00\x00\x21"),
        (9, "PPP's own", b"\xff\x03\xc0\x21"),
        (6, "token ring's own", b"\x10\x00DDDDDDSSSSSS"),
        (10, "FDDI's own", b"\x41DDDDDDSSSSSS"),
        (143, "DOCSIS management", b"\xc2\x00\x00\x50\xab\xcd"),
        (107, "LMI", b"\x00\x01\x03\x08\x00"),
        (239, "NFLOG of nonsense", b"\x02\x00\x00\x05\x08\x00\x01\x01\x00\x00\x00\x00"),
        (240, "a pin of netANALYZER's", b"\x00\x05\x40\x00"),
        (274, "a frame that goes on", b"\x55\x55\x55\x55\x55\x55\x61\x52DDDDDDSSSSSS\x08\x00"),
        (258, "PKTAP without a packet", b"\x10\0\0\0\0\0\0\0\x01\0\0\0"),
        (258, "PKTAP of USB", b"\x10\0\0\0\x01\0\0\0\xbd\0\0\0"),
    ] {
        assert_eq!(skipped(number, frame), not_ip, "{what}");
    }
}

#[test]
fn flipped_bits_in_any_frame_do_no_harm() {
    // xorshift64: the same flips each time.
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    for link in LINKS {
        let frame = link.frame(&talk().segments[0].1);
        let mut file = pcap_header(link.number);
        for number in 0..300 {
            let mut flipped = frame[..frame.len() - random(8)].to_vec();
            for _ in 0..random(6) {
                let at = random(flipped.len());
                flipped[at] ^= 1 << random(8);
            }
            append(&mut file, number, &flipped);
        }
        let counters = replay(&file).into_snapshot().totals.counters;
        assert!(counters.skipped.iter().sum::<u64>() <= 300, "{}", link.what);
    }
}
