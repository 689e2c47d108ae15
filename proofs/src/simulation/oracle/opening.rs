//! Which SYN and SYN-ACK begin a connection for the watcher, and which fall into one that it takes to go on.

use tcp_observer_common::conn::State;

use super::{Oracle, history::Step};
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
        if !is_ambiguous || was_reset || sent.is_none_or(|syn| syn.end() != ack) {
            return false;
        }
        if !is_over {
            self.is_superseded = true;
            return false;
        }
        receiver.tell_up_to(index);
        self.epoch += 1;
        self.is_ambiguous = false;
        let epoch = self.epoch;
        self.end(to).stream(connection).fits = Some(epoch);
        true
    }

    /// Whether a SYN or SYN-ACK is known to be of the connection that there is, or that begins.
    pub(super) fn syn_fits(&mut self, packet: &Packet) -> bool {
        let (from, to) = (packet.from, packet.from.opposite());
        let (sender, receiver) = (self.known(from), self.known(to));
        let is_over = self.truth(to).0 == State::Closed;
        if packet.header.ack.is_none() && !is_over && self.end(to).streams.last().is_some_and(|stream| stream.old_syn) {
            return false;
        }
        let receiver_opens = self.end(to).last_syn().is_some_and(|syn| syn.ack.is_none());
        let closed = States::of(&[State::Closed]);
        let opening = States::of(&[State::SynSent, State::SynReceived]);
        match packet.header.ack {
            // Each has sent its SYN before the other's came.
            // One that has answered by a SYN-ACK of another number has lost that connection since.
            None if receiver.is_within(opening) && receiver_opens => {
                let answer = self.end(from).last_syn().filter(|syn| syn.ack.is_some() && syn.seq != packet.header.seq);
                sender.is_within(closed.or(opening)) && !(sender.has(State::SynReceived) && answer.is_some())
            }
            None => receiver == closed && sender.is_within(closed.with(State::TimeWait).with(State::SynSent)),
            Some(ack) => {
                let side = self.end(to);
                let syn = side.last_syn();
                let reset = side.streams.last().is_some_and(|stream| stream.facts.rst);
                let (epoch, sender) = (self.epoch, self.end(from));
                let is_renumbered = sender
                    .streams
                    .iter()
                    .enumerate()
                    .any(|(index, stream)| stream.fits == Some(epoch) && index != packet.connection as usize);
                !reset && !is_renumbered && syn.is_some_and(|syn| syn.end() == ack)
            }
        }
    }
}
