//! One TCP connection as an observer in the middle sees it: its record, and how segments and silence move it.
//!
//! [`next()`] is the state machine, pure: word in, word out. What a segment leaves behind besides (numbers, counts,
//! times) is written by [`Half::note`] and [`Times::note`]; what silence does is [`Flow::settled_at`]. Who calls them in which order,
//! and under what protection, is [`observer`](crate::observer)'s business.

mod begin;
mod expiry;
mod handshake;
mod next;
mod record;
mod reset;
mod state;
mod teardown;
mod word;

pub use begin::begin;
pub use next::{Decision, Note, Sent, Verdict, next};
pub use record::{Flow, Half, Times, WordCell};
pub use state::{Phase, State};
pub use word::{How, Initiator, Locality, Mark, Outcome, Role, Word};
