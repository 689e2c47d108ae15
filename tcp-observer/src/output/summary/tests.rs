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

/// A web server with one connection, one in TIME_WAIT, one client that does not acknowledge and one that gets no answer;
/// and two connections to a database that has closed them.
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
    for port in [50_001, 50_002] {
        let mut upstream = fixture::flow(&format!("192.0.2.1:{port}"), "203.0.113.9:5432", Some(Locality::Client));
        upstream.originator.state = Some(State::CloseWait);
        snapshot.flows.push(upstream);
    }
    let mut unanswered = fixture::flow("203.0.113.4:40004", "192.0.2.1:443", Some(Locality::Server));
    unanswered.responder.state = Some(State::Listen);
    unanswered.responder.isn = None;
    unanswered.phase = Phase::HalfOpen;
    unanswered.handshake.outcome = Outcome::InProgress;
    unanswered.first_seen_unix_ns = snapshot.taken_unix_ns - 4_000_000_000;
    snapshot.flows.push(unanswered);
    snapshot.sockets = Some(fixture::sockets(&["0.0.0.0:443"]));
    let totals = &mut snapshot.totals;
    totals.counters.notes[Note::Keepalive.index()] = 12;
    totals.counters.notes[Note::SynAckAfterData.index()] = 3;
    totals.counters.notes[Note::Completed.index()] = 1200;
    totals.counters.unreachable[Unreachable::Host.index()] = 2;
    totals.handshakes[half_close(Locality::Server) as usize].record(1_000_000_000);
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
6 flows at 2026-01-01T00:10:00.000000000Z

Connections by state
  STATE         CLIENT  SERVER
  listen             0       1
  syn_received       0       1
  established        0       1
  close_wait         2       0
  time_wait          0       1

Half open, by the time since the first SYN
  KIND            ROLE    0-1s  1-3s  3-7s  7-15s  15-31s  31-63s  > 63s
  unanswered_syn  server     0     0     1      0       0       0      0
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

Half-close times
  ROLE    COUNT      P50      P90      P99       MAX
  server      1  ~805 ms  ~1.02 s  ~1.07 s  ≤ 1.07 s
  ~ interpolated: the true value is within the same power of two

CLOSE_WAIT here, by how long
  0-1m  1-10m  10-60m  > 60m
  0         0       2      0

Recognised
  WHAT               COUNT
  synack_after_data      3
  keepalive             12

Unreachable, by what ICMP says
  CODE  COUNT
  host      2

Listeners that may not keep up
  EVIDENCE                             PORT  COUNT
  SYNs waiting for more than a second   443      1
  SYN-ACKs again after data               -      3
  full accept queues                      -      1

Local ports in use, most towards one service
  FROM                     TO  IN USE  AVAILABLE
  192.0.2.1  203.0.113.9:5432       2     28,232

Busiest remote prefixes
  PREFIX           FLOWS  HALF OPEN
  203.0.113.0/24       4          2
  198.51.100.0/24      2          0

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
    assert_eq!(summary["flows"], 6);
    assert_eq!(summary["taken"], "2026-01-01T00:10:00.000000000Z");
    assert_eq!(summary["connections"].as_array().unwrap().len(), 4);
    assert_eq!((&server("connections")["time_wait"], &server("connections")["last_ack"]), (&1.into(), &0.into()));
    assert_eq!(server("attempts")["refused"], 7);
    assert_eq!(summary["closes"][0]["how"]["fin"], 1100);
    assert_eq!(summary["busiest_prefixes"][0]["prefix"], "203.0.113.0/24");
    assert_eq!(summary["skipped_packets"], serde_json::json!({"not_tcp": 1_234_567}));
    assert_eq!(summary["recognised"], serde_json::json!({"synack_after_data": 3, "keepalive": 12}));
    assert_eq!(summary["unreachable"], serde_json::json!({"host": 2}));
    assert_eq!(summary["close_wait"]["10-60m"], 2);
    assert_eq!(
        (&summary["half_closes"][0]["role"], &summary["half_closes"][0]["count"]),
        (&"server".into(), &1.into())
    );
    let overflow = serde_json::json!({
        "synack_after_ack": 0,
        "synack_after_data": 3,
        "unanswered_syns": {"443": 1},
        "overflowing_listeners": 1
    });
    assert_eq!(summary["listen_overflow"], overflow);
    let ports = serde_json::json!(
        [{"local": "192.0.2.1", "remote": "203.0.113.9:5432", "in_use": 2, "available": 28232}]
    );
    assert_eq!(summary["ephemeral_ports"], ports);
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
    let summary: serde_json::Value = serde_json::from_str(&written(&snapshot, Format::Json)).unwrap();
    assert_eq!(summary["listen_overflow"]["unanswered_syns"], serde_json::Value::Null, "nobody knows who listens");
    assert!(!text.contains("forwarded") && !text.contains("remote  "), "{text}");
}
