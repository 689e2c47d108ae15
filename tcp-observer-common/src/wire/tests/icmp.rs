//! ICMP and ICMPv6 errors and the segments that they quote: each type and code of IANA's registries
//! (<https://www.iana.org/assignments/icmp-parameters>, <https://www.iana.org/assignments/icmpv6-parameters>).

use super::*;
use crate::{counters::Unreachable, seq::SeqNum};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// An ICMP message of this type and code; the checksum and the four bytes behind it are not asked for.
fn message(kind: u8, code: u8, quoted: &[u8]) -> Vec<u8> {
    [&[kind, code, 0, 0, 0, 0, 0, 0], quoted].concat()
}

/// An IPv4 packet from 198.51.100.2 to 192.0.2.1 with an ICMP message in it.
fn error4(options: &[u8], kind: u8, code: u8, quoted: &[u8]) -> Vec<u8> {
    let mut packet = v4(options, &message(kind, code, quoted));
    packet[9] = ICMP;
    packet[12..20].copy_from_slice(&[198, 51, 100, 2, 192, 0, 2, 1]);
    packet
}

fn error6(kind: u8, code: u8, quoted: &[u8]) -> Vec<u8> {
    v6(ICMPV6, &message(kind, code, quoted))
}

/// The SYN of 192.0.2.1:40000 to 198.51.100.2:443, number 1000.
fn syn4(options: &[u8]) -> Vec<u8> {
    v4(options, &tcp(SYN, &[], 0))
}

fn syn6() -> Vec<u8> {
    v6(TCP, &tcp(SYN, &[], 0))
}

fn reason4(kind: u8, code: u8) -> Option<Unreachable> {
    quote4(&error4(&[], kind, code, &syn4(&[]))[..], 0).map(|quote| quote.reason).ok()
}

fn reason6(kind: u8, code: u8) -> Option<Unreachable> {
    quote6(&error6(kind, code, &syn6())[..], 0).map(|quote| quote.reason).ok()
}

// ---- What is quoted ----

#[test]
fn an_ipv4_quote_names_the_flow_the_sender_and_the_number() {
    let quote = quote4(&error4(&[], 3, 3, &syn4(&[]))[..], 0).unwrap();
    assert_eq!(quote.key.low_addr[0].to_ne_bytes(), [192, 0, 2, 1]);
    assert_eq!(quote.key.high_addr[0].to_ne_bytes(), [198, 51, 100, 2]);
    assert_eq!((quote.key.low_port, quote.key.high_port), (40000, 443));
    assert_eq!((quote.side, quote.seq, quote.reason), (Side::Low, SeqNum(1000), Unreachable::Port));
}

#[test]
fn an_ipv6_quote_names_the_flow_the_sender_and_the_number() {
    let quote = quote6(&error6(1, 4, &syn6())[..], 0).unwrap();
    assert_eq!(quote.key.low_addr.map(u32::from_be), [0x2001_0db8, 0, 0, 1]);
    assert_eq!(quote.key.high_addr.map(u32::from_be), [0x2001_0db8, 0, 0, 2]);
    assert_eq!((quote.key.low_port, quote.key.high_port), (40000, 443));
    assert_eq!((quote.side, quote.seq, quote.reason), (Side::Low, SeqNum(1000), Unreachable::Port));
}

/// It is the quoted addresses that name the flow, whoever the error is sent to.
#[test]
fn a_quote_is_of_the_quoted_addresses() {
    let mut frame = error4(&[], 3, 3, &syn4(&[]));
    frame[12..20].copy_from_slice(&[203, 0, 113, 7, 203, 0, 113, 8]);
    assert_eq!(quote4(&frame[..], 0).unwrap().key.low_addr[0].to_ne_bytes(), [192, 0, 2, 1]);
    let mut frame = error6(1, 4, &syn6());
    frame[8..40].fill(0xfd);
    let key = quote6(&frame[..], 0).unwrap().key;
    assert_eq!([key.low_addr[3], key.high_addr[3]].map(u32::from_be), [1, 2]);
}

