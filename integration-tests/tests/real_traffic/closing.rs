//! Connections that end: by whom, how, and what stays behind on which side.

use std::{collections::BTreeMap, net::Shutdown};

use integration_tests::{prelude::*, traffic::reset_on_close, wait::equal};

const COUNT: usize = 6;

/// One pair with an agent in a place, and some open connections of both families.
struct Opened<'p> {
    agent: Agent<'p>,
    connections: Vec<Connection>,
    _listeners: Vec<Listener>,
}

impl<'p> Opened<'p> {
    #[track_caller]
    fn new(scene: Scene, pair: &'p Pair) -> Self {
        let agent = scene.observe(pair);
        let listeners: Vec<_> =
            Family::BOTH.iter().map(|&f| Listener::new(&pair.server, pair.server_addr(f, 8080))).collect();
        let open = |listener| Connection::open_many(&pair.client, listener, COUNT);
        let connections: Vec<_> = listeners.iter().flat_map(open).collect();
        connections.iter().for_each(|connection| connection.send(10));
        Self { agent, connections, _listeners: listeners }
    }

    /// Waits until the observer and ss agree that this many sockets are in these states, and no others are there.
    #[track_caller]
    fn assert_states(&self, expected: &BTreeMap<&'static str, usize>) {
        wait_until("the states", SOON, || {
            let mut states = BTreeMap::new();
            for socket in ss::agree(&self.agent, SOON, |_| true) {
                *states.entry(socket.state).or_default() += 1;
            }
            equal("states", &states, expected)
        });
    }

    #[track_caller]
    fn assert_closed(&self, initiator: &str, how: &str) {
        for record in self.agent.dump(&[]) {
            assert_eq!(record["close"]["initiator"], initiator, "{record}");
            assert_eq!(record["close"]["how"], how, "{record}");
        }
    }
}

fn all_in(state: &'static str) -> BTreeMap<&'static str, usize> {
    BTreeMap::from([(state, 2 * COUNT)])
}

/// The end that keeps TIME-WAIT is the one that closed first.
#[test]
fn who_closes_first_keeps_time_wait() {
    let _bound = bounded();
    for scene in Scene::all() {
        for closer in [Side::Client, Side::Server] {
            eprintln!("closed by {closer:?}");
            let pair = Pair::new();
            let mut opened = Opened::new(scene, &pair);
            let (active, passive) = if scene.side == closer {
                ("fin_wait_2", all_in("time_wait"))
            } else {
                ("close_wait", BTreeMap::new())
            };
            let connections = std::mem::take(&mut opened.connections);
            let (clients, servers): (Vec<_>, Vec<_>) = connections.into_iter().map(|c| (c.client, c.server)).unzip();
            let (first, second) = if closer == Side::Client { (clients, servers) } else { (servers, clients) };
            drop(first);
            opened.assert_states(&all_in(active));
            drop(second);
            opened.assert_states(&passive);
            opened.assert_closed(if closer == Side::Client { "originator" } else { "responder" }, "fin");
            let side = if scene.side == closer { "local" } else { "remote" };
            let count = 2 * COUNT as u64;
            wait_until("the counters", SOON, || {
                let metrics = opened.agent.metrics();
                equal("TIME-WAIT", metrics.count("time_wait_connections", &[("side", side)]), count)?;
                let closes = [("initiator", side), ("how", "fin")];
                equal("closes", metrics.count("closes_total", &closes), count)?;
                equal("all closes", metrics.count("closes_total", &[]), count)
            });
            opened.agent.stop();
        }
    }
}

#[test]
fn data_goes_on_after_a_half_close() {
    let _bound = bounded();
    for scene in Scene::all() {
        let pair = Pair::new();
        let opened = Opened::new(scene, &pair);
        let shut = |connection: &Connection| connection.client.shutdown(Shutdown::Write).unwrap();
        opened.connections.iter().for_each(shut);
        opened.connections.iter().for_each(|connection| connection.answer(3000));
        let half_closed = if scene.side == Side::Client { "fin_wait_2" } else { "close_wait" };
        opened.assert_states(&all_in(half_closed));
        for record in opened.agent.dump(&[]) {
            assert_eq!(record["phase"], "half_closed", "{record}");
            assert_eq!(record["originator"]["bytes"], 10, "{record}");
            assert_eq!(record["responder"]["bytes"], 3000, "{record}");
            assert_eq!(record["originator"]["fin"], true, "{record}");
            assert_eq!(record["responder"]["fin"], false, "{record}");
        }
        opened.agent.stop();
    }
}

#[test]
fn a_reset_ends_both_sides_at_once() {
    let _bound = bounded();
    for scene in Scene::all() {
        let pair = Pair::new();
        let mut opened = Opened::new(scene, &pair);
        let connections = std::mem::take(&mut opened.connections);
        let (clients, servers): (Vec<_>, Vec<_>) = connections.into_iter().map(|c| (c.client, c.server)).unzip();
        servers.iter().for_each(reset_on_close);
        drop(servers);
        opened.assert_states(&BTreeMap::new());
        let count = 2 * COUNT as u64;
        let sender = if scene.side == Side::Server { "local" } else { "remote" };
        wait_until("the counters", SOON, || {
            let metrics = opened.agent.metrics();
            let resets = [("sender", sender), ("phase", "established")];
            equal("all resets", metrics.count("resets_total", &[]), count)?;
            equal("resets", metrics.count("resets_total", &resets), count)?;
            equal("closes", metrics.count("closes_total", &[("initiator", sender), ("how", "rst")]), count)
        });
        opened.assert_closed("responder", "rst");
        // Not before: a client that closes while the RST is on its way would send a FIN.
        drop(clients);
        opened.agent.stop();
    }
}
