//! Made sockets and made flows: what takes part, what counts, and what was to be expected.

mod exceptions;

use std::cell::{Cell, RefCell};

use tcp_observer_common::conn::{Locality, Note, Phase, State};

use super::*;
use crate::{
    kernel::sight::Sight,
    snapshot::fixture::{self, TAKEN_UNIX_NS},
};

const OWN: &str = "192.0.2.1:443";
const PEER: &str = "198.51.100.1:40000";

/// Looks, one after the other; the last one goes on for ever. Each is the sockets before, the flows, and the sockets
/// after.
struct Made {
    looks: Vec<(Vec<Socket>, Vec<FlowRecord>, Vec<Socket>)>,
    facts: Facts,
    asked: Cell<usize>,
    pauses: RefCell<Vec<Duration>>,
}

impl Made {
    fn new(looks: impl Into<Vec<(Vec<Socket>, Vec<FlowRecord>, Vec<Socket>)>>) -> Self {
        Self { looks: looks.into(), facts: sighted(), asked: Cell::new(0), pauses: RefCell::default() }
    }

    fn still(sockets: Vec<Socket>, flows: Vec<FlowRecord>) -> Self {
        Self::new([(sockets.clone(), flows, sockets)])
    }

    fn report(&self) -> Report {
        self.report_of(&Filter::default())
    }

    fn report_of(&self, filter: &Filter) -> Report {
        let pause = |pause| {
            self.pauses.borrow_mut().push(pause);
            true
        };
        compare_pausing(self, Tries::default(), filter, pause).unwrap().unwrap()
    }

    fn look(&self) -> &(Vec<Socket>, Vec<FlowRecord>, Vec<Socket>) {
        let number = self.asked.get() / 2;
        &self.looks[number.min(self.looks.len() - 1)]
    }
}

impl Source for Made {
    fn sockets(&self) -> anyhow::Result<Vec<Socket>> {
        let (before, _, after) = self.look();
        let sockets = if self.asked.get().is_multiple_of(2) { before } else { after };
        self.asked.set(self.asked.get() + 1);
        Ok(sockets.clone())
    }

    fn flows(&self, visit: &mut dyn FnMut(FlowRecord)) -> anyhow::Result<u64> {
        self.asked.set(self.asked.get() - 1);
        self.look().1.iter().cloned().for_each(visit);
        self.asked.set(self.asked.get() + 1);
        Ok(TAKEN_UNIX_NS)
    }

    fn facts(&self) -> anyhow::Result<Facts> {
        Ok(self.facts.clone())
    }
}

/// One interface, which is observed and has this host's address.
fn sighted() -> Facts {
    let addresses = [(OWN.parse::<std::net::SocketAddr>().unwrap().ip(), 2)].into();
    Facts { sight: Sight { addresses, interfaces: [2].into(), loopback: false }, ..Facts::default() }
}

fn socket(state: State) -> Socket {
    Socket::fixture(OWN, PEER, state)
}

/// A server's flow whose local end is in this state.
fn flow(state: State) -> FlowRecord {
    let mut flow = fixture::flow(PEER, OWN, Some(Locality::Server));
    flow.responder.state = Some(state);
    flow
}

#[test]
fn sockets_and_flows_in_the_same_state_agree_at_the_first_look() {
    let mut client = fixture::flow("[2001:db8::1]:50000", "[2001:db8:1::1]:22", Some(Locality::Client));
    client.originator.state = Some(State::TimeWait);
    let sockets = vec![
        socket(State::Established),
        Socket::fixture("[2001:db8::1]:50000", "[2001:db8:1::1]:22", State::TimeWait),
        Socket::fixture("[::ffff:192.0.2.1]:443", "[::ffff:198.51.100.9]:1", State::CloseWait),
    ];
    let mut mapped = fixture::flow("198.51.100.9:1", OWN, Some(Locality::Server));
    mapped.responder.state = Some(State::CloseWait);
    let made = Made::still(sockets, vec![client, flow(State::Established), mapped]);
    let report = made.report();
    assert_eq!((report.tries, report.compared, report.agreed, report.changed), (1, 3, 3, 0));
    assert!(report.differing.is_empty() && report.excepted.is_empty());
    assert!(made.pauses.borrow().is_empty());
}

#[test]
fn each_kind_of_disagreement_counts_when_five_tries_over_a_second_find_it() {
    let unknown = Socket::fixture("192.0.2.1:443", "198.51.100.2:1", State::Established);
    let mut ghost = fixture::flow("198.51.100.3:1", OWN, Some(Locality::Server));
    ghost.responder.state = Some(State::Established);
    let made = Made::still(vec![socket(State::CloseWait), unknown], vec![flow(State::Established), ghost]);
    let report = made.report();
    assert_eq!(report.tries, 5);
    assert!(made.pauses.borrow().iter().sum::<Duration>() >= Duration::from_secs(1));
    for kind in Kind::ALL {
        assert_eq!(report.differing_in(kind), 1, "{kind:?}");
    }
    assert_eq!((report.compared, report.agreed, report.passing), (2, 0, 0));
    let state = report.differing.iter().find(|difference| difference.kind() == Kind::State).unwrap();
    assert_eq!((state.local, state.remote), (OWN.parse().unwrap(), PEER.parse().unwrap()));
    assert_eq!((state.state(), state.socket().unwrap().state), (Some(State::Established), State::CloseWait));
}

