//! Snapshots built by hand, for the tests of what is made of them. Compiled for tests and fuzzing only.

use std::net::SocketAddr;

use tcp_observer_common::{
    conn::{Locality, Outcome, Phase, State},
    counters::{Counters, PORT_SLOTS},
    histogram::{HISTOGRAMS, Histogram},
};

use super::{Close, Endpoint, FlowRecord, Handshake, History, Notes, Snapshot, SocketView, Totals};
use crate::kernel::sockets::Listener;

/// 2026-01-01T00:10:00Z.
pub const TAKEN_UNIX_NS: u64 = 1_767_226_200_000_000_000;

/// A snapshot in which nothing has happened.
pub fn empty() -> Snapshot {
    Snapshot {
        taken_unix_ns: TAKEN_UNIX_NS,
        flows: Vec::new(),
        totals: Totals {
            counters: Counters::ZERO,
            handshakes: vec![Histogram::default(); HISTOGRAMS as usize],
            ports: [None; PORT_SLOTS],
        },
        tables: Vec::new(),
        sockets: None,
    }
}

/// What the socket table says where there are these listeners, one of them with a queue that overflows.
pub fn sockets(listeners: &[&str]) -> SocketView {
    let listener = |(index, at): (usize, &&str)| Listener {
        local: at.parse().expect("an address and a port"),
        accepts_ipv4: false,
        interface: None,
        backlog: 128,
        queued: if index == 0 { 129 } else { 0 },
    };
    let listeners: Vec<_> = listeners.iter().enumerate().map(listener).collect();
    SocketView::new(&listeners, Some(32_768..=60_999))
}

/// An established flow, first seen ten minutes before the snapshot and last seen a minute later.
pub fn flow(originator: &str, responder: &str, role: Option<Locality>) -> FlowRecord {
    let local = |roles: [Locality; 2]| role.map(|role| roles.contains(&role));
    FlowRecord {
        originator: endpoint(originator, local([Locality::Client, Locality::Loopback])),
        responder: endpoint(responder, local([Locality::Server, Locality::Loopback])),
        interface: Some("eth0".into()),
        role,
        inferred: false,
        phase: Phase::Established,
        first_seen_unix_ns: TAKEN_UNIX_NS - 600_000_000_000,
        last_seen_unix_ns: TAKEN_UNIX_NS - 540_000_000_000,
        changed_unix_ns: TAKEN_UNIX_NS - 600_000_000_000,
        handshake: Handshake {
            outcome: Outcome::Completed,
            syn_to_synack_ns: Some(123_000),
            synack_to_ack_ns: Some(45_000),
            total_ns: Some(168_000),
            retransmitted: false,
            unreachable: None,
        },
        close: Close { initiator: None, how: None },
        half_close_ns: None,
        history: History::from("ShADad"),
        notes: Notes::default(),
        completeness: 15,
        vlan: None,
    }
}

fn endpoint(at: &str, local: Option<bool>) -> Endpoint {
    let at: SocketAddr = at.parse().expect("an address and a port");
    Endpoint {
        addr: at.ip(),
        port: at.port(),
        state: Some(State::Established),
        local,
        packets: 3,
        bytes: 1000,
        isn: Some(7),
        syn_retransmits: 0,
        fin: false,
        rst: false,
        mss: Some(1460),
        window_scale: Some(7),
        sack: Some(true),
        timestamps: Some(true),
        retransmits: 0,
        keepalives: 0,
        unanswered_keepalives: 0,
        zero_windows: 0,
        window_probes: 0,
        fin_retransmits: 0,
        heartbeat_ns: None,
    }
}
