//! The link layer: Ethernet with and without tags, and devices without any.

use super::*;

fn packet() -> Vec<u8> {
    v4(&[], &tcp(ACK, &[], 10))
}

fn payload_bytes(frame: &[u8], link: Link) -> Result<u32, Skip> {
    parse(frame, link).map(|parsed| parsed.segment.payload_bytes)
}

#[test]
fn ethernet_carries_ipv4_and_ipv6() {
    assert_eq!(payload_bytes(&ethernet(&[], 0x0800, &packet()), Link::Ethernet), Ok(10));
    let packet = v6(6, &tcp(ACK, &[], 11));
    assert_eq!(payload_bytes(&ethernet(&[], 0x86dd, &packet), Link::Ethernet), Ok(11));
}

#[test]
fn up_to_two_vlan_tags_are_looked_behind() {
    for tags in [&[0x8100][..], &[0x88a8], &[0x88a8, 0x8100], &[0x8100, 0x8100], &[0x9100, 0x8100]] {
        assert_eq!(payload_bytes(&ethernet(tags, 0x0800, &packet()), Link::Ethernet), Ok(10), "{tags:04x?}");
    }
}

#[test]
fn three_tags_are_not_ip() {
    let frame = ethernet(&[0x88a8, 0x8100, 0x8100], 0x0800, &packet());
    assert_eq!(parse(&frame[..], Link::Ethernet), Err(Skip::NotIp));
}

#[test]
fn other_protocols_are_not_ip() {
    // ARP, LLDP, PPPoE sessions, MPLS, and an IEEE 802.3 length.
    for ethertype in [0x0806, 0x88cc, 0x8864, 0x8847, 0x0040] {
        assert_eq!(parse(&ethernet(&[], ethertype, &packet())[..], Link::Ethernet), Err(Skip::NotIp));
    }
}

#[test]
fn an_ethertype_that_contradicts_the_ip_version_is_a_bad_header() {
    assert_eq!(parse(&ethernet(&[], 0x86dd, &packet())[..], Link::Ethernet), Err(Skip::BadHeader));
    let packet = v6(6, &tcp(ACK, &[], 0));
    assert_eq!(parse(&ethernet(&[], 0x0800, &packet)[..], Link::Ethernet), Err(Skip::BadHeader));
}

#[test]
fn a_device_without_a_link_layer_is_told_by_the_version() {
    assert_eq!(payload_bytes(&packet(), Link::Ip), Ok(10));
    assert_eq!(payload_bytes(&v6(6, &tcp(ACK, &[], 12)), Link::Ip), Ok(12));
    assert_eq!(parse(&[0x55; 60][..], Link::Ip), Err(Skip::NotIp));
    assert_eq!(parse(&[][..], Link::Ip), Err(Skip::Truncated));
}

#[test]
fn padding_of_a_short_frame_is_not_payload() {
    let mut frame = ethernet(&[], 0x0800, &v4(&[], &tcp(ACK, &[], 0)));
    assert_eq!(frame.len(), 54);
    frame.resize(60, 0);
    assert_eq!(payload_bytes(&frame, Link::Ethernet), Ok(0));
    let mut frame = ethernet(&[], 0x86dd, &v6(6, &tcp(ACK, &[], 1)));
    frame.resize(100, 0);
    assert_eq!(payload_bytes(&frame, Link::Ethernet), Ok(1));
}

#[test]
fn a_super_packet_counts_as_the_segments_that_the_wire_carries() {
    let frame = ethernet(&[], 0x0800, &packet());
    let cut = Cut { bytes: &frame, true_bytes: frame.len(), wire_segments: 45 };
    assert_eq!(parse(&cut, Link::Ethernet).unwrap().segment.wire_segments, 45);
    assert_eq!(parse(&frame[..], Link::Ethernet).unwrap().segment.wire_segments, 1);
}
