//! The TCP header and its options (<https://www.rfc-editor.org/rfc/rfc9293#section-3.1>).

use super::*;
use crate::seq::SeqNum;

fn of(tcp: &[u8]) -> Result<Segment, Skip> {
    parse(&v4(&[], tcp)[..], Link::Ip).map(|read| read.segment)
}

/// What these options say, padded with NOPs to whole words at their front.
fn said(options: &[u8]) -> Options {
    let mut padded = vec![1; options.len().next_multiple_of(4) - options.len()];
    padded.extend(options);
    of(&tcp(SYN, &padded, 0)).expect("options never make a segment invalid").options
}

fn shift(options: &[u8]) -> u8 {
    said(options).window_shift
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
        accurate_ecn: 0,
        options: Options::NONE,
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
fn a_header_that_a_capture_cut_off_is_truncated() {
    let packet = v4(&[], &tcp(ACK, &[], 9));
    for bytes in 0..40 {
        let cut = Cut { bytes: &packet[..bytes], true_bytes: packet.len(), wire_segments: 1 };
        assert_eq!(parse(&cut, Link::Ip), Err(Skip::Truncated), "{bytes} bytes");
    }
}

/// RFC 9293, 3.10.7.4: what is neither SYN nor RST and has no ACK is dropped; SYN and FIN exclude each other.
#[test]
fn flags_that_no_tcp_sends_are_parsed_and_told_apart() {
    let (fin, psh, rst, urg) = (Flags::FIN, Flags::PSH, Flags::RST, Flags::URG);
    for flags in [0, fin, psh, fin | psh | urg, urg, SYN | fin, SYN | fin | ACK] {
        assert!(!of(&tcp(flags, &[], 0)).unwrap().flags.are_plausible(), "{flags:#04x}");
    }
    for flags in [SYN, SYN | ACK, ACK, ACK | fin, ACK | psh, rst, rst | ACK, SYN | psh, SYN | 0xc0, ACK | 0xe0] {
        assert!(of(&tcp(flags, &[], 0)).unwrap().flags.are_plausible(), "{flags:#04x}");
    }
    for (flags, controls) in [(ACK, 0), (fin | ACK, 1), (SYN | fin, 2), (fin | rst, 2), (SYN | fin | rst | ACK, 3)] {
        assert_eq!(of(&tcp(flags, &[], 0)).unwrap().flags.controls(), controls, "{flags:#04x}");
    }
}

/// RFC 9768, figure 2: AE is the last bit of the byte that begins with the data offset; the three before it are
/// reserved.
#[test]
fn the_ninth_flag_stands_beside_the_data_offset() {
    for (bits, accurate_ecn) in [(0b0000, 0), (0b0001, 1), (0b1110, 0), (0b1111, 1)] {
        let mut header = tcp(SYN, &[], 9);
        header[12] |= bits;
        let segment = of(&header).unwrap();
        assert_eq!((segment.accurate_ecn, segment.payload_bytes), (accurate_ecn, 9), "{bits:#06b}");
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
    assert_eq!(shift(&[]), Options::NO_SHIFT);
    assert_eq!(shift(&[2, 4, 5, 0xb4]), Options::NO_SHIFT);
    // Behind the end of the options.
    assert_eq!(shift(&[0, 3, 3, 7]), Options::NO_SHIFT);
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
        assert_eq!(shift(&options), Options::NO_SHIFT, "{options:?}");
    }
}

#[test]
fn an_option_does_not_reach_into_the_payload() {
    assert_eq!(of(&tcp(SYN, &[1, 1, 3, 3], 8)).unwrap().options.window_shift, Options::NO_SHIFT);
}

// ---- Each option ----

#[test]
fn each_option_says_what_its_rfc_has_it_say() {
    // RFC 9293, 3.2; RFC 7323, 2.2 and 3.2; RFC 2018, 2; RFC 7413, 4.1.1, with a cookie and without.
    assert_eq!(said(&[2, 4, 5, 0xb4]), Options { mss: 1460, ..Options::NONE });
    assert_eq!(said(&[3, 3, 9]), Options { window_shift: 9, ..Options::NONE });
    assert_eq!(said(&[4, 2]), Options { present: Options::SACK, ..Options::NONE });
    let timestamps =
        Options { ts_value: 0x0102_0304, ts_echo: 0xa1b2_c3d4, present: Options::TIMESTAMPS, ..Options::NONE };
    assert_eq!(said(&[8, 10, 1, 2, 3, 4, 0xa1, 0xb2, 0xc3, 0xd4]), timestamps);
    // Behind it the padding, not in front as RFC 7323 (appendix A) recommends and `said` has it.
    assert_eq!(said(&[8, 10, 1, 2, 3, 4, 0xa1, 0xb2, 0xc3, 0xd4, 1, 1]), timestamps);
    // And what comes behind both counts.
    let with_size = said(&[1, 1, 8, 10, 1, 2, 3, 4, 0xa1, 0xb2, 0xc3, 0xd4, 2, 4, 5, 0xb4]);
    assert_eq!(with_size, Options { mss: 1460, ..timestamps });
    let fast_open = Options { present: Options::FAST_OPEN, ..Options::NONE };
    assert_eq!(said(&[34, 2]), fast_open);
    assert_eq!(said(&[34, 10, 1, 2, 3, 4, 5, 6, 7, 8]), fast_open);
}

/// RFC 7413, appendix A.1: option 254 with the magic number 0xF989.
#[test]
fn the_experimental_fast_open_option_is_told_by_its_magic_number() {
    for options in [&[254, 4, 0xf9, 0x89][..], &[254, 12, 0xf9, 0x89, 1, 2, 3, 4, 5, 6, 7, 8]] {
        assert_eq!(said(options), Options { present: Options::FAST_OPEN, ..Options::NONE });
    }
    for options in [&[254, 4, 0xf9, 0x88][..], &[254, 2], &[254, 3, 0xf9], &[253, 4, 0xf9, 0x89]] {
        assert_eq!(said(options), Options::NONE, "{options:?}");
    }
}

#[test]
fn linuxs_syn_says_all_at_once() {
    let expected = Options {
        ts_value: 0x0001_0203,
        ts_echo: 0,
        mss: 1460,
        window_shift: 7,
        present: Options::SACK | Options::TIMESTAMPS,
    };
    assert_eq!(said(&[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 1, 2, 3, 0, 0, 0, 0, 1, 3, 3, 7]), expected);
}

#[test]
fn an_option_of_a_length_that_is_not_its_own_says_nothing_and_the_next_one_counts() {
    // MSS of three and of five bytes, a shift of two and of four, SACK permitted of three, timestamps of nine.
    for wrong in [&[2, 3, 5][..], &[2, 5, 5, 0xb4, 0], &[3, 2], &[3, 4, 7, 7], &[4, 3, 0], &[8, 9, 1, 2, 3, 4, 5, 6, 7]]
    {
        assert_eq!(said(wrong), Options::NONE, "{wrong:?}");
        let followed = [wrong, &[4, 2]].concat();
        assert_eq!(said(&followed), Options { present: Options::SACK, ..Options::NONE }, "{wrong:?}");
    }
}

#[test]
fn unknown_options_are_stepped_over() {
    // SACK blocks (5), MD5 (19), user timeout (28), TCP-AO (29), Multipath TCP (30), and one that nobody knows.
    for kind in [5, 19, 28, 29, 30, 200] {
        assert_eq!(shift(&[kind, 6, 0, 0, 0, 0, 3, 3, 7]), 7, "{kind}");
    }
}

#[test]
fn what_came_before_an_option_that_is_torn_or_lies_counts() {
    let expected = Options { mss: 1460, ..Options::NONE };
    for torn in [&[8, 0][..], &[8, 1], &[8, 11, 0, 0, 0, 0, 0, 0, 0, 0], &[3], &[8, 10, 1, 2]] {
        let options = [&[2, 4, 5, 0xb4], torn].concat();
        assert_eq!(said(&options), expected, "{torn:?}");
    }
}

#[test]
fn torn_at_any_place_the_options_say_no_more_than_what_is_whole() {
    let linux = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 1, 2, 3, 0, 0, 0, 0, 1, 3, 3, 7];
    let frame = tcp(SYN, &linux, 0);
    for bytes in 0..=linux.len() {
        let options = options(&frame[..20 + bytes], OptionsSpan { offset: 20, bytes: linux.len() });
        assert_eq!(options.mss, if bytes >= 4 { 1460 } else { 0 }, "{bytes}");
        assert_eq!(options.has(Options::SACK), bytes >= 6, "{bytes}");
        assert_eq!(options.has(Options::TIMESTAMPS), bytes >= 16, "{bytes}");
        assert_eq!(options.window_shift, if bytes >= 20 { 7 } else { Options::NO_SHIFT }, "{bytes}");
    }
}

#[test]
fn twelve_options_are_looked_at_and_a_thirteenth_is_not() {
    let mut options = vec![1; 11];
    options.extend([3, 3, 7, 4, 2]);
    let read = of(&tcp(SYN, &options, 0)).unwrap().options;
    assert_eq!(read, Options { window_shift: 7, ..Options::NONE });
}

#[test]
fn a_header_full_of_options_of_two_bytes_is_read_to_the_bound() {
    let options: Vec<u8> = [200, 2].into_iter().cycle().take(40).collect();
    assert_eq!(of(&tcp(SYN, &options, 0)).unwrap().options, Options::NONE);
}

#[test]
fn timestamps_are_read_of_any_segment() {
    let options = [1, 1, 8, 10, 0, 0, 0, 5, 0, 0, 0, 9];
    for flags in [ACK, ACK | Flags::FIN, Flags::RST | ACK] {
        let read = of(&tcp(flags, &options, 3)).unwrap().options;
        assert_eq!((read.ts_value, read.ts_echo), (5, 9));
    }
}
