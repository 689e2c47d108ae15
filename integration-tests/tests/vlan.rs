//! Frames with VLAN tags. Programs of the test's own push the tags at each end and pop them at the other: one tag
//! rides in the packet's metadata, and of two the inner one stands in the frame.

use integration_tests::{
    asm::Program,
    bpf::{Hook, Neighbour},
    pair::WIRE,
    prelude::*,
    tcp_info::TcpInfo,
};

/// Tag protocols of 802.1Q and 802.1ad.
const CUSTOMER: u16 = 0x8100;
const SERVICE: u16 = 0x88a8;

/// Tags everything that leaves either end, IPv4 or IPv6, and untags what arrives.
#[track_caller]
fn tag(pair: &Pair, tags: &[u16]) -> Vec<Neighbour> {
    let push = |ethertype| {
        let program = Program::new().if_half(12, ethertype);
        tags.iter().zip(100..).fold(program, |program, (&protocol, id)| program.push_vlan(protocol, id)).finish()
    };
    let pop = tags.iter().fold(Program::new(), |program, _| program.pop_vlan()).finish();
    let mut attached = Vec::new();
    for namespace in [&pair.client, &pair.server] {
        attached.push(Neighbour::attach(namespace, WIRE, Hook::Egress, &push(0x0800)));
        attached.push(Neighbour::attach(namespace, WIRE, Hook::Egress, &push(0x86dd)));
        attached.push(Neighbour::attach(namespace, WIRE, Hook::Ingress, &pop));
    }
    attached
}

#[track_caller]
fn flows_are_recognised_behind(tags: &[u16]) {
    for scene in Scene::all() {
        let pair = Pair::new();
        let _tagged = tag(&pair, tags);
        // The agent's program is the first on the way in and the last on the way out: it sees tags on both.
        let agent = scene.observe(&pair);
        let mut held = Vec::new();
        for family in Family::BOTH {
            let listener = Listener::new(&pair.server, pair.server_addr(family, 8080));
            held.push(Connection::open(&pair.client, &listener));
        }
        for connection in &held {
            connection.send(1000);
            connection.answer(2000);
        }
        let agreed = ss::agree(&agent, SOON, |_| true);
        assert_eq!(agreed.len(), 2, "{agreed:?}");
        for connection in &held {
            let record = agent.flows_of_port(connection.client_addr().port()).remove(0);
            // On a slow machine some of it may be sent again.
            let sent = [&connection.client, &connection.server].map(|end| TcpInfo::of(end).bytes_sent);
            assert_eq!(record["handshake"]["outcome"], "completed", "{record}");
            assert_eq!(record["originator"]["bytes"], sent[0], "{record}");
            assert_eq!(record["responder"]["bytes"], sent[1], "{record}");
        }
        agent.stop();
    }
}

#[test]
fn flows_are_recognised_behind_a_tag() {
    let _bound = bounded();
    flows_are_recognised_behind(&[CUSTOMER]);
}

#[test]
fn flows_are_recognised_behind_two_tags() {
    let _bound = bounded();
    flows_are_recognised_behind(&[CUSTOMER, SERVICE]);
}
