//! IEEE 802.11 data frames, and what monitoring interfaces put before them. All numbers are little-endian.
//!
//! Encrypted frames are not IP to anybody here, and of aggregates (A-MSDU) nothing is read either: the frames within
//! would need a segment each.

use tcp_observer_common::counters::Skip;

use super::{Header, LinkType, Next, Packet, load};

/// A data frame's header (IEEE 802.11, 9.3.2): frame control and duration, three or four addresses with a sequence
/// number, and perhaps a QoS control and an HT control field. LLC follows.
pub fn data(packet: Packet<'_>, is_padded: bool) -> Next {
    let [control, flags] = load(packet, 0)?;
    let is_qos = control & 0x80 != 0;
    let (to_and_from_station, is_protected, has_order) = (flags & 0x03, flags & 0x40 != 0, flags & 0x80 != 0);
    // Version 0, type 2 is data, of which a subtype with this bit has none.
    if control & 0x4f != 0x08 || is_protected {
        return Err(Skip::NotIp);
    }
    let mut bytes = if to_and_from_station == 0x03 { 30 } else { 24 };
    if is_qos {
        let [qos] = load(packet, bytes)?;
        if qos & 0x80 != 0 {
            return Err(Skip::NotIp);
        }
        bytes += if has_order { 6 } else { 2 };
    }
    Ok((Header::Llc, if is_padded { bytes.next_multiple_of(4) } else { bytes }))
}

/// Radiotap (<https://www.radiotap.org>): a length, then words of bits that say which fields follow. Only the second
/// field matters, whose flags say whether the header behind is padded; the first is a time of eight bytes.
pub fn radiotap(packet: Packet<'_>) -> Next {
    const HAS_TIME: u32 = 1 << 0;
    const HAS_FLAGS: u32 = 1 << 1;
    const MORE_WORDS: u32 = 1 << 31;
    const MAX_WORDS: usize = 16;
    const IS_PADDED: u8 = 0x20;
    let [0, _, low, high] = load(packet, 0)? else { return Err(Skip::NotIp) };
    let bytes = usize::from(u16::from_le_bytes([low, high]));
    let word = |number: usize| load(packet, 4 + number * 4).map(u32::from_le_bytes);
    let present = word(0)?;
    let mut is_padded = false;
    if present & HAS_FLAGS != 0 {
        let mut last = 0;
        while word(last)? & MORE_WORDS != 0 {
            last += 1;
            if last == MAX_WORDS {
                return Err(Skip::NotIp);
            }
        }
        let fields = 4 + (last + 1) * 4;
        // A time is aligned to its eight bytes.
        let at = if present & HAS_TIME == 0 { fields } else { fields.next_multiple_of(8) + 8 };
        let [flags] = load(packet, at)?;
        is_padded = flags & IS_PADDED != 0;
    }
    Ok((Header::Wireless { is_padded }, bytes))
}

/// The header of the Prism II's drivers, always as long; or AVS's, which has taken its place under the same link type
/// and begins with its version and its length in the order of the network.
pub fn prism(packet: Packet<'_>) -> Next {
    const PRISM_BYTES: usize = 144;
    let bytes = match load(packet, 0)? {
        [0x80, 0x21, 0x10, _] => u32::from_be_bytes(load(packet, 4)?) as usize,
        _ => PRISM_BYTES,
    };
    Ok((Header::Wireless { is_padded: false }, bytes))
}

/// Per-Packet Information: a version, flags, the length of all of it, and the link type of what follows.
pub fn ppi(packet: Packet<'_>) -> Next {
    let [_, _, low, high] = load(packet, 0)?;
    let link = u16::try_from(u32::from_le_bytes(load(packet, 4)?)).ok().and_then(LinkType::of);
    let LinkType { skip, header } = link.ok_or(Skip::NotIp)?;
    Ok((header, usize::from(u16::from_le_bytes([low, high])) + skip))
}
