//! Flows written one by one, as they come: what needs neither an order nor the width of a column.

use std::io::{self, Write};

use super::{Format, csv, json};
use crate::snapshot::FlowRecord;

/// An output that flows are added to.
pub enum Stream<W: Write> {
    Json(W),
    Csv(Box<csv::Lines<W>>),
}

impl<W: Write> Stream<W> {
    /// Such an output; `None` for a format that needs all flows at once. Nothing is written yet.
    pub fn new(format: Format, out: W) -> Option<Self> {
        match format {
            Format::Json => Some(Self::Json(out)),
            Format::Csv => Some(Self::Csv(Box::new(csv::Lines::new(out)))),
            Format::Table | Format::Wide => None,
        }
    }

    /// # Errors
    /// When the output takes no more.
    pub fn add(&mut self, flow: &FlowRecord) -> io::Result<()> {
        match self {
            Self::Json(out) => json::write(&[flow], out),
            Self::Csv(lines) => lines.add(flow),
        }
    }

    /// # Errors
    /// When the output takes no more.
    pub fn end(self) -> io::Result<()> {
        match self {
            Self::Json(mut out) => out.flush(),
            Self::Csv(lines) => lines.end(),
        }
    }
}
