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
//! No arm here reads a clock or writes anything; each gives its reason, a [`Note`], which also tells the caller which
//! time to note.

use super::{
    half::Half,
    handshake, living,
    note::Note,
    reset,
    state::State,
    teardown,
    word::{Mark, Outcome, Role, Word},
};
use crate::segment::{Flags, Options, Segment, SegmentKind};

/// What both ends have been seen to send before this segment.
#[derive(Clone, Copy)]
pub struct Sent<'a> {
    pub sender: &'a Half,
    pub receiver: &'a Half,
    /// How long the sender had been silent.
    pub silent_ns: u64,
}

/// What a segment does to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It belongs to the flow, which then has this word.
    Accept(Word),
    /// Its numbers do not allow what its flags ask for.
    Stale,
    /// The flow is over and this segment begins another one on the same tuple.
    Reincarnate,
}

/// A [`Decision`] and the reason for it in one register: a function in the kernel cannot give back more. Note and kind
/// of decision take bits that the word leaves free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict(u64);

const NOTE_SHIFT: u32 = 38;
const NOTE_MASK: u64 = 0x3f << NOTE_SHIFT;
const STALE: u64 = 1 << 44;
const REINCARNATE: u64 = 1 << 45;

impl Verdict {
    #[inline(always)]
    pub const fn accept(word: Word, note: Note) -> Self {
        Self(word.0 | (note as u64) << NOTE_SHIFT)
    }

    #[inline(always)]
    pub const fn stale(note: Note) -> Self {
        Self(STALE | (note as u64) << NOTE_SHIFT)
    }

    /// The note is the first of the flow that begins.
    #[inline(always)]
    pub const fn reincarnate(note: Note) -> Self {
        Self(REINCARNATE | (note as u64) << NOTE_SHIFT)
    }

    #[inline(always)]
    pub const fn decision(self) -> Decision {
        if self.0 & STALE != 0 {
            Decision::Stale
        } else if self.0 & REINCARNATE != 0 {
            Decision::Reincarnate
        } else {
            Decision::Accept(Word(self.0 & !NOTE_MASK))
        }
    }

    /// The reason for it.
    #[inline(always)]
    pub const fn note(self) -> Note {
        Note::from_bits(((self.0 & NOTE_MASK) >> NOTE_SHIFT) as u8)
    }
}

/// A SYN or SYN-ACK again sooner than this is a second sighting of one frame: TCPs wait a second before they repeat one
/// (<https://www.rfc-editor.org/rfc/rfc6298#section-2>), never less than Linux's least of 200 ms.
const SYN_DOUBLED_NS: u64 = 100_000_000;
/// And a FIN: a tail loss probe may repeat it after two round trips, of which none is that short and worth one
/// (<https://www.rfc-editor.org/rfc/rfc8985#section-7.2>).
const FIN_DOUBLED_NS: u64 = 500_000;

impl Sent<'_> {
    #[inline(always)]
    pub(super) fn doubles_syn(&self) -> bool {
        self.silent_ns < SYN_DOUBLED_NS
    }

    #[inline(always)]
    pub(super) fn doubles_fin(&self) -> bool {
        self.silent_ns < FIN_DOUBLED_NS
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
    use super::{Half, Note, Role, Segment, Sent, Verdict, Word, transition};
    use crate::verifier::forget;

    #[unsafe(no_mangle)]
    #[inline(never)]
    extern "C" fn conn_next(
        word: u64,
        from_and_silence: u64,
        segment: *const Segment,
        sender: *const Half,
        receiver: *const Half,
    ) -> u64 {
        // SAFETY: null, or references of the only caller.
        let (segment, sender, receiver) = unsafe { (segment.as_ref(), sender.as_ref(), receiver.as_ref()) };
        let (Some(segment), Some(sender), Some(receiver)) = (segment, sender, receiver) else {
            return Verdict::stale(Note::Nothing).0;
        };
        let from = if from_and_silence & 1 == Role::Originator as u64 { Role::Originator } else { Role::Responder };
        transition(Word(word), from, segment, &Sent { sender, receiver, silent_ns: from_and_silence >> 1 }).0
    }

    #[inline(always)]
    pub fn next(word: Word, from: Role, segment: &Segment, sent: &Sent<'_>) -> Verdict {
        let from_and_silence = forget(from as u64 | sent.silent_ns << 1);
        Verdict(conn_next(word.0, from_and_silence, segment, sent.sender, sent.receiver))
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
                // An attempt that its FIN has given up is over.
                Decision::Accept(word) if matches!(word.outcome(), Outcome::Abandoned) => handshake,
                // The segment that completes the handshake may carry a FIN as well, or acknowledge one.
                Decision::Accept(word)
                    if segment.flags.has(Flags::FIN) || word.has_of(Mark::FinSent, from.opposite()) =>
                {
                    let closing = teardown::on_ack(word, from, segment, sent);
                    match (closing.decision(), handshake.note()) {
                        // A FIN that does not fit is dropped with its acknowledgement (RFC 9293, 3.10.7.4).
                        (Decision::Stale | Decision::Reincarnate, _) | (_, Note::Nothing) => closing,
                        (Decision::Accept(word), note) => Verdict::accept(word, note),
                    }
                }
                Decision::Accept(word) if matches!(handshake.note(), Note::Nothing) => {
                    Verdict::accept(word, living::note(word, from, segment, sent))
                }
                Decision::Accept(_) | Decision::Stale | Decision::Reincarnate => handshake,
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
            Outcome::Refused
            | Outcome::Reset
            | Outcome::Unreachable
            | Outcome::TimedOut
            | Outcome::Abandoned
            | Outcome::Evicted,
        ) => match kind {
            // The same SYN seen twice is not another attempt. Its sender's RST in between is what was seen last of it.
            SegmentKind::Syn
                if word.has_of(Mark::IsnSeen, from)
                    && segment.seq == sent.sender.isn.get()
                    && sent.doubles_syn()
                    && !word.has_of(Mark::RstSent, from) =>
            {
                Verdict::accept(word, Note::FramesDoubled)
            }
            // An ICMP error did not end the attempt after all, as it need not
            // (<https://www.rfc-editor.org/rfc/rfc1122#page-103>).
            SegmentKind::Syn
                if matches!(word.outcome(), Outcome::Unreachable)
                    && word.has_of(Mark::IsnSeen, from)
                    && segment.seq == sent.sender.isn.get() =>
            {
                Verdict::accept(handshake::begun_by_syn(word).with(Mark::SynRepeated), Note::SynRepeated)
            }
            SegmentKind::Syn => Verdict::reincarnate(Note::TupleReused),
            SegmentKind::Rst => Verdict::accept(word.with_of(Mark::RstSent, from), Note::ResetAfterClose),
            // It answers a copy of the SYN that was refused, or one that was not taken for this attempt's: its sender has
            // a connection again, whatever became of the first.
            SegmentKind::SynAck if handshake::answers_again(word, from, segment, sent) => {
                Verdict::reincarnate(Note::TupleReused)
            }
            SegmentKind::SynAck | SegmentKind::Fin | SegmentKind::Data | SegmentKind::Ack => {
                Verdict::stale(Note::Nothing)
            }
        },
    }
}

