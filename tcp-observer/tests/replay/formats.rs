//! Every flavour of file says the same.

use tcp_observer::{replay::Problem, snapshot::FlowRecord, source::Source as _};
use tcp_observer_common::{conn::Outcome, counters::Skip};

use crate::packets::{ACK, MICROSECOND, SECOND, START, SYN, Talk, pcap_header, replay};

pub fn talk() -> Talk {
    let mut talk = Talk::between("192.0.2.1:40000", "192.0.2.2:443");
    talk.client(0, SYN, 100, 0, 0).server(14 * MICROSECOND, SYN | ACK, 500, 101, 0);
    talk.client(24 * MICROSECOND, ACK, 101, 501, 0).client(SECOND, ACK, 101, 501, 9);
    talk
}

fn only_flow(content: &[u8]) -> FlowRecord {
    let replay = replay(content);
    assert_eq!(replay.fault, None);
    let mut flows = replay.into_snapshot().flows;
    assert_eq!(flows.len(), 1);
    flows.remove(0)
}

pub fn assert_is_the_talk(flow: &FlowRecord) {
    assert_eq!(flow.first_seen_unix_ns, START);
    assert_eq!(flow.last_seen_unix_ns, START + SECOND);
    assert_eq!(flow.handshake.syn_to_synack_ns, Some(14 * MICROSECOND));
    assert_eq!(flow.handshake.total_ns, Some(24 * MICROSECOND));
    assert_eq!((flow.originator.packets, flow.responder.packets, flow.originator.bytes), (3, 1, 9));
}

/// Words of a file in one byte order.
struct Words {
    big_endian: bool,
    file: Vec<u8>,
}

impl Words {
    fn new(big_endian: bool) -> Self {
        Self { big_endian, file: Vec::new() }
    }

    fn u32(&mut self, word: u32) -> &mut Self {
        self.file.extend(if self.big_endian { word.to_be_bytes() } else { word.to_le_bytes() });
        self
    }

    fn u16(&mut self, word: u16) -> &mut Self {
        self.file.extend(if self.big_endian { word.to_be_bytes() } else { word.to_le_bytes() });
        self
    }

    fn u64(&mut self, word: u64) -> &mut Self {
        self.file.extend(if self.big_endian { word.to_be_bytes() } else { word.to_le_bytes() });
        self
    }

    /// A pcapng block around what `body` writes, which is a multiple of four bytes long.
    fn block(&mut self, kind: u32, body: impl FnOnce(&mut Self)) -> &mut Self {
        let mut inner = Self::new(self.big_endian);
        body(&mut inner);
        inner.file.resize(inner.file.len().next_multiple_of(4), 0);
        let length = inner.file.len() as u32 + 12;
        self.u32(kind).u32(length).file.extend(inner.file);
        self.u32(length)
    }

    fn section(&mut self) -> &mut Self {
        self.block(0x0a0d_0d0a, |body| {
            body.u32(0x1a2b_3c4d).u16(1).u16(0).u64(u64::MAX);
        })
    }

    fn interface(&mut self, link: u16, tsresol: u8, offset_seconds: i64) -> &mut Self {
        self.block(1, |body| {
            body.u16(link).u16(0).u32(0);
            body.u16(9).u16(1).file.extend([tsresol, 0, 0, 0]);
            body.u16(14).u16(8).u64(offset_seconds as u64);
            body.u16(0).u16(0);
        })
    }

    fn packet(&mut self, interface: u32, ticks: u64, frame: &[u8]) -> &mut Self {
        self.block(6, |body| {
            let length = frame.len() as u32;
            body.u32(interface).u32((ticks >> 32) as u32).u32(ticks as u32).u32(length).u32(length);
            body.file.extend(frame);
        })
    }
}

#[test]
fn pcap_in_either_byte_order_and_resolution() {
    for big_endian in [false, true] {
        for (magic, ns_per_fraction) in [(0xa1b2_c3d4, 1_000), (0xa1b2_3c4d, 1)] {
            let mut words = Words::new(big_endian);
            words.u32(magic).u16(2).u16(4).u32(0).u32(0).u32(65_535).u32(1);
            for (at_ns, segment) in talk().segments {
                let frame = segment.frame();
                words.u32((at_ns / SECOND) as u32).u32((at_ns % SECOND / ns_per_fraction) as u32);
                words.u32(frame.len() as u32).u32(frame.len() as u32).file.extend(frame);
            }
            assert_is_the_talk(&only_flow(&words.file));
        }
    }
}

#[test]
fn pcapng_in_either_byte_order_with_a_resolution_for_each_interface() {
    for big_endian in [false, true] {
        let mut words = Words::new(big_endian);
        // Milliseconds would not do: micro- and nanoseconds, and one with an offset.
        words.section().interface(1, 6, 0).interface(101, 9, 0).interface(1, 6, 1_000_000);
        for (index, (at_ns, segment)) in talk().segments.into_iter().enumerate() {
            match index {
                0 => words.packet(0, at_ns / 1_000, &segment.frame()),
                1 => words.packet(1, at_ns, &segment.packet()),
                _ => words.packet(2, at_ns / 1_000 - 1_000_000 * 1_000_000, &segment.frame()),
            };
        }
        let replay = replay(&words.file);
        assert_eq!(replay.fault, None);
        // The client's first segment and its next ones were seen on two interfaces: its path has changed.
        assert_is_the_talk(&replay.snapshot().unwrap().flows[0]);
    }
}

