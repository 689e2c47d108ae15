//! Ethernet II, with up to two VLAN tags (802.1Q within 802.1ad or 802.1Q). Tags that the kernel keeps in the skb's
//! metadata are not in the frame, and nothing here misses them.

use super::load_u16;
use crate::{counters::Skip, frame::Frame};

const ADDRESSES_BYTES: usize = 12;
const TAG_BYTES: usize = 4;
const ETHERTYPE_BYTES: usize = 2;
const MAX_TAGS: usize = 2;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_8021Q: u16 = 0x8100;
const ETHERTYPE_8021AD: u16 = 0x88a8;
/// 802.1ad's number before there was one.
const ETHERTYPE_QINQ: u16 = 0x9100;

/// The protocols of the network layer that carry TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    Ipv4,
    Ipv6,
}

#[inline(always)]
pub(super) fn network<F: Frame + ?Sized>(frame: &F) -> Result<(Network, usize), Skip> {
    let mut offset = ADDRESSES_BYTES;
    let mut tags = 0;
    loop {
        let ethertype = load_u16(frame, offset)?;
        match ethertype {
            ETHERTYPE_IPV4 => return Ok((Network::Ipv4, offset + ETHERTYPE_BYTES)),
            ETHERTYPE_IPV6 => return Ok((Network::Ipv6, offset + ETHERTYPE_BYTES)),
            ETHERTYPE_8021Q | ETHERTYPE_8021AD | ETHERTYPE_QINQ if tags < MAX_TAGS => {
                tags += 1;
                offset += TAG_BYTES;
            }
            _ => return Err(Skip::NotIp),
        }
    }
}
