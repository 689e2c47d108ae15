//! The times that only transitions touch.

use core::cell::Cell;

use super::{half::Half, note::Note, word::Word};

/// In nanoseconds of the observer's precise clock; zero is "not yet".
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub struct Times {
    /// The first segment of this flow: the first SYN, where the handshake was seen.
    pub first_ns: Cell<u64>,
    /// The SYN that was answered: the last one before the SYN-ACK, unless timestamps name the first.
    pub syn_ns: Cell<u64>,
    /// The SYN-ACK that answered it; where timestamps name the last of several, that one.
    pub synack_ns: Cell<u64>,
    /// The acknowledgement that completed the handshake.
    pub ack_ns: Cell<u64>,
    /// The last change of an endpoint's state, or the last restart of a TIME-WAIT timer.
    pub changed_ns: Cell<u64>,
    /// While the flow is half-closed, when that began, with [`BEGAN`]; afterwards, how long it lasted.
    pub half_close_ns: Cell<u64>,
}

const _: () = assert!(size_of::<Times>() == 48);

/// Tells a moment from a length of time: one CPU may write when a half-close began after another one has ended it.
const BEGAN: u64 = 1 << 63;

impl Times {
    /// Notes the time of what a transition from `before` to `after` says happened; `peer_last_ns` is when the segment's
    /// receiver was last seen.
    #[inline(always)]
    pub fn note(&self, before: Word, after: Word, note: Note, peer_last_ns: u64, now_ns: u64) {
        match note {
            Note::SynRepeated => self.syn_ns.set(now_ns),
            Note::SynAnswered => self.synack_ns.set(now_ns),
            Note::FirstSynAnswered => {
                self.syn_ns.set(self.first_ns.get());
                self.synack_ns.set(now_ns);
            }
            Note::Completed => self.ack_ns.set(now_ns),
            Note::LastSynAckAcked => {
                self.synack_ns.set(peer_last_ns);
                self.ack_ns.set(now_ns);
            }
            _ => {}
        }
        if before.states() == after.states() {
            if matches!(note, Note::TimeWaitRestarted | Note::LastAckLost) {
                self.changed_ns.set(now_ns);
            }
            return;
        }
        self.changed_ns.set(now_ns);
        if after.is_half_closed() && !before.is_half_closed() {
            self.begin_half_close(now_ns);
        }
        self.end_half_close(before, after, now_ns);
    }

    /// Notes when a half-close began.
    #[inline(always)]
    pub(crate) fn begin_half_close(&self, now_ns: u64) {
        self.half_close_ns.set(now_ns | BEGAN);
    }

    /// How long a half-close lasted that is over; zero where its beginning was not yet written.
    #[inline(always)]
    pub(crate) fn half_close_lasted_ns(&self) -> u64 {
        let lasted_ns = self.half_close_ns.get();
        if lasted_ns & BEGAN == 0 { lasted_ns } else { 0 }
    }

    /// Notes how long a half-close lasted, where a transition or silence has ended it.
    #[inline(always)]
    pub(crate) fn end_half_close(&self, before: Word, after: Word, now_ns: u64) {
        if before.is_half_closed() && !after.is_half_closed() {
            let began_ns = self.half_close_ns.get();
            let lasted_ns = if began_ns & BEGAN == 0 { 0 } else { now_ns.saturating_sub(began_ns & !BEGAN) };
            self.half_close_ns.set(lasted_ns);
        }
    }

    /// From the SYN that was answered to the SYN-ACK that answered it.
    pub fn syn_to_synack_ns(&self) -> Option<u64> {
        between(self.syn_ns.get(), self.synack_ns.get())
    }

    /// From that SYN-ACK to the acknowledgement that completed the handshake.
    pub fn synack_to_ack_ns(&self) -> Option<u64> {
        between(self.synack_ns.get(), self.ack_ns.get())
    }

    /// From the first SYN to the end of the handshake: what the user waited.
    pub fn total_ns(&self) -> Option<u64> {
        // A flow picked up at its SYN-ACK has no first SYN.
        between(self.syn_ns.get(), self.ack_ns.get()).and_then(|_| between(self.first_ns.get(), self.ack_ns.get()))
    }

    /// How long the flow has been half-closed by `now_ns`, or was; `None` where it never was. `word` is the one that is
    /// kept with these times, not what silence has made of it since.
    pub fn half_closed_for_ns(&self, word: Word, now_ns: u64) -> Option<u64> {
        match self.half_close_ns.get() {
            0 => None,
            began_ns if began_ns & BEGAN != 0 => {
                word.is_half_closed().then(|| now_ns.saturating_sub(began_ns & !BEGAN))
            }
            lasted_ns => Some(lasted_ns),
        }
    }
}

/// The time from one moment to a later one, where both are known. Saturates: two CPUs' clocks may differ.
#[inline(always)]
fn between(from_ns: u64, to_ns: u64) -> Option<u64> {
    if from_ns == 0 || to_ns == 0 { None } else { Some(to_ns.saturating_sub(from_ns)) }
}

impl Half {
    /// The period of its heartbeat in nanoseconds, if it has one.
    pub fn heartbeat_ns(&self) -> Option<u64> {
        (self.beats.get() >= super::half::BEATS).then(|| u64::from(self.beat_period.get()) * super::half::BEAT_NS)
    }
}
