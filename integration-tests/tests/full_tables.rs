//! Tables that are too small: what does not fit is counted, and what is there stays.

use integration_tests::{prelude::*, traffic::begin_connect, wait::equal};

const PORT: u16 = 8080;

/// How many entries a table that was asked to hold `asked` really has.
fn capacity(agent: &Agent<'_>, table: &str) -> u64 {
    agent.metrics().count("table_capacity", &[("table", table)])
}

#[test]
fn established_flows_stay_when_a_flood_of_syns_fills_the_half_open_table() {
    let _bound = bounded();
    let pair = Pair::new();
    let scene = Scene { side: Side::Client, mode: IngressMode::Tc };
    let agent = scene.observe_with(&pair, &["--max-flows", "64", "--max-half-open", "4"]);
    let listener = Listener::new(&pair.server, pair.server_addr(Family::V4, PORT));
    let held = Connection::open_many(&pair.client, &listener, 8);
    let is_ours = |socket: &Socket| socket.peer.port() == PORT;
    assert_eq!(ss::agree(&agent, SOON, is_ours).len(), 8);

    pair.client.ip("neigh add 192.0.2.77 lladdr 02:00:00:00:00:77 dev wire0");
    let room = capacity(&agent, "half_open_ipv4");
    let flood: Vec<_> =
        (0..4 * room as u16).map(|n| begin_connect(&pair.client, ([192, 0, 2, 77], 1000 + n).into())).collect();
    wait_until("the table to be full", SOON, || {
        let metrics = agent.metrics();
        let evicted = metrics.count("connection_attempts_total", &[("outcome", "evicted")]);
        let refused = metrics.count("skipped_packets_total", &[("reason", "table_full")]);
        if evicted + refused >= flood.len() as u64 - room { Ok(()) } else { Err(format!("{evicted} + {refused}")) }
    });
    let metrics = agent.metrics();
    assert!(metrics.count("table_entries", &[("table", "half_open_ipv4")]) <= room);
    for connection in &held {
        connection.send(10);
    }
    assert_eq!(ss::agree(&agent, SOON, is_ours).len(), 8);
    agent.stop();
}

#[test]
fn connections_beyond_the_table_are_counted_as_not_fitting() {
    let _bound = bounded();
    let pair = Pair::new();
    let scene = Scene { side: Side::Server, mode: IngressMode::Tc };
    let agent = scene.observe_with(&pair, &["--max-flows", "4", "--max-half-open", "4"]);
    let room = capacity(&agent, "flows_ipv4");
    let listener = Listener::new(&pair.server, pair.server_addr(Family::V4, PORT));
    let held = Connection::open_many(&pair.client, &listener, 4 * room as usize);
    for connection in &held {
        connection.send(10);
    }
    wait_until("what does not fit to be counted", SOON, || {
        let metrics = agent.metrics();
        let entries = metrics.count("table_entries", &[("table", "flows_ipv4")]);
        let refused = metrics.count("skipped_packets_total", &[("reason", "table_full")]);
        equal("entries within the capacity", entries <= room && entries > 0, true)?;
        if refused > 0 { Ok(()) } else { Err(format!("{entries} entries, nothing refused")) }
    });
    // What is observed is true, though not all.
    let sockets = ss::sockets(&pair.server);
    let observed = ss::local_endpoints(&agent.dump(&["--phase", "established"]));
    assert!(!observed.is_empty() && observed.is_subset(&sockets), "{}", ss::difference(&observed, &sockets));
    agent.stop();
}