/// RFC 792: "the internet header plus the first 64 bits of the original datagram's data".
#[test]
fn eight_bytes_of_the_tcp_header_are_enough() {
    let quote = quote4(&error4(&[], 3, 1, &syn4(&[])[..28])[..], 0).unwrap();
    assert_eq!((quote.seq, quote.reason), (SeqNum(1000), Unreachable::Host));
    let quote = quote6(&error6(1, 3, &syn6()[..48])[..], 0).unwrap();
    assert_eq!((quote.seq, quote.reason), (SeqNum(1000), Unreachable::Host));
}

#[test]
fn either_ip_header_may_have_options() {
    for outer in 0..=10 {
        for inner in 0..=10 {
            let frame = error4(&vec![1; 4 * outer], 3, 3, &syn4(&vec![1; 4 * inner]));
            let quote = quote4(&frame[..], 0).unwrap();
            assert_eq!((quote.seq, quote.key.low_port), (SeqNum(1000), 40000), "{outer}, {inner}");
        }
    }
}

#[test]
fn a_quote_lies_behind_the_link_layer() {
    let frame = ethernet(&[0x8100], 0x0800, &error4(&[], 3, 3, &syn4(&[])));
    let (network, offset) = network(&frame[..], Link::Ethernet).unwrap();
    assert_eq!(network, Network::Ipv4);
    assert_eq!(quote4(&frame[..], offset).unwrap().seq, SeqNum(1000));
}

#[test]
fn a_quote_of_anything_but_tcp_is_not_tcp() {
    let mut quoted = syn4(&[]);
    for protocol in [ICMP, UDP, 0, 47, ICMPV6] {
        quoted[9] = protocol;
        assert_eq!(quote4(&error4(&[], 3, 3, &quoted)[..], 0), Err(Skip::NotTcp), "{protocol}");
    }
    // What follows the fixed header is not TCP where there are extension headers, which are not followed here.
    let mut quoted = syn6();
    for next_header in [ICMPV6, UDP, 0, 43, 44, 60] {
        quoted[6] = next_header;
        assert_eq!(quote6(&error6(1, 4, &quoted)[..], 0), Err(Skip::NotTcp), "{next_header}");
    }
}

#[test]
fn a_quote_of_another_version_or_of_too_short_a_header_is_not_tcp() {
    for version_and_length in [0x65, 0x05, 0x44, 0x40, 0x55] {
        let mut quoted = syn4(&[]);
        quoted[0] = version_and_length;
        assert_eq!(quote4(&error4(&[], 3, 3, &quoted)[..], 0), Err(Skip::NotTcp), "{version_and_length:#04x}");
    }
    let mut quoted = syn6();
    quoted[0] = 0x45;
    assert_eq!(quote6(&error6(1, 4, &quoted)[..], 0), Err(Skip::NotTcp));
}

#[test]
fn what_is_no_icmp_is_no_quote() {
    assert_eq!(quote4(&syn4(&[])[..], 0), Err(Skip::NotTcp));
    assert_eq!(quote6(&syn6()[..], 0), Err(Skip::NotTcp));
    // ICMP of the other family.
    let mut frame = error4(&[], 3, 3, &syn4(&[]));
    frame[9] = ICMPV6;
    assert_eq!(quote4(&frame[..], 0), Err(Skip::NotTcp));
}

#[test]
fn torn_at_any_byte_a_quote_is_truncated() {
    let frame = error4(&[1; 8], 3, 3, &syn4(&[1; 4])[..24 + 8]);
    for bytes in 0..frame.len() {
        assert_eq!(quote4(&frame[..bytes], 0), Err(Skip::Truncated), "{bytes} bytes");
    }
    let frame = error6(1, 4, &syn6()[..40 + 8]);
    for bytes in 0..frame.len() {
        assert_eq!(quote6(&frame[..bytes], 0), Err(Skip::Truncated), "{bytes} bytes");
    }
}