/// A SYN where a handshake has completed or was never seen.
#[inline(always)]
fn on_late_syn(word: Word, from: Role, segment: &Segment, sent: &Sent<'_>) -> Verdict {
    let repeats = word.has_of(Mark::IsnSeen, from) && segment.seq == sent.sender.isn.get();
    // Of a sender that is known from the socket table only, nothing says otherwise.
    let is_newer = !word.has_of(Mark::Seen, from) || is_newer(segment, sent);
    match (word.state(from), word.state(from.opposite())) {
        (_, _) if repeats && sent.doubles_syn() => Verdict::accept(word, Note::FramesDoubled),
        // The receiver has no connection any more and will answer whatever SYN comes, an old one that was delayed
        // included; or the sender was in TIME-WAIT itself and opens again, its 2 MSL over or cut short (RFC 6191).
        (State::TimeWait | State::Closed, State::Closed) if repeats => Verdict::reincarnate(Note::OldSyn),
        (State::Closed, State::Closed) => Verdict::reincarnate(Note::TupleReused),
        (State::TimeWait, State::Closed | State::TimeWait) => Verdict::reincarnate(Note::TimeWaitReused),
        // The peer in TIME-WAIT takes a SYN with a newer timestamp, or else beyond all it has received
        // (<https://www.rfc-editor.org/rfc/rfc9293#section-3.6.1>, <https://www.rfc-editor.org/rfc/rfc6191#section-2>;
        // Linux's `tcp_timewait_state_process`).
        (State::Closed, State::TimeWait) if is_newer => Verdict::reincarnate(Note::TimeWaitReused),
        // The network delivered the first SYN late or twice.
        _ if repeats => Verdict::accept(word, Note::LateSyn),
        // Otherwise the receiver answers with a challenge ACK and nothing changes
        // (<https://www.rfc-editor.org/rfc/rfc5961#section-4>).
        _ => Verdict::stale(Note::SynInConnection),
    }
}

/// Whether a SYN is newer than what its sender has sent before: by its timestamp where that has moved, else by its
/// number.
#[inline(always)]
fn is_newer(segment: &Segment, sent: &Sent<'_>) -> bool {
    let (last, value) = (sent.sender.last_ts.get(), segment.options.ts_value);
    if segment.options.has(Options::TIMESTAMPS) && last != 0 && value != last {
        return (value.wrapping_sub(last) as i32) > 0;
    }
    segment.seq.after(sent.sender.next_seq.get())
}

/// A SYN-ACK where a handshake has completed or was never seen.
#[inline(always)]
fn on_late_synack(word: Word, from: Role, segment: &Segment, sent: &Sent<'_>) -> Verdict {
    if word.has_of(Mark::IsnSeen, from) && segment.seq == sent.sender.isn.get() {
        if sent.doubles_syn() {
            return Verdict::accept(word, Note::FramesDoubled);
        }
        // The responder has not got the last ACK, or has dropped it.
        let data_was_sent = sent.receiver.next_seq.get().after(sent.receiver.isn.get().plus(1));
        let note = if data_was_sent { Note::SynAckAfterData } else { Note::SynAckAfterAck };
        return Verdict::accept(word, note);
    }
    if word.state(Role::Originator).is_over() && word.state(Role::Responder).is_over() {
        // The answer to a SYN that did not seem acceptable: the sender's socket has judged otherwise.
        return Verdict::reincarnate(Note::TimeWaitReused);
    }
    Verdict::stale(Note::WrongSynAck)
}
