//! Attempts that fail, and attempts that hang.

use std::{io::ErrorKind, net::SocketAddr, time::Duration};

use integration_tests::{
    prelude::*,
    traffic::{begin_connect, connect},
    wait::equal,
};

const PORT: u16 = 8080;

#[test]
fn a_closed_port_refuses() {
    let _bound = bounded();
    for scene in Scene::all() {
        let pair = Pair::new();
        let agent = scene.observe(&pair);
        for family in Family::BOTH {
            let error = connect(&pair.client, pair.server_addr(family, PORT)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        }
        let labels = [("role", scene.side.role()), ("outcome", "refused")];
        wait_until("two refusals", SOON, || {
            equal("refused", agent.metrics().count("connection_attempts_total", &labels), 2)
        });
        assert_eq!(agent.metrics().count("connection_attempts_total", &[]), 2);
        assert_eq!(agent.metrics().count("half_open_connections", &[]), 0);
        for record in agent.flows_of_port(PORT) {
            assert_eq!(record["handshake"]["outcome"], "refused", "{record}");
            assert_eq!(record["phase"], "closed", "{record}");
        }
        assert!(ss::agree(&agent, SOON, |_| true).is_empty());
        agent.stop();
    }
}

/// The observer on the server sees the SYN before netfilter drops it; no socket ever does.
#[test]
fn a_syn_that_is_dropped_stays_unanswered_and_is_sent_again() {
    let _bound = bounded();
    for scene in Scene::all() {
        let pair = Pair::new();
        pair.server.drop_incoming("tcp dport 8080");
        let _listener = Listener::new(&pair.server, pair.server_addr(Family::V4, PORT));
        let agent = scene.observe(&pair);
        let _held = Family::BOTH.map(|family| begin_connect(&pair.client, pair.server_addr(family, PORT)));
        let role = scene.side.role();
        wait_until("the second SYN of both", SOON, || {
            let metrics = agent.metrics();
            let half_open = [("kind", "unanswered_syn"), ("role", role)];
            equal("half open", metrics.count("half_open_connections", &half_open), 2)?;
            equal("all half open", metrics.count("half_open_connections", &[]), 2)?;
            let repeated = metrics.count("handshake_retransmits_total", &[("kind", "syn"), ("role", role)]);
            if repeated >= 2 { Ok(()) } else { Err(format!("{repeated} SYNs sent again")) }
        });
        for record in agent.flows_of_port(PORT) {
            assert_eq!(record["phase"], "half_open", "{record}");
            assert_eq!(record["handshake"]["outcome"], "in_progress", "{record}");
            assert_eq!(record["originator"]["state"], "syn_sent", "{record}");
            assert!(record["originator"]["syn_retransmits"].as_u64() >= Some(1), "{record}");
        }
        if scene.side == Side::Client {
            let agreed = ss::agree(&agent, SOON, |_| true);
            assert!(agreed.len() == 2 && agreed.iter().all(|socket| socket.state == "syn_sent"), "{agreed:?}");
        }
        agent.stop();
    }
}

/// The client's kernel never sees the SYN-ACK, which the observer there still does: so only the server's word counts.
#[test]
fn a_synack_that_is_dropped_stays_unacknowledged() {
    let _bound = bounded();
    for scene in Scene::all() {
        let pair = Pair::new();
        pair.client.drop_incoming("tcp sport 8080");
        let listeners = Family::BOTH.map(|family| Listener::new(&pair.server, pair.server_addr(family, PORT)));
        let agent = scene.observe(&pair);
        let _held = listeners.each_ref().map(|listener| begin_connect(&pair.client, listener.addr()));
        let role = scene.side.role();
        let half_open = [("kind", "unacked_synack"), ("role", role)];
        wait_until("a repeated SYN-ACK of both", SOON, || {
            let metrics = agent.metrics();
            equal("half open", metrics.count("half_open_connections", &half_open), 2)?;
            let repeated = metrics.count("handshake_retransmits_total", &[("kind", "synack"), ("role", role)]);
            if repeated >= 2 { Ok(()) } else { Err(format!("{repeated} SYN-ACKs sent again")) }
        });
        if scene.side == Side::Server {
            let agreed = ss::agree(&agent, SOON, |_| true);
            assert!(agreed.len() == 2 && agreed.iter().all(|socket| socket.state == "syn_received"), "{agreed:?}");
        }
        agent.stop();
    }
}

#[test]
fn an_attempt_that_gets_through_late_is_timed_from_its_first_syn() {
    let _bound = bounded();
    for scene in Scene::all() {
        let pair = Pair::new();
        pair.server.drop_incoming("tcp dport 8080");
        let listener = Listener::new(&pair.server, pair.server_addr(Family::V4, PORT));
        let agent = scene.observe(&pair);
        let _held = begin_connect(&pair.client, listener.addr());
        wait_until("the SYN", SOON, || equal("flows", agent.flows_of_port(PORT).len(), 1));
        pair.server.let_all_pass();
        let _accepted = listener.accept();
        let record = wait_until("the handshake to end", SOON, || {
            let record = agent.flows_of_port(PORT).remove(0);
            equal("outcome", record["handshake"]["outcome"].as_str(), Some("completed"))?;
            Ok(record)
        });
        let seconds = |field: &str| record["handshake"][field].as_f64().unwrap_or_else(|| panic!("{field}: {record}"));
        // Linux sends the second SYN a second after the first, on every version.
        assert!(seconds("total_seconds") > 0.9, "{record}");
        assert!(seconds("syn_to_synack_seconds") < seconds("total_seconds") - 0.9, "{record}");
        assert_eq!(record["handshake"]["retransmitted"], true, "{record}");
        let labels = [("segment", "total"), ("role", scene.side.role()), ("retransmitted", "true")];
        assert_eq!(agent.metrics().count("handshake_duration_seconds_count", &labels), 1);
        agent.stop();
    }
}

/// A peer that is not there at all: the neighbour's address is known, and nobody has it.
#[test]
fn an_address_that_nobody_has_leaves_a_syn_unanswered() {
    let _bound = bounded();
    let pair = Pair::new();
    pair.client.ip("neigh add 192.0.2.77 lladdr 02:00:00:00:00:77 dev wire0");
    let scene = Scene { side: Side::Client, mode: IngressMode::Tc };
    let agent = scene.observe(&pair);
    let nobody: SocketAddr = "192.0.2.77:80".parse().unwrap();
    let _held = begin_connect(&pair.client, nobody);
    let agreed = wait_until("the socket", Duration::from_secs(2), || {
        let agreed = ss::agree(&agent, SOON, |_| true);
        if agreed.is_empty() { Err("no socket".into()) } else { Ok(agreed) }
    });
    assert!(agreed.iter().all(|socket| socket.state == "syn_sent" && socket.peer == nobody), "{agreed:?}");
    agent.stop();
}
