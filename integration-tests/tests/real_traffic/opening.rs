//! Connections that open and stay open.

use integration_tests::{prelude::*, wait::equal};

const COUNT: usize = 12;

#[test]
fn open_connections_are_the_sockets_that_ss_shows() {
    let _bound = bounded();
    for scene in Scene::all() {
        let pair = Pair::new();
        let agent = scene.observe(&pair);
        let mut held = Vec::new();
        for family in Family::BOTH {
            let listener = Listener::new(&pair.server, pair.server_addr(family, 8080));
            held.extend(Connection::open_many(&pair.client, &listener, COUNT));
        }
        let agreed = ss::agree(&agent, SOON, |_| true);
        assert_eq!(agreed.len(), 2 * COUNT);
        assert!(agreed.iter().all(|socket| socket.state == "established"), "{agreed:?}");
        let metrics = agent.metrics();
        let labels = [("state", "established"), ("role", scene.side.role())];
        assert_eq!(metrics.count("connections", &labels), 2 * COUNT as u64);
        for record in agent.dump(&[]) {
            assert_eq!(record["phase"], "established");
            assert_eq!(record["role"], scene.side.role());
            assert_eq!(record["inferred"], false);
            assert_eq!(record["responder"]["port"], 8080);
            assert_eq!(record["handshake"]["outcome"], "completed");
        }
        agent.stop();
    }
}

#[test]
fn each_handshake_is_in_each_histogram_once() {
    let _bound = bounded();
    for scene in Scene::all() {
        let pair = Pair::new();
        let agent = scene.observe(&pair);
        let role = scene.side.role();
        for family in Family::BOTH {
            let listener = Listener::new(&pair.server, pair.server_addr(family, 8080));
            drop(Connection::open_many(&pair.client, &listener, COUNT));
        }
        let expected = 2 * COUNT as u64;
        let counted = || {
            let metrics = agent.metrics();
            for segment in ["syn_to_synack", "synack_to_ack", "total"] {
                equal(segment, metrics.handshakes(segment, role), expected)?;
            }
            let completed = [("role", role), ("outcome", "completed")];
            equal("attempts", metrics.count("connection_attempts_total", &completed), expected)?;
            equal("all attempts", metrics.count("connection_attempts_total", &[]), expected)
        };
        wait_until("the handshakes to be counted", SOON, counted);
        // All is over now: asking again must not find more.
        counted().unwrap();
        agent.stop();
    }
}

#[test]
fn connections_that_were_there_before_the_agent_are_picked_up() {
    let _bound = bounded();
    for scene in Scene::all() {
        let pair = Pair::new();
        let listener = Listener::new(&pair.server, pair.server_addr(Family::V4, 8080));
        let held = Connection::open_many(&pair.client, &listener, COUNT);
        let agent = scene.observe(&pair);
        for connection in &held {
            connection.send(100);
            connection.answer(100);
            connection.send(1);
        }
        let agreed = ss::agree(&agent, SOON, |_| true);
        assert_eq!(agreed.len(), COUNT);
        for record in agent.dump(&[]) {
            assert_eq!(record["inferred"], true, "{record}");
            assert_eq!(record["responder"]["port"], 8080, "{record}");
            assert_eq!(record["handshake"]["outcome"], "not_seen", "{record}");
            assert!(record["handshake"]["total_seconds"].is_null(), "{record}");
        }
        agent.stop();
    }
}
