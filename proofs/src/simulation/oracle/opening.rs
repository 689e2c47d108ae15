//! Which SYN and SYN-ACK begin a connection for the watcher, and which fall into one that it takes to go on.

use tcp_observer_common::conn::State;

use super::{Oracle, history::Step, stream::Stream};
use crate::simulation::{packet::Packet, plan::End, states::States};

impl Oracle {
    /// A SYN-ACK that acknowledges a SYN of which nobody knew whether it would begin a connection. Where the old one is
    /// over, it has; else the watcher goes on with the old one.
    pub(super) fn settles(&mut self, from: End, ack: u32) -> bool {
        let to = from.opposite();
        let over = States::of(&[State::Closed, State::TimeWait]);
        let is_over = self.known(from).is_within(over) && self.known(to).is_within(over);
        let is_ambiguous = self.is_ambiguous;
        let receiver = self.end(to);
        let Some(index) = receiver.steps.iter().rposition(|step| step.sent.is_some_and(|sent| sent.syn)) else {
            return false;
        };
        let Step { connection, sent, .. } = receiver.steps[index];
        // A RST that answers another copy of the SYN has ended the attempt.
        let was_reset = receiver.streams.get(connection as usize).is_some_and(|stream| stream.facts.rst);
        let is_old = receiver.streams.get(connection as usize).is_some_and(|stream| stream.fits.is_some());
        if !is_ambiguous || was_reset || is_old && is_over || sent.is_none_or(|syn| syn.end() != ack) {
            return false;
        }
        // Or it has taken an earlier SYN to begin one, in TIME-WAIT, where the end did not.
        let syn = ack.wrapping_sub(1);
        if !is_over || self.follows_unfit(to, syn) {
            self.is_superseded = true;
            return false;
        }
        self.end(to).tell_up_to(index);
        self.epoch += 1;
        self.is_ambiguous = false;
        let epoch = self.epoch;
        self.end(to).stream(connection).fits = Some(epoch);
        true
    }

    /// A SYN-ACK that acknowledges another SYN than the last one that has passed towards its sender: the watcher follows the
    /// last one, and takes it for none of its connection. Whether that is the connection that its receiver opens.
    pub(super) fn answers_other(&mut self, from: End, connection: u32, ack: u32) -> bool {
        // A near end answers each SYN before the next one passes.
        let is_near = self.near == Some(from);
        let receiver = self.end(from.opposite());
        let syn = ack.wrapping_sub(1);
        let is_other = receiver.last_passed_syn.is_some_and(|last| last != syn);
        let is_own = receiver.streams.iter().any(|stream| stream.isn == Some(syn));
        let is_present = receiver.streams.last().is_some_and(|stream| stream.isn == Some(syn));
        self.end(from).stream(connection).answers_other |= is_other && is_own && !is_near;
        is_other && is_present
    }

    /// Whether the watcher follows another SYN of this end than `syn`, of which nobody knew whether it would begin a
    /// connection, or which came late.
    pub(super) fn follows_unfit(&mut self, opener: End, syn: u32) -> bool {
        let epoch = self.epoch;
        let Some((_, begun)) = self.followed_syn.filter(|&(end, begun)| end == opener && begun != syn) else {
            return false;
        };
        let is_fit = |stream: &Stream| stream.isn == Some(begun) && stream.fits == Some(epoch) && !stream.late_syn;
        !self.end(opener).streams.iter().any(is_fit)
    }

    /// A SYN-ACK of an end whose own SYN has begun the connection, to a SYN that the watcher took for none, since it fell
    /// into an older connection's TIME-WAIT: that the two have crossed the watcher does not see.
    pub(super) fn answers_unfit(&mut self, from: End, connection: u32, ack: u32) -> bool {
        let epoch = self.epoch;
        let is_opener = self.end(from).stream(connection).fits == Some(epoch);
        let answered = |stream: &Stream| stream.isn == Some(ack.wrapping_sub(1));
        let unfit =
            self.end(from.opposite()).streams.iter().any(|stream| answered(stream) && stream.fits != Some(epoch));
        is_opener && unfit
    }

    /// Whether a SYN or SYN-ACK is known to be of the connection that there is, or that begins.
    pub(super) fn syn_fits(&mut self, packet: &Packet) -> bool {
        let (from, to) = (packet.from, packet.from.opposite());
        let (sender, receiver) = (self.known(from), self.known(to));
        let is_over = self.truth(to).0 == State::Closed;
        if packet.header.ack.is_none() && !is_over && self.end(to).streams.last().is_some_and(|stream| stream.old_syn) {
            return false;
        }
        let epoch = self.epoch;
        let follows_other = self.followed_syn.is_some_and(|(opener, syn)| opener == from && syn != packet.header.seq);
        let receiver_opens = self.end(to).last_syn().is_some_and(|syn| syn.ack.is_none());
        let closed = States::of(&[State::Closed]);
        let opening = States::of(&[State::SynSent, State::SynReceived]);
        match packet.header.ack {
            // Each has sent its SYN before the other's came.
            // One that has answered by a SYN-ACK of another number has lost that connection since.
            None if receiver.is_within(opening) && receiver_opens => {
                let answer = self.end(from).last_syn().filter(|syn| syn.ack.is_some() && syn.seq != packet.header.seq);
                let has_answered = sender.has(State::SynReceived) && answer.is_some();
                sender.is_within(closed.or(opening)) && !has_answered && !follows_other
            }
            None => receiver == closed && sender.is_within(closed.with(State::TimeWait).with(State::SynSent)),
            Some(ack) => {
                let side = self.end(to);
                let syn = side.last_syn();
                let is_answered = |stream: &&Stream| stream.isn == Some(ack.wrapping_sub(1));
                let answered = side.streams.iter().rfind(is_answered);
                let is_old = answered.is_some_and(|stream| stream.fits.is_some_and(|fits| fits != epoch));
                let others = |(index, stream): (usize, &Stream)| {
                    stream.fits == Some(epoch) && index != packet.connection as usize
                };
                let reset = is_old || side.streams.last().is_some_and(|stream| stream.facts.rst);
                let syn_fits = syn.is_some_and(|syn| syn.end() == ack);
                let is_renumbered = self.end(from).streams.iter().enumerate().any(others);
                !reset && !is_renumbered && syn_fits
            }
        }
    }
}
