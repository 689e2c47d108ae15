//! Exchanges between two peers, segment by segment, as the core sees them: what is taken, what is skipped, and what
//! is known afterwards.
//!
//! The expected states are those that RFC 9293, RFC 5961 and RFC 1337 give the two endpoints, derived by hand. One
//! module per stage of a connection's life.

mod accounts;
mod attempts;
mod closing;
mod history;
mod incarnations;
mod laws;
mod living;
mod no_way_back;
mod opening;
mod pick_up;
mod repeats;
mod resets;
mod room;
mod shortest_path;
mod silence;
mod support;
mod tables;
mod taps;
mod unreachable;
mod unusual_closes;
mod unusual_opens;
mod verdicts;
