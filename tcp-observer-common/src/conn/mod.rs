//! One TCP connection as an observer in the middle sees it.
mod expiry;
mod record;
mod state;
mod word;

pub use record::{Flow, Half, Shared, Times, WordCell};
pub use state::{Phase, State};
pub use word::{How, Initiator, Locality, Mark, Outcome, Role, Word};
