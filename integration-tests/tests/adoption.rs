//! Connections that were there before the agent, and sockets that go without a packet: what the kernel's socket table
//! settles. The oracle is `ss`.

use std::{collections::BTreeMap, net::Shutdown, time::Duration};

use integration_tests::{pair::WIRE, prelude::*, traffic::begin_connect, wait::equal};

const PORT: u16 = 8080;
/// Quiet flows are compared with the socket table every ten seconds.
const RECONCILED: Duration = Duration::from_secs(25);

/// How many sockets are in each state, those of the agent's own web server left out.
fn counts(sockets: &std::collections::BTreeSet<Socket>) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for socket in sockets.iter().filter(|socket| !socket.local.ip().is_loopback()) {
        *counts.entry(socket.state).or_default() += 1;
    }
    counts
}

/// One of each of the states that last.
struct Before {
    _open: Connection,
    _half_closed_by_client: Connection,
    _half_closed_by_server: Connection,
    _listener: Listener,
}

impl Before {
    fn new(pair: &Pair, family: Family) -> Self {
        let listener = Listener::new(&pair.server, pair.server_addr(family, PORT));
        let mut connections = Connection::open_many(&pair.client, &listener, 5);
        let mut next = || connections.pop().expect("five were opened");
        let closed_by_client = next();
        drop(closed_by_client.client);
        drop(closed_by_client.server);
        let closed_by_server = next();
        drop(closed_by_server.server);
        drop(closed_by_server.client);
        let half_closed_by_client = next();
        half_closed_by_client.client.shutdown(Shutdown::Write).expect("a socket can be shut down");
        let half_closed_by_server = next();
        half_closed_by_server.server.shutdown(Shutdown::Write).expect("a socket can be shut down");
        Self {
            _open: next(),
            _half_closed_by_client: half_closed_by_client,
            _half_closed_by_server: half_closed_by_server,
            _listener: listener,
        }
    }
}

#[test]
fn what_is_there_before_the_agent_is_counted_from_the_first_scrape_on() {
    let _bound = bounded();
    for scene in Scene::all() {
        let pair = Pair::new();
        let before = Family::BOTH.map(|family| Before::new(&pair, family));
        let agent = scene.observe(&pair);
        let agreed = ss::agree(&agent, SOON, |_| true);
        let each = Family::BOTH.len();
        let expected =
            BTreeMap::from([("established", each), ("fin_wait_2", each), ("close_wait", each), ("time_wait", each)]);
        assert_eq!(counts(&agreed), expected);
        for record in agent.dump(&[]) {
            assert_eq!(record["inferred"], true, "{record}");
            assert_eq!(record["role"], scene.side.role(), "{record}");
            assert_eq!(record["responder"]["port"], PORT, "{record}");
            assert_eq!(record["handshake"]["outcome"], "not_seen", "{record}");
        }
        drop(before);
        // Their ends are seen on the wire.
        wait_until("the connections' ends", SOON, || {
            equal("established flows", agent.dump(&["--state", "established"]).len(), 0)
        });
        ss::agree(&agent, SOON, |_| true);
        agent.stop();
    }
}

#[test]
fn a_request_socket_is_adopted_and_its_ack_completes_the_handshake() {
    let _bound = bounded();
    let pair = Pair::new();
    let listener = Listener::new(&pair.server, pair.server_addr(Family::V4, PORT));
    // The client never gets an answer, and the server repeats it.
    pair.client.drop_incoming("tcp sport 8080");
    let _socket = begin_connect(&pair.client, listener.addr());
    wait_until("the request socket", SOON, || {
        equal("sockets", counts(&ss::sockets(&pair.server)), BTreeMap::from([("syn_received", 1)]))
    });
    let agent = Agent::start(&pair.server, &["--interface", WIRE]);
    // The client's next SYN may come before the agent has looked; its answer comes at once.
    let record = wait_until("the half-open flow", SOON, || {
        let mut records = agent.dump(&["--phase", "half_open"]);
        equal("half-open flows", records.len(), 1)?;
        let record = records.remove(0);
        equal("what it waits for", record["half_open"].as_str(), Some("unacked_synack"))?;
        Ok(record)
    });
    assert_eq!(record["responder"]["state"], "syn_received");
    assert_eq!(record["role"], "server");
    agent.stop();
}

#[test]
fn an_orphan_in_fin_wait_2_goes_with_its_socket_and_a_live_half_close_stays() {
    let _bound = bounded();
    let pair = Pair::new();
    pair.server.sysctl("ipv4/tcp_fin_timeout", "3");
    let listener = Listener::new(&pair.server, pair.server_addr(Family::V4, PORT));
    let agent = Agent::start(&pair.server, &["--interface", WIRE]);
    let orphaned = Connection::open(&pair.client, &listener);
    let live = Connection::open(&pair.client, &listener);
    // Nobody holds the server's end of the first one any more; the other one's application still reads.
    drop(orphaned.server);
    live.server.shutdown(Shutdown::Write).expect("a socket can be shut down");
    let fin_wait_2 = |count| {
        move |agent: &Agent<'_>| equal("flows in fin_wait_2", agent.dump(&["--state", "fin-wait-2"]).len(), count)
    };
    wait_until("both half-closes", SOON, || fin_wait_2(2)(&agent));
    wait_until("the orphan's end", RECONCILED, || fin_wait_2(1)(&agent));
    assert_eq!(counts(&ss::sockets(&pair.server)), BTreeMap::from([("fin_wait_2", 1)]));
    agent.stop();
}

#[test]
fn an_attempt_that_the_application_gives_up_has_timed_out() {
    let _bound = bounded();
    let pair = Pair::new();
    pair.server.drop_incoming("tcp dport 8080");
    let agent = Agent::start(&pair.client, &["--interface", WIRE]);
    let socket = begin_connect(&pair.client, pair.server_addr(Family::V4, PORT));
    wait_until("the SYN", SOON, || equal("half-open flows", agent.dump(&["--phase", "half_open"]).len(), 1));
    drop(socket);
    wait_until("the end of the attempt", RECONCILED, || {
        let labels = [("outcome", "timed_out"), ("role", "client")];
        equal("attempts that timed out", agent.metrics().count("connection_attempts_total", &labels), 1)
    });
    agent.stop();
}
