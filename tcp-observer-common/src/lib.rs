//! The pure core of tcp-observer, shared by the kernel programs, the agent, replay and the tests.
#![cfg_attr(not(test), no_std)]

pub mod abi;
pub mod conn;
pub mod counters;
pub mod flow;
pub mod frame;
pub mod histogram;
mod labels;
pub mod limits;
pub mod local;
pub mod observer;
pub mod room;
pub mod segment;
pub mod seq;
pub mod sweep;
pub mod table;
pub mod verifier;
pub mod wire;
