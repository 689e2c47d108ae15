//! Whatever bytes a file holds: no panic, no endless loop, no more memory than the file is large.

use std::fs;

use tcp_observer::replay::{self, Input, Options, Problem, Progress};

use crate::packets::{self, ACK, FIN, PSH, RST, SECOND, SYN, Talk};

/// A little of everything.
fn capture() -> Vec<u8> {
    let mut talk = Talk::between("192.0.2.1:40000", "192.0.2.2:443");
    talk.client(0, SYN, 100, 0, 0).server(10, SYN | ACK, 500, 101, 0).client(20, ACK, 101, 501, 0);
    talk.client(30, PSH | ACK, 101, 501, 7).server(40, FIN | ACK, 501, 108, 0).client(50, RST, 108, 0, 0);
    let mut other = Talk::between("[2001:db8::1]:50000", "[2001:db8::2]:22");
    other.client(SECOND, PSH | ACK, 1, 1, 3).server(2 * SECOND, PSH | ACK, 1, 4, 3).client(3 * SECOND, ACK, 4, 4, 0);
    talk.segments.extend(other.segments);
    talk.segments.iter_mut().step_by(3).for_each(|(_, segment)| segment.vlans = vec![80, 81]);
    talk.pcap()
}

/// The same packets as pcapng: a section, an interface with a resolution, and a block for each.
fn capture_ng() -> Vec<u8> {
    let pcap = capture();
    let word = |at: usize| u32::from_le_bytes(pcap[at..at + 4].try_into().unwrap());
    let mut file = Vec::new();
    let mut block = |kind: u32, body: &[u8]| {
        let length = body.len().next_multiple_of(4) as u32 + 12;
        file.extend(kind.to_le_bytes());
        file.extend(length.to_le_bytes());
        file.extend(body);
        file.resize(file.len().next_multiple_of(4), 0);
        file.extend(length.to_le_bytes());
    };
    block(0x0a0d_0d0a, &[&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat());
    block(1, &[1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0, 9, 0, 0, 0, 14, 0, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut at = 24;
    while at < pcap.len() {
        let ns = u64::from(word(at)) * SECOND + u64::from(word(at + 4));
        let length = word(at + 8) as usize;
        let data = &pcap[at + 16..at + 16 + length];
        let header = [0, (ns >> 32) as u32, ns as u32, length as u32, length as u32];
        block(6, &[&header.map(u32::to_le_bytes).concat()[..], data].concat());
        at += 16 + length;
    }
    file
}

/// Reads it as far as that goes.
fn read(content: &[u8]) -> Option<Vec<Problem>> {
    let path = packets::file(content);
    let replay = replay::read(&path, &Options::default());
    fs::remove_file(&path).unwrap();
    Some(replay.ok()?.fault.map_or_else(Vec::new, |fault| fault.problems))
}

#[test]
fn every_prefix_of_a_capture_is_whole_or_torn_at_the_record_that_it_ends_in() {
    for (capture, header_bytes) in [(capture(), 24), (capture_ng(), 28)] {
        assert_eq!(read(&capture), Some(Vec::new()));
        let mut torn = 0;
        for length in 0..capture.len() {
            match read(&capture[..length]).as_deref() {
                None => assert!(length < header_bytes, "{length}"),
                Some([]) => torn = length as u64,
                Some([Problem::Truncated { offset }]) => assert_eq!(*offset, torn, "{length}"),
                Some(problems) => panic!("{length}: {problems:?}"),
            }
        }
    }
}

#[test]
fn flipped_bits_do_no_harm() {
    // xorshift64: the same flips each time.
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    for capture in [capture(), capture_ng()] {
        for _ in 0..300 {
            let mut flipped = capture.clone();
            for _ in 0..=random(8) {
                let at = random(flipped.len());
                flipped[at] ^= 1 << random(8);
            }
            read(&flipped);
            let at = random(flipped.len());
            flipped[at..].fill(random(256) as u8);
            read(&flipped);
        }
    }
}

#[test]
fn a_record_that_claims_to_be_huge_is_corrupt_and_what_came_before_is_kept() {
    let mut content = capture();
    let end = content.len() as u64;
    content.extend([0; 8]);
    content.extend(u32::MAX.to_le_bytes());
    content.extend([0; 100]);
    let reason = "it claims to be larger than 16 MiB";
    assert_eq!(read(&content), Some(vec![Problem::Corrupt { offset: end, reason }]));
}

#[test]
fn a_block_that_is_shorter_than_its_packet_is_corrupt_however_much_follows() {
    let mut content = capture_ng();
    let end = content.len() as u64;
    let block = [6, 36, 0, 0, 0, 1000, 1000, 0, 36];
    content.extend(block.map(u32::to_le_bytes).concat());
    content.extend([0; 2_000]);
    let problems = read(&content).unwrap();
    assert!(matches!(problems[..], [Problem::Corrupt { offset, .. }] if offset == end), "{problems:?}");
}

#[test]
fn a_block_that_is_shorter_than_its_own_fields_is_the_same_however_much_of_it_is_there() {
    let mut file = capture_ng()[..60].to_vec();
    // The interface's block says that it is one byte long.
    file[32..36].copy_from_slice(&1_u32.to_le_bytes());
    for length in 36..=file.len() {
        let reason = "its fields do not fit each other";
        assert_eq!(read(&file[..length]), Some(vec![Problem::Corrupt { offset: 28, reason }]), "{length}");
    }
}

#[test]
fn a_packet_of_an_interface_that_was_not_described_is_corrupt() {
    let mut content = capture_ng();
    let end = content.len() as u64;
    content.extend([6, 32, 9, 0, 0, 0, 0, 32].map(u32::to_le_bytes).concat());
    let problems = read(&content).unwrap();
    assert!(matches!(problems[..], [Problem::Corrupt { offset, .. }] if offset == end), "{problems:?}");
}

#[test]
fn at_the_end_of_time_nothing_is_waited_for() {
    let states = |content: &[u8]| {
        let path = packets::file(content);
        let mut states = Vec::new();
        let add = |event: replay::follow::Event| {
            states.push(event.after.states());
            Ok(())
        };
        let outcome =
            replay::follow(&[Input::File(path.clone())], &Options::default(), Progress::hidden(), add).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(outcome.faults.len(), 0);
        states
    };
    let mut capture = capture_ng();
    let in_time = states(&capture);
    // The interface's offset, in seconds.
    capture[56..64].copy_from_slice(&i64::MAX.to_le_bytes());
    assert_eq!(states(&capture), in_time);
    assert!(in_time.len() >= 5, "{in_time:?}");
}
