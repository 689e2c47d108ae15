//! What has passed the watcher towards one connection of an end, and what follows from it.
//!
//! It has come or is still to come: the watcher moves the end's state on by it as soon as it passes.

use tcp_observer_common::conn::State;

use crate::simulation::states::States;

/// What has passed the watcher towards one connection of an end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    pub(super) fin: Option<InOrder>,
    pub(super) fin_acked: bool,
    pub(super) syn: bool,
    pub(super) syn_acked: bool,
    pub(super) syn_acked_by_syn: bool,
    /// A RST in place; another one.
    pub(super) rst: bool,
    pub(super) doubtful_rst: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InOrder(pub(super) bool);

/// A state after what is on its way to the end has come (RFC 9293, figure 5).
pub(super) fn moved_on(state: State, facts: Facts) -> States {
    use State::*;
    let received_fin = |state| match state {
        SynReceived | Established => CloseWait,
        FinWait1 => Closing,
        FinWait2 => TimeWait,
        other => other,
    };
    if facts.rst {
        return States::of(&[Closed]);
    }
    let crossed = |state| if state == SynSent { SynReceived } else { state };
    let acked = |state| match state {
        SynReceived if facts.syn_acked => Established,
        FinWait1 if facts.fin_acked => FinWait2,
        Closing if facts.fin_acked => TimeWait,
        LastAck if facts.fin_acked => Closed,
        other => other,
    };
    // Whether two SYNs have crossed, or the one was over when the other came, packets do not tell.
    let states = States::of(&[state, if facts.syn { crossed(state) } else { state }]);
    let states = if facts.syn_acked_by_syn && states.has(SynReceived) { states.with(Established) } else { states };
    let states = states.map(acked);
    let states = match facts.fin {
        Some(InOrder(true)) => states.map(received_fin),
        Some(InOrder(false)) => states.or(states.map(received_fin)),
        None => states,
    };
    if facts.doubtful_rst { states.with(Closed) } else { states }
}
