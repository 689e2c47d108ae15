//! The history of an end: its true states as they stood on the wire, and how far the watcher was told.
//!
//! A step stays in doubt until something passes that tells it. The last step with no doubt before it is where the states
//! begin that the watcher may still say.

use tcp_observer_common::conn::State;

use super::{Doubt, stream::Stream};
use crate::simulation::packet::Header;

#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) connection: u32,
    pub(super) state: State,
    pub(super) doubt: Option<Doubt>,
    pub(super) sent: Option<Header>,
    /// Of the end's own accord, with nothing on the wire.
    pub(super) is_own: bool,
}

#[derive(Default)]
pub(super) struct Side {
    pub(super) steps: Vec<Step>,
    /// The last step that is told, with all before it.
    pub(super) told: usize,
    pub(super) streams: Vec<Stream>,
    /// A SYN that has passed towards it and that it has not received, and whether a RST has passed after that.
    pub(super) coming_syn: Option<u32>,
    pub(super) coming_rst: bool,
    pub(super) coming_doubtful_rst: bool,
    pub(super) has_refused_syn: bool,
    pub(super) taken_syns: Vec<u32>,
    /// The last bare SYN of it that has passed.
    pub(super) last_passed_syn: Option<u32>,
    /// The RSTs of it that have passed: of which connection, their numbers, and whether they were in place then.
    pub(super) passed_rsts: Vec<(u32, u32, bool)>,
}

impl Side {
    pub(super) fn stream(&mut self, connection: u32) -> &mut Stream {
        let index = connection as usize;
        if self.streams.len() <= index {
            self.streams.resize(index + 1, Stream::default());
        }
        &mut self.streams[index]
    }

    /// The connection that a segment acknowledges something of, else the last one.
    pub(super) fn addressed(&mut self, header: Header) -> Option<&mut Stream> {
        // What a RST acknowledges says nothing, if it is smoltcp's in SYN-SENT; else it is all that was sent, as a rule.
        let is_addressed = |stream: &Stream| match header.rst {
            true => stream.isn.is_some() && header.ack == Some(stream.sent_next),
            false => stream.is_acknowledged_by(header),
        };
        let acknowledged = self.streams.iter().rposition(is_addressed);
        let index = acknowledged.or(self.streams.len().checked_sub(1))?;
        self.streams.get_mut(index)
    }

    /// The last SYN of which it is told.
    pub(super) fn last_syn(&self) -> Option<Header> {
        self.steps[..=self.told].iter().rev().find_map(|step| step.sent.filter(|sent| sent.syn))
    }

    /// What an application does is done when its RST leaves.
    pub(super) fn undo_unsent(&mut self) {
        if let [.., before, last] = &mut self.steps[..]
            && last.is_own
            && last.doubt == Some(Doubt::NotPassed)
        {
            (last.state, last.doubt) = (before.state, None);
        }
    }

    pub(super) fn advance(&mut self) {
        while self.steps.get(self.told + 1).is_some_and(|step| step.doubt.is_none()) {
            self.told += 1;
        }
    }

    /// Everything up to this step is told.
    pub(super) fn tell_up_to(&mut self, step: usize) {
        self.told = self.told.max(step);
        for earlier in &mut self.steps[..=step] {
            earlier.doubt = None;
        }
        self.advance();
    }
}

pub(super) fn is_syn_of(step: &Step, connection: u32) -> bool {
    step.connection == connection && step.sent.is_some_and(|sent| sent.syn)
}

pub(super) fn says_the_same(step: &Step, header: &Header) -> bool {
    step.sent.is_some_and(|sent| is_same(&sent, header))
}

/// Whether two segments say the same of their sender's state.
pub(super) fn is_same(one: &Header, other: &Header) -> bool {
    (one.syn, one.rst, one.fin) == (other.syn, other.rst, other.fin)
        && if one.fin { one.end() == other.end() } else { one.seq == other.seq }
}
