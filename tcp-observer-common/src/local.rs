//! Which addresses are the host's own, asked for with each new flow: a table of a few places in front of the set of all, which
//! costs a call.
//!
//! Each address has one place. What lies there is [`NOBODY`], if no address of the host has it; one of those that have it;
//! or zero, as where userspace has written nothing. Only the last, and an address that is not the one asked for, leave
//! the question open.

use crate::flow::Address;

/// How many places there are.
pub const PLACES: u32 = 256;

/// The word that fills a place which no address of the host has: as an address the limited broadcast, or all ones.
const NOBODY: u32 = u32::MAX;

/// What lies in a place that no address of the host has.
pub const fn nobody<const WORDS: usize>() -> [u32; WORDS] {
    [NOBODY; WORDS]
}

/// The place of an address, below [`PLACES`]. Who chooses addresses can choose those of the host's place, and has them
/// asked for in the set.
#[inline(always)]
pub fn place<A: Address>(addr: &A) -> u32 {
    let mut folded = addr.word(0);
    let mut i = 1;
    while i < A::WORDS {
        folded ^= addr.word(i);
        i += 1;
    }
    // Fibonacci hashing (Knuth, "The Art of Computer Programming", 6.4): 2^32 divided by the golden ratio.
    folded.wrapping_mul(0x9e37_79b1) >> 24
}

/// Whether an address is the host's own, as far as what lies in its place tells.
#[inline(always)]
pub fn told_by_place<A: Address>(there: &A, addr: &A) -> Option<bool> {
    if there.word(0) == NOBODY {
        Some(false)
    } else if there == addr {
        Some(true)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Ipv4, Ipv6};

    #[test]
    fn a_place_tells_of_nobody_and_of_the_address_that_lies_there() {
        let (own, other): (Ipv4, Ipv4) = ([0x0100_000a], [0x0200_000a]);
        assert_eq!(told_by_place(&own, &own), Some(true));
        assert_eq!(told_by_place(&nobody(), &own), Some(false));
        assert_eq!(told_by_place(&other, &own), None);
        assert_eq!(told_by_place(&[0], &own), None);
        // The broadcast address is nobody's.
        assert_eq!(told_by_place(&nobody::<1>(), &[u32::MAX]), Some(false));
        let own: Ipv6 = [1, 2, 3, 4];
        assert_eq!(told_by_place(&[1, 2, 3, 5], &own), None);
        assert_eq!(told_by_place(&own, &own), Some(true));
    }

    #[test]
    fn every_word_counts_for_the_place_and_neighbours_spread() {
        let own: Ipv6 = [1, 2, 3, 4];
        for i in 0..4 {
            let mut other = own;
            other[i] ^= 8;
            assert_ne!(place(&other), place(&own), "word {i}");
        }
        // 200 neighbours thrown into 256 places at random leave about 256 e^(-200/256) = 117 empty.
        let places: std::collections::BTreeSet<u32> =
            (1..=200).map(|host: u32| place(&[u32::from_be_bytes([10, 0, 0, host as u8]).to_be()])).collect();
        assert!(places.len() > 100 && places.iter().all(|&place| place < PLACES), "{}", places.len());
    }
}
