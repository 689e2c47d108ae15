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
    handshake, reset,
    record::Half,
    state::State,
    teardown,
    word::{Mark, Outcome, Role, Word},
};
use crate::segment::{Segment, SegmentKind};

/// What both ends have been seen to send before this segment.
#[derive(Clone, Copy)]
pub struct Sent<'a> {
    pub sender: &'a Half,
    pub receiver: &'a Half,
}

/// What a segment does to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It belongs to the flow, which then has this word.
    Accept(Word, Note),
    /// Its numbers do not allow what its flags ask for.
    Stale,
    /// The flow is over and this segment begins another one on the same tuple.
    Reincarnate,
}

/// What a transition asks to be noted beside the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    Nothing,
    /// The originator's SYN again, unanswered so far: latencies count from this one.
    SynRepeated,
    /// A SYN or SYN-ACK again that changes nothing any more.
    LateRepetition,
    /// The first SYN-ACK.
    SynAnswered,
    SynAckRepeated,
    /// The handshake's end.
    Completed,
    /// A RST that ended something.
    Reset,
    /// The peer of an endpoint in TIME-WAIT is still talking: 2 MSL begin again
    /// (<https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.4>, eighth check, TIME-WAIT).
    TimeWaitRestarted,
}

/// The transition of a flow on a segment that `from` sent.
#[inline(always)]
pub fn next(word: Word, from: Role, segment: &Segment, sent: Sent<'_>) -> Verdict {
    match (segment.kind(), word.outcome()) {
        (SegmentKind::Syn, Outcome::InProgress) => handshake::on_syn(word, from, segment, sent),
        (SegmentKind::SynAck, Outcome::InProgress) => handshake::on_synack(word, from, segment, sent),
        (SegmentKind::Fin | SegmentKind::Data | SegmentKind::Ack, Outcome::InProgress) => {
            match handshake::on_ack(word, from, segment, sent) {
                // The segment that completes the handshake may carry the FIN as well.
                Verdict::Accept(word, note) if segment.kind() == SegmentKind::Fin && word.outcome() != Outcome::Abandoned => {
                    match teardown::on_ack(word, from, segment, sent) {
                        Verdict::Accept(word, Note::Nothing) => Verdict::Accept(word, note),
                        other => other,
                    }
                }
                other => other,
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
        (
            kind,
            Outcome::Refused | Outcome::Reset | Outcome::TimedOut | Outcome::Abandoned | Outcome::Evicted,
        ) => match kind {
            SegmentKind::Syn => Verdict::Reincarnate,
            SegmentKind::SynAck | SegmentKind::Rst | SegmentKind::Fin | SegmentKind::Data | SegmentKind::Ack => {
                Verdict::Stale
            }
        },
    }
}

/// A SYN where a handshake has completed or was never seen.
#[inline(always)]
fn on_late_syn(word: Word, from: Role, segment: &Segment, sent: Sent<'_>) -> Verdict {
    let (own, peer) = (word.state(from), word.state(from.opposite()));
    if word.has_of(Mark::IsnSeen, from) && segment.seq == sent.sender.isn.get() {
        // The network delivered the first SYN late or twice.
        return Verdict::Accept(word, Note::LateRepetition);
    }
    match (own, peer) {
        // It was in TIME-WAIT itself and opens again: its 2 MSL are over, or it may cut them short (RFC 6191).
        (State::TimeWait, State::TimeWait | State::Closed) | (State::Closed, State::Closed) => Verdict::Reincarnate,
        // The peer in TIME-WAIT takes a SYN beyond all it has received
        // (<https://www.rfc-editor.org/rfc/rfc9293#section-3.6.1>). Where it goes by timestamps instead, its SYN-ACK
        // will tell.
        (State::Closed, State::TimeWait) if segment.seq.after(sent.sender.next_seq.get()) => Verdict::Reincarnate,
        // Otherwise the receiver answers with a challenge ACK and nothing changes
        // (<https://www.rfc-editor.org/rfc/rfc5961#section-4>).
        _ => Verdict::Stale,
    }
}

/// A SYN-ACK where a handshake has completed or was never seen.
#[inline(always)]
fn on_late_synack(word: Word, from: Role, segment: &Segment, sent: Sent<'_>) -> Verdict {
    if word.has_of(Mark::IsnSeen, from) && segment.seq == sent.sender.isn.get() {
        // The responder has not got the last ACK, or has dropped it.
        return Verdict::Accept(word, Note::SynAckRepeated);
    }
    if word.state(Role::Originator).is_over() && word.state(Role::Responder).is_over() {
        // The answer to a SYN that did not seem acceptable: the sender's socket has judged otherwise.
        return Verdict::Reincarnate;
    }
    Verdict::Stale
}
