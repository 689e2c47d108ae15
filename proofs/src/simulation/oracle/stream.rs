//! One connection of an end in one direction: the numbers that it has truly sent, and those that have passed.
//!
//! Both are needed side by side: a RST is placed by what has passed, an acknowledgement by what was sent. With them
//! stand the doubts that belong to a connection as a whole and to no single step, and what they let the watcher say.

use tcp_observer_common::conn::State;

use super::facts::{Facts, InOrder};
use crate::simulation::{packet::Header, states::States};

/// How a segment that passes stands to what has passed before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hearing {
    pub(super) beyond_gap: bool,
    pub(super) rst_in_place: bool,
    pub(super) repeats_syn: bool,
    pub(super) is_dropped: bool,
}

/// One connection of an end, as it has shown itself to the watcher, and as it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stream {
    pub(super) isn: Option<u32>,
    /// The number after the highest one truly sent, and after its FIN.
    pub(super) sent_next: u32,
    pub(super) sent_fin: Option<u32>,
    pub(super) window: Option<u16>,
    /// The widest window of it that has passed.
    pub(super) max_window: u16,
    pub(super) sent_ack: Option<u32>,
    /// The same of what has passed.
    pub(super) seen: bool,
    /// Whether its SYN was known to begin a connection, and not to fall into another one.
    pub(super) fits: Option<u32>,
    pub(super) next: u32,
    pub(super) seen_fin: Option<u32>,
    pub(super) gap_end: Option<u32>,
    /// The highest number of it that was acknowledged past the watcher.
    pub(super) acked: Option<u32>,
    /// What is in doubt of it besides its steps.
    pub(super) rst_ignored: bool,
    pub(super) ack_ignored: bool,
    pub(super) fin_ignored: bool,
    /// It has ignored data with an old acknowledgement.
    pub(super) data_ignored: bool,
    pub(super) old_syn: bool,
    pub(super) syn_refused: bool,
    pub(super) syn_in_time_wait: bool,
    pub(super) late_syn: bool,
    pub(super) late_syn_ack: bool,
    pub(super) fin_held_back: bool,
    /// It has answered another SYN than the one that passed last.
    pub(super) answers_other: bool,
    /// A SYN of it that came late was answered by a SYN-ACK.
    pub(super) late_syn_acked: bool,
    /// A SYN-ACK of another number has taken its place.
    pub(super) is_replaced: bool,
    /// A segment of a connection before has passed whose number lies beyond all of this one.
    pub(super) is_misled: bool,
    /// Something of it has passed beyond a gap.
    pub(super) had_gap: bool,
    /// It has dropped what had come beyond a gap.
    pub(super) piece_dropped: bool,
    /// What the watcher takes it for since a SYN of its sender's connection before has come late.
    pub(super) taken_for: States,
    /// It has refused the answer to a SYN that came late.
    pub(super) refuses_late: bool,
    /// The end of what has passed of it beyond the window that it had then.
    pub(super) beyond: Option<u32>,
    pub(super) facts: Facts,
}

impl Stream {
    pub(super) fn send(&mut self, header: Header) {
        if header.syn && self.isn != Some(header.seq) {
            (self.isn, self.sent_next) = (Some(header.seq), header.end());
        }
        if after(header.end(), self.sent_next) {
            self.sent_next = header.end();
        }
        if header.fin {
            self.sent_fin = Some(header.end());
        }
        (self.window, self.sent_ack) = (Some(header.window), header.ack);
    }

    /// A true state as far as it has been put on the wire.
    pub(super) fn on_wire(&self, state: State) -> State {
        match state {
            State::SynSent | State::SynReceived if self.isn.is_none() => State::Closed,
            State::FinWait1 if self.sent_fin.is_none() => State::Established,
            State::LastAck | State::Closing if self.sent_fin.is_none() => State::CloseWait,
            state => state,
        }
    }

    /// Whether a RST has a number between what was acknowledged and what was sent, or that of its FIN, which a peer in
    /// TIME-WAIT does not expect any more.
    pub(super) fn places(&self, header: Header, peer_waits: bool) -> bool {
        let is_fins = !peer_waits && self.seen_fin.is_some_and(|fin| fin == header.seq.wrapping_add(1));
        let first = self.acked.or(self.isn).unwrap_or(self.next);
        self.seen && (is_fins || within(header.seq, first, self.next))
    }

    pub(super) fn syn_ack_ignored(&self) -> bool {
        self.facts.syn_acked_by_syn && !self.facts.syn_acked
    }

