//! Where a flow may lie: a keyed hash, so that nobody who chooses addresses and ports can choose the bucket.
//!
//! Multilinear hashing: the words of the key, each times a random 64-bit word, added up modulo 2^64; the upper half of
//! the sum is the hash. Strongly universal: over the choice of the random words, two keys have any given pair of
//! hashes with a probability of 2^-64 (Lemire and Kaser, "Strongly universal string hashing is fast", theorem 3.1,
//! <https://arxiv.org/abs/1202.4961>). Three multiplications for IPv4, nine for IPv6, none of which waits for another;
//! and that twice, since one flow has a choice of two buckets.

use crate::flow::{Address, FlowKey};

/// How many random words one sum takes: one alone, and one for each 32-bit word of the longest key.
const WORDS: usize = 1 + size_of::<FlowKey<crate::flow::Ipv6>>() / 4;
/// How many random words there are.
pub const SECRETS: usize = 2 * WORDS;

/// Two hashes of one key: a sum of products, and what gives the upper half of another one where it is asked for. Most keys
/// lie in their home, which the first alone tells.
#[derive(Clone, Copy)]
pub struct Hash<S> {
    pub first: u64,
    pub second: S,
}

impl Hash<()> {
    /// The hash of a key; `secret` gives the random words, below [`SECRETS`].
    #[inline(always)]
    pub fn of<A: Address>(key: &FlowKey<A>, secret: impl Fn(usize) -> u64 + Copy) -> Hash<impl Fn() -> u32 + Copy> {
        Hash { first: sum(key, secret), second: move || (sum(key, |i| secret(WORDS + i)) >> 32) as u32 }
    }
}

#[inline(always)]
fn sum<A: Address>(key: &FlowKey<A>, secret: impl Fn(usize) -> u64) -> u64 {
    let ports = u64::from(key.low_port) | u64::from(key.high_port) << 16;
    let mut sum = secret(0).wrapping_add(secret(1).wrapping_mul(ports));
    let mut i = 0;
    while i < A::WORDS {
        let (low, high) = (u64::from(key.low_addr.word(i)), u64::from(key.high_addr.word(i)));
        sum = sum.wrapping_add(secret(2 + 2 * i).wrapping_mul(low));
        sum = sum.wrapping_add(secret(3 + 2 * i).wrapping_mul(high));
        i += 1;
    }
    sum
}

impl<S: Fn() -> u32> Hash<S> {
    /// The same with both sums made, for who asks for the second more than once.
    #[inline(always)]
    pub fn summed(&self) -> Hash<impl Fn() -> u32 + Copy + use<S>> {
        let second = (self.second)();
        Hash { first: self.first, second: move || second }
    }

    /// The bucket that a key belongs to, of `count`.
    #[inline(always)]
    pub fn home(&self, count: u32) -> u32 {
        scale((self.first >> 32) as u32, count)
    }

    /// The other one that it may lie in; the same again only where there is but one.
    #[inline(always)]
    pub fn other(&self, count: u32) -> u32 {
        let home = self.home(count);
        let step = 1 + scale((self.second)(), count.saturating_sub(1));
        let behind = count - home;
        if step >= behind { step - behind } else { home + step }
    }

    /// Both.
    #[inline(always)]
    pub fn buckets(&self, count: u32) -> (u32, u32) {
        (self.home(count), self.other(count))
    }

    /// The place of its home in which a key lies if it can, of so many with the control word's. Of bits below those that
    /// tell the home of up to a million.
    #[inline(always)]
    pub fn place(&self, places: u32) -> u32 {
        // Sixteen bits: of a product that fills all of 32, the verifier of Linux 6.1 thinks that it could be one more.
        let hash = (self.first >> 12) as u16;
        1 + ((u32::from(hash) * (places - 1)) >> 16)
    }

    /// What stands for the key in its bucket; never one of the tags that mean something else. Its upper half is of the
    /// bits below those that tell the home, and what is left of the sum's lower half, which is no such hash, may make
    /// different tags equal by chance: then keys are compared in vain.
    #[inline(always)]
    pub fn tag(&self) -> u32 {
        (self.first >> 16) as u32 | super::TAKEN
    }
}

