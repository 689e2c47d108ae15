//! Histograms of handshake times: powers of two from 8 µs to 134 s.
//!
//! The lowest bound is 2^13 ns (8.192 µs), so that a bucket is found by counting leading zeros.

use crate::{conn::Locality, counters::PORT_LABELS, labels::labelled};

labelled! {
    /// The parts of a handshake.
    pub enum HandshakePart {
        SynToSynAck = "syn_to_synack",
        SynAckToAck = "synack_to_ack",
        Total = "total",
    }
}

/// log2 of the lowest bound in nanoseconds.
const LOWEST: u32 = 13;
/// Bounded buckets: 2^13 ns (8.2 µs) to 2^37 ns (137 s). The next one holds what is longer still.
pub const BOUNDS: usize = 25;
/// Buckets, the unbounded one included.
pub const BUCKETS: usize = BOUNDS + 1;

/// One histogram; buckets are disjoint, not cumulative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Histogram {
    pub buckets: [u64; BUCKETS],
    /// The sum of all values, in nanoseconds.
    pub sum_ns: u64,
}

impl Histogram {
    /// The bucket of a value: the first whose upper bound is not less.
    #[inline(always)]
    pub const fn bucket_of(value_ns: u64) -> usize {
        // Bounds are inclusive, hence minus one: 2^13 itself belongs to the first bucket.
        let bits = 64 - value_ns.saturating_sub(1).leading_zeros();
        let index = bits.saturating_sub(LOWEST) as usize;
        if index < BOUNDS { index } else { BOUNDS }
    }

    /// The inclusive upper bound of a bounded bucket, in nanoseconds.
    pub const fn bound_ns(index: usize) -> u64 {
        1 << (LOWEST + index as u32)
    }

    /// How many values it holds.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds one value.
    pub fn record(&mut self, value_ns: u64) {
        self.add_sample(Sample::of(value_ns));
    }

    /// The same.
    #[inline(always)]
    pub fn add_sample(&mut self, sample: Sample) {
        if let Some(bucket) = self.buckets.get_mut(sample.bucket) {
            *bucket += 1;
        }
        self.sum_ns += sample.value_ns;
    }

    /// Adds all values of another histogram.
    pub fn add(&mut self, other: &Self) {
        for (sum, term) in self.buckets.iter_mut().zip(other.buckets) {
            *sum += term;
        }
        self.sum_ns += other.sum_ns;
    }
}

/// A value and its bucket, for several histograms: BPF has no instruction that counts zeros.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    value_ns: u64,
    bucket: usize,
}

impl Sample {
    #[inline(always)]
    pub const fn of(value_ns: u64) -> Self {
        Self { value_ns, bucket: Histogram::bucket_of(value_ns) }
    }
}

/// How many histograms there are: by part, locality and repetition; then by port, part and locality; then of
/// half-closes by locality.
pub const HISTOGRAMS: u32 = half_close(Locality::ALL[0]) + Locality::COUNT as u32;

/// The place of `half_close_duration_seconds` with this label.
#[inline(always)]
pub const fn half_close(role: Locality) -> u32 {
    by_port(PORT_LABELS, HandshakePart::ALL[0], Locality::ALL[0]) + role.index() as u32
}

/// The place of `handshake_duration_seconds` with these labels.
#[inline(always)]
pub const fn by_role(part: HandshakePart, role: Locality, retransmitted: bool) -> u32 {
    ((part.index() * Locality::COUNT + role.index()) * 2 + retransmitted as usize) as u32
}

/// The place of `port_handshake_duration_seconds` with these labels; `slot` counts from zero, the last is `other`.
#[inline(always)]
pub const fn by_port(slot: usize, part: HandshakePart, role: Locality) -> u32 {
    let base = HandshakePart::COUNT * Locality::COUNT * 2;
    (base + (slot * HandshakePart::COUNT + part.index()) * Locality::COUNT + role.index()) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_inclusive_powers_of_two_from_8_us_to_137_s() {
        assert_eq!(Histogram::bound_ns(0), 8_192);
        assert_eq!(Histogram::bound_ns(BOUNDS - 1), 137_438_953_472);
        for (value, bucket) in [(0, 0), (1, 0), (8_192, 0), (8_193, 1), (16_384, 1), (16_385, 2), (1_000_000, 7)] {
            assert_eq!(Histogram::bucket_of(value), bucket, "{value} ns");
        }
        assert_eq!(Histogram::bucket_of(137_438_953_472), BOUNDS - 1);
        assert_eq!(Histogram::bucket_of(137_438_953_473), BOUNDS);
        assert_eq!(Histogram::bucket_of(u64::MAX), BOUNDS);
    }

    #[test]
    fn every_value_lies_at_or_below_its_bound_and_above_the_one_before() {
        for shift in 0..63 {
            for value in [(1_u64 << shift) - 1, 1 << shift, (1 << shift) + 1] {
                let bucket = Histogram::bucket_of(value);
                assert!(bucket == BOUNDS || value <= Histogram::bound_ns(bucket));
                assert!(bucket == 0 || value > Histogram::bound_ns(bucket - 1));
            }
        }
    }

    #[test]
    fn a_value_beyond_all_bounds_is_counted_in_the_last_bucket() {
        let mut histogram = Histogram::default();
        histogram.record(137_438_953_473);
        assert_eq!((histogram.buckets.len(), histogram.buckets[25], histogram.count()), (26, 1, 1));
    }

    #[test]
    fn adding_a_histogram_adds_its_values_and_their_sum() {
        let (mut one, mut other) = (Histogram::default(), Histogram::default());
        one.record(1_000);
        other.record(2_000);
        other.record(9_000);
        one.add(&other);
        assert_eq!((one.buckets[0], one.buckets[1], one.count(), one.sum_ns), (2, 1, 3, 12_000));
    }

    #[test]
    fn places_are_distinct_and_fill_the_array() {
        let mut seen = [false; HISTOGRAMS as usize];
        let mut take = |place: u32| assert!(!core::mem::replace(&mut seen[place as usize], true));
        for &part in HandshakePart::ALL {
            for &role in Locality::ALL {
                take(by_role(part, role, false));
                take(by_role(part, role, true));
                (0..PORT_LABELS).for_each(|slot| take(by_port(slot, part, role)));
            }
        }
        Locality::ALL.iter().for_each(|&role| take(half_close(role)));
        assert!(seen.iter().all(|&taken| taken));
    }
}
