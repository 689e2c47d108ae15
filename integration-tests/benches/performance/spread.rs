//! Rounds in three numbers.

use serde_json::{Value, json};

/// The mean of the middle half, and the quartiles around it.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub low: f64,
    pub middle: f64,
    pub high: f64,
}

impl Spread {
    pub fn of(rounds: &[f64]) -> Self {
        let mut rounds = rounds.to_vec();
        rounds.sort_by(f64::total_cmp);
        let quarter = rounds.len() / 4;
        let middle = &rounds[quarter..rounds.len() - quarter];
        match (middle.first(), middle.last()) {
            (Some(&low), Some(&high)) => Self { low, middle: middle.iter().sum::<f64>() / middle.len() as f64, high },
            _ => Self { low: f64::NAN, middle: f64::NAN, high: f64::NAN },
        }
    }

    pub fn json(self) -> Value {
        let Self { low, middle, high } = self;
        json!({ "low": low, "middle": middle, "high": high })
    }
}
