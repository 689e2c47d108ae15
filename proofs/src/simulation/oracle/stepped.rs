//! What is learnt from an end's step: its true state after a packet that it received or sent, or after what befell it.
//!
//! Whether the step is told or in doubt is decided here. So is what the end has ignored, which shows in no step: it has
//! stayed as it was where the watcher expects it to have moved on.

use smoltcp::socket::tcp::State as TrueState;
use tcp_observer_common::conn::State;

use super::{
    Doubt, Oracle, core_state,
    facts::{Facts, InOrder},
    history::{Step, is_syn_of},
    stream::after,
};
use crate::simulation::{
    packet::Packet,
    plan::{Action, End},
    states::States,
    world::Cause,
};

impl Oracle {
    /// Takes an end's true state in. `packet` is the one that it has received or sent.
    pub fn stepped(&mut self, end: End, cause: Cause, truth: TrueState, connection: u32, packet: Option<&Packet>) {
        let (beyond_gap, is_old, rst_in_place) = match (cause, packet) {
            (Cause::Received(_), Some(packet)) => {
                (self.is_beyond_gap(packet), self.is_old(packet), self.is_in_place(packet))
            }
            _ => (false, false, false),
        };
        let near = self.near;
        let header = packet.map(|packet| packet.header);
        let sent = if let Cause::Sent(_) = cause { header } else { None };
        let is_placed = packet.is_some_and(|packet| {
            self.end(packet.from).streams.iter().any(|stream| stream.places(packet.header, false))
        });
        // It may have overtaken the data before it, which has passed since.
        let rst_was_in_place = packet.is_none_or(|packet| {
            let passed = &self.end(packet.from).passed_rsts;
            let is_this = |rst: &&(u32, u32, bool)| (rst.0, rst.1) == (packet.connection, packet.header.seq);
            passed.iter().filter(is_this).any(|rst| rst.2)
        });
        let is_misled = packet.is_some_and(|packet| self.end(packet.from).stream(packet.connection).is_misled);
        let had_gap = packet.is_some_and(|packet| self.end(packet.from).stream(packet.connection).had_gap);
        let from_other = packet.filter(|packet| packet.from != end);
        let epoch = self.epoch;
        let syn_fits =
            from_other.is_none_or(|packet| self.end(packet.from).stream(packet.connection).fits == Some(epoch));
        let followed = self.followed_syn.and_then(|(opener, syn)| (opener == end).then_some(syn));
        let side = self.end(end);
        if side.streams.len() <= connection as usize {
            let taken = header.filter(|header| header.syn && matches!(cause, Cause::Received(_)));
            let is_old_syn = taken.is_some_and(|header| side.taken_syns.contains(&header.seq));
            side.taken_syns.extend(taken.map(|header| header.seq));
            side.stream(connection).old_syn = is_old_syn;
            side.stream(connection).syn_refused = side.has_refused_syn && !side.coming_rst;
            let facts = match cause {
                Cause::Received(_) if is_old_syn => Facts { doubtful_rst: side.coming_rst, ..Facts::default() },
                Cause::Received(_) => {
                    let (rst, doubtful_rst) = (side.coming_rst, side.coming_doubtful_rst);
                    Facts { rst, doubtful_rst, ..Facts::default() }
                }
                _ => {
                    // Nothing of the connection that has taken the SYN, and is no more, has passed.
                    let before = connection.wrapping_sub(1);
                    let has_lost_syn = side
                        .streams
                        .get(before as usize)
                        .is_some_and(|stream| stream.sent_ack.is_some() && !stream.seen)
                        && !side.passed_rsts.iter().any(|rst| rst.0 == before);
                    let syn = (side.coming_syn.is_some() || side.has_refused_syn || has_lost_syn) && !side.coming_rst;
                    Facts { syn, ..Facts::default() }
                }
            };
            let taken_for = match (cause, connection.checked_sub(1)) {
                (Cause::Received(_), Some(before)) => {
                    let before = side.stream(before);
                    let is_followed = before.isn == followed || before.late_syn_acked;
                    if is_followed { before.taken_for_late() } else { States::default() }
                }
                _ => States::default(),
            };
            let stream = side.stream(connection);
            (stream.facts, stream.taken_for) = (facts, taken_for);
        }
        if let (Cause::Received(_), Some(header)) = (cause, header)
            && header.syn
            && side.coming_syn == Some(header.seq)
        {
            side.coming_syn = None;
            if side.coming_rst && core_state(truth) == State::SynReceived {
                side.stream(connection).facts.rst = true;
            }
            side.has_refused_syn = core_state(truth) != State::SynReceived;
        }
        side.has_refused_syn |= cause == Cause::Acted(Action::Crash);
        let stream = side.stream(connection);
        if let Some(header) = sent.filter(|header| !header.rst) {
            stream.send(header);
        }
        let on_wire = stream.on_wire(core_state(truth));
        if sent.is_some_and(|header| header.rst) {
            side.undo_unsent();
        }
        let last = *side.steps.last().expect("a history has a beginning");
        let is_new =
            sent.is_some_and(|header| header.syn) && !side.steps.iter().any(|step| is_syn_of(step, connection));
        let changed = last.state != on_wire || is_new;
        let is_bare_syn = header.is_some_and(|header| header.syn && header.ack.is_none());
        // A SYN-ACK has passed before this SYN, so that no two SYNs seem to have crossed.
        let answered_before = side.stream(connection).facts.syn_acked_by_syn;
        let doubt = match cause {
            Cause::Received(_) if header.is_some_and(|header| header.rst) => {
                let stream = side.stream(connection);
                let may_have_crossed = on_wire == State::SynSent && (stream.syn_refused || stream.facts.syn);
                let is_ignored =
                    (rst_in_place || is_placed || may_have_crossed) && !changed && on_wire != State::Closed;
                stream.rst_ignored |= is_ignored;
                (changed && !(rst_in_place && rst_was_in_place)).then_some(Doubt::RstOutOfPlace)
            }
            _ if !changed => None,
            Cause::Received(_) if is_bare_syn && (!syn_fits || answered_before) => Some(Doubt::SynOverOld),
            Cause::Received(_) if (last.state, on_wire) == (State::SynSent, State::Established) => {
                Some(Doubt::AckNotPassed)
            }
            Cause::Received(_) => {
                // Where the FIN stood when it passed counts: what lacked then may have come since.
                let fin_beyond_gap = beyond_gap || side.stream(connection).facts.fin == Some(InOrder(false));
                let is_near = near == Some(end);
                match has_received_fin(on_wire) {
                    true if fin_beyond_gap && is_near && is_misled => Some(Doubt::OldSegment),
                    true if fin_beyond_gap && is_near => Some(Doubt::GapInPieces),
                    true if fin_beyond_gap && !is_near => Some(Doubt::BeyondGap),
                    _ => None,
                }
            }
            Cause::Sent(_) => Some(Doubt::NotPassed),
            Cause::Acted(Action::Crash) => Some(Doubt::Crashed),
            Cause::Acted(_) | Cause::Timer if last.state == State::TimeWait => Some(Doubt::TimeWaitOver),
            Cause::Acted(_) | Cause::Timer => Some(Doubt::NotPassed),
        };
        if let (Cause::Received(_), Some(header)) = (cause, header) {
            let stream = side.stream(connection);
            let acks = match on_wire {
                State::SynReceived => stream.isn.map(|isn| isn.wrapping_add(1)),
                _ => stream.sent_fin,
            };
            let is_due = matches!(on_wire, State::SynReceived | State::FinWait1 | State::Closing | State::LastAck);
            // It lacks what lies before, or has no room for it.
            let is_ahead = stream.sent_ack.is_some_and(|ack| after(header.seq, ack));
            let has_no_room = is_ahead || stream.window == Some(0) && header.payload > 0;
            let acks_less = stream.acked.is_some_and(|acked| header.ack.is_some_and(|ack| after(acked, ack)));
            stream.data_ignored |= header.payload > 0 && acks_less;
            let is_ignorable = header.payload > 0 || acks_less || stream.data_ignored;
            stream.fin_ignored |= header.fin && is_ignorable && has_taken_no_fin(on_wire);
            stream.piece_dropped |= header.fin && had_gap && is_ahead && has_taken_no_fin(on_wire);
            stream.ack_ignored |= is_due
                && (beyond_gap || is_old || has_no_room || stream.fin_ignored)
                && !header.syn
                && !header.rst
                && acks.is_some()
                && header.ack == acks;
        }
        let is_own = !matches!(cause, Cause::Sent(_) | Cause::Received(_));
        side.steps.push(Step { connection, state: on_wire, doubt, sent, is_own });
        side.advance();
    }
}

fn has_received_fin(state: State) -> bool {
    matches!(state, State::CloseWait | State::Closing | State::TimeWait)
}

fn has_taken_no_fin(state: State) -> bool {
    matches!(state, State::SynReceived | State::Established | State::FinWait1 | State::FinWait2)
}
