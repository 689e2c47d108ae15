//! IPv4 with its options and fragments, IPv6 with its extension headers, and what the lengths of both say
//! (<https://www.rfc-editor.org/rfc/rfc791>, <https://www.rfc-editor.org/rfc/rfc8200>).

use super::*;

const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;

fn of(packet: &[u8]) -> Result<Read, Skip> {
    parse(packet, Link::Ip)
}

/// An extension header of 8 × (1 + `more`) bytes, length field in units of eight bytes beyond the first.
fn extension(next_header: u8, more: u8) -> Vec<u8> {
    let mut bytes = vec![next_header, more];
    bytes.resize(8 * (usize::from(more) + 1), 0);
    bytes
}

/// A chain of these headers, TCP last.
fn chain(headers: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    for next in headers.iter().skip(1).chain([&TCP]) {
        payload.extend(extension(*next, 0));
    }
    payload.extend(tcp(ACK, &[], 7));
    v6(headers[0], &payload)
}

// ---- IPv4 ----

#[test]
fn ipv4_addresses_and_ports_make_the_key() {
    let Parsed { key, side, .. } = segment4(&v4(&[], &tcp(ACK, &[], 0))[..], 0).unwrap();
    assert_eq!(key.low_addr[0].to_ne_bytes(), [192, 0, 2, 1]);
    assert_eq!(key.high_addr[0].to_ne_bytes(), [198, 51, 100, 2]);
    assert_eq!((key.low_port, key.high_port, side), (40000, 443, Side::Low));
}

#[test]
fn ipv4_options_lie_before_the_tcp_header() {
    for words in 1..=10 {
        let packet = v4(&vec![1; 4 * words], &tcp(ACK, &[], 7));
        assert_eq!(of(&packet).unwrap().segment.payload_bytes, 7, "{words} words");
    }
}

#[test]
fn a_header_shorter_than_the_shortest_is_bad() {
    let mut packet = v4(&[], &tcp(ACK, &[], 7));
    for words in 0..5 {
        packet[0] = 0x40 | words;
        assert_eq!(of(&packet), Err(Skip::BadHeader));
    }
}

#[test]
fn a_total_length_within_the_header_is_bad() {
    let mut packet = v4(&[1; 4], &tcp(ACK, &[], 7));
    for total in [1, 20, 23] {
        packet[3] = total;
        assert_eq!(of(&packet), Err(Skip::BadHeader));
    }
}

#[test]
fn a_length_beyond_the_buffer_is_truncated() {
    let mut packet = v4(&[], &tcp(ACK, &[], 7));
    packet[3] += 1;
    assert_eq!(of(&packet), Err(Skip::Truncated));
    let mut packet = v6(TCP, &tcp(ACK, &[], 7));
    packet[5] += 1;
    assert_eq!(of(&packet), Err(Skip::Truncated));
}

#[test]
fn a_capture_that_was_cut_off_behind_the_headers_keeps_the_true_length() {
    for packet in [v4(&[], &tcp(ACK, &[], 1000)), v6(TCP, &tcp(ACK, &[], 1000))] {
        let cut = Cut { bytes: &packet[..packet.len() - 1000], true_bytes: packet.len(), wire_segments: 1 };
        assert_eq!(parse(&cut, Link::Ip).unwrap().segment.payload_bytes, 1000);
    }
}

#[test]
fn a_length_of_zero_means_the_buffers() {
    let mut packet = v4(&[], &tcp(ACK, &[], 7));
    packet[2..4].fill(0);
    assert_eq!(of(&packet).unwrap().segment.payload_bytes, 7);
    let cut = Cut { bytes: &packet, true_bytes: 40 + 180_000, wire_segments: 124 };
    assert_eq!(parse(&cut, Link::Ip).unwrap().segment.payload_bytes, 180_000);

    let mut packet = v6(TCP, &tcp(ACK, &[], 7));
    packet[4..6].fill(0);
    let cut = Cut { bytes: &packet, true_bytes: 60 + 180_000, wire_segments: 124 };
    assert_eq!(parse(&cut, Link::Ip).unwrap().segment.payload_bytes, 180_000);
}

#[test]
fn a_jumbo_payload_option_goes_with_a_length_of_zero() {
    // RFC 2675: option type 0xc2, four bytes of length.
    let mut payload = vec![TCP, 0, 0xc2, 4];
    payload.extend(180_028_u32.to_be_bytes());
    payload.extend(tcp(ACK, &[], 7));
    let mut packet = v6(HOP_BY_HOP, &payload);
    packet[4..6].fill(0);
    let cut = Cut { bytes: &packet, true_bytes: 40 + 180_028, wire_segments: 124 };
    assert_eq!(parse(&cut, Link::Ip).unwrap().segment.payload_bytes, 180_000);
}

#[test]
fn the_first_ipv4_fragment_is_used_and_later_ones_are_skipped() {
    let mut packet = v4(&[], &tcp(ACK, &[], 8));
    // More fragments, offset zero.
    packet[6..8].copy_from_slice(&[0x20, 0]);
    assert_eq!(of(&packet).unwrap().segment.payload_bytes, 8);
    for offset in [[0x20, 1], [0, 1], [0x1f, 0xff]] {
        packet[6..8].copy_from_slice(&offset);
        assert_eq!(of(&packet), Err(Skip::Fragment));
    }
}

#[test]
fn a_fragment_of_another_protocol_is_not_tcp() {
    let mut packet = v4(&[], &tcp(ACK, &[], 8));
    packet[6..8].copy_from_slice(&[0x20, 1]);
    packet[9] = 17;
    assert_eq!(of(&packet), Err(Skip::NotTcp));
}

