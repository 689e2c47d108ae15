//! Ways to wrap a segment that must not matter to what it says.

use integration_tests::frames::Frame;

type Wrap = fn(Frame) -> Frame;

pub const ALL: [(&str, Wrap); 9] = [
    ("one VLAN tag", |frame| Frame { vlans: vec![(0x8100, 100)], ..frame }),
    ("two VLAN tags", |frame| Frame { vlans: vec![(0x88a8, 100), (0x8100, 200)], ..frame }),
    ("three VLAN tags", |frame| Frame { vlans: vec![(0x88a8, 1), (0x8100, 2), (0x8100, 3)], ..frame }),
    ("IPv4 options", |frame| Frame { ip_options: vec![0x94, 4, 0, 0, 1, 1, 0], ..frame }),
    ("the most of IPv4 options", |frame| Frame { ip_options: vec![1; 40], ..frame }),
    ("IPv6 extension headers", |frame| Frame {
        extensions: vec![(0, vec![1, 4]), (60, vec![1, 12, 0, 0]), (43, vec![0; 6])],
        ..frame
    }),
    ("TCP options", |frame| Frame { tcp_options: options(), ..frame }),
    ("the most of TCP options", |frame| Frame { tcp_options: vec![1; 40], ..frame }),
    ("a first fragment", |frame| Frame { fragment: Some((0, true)), ..frame }),
];

/// What Linux sends with a SYN: MSS, SACK permitted, timestamps, window scale 7.
fn options() -> Vec<u8> {
    vec![2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7]
}
