//! Snapshots built by hand in, whole summaries out.

use tcp_observer_common::{
    conn::Phase,
    counters::{PORT_LABELS, TableKind},
};

use super::*;
use crate::snapshot::{Close, TableUsage, fixture};

fn written(snapshot: &Snapshot, format: Format) -> String {
    let mut out = Vec::new();
    write(snapshot, format, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// A web server with one connection, one in TIME_WAIT and one client that does not acknowledge.
fn web_server() -> Snapshot {
    let mut snapshot = fixture::empty();
    snapshot.flows.push(fixture::flow("198.51.100.1:40001", "192.0.2.1:443", Some(Locality::Server)));
    let mut closing = fixture::flow("198.51.100.2:40002", "192.0.2.1:443", Some(Locality::Server));
    closing.responder.state = Some(State::TimeWait);
    closing.phase = Phase::TimeWait;
    snapshot.flows.push(closing);
    let mut half_open = fixture::flow("203.0.113.3:40003", "192.0.2.1:443", Some(Locality::Server));
    half_open.responder.state = Some(State::SynReceived);
    half_open.phase = Phase::HalfOpen;
    half_open.handshake.outcome = Outcome::InProgress;
    half_open.first_seen_unix_ns = snapshot.taken_unix_ns - 4_000_000_000;
    snapshot.flows.push(half_open);
    let totals = &mut snapshot.totals;
    totals.ports[0] = Some(443);
    let server = Locality::Server.index();
    totals.counters.attempts[0][server][Outcome::Completed.index()] = 1200;
    totals.counters.attempts[PORT_LABELS - 1][server][Outcome::Refused.index()] = 7;
    totals.counters.closes[Endedness::Local.index()][How::Fin.index()] = 1100;
    totals.counters.closes[Endedness::Remote.index()][How::Rst.index()] = 3;
    totals.counters.skipped[Skip::NotTcp.index()] = 1_234_567;
    for _ in 0..10 {
        totals.handshakes[by_role(HandshakePart::Total, Locality::Server, false) as usize].record(100_000);
        totals.handshakes[by_port(0, HandshakePart::Total, Locality::Server) as usize].record(100_000);
    }
    totals.handshakes[by_role(HandshakePart::SynToSynAck, Locality::Server, false) as usize].record(5_000);
    snapshot.tables = vec![TableUsage { table: TableKind::FlowsIpv4, entries: 250, capacity: 1000 }];
    snapshot
}

#[test]
fn the_text_of_a_small_web_server() {
    // P50 of ten values in (65.5 µs, 131 µs] is the middle; P90 and P99 lie nine tenths and 99 hundredths in.
    let expected = "\
3 flows at 2026-01-01T00:10:00.000000000Z

Connections by state
  STATE         SERVER
  syn_received       1
  established        1
  time_wait          1

Half open, by the time since the first SYN
  KIND            ROLE    0-1s  1-3s  3-7s  7-15s  15-31s  31-63s  > 63s
  unacked_synack  server     0     0     1      0       0       0      0

Attempts by outcome
  OUTCOME    SERVER
  completed   1,200
  refused         7

Closes by who began and how
  BY        FIN  RST  SIMULTANEOUS  TIMEOUT
  local   1,100    0             0        0
  remote      0    3             0        0

Handshake times
  PORT  ROLE    SEGMENT        COUNT        P50        P90        P99        MAX
  all   server  syn_to_synack      1  ≤ 8.19 µs  ≤ 8.19 µs  ≤ 8.19 µs  ≤ 8.19 µs
  all   server  total             10   ~98.3 µs    ~125 µs    ~130 µs   ≤ 131 µs
  443   server  total             10   ~98.3 µs    ~125 µs    ~130 µs   ≤ 131 µs
  ~ interpolated: the true value is within the same power of two

Busiest remote prefixes
  PREFIX           FLOWS  HALF OPEN
  198.51.100.0/24      2          0
  203.0.113.0/24       1          1

Tables
  TABLE       ENTRIES  CAPACITY   FULL
  flows_ipv4      250     1,000  25.0%

Packets that updated no flow
  REASON       COUNT
  not_tcp  1,234,567
";
    let text = written(&web_server(), Format::Text);
    for (line, expected) in text.lines().zip(expected.lines()) {
        assert_eq!(line, expected);
    }
    assert_eq!(text.lines().count(), expected.lines().count());
}

#[test]
fn nothing_known_is_one_line() {
    assert_eq!(written(&fixture::empty(), Format::Text), "0 flows at 2026-01-01T00:10:00.000000000Z\n");
}

#[test]
fn json_is_one_object_with_every_role_and_state() {
    let summary: serde_json::Value = serde_json::from_str(&written(&web_server(), Format::Json)).unwrap();
    let server = |list: &str| {
        let rows = summary[list].as_array().unwrap();
        rows.iter().find(|row| row["role"] == "server").unwrap()["counts"].clone()
    };
    assert_eq!(summary["flows"], 3);
    assert_eq!(summary["taken"], "2026-01-01T00:10:00.000000000Z");
    assert_eq!(summary["connections"].as_array().unwrap().len(), 4);
    assert_eq!((&server("connections")["time_wait"], &server("connections")["last_ack"]), (&1.into(), &0.into()));
    assert_eq!(server("attempts")["refused"], 7);
    assert_eq!(summary["closes"][0]["how"]["fin"], 1100);
    assert_eq!(summary["busiest_prefixes"][0]["prefix"], "198.51.100.0/24");
    assert_eq!(summary["skipped_packets"], serde_json::json!({"not_tcp": 1_234_567}));
    let total = summary["handshakes"].as_array().unwrap().iter().find(|row| row["port"] == "443").unwrap();
    assert_eq!((&total["count"], &total["segment"]), (&10.into(), &"total".into()));
    assert_eq!(total["p50"].to_string(), r#"{"at_most_seconds":0.000131072,"estimate_seconds":0.000098304}"#);
}

#[test]
fn without_local_addresses_there_are_no_roles_and_closes_go_by_who_opened() {
    let mut snapshot = fixture::empty();
    let mut flow = fixture::flow("192.0.2.1:1", "198.51.100.2:80", None);
    flow.close = Close { initiator: Some(Initiator::Responder), how: Some(How::Rst) };
    snapshot.flows.push(flow);
    snapshot.totals.counters.attempts[0][Locality::Forwarded.index()][Outcome::Completed.index()] = 1;
    let text = written(&snapshot, Format::Text);
    assert!(text.contains("  STATE        COUNT\n  established      2\n"), "{text}");
    assert!(text.contains("  OUTCOME    COUNT\n  completed      1\n"), "{text}");
    assert!(text.contains("  responder    0    1             0        0\n"), "{text}");
    assert!(!text.contains("forwarded") && !text.contains("remote  "), "{text}");
}
