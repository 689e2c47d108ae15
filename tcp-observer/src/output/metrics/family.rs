//! Metric families as they are filled from an overview.
//!
//! A thin layer over the `prometheus` crate's model: it adds the prefix, holds a family to its labels (their number
//! is checked at compile time), and turns the kernel's disjoint nanosecond buckets into cumulative ones in seconds.

use prometheus::proto::{Bucket, Counter, Gauge, Histogram as Filled, LabelPair, Metric, MetricFamily, MetricType};
use tcp_observer_common::histogram::{BOUNDS, Histogram};

/// Which of the kernel's bounds a histogram is exported with, by their index. Those that are left out fall to the next
/// one, so that quantiles are rougher there; the series are worth more elsewhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    first: usize,
    last: usize,
    step: usize,
}

impl Bounds {
    /// All there are: powers of two from 8 µs to 137 s.
    pub const ALL: Self = Self { first: 0, last: BOUNDS - 1, step: 1 };
    /// Powers of two from 66 µs to 34 s.
    pub const INNER: Self = Self { first: 3, last: 22, step: 1 };
    /// Powers of four from 1 ms to 69 s.
    pub const COARSE: Self = Self { first: 7, last: 23, step: 2 };

    fn has(self, index: usize) -> bool {
        (self.first..=self.last).contains(&index) && (index - self.first).is_multiple_of(self.step)
    }
}

/// A family whose metrics have `N` labels.
pub(super) struct Family<const N: usize> {
    family: MetricFamily,
    labels: [&'static str; N],
}

impl<const N: usize> Family<N> {
    pub fn counter(name: &str, help: &str, labels: [&'static str; N]) -> Self {
        Self::new(MetricType::COUNTER, name, help, labels)
    }

    pub fn gauge(name: &str, help: &str, labels: [&'static str; N]) -> Self {
        Self::new(MetricType::GAUGE, name, help, labels)
    }

    pub fn histogram(name: &str, help: &str, labels: [&'static str; N]) -> Self {
        Self::new(MetricType::HISTOGRAM, name, help, labels)
    }

    fn new(kind: MetricType, name: &str, help: &str, labels: [&'static str; N]) -> Self {
        let mut family = MetricFamily::default();
        family.set_field_type(kind);
        family.set_name(format!("tcp_observer_{name}"));
        family.set_help(help.to_owned());
        Self { family, labels }
    }

    /// Adds one series of a counter or gauge.
    pub fn add(&mut self, values: [&str; N], value: f64) {
        let mut metric = Metric::from_label(self.pairs(values));
        if self.family.get_field_type() == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.family.mut_metric().push(metric);
    }

    /// Adds one series of a counter or gauge that counts things.
    pub fn add_count(&mut self, values: [&str; N], count: u64) {
        // Exact up to 2^53; the exposition has no integers.
        self.add(values, count as f64);
    }

    /// Adds one histogram.
    pub fn add_histogram(&mut self, values: [&str; N], histogram: &Histogram, bounds: Bounds) {
        let mut metric = Metric::from_label(self.pairs(values));
        metric.set_histogram(in_seconds(histogram, bounds));
        self.family.mut_metric().push(metric);
    }

    /// Puts the family with the others; one without series is left out.
    pub fn push_to(self, families: &mut Vec<MetricFamily>) {
        if !self.family.get_metric().is_empty() {
            families.push(self.family);
        }
    }

    fn pairs(&self, values: [&str; N]) -> Vec<LabelPair> {
        let pair = |(name, value): (&&str, &str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value.to_owned());
            pair
        };
        self.labels.iter().zip(values).map(pair).collect()
    }
}

fn in_seconds(histogram: &Histogram, bounds: Bounds) -> Filled {
    let mut below = 0;
    // Bounded buckets only: the encoder adds `+Inf` from the count, and would write an infinite bound as `inf`.
    let buckets = histogram.buckets.iter().take(BOUNDS).enumerate().filter_map(|(index, &inside)| {
        below += inside;
        if !bounds.has(index) {
            return None;
        }
        let mut bucket = Bucket::default();
        bucket.set_cumulative_count(below);
        bucket.set_upper_bound(seconds(Histogram::bound_ns(index)));
        Some(bucket)
    });
    let mut filled = Filled::default();
    filled.set_bucket(buckets.collect());
    filled.set_sample_count(histogram.count());
    filled.set_sample_sum(seconds(histogram.sum_ns));
    filled
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_become_cumulative_and_the_count_stands_for_the_infinite_one() {
        let mut histogram = Histogram::default();
        for ns in [1, 8_192, 10_000, u64::from(u32::MAX), 200_000_000_000] {
            histogram.record(ns);
        }
        let filled = in_seconds(&histogram, Bounds::ALL);
        let buckets = filled.get_bucket();
        let at = |index: usize| (buckets[index].upper_bound(), buckets[index].cumulative_count());
        assert_eq!(at(0), (0.000008192, 2));
        assert_eq!(at(1), (0.000016384, 3));
        assert_eq!(at(24), (137.438953472, 4));
        assert_eq!((buckets.len(), filled.get_sample_count()), (25, 5));
    }

    #[test]
    fn what_lies_below_a_bound_that_is_left_out_counts_at_the_next_one() {
        let mut histogram = Histogram::default();
        for ns in [1, 60_000, 70_000, 2_000_000, 3_000_000, 40_000_000_000, 100_000_000_000] {
            histogram.record(ns);
        }
        let at = |bounds| -> (Vec<_>, u64) {
            let filled = in_seconds(&histogram, bounds);
            let pairs = filled.get_bucket().iter().map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
            (pairs.collect(), filled.get_sample_count())
        };
        let (inner, count) = at(Bounds::INNER);
        assert_eq!(
            (inner.len(), inner[0], inner[1], inner[19], count),
            (20, (0.000065536, 2), (0.000131072, 3), (34.359738368, 5), 7)
        );
        let (coarse, count) = at(Bounds::COARSE);
        assert_eq!(
            (coarse.len(), coarse[0], coarse[1], coarse[8], count),
            (9, (0.001048576, 3), (0.004194304, 5), (68.719476736, 6), 7)
        );
    }
}
