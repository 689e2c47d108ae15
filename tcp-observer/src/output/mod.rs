//! What is made of a snapshot: metrics for Prometheus, tables for people, JSON and CSV for programs, a summary.
//!
//! Architecture invariant: outputs are functions of a [`Snapshot`](crate::snapshot::Snapshot) and cannot tell the
//! kernel from a capture. What happens between two snapshots only a capture tells: [`follow`] writes that.

pub mod csv;
pub mod follow;
pub mod http;
mod human;
pub mod json;
pub mod metrics;
pub mod stream;
pub mod summary;
pub mod table;
pub mod verify;

use std::io::{self, Write};

use crate::snapshot::FlowRecord;

/// How flows are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns.
    #[default]
    Table,
    /// The same with all that is known.
    Wide,
    /// One JSON object a line.
    Json,
    /// With a header line.
    Csv,
}

/// Writes flows as they stand at a moment; `bold_header` is for terminals.
///
/// # Errors
/// When `out` takes no more.
pub fn write_flows(
    flows: &[&FlowRecord],
    now_unix_ns: u64,
    format: Format,
    bold_header: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    let table = |wide| table::Style { wide, bold_header };
    match format {
        Format::Table => table::write(flows, now_unix_ns, table(false), out),
        Format::Wide => table::write(flows, now_unix_ns, table(true), out),
        Format::Json => json::write(flows, out),
        Format::Csv => csv::write(flows.iter().copied(), out),
    }
}
