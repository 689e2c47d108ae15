//! What silence alone brings about: TIME-WAIT runs out, attempts time out, abandoned connections are given up.

use super::{
    record::Flow,
    state::{Phase, State},
    word::{How, Locality, Mark, Outcome, Role, Word},
};
use crate::limits::Limits;

impl Flow {
    /// The word that this flow has at `now_ns` if nothing more is seen of it: what silence has ended is ended.
    ///
    /// Pure, so that a reader's view does not depend on when the sweep last came by.
    #[inline(always)]
    pub fn settled_at(&self, now_ns: u64, limits: &Limits) -> Word {
        let word = Word(self.word.0.get());
        let silent_ns = now_ns.saturating_sub(self.last_seen_ns());
        match word.phase() {
            Phase::Closed => word,
            Phase::TimeWait => {
                let waited_ns = now_ns.saturating_sub(self.times.changed_ns.get());
                let word = time_wait_over(word, Role::Originator, waited_ns, limits);
                time_wait_over(word, Role::Responder, waited_ns, limits)
            }
            phase @ (Phase::HalfOpen | Phase::Established | Phase::HalfClosed | Phase::Closing) => {
                if silent_ns > patience_ns(word, phase, limits) { given_up(word) } else { word }
            }
        }
    }

    /// Whether silence cannot have ended a flow with this word, since it changed lately: [`Self::settled_at`] asks as well
    /// when each end was last seen.
    #[inline(always)]
    pub(crate) fn has_changed_lately(&self, word: Word, now_ns: u64, limits: &Limits) -> bool {
        match word.phase() {
            Phase::TimeWait | Phase::Closed => false,
            phase @ (Phase::HalfOpen | Phase::Established | Phase::HalfClosed | Phase::Closing) => {
                now_ns.saturating_sub(self.times.changed_ns.get()) <= patience_ns(word, phase, limits)
            }
        }
    }

    /// The last moment at which the flow is as it is now if nothing more is seen of it; `None` where silence changes
    /// nothing any more.
    pub fn unchanged_until_ns(&self, limits: &Limits) -> Option<u64> {
        let word = Word(self.word.0.get());
        match word.phase() {
            Phase::Closed => None,
            Phase::TimeWait => {
                let ends = |role| {
                    let waits = matches!(word.state(role), State::TimeWait);
                    waits.then(|| self.times.changed_ns.get().saturating_add(time_wait_ns(word, role, limits)))
                };
                [Role::Originator, Role::Responder].into_iter().filter_map(ends).min()
            }
            phase @ (Phase::HalfOpen | Phase::Established | Phase::HalfClosed | Phase::Closing) => {
                Some(self.last_seen_ns().saturating_add(patience_ns(word, phase, limits)))
            }
        }
    }

    /// Whether a flow that is over has been shown long enough.
    #[inline(always)]
    pub fn has_lingered(&self, now_ns: u64, limits: &Limits) -> bool {
        now_ns.saturating_sub(self.times.changed_ns.get()) > limits.linger_ns
    }
}

/// How long a flow in this phase may be silent.
#[inline(always)]
fn patience_ns(word: Word, phase: Phase, limits: &Limits) -> u64 {
    match phase {
        Phase::HalfOpen if !matches!(word.state(Role::Responder), State::Listen | State::Unknown) => {
            limits.unacked_synack_ns
        }
        Phase::HalfOpen => limits.unanswered_syn_ns,
        _ if !word.is_settled() => limits.unconfirmed_ns,
        Phase::Established => limits.established_ns,
        Phase::HalfClosed => half_closed_ns(word, limits),
        Phase::Closing => limits.closing_ns,
        Phase::TimeWait | Phase::Closed => u64::MAX,
    }
}

/// A half-closed flow: while an endpoint of ours is in CLOSE-WAIT its socket is there, however long its application
/// takes; one in FIN-WAIT-2 is most often an orphan, which the kernel drops.
#[inline(always)]
fn half_closed_ns(word: Word, limits: &Limits) -> u64 {
    let waits = |role| matches!(word.state(role), State::FinWait2) && word.has_of(Mark::Local, role);
    let ours_only = match word.locality() {
        Locality::Client => waits(Role::Originator),
        Locality::Server => waits(Role::Responder),
        Locality::Loopback | Locality::Forwarded => false,
    };
    if ours_only { limits.fin_wait_2_ns } else { limits.established_ns }
}

#[inline(always)]
fn time_wait_ns(word: Word, role: Role, limits: &Limits) -> u64 {
    if word.has_of(Mark::Local, role) { limits.local_time_wait_ns } else { limits.remote_time_wait_ns }
}

#[inline(always)]
fn time_wait_over(word: Word, role: Role, waited_ns: u64, limits: &Limits) -> Word {
    let lasts_ns = time_wait_ns(word, role, limits);
    match word.state(role) {
        State::TimeWait if waited_ns > lasts_ns => word.with_state(role, State::Closed),
        _ => word,
    }
}

/// The word of a flow that silence has ended.
#[inline(always)]
pub(super) fn given_up(word: Word) -> Word {
    let word = word.with_state(Role::Originator, State::Closed).with_state(Role::Responder, State::Closed);
    match word.outcome() {
        Outcome::InProgress => word.with_outcome(Outcome::TimedOut),
        _ => word.with_close(word.initiator(), How::Timeout),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both endpoints local, and neither: the two limits of TIME-WAIT.
    #[test]
    fn silence_changes_a_flow_right_after_the_last_moment_at_which_it_is_unchanged() {
        let limits = Limits { local_time_wait_ns: 7, remote_time_wait_ns: 5, ..Limits::DEFAULT };
        for local in 0..4_u64 {
            for &outcome in Outcome::ALL {
                for (&originator, &responder) in
                    State::ALL.iter().flat_map(|one| State::ALL.iter().map(move |other| (one, other)))
                {
                    let word = Word(local << Mark::Local as u32)
                        .with_outcome(outcome)
                        .with_state(Role::Originator, originator)
                        .with_state(Role::Responder, responder);
                    let flow = Flow::default();
                    flow.word.0.set(word.0);
                    flow.low.last_seen_ns.set(1_000);
                    flow.times.changed_ns.set(900);
                    match flow.unchanged_until_ns(&limits) {
                        Some(until_ns) => {
                            assert_eq!(flow.settled_at(until_ns, &limits), word, "{word:?}");
                            assert_ne!(flow.settled_at(until_ns + 1, &limits), word, "{word:?}");
                        }
                        None => assert_eq!(flow.settled_at(u64::MAX, &limits), word, "{word:?}"),
                    }
                    // What was not seen since it changed has changed lately for as long as it is what it is.
                    flow.times.changed_ns.set(1_000);
                    let until_ns = flow.unchanged_until_ns(&limits).unwrap_or(1_000);
                    let is_lasting = !matches!(word.phase(), Phase::TimeWait | Phase::Closed);
                    let has_changed_lately = |now_ns| flow.has_changed_lately(word, now_ns, &limits);
                    assert_eq!([until_ns, until_ns + 1].map(has_changed_lately), [is_lasting, false], "{word:?}");
                }
            }
        }
    }
}
