//! What is learnt from a packet that passes the watcher.
//!
//! It tells of its sender's steps, it is on its way to its receiver, and it may begin a connection. A copy that comes
//! late does so too as far as the watcher can know.

use tcp_observer_common::conn::State;

use super::{
    Doubt, Follows, Oracle,
    history::{is_same, says_the_same},
    stream::{Hearing, after},
};
use crate::simulation::{packet::Packet, states::States};

impl Oracle {
    /// Takes in that a packet passes the watcher.
    pub fn passed(&mut self, packet: &Packet, follows: Follows) {
        let Packet { from, connection, header, step, .. } = *packet;
        let to = from.opposite();
        let rst_in_place = header.rst && self.is_in_place(packet);
        let beyond_gap = self.is_beyond_gap(packet);
        let is_dropped = self.is_dropped(packet);
        let ends_beyond_window = self.ends_beyond_window(packet);
        let stream = self.end(from).stream(connection);
        let behind_beyond =
            stream.beyond.is_some_and(|end| stream.acked.is_none_or(|acked| after(end, acked)) && !header.rst);
        if ends_beyond_window && header.payload > 0 {
            stream.beyond = Some(header.end());
        }
        self.is_beyond_window |= header.fin && behind_beyond || (header.fin || header.rst) && ends_beyond_window;
        if let Some(receiver) = self.end(from).streams.get_mut(connection as usize) {
            receiver.max_window = receiver.max_window.max(header.window);
        }
        if header.rst {
            self.end(from).passed_rsts.push((connection, header.seq, rst_in_place));
        }
        if follows.begins {
            // A SYN that has come late before is none of this connection's.
            for stream in self.ends.iter_mut().flat_map(|side| &mut side.streams) {
                (stream.taken_for, stream.late_syn, stream.late_syn_acked) = (States::default(), false, false);
            }
        }
        // Where the watcher has taken a SYN-ACK for the first of a connection, or a SYN that is none's, it goes on with that.
        let goes_on = header.ack.is_none()
            && !follows.begins
            && (self.is_begun_by_synack || self.follows_unfit(from, header.seq));
        let syn_fits = header.syn && !goes_on && self.syn_fits(packet);
        if follows.begins {
            self.is_begun_by_synack = header.syn && header.ack.is_some();
            self.followed_syn = (header.syn && header.ack.is_none()).then_some((from, header.seq));
        }
        let receiver = self.possible(to);
        let peer_fin = self.end(to).streams.last().and_then(|stream| stream.sent_fin);
        if header.syn && header.ack.is_none() {
            let is_first = self.end(from).stream(connection).fits.is_none();
            let crosses = self.known(to).has(State::SynSent);
            if syn_fits && is_first && !crosses {
                self.epoch += 1;
            }
            self.is_ambiguous = !syn_fits;
            // What the watcher does not follow it does not again until it begins anew itself.
            let begins = syn_fits && follows.begins;
            self.is_superseded &= !begins;
            self.is_superseded |= syn_fits && !begins && follows.is_picked_up;
            self.is_beyond_window &= !begins;
            let is_over = !self.known(to).has(State::SynSent) && !self.known(to).has(State::SynReceived);
            let sender = self.end(from);
            sender.last_passed_syn = Some(header.seq);
            sender.stream(connection).refuses_late = false;
            if syn_fits && is_over {
                sender.stream(connection).see_syn_anew(header);
            }
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
        if let (true, Some(ack)) = (header.syn, header.ack) {
            self.is_superseded |=
                self.answers_other(from, connection, ack) || self.answers_unfit(from, connection, ack);
            let is_answer = self.end(to).last_syn().is_some_and(|syn| syn.end() == ack);
            if is_answer && self.near != Some(to) {
                let epoch = self.epoch;
                let before = self.end(from).streams.iter_mut().take(connection as usize);
                before.filter(|stream| stream.fits == Some(epoch)).for_each(|stream| stream.is_replaced = true);
            }
        }
        // An attempt goes on that the watcher takes to have ended with another one that had crossed it.
        let crossed = self.end(to).streams.last().is_some_and(|stream| stream.rst_ignored && stream.acked.is_none());
        self.is_superseded |= header.syn && header.ack.is_some() && crossed;
        let epoch = self.epoch;
        if header.rst {
            let sender = self.end(from);
            let last = sender.last_passed_syn;
            if let Some(stream) = sender.streams.last_mut() {
                stream.refuses_late |= header.ack.is_none() && last.is_some() && last != stream.isn;
            }
        } else if !header.syn {
            // It came late from a connection before: data is not held against the window, and moves what was sent.
            let last = self.end(from).streams.len().saturating_sub(1);
            let is_old = (connection as usize) < last;
            if let Some(stream) = self.end(from).streams.last_mut().filter(|stream| is_old && stream.seen)
                && after(header.end(), stream.next)
            {
                stream.is_misled = true;
            }
        }
        let side = self.end(from);
        // As a keepalive does before anything else was acknowledged.
        let repeats_syn = side.stream(connection).isn == Some(header.seq);
        for index in side.told + 1..side.steps.len() {
            let earlier = &mut side.steps[index];
            match earlier.doubt {
                Some(Doubt::BeyondGap | Doubt::GapInPieces | Doubt::OldSegment) if index <= step && !header.rst => {
                    earlier.doubt = None
                }
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
            (stream.fits, stream.taken_for) = (Some(epoch), States::default());
        }
        // Only a FIN that passes first tells whether it was sent before the peer's came.
        if header.fin && stream.seen_fin.is_none() {
            stream.seen_fin = Some(header.end());
            stream.fin_held_back = peer_fin.is_some() && header.ack == peer_fin;
        }
        if header.syn && header.ack.is_none() && stream.isn == Some(header.seq) {
            let was_reset = stream.facts.rst || stream.facts.doubtful_rst;
            if follows.begins {
                (stream.facts.rst, stream.facts.doubtful_rst) = (false, was_reset);
            }
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
            if follows.begins {
                (stream.facts.rst, stream.facts.doubtful_rst) = (false, was_reset);
            }
        }
        if let Some(stream) = self.end(to).addressed(header) {
            stream.hear(header, Hearing { beyond_gap, rst_in_place, repeats_syn, is_dropped });
            let (is_of_late, isn) = (stream.late_syn, stream.isn);
            if let Some(stream) = self.end(to).streams.last_mut() {
                stream.late_syn_acked |= is_of_late && header.syn && header.ack.is_some();
                // It ends what the late SYN has begun for the watcher, and nothing of a later connection.
                stream.refuses_late |= is_of_late && header.rst && stream.isn != isn;
            }
        }
        if header.syn && header.ack.is_some() {
            let begins_late = follows.begins || self.end(to).streams.last().is_some_and(|stream| stream.late_syn);
            let side = self.end(from);
            let last = *side.steps.last().expect("a history has a beginning");
            let has_moved_on = last.connection != connection || matches!(last.state, State::Closed | State::TimeWait);
            if let Some(stream) = side.streams.last_mut() {
                stream.late_syn_ack |= has_moved_on || begins_late && (stream.facts.rst || stream.facts.doubtful_rst);
            }
        }
        // For the watcher a SYN-ACK begins anew what a RST had ended that has overtaken it, or a copy of the SYN.
        if header.syn && header.ack.is_some() && follows.begins {
            for stream in self.ends.iter_mut().filter_map(|side| side.streams.last_mut()) {
                let was_reset = stream.facts.rst || stream.facts.doubtful_rst;
                (stream.facts.rst, stream.facts.doubtful_rst) = (false, was_reset);
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
