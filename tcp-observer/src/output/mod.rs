//! What is made of a snapshot: metrics for Prometheus, tables for people, JSON and CSV for programs, a summary.
//!
//! Architecture invariant: outputs are functions of a [`Snapshot`](crate::snapshot::Snapshot) and cannot tell the
//! kernel from a capture.

pub mod csv;
pub mod http;
mod human;
pub mod json;
pub mod metrics;
pub mod table;
