//! What was measured: a line of the table, with every round of it.

use serde_json::{Value, json};

use crate::spread::Spread;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Nanoseconds,
    Microseconds,
    Milliseconds,
    PerSecond,
    GigabitsPerSecond,
    Mebibytes,
    PercentOfACpu,
    Flows,
    Count,
    Bytes,
}

impl Unit {
    pub fn label(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns",
            Self::Microseconds => "µs",
            Self::Milliseconds => "ms",
            Self::PerSecond => "1/s",
            Self::GigabitsPerSecond => "Gbit/s",
            Self::Mebibytes => "MiB",
            Self::PercentOfACpu => "% CPU",
            Self::Flows => "flows",
            Self::Count => "",
            Self::Bytes => "B",
        }
    }

    /// Whether more is better.
    pub fn is_rate(self) -> bool {
        match self {
            Self::PerSecond | Self::GigabitsPerSecond | Self::Flows | Self::Count => true,
            Self::Nanoseconds
            | Self::Microseconds
            | Self::Milliseconds
            | Self::Mebibytes
            | Self::Bytes
            | Self::PercentOfACpu => false,
        }
    }
}

pub struct Figure {
    pub part: &'static str,
    pub name: String,
    /// In the tables meanwhile, where that matters.
    pub flows: Option<u64>,
    pub unit: Unit,
    /// Round by round.
    pub ours: Vec<f64>,
    /// What it is compared with, in the same rounds.
    pub reference: Option<(&'static str, Vec<f64>)>,
}

impl Figure {
    pub fn of(part: &'static str, name: impl Into<String>, unit: Unit, ours: Vec<f64>) -> Self {
        Self { part, name: name.into(), flows: None, unit, ours, reference: None }
    }

    #[must_use]
    pub fn beside(mut self, name: &'static str, rounds: Vec<f64>) -> Self {
        self.reference = Some((name, rounds));
        self
    }

    #[must_use]
    pub fn with_flows(mut self, flows: u64) -> Self {
        self.flows = Some(flows);
        self
    }

    pub fn spread(&self) -> Spread {
        Spread::of(&self.ours)
    }

    /// Ours to the reference's.
    pub fn ratio(&self) -> Option<f64> {
        let (_, reference) = self.reference.as_ref()?;
        ratio(&self.ours, reference)
    }

    /// The ratio that speaks best for us among those of so many parts of the rounds, which have to be as many: what
    /// disturbs the machine does not disturb all of them.
    pub fn best_ratio(&self, parts: usize) -> Option<f64> {
        let (_, reference) = self.reference.as_ref()?;
        let rounds = self.ours.len().min(reference.len());
        if rounds < parts {
            return None;
        }
        let bounds = |part: usize| part * rounds / parts..(part + 1) * rounds / parts;
        let ratios = (0..parts).filter_map(|part| ratio(&self.ours[bounds(part)], &reference[bounds(part)]));
        if self.unit.is_rate() { ratios.reduce(f64::max) } else { ratios.reduce(f64::min) }
    }

    /// What it is called among all figures.
    pub fn key(&self) -> String {
        let flows = self.flows.map(|flows| format!(", {flows} flows")).unwrap_or_default();
        format!("{}: {}{flows}", self.part, self.name)
    }

    pub fn json(&self) -> Value {
        let reference = self
            .reference
            .as_ref()
            .map(|(name, rounds)| json!({ "name": name, "spread": Spread::of(rounds).json(), "rounds": rounds }));
        json!({
            "part": self.part,
            "name": self.name,
            "flows": self.flows,
            "unit": self.unit.label(),
            "spread": self.spread().json(),
            "rounds": self.ours,
            "reference": reference,
            "ratio": self.ratio(),
        })
    }
}

fn ratio(ours: &[f64], reference: &[f64]) -> Option<f64> {
    let (ours, reference) = (Spread::of(ours).middle, Spread::of(reference).middle);
    (reference > 0.0).then(|| ours / reference)
}