    /// These states, and those that the watcher takes them for where it cannot know better.
    pub(super) fn doubted(&self, states: States) -> States {
        use State::*;
        let mut all = states.or(self.taken_for_late());
        let mut also = |is_so: bool, from: State, to: &[State]| {
            if is_so && all.has(from) {
                all = all.or(States::of(to));
            }
        };
        also(self.syn_refused, SynSent, &[SynReceived]);
        also(self.refuses_late, SynSent, &[Closed]);
        also(self.answers_other, SynReceived, &[Closed]);
        also(self.syn_ack_ignored() || self.ack_ignored, SynReceived, &[Established]);
        also(self.ack_ignored, FinWait1, &[FinWait2]);
        let fin_ignored = self.fin_ignored || self.piece_dropped;
        also(fin_ignored, SynReceived, &[CloseWait]);
        also(fin_ignored, Established, &[CloseWait]);
        also(fin_ignored, FinWait1, &[Closing]);
        also(fin_ignored, FinWait2, &[TimeWait]);
        also(self.ack_ignored, Closing, &[TimeWait]);
        also(self.fin_held_back, Closing, &[LastAck]);
        also(self.ack_ignored, LastAck, &[Closed]);
        also(self.fin_held_back || self.syn_in_time_wait, TimeWait, &[Closed]);
        if self.rst_ignored || self.old_syn {
            all = all.with(Closed);
        }
        if self.late_syn_ack { all.with(SynReceived) } else { all }
    }

    /// What one whose SYN comes late is taken for besides what it is. One that has come since crosses it, and a FIN
    /// without an answer gives it up.
    pub(super) fn taken_for_late(&self) -> States {
        use State::*;
        let mut all = if self.late_syn { self.taken_for.with(SynSent) } else { self.taken_for };
        all = if all.has(SynSent) && self.facts.syn { all.with(SynReceived) } else { all };
        if self.late_syn {
            all = if self.sent_fin.is_some() { all.with(Closed) } else { all };
            all = if self.late_syn_acked { all.with(Established) } else { all };
        }
        all
    }

    pub(super) fn see(&mut self, header: Header) {
        if header.syn && self.isn == Some(header.seq) && !self.seen {
            (self.seen, self.next) = (true, header.end());
        } else if self.seen && !header.rst {
            let fills = |end: u32| {
                let begins_before = self.acked.is_some_and(|acked| !after(header.seq, acked));
                header.payload > 0 && begins_before && !after(end, header.end())
            };
            if self.gap_end.is_some_and(fills) {
                self.gap_end = None;
            }
            if after(header.seq, self.next) {
                (self.gap_end, self.had_gap) = (Some(header.seq), true);
            }
            if after(header.end(), self.next) {
                self.next = header.end();
            }
        }
    }

    /// Begins anew with its SYN, as far as has passed.
    pub(super) fn see_syn_anew(&mut self, header: Header) {
        (self.next, self.acked, self.seen_fin, self.gap_end) = (header.end(), None, None, None);
        self.is_replaced = false;
    }

    pub(super) fn is_acknowledged_by(&self, header: Header) -> bool {
        let (Some(isn), Some(ack)) = (self.isn, header.ack) else {
            return false;
        };
        within(ack, isn.wrapping_add(1), self.sent_next)
    }

    /// Takes in what passes towards it.
    pub(super) fn hear(&mut self, header: Header, how: Hearing) {
        let Hearing { beyond_gap, rst_in_place, repeats_syn, is_dropped } = how;
        let acknowledges =
            self.isn.is_some_and(|isn| header.ack.is_some_and(|ack| within(ack, isn.wrapping_add(1), self.sent_next)));
        let facts = &mut self.facts;
        if header.rst {
            let counts = rst_in_place && (self.seen || self.isn.is_none());
            facts.rst |= counts;
            facts.doubtful_rst |= !counts;
            if rst_in_place {
                facts.syn = false;
            }
        } else if acknowledges {
            if self.acked.is_none_or(|acked| header.ack.is_some_and(|ack| after(ack, acked))) {
                self.acked = header.ack;
            }
            facts.syn_acked |= !header.syn && !repeats_syn;
            facts.syn_acked_by_syn |= header.syn;
            facts.fin_acked |= !is_dropped && self.sent_fin.is_some() && header.ack == self.sent_fin;
            if header.fin && facts.fin.is_none() {
                facts.fin = Some(InOrder(!beyond_gap));
            }
        } else if header.syn && header.ack.is_none() {
            facts.syn = true;
        }
    }
}

pub(super) fn after(one: u32, other: u32) -> bool {
    (one.wrapping_sub(other) as i32) > 0
}

pub(super) fn within(number: u32, first: u32, last: u32) -> bool {
    number.wrapping_sub(first) <= last.wrapping_sub(first)
}
