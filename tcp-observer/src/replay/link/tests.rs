//! How headers end where they are torn, unknown or encrypted. Whole frames are in `tests/replay/links.rs`.

use super::*;

type Found = Result<(Network, usize, Vec<u16>, Option<u32>), Skip>;

fn at(link: u16, bytes: &[u8]) -> Found {
    let packet = Packet { bytes, wire_bytes: bytes.len() };
    let found = network(LinkType::of(link).unwrap(), packet)?;
    Ok((found.network, bytes.len() - found.packet.bytes.len(), found.tags.ids().to_vec(), found.interface))
}

fn at_offset(network: Network, offset: usize) -> Found {
    Ok((network, offset, Vec::new(), None))
}

#[test]
fn loopback_families_are_told_in_either_byte_order() {
    assert_eq!(at(0, &[2, 0, 0, 0, 0x45]), at_offset(Network::Ipv4, 4));
    assert_eq!(at(0, &[0, 0, 0, 30, 0x60]), at_offset(Network::Ipv6, 4));
    assert_eq!(at(108, &[0, 0, 0, 24, 0x60]), at_offset(Network::Ipv6, 4));
    assert_eq!(at(0, &[7, 0, 0, 0]), Err(Skip::NotIp));
    assert_eq!(at(0, &[2, 0, 0]), Err(Skip::Truncated));
}

#[test]
fn cooked_headers_end_with_an_ethertype_and_newer_ones_begin_with_it() {
    let mut cooked = [0; 16];
    cooked[14] = 0x08;
    assert_eq!(at(113, &cooked), at_offset(Network::Ipv4, 16));
    let mut cooked2 = [0; 20];
    cooked2[..2].copy_from_slice(&[0x86, 0xdd]);
    cooked2[7] = 5;
    assert_eq!(at(276, &cooked2), Ok((Network::Ipv6, 20, vec![], Some(5))));
    cooked2[0] = 0x99;
    assert_eq!(at(276, &cooked2), Err(Skip::NotIp));
}

#[test]
fn tags_are_collected_wherever_they_stand() {
    let mut ethernet = vec![0; 12];
    ethernet.extend([0x88, 0xa8, 0x20, 80, 0x81, 0, 0, 81, 0x86, 0xdd]);
    assert_eq!(at(1, &ethernet), Ok((Network::Ipv6, 22, vec![80, 81], None)));
    let mut cooked2 = vec![0x81, 0, 0, 0, 0, 0, 0, 3];
    cooked2.resize(20, 0);
    cooked2.extend([0x40, 7, 0x08, 0]);
    assert_eq!(at(276, &cooked2), Ok((Network::Ipv4, 24, vec![7], Some(3))));
    let mut priority = vec![0; 12];
    priority.extend([0x81, 0, 0xe0, 0, 0x08, 0]);
    assert_eq!(at(1, &priority), at_offset(Network::Ipv4, 18));
}

#[test]
fn beyond_four_tags_flows_are_told_apart_no_more_but_found() {
    let mut ethernet = vec![0; 12];
    (1..=6).for_each(|id| ethernet.extend([0x81, 0, 0, id]));
    ethernet.extend([0x08, 0]);
    assert_eq!(at(1, &ethernet), Ok((Network::Ipv4, 38, vec![1, 2, 3, 4], None)));
}

#[test]
fn chains_of_headers_without_an_end_are_not_ip() {
    let mut tagged = vec![0; 12];
    (0..10_000).for_each(|_| tagged.extend([0x81, 0, 0, 1]));
    assert_eq!(at(1, &tagged), Err(Skip::NotIp));
    assert_eq!(at(219, &[0; 1000]), Err(Skip::NotIp));
    // Each PKTAP header announces another one of no length.
    let nested = [0_u32, 1, 258].map(u32::to_le_bytes).concat();
    assert_eq!(at(258, &nested), Err(Skip::NotIp));
}

#[test]
fn lengths_that_point_beyond_the_packet_are_torn_frames() {
    let pktap = [u32::MAX, 1, 1].map(u32::to_le_bytes).concat();
    assert_eq!(at(258, &pktap), Err(Skip::Truncated));
    assert_eq!(at(127, &[0, 0, 0xff, 0xff, 0, 0, 0, 0]), Err(Skip::Truncated));
    assert_eq!(at(163, &[0x80, 0x21, 0x10, 1, 0xff, 0xff, 0xff, 0xff]), Err(Skip::Truncated));
    assert_eq!(at(239, &[2, 0, 0, 0, 0xff, 0xff, 1, 0]), Err(Skip::Truncated));
}

#[test]
fn encrypted_aggregated_and_empty_wireless_frames_are_not_ip() {
    let frame = |control: u8, flags: u8, qos: u8| {
        let mut frame = vec![control, flags];
        frame.resize(24, 0);
        if control & 0x80 != 0 {
            frame.extend([qos, 0]);
        }
        frame.extend([0xaa, 0xaa, 3, 0, 0, 0, 8, 0]);
        at(105, &frame)
    };
    assert_eq!(frame(0x08, 0x01, 0), at_offset(Network::Ipv4, 32));
    assert_eq!(frame(0x88, 0x01, 0), at_offset(Network::Ipv4, 34));
    assert_eq!(frame(0x08, 0x41, 0), Err(Skip::NotIp), "protected");
    assert_eq!(frame(0x88, 0x01, 0x80), Err(Skip::NotIp), "an aggregate");
    assert_eq!(frame(0x48, 0x01, 0), Err(Skip::NotIp), "no data");
    assert_eq!(frame(0x80, 0x00, 0), Err(Skip::NotIp), "a beacon");
}

#[test]
fn any_bytes_under_any_link_type_have_an_answer() {
    // xorshift64: the same bytes each time.
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let readable: Vec<_> = (0..1000).filter_map(LinkType::of).collect();
    assert!(readable.len() > 35, "{}", readable.len());
    for link in readable {
        for round in 0..2000 {
            // Small numbers are met where headers begin: lengths, families, flags.
            let mask = if round % 2 == 0 { 0xff } else { 0x0f };
            let bytes: Vec<u8> = (0..random() % 120).map(|_| random() as u8 & mask).collect();
            let wire_bytes = bytes.len() + random() as usize % 9;
            let _ = network(link, Packet { bytes: &bytes, wire_bytes });
        }
    }
}
