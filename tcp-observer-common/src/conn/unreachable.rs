//! The transition on an ICMP error that quotes a segment
//! (<https://www.rfc-editor.org/rfc/rfc5927#section-4>: only a number that is in flight makes it credible).

use super::{
    half::Half,
    state::State,
    word::{Mark, Outcome, Role, Word},
};
use crate::seq::SeqNum;

/// The word after an error that quotes the segment `seq` of `from`, whose half is `sender`; `None` where it ends
/// nothing. It does where it quotes the SYN of an attempt that is not answered: there Linux gives up at once, whatever
/// the code (`tcp_v4_err`), while in an established connection it is a hint at most
/// (<https://www.rfc-editor.org/rfc/rfc1122#page-103>).
#[inline(always)]
pub fn on_quote(word: Word, from: Role, seq: SeqNum, sender: &Half) -> Option<Word> {
    let is_unanswered = matches!(word.outcome(), Outcome::InProgress)
        && matches!(from, Role::Originator)
        && word.has_of(Mark::IsnSeen, Role::Originator)
        && !word.has_of(Mark::IsnSeen, Role::Responder);
    if !is_unanswered || seq != sender.isn.get() {
        return None;
    }
    Some(
        word.with_state(Role::Originator, State::Closed)
            .with_state(Role::Responder, State::Closed)
            .with_outcome(Outcome::Unreachable),
    )
}
