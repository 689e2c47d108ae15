//! What the tests of exchanges are written with: an observer in memory, and two peers whose segments pass it.
//!
//! An exchange reads as people write it down:
//!
//! ```ignore
//! let talk = Talk::new();
//! let (client, server) = talk.peers();
//! client.syn(1000);
//! server.syn_ack(5000, 1001);
//! client.ack(1001, 5001);
//! talk.expect(Established, Established);
//! ```
//!
//! A segment must update its flow, unless the test says before it which [`Skip`](tcp_observer_common::counters::Skip)
//! it should earn: `client.skipped(Stale).syn(9)`. The clock stands still until the test moves it.

mod peer;
mod talk;

pub use peer::Peer;
pub use proofs::memory::Memory;
pub use talk::{CLIENT_ADDR, Endpoint, SERVER_ADDR, Talk};

pub const MICROSECOND: u64 = 1_000;
pub const MILLISECOND: u64 = 1_000_000;
pub const SECOND: u64 = 1_000_000_000;
