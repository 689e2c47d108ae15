//! Golden: a snapshot built by hand in, the whole text out (`WRITE_EXPOSITION=file` writes the text that it is compared
//! with, to be read before it replaces the old one). And the budget of series, with everything filled.

use tcp_observer_common::{
    conn::{How, Locality, Note, Outcome, Phase, State},
    counters::{Endedness, Eviction, HookDirection, PORT_LABELS, PORT_SLOTS, Retransmit, Skip, TableKind, Unreachable},
    histogram::{HandshakePart, by_port, by_role, half_close},
    segment::SegmentKind,
};

use super::*;
use crate::{
    snapshot::{Snapshot, TableUsage, fixture},
    verify::Exception,
};

struct Fixed(Snapshot);

impl Source for Fixed {
    fn snapshot(&self) -> anyhow::Result<Snapshot> {
        Ok(self.0.clone())
    }
}

struct Gone;

impl Source for Gone {
    fn snapshot(&self) -> anyhow::Result<Snapshot> {
        anyhow::bail!("the maps are gone")
    }
}

struct Idle;

impl AgentStatus for Idle {
    fn programs(&self) -> Vec<ProgramUsage> {
        Vec::new()
    }

    fn attachments(&self) -> Vec<Attachment> {
        Vec::new()
    }

    fn socket_check(&self) -> Option<SocketCheck> {
        None
    }
}

fn attachment(interface: &str, hook: &'static str, mode: &'static str) -> Attachment {
    Attachment { interface: interface.to_owned(), hook, mode }
}

fn render(snapshot: &Snapshot, programs: Vec<ProgramUsage>, attachments: Vec<Attachment>) -> String {
    let mut ports = NamedPorts::default();
    ports.learn(&snapshot.totals);
    let view = View {
        overview: &Overview::from(snapshot.clone()),
        ports: &ports,
        programs,
        attachments,
        socket_check: Some(SocketCheck {
            differing: [2, 1, 0],
            excepted: std::array::from_fn(|index| if index == Exception::NotObserved.index() { 3 } else { 0 }),
            compared: 8,
            comparisons: 12,
            taken_unix_ns: snapshot.taken_unix_ns - 30_000_000_000,
            took: Duration::from_micros(2500),
        }),
        build: Build { version: "1.2.3", commit: "0123456789ab", rustc: "rustc 1.95.0" },
        snapshot_took: Duration::from_micros(1500),
    };
    exposition(&view, || Duration::from_millis(2)).unwrap()
}