#[test]
fn copies_on_another_interface_are_counted_once() {
    let mut words = Words::new(false);
    words.section().interface(1, 9, 0).interface(1, 9, 0);
    for (at_ns, segment) in talk().segments {
        words.packet(0, at_ns, &segment.frame()).packet(1, at_ns + 10, &segment.frame());
    }
    let replay = replay(&words.file);
    let snapshot = replay.into_snapshot();
    assert_eq!((snapshot.flows[0].originator.packets, snapshot.flows[0].responder.packets), (3, 1));
    assert_eq!(snapshot.totals.counters.skipped[Skip::Duplicate.index()], 4);
}

#[test]
fn later_sections_and_obsolete_and_simple_packets_are_read() {
    let mut words = Words::new(false);
    let segments = talk().segments;
    words.section().interface(1, 9, 0).packet(0, segments[0].0, &segments[0].1.frame());
    let mut second = Words::new(true);
    second.section().interface(101, 9, 0);
    let (at_ns, synack) = &segments[1];
    let packet = synack.packet();
    second.block(2, |body| {
        let length = packet.len() as u32;
        body.u16(0).u16(0).u32((at_ns >> 32) as u32).u32(*at_ns as u32).u32(length).u32(length);
        body.file.extend(&packet);
    });
    let ack = segments[2].1.packet();
    second.block(3, |body| {
        body.u32(ack.len() as u32).file.extend(&ack);
    });
    let flow = only_flow(&[words.file, second.file].concat());
    assert_eq!(flow.handshake.outcome, Outcome::Completed);
    assert_eq!(flow.handshake.syn_to_synack_ns, Some(14 * MICROSECOND));
    // A packet without a time stamp belongs to the moment before.
    assert_eq!(flow.handshake.synack_to_ack_ns, Some(0));
}

#[test]
fn packets_of_an_unknown_link_type_are_skipped_and_named_beside_the_others() {
    let mut words = Words::new(false);
    words.section().interface(1, 9, 0).interface(231, 9, 0).interface(189, 9, 0);
    for (at_ns, segment) in talk().segments {
        words.packet(0, at_ns, &segment.frame()).packet(1, at_ns, &[1, 2, 3]);
    }
    let replay = replay(&words.file);
    assert_eq!(replay.fault.as_ref().unwrap().problems, [Problem::UnknownLink { link: 231, packets: 4 }]);
    let snapshot = replay.into_snapshot();
    assert_is_the_talk(&snapshot.flows[0]);
    assert_eq!(snapshot.totals.counters.skipped[Skip::NotIp.index()], 4);
}

#[test]
fn what_was_cut_off_a_packet_still_counts_as_payload() {
    let mut file = pcap_header(1);
    for (at_ns, mut segment) in talk().segments {
        segment.payload *= 100;
        let frame = segment.frame();
        let captured = frame.len().min(54);
        for word in [(at_ns / SECOND) as u32, (at_ns % SECOND) as u32, captured as u32, frame.len() as u32] {
            file.extend(word.to_le_bytes());
        }
        file.extend(&frame[..captured]);
    }
    assert_eq!(only_flow(&file).originator.bytes, 900);
}

#[test]
fn a_capture_that_begins_at_the_epoch_has_its_times() {
    let mut talk = talk();
    talk.segments.iter_mut().for_each(|(at_ns, _)| *at_ns -= START);
    let flow = talk.flow();
    assert_eq!((flow.first_seen_unix_ns, flow.handshake.total_ns), (0, Some(24 * MICROSECOND)));
}

#[test]
fn a_clock_that_is_set_back_does_not_hide_latencies() {
    let mut talk = talk();
    let mut later = Talk::between("192.0.2.1:40001", "192.0.2.2:443");
    later.client(0, SYN, 100, 0, 0).server(14 * MICROSECOND, SYN | ACK, 500, 101, 0);
    later.client(24 * MICROSECOND, ACK, 101, 501, 0);
    talk.segments.extend(later.segments.into_iter().map(|(at_ns, segment)| (at_ns - 3_600 * SECOND, segment)));
    let flows = talk.flows();
    assert_eq!(flows.len(), 2);
    for flow in flows {
        assert_eq!(flow.handshake.syn_to_synack_ns, Some(14 * MICROSECOND));
        assert_eq!(flow.handshake.outcome, Outcome::Completed);
    }
}

#[test]
fn larger_records_than_the_buffer_are_read() {
    let mut words = Words::new(false);
    words.section().interface(1, 9, 0);
    words.block(0x0000_0bad, |body| body.file.resize(1_000_000, 0));
    for (at_ns, segment) in talk().segments {
        words.packet(0, at_ns, &segment.frame());
    }
    assert_is_the_talk(&only_flow(&words.file));
}
