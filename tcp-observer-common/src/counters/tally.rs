//! What a transition counts as: the one place where words of flows become counts.

use super::{Endedness, Retransmit, ended_by};
use crate::{
    conn::{Locality, Note, Outcome, Phase, Role, Word},
    observer::Host,
};

/// Counts the outcome of an attempt to connect; the port's slot comes back.
#[inline(always)]
pub fn attempt<E: Host>(host: &E, word: Word, responder_port: u16, outcome: Outcome) -> usize {
    let slot = host.port_slot(responder_port, matches!(outcome, Outcome::Completed));
    let locality = word.locality().index();
    host.count(|counters| {
        if let Some(of_port) = counters.attempts.get_mut(slot) {
            of_port[locality][outcome.index()] += 1;
        }
    });
    slot
}

/// Counts a repeated SYN or SYN-ACK.
#[inline(always)]
pub(crate) fn retransmit<E: Host>(host: &E, note: Note, locality: Locality) {
    let kind = if matches!(note, Note::SynAckRepeated) { Retransmit::SynAck } else { Retransmit::Syn };
    host.count(|counters| counters.handshake_retransmits[kind.index()][locality.index()] += 1);
}

/// Counts a RST that ended something.
#[inline(always)]
pub(crate) fn reset<E: Host>(host: &E, before: Word, from: Role) {
    let sender = if before.has_of(crate::conn::Mark::Local, from) { Endedness::Local } else { Endedness::Remote };
    host.count(|counters| counters.resets[before.phase().index()][sender.index()] += 1);
}

/// Counts the end of a connection, when neither end has anything more to say.
#[inline(always)]
pub fn close<E: Host>(host: &E, before: Word, after: Word) {
    if before.states() == after.states() || !after.is_settled() {
        return;
    }
    let is_over = |word: Word| matches!(word.phase(), Phase::TimeWait | Phase::Closed);
    if is_over(after) && !is_over(before) {
        let initiator = ended_by(after.initiator(), after.locality());
        host.count(|counters| counters.closes[initiator.index()][after.how().index()] += 1);
    }
}
