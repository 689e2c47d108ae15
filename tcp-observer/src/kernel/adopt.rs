//! Takes the connections that the kernel has when the agent starts, or when an interface comes under observation, into
//! the tables, so that counts are right from the first scrape on. What is there already stays as it is.
//!
//! Only connections whose packets pass an observed interface ([`Sight`]) are taken. Where another one carries them
//! (policy routing), they wait for their next data.

use std::{collections::HashMap, hash::Hash, net::IpAddr, os::fd::BorrowedFd};

use anyhow::Context;
use tcp_observer_common::{
    abi::{Adopted, request},
    conn::{Flow, Role, Sockets, State, adopted, guessed_role},
    flow::{Address, FlowKey, Side, ipv4_word, ipv6_words},
};

use super::{
    bpf, clock,
    sight::Sight,
    sockets::{self, Listening, Socket, TimerKind},
};

/// Adopts what there is; how many flows that are.
///
/// # Errors
/// When the kernel shows no sockets, or the sweep program cannot be run.
pub fn adopt(sweep: BorrowedFd<'_>, sight: &Sight) -> anyhow::Result<usize> {
    let listening: Listening = sockets::listeners()?.iter().collect();
    let mut ipv4 = HashMap::new();
    let mut ipv6 = HashMap::new();
    for socket in sockets::connections()?.iter().filter(|socket| sight.sees(socket)) {
        let (local, remote) = (socket.local, socket.remote);
        match (local.ip(), remote.ip()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                note(&mut ipv4, (ipv4_word(own), local.port()), (ipv4_word(other), remote.port()), socket);
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let (own, other) = (ipv6_words(own), ipv6_words(other));
                note(&mut ipv6, (own, local.port()), (other, remote.port()), socket);
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
        }
    }
    let count = insert(sweep, &ipv4, &listening, request::ADOPT_IPV4)?;
    Ok(count + insert(sweep, &ipv6, &listening, request::ADOPT_IPV6)?)
}

/// The sockets of one flow by the sides of its key: two where both ends are local.
type Ends = [Option<Socket>; 2];

fn note<A: Address + Hash>(
    flows: &mut HashMap<FlowKey<A>, Ends>,
    (own, own_port): (A, u16),
    (other, other_port): (A, u16),
    socket: &Socket,
) {
    let (key, side) = FlowKey::of(own, own_port, other, other_port);
    flows.entry(key).or_default()[side as usize] = Some(*socket);
}

fn insert<A: Copy>(
    sweep: BorrowedFd<'_>,
    flows: &HashMap<FlowKey<A>, Ends>,
    listening: &Listening,
    kind: u8,
) -> anyhow::Result<usize> {
    let mut count = 0;
    for (key, ends) in flows {
        let Some(flow) = flow_of(ends, listening) else { continue };
        let frame = request::frame(kind, &Adopted { flow, key: *key });
        match bpf::test_run(sweep, &frame).context("cannot run the sweep program")? {
            request::ADOPTED => count += 1,
            request::NO_ROOM => {
                tracing::warn!("a table is full: not all existing connections are adopted; raise `--max-flows`");
                break;
            }
            _ => {}
        }
    }
    Ok(count)
}

/// The flow of which these sockets are the ends.
fn flow_of(ends: &Ends, listening: &Listening) -> Option<Flow> {
    let originator = originator(ends, listening)?;
    let state = |side: Side| ends[side as usize].map(|socket| socket.state);
    let states = [state(originator), state(originator.opposite())];
    let word = adopted(Sockets { originator, states })?;
    let now_ns = clock::monotonic_ns();
    Some(Flow::adopted(word, now_ns, now_ns.saturating_sub(waited_ns(ends))))
}

/// Who is listened for is the responder; where nobody says, the ports do.
fn originator(ends: &Ends, listening: &Listening) -> Option<Side> {
    let is_responder = |side: Side| {
        ends[side as usize].is_some_and(|socket| socket.state == State::SynReceived || listening.takes(socket.local))
    };
    match (is_responder(Side::Low), is_responder(Side::High)) {
        (true, false) => return Some(Side::High),
        (false, true) => return Some(Side::Low),
        (true, true) | (false, false) => {}
    }
    let (side, socket) = match ends {
        [Some(low), _] => (Side::Low, low),
        [None, Some(high)] => (Side::High, high),
        [None, None] => return None,
    };
    // A local end whose port nobody listens on has opened the connection, most likely; but not between two of them.
    let is_alone = ends.iter().flatten().count() == 1;
    let is_originator = is_alone || guessed_role(socket.local.port(), socket.remote.port()) == Role::Originator;
    Some(if is_originator { side } else { side.opposite() })
}

/// How long an end has been in TIME_WAIT, by what is left of Linux's 60 s.
fn waited_ns(ends: &Ends) -> u64 {
    const TIME_WAIT_MS: u32 = 60_000;
    let waited_ms = ends.iter().flatten().find_map(|socket| {
        let timer = socket.timer.filter(|timer| timer.kind == TimerKind::TimeWait)?;
        Some(TIME_WAIT_MS.saturating_sub(timer.expires_ms))
    });
    u64::from(waited_ms.unwrap_or(0)) * 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::sockets::{Listener, Timer};

    fn listening(local: &str) -> Listening {
        let local = local.parse().unwrap();
        [Listener { local, accepts_ipv4: true, interface: None, backlog: 1, queued: 0 }].iter().collect()
    }

    #[test]
    fn the_end_that_is_listened_for_is_the_responder() {
        let ends = [Some(Socket::fixture("192.0.2.1:40000", "192.0.2.2:50000", State::Established)), None];
        assert_eq!(originator(&ends, &listening("0.0.0.0:40000")), Some(Side::High));
        assert_eq!(originator(&ends, &listening("0.0.0.0:22")), Some(Side::Low));
    }

    #[test]
    fn between_two_local_ends_that_nobody_listens_for_the_ports_decide() {
        let ends = [
            Some(Socket::fixture("127.0.0.1:443", "127.0.0.1:50000", State::Established)),
            Some(Socket::fixture("127.0.0.1:50000", "127.0.0.1:443", State::Established)),
        ];
        assert_eq!(originator(&ends, &listening("0.0.0.0:22")), Some(Side::High));
    }

    #[test]
    fn time_wait_has_lasted_for_what_its_timer_lacks_of_a_minute() {
        let mut waiting = Socket::fixture("192.0.2.1:40000", "192.0.2.2:443", State::TimeWait);
        waiting.timer = Some(Timer { kind: TimerKind::TimeWait, expires_ms: 45_000 });
        assert_eq!(waited_ns(&[None, Some(waiting)]), 15_000_000_000);
        assert_eq!(waited_ns(&[None, None]), 0);
    }
}