/// A number below `count`, in proportion to the hash.
#[inline(always)]
fn scale(hash: u32, count: u32) -> u32 {
    ((u64::from(hash) * u64::from(count)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::*;
    use crate::flow::{FlowKey4, FlowKey6, Ipv4};

    /// Random words from a fixed seed: splitmix64, by Steele, Lea and Flood.
    fn secret(i: usize) -> u64 {
        let mut z = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    #[test]
    fn a_hash_is_the_upper_half_of_the_sum_of_products() {
        let key = FlowKey4 { low_addr: [3], high_addr: [5], low_port: 7, high_port: 1 };
        // By hand: with 2^32·(i + 1) as the i-th word, the sum's upper half is 1 + 2·ports + 3·low + 4·high, where the
        // ports are 7 + 1·65,536; and for the second sum 11 + 12·ports + 13·low + 14·high.
        let hash = Hash::of(&key, |i| (i as u64 + 1) << 32);
        assert_eq!(hash.first, (1 + 2 * 65_543 + 3 * 3 + 4 * 5) << 32);
        assert_eq!((hash.second)(), 11 + 12 * 65_543 + 13 * 3 + 14 * 5);
    }

    #[test]
    fn the_longest_key_takes_all_random_words_that_there_are() {
        let key = FlowKey6 { low_addr: [1; 4], high_addr: [2; 4], low_port: 3, high_port: 4 };
        let taken = [const { Cell::new(false) }; SECRETS];
        let hash = Hash::of(&key, |i| {
            taken[i].set(true);
            secret(i)
        });
        (hash.second)();
        assert!(taken.iter().all(Cell::get), "{taken:?}");
    }

    #[test]
    fn every_word_of_an_ipv6_key_counts() {
        let key = FlowKey6 { low_addr: [1, 2, 3, 4], high_addr: [5, 6, 7, 8], low_port: 9, high_port: 10 };
        let hashes = |key| {
            let hash = Hash::of(&key, secret);
            [hash.first, (hash.second)().into()]
        };
        let differs = |other| hashes(other).iter().zip(hashes(key)).all(|(other, one)| *other != one);
        for i in 0..4 {
            let (mut low, mut high) = (key, key);
            low.low_addr[i] ^= 1;
            high.high_addr[i] ^= 1;
            assert!(differs(low) && differs(high), "word {i}");
        }
        assert!(differs(FlowKey6 { low_port: 10, high_port: 9, ..key }));
    }

    #[test]
    fn the_two_buckets_are_different_and_there() {
        for (first, second) in [(0, 0), (u64::MAX, u32::MAX), (1 << 63, 7), (u64::MAX, 0)] {
            let hash = Hash { first, second: || second };
            for count in [2, 3, 1000, u32::MAX] {
                let (home, other) = hash.buckets(count);
                assert!(home < count && other < count && home != other, "{first:x} {second:x} {count}");
            }
            assert_eq!(hash.buckets(1), (0, 0));
        }
    }

    #[test]
    fn place_and_tag_are_taken_from_bits_that_tell_no_home_of_a_million() {
        let of = |first| Hash { first, second: || 0 };
        // By hand: bits 12 to 27 as a fraction of 2^16, of fifteen places.
        for (fraction, place) in [(0, 1), (1_u64 << 15, 8), ((1 << 16) - 1, 15)] {
            let hash = of(fraction << 12);
            assert_eq!((hash.place(16), hash.home(1 << 20)), (place, 0));
        }
        assert_eq!(of(0x0123_4567_89ab_cdef).tag(), 0xc567_89ab);
        assert_eq!(of(u64::MAX << 44).home(1 << 20), (1 << 20) - 1);
    }

    #[test]
    fn tuples_of_one_server_spread_over_buckets_as_random_ones_do() {
        // 15,000 clients over 1,000 buckets: 15 each on average, and with 15,000 balls at random hardly ever a bucket
        // with more than 40 (the 99.9999th percentile of a Poisson distribution with mean 15 is 38).
        let mut counts = vec![0; 1000];
        for n in 0..15_000_u32 {
            let source: Ipv4 = [u32::from_be_bytes([10, 0, (n >> 8) as u8, n as u8]).to_be()];
            let (key, _) = FlowKey::of(source, 1024 + (n % 7) as u16, [0xc000_0201_u32.to_be()], 443);
            counts[Hash::of(&key, secret).buckets(1000).0 as usize] += 1;
        }
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(*least > 1 && *most < 41, "{least} to {most}");
    }
}
