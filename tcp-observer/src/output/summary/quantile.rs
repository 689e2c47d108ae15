//! Quantiles of a histogram whose buckets double in width.
//!
//! Values are only known to lie within their bucket. The estimate is interpolated linearly in it, as Prometheus'
//! `histogram_quantile()` does, so that both say the same; the bounds say how far off it can be.

use serde::Serialize;
use tcp_observer_common::histogram::{BOUNDS, Histogram};

use crate::output::{human::Took, json::Seconds};

/// One quantile. Nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quantile {
    pub estimate_ns: u64,
    /// The lower bound of the bucket, exclusive but for zero.
    pub more_than_ns: u64,
    /// The upper bound of the bucket, inclusive; `None` for the one without.
    pub at_most_ns: Option<u64>,
}

/// The quantile `percent` of a histogram; `None` where it is empty.
pub(super) fn percentile(histogram: &Histogram, percent: u32) -> Option<Quantile> {
    let rank = histogram.count() as f64 * f64::from(percent) / 100.0;
    let mut below = 0;
    for (index, &inside) in histogram.buckets.iter().enumerate() {
        if inside > 0 && (below + inside) as f64 >= rank {
            let (more_than_ns, at_most_ns) = bounds(index);
            let share = (rank - below as f64) / inside as f64;
            let width = at_most_ns.map_or(0, |at_most| at_most - more_than_ns);
            return Some(Quantile {
                estimate_ns: more_than_ns + (width as f64 * share) as u64,
                more_than_ns,
                at_most_ns,
            });
        }
        below += inside;
    }
    None
}

/// The largest value, as far as it is known: the bounds of the last bucket that is not empty.
pub(super) fn maximum(histogram: &Histogram) -> Option<Quantile> {
    let last = histogram.buckets.iter().rposition(|&inside| inside > 0)?;
    let (more_than_ns, at_most_ns) = bounds(last);
    Some(Quantile { estimate_ns: at_most_ns.unwrap_or(more_than_ns), more_than_ns, at_most_ns })
}

/// The bounds of a bucket: exclusive but for zero, and inclusive.
fn bounds(index: usize) -> (u64, Option<u64>) {
    let more_than = index.checked_sub(1).map_or(0, Histogram::bound_ns);
    (more_than, (index < BOUNDS).then(|| Histogram::bound_ns(index)))
}

impl Quantile {
    /// The estimate, or no more than is known where it would pretend to be one.
    pub fn text(self) -> String {
        match self {
            Self { at_most_ns: None, more_than_ns, .. } => format!("> {}", Took(more_than_ns)),
            Self { at_most_ns: Some(at_most_ns), more_than_ns: 0, .. } => format!("≤ {}", Took(at_most_ns)),
            Self { estimate_ns, .. } => format!("~{}", Took(estimate_ns)),
        }
    }

    /// The bound that the value does not exceed.
    pub fn bound_text(self) -> String {
        match self.at_most_ns {
            Some(at_most_ns) => format!("≤ {}", Took(at_most_ns)),
            None => format!("> {}", Took(self.more_than_ns)),
        }
    }
}

impl Serialize for Quantile {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Written {
            estimate_seconds: Seconds,
            at_most_seconds: Option<Seconds>,
        }
        let at_most_seconds = self.at_most_ns.map(Seconds);
        Written { estimate_seconds: Seconds(self.estimate_ns), at_most_seconds }.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[(u64, u64)]) -> Histogram {
        let mut histogram = Histogram::default();
        for &(ns, times) in values {
            (0..times).for_each(|_| histogram.record(ns));
        }
        histogram
    }

    #[test]
    fn an_empty_histogram_has_no_quantile() {
        assert_eq!(percentile(&of(&[]), 50), None);
        assert_eq!(maximum(&of(&[])), None);
    }

    #[test]
    fn the_estimate_is_interpolated_within_its_bucket() {
        // Ten values in (65,536, 131,072]: half of them lie below the middle if they are spread evenly.
        let p50 = percentile(&of(&[(100_000, 10)]), 50).unwrap();
        assert_eq!(p50, Quantile { estimate_ns: 98_304, more_than_ns: 65_536, at_most_ns: Some(131_072) });
        assert_eq!((p50.text(), p50.bound_text()), ("~98.3 µs".to_owned(), "≤ 131 µs".to_owned()));
    }

    #[test]
    fn a_rank_on_the_edge_belongs_to_the_lower_bucket() {
        let histogram = of(&[(100_000, 50), (1_000_000_000, 50)]);
        assert_eq!(percentile(&histogram, 50).unwrap().estimate_ns, 131_072);
        assert_eq!(percentile(&histogram, 51).unwrap().more_than_ns, 536_870_912);
        assert_eq!(maximum(&histogram).unwrap().at_most_ns, Some(1_073_741_824));
    }

    #[test]
    fn the_first_and_the_last_bucket_say_no_more_than_is_known() {
        assert_eq!(percentile(&of(&[(5, 1)]), 99).unwrap().text(), "≤ 8.19 µs");
        assert_eq!(percentile(&of(&[(200_000_000_000, 1)]), 99).unwrap().text(), "> 137 s");
        assert_eq!(maximum(&of(&[(200_000_000_000, 1)])).unwrap().bound_text(), "> 137 s");
    }
}
