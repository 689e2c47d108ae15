//! One TCP connection as an observer in the middle sees it: its record, and how segments and silence move it.
//!
//! [`next()`] is the state machine, pure: word in, word and reason out. What a segment leaves behind besides (numbers,
//! counts, times) is written by [`Half::note`] and [`Times::note`], and the reason and the history by [`tell`]; what
//! silence does is [`Flow::settled_at`]. Who calls them in which order, and under what protection, is
//! [`observer`](crate::observer)'s business.

mod adopt;
mod begin;
mod expiry;
mod half;
mod handshake;
mod living;
mod next;
mod note;
mod record;
mod reset;
mod state;
mod story;
mod teardown;
mod times;
mod unreachable;
mod word;

pub use adopt::{Sockets, adopted, without_socket};
pub use begin::{begin, guessed_role};
pub(crate) use half::acknowledges_what_was_sent;
pub use half::{BEAT_NS, BEATS, Half, LULL_NS};
pub use next::{Decision, Sent, Verdict, next};
pub use note::Note;
pub use record::{Flow, WordCell};
pub use state::{Phase, State};
pub(crate) use story::tell_first;
pub use story::{Judged, Letter, Story, count, letter_alone, tell, tell_at_length, tell_beginning};
pub use times::Times;
pub use unreachable::on_quote;
pub use word::{How, Initiator, Locality, Mark, Outcome, Role, Word};
