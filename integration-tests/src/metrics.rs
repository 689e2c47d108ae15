//! The text exposition format as Prometheus reads it (version 0.0.4), as far as numbers and labels go.

use std::collections::BTreeMap;

const PREFIX: &str = "tcp_observer_";

/// One line of `/metrics`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Without the prefix that all share.
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// Everything that `/metrics` said at once.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub samples: Vec<Sample>,
}

impl Metrics {
    /// # Panics
    /// When a line is none of a comment, a blank and a sample.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self { samples: lines.map(|line| sample(line).unwrap_or_else(|| panic!("not a sample: {line}"))).collect() }
    }

    /// The sum over the series of this name that have these labels; `None` where there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let fits = |sample: &&Sample| {
            sample.name == name && labels.iter().all(|&(key, value)| sample.labels.get(key).is_some_and(|v| v == value))
        };
        let fitting: Vec<f64> = self.samples.iter().filter(fits).map(|sample| sample.value).collect();
        if fitting.is_empty() { None } else { Some(fitting.iter().sum()) }
    }

    /// The same as a count, zero where there is no such series.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.sum(name, labels).unwrap_or(0.0) as u64
    }

    /// Completed handshakes in the histogram of one segment.
    pub fn handshakes(&self, segment: &str, role: &str) -> u64 {
        self.count("handshake_duration_seconds_count", &[("segment", segment), ("role", role)])
    }

    /// All packets that some hook has seen, whatever came of them.
    pub fn packets(&self) -> u64 {
        self.count("segments_total", &[]) + self.count("skipped_packets_total", &[])
    }

    /// What was skipped, by reason, without the zeroes.
    pub fn skipped(&self) -> BTreeMap<String, u64> {
        let skipped = self.samples.iter().filter(|sample| sample.name == "skipped_packets_total");
        let by_reason = skipped.map(|sample| (sample.labels["reason"].clone(), sample.value as u64));
        by_reason.filter(|&(_, count)| count > 0).collect()
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (series, ""),
    };
    let label = |pair: &str| {
        let (key, value) = pair.split_once("=\"")?;
        Some((key.trim_start_matches(',').to_owned(), value.to_owned()))
    };
    // No label of ours holds a quote or a comma, so that each ends at the next quote.
    let labels = labels.split_terminator('"').collect::<Vec<_>>();
    let labels =
        labels.chunks(2).map(|pair| label(&format!("{}\"{}", pair[0], pair.get(1)?))).collect::<Option<_>>()?;
    let name = name.strip_prefix(PREFIX).unwrap_or(name).to_owned();
    Some(Sample { name, labels, value: value.parse().ok()? })
}
