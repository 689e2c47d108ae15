//! How a segment stands to what has passed the watcher before it: behind a gap, old, beyond the window, in place.

use tcp_observer_common::conn::State;

use super::{Oracle, stream::after};
use crate::simulation::packet::Packet;

impl Oracle {
    /// Whether a FIN or anything else stands behind a gap that its receiver has not been seen to acknowledge.
    pub(super) fn is_beyond_gap(&mut self, packet: &Packet) -> bool {
        let stream = *self.end(packet.from).stream(packet.connection);
        let unfilled = stream.gap_end.is_some_and(|end| stream.acked.is_none_or(|acked| after(end, acked)));
        let lacks = stream.acked.is_none_or(|acked| after(packet.header.seq, acked));
        unfilled || stream.is_misled && lacks || after(packet.header.seq, stream.next)
    }

    /// Whether a segment holds nothing but data that was acknowledged before, or lies before all that has passed: its
    /// receiver drops it, with its acknowledgement, and may not have acknowledged anything of that yet.
    pub(super) fn is_old(&mut self, packet: &Packet) -> bool {
        let stream = *self.end(packet.from).stream(packet.connection);
        let is_passed = stream.seen && after(stream.next, packet.header.end());
        is_passed
            || packet.header.end() != packet.header.seq
                && stream.acked.is_some_and(|acked| !after(packet.header.end(), acked))
    }

    /// Whether a segment ends before what its receiver has acknowledged past the watcher: it is dropped, with its
    /// acknowledgement (RFC 9293, 3.10.7.4, first check).
    pub(super) fn is_dropped(&mut self, packet: &Packet) -> bool {
        let acked = self.end(packet.from).stream(packet.connection).acked;
        acked.is_some_and(|acked| after(acked, packet.header.end()))
    }

    /// Whether a segment stands where its sender's data ends, beyond the widest window that its peer has advertised to it.
    /// The FIN's own number is not data. No end of the simulation has more room than a window without scale tells of.
    pub(super) fn ends_beyond_window(&mut self, packet: &Packet) -> bool {
        let widest = self.end(packet.from.opposite()).streams.last().map_or(0, |peer| peer.max_window);
        let stream = *self.end(packet.from).stream(packet.connection);
        let is_own = stream.isn.is_some() && !after(packet.header.end(), stream.sent_next);
        let edge = stream.acked.map(|acked| acked.wrapping_add(u32::from(widest) + 1));
        is_own && edge.is_some_and(|edge| after(packet.header.end(), edge))
    }

    /// Whether a RST has a number between what its receiver has acknowledged and what its sender has sent, as far as both
    /// have passed, or acknowledges the SYN of a receiver that was not answered.
    pub(super) fn is_in_place(&mut self, packet: &Packet) -> bool {
        let header = packet.header;
        let receiver_may_be = self.possible(packet.from.opposite());
        let waits = receiver_may_be.has(State::SynSent) && !receiver_may_be.has(State::SynReceived);
        let receiver = self.end(packet.from.opposite()).streams.last().copied().unwrap_or_default();
        if waits
            && receiver.acked.is_none()
            && receiver.seen
            && header.ack == receiver.isn.map(|isn| isn.wrapping_add(1))
        {
            return true;
        }
        let stream = *self.end(packet.from).stream(packet.connection);
        let peer_waits = receiver_may_be.has(State::TimeWait);
        let is_known = stream.fits == Some(self.epoch) && !stream.is_replaced && !self.is_ambiguous;
        is_known && stream.places(header, peer_waits)
    }
}
