//! The TCP header and the options of a SYN (<https://www.rfc-editor.org/rfc/rfc9293#section-3.1>).

use super::*;
use crate::seq::SeqNum;

fn of(tcp: &[u8]) -> Result<Segment, Skip> {
    parse(&v4(&[], tcp)[..], Link::Ip).map(|parsed| parsed.segment)
}

fn shift(options: &[u8]) -> u8 {
    of(&tcp(SYN, options, 0)).expect("options never make a segment invalid").window_shift
}

#[test]
fn every_field_is_where_the_rfc_has_it() {
    let segment = of(&tcp(ACK | Flags::PSH, &[], 9)).unwrap();
    let expected = Segment {
        seq: SeqNum(1000),
        ack: SeqNum(2000),
        payload_bytes: 9,
        wire_segments: 1,
        window: 512,
        flags: Flags(ACK | Flags::PSH),
        window_shift: Segment::NO_SHIFT,
    };
    assert_eq!(segment, expected);
}

#[test]
fn the_data_offset_says_where_the_payload_begins() {
    assert_eq!(of(&tcp(ACK, &[1; 40], 9)).unwrap().payload_bytes, 9);
    let mut header = tcp(ACK, &[], 9);
    for words in 0..5 {
        header[12] = words << 4;
        assert_eq!(of(&header), Err(Skip::BadHeader));
    }
    // Eight words of a packet that has twenty-nine bytes.
    header[12] = 8 << 4;
    assert_eq!(of(&header), Err(Skip::BadHeader));
}

#[test]
fn a_header_that_the_ip_length_cuts_off_is_bad() {
    let mut packet = v4(&[], &tcp(ACK, &[], 0));
    packet[3] = 39;
    assert_eq!(parse(&packet[..], Link::Ip), Err(Skip::BadHeader));
}

#[test]
fn flags_that_no_tcp_sends_are_bad() {
    let (fin, psh, rst) = (Flags::FIN, Flags::PSH, Flags::RST);
    for flags in [0, fin, psh, fin | psh | 0x20, 0x20, SYN | fin, SYN | fin | ACK] {
        assert_eq!(of(&tcp(flags, &[], 0)), Err(Skip::BadFlags), "{flags:#04x}");
    }
    for flags in [SYN, SYN | ACK, ACK, ACK | fin, ACK | psh, rst, rst | ACK, SYN | psh, SYN | 0xc0, ACK | 0xe0] {
        assert!(of(&tcp(flags, &[], 0)).is_ok(), "{flags:#04x}");
    }
}

#[test]
fn the_window_scale_is_found_in_the_layouts_of_the_usual_systems() {
    let linux = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 1, 2, 3, 0, 0, 0, 0, 1, 3, 3, 7];
    let mac_os = [2, 4, 5, 0xb4, 1, 3, 3, 6, 1, 1, 8, 10, 0, 1, 2, 3, 0, 0, 0, 0, 4, 2, 0, 0];
    let windows = [2, 4, 5, 0xb4, 1, 3, 3, 8, 1, 1, 4, 2];
    let linux_without_timestamps = [2, 4, 5, 0xb4, 1, 1, 4, 2, 1, 3, 3, 9];
    let free_bsd = [2, 4, 5, 0xb4, 1, 3, 3, 5, 4, 2, 8, 10, 0, 1, 2, 3, 0, 0, 0, 0];
    assert_eq!(shift(&linux), 7);
    assert_eq!(shift(&mac_os), 6);
    assert_eq!(shift(&windows), 8);
    assert_eq!(shift(&linux_without_timestamps), 9);
    assert_eq!(shift(&free_bsd), 5);
}

#[test]
fn a_syn_without_the_option_has_no_shift() {
    assert_eq!(shift(&[]), Segment::NO_SHIFT);
    assert_eq!(shift(&[2, 4, 5, 0xb4]), Segment::NO_SHIFT);
    // Behind the end of the options.
    assert_eq!(shift(&[0, 3, 3, 7]), Segment::NO_SHIFT);
}

#[test]
fn a_shift_of_zero_is_a_shift_and_the_greatest_is_fourteen() {
    assert_eq!(shift(&[1, 3, 3, 0]), 0);
    assert_eq!(shift(&[1, 3, 3, 14]), 14);
    assert_eq!(shift(&[1, 3, 3, 15]), 14);
    assert_eq!(shift(&[1, 3, 3, 255]), 14);
}

#[test]
fn torn_or_lying_options_end_the_search_and_the_segment_still_counts() {
    // A length of zero, of one, beyond the header, the kind as the last byte, a window scale of a wrong length.
    for options in [[8, 0, 3, 3], [8, 1, 3, 3], [8, 10, 3, 3], [1, 1, 1, 3], [1, 1, 3, 3], [3, 4, 7, 7], [3, 2, 0, 0]] {
        assert_eq!(shift(&options), Segment::NO_SHIFT, "{options:?}");
    }
}

#[test]
fn an_option_does_not_reach_into_the_payload() {
    assert_eq!(of(&tcp(SYN, &[1, 1, 3, 3], 8)).unwrap().window_shift, Segment::NO_SHIFT);
}

#[test]
fn the_option_counts_on_a_syn_only() {
    let options = [1, 3, 3, 7];
    assert_eq!(of(&tcp(ACK, &options, 0)).unwrap().window_shift, Segment::NO_SHIFT);
    assert_eq!(of(&tcp(SYN | ACK, &options, 0)).unwrap().window_shift, 7);
}
