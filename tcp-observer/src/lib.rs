//! The agent and the command line tool.

pub mod snapshot;
