//! Closes flows whose local socket is gone although no packet has said so: what a socket dies of in silence (an orphan
//! in FIN_WAIT_2, a connection attempt given up, `ss -K` behind a broken path) and what the observer has not seen.
//!
//! Now and then the quiet flows with a local end are looked up in the kernel's socket table, and the kernel's sweep
//! program ends those that are not there, unless something has happened to them meanwhile. A flow whose socket is
//! there is never closed, however quiet it is.

use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    ops::Range,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use anyhow::Context;
use tcp_observer_common::{
    abi::{Gone, request},
    conn::{Flow, Locality, Mark, Phase, Role, State, Word},
    flow::FlowKey,
    observer::Tap,
};

use super::{
    bpf, clock,
    mapped::MappedTable,
    maps::PinnedMaps,
    sockets::{self, Listening},
};
use crate::snapshot::Key;

/// How often all flows are looked through.
pub const EVERY: Duration = Duration::from_secs(10);
/// How often the half-open ones are.
pub const HALF_OPEN_EVERY: Duration = Duration::from_secs(2);
/// Asking for one socket costs as much as reading this many of the whole table.
const SOCKETS_READ_PER_QUESTION: usize = 10;
/// How often a socket is asked for that may be quiet for hours.
const QUIET_NS: u64 = 300 * SECOND_NS;

const SECOND_NS: u64 = 1_000_000_000;

/// A flow that is asked for.
struct Candidate {
    /// What the sweep is asked to do if no socket is there.
    frame: [u8; request::BYTES],
    /// Its ends, the local one first; both ways round where both are local.
    ends: (SocketAddr, SocketAddr),
    is_loopback: bool,
    /// A handshake that a listener may go on with although it keeps no socket for it: SYN cookies.
    may_be_cookie: bool,
    interface: Option<u32>,
}

/// Which flows are looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    HalfOpen,
    All,
}

/// When the tables were last looked through with success, in nanoseconds of CLOCK_MONOTONIC: what comes due between two
/// looks is asked for at the second, however far apart they are.
#[derive(Clone, Copy, Debug)]
pub struct Looks {
    half_open_ns: u64,
    settled_ns: u64,
}

impl Looks {
    /// From now on: nothing has come due yet.
    pub fn begin() -> Self {
        let now_ns = clock::monotonic_ns();
        Self { half_open_ns: now_ns, settled_ns: now_ns }
    }
}

/// Looks through the flows once; how many were closed.
///
/// # Errors
/// When a table or the socket table cannot be read, or the sweep fails. Then the look counts for none.
pub fn reconcile(maps: &PinnedMaps, sweep: &OwnedFd, which: Which, looks: &mut Looks) -> anyhow::Result<usize> {
    let now_ns = clock::monotonic_ns();
    let mut candidates = Vec::new();
    let since_ns = looks.half_open_ns;
    let mut flows = collect(&maps.half_open_ipv4, request::GONE_IPV4, since_ns..now_ns, &mut candidates)?
        + collect(&maps.half_open_ipv6, request::GONE_IPV6, since_ns..now_ns, &mut candidates)?;
    if which == Which::All {
        let since_ns = looks.settled_ns;
        flows += collect(&maps.flows_ipv4, request::GONE_IPV4, since_ns..now_ns, &mut candidates)?
            + collect(&maps.flows_ipv6, request::GONE_IPV6, since_ns..now_ns, &mut candidates)?;
    }
    let gone = close_gone(sweep, &candidates, flows)?;
    looks.half_open_ns = now_ns;
    if which == Which::All {
        looks.settled_ns = now_ns;
    }
    Ok(gone)
}

/// Asks for the candidates' sockets, and closes those that have none; how many. `flows` is how many there are in all.
fn close_gone(sweep: &OwnedFd, candidates: &[Candidate], flows: usize) -> anyhow::Result<usize> {
    let mut gone = Vec::new();
    if candidates.len() * SOCKETS_READ_PER_QUESTION < flows.max(1000) {
        for candidate in candidates {
            if !is_there(candidate)? {
                gone.push(candidate);
            }
        }
    } else {
        let there: HashSet<(SocketAddr, SocketAddr)> =
            sockets::connections()?.iter().map(|socket| (unscoped(socket.local), unscoped(socket.remote))).collect();
        gone.extend(candidates.iter().filter(|candidate| {
            let (one, other) = candidate.ends;
            let is_there = there.contains(&(one, other)) || candidate.is_loopback && there.contains(&(other, one));
            !is_there
        }));
    }
    if gone.iter().any(|candidate| candidate.may_be_cookie) {
        let listening: Listening = sockets::listeners()?.iter().collect();
        gone.retain(|candidate| !candidate.may_be_cookie || !listening.takes(candidate.ends.0));
    }
    for candidate in &gone {
        bpf::test_run(sweep.as_fd(), &candidate.frame).context("cannot run the sweep program")?;
    }
    Ok(gone.len())
}

fn is_there(candidate: &Candidate) -> io::Result<bool> {
    let Candidate { ends: (one, other), interface, .. } = *candidate;
    if sockets::state_of(one, other, interface)?.is_some() {
        return Ok(true);
    }
    Ok(candidate.is_loopback && sockets::state_of(other, one, interface)?.is_some())
}

fn unscoped(end: SocketAddr) -> SocketAddr {
    SocketAddr::new(end.ip().to_canonical(), end.port())
}

/// Adds the flows of a table that have come due since the last look; how many it has.
fn collect<A>(
    table: &MappedTable<A>,
    kind: u8,
    between: Range<u64>,
    candidates: &mut Vec<Candidate>,
) -> anyhow::Result<usize>
where
    FlowKey<A>: Key + Copy,
{
    let mut flows = 0;
    table.for_each(|key, flow| {
        flows += 1;
        let word = flow.word.load();
        if is_due(word, flow, &between) {
            candidates.push(candidate(key, flow, word, kind));
        }
    })?;
    Ok(flows)
}

