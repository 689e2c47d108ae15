//! What might be in a capture: any bytes as a file, packed or not; and files put together of packets of any link type,
//! so that a fuzzer need not find out how files are framed before it comes to what is in them.

use std::{io::Write as _, sync::Arc};

use flate2::{Compression, write::GzEncoder};
use ipnet::IpNet;

use crate::{
    output::{self, Format, follow},
    replay::{self, Finished, Input, Options, Outcome, Progress, follow::Event},
    snapshot::Snapshot,
};

/// The numbers of link types that can be read, and two that cannot.
const LINK_TYPES: [u16; 54] = [
    1, 12, 14, 101, 228, 229, 0, 108, 6, 9, 166, 204, 50, 51, 10, 11, 100, 104, 205, 105, 107, 206, 113, 276, 117, 119,
    163, 122, 127, 138, 143, 192, 219, 226, 239, 240, 241, 242, 258, 274, 1, 1, 1, 1, 1, 1, 1, 1, 101, 101, 113, 276,
    2, 147,
];
/// How much comes at once.
const PIECES: [usize; 4] = [usize::MAX, 1, 5, 100];
/// Larger inputs say nothing that smaller ones do not.
const MAX_BYTES: usize = 64 * 1024;

/// The first byte says what the rest is, the second of which link type.
///
/// # Panics
/// Where what is read depends on how it comes, or an output is not what its format says.
pub fn captures(bytes: &[u8]) {
    let [manner, link, content @ ..] = bytes else { return };
    if content.len() > MAX_BYTES {
        return;
    }
    let link = LINK_TYPES[usize::from(*link) % LINK_TYPES.len()];
    let mut file = match manner & 3 {
        0 => content.to_vec(),
        1 => pcap(link, content),
        2 => pcapng(link, content),
        _ => pcap(1, content),
    };
    if manner & 0x40 != 0 {
        file = gzip(&file);
        file.truncate(file.len() - usize::from(manner >> 7) * usize::from(link) % file.len());
    }
    let local: Vec<IpNet> =
        if manner & 0x10 == 0 { Vec::new() } else { vec!["192.0.2.0/24".parse().expect("a prefix")] };
    let options = Options { local };
    let whole = read(&file, usize::MAX, &options);
    let piece = PIECES[usize::from(manner >> 2 & 3)];
    if piece != usize::MAX {
        assert_eq!(whole, read(&file, piece, &options), "in pieces of {piece} bytes");
    }
}

/// All that is made of a file: flows in each format, events, faults, and what was counted.
#[derive(Debug, PartialEq, Eq)]
struct Made {
    flows: Vec<String>,
    events: String,
    faults: String,
    packets: [u64; 2],
}

fn read(file: &[u8], piece: usize, options: &Options) -> Made {
    let inputs = [Input::Bytes { bytes: Arc::from(file), piece }];
    let mut finished = Vec::new();
    let keep = |flow: Finished| {
        finished.push(flow);
        Ok(())
    };
    let outcome = replay::stream(&inputs, options, Progress::hidden(), keep).expect("the sink takes everything");
    let (faults, counted) = (said(&outcome), packets(&outcome));
    let snapshot = outcome.snapshot(finished);
    let (events, followed) = follow(&inputs, options);
    assert_eq!(faults, said(&followed), "following reads the same");
    Made { flows: written(&snapshot), events, faults, packets: [counted, packets(&followed)] }
}

fn said(outcome: &Outcome) -> String {
    outcome.faults.iter().map(|fault| format!("{fault:#}\n")).collect()
}

/// Updates and skips.
fn packets(outcome: &Outcome) -> u64 {
    let counters = &outcome.totals.counters;
    counters.segments.iter().flatten().chain(&counters.skipped).chain(&counters.unreachable).sum()
}

fn written(snapshot: &Snapshot) -> Vec<String> {
    let flows: Vec<_> = snapshot.flows.iter().collect();
    let formats = [Format::Table, Format::Wide, Format::Json, Format::Csv];
    let text = |format| {
        let mut out = Vec::new();
        output::write_flows(&flows, snapshot.taken_unix_ns, format, false, &mut out)
            .expect("a vector takes everything");
        String::from_utf8(out).expect("outputs are text")
    };
    let texts: Vec<_> = formats.into_iter().map(text).collect();
    for line in texts[2].lines() {
        let record: serde_json::Value = serde_json::from_str(line).expect("a record is JSON");
        assert!(record.is_object(), "{line}");
    }
    assert_eq!(texts[2].lines().count(), flows.len());
    texts
}

fn follow(inputs: &[Input], options: &Options) -> (String, Outcome) {
    let mut texts = [const { Vec::new() }; 3];
    let [text, dated, json] = &mut texts;
    let mut lines = [
        follow::Lines::new(follow::Format::Text, text),
        follow::Lines::new(follow::Format::Dated, dated),
        follow::Lines::new(follow::Format::Json, json),
    ];
    let add = |event: Event| lines.iter_mut().try_for_each(|lines| lines.add(&event));
    let outcome = replay::follow(inputs, options, Progress::hidden(), add).expect("a vector takes everything");
    let texts = texts.map(|text| String::from_utf8(text).expect("outputs are text"));
    for line in texts[2].lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("an event is JSON");
    }
    (texts.concat(), outcome)
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
    encoder.write_all(content).expect("a vector takes everything");
    encoder.finish().expect("a vector takes everything")
}

/// Packets: a byte of length in words of two bytes, one of time, and the bytes themselves.
fn records(content: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let (mut rest, mut at_us) = (content, 1_700_000_000_000_000_u64);
    std::iter::from_fn(move || {
        let [length, time, after @ ..] = rest else { return None };
        let length = (usize::from(*length) * 2).min(after.len());
        // From no time to some days.
        at_us += u64::from(time & 31) << (time >> 5 << 2);
        let (packet, after) = after.split_at(length);
        rest = after;
        Some((at_us, packet))
    })
}

/// <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html>
fn pcap(link: u16, content: &[u8]) -> Vec<u8> {
    let words = |words: [u32; 4]| words.map(u32::to_le_bytes).concat();
    let mut file = [&0xa1b2_c3d4_u32.to_le_bytes()[..], &[2, 0, 4, 0], &words([0, 0, 0xffff, link.into()])].concat();
    for (at_us, packet) in records(content) {
        let length = packet.len() as u32;
        file.extend(words([(at_us / 1_000_000) as u32, (at_us % 1_000_000) as u32, length, length]));
        file.extend(packet);
    }
    file
}

/// <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html>: an interface of this link type, and one that is
/// Ethernet.
fn pcapng(link: u16, content: &[u8]) -> Vec<u8> {
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
    for link in [link, 1] {
        block(1, &[&link.to_le_bytes()[..], &[0, 0, 0, 0, 0, 0]].concat());
    }
    for (number, (at_us, packet)) in records(content).enumerate() {
        let length = packet.len() as u32;
        let header = [number as u32 & 1, (at_us >> 32) as u32, at_us as u32, length, length];
        block(6, &[&header.map(u32::to_le_bytes).concat()[..], packet].concat());
    }
    file
}
