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
        self.to_reference(self.spread().middle)
    }

    /// The same of our lower quartile: what disturbs the machine makes rounds longer, but not three of four of them.
    pub fn low_ratio(&self) -> Option<f64> {
        self.to_reference(self.spread().low)
    }

    fn to_reference(&self, ours: f64) -> Option<f64> {
        let (_, reference) = self.reference.as_ref()?;
        let reference = Spread::of(reference).middle;
        (reference > 0.0).then(|| ours / reference)
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
