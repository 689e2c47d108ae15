//! Where one flow stands: as much of it as is counted, and nothing that would have to be kept.

use std::net::SocketAddr;

use tcp_observer_common::{
    conn::{Flow, Locality, Mark, Outcome, Phase, Role, State, Word},
    flow::Side,
};

use super::{Endpoint, FlowRecord, HalfOpen, Key, Moment, record::counted};

/// More than two ticks of the coarse clock at its slowest (HZ=100), by which it lags the precise one.
pub const TICKS_NS: u64 = 25_000_000;

/// A flow's place among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub role: Option<Locality>,
    pub phase: Phase,
    /// Which way it is half open, if it is, and since when: its first segment, in nanoseconds since the Unix epoch.
    pub half_open: Option<(HalfOpen, u64)>,
    pub changed_unix_ns: u64,
    pub originator: End,
    pub responder: End,
}

/// One of its two ends, as in [`Endpoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub state: Option<State>,
    pub local: Option<bool>,
    /// Whether keepalive probes of it are out that its peer has not answered.
    pub is_probing: bool,
}

/// Where its two ends are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub originator: SocketAddr,
    pub responder: SocketAddr,
}

impl Ends {
    /// Those of a key, whose originator is on this side.
    pub fn of(key: &impl Key, originator: Side) -> Self {
        Self { originator: key.endpoint(originator).into(), responder: key.endpoint(originator.opposite()).into() }
    }
}

impl From<&FlowRecord> for Ends {
    fn from(FlowRecord { originator, responder, .. }: &FlowRecord) -> Self {
        let at = |end: &Endpoint| SocketAddr::new(end.addr, end.port);
        Self { originator: at(originator), responder: at(responder) }
    }
}

impl Standing {
    /// What [`FlowRecord::new`] would say of the flow.
    pub fn new(flow: &Flow, moment: Moment<'_>) -> Self {
        Self::with_word(flow.settled_at(moment.now_ns, moment.limits), flow, moment)
    }

    /// The word that a flow has at this moment by a copy of its word and times alone; `None` where it takes more to tell,
    /// which is when it was last seen.
    #[inline(always)]
    pub fn word_at_a_glance(flow: &Flow, moment: Moment<'_>) -> Option<Word> {
        let word = flow.word.load();
        // It was seen when it last changed, or later: nearly always that is late enough.
        flow.low.last_seen_ns.set(flow.times.changed_ns.get().saturating_sub(TICKS_NS));
        let settled = flow.settled_at(moment.now_ns, moment.limits);
        (settled == word || word.phase() == Phase::TimeWait).then_some(settled)
    }

    /// Whether more is counted of a flow with this word than its states.
    #[inline(always)]
    pub fn is_particular(word: Word) -> bool {
        let is = |role, state| word.has_of(Mark::Local, role) && word.state(role) == state;
        let holds_port = word.has_of(Mark::Local, Role::Originator) && !is(Role::Originator, State::Closed);
        let of_either = |mark| word.has_of(mark, Role::Originator) || word.has_of(mark, Role::Responder);
        holds_port
            || word.outcome() == Outcome::InProgress
            || of_either(Mark::Probing)
            || is(Role::Originator, State::CloseWait)
            || is(Role::Responder, State::CloseWait)
    }

    /// The same of a flow whose word at this moment is known.
    pub fn with_word(word: Word, flow: &Flow, moment: Moment<'_>) -> Self {
        let end = |role| End {
            state: Some(word.state(role)).filter(|&state| state != State::Unknown),
            local: moment.knows_local.then(|| word.has_of(Mark::Local, role)),
            is_probing: word.has_of(Mark::Probing, role),
        };
        let (originator, responder) = (end(Role::Originator), end(Role::Responder));
        Self {
            role: moment.knows_local.then(|| word.locality()),
            phase: word.phase(),
            half_open: HalfOpen::of(word.outcome(), word.has_of(Mark::IsnSeen, Role::Responder), responder.state)
                .map(|kind| (kind, moment.unix_ns(flow.times.first_ns.get()))),
            changed_unix_ns: moment.unix_ns(flow.times.changed_ns.get()),
            originator,
            responder,
        }
    }

    /// Whether a local originator holds a port for it. TIME-WAIT holds one, too.
    pub fn holds_port(&self) -> bool {
        self.originator.local == Some(true) && self.originator.state != Some(State::Closed)
    }

    /// The ends whose states stand for this flow where states are counted.
    pub fn counted_ends(&self) -> impl Iterator<Item = &End> {
        counted(self.role, &self.originator, &self.responder)
    }
}

impl From<&FlowRecord> for Standing {
    fn from(flow: &FlowRecord) -> Self {
        Self {
            role: flow.role,
            phase: flow.phase,
            half_open: flow.half_open().map(|kind| (kind, flow.first_seen_unix_ns)),
            changed_unix_ns: flow.changed_unix_ns,
            originator: (&flow.originator).into(),
            responder: (&flow.responder).into(),
        }
    }
}

impl From<&Endpoint> for End {
    fn from(endpoint: &Endpoint) -> Self {
        let &Endpoint { state, local, unanswered_keepalives, .. } = endpoint;
        Self { state, local, is_probing: unanswered_keepalives > 0 }
    }
}

#[cfg(test)]
mod tests {
    use tcp_observer_common::{flow::FlowKey6, limits::Limits};

    use super::*;

    /// Every pair of states with every outcome and every pair of these marks, before and after silence has ended it.
    #[test]
    fn a_flow_stands_where_its_record_says() {
        let (key, _) = FlowKey6::of([1, 2, 3, 4], 40000, [5, 6, 7, 8], 443);
        let flow = Flow::default();
        flow.times.first_ns.set(1_000);
        flow.times.changed_ns.set(3_000);
        flow.low.last_seen_ns.set(4_000);
        flow.low.unanswered.set(2);
        flow.high.last_seen_ns.set(2_000);
        flow.high.unanswered.set(3);
        let limits = Limits::DEFAULT;
        let pairs = || State::ALL.iter().flat_map(|&one| State::ALL.iter().map(move |&other| (one, other)));
        let mut half_open = 0;
        for (&outcome, (originator, responder)) in
            Outcome::ALL.iter().flat_map(|one| pairs().map(move |two| (one, two)))
        {
            for marks in 0..128_u64 {
                let word = Word(
                    (marks & 1) << Mark::OriginatorIsHigh as u32
                        | (marks >> 1 & 3) << Mark::Local as u32
                        | (marks >> 3 & 3) << Mark::IsnSeen as u32
                        | (marks >> 5) << Mark::Probing as u32,
                );
                let word = word.with_outcome(outcome);
                let word = word.with_state(Role::Originator, originator).with_state(Role::Responder, responder);
                flow.word.0.set(word.0);
                for (now_ns, knows_local) in [(5_000, true), (5_000, false), (u64::MAX / 2, true)] {
                    let moment = Moment { now_ns, unix_offset_ns: 77, limits: &limits, knows_local };
                    let standing = Standing::new(&flow, moment);
                    let record = FlowRecord::new(&key, &flow, moment, |_| None);
                    assert_eq!(standing, Standing::from(&record), "{word:?}");
                    half_open += u32::from(standing.half_open.is_some());
                }
            }
        }
        assert!(half_open > 0);
    }
}
