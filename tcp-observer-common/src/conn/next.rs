//! The transition of a flow on one segment: a pure function of the state word, who sent the segment, the segment, and
//! what the two ends have been seen to send before.
//!
//! The viewpoint is nf_conntrack's: the observer stands between the ends, close to one of them. What has passed here
//! was sent for certain; whether it arrived shows only in what its receiver says later. For the near end the two are
//! the same but for microseconds, so a segment in order counts as received.
//!
//! ```text
//!   nothing ──SYN──► syn_sent/listen ──SYN-ACK──► syn_sent/syn_received ──ACK──► established
//!                         │ RST: refused               │ RST: reset                  │
//!                         ▼                            ▼                        FIN  ▼
//!                       closed                       closed               fin_wait_1/close_wait
//!                                                                               ACK  ▼
//!        time_wait/closed ◄──ACK── time_wait/last_ack ◄──FIN── fin_wait_2/close_wait (half-closed)
//! ```
//!
//! No arm here reads a clock or writes anything; [`Note`] tells the caller which time to note.

use super::{
    handshake,
    record::Half,
    reset,
    state::State,
    teardown,
    word::{Mark, Outcome, Role, Word},
};
use crate::{
    labels::labelled,
    segment::{Flags, Segment, SegmentKind},
};

/// What both ends have been seen to send before this segment.
#[derive(Clone, Copy)]
pub struct Sent<'a> {
    pub sender: &'a Half,
    pub receiver: &'a Half,
}

/// What a segment does to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It belongs to the flow, which then has this word.
    Accept(Word, Note),
    /// Its numbers do not allow what its flags ask for.
    Stale,
    /// The flow is over and this segment begins another one on the same tuple.
    Reincarnate,
}

/// A [`Decision`] in one register: a function in the kernel cannot give back more. Note and kind of decision take
/// bits that the word leaves free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict(u64);

const NOTE_SHIFT: u32 = 40;
const NOTE_MASK: u64 = 0xf << NOTE_SHIFT;

impl Verdict {
    pub const STALE: Self = Self(1 << 44);
    pub const REINCARNATE: Self = Self(1 << 45);

    #[inline(always)]
    pub const fn accept(word: Word, note: Note) -> Self {
        Self(word.0 | (note as u64) << NOTE_SHIFT)
    }

    #[inline(always)]
    pub const fn decision(self) -> Decision {
        if self.0 & Self::STALE.0 != 0 {
            Decision::Stale
        } else if self.0 & Self::REINCARNATE.0 != 0 {
            Decision::Reincarnate
        } else {
            let note = Note::from_bits(((self.0 & NOTE_MASK) >> NOTE_SHIFT) as u8);
            Decision::Accept(Word(self.0 & !NOTE_MASK), note)
        }
    }
}

labelled! {
    /// What a transition asks to be noted beside the word.
    pub enum Note {
        Nothing = "nothing",
        /// The originator's SYN again, unanswered so far: latencies count from this one.
        SynRepeated = "syn_repeated",
        /// A SYN again that changes nothing any more.
        LateRepetition = "late_repetition",
        /// The first SYN-ACK.
        SynAnswered = "syn_answered",
        SynAckRepeated = "synack_repeated",
        /// The handshake's end.
        Completed = "completed",
        /// A RST that ended something.
        Reset = "reset",
        /// The peer of an endpoint in TIME-WAIT is still talking: 2 MSL begin again
        /// (<https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.4>, eighth check, TIME-WAIT).
        TimeWaitRestarted = "time_wait_restarted",
    }
}

/// The transition of a flow on a segment that `from` sent.
#[cfg(not(target_arch = "bpf"))]
pub fn next(word: Word, from: Role, segment: &Segment, sent: &Sent<'_>) -> Verdict {
    transition(word, from, segment, sent)
}

#[cfg(target_arch = "bpf")]
pub use kernel::next;

/// In the kernel the transition is a function of its own with global linkage: the verifier looks at it once, for any
/// arguments, instead of once for every way that leads to a call.
#[cfg(target_arch = "bpf")]
mod kernel {
    use super::{Half, Role, Segment, Sent, Verdict, Word, transition};
    use crate::verifier::forget;

    #[unsafe(no_mangle)]
    #[inline(never)]
    extern "C" fn conn_next(
        word: u64,
        from: u64,
        segment: *const Segment,
        sender: *const Half,
        receiver: *const Half,
    ) -> u64 {
        // SAFETY: null, or references of the only caller.
        let (segment, sender, receiver) = unsafe { (segment.as_ref(), sender.as_ref(), receiver.as_ref()) };
        let (Some(segment), Some(sender), Some(receiver)) = (segment, sender, receiver) else {
            return Verdict::STALE.0;
        };
        let from = if from == Role::Originator as u64 { Role::Originator } else { Role::Responder };
        transition(Word(word), from, segment, &Sent { sender, receiver }).0
    }

