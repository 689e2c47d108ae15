//! Where one flow stands: as much of it as is counted, and nothing that would have to be kept.

use std::net::IpAddr;

use tcp_observer_common::{
    conn::{Flow, Locality, Mark, Phase, Role, State},
    flow::FlowKey,
};

use super::{Endpoint, FlowRecord, HalfOpen, Key, Moment, record::counted};

/// A flow's place among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub role: Option<Locality>,
    pub phase: Phase,
    pub half_open: Option<HalfOpen>,
    pub first_seen_unix_ns: u64,
    pub changed_unix_ns: u64,
    pub originator: End,
    pub responder: End,
}

/// One of its two ends, as in [`Endpoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub addr: IpAddr,
    pub port: u16,
    pub state: Option<State>,
    pub local: Option<bool>,
    pub unanswered_keepalives: u8,
}

impl Standing {
    /// What [`FlowRecord::new`] would say of the flow.
    #[inline]
    pub fn new<A>(key: &FlowKey<A>, flow: &Flow, moment: Moment<'_>) -> Self
    where
        FlowKey<A>: Key,
    {
        let word = flow.settled_at(moment.now_ns, moment.limits);
        let end = |role| {
            let side = word.side_of(role);
            let (addr, port) = key.endpoint(side);
            End {
                addr,
                port,
                state: Some(word.state(role)).filter(|&state| state != State::Unknown),
                local: moment.knows_local.then(|| word.has_of(Mark::Local, role)),
                unanswered_keepalives: flow.half(side).unanswered_keepalives(flow.half(side.opposite())),
            }
        };
        let (originator, responder) = (end(Role::Originator), end(Role::Responder));
        Self {
            role: moment.knows_local.then(|| word.locality()),
            phase: word.phase(),
            half_open: HalfOpen::of(word.outcome(), word.has_of(Mark::IsnSeen, Role::Responder), responder.state),
            first_seen_unix_ns: moment.unix_ns(flow.times.first_ns.get()),
            changed_unix_ns: moment.unix_ns(flow.times.changed_ns.get()),
            originator,
            responder,
        }
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
            half_open: flow.half_open(),
            first_seen_unix_ns: flow.first_seen_unix_ns,
            changed_unix_ns: flow.changed_unix_ns,
            originator: (&flow.originator).into(),
            responder: (&flow.responder).into(),
        }
    }
}

impl From<&Endpoint> for End {
    fn from(endpoint: &Endpoint) -> Self {
        let &Endpoint { addr, port, state, local, unanswered_keepalives, .. } = endpoint;
        Self { addr, port, state, local, unanswered_keepalives }
    }
}

#[cfg(test)]
mod tests {
    use tcp_observer_common::{
        conn::{Outcome, Word},
        flow::FlowKey6,
        limits::Limits,
    };

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
            for marks in 0..32_u64 {
                let word = Word(
                    (marks & 1) << Mark::OriginatorIsHigh as u32
                        | (marks >> 1 & 3) << Mark::Local as u32
                        | (marks >> 3) << Mark::IsnSeen as u32,
                );
                let word = word.with_outcome(outcome);
                let word = word.with_state(Role::Originator, originator).with_state(Role::Responder, responder);
                flow.word.0.set(word.0);
                for (now_ns, knows_local) in [(5_000, true), (5_000, false), (u64::MAX / 2, true)] {
                    let moment = Moment { now_ns, unix_offset_ns: 77, limits: &limits, knows_local };
                    let standing = Standing::new(&key, &flow, moment);
                    let record = FlowRecord::new(&key, &flow, moment, |_| None);
                    assert_eq!(standing, Standing::from(&record), "{word:?}");
                    half_open += u32::from(standing.half_open.is_some());
                }
            }
        }
        assert!(half_open > 0);
    }
}
