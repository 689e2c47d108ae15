//! What is learnt from a packet that passes the watcher.
//!
//! It tells of its sender's steps, it is on its way to its receiver, and it may begin a connection. A copy that comes
//! late does so too as far as the watcher can know.

use tcp_observer_common::conn::State;

use super::{
    Doubt, Oracle,
    history::{is_same, says_the_same},
    stream::Hearing,
};
use crate::simulation::packet::Packet;

impl Oracle {
    /// Takes in that a packet passes the watcher.
    pub fn passed(&mut self, packet: &Packet) {
        let Packet { from, connection, header, step, .. } = *packet;
        let to = from.opposite();
        let rst_in_place = header.rst && self.is_in_place(packet);
        let beyond_gap = self.is_beyond_gap(packet);
        let is_dropped = self.is_dropped(packet);
        self.is_beyond_window |= (header.fin || header.rst) && self.ends_beyond_window(packet);
        if let Some(receiver) = self.end(from).streams.get_mut(connection as usize) {
            receiver.max_window = receiver.max_window.max(header.window);
        }
        if header.rst {
            self.end(from).passed_rsts.push((connection, header.seq, rst_in_place));
        }
        let syn_fits = header.syn && self.syn_fits(packet);
        let receiver = self.possible(to);
        let peer_fin = self.end(to).streams.last().and_then(|stream| stream.sent_fin);
        if header.syn && header.ack.is_none() {
            let is_first = self.end(from).stream(connection).fits.is_none();
            let crosses = self.known(to).has(State::SynSent);
            if syn_fits && is_first && !crosses {
                self.epoch += 1;
            }
            self.is_ambiguous = !syn_fits;
            self.is_superseded &= !syn_fits;
            self.is_beyond_window &= !syn_fits;
            let receiver = self.end(to);
            receiver.coming_syn = Some(header.seq);
            (receiver.coming_rst, receiver.coming_doubtful_rst) = (false, false);
            receiver.has_refused_syn = false;
        } else if rst_in_place {
            self.end(to).coming_rst = true;
        } else if header.rst {
            self.end(to).coming_doubtful_rst = true;
        }
        let syn_fits = syn_fits || header.ack.is_some_and(|ack| header.syn && self.settles(from, ack));
        // An attempt goes on that the watcher takes to have ended with another one that had crossed it.
        let crossed = self.end(to).streams.last().is_some_and(|stream| stream.rst_ignored && stream.acked.is_none());
        self.is_superseded |= header.syn && header.ack.is_some() && crossed;
        let epoch = self.epoch;
        let side = self.end(from);
        // As a keepalive does before anything else was acknowledged.
        let repeats_syn = side.stream(connection).isn == Some(header.seq);
        for index in side.told + 1..side.steps.len() {
            let earlier = &mut side.steps[index];
            match earlier.doubt {
                Some(Doubt::BeyondGap | Doubt::GapInPieces) if index <= step && !header.rst => earlier.doubt = None,
                Some(Doubt::AckNotPassed) if index <= step && !header.rst && !repeats_syn => earlier.doubt = None,
                Some(Doubt::NotPassed) if earlier.sent.is_some_and(|sent| is_same(&sent, &header)) => {
                    earlier.doubt = match (header.syn, header.rst) {
                        (true, _) if !syn_fits => Some(Doubt::SynOverOld),
                        (_, true) if !rst_in_place => Some(Doubt::RstOutOfPlace),
                        _ => None,
                    };
                }
                _ => {}
            }
        }
        let answered_before = header.ack.is_some() && side.stream(connection).facts.syn_acked_by_syn;
        if syn_fits
            && !answered_before
            && let Some(index) = side.steps.iter().rposition(|step| says_the_same(step, &header))
        {
            side.tell_up_to(index);
        }
        side.advance();
        let mut is_late_syn = false;
        let stream = side.stream(connection);
        if syn_fits {
            stream.fits = Some(epoch);
        }
        // Only a FIN that passes first tells whether it was sent before the peer's came.
        if header.fin && stream.seen_fin.is_none() {
            stream.seen_fin = Some(header.end());
            stream.fin_held_back = peer_fin.is_some() && header.ack == peer_fin;
        }
        if header.syn && header.ack.is_none() && stream.isn == Some(header.seq) {
            let was_reset = stream.facts.rst || stream.facts.doubtful_rst;
            (stream.facts.rst, stream.facts.doubtful_rst) = (false, was_reset);
            stream.late_syn |= was_reset;
            is_late_syn = true;
        }
        stream.see(header);
        if header.syn
            && header.ack.is_none()
            && let Some(stream) = self.end(to).streams.last_mut()
        {
            stream.syn_in_time_wait |= receiver.has(State::TimeWait);
            // For the watcher the SYN begins anew what a RST had ended.
            let was_reset = stream.facts.rst || stream.facts.doubtful_rst;
            (stream.facts.rst, stream.facts.doubtful_rst) = (false, was_reset);
        }
        if let Some(stream) = self.end(to).addressed(header) {
            stream.hear(header, Hearing { beyond_gap, rst_in_place, repeats_syn, is_dropped });
        }
        if header.syn && header.ack.is_some() {
            let side = self.end(from);
            let last = *side.steps.last().expect("a history has a beginning");
            let has_moved_on = last.connection != connection || matches!(last.state, State::Closed | State::TimeWait);
            if let Some(stream) = side.streams.last_mut() {
                stream.late_syn_ack |= has_moved_on;
            }
        }
        if is_late_syn {
            let side = self.end(from);
            let last = *side.steps.last().expect("a history has a beginning");
            let has_moved_on = last.connection != connection || last.state != State::SynSent;
            // What has passed towards it before crosses this one, as it seems.
            let crosses = has_moved_on && side.coming_syn.is_some() && !side.coming_rst;
            side.stream(connection).late_syn |= has_moved_on;
            side.stream(connection).facts.syn |= crosses;
            if let Some(stream) = side.streams.last_mut() {
                stream.late_syn |= has_moved_on;
            }
        }
        if header.syn
            && header.ack.is_some()
            && self.end(from).stream(connection).old_syn
            && let Some(stream) = self.end(to).streams.last_mut()
        {
            stream.late_syn = true;
        }
    }
}
