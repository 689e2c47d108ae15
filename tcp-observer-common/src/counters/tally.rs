//! What a transition counts as: the one place where words of flows become counts.

use super::{Retransmit, ended_by, place};
use crate::{
    conn::{Mark, Note, Outcome, Phase, Role, State, Times, Word},
    histogram::{HandshakePart, Sample, by_port, by_role, half_close},
    observer::{Host, Transition},
};

/// Whether a segment's transition may count as anything: a quick no for most, which saves the kernel a call. None of those
/// ends a handshake or a half-close, or has an endpoint in TIME-WAIT or closed.
#[inline(always)]
pub fn may_count(transition: &Transition) -> bool {
    let &Transition { before, after, note, .. } = transition;
    let is_over = |role| after.state(role) as u8 >= State::TimeWait as u8;
    !matches!(note, Note::Nothing | Note::SynAnswered)
        || before.outcome() != after.outcome()
        || before.is_half_closed()
        || is_over(Role::Originator)
        || is_over(Role::Responder)
}

/// Counts what a segment's transition means.
#[inline(always)]
pub fn transition<H: Host>(host: &H, transition: Transition, times: &Times) {
    let Transition { before, after, from, note, responder_port, .. } = transition;
    match note {
        Note::SynRepeated | Note::LateSyn => {
            host.add(place::handshake_retransmits(Retransmit::Syn, after.locality()), 1);
        }
        Note::SynAckRepeated | Note::SynAckRenumbered | Note::SynAckAfterAck | Note::SynAckAfterData => {
            host.add(place::handshake_retransmits(Retransmit::SynAck, after.locality()), 1);
        }
        note if note.is_reset() => host.add(place::resets(before.phase(), before.has_of(Mark::Local, from)), 1),
        _ => {}
    }
    if before.is_half_closed() && !after.is_half_closed() {
        host.record(half_close(after.locality()), Sample::of(times.half_close_lasted_ns()));
    }
    let (before, after) = (before.forgotten(), after.forgotten());
    if matches!(before.outcome(), Outcome::InProgress) {
        match after.outcome() {
            Outcome::InProgress | Outcome::NotSeen => {}
            Outcome::Completed => {
                let slot = attempt(host, after, responder_port, Outcome::Completed);
                handshake(host, after.forgotten(), slot, times);
            }
            failed @ (Outcome::Refused
            | Outcome::Reset
            | Outcome::Unreachable
            | Outcome::TimedOut
            | Outcome::Abandoned
            | Outcome::Evicted) => {
                attempt(host, after, responder_port, failed);
            }
        }
    }
    close(host, before.forgotten(), after.forgotten());
}

/// Counts the outcome of an attempt to connect; the port's slot comes back.
#[inline(always)]
pub fn attempt<H: Host>(host: &H, word: Word, responder_port: u16, outcome: Outcome) -> usize {
    let slot = host.port_slot(responder_port, matches!(outcome, Outcome::Completed));
    host.add(place::attempts(slot, word.locality(), outcome), 1);
    slot
}

/// Records how long the parts of a completed handshake took.
#[inline(always)]
fn handshake<H: Host>(host: &H, word: Word, slot: usize, times: &Times) {
    let locality = word.locality();
    let repeated = word.has(Mark::SynRepeated) || word.has(Mark::SynAckRepeated);
    // One after the other: from an array of them the compiler reads a value that is not there off a stack that nobody has
    // written, which Linux 6.1 refuses (6.1.176 does, 6.1.192 does not).
    let part = |part, value: Option<u64>| {
        if let Some(value_ns) = value {
            let sample = Sample::of(value_ns);
            host.record(by_role(part, locality, repeated), sample);
            host.record(by_port(slot, part, locality), sample);
        }
    };
    part(HandshakePart::SynToSynAck, times.syn_to_synack_ns());
    part(HandshakePart::SynAckToAck, times.synack_to_ack_ns());
    part(HandshakePart::Total, times.total_ns());
}

/// Counts the end of a connection, when neither end has anything more to say.
#[inline(always)]
pub fn close<H: Host>(host: &H, before: Word, after: Word) {
    if before.states() == after.states() || !after.is_settled() {
        return;
    }
    if is_over(after.forgotten()) && !is_over(before.forgotten()) {
        let after = after.forgotten();
        host.add(place::closes(ended_by(after.initiator(), after.locality()), after.how()), 1);
    }
}

#[inline(always)]
fn is_over(word: Word) -> bool {
    matches!(word.phase(), Phase::TimeWait | Phase::Closed)
}