#[test]
fn other_protocols_are_not_tcp() {
    let mut packet = v4(&[], &tcp(ACK, &[], 8));
    for protocol in [1, 17, 41, 47, 132] {
        packet[9] = protocol;
        assert_eq!(of(&packet), Err(Skip::NotTcp));
    }
    // No next header; ESP, behind which nothing can be read; ICMPv6; UDP behind a known header.
    for next_header in [59, 50, 58, 17] {
        assert_eq!(of(&v6(next_header, &tcp(ACK, &[], 8))), Err(Skip::NotTcp));
    }
    let mut payload = extension(17, 0);
    payload.extend(tcp(ACK, &[], 8));
    assert_eq!(of(&v6(HOP_BY_HOP, &payload)), Err(Skip::NotTcp));
}

// ---- IPv6 ----

#[test]
fn ipv6_addresses_and_ports_make_the_key() {
    let Parsed { key, side, .. } = segment6(&v6(TCP, &tcp(ACK, &[], 0))[..], 0).unwrap();
    assert_eq!(key.low_addr.map(u32::from_be), [0x2001_0db8, 0, 0, 1]);
    assert_eq!(key.high_addr.map(u32::from_be), [0x2001_0db8, 0, 0, 2]);
    assert_eq!((key.low_port, key.high_port, side), (40000, 443, Side::Low));
}

#[test]
fn each_kind_of_extension_header_is_followed() {
    for kind in [HOP_BY_HOP, ROUTING, DESTINATION, MOBILITY] {
        for more in [0, 1, 5] {
            let mut payload = extension(TCP, more);
            payload.extend(tcp(ACK, &[], 7));
            assert_eq!(of(&v6(kind, &payload)).unwrap().segment.payload_bytes, 7, "{kind}, {more}");
        }
    }
}

#[test]
fn an_authentication_headers_length_counts_words_of_four_bytes_less_two() {
    // RFC 4302: twelve bytes and an integrity check value of twelve make a length field of four.
    let mut payload = vec![TCP, 4];
    payload.resize(24, 0);
    payload.extend(tcp(ACK, &[], 7));
    assert_eq!(of(&v6(AUTHENTICATION, &payload)).unwrap().segment.payload_bytes, 7);
}

#[test]
fn the_first_ipv6_fragment_is_used_and_later_ones_are_skipped() {
    // The lowest bit says that more follow, the two above it are reserved, the rest is the offset.
    for (offset, expected) in
        [([0, 1], Ok(7)), ([0, 0], Ok(7)), ([0, 8], Err(Skip::Fragment)), ([1, 1], Err(Skip::Fragment))]
    {
        // The second byte is reserved in a fragment header: it is no length.
        let mut payload = vec![TCP, 0xff, offset[0], offset[1], 0, 0, 0, 9];
        payload.extend(tcp(ACK, &[], 7));
        assert_eq!(of(&v6(FRAGMENT, &payload)).map(|parsed| parsed.segment.payload_bytes), expected);
    }
}

#[test]
fn four_extension_headers_are_followed_and_a_fifth_is_not() {
    let four = [HOP_BY_HOP, DESTINATION, ROUTING, DESTINATION];
    assert_eq!(of(&chain(&four)).unwrap().segment.payload_bytes, 7);
    let five = [HOP_BY_HOP, DESTINATION, ROUTING, MOBILITY, DESTINATION];
    assert_eq!(of(&chain(&five)), Err(Skip::BadHeader));
}

#[test]
fn an_extension_header_that_reaches_beyond_the_packet_is_bad() {
    let mut payload = extension(TCP, 0);
    payload[1] = 9;
    payload.extend(tcp(ACK, &[], 7));
    assert!(matches!(of(&v6(HOP_BY_HOP, &payload)), Err(Skip::BadHeader | Skip::Truncated)));
    payload[1] = 0xff;
    assert!(matches!(of(&v6(HOP_BY_HOP, &payload)), Err(Skip::BadHeader | Skip::Truncated)));
}

#[test]
fn long_extension_headers_are_followed_up_to_a_kilobyte() {
    // 14 bytes of Ethernet, 40 of the fixed header and twice 480 make 1014.
    let payload = [extension(DESTINATION, 59), extension(TCP, 59), tcp(ACK, &[], 7)].concat();
    let frame = ethernet(&[], 0x86dd, &v6(HOP_BY_HOP, &payload));
    assert_eq!(parse(&frame[..], Link::Ethernet).unwrap().segment.payload_bytes, 7);
    let payload = [extension(DESTINATION, 5), extension(TCP, 0), tcp(ACK, &[], 7)].concat();
    assert_eq!(of(&v6(HOP_BY_HOP, &payload)).unwrap().segment.payload_bytes, 7);
}

#[test]
fn a_packet_that_ends_where_its_tcp_header_would_begin_is_truncated() {
    assert_eq!(of(&v4(&[], &[])), Err(Skip::Truncated));
    assert_eq!(of(&v6(TCP, &[])), Err(Skip::Truncated));
    assert_eq!(of(&v6(HOP_BY_HOP, &extension(TCP, 0))), Err(Skip::Truncated));
}

#[test]
fn headers_beyond_a_kilobyte_are_not_followed() {
    let mut payload = extension(TCP, 125);
    payload.extend(tcp(ACK, &[], 7));
    assert_eq!(of(&v6(DESTINATION, &payload)), Err(Skip::BadHeader));
}