/// A web server: one client connected, one in TIME_WAIT, a SYN-ACK that nobody acknowledges, a SYN that nobody answers,
/// a connection that the application forgot, two to a database behind it, and a forwarded flow.
fn web_server() -> Snapshot {
    let mut snapshot = fixture::empty();
    snapshot.flows.push(fixture::flow("198.51.100.1:40001", "192.0.2.1:443", Some(Locality::Server)));

    let mut closing = fixture::flow("198.51.100.2:40002", "192.0.2.1:443", Some(Locality::Server));
    closing.originator.state = Some(State::Closed);
    closing.responder.state = Some(State::TimeWait);
    closing.phase = Phase::TimeWait;
    snapshot.flows.push(closing);

    let mut half_open = fixture::flow("198.51.100.3:40003", "192.0.2.1:443", Some(Locality::Server));
    half_open.originator.state = Some(State::SynSent);
    half_open.responder.state = Some(State::SynReceived);
    half_open.phase = Phase::HalfOpen;
    half_open.handshake.outcome = Outcome::InProgress;
    half_open.first_seen_unix_ns = snapshot.taken_unix_ns - 4_000_000_000;
    snapshot.flows.push(half_open);

    let mut unanswered = fixture::flow("198.51.100.4:40004", "192.0.2.1:443", Some(Locality::Server));
    unanswered.responder.isn = None;
    unanswered.responder.state = Some(State::Listen);
    unanswered.phase = Phase::HalfOpen;
    unanswered.handshake.outcome = Outcome::InProgress;
    unanswered.first_seen_unix_ns = snapshot.taken_unix_ns - 2_000_000_000;
    snapshot.flows.push(unanswered);

    let mut forgotten = fixture::flow("198.51.100.5:40005", "192.0.2.1:443", Some(Locality::Server));
    forgotten.responder.state = Some(State::CloseWait);
    forgotten.responder.unanswered_keepalives = 3;
    forgotten.phase = Phase::HalfClosed;
    snapshot.flows.push(forgotten);

    for port in [50_001, 50_002] {
        let upstream = fixture::flow(&format!("192.0.2.1:{port}"), "198.51.100.9:5432", Some(Locality::Client));
        snapshot.flows.push(upstream);
    }
    snapshot.sockets = Some(fixture::sockets(&["0.0.0.0:443", "127.0.0.1:9477"]));

    snapshot.flows.push(fixture::flow("[2001:db8::1]:40004", "[2001:db8:1::1]:22", Some(Locality::Forwarded)));

    let server = Locality::Server.index();
    let totals = &mut snapshot.totals;
    totals.ports[0] = Some(443);
    totals.counters.attempts[0][server][Outcome::Completed.index()] = 2;
    totals.counters.attempts[PORT_LABELS - 1][server][Outcome::Refused.index()] = 7;
    totals.counters.notes[Note::Keepalive.index()] = 3;
    totals.counters.notes[Note::SynAckAfterData.index()] = 2;
    totals.counters.notes[Note::TimeWaitAssassinated.index()] = 1;
    totals.counters.notes[Note::Completed.index()] = 2;
    totals.counters.unreachable[Unreachable::Port.index()] = 4;
    totals.handshakes[half_close(Locality::Server) as usize].record(3_000_000);
    totals.counters.segments[HookDirection::Ingress.index()][SegmentKind::Syn.index()] = 3;
    totals.counters.skipped[Skip::NotTcp.index()] = 11;
    totals.counters.handshake_retransmits[Retransmit::SynAck.index()][server] = 2;
    totals.counters.resets[Phase::HalfOpen.index()] = [7, 0];
    totals.counters.closes[Endedness::Local.index()][How::Fin.index()] = 1;
    totals.counters.evictions[TableKind::FlowsIpv4.index()][Eviction::Closed.index()] = 5;
    for (part, ns) in
        [(HandshakePart::SynToSynAck, 123_000), (HandshakePart::SynAckToAck, 45_000), (HandshakePart::Total, 168_000)]
    {
        totals.handshakes[by_role(part, Locality::Server, false) as usize].record(ns);
        totals.handshakes[by_port(0, part, Locality::Server) as usize].record(ns);
    }
    snapshot.tables = vec![TableUsage { table: TableKind::FlowsIpv4, entries: 2, capacity: 1000 }];
    snapshot
}

#[test]
fn the_exposition_of_a_small_web_server() {
    let programs = vec![ProgramUsage { name: "xdp_ingress".to_owned(), run_seconds: 0.25, runs: 1000 }];
    let attachments = vec![attachment("eth0", "xdp_ingress", "native"), attachment("eth0", "tc_egress", "tcx")];
    let text = render(&web_server(), programs, attachments);
    if let Some(path) = std::env::var_os("WRITE_EXPOSITION") {
        std::fs::write(path, &text).unwrap();
    }
    let golden = include_str!("testdata/web_server.prom");
    for (number, (line, expected)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(line, expected, "line {}", number + 1);
    }
    assert_eq!(text.lines().count(), golden.lines().count());
}

