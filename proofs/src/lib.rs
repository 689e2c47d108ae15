//! What the proofs are made of: the observer in memory, and independent witnesses to hold it against.
//!
//! Nothing here needs privilege; what does is in `integration-tests`. Each proof is an ordinary test with an amount:
//! small enough for every run of the tests, and as large as one likes by `cargo xtask prove`. docs/proof.md says what
//! has been run, how much of it, and what it found.

pub mod amount;
pub mod buckets;
pub mod frames;
pub mod fuzzing;
pub mod memory;
pub mod races;
pub mod simulation;
