//! The agent and the command line tool.

pub mod agent;
pub mod cli;
pub mod exit;
pub mod filter;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod kernel;
pub mod order;
pub mod output;
mod prefetch;
pub mod replay;
pub mod selection;
pub mod snapshot;
pub mod source;
pub mod verify;
pub mod version;
