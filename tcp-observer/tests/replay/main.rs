//! Replay against what independent sources say: exchanges worked out by hand, and what tshark makes of captures that
//! nobody here has made. Besides: every flavour of file, and no panic whatever a file holds.

mod command;
mod examples;
mod follow;
mod formats;
mod hostile;
mod inputs;
mod links;
mod packets;
mod streaming;
mod traces;
mod tutorial;
mod worked_examples;