#[test]
fn quoted_headers_that_lie_about_their_length_never_panic() {
    for outer in 0..16 {
        for inner in 0..16 {
            let mut frame = error4(&[], 3, 3, &syn4(&[]));
            frame[0] = 0x40 | outer;
            frame[28] = 0x40 | inner;
            for bytes in 0..=frame.len() {
                let _ = quote4(&frame[..bytes], 0);
            }
        }
    }
}

// ---- Why ----

/// IANA, "Type 3 - Destination Unreachable": all codes there are.
#[test]
fn each_code_of_destination_unreachable_has_its_reason() {
    use Unreachable::{Host, Network, Other, Port, Prohibited, Protocol};
    for (code, reason) in [
        (0, Some(Network)),
        (1, Some(Host)),
        (2, Some(Protocol)),
        (3, Some(Port)),
        // Fragmentation needed: the segment is sent again, smaller.
        (4, None),
        // Source route failed.
        (5, Some(Other)),
        // Destination network unknown, destination host unknown, source host isolated.
        (6, Some(Network)),
        (7, Some(Host)),
        (8, Some(Host)),
        // Communication with the network, with the host is administratively prohibited.
        (9, Some(Prohibited)),
        (10, Some(Prohibited)),
        // Network, host unreachable for the type of service.
        (11, Some(Network)),
        (12, Some(Host)),
        // Communication administratively prohibited, host precedence violation, precedence cutoff in effect.
        (13, Some(Prohibited)),
        (14, Some(Prohibited)),
        (15, Some(Prohibited)),
        // Not assigned.
        (16, None),
        (255, None),
    ] {
        assert_eq!(reason4(3, code), reason, "code {code}");
    }
}

#[test]
fn other_icmp_errors_have_theirs() {
    // Time to live exceeded in transit; the time for reassembly says nothing of a segment.
    assert_eq!(reason4(11, 0), Some(Unreachable::TimeExceeded));
    assert_eq!(reason4(11, 1), None);
    // Parameter problem: pointer, missing option, bad length.
    for code in 0..3 {
        assert_eq!(reason4(12, code), Some(Unreachable::Other), "code {code}");
    }
    // Echo reply, source quench, redirect, echo, router advertisement, timestamp: no failures.
    for kind in [0, 4, 5, 8, 9, 13] {
        for code in 0..4 {
            assert_eq!(reason4(kind, code), None, "type {kind}");
        }
    }
}

/// IANA, "Type 1 - Destination Unreachable".
#[test]
fn each_code_of_icmpv6_destination_unreachable_has_its_reason() {
    use Unreachable::{Host, Network, Other, Port, Prohibited};
    for (code, reason) in [
        // No route to destination.
        (0, Network),
        // Communication with destination administratively prohibited.
        (1, Prohibited),
        // Beyond scope of source address.
        (2, Other),
        // Address unreachable.
        (3, Host),
        (4, Port),
        // Source address failed ingress/egress policy; reject route to destination.
        (5, Prohibited),
        (6, Prohibited),
        // Error in source routing header; headers too long.
        (7, Other),
        (8, Other),
    ] {
        assert_eq!(reason6(1, code), Some(reason), "code {code}");
    }
}

#[test]
fn other_icmpv6_errors_have_theirs() {
    // Packet too big: the segment is sent again, smaller.
    assert_eq!(reason6(2, 0), None);
    assert_eq!(reason6(3, 0), Some(Unreachable::TimeExceeded));
    assert_eq!(reason6(3, 1), None);
    // Erroneous header field, unrecognized next header (there is no TCP), unrecognized option.
    assert_eq!(reason6(4, 0), Some(Unreachable::Other));
    assert_eq!(reason6(4, 1), Some(Unreachable::Protocol));
    assert_eq!(reason6(4, 2), Some(Unreachable::Other));
    // Echo, neighbour discovery.
    for kind in [128, 129, 133, 134, 135, 136, 137] {
        assert_eq!(reason6(kind, 0), None, "type {kind}");
    }
}