    #[inline(always)]
    pub fn next(word: Word, from: Role, segment: &Segment, sent: &Sent<'_>) -> Verdict {
        Verdict(conn_next(word.0, forget(from as u64), segment, sent.sender, sent.receiver))
    }
}

#[inline(always)]
fn transition(word: Word, from: Role, segment: &Segment, sent: &Sent<'_>) -> Verdict {
    match (segment.kind(), word.outcome()) {
        (SegmentKind::Syn, Outcome::InProgress) => handshake::on_syn(word, from, segment, sent),
        (SegmentKind::SynAck, Outcome::InProgress) => handshake::on_synack(word, from, segment, sent),
        (SegmentKind::Fin | SegmentKind::Data | SegmentKind::Ack, Outcome::InProgress) => {
            let handshake = handshake::on_ack(word, from, segment, sent);
            match handshake.decision() {
                // The segment that completes the handshake may carry a FIN as well, or acknowledge one.
                Decision::Accept(word, note)
                    if (segment.flags.has(Flags::FIN) || word.has_of(Mark::FinSent, from.opposite()))
                        && !matches!(word.outcome(), Outcome::Abandoned) =>
                {
                    match teardown::on_ack(word, from, segment, sent).decision() {
                        Decision::Accept(word, _) => Verdict::accept(word, note),
                        Decision::Stale | Decision::Reincarnate => handshake,
                    }
                }
                Decision::Accept(..) | Decision::Stale | Decision::Reincarnate => handshake,
            }
        }
        (SegmentKind::Rst, Outcome::InProgress) => reset::in_handshake(word, from, segment, sent),

        (SegmentKind::Syn, Outcome::Completed | Outcome::NotSeen) => on_late_syn(word, from, segment, sent),
        (SegmentKind::SynAck, Outcome::Completed | Outcome::NotSeen) => on_late_synack(word, from, segment, sent),
        (SegmentKind::Fin | SegmentKind::Data | SegmentKind::Ack, Outcome::Completed | Outcome::NotSeen) => {
            teardown::on_ack(word, from, segment, sent)
        }
        (SegmentKind::Rst, Outcome::Completed | Outcome::NotSeen) => reset::after_handshake(word, from, segment, sent),

        // The attempt has failed: a SYN begins another, and whatever else trails in changes nothing.
        (kind, Outcome::Refused | Outcome::Reset | Outcome::TimedOut | Outcome::Abandoned | Outcome::Evicted) => {
            match kind {
                SegmentKind::Syn => Verdict::REINCARNATE,
                SegmentKind::SynAck | SegmentKind::Rst | SegmentKind::Fin | SegmentKind::Data | SegmentKind::Ack => {
                    Verdict::STALE
                }
            }
        }
    }
}

/// A SYN where a handshake has completed or was never seen.
#[inline(always)]
fn on_late_syn(word: Word, from: Role, segment: &Segment, sent: &Sent<'_>) -> Verdict {
    let repeats = word.has_of(Mark::IsnSeen, from) && segment.seq == sent.sender.isn.get();
    match (word.state(from), word.state(from.opposite())) {
        // The receiver has no connection any more and will answer whatever SYN comes, an old one that was delayed
        // included; or the sender was in TIME-WAIT itself and opens again, its 2 MSL over or cut short (RFC 6191).
        (State::TimeWait | State::Closed, State::Closed) | (State::TimeWait, State::TimeWait) => Verdict::REINCARNATE,
        // The peer in TIME-WAIT takes a SYN beyond all it has received
        // (<https://www.rfc-editor.org/rfc/rfc9293#section-3.6.1>). Where it goes by timestamps instead, its SYN-ACK
        // will tell.
        (State::Closed, State::TimeWait) if segment.seq.after(sent.sender.next_seq.get()) => Verdict::REINCARNATE,
        // The network delivered the first SYN late or twice.
        _ if repeats => Verdict::accept(word, Note::LateRepetition),
        // Otherwise the receiver answers with a challenge ACK and nothing changes
        // (<https://www.rfc-editor.org/rfc/rfc5961#section-4>).
        _ => Verdict::STALE,
    }
}

/// A SYN-ACK where a handshake has completed or was never seen.
#[inline(always)]
fn on_late_synack(word: Word, from: Role, segment: &Segment, sent: &Sent<'_>) -> Verdict {
    if word.has_of(Mark::IsnSeen, from) && segment.seq == sent.sender.isn.get() {
        // The responder has not got the last ACK, or has dropped it.
        return Verdict::accept(word, Note::SynAckRepeated);
    }
    if word.state(Role::Originator).is_over() && word.state(Role::Responder).is_over() {
        // The answer to a SYN that did not seem acceptable: the sender's socket has judged otherwise.
        return Verdict::REINCARNATE;
    }
    Verdict::STALE
}