fn candidate<A>(key: &FlowKey<A>, flow: &Flow, word: Word, kind: u8) -> Candidate
where
    FlowKey<A>: Key + Copy,
{
    let gone = Gone { word: word.0, last_seen_ns: flow.last_seen_ns(), key: *key };
    let frame = request::frame(kind, &gone);
    let local = if word.has_of(Mark::Local, Role::Originator) { Role::Originator } else { Role::Responder };
    let (one, other) = (key.endpoint(word.side_of(local)), key.endpoint(word.side_of(local.opposite())));
    let tap = flow.half(word.side_of(local)).tap.get();
    Candidate {
        frame,
        ends: (one.into(), other.into()),
        is_loopback: matches!(word.locality(), Locality::Loopback),
        may_be_cookie: local == Role::Responder && word.phase() == Phase::HalfOpen,
        interface: Some(Tap(tap).interface()).filter(|&index| index != 0),
    }
}

/// Whether a flow is to be looked up at the end of the time between two looks. States that end within a minute are asked
/// for each time, those that may last for hours once in five minutes.
fn is_due(word: Word, flow: &Flow, between: &Range<u64>) -> bool {
    let last_seen_ns = flow.last_seen_ns();
    let silent_ns = between.end.saturating_sub(last_seen_ns);
    // The first time after each full period, whenever that is.
    let comes_round = |from_ns: u64, period_ns: u64| {
        let periods_until = |at_ns: u64| at_ns.saturating_sub(from_ns) / period_ns;
        periods_until(between.end) > periods_until(between.start)
    };
    let is_in = |wanted: &[State]| {
        [Role::Originator, Role::Responder]
            .into_iter()
            .any(|role| word.has_of(Mark::Local, role) && wanted.contains(&word.state(role)))
    };
    if word.has(Mark::Retired) || matches!(word.locality(), Locality::Forwarded) {
        return false;
    }
    match word.phase() {
        Phase::Closed => false,
        Phase::HalfOpen => is_in(&[State::SynSent, State::SynReceived]) && silent_ns >= 2 * SECOND_NS,
        // Ended by its timer, unless there were too many.
        Phase::TimeWait => is_in(&[State::TimeWait]) && comes_round(flow.times.changed_ns.get(), 30 * SECOND_NS),
        Phase::HalfClosed | Phase::Closing => {
            let is_short = is_in(&[State::FinWait1, State::FinWait2, State::Closing, State::LastAck]);
            if is_short { silent_ns >= 2 * SECOND_NS } else { comes_round(last_seen_ns, QUIET_NS) }
        }
        Phase::Established => comes_round(last_seen_ns, QUIET_NS),
    }
}

#[cfg(test)]
mod tests {
    use tcp_observer_common::{
        conn::{Sockets, adopted},
        flow::Side,
    };

    use super::*;

    /// The looks, at these ages in seconds, at which a flow with these states is asked for.
    fn asked(states: [Option<State>; 2], looks: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let word = adopted(Sockets { originator: Side::Low, states }).unwrap();
        let flow = Flow::adopted(word, SECOND_NS, SECOND_NS);
        let mut last_s = 0;
        let mut is_asked_for = |age_s: u64| {
            let between = (1 + std::mem::replace(&mut last_s, age_s)) * SECOND_NS..(1 + age_s) * SECOND_NS;
            is_due(word, &flow, &between)
        };
        looks.into_iter().filter(|&age_s| is_asked_for(age_s)).collect()
    }

    #[test]
    fn an_established_flow_is_asked_for_once_in_five_quiet_minutes() {
        let established = [Some(State::Established), None];
        assert_eq!(asked(established, (0..1000).step_by(10)), [300, 600, 900]);
        // Looks come late when the machine is busy: no period goes by without one.
        assert_eq!(asked(established, (7..1000).step_by(11)), [304, 601, 909]);
        assert_eq!(asked(established, [299, 311, 312, 899, 900, 2000, 2001]), [311, 899, 900, 2000]);
    }

    #[test]
    fn an_orphan_is_asked_for_each_time_and_a_forwarded_flow_never() {
        assert_eq!(asked([Some(State::FinWait2), None], (10..100).step_by(10)).len(), 9);
        let word = adopted(Sockets { originator: Side::Low, states: [Some(State::FinWait2), None] }).unwrap();
        let forwarded = word.without(Mark::Local);
        let flow = Flow::adopted(forwarded, 1, 1);
        assert!(!is_due(forwarded, &flow, &(1..100 * SECOND_NS)));
    }

    #[test]
    fn a_handshake_that_a_listener_may_go_on_with_is_marked() {
        let key = tcp_observer_common::flow::FlowKey4 {
            low_addr: [u32::from_ne_bytes([192, 0, 2, 1])],
            high_addr: [u32::from_ne_bytes([192, 0, 2, 2])],
            low_port: 40000,
            high_port: 443,
        };
        for (states, may_be_cookie) in
            [([None, Some(State::SynReceived)], true), ([None, Some(State::Established)], false)]
        {
            let word = adopted(Sockets { originator: Side::Low, states }).unwrap();
            let flow = Flow::adopted(word, SECOND_NS, SECOND_NS);
            let candidate = candidate(&key, &flow, word, request::GONE_IPV4);
            assert_eq!(candidate.may_be_cookie, may_be_cookie);
            assert_eq!(candidate.ends.0, "192.0.2.2:443".parse().unwrap());
        }
    }
}