#[test]
fn what_one_of_the_tries_does_not_find_is_timing() {
    let wrong = (vec![socket(State::CloseWait)], vec![flow(State::Established)], vec![socket(State::CloseWait)]);
    let right = (vec![socket(State::CloseWait)], vec![flow(State::CloseWait)], vec![socket(State::CloseWait)]);
    let mut looks = vec![wrong; 4];
    looks.push(right);
    let report = Made::new(looks).report();
    assert_eq!((report.tries, report.passing, report.differing.len(), report.agreed), (5, 1, 0, 1));
}

#[test]
fn another_state_or_another_socket_is_another_disagreement() {
    let look = |state, cookie| {
        let mut socket = socket(state);
        socket.cookie = cookie;
        (vec![socket], vec![flow(State::Established)], vec![socket])
    };
    for second in [look(State::LastAck, 1), look(State::CloseWait, 2)] {
        let report = Made::new([look(State::CloseWait, 1), second]).report();
        assert_eq!((report.tries, report.passing, report.differing.len()), (2, 1, 0));
    }
}

#[test]
fn a_socket_on_which_the_dumps_differ_takes_no_part() {
    let mut other = socket(State::Established);
    other.cookie = 2;
    for (before, after) in [
        (vec![socket(State::Established)], vec![socket(State::CloseWait)]),
        (vec![socket(State::Established)], vec![other]),
        (vec![socket(State::Established)], vec![]),
        (vec![], vec![socket(State::Established)]),
    ] {
        let report = Made::new([(before, vec![flow(State::TimeWait)], after)]).report();
        assert_eq!((report.compared, report.changed, report.tries), (0, 1, 1));
        assert!(report.differing.is_empty());
    }
}

#[test]
fn ends_without_a_connection_need_no_socket_and_neither_do_remote_ones() {
    for state in [State::Closed, State::Listen] {
        assert_eq!(Made::still(vec![], vec![flow(state)]).report().tries, 1, "{state:?}");
    }
    let forwarded = fixture::flow(PEER, OWN, Some(Locality::Forwarded));
    assert_eq!(Made::still(vec![], vec![forwarded]).report().tries, 1);
    let mut unseen = flow(State::Established);
    unseen.responder.state = None;
    assert_eq!(Made::still(vec![], vec![unseen]).report().tries, 1);
}

#[test]
fn of_a_flow_that_moves_while_the_tables_are_read_the_later_record_counts() {
    let made = Made::still(vec![socket(State::Established)], vec![flow(State::SynReceived), flow(State::Established)]);
    assert_eq!(made.report().agreed, 1);
    assert_eq!(Made::still(vec![], vec![flow(State::Established), flow(State::Closed)]).report().tries, 1);
}

#[test]
fn both_ends_of_a_loopback_connection_are_compared() {
    let (client, server) = ("192.0.2.1:50000", OWN);
    let sockets =
        vec![Socket::fixture(client, server, State::FinWait2), Socket::fixture(server, client, State::Established)];
    let mut flow = fixture::flow(client, server, Some(Locality::Loopback));
    flow.originator.state = Some(State::FinWait2);
    flow.responder.state = Some(State::CloseWait);
    let report = Made::still(sockets, vec![flow]).report();
    assert_eq!((report.compared, report.agreed, report.differing_in(Kind::State)), (2, 1, 1));
    assert_eq!(report.differing[0].local, server.parse().unwrap());
}

#[test]
fn the_filter_chooses_ends_by_either_state_and_by_addresses() {
    let filter =
        |state: &str, port| Filter { states: vec![state.parse().unwrap()], ports: vec![port], ..Filter::default() };
    let made = || Made::still(vec![socket(State::CloseWait)], vec![flow(State::Established)]);
    for (state, port, found) in
        [("close-wait", 443, 1), ("established", 40_000, 1), ("time-wait", 443, 0), ("established", 22, 0)]
    {
        let report = made().report_of(&filter(state, port));
        assert_eq!((report.differing.len(), report.compared), (found, found as u64), "{state} {port}");
    }
}

#[test]
fn whoever_does_not_want_to_wait_any_more_gets_no_report() {
    let made = Made::still(vec![socket(State::CloseWait)], vec![flow(State::Established)]);
    assert!(compare_pausing(&made, Tries::default(), &Filter::default(), |_| false).unwrap().is_none());
}

#[test]
fn an_end_that_the_agent_looks_up_soon_is_waited_for() {
    let alone = |state| (vec![], vec![flow(state)], vec![]);
    let mut closed = flow(State::Closed);
    closed.notes = [Note::SocketGone].into_iter().collect();
    closed.phase = Phase::Closed;
    let mut looks = vec![alone(State::FinWait2); 9];
    looks.push((vec![], vec![closed], vec![]));
    let report = Made::new(looks).report();
    assert_eq!((report.tries, report.differing.len(), report.excepted_by(Exception::AwaitedLookup)), (10, 0, 1));

    // One that goes away otherwise was timing, and one that stays differs.
    let mut looks = vec![alone(State::FinWait2); 9];
    looks.push((vec![], vec![], vec![]));
    let report = Made::new(looks).report();
    assert_eq!((report.passing, report.differing.len(), report.excepted.len()), (1, 0, 0));
    let made = Made::new([alone(State::FinWait2)]);
    let report = made.report();
    assert_eq!(report.differing_in(Kind::NoSocket), 1);
    assert!(made.pauses.borrow().iter().sum::<Duration>() >= LOOKED_UP_WITHIN);
    let made = Made::new([alone(State::Established)]);
    assert_eq!((made.report().differing_in(Kind::NoSocket), made.report().tries), (1, 5));
}