/// Every series there can be: each counter, each histogram, each program, and more interfaces than are named.
#[test]
fn no_load_makes_more_than_2000_series() {
    let mut snapshot = web_server();
    snapshot.totals.counters.attempts = [[[1; Outcome::COUNT]; Locality::COUNT]; PORT_LABELS];
    snapshot.totals.ports = std::array::from_fn::<_, PORT_SLOTS, _>(|slot| Some(8000 + slot as u16));
    for histogram in &mut snapshot.totals.handshakes {
        histogram.record(1_000_000);
    }
    snapshot.tables = TableKind::ALL.iter().map(|&table| TableUsage { table, entries: 1, capacity: 2 }).collect();
    let programs = ["xdp_ingress", "tc_ingress", "tc_egress", "tc_ingress_l3", "tc_egress_l3", "sweep"];
    let programs = programs.map(|name| ProgramUsage { name: name.to_owned(), run_seconds: 1.0, runs: 1 }).into();
    let modes = [("xdp_ingress", ["native", "generic"]), ("tc_ingress", ["tcx", "clsact"])];
    let modes =
        modes.into_iter().chain(["tc_egress", "tc_ingress_l3", "tc_egress_l3"].map(|hook| (hook, ["tcx", "clsact"])));
    let attachments = modes
        .flat_map(|(hook, modes)| modes.map(|mode| (hook, mode)))
        .flat_map(|(hook, mode)| (0..100).map(move |n| attachment(&format!("veth{n}"), hook, mode)))
        .collect();
    let text = render(&snapshot, programs, attachments);
    let series: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let of = |family: &str| {
        let family = format!("tcp_observer_{family}");
        series.iter().filter(|line| line.starts_with(&family)).count()
    };
    assert_eq!(of("handshake_duration_seconds"), 672);
    assert_eq!(of("port_handshake_duration_seconds"), 8 * 69 + 4 * 69);
    assert_eq!(of("half_close_duration_seconds"), 4 * 12);
    assert!(series.len() < 2000, "{} series", series.len());
    let attached = series.iter().filter(|line| line.starts_with("tcp_observer_attached"));
    let sum: u64 = attached.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum();
    assert_eq!(sum, 1000, "every attachment counts, named or not");
    let mut names: Vec<_> = series.iter().filter_map(|line| line.rsplit_once(' ')).map(|(name, _)| name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), series.len(), "a series is written twice");
}

#[test]
fn an_idle_observer_exports_every_family_that_needs_no_occurrence() {
    let exporter = Exporter::new(Arc::new(Fixed(fixture::empty())), Arc::new(Idle));
    let text = exporter.render().unwrap();
    assert!(text.contains("tcp_observer_connections{state=\"established\",role=\"server\"} 0\n"));
    assert!(
        text.contains(
            "tcp_observer_connection_attempts_total{role=\"client\",port=\"other\",outcome=\"timed_out\"} 0\n"
        )
    );
    assert!(!text.contains("\ntcp_observer_port_handshake_duration_seconds"), "no label set has occurred");
    assert!(!text.contains("\ntcp_observer_program_run"), "the kernel keeps no statistics");
    assert!(!text.contains("in_progress") && !text.contains("not_seen"));
    assert!(text.contains("tcp_observer_handshake_completion_ratio{role=\"client\"} NaN\n"));
    assert!(text.contains("tcp_observer_recognised_total{note=\"keepalive\"} 0\n"));
    assert!(!text.contains("note=\"completed\"") && !text.contains("note=\"nothing\""));
    assert!(!text.contains("socket_disagreements") && !text.contains("socket_comparisons"), "nothing was compared");
    for without_sockets in ["listen_overflow_suspected_connections", "listeners_overflowing", "ports_available"] {
        assert!(!text.contains(without_sockets), "{without_sockets}");
    }
}

#[test]
fn a_source_that_is_gone_is_an_error_and_not_an_empty_exposition() {
    let error = Exporter::new(Arc::new(Gone), Arc::new(Idle)).render().unwrap_err();
    assert_eq!(format!("{error:#}"), "cannot read the tables: the maps are gone");
}
