//! Bytes and segments, counted as the two kernels count them.

use integration_tests::{cpu, prelude::*, tcp_info::TcpInfo, wait::equal};

/// More than any single buffer: many super-packets each way.
const MANY: usize = 3_000_000;

#[test]
fn payload_is_counted_to_the_byte_and_segments_as_tcp_info_counts_them() {
    let _bound = bounded();
    // Of a direction that passes on two CPUs at once a segment may be missing.
    cpu::stay_on(0);
    for scene in Scene::all() {
        for family in Family::BOTH {
            let pair = Pair::new();
            let agent = scene.observe(&pair);
            let listener = Listener::new(&pair.server, pair.server_addr(family, 8080));
            let connection = transfer_without_loss(&pair, &listener);
            let port = connection.client_addr().port();
            // The last acknowledgement may be delayed.
            wait_until("the counts to agree", SOON, || {
                let records = agent.flows_of_port(port);
                let [record] = &records[..] else { return Err(format!("not one flow: {records:?}")) };
                let info = TcpInfo::of(&connection.client);
                let count = |end: &str, field: &str| record[end][field].as_u64().unwrap();
                let bytes = [count("originator", "bytes"), count("responder", "bytes")];
                if bytes != [MANY as u64 + 1, MANY as u64 / 2] {
                    return Err(format!("payload: {bytes:?}"));
                }
                let packets = [count("originator", "packets"), count("responder", "packets")];
                let expected = [u64::from(info.segs_out), u64::from(info.segs_in)];
                if packets == expected || !counts_segments(scene, packets, expected) {
                    return Ok(());
                }
                Err(format!("{scene}, {family:?}: packets {packets:?}, the sockets count {expected:?}"))
            });
            wait_until("the totals to be the flows'", SOON, || {
                let records = agent.flows_of_port(8080);
                let ends = records.iter().flat_map(|record| [&record["originator"], &record["responder"]]);
                let packets = ends.map(|end| end["packets"].as_u64().unwrap()).sum();
                equal("segments", agent.metrics().count("segments_total", &[]), packets)
            });
            agent.stop();
        }
    }
}

/// A connection over which much was sent, nothing of it twice. A short ring of a busy machine may drop a segment; what
/// TCP makes of that is not the matter here.
#[track_caller]
fn transfer_without_loss(pair: &Pair, listener: &Listener) -> Connection {
    for _ in 0..5 {
        let connection = Connection::open(&pair.client, listener);
        connection.send(MANY);
        connection.answer(MANY / 2);
        connection.send(1);
        let ends = [&connection.client, &connection.server];
        if ends.iter().all(|end| TcpInfo::of(end).total_retrans == 0) {
            return connection;
        }
    }
    panic!("the wire between the namespaces loses segments each time");
}

/// Generic XDP is shown super-packets and cannot know of how many segments each is made: it may count fewer.
fn counts_segments(scene: Scene, packets: [u64; 2], expected: [u64; 2]) -> bool {
    let fewer = packets.iter().zip(&expected).all(|(seen, sent)| seen <= sent);
    !(scene.mode == IngressMode::XdpGeneric && fewer)
}

#[test]
fn every_packet_is_an_update_or_a_skip() {
    let _bound = bounded();
    for scene in Scene::all() {
        let pair = Pair::new();
        let agent = scene.observe(&pair);
        let before = agent.metrics().skipped();
        let listener = Listener::new(&pair.server, pair.server_addr(Family::V4, 8080));
        for connection in Connection::open_many(&pair.client, &listener, 10) {
            connection.send(500);
            connection.answer(500);
        }
        ss::agree(&agent, SOON, |_| true);
        // Ordinary connections give no reason to skip a TCP segment; neighbour discovery and the like are not TCP.
        for (reason, count) in agent.metrics().skipped() {
            let other_traffic = matches!(reason.as_str(), "not_ip" | "not_tcp");
            assert!(other_traffic || before.get(&reason) == Some(&count), "{reason}: {count} ({scene})");
        }
        agent.stop();
    }
}
