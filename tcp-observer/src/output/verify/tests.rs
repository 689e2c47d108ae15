//! Whole outputs of a made report.

use tcp_observer_common::conn::{Locality, State};

use super::*;
use crate::{
    kernel::sockets::{Socket, Timer},
    snapshot::fixture::{self, TAKEN_UNIX_NS},
    verify::{Exception, Views},
};

fn difference(views: Views, exception: Option<Exception>) -> Difference {
    let (local, remote) = match &views {
        Views::Both(socket, _) | Views::SocketOnly(socket) => (socket.local, socket.remote),
        Views::FlowOnly(flow) => {
            ((flow.responder.addr, flow.responder.port).into(), (flow.originator.addr, flow.originator.port).into())
        }
    };
    Difference { local, remote, views, seen_unix_ns: TAKEN_UNIX_NS, exception }
}

fn report() -> Report {
    let flow = |peer: &str| Box::new(fixture::flow(peer, "192.0.2.1:443", Some(Locality::Server)));
    let mut closing = Socket::fixture("192.0.2.1:443", "198.51.100.1:40000", State::FinWait1);
    closing.timer = Some(Timer { kind: TimerKind::Retransmit, expires_ms: 1500 });
    closing.send_queue = 1;
    let forgotten = Socket::fixture("[2001:db8::1]:443", "[2001:db8:1::1]:40000", State::Established);
    let lo = Socket::fixture("127.0.0.1:1", "127.0.0.1:2", State::Established);
    Report {
        taken_unix_ns: TAKEN_UNIX_NS,
        tries: 5,
        compared: 1234,
        agreed: 1231,
        changed: 7,
        passing: 2,
        excepted: vec![difference(Views::SocketOnly(lo), Some(Exception::NotObserved))],
        differing: vec![
            difference(Views::FlowOnly(flow("198.51.100.2:2")), None),
            difference(Views::SocketOnly(forgotten), None),
            difference(Views::Both(closing, flow("198.51.100.1:40000")), None),
        ],
    }
}

fn written(shown: Shown, format: Format) -> String {
    let report = report();
    let mut view = View::without_processes(&report, shown);
    view.processes.insert(1, Process { pid: 77, name: "nginx".to_owned() });
    let mut out = Vec::new();
    view.write(format, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_table_shows_both_views_what_they_mean_and_the_counts() {
    let expected = "\
DIFFERENCE  LOCAL              REMOTE                 SOCKET       FLOW         PHASE        AGE     IN STATE  IDLE   QUEUES  TIMER            HISTORY  PROCESS
state       192.0.2.1:443      198.51.100.1:40000     fin_wait_1   established  established  10m00s  10m00s    9m00s  0/1     retransmit 1.5s  ShADad   nginx (77)
no_flow     [2001:db8::1]:443  [2001:db8:1::1]:40000  established  -            -            -       -         -      0/0     -                -        nginx (77)
no_socket   192.0.2.1:443      198.51.100.2:2         -            established  established  10m00s  10m00s    9m00s  -       -                ShADad   -
";
    let text = written(Shown::default(), Format::Table);
    assert!(text.starts_with(expected), "{text}");
    for sentence in
        ["\nno flow: older than the agent", "\nno socket: it ended without a packet", "\nthe states differ: "]
    {
        assert_eq!(text.matches(sentence).count(), 1, "{sentence}");
    }
    let counts = "\
1,234 sockets compared in 5 tries: 1,231 agree, 1 excepted, 2 passing; 7 changed meanwhile and were not compared
  excepted: 1 not_observed: its packets pass no observed interface (lo, or an interface that the agent was not told of)
differing: 1 state, 1 no_flow, 1 no_socket
";
    assert!(text.ends_with(counts), "{text}");
}

#[test]
fn the_excepted_ends_are_shown_when_they_are_asked_for_and_no_more_than_wanted() {
    let all = written(Shown { excepted: true, limit: None }, Format::Table);
    assert!(all.contains("\n(not_observed)  127.0.0.1:1 "), "{all}");
    let one = written(Shown { excepted: true, limit: Some(1) }, Format::Json);
    assert_eq!(one.lines().count(), 2);
    assert!(one.contains("\"compared\":1234"), "the counts are of all");
}

#[test]
fn json_has_an_object_for_each_end_and_one_with_the_counts() {
    let text = written(Shown { excepted: true, limit: None }, Format::Json);
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 5);
    let find = |kind: &str| lines.iter().find(|line| line["difference"] == kind).unwrap();
    let state = find("state");
    assert_eq!(state["local"], serde_json::json!({"addr": "192.0.2.1", "port": 443}));
    assert_eq!(
        state["socket"],
        serde_json::json!({
            "state": "fin_wait_1", "receive_queue": 0, "send_queue": 1,
            "timer": {"kind": "retransmit", "expires_seconds": 1.5},
            "inode": 1, "uid": 0, "process": {"pid": 77, "name": "nginx"}, "cookie": 1
        })
    );
    assert_eq!((&state["state"], &state["flow"]["phase"]), (&"established".into(), &"established".into()));
    assert_eq!(state["flow"]["history"], "ShADad");
    assert_eq!((&state["idle_seconds"], &state["age_seconds"]), (&540.into(), &600.into()));
    assert!(find("no_flow")["flow"].is_null() && find("no_socket")["socket"].is_null());
    assert_eq!(lines[3]["exception"], "not_observed");
    let summary = &lines[4]["summary"];
    assert_eq!(summary["taken"], "2026-01-01T00:10:00.000000000Z");
    for (field, count) in [("tries", 5), ("compared", 1234), ("agreed", 1231), ("passing", 2), ("changed_meanwhile", 7)]
    {
        assert_eq!(summary[field], count, "{field}");
    }
    assert_eq!(summary["differing"], serde_json::json!({"state": 1, "no_flow": 1, "no_socket": 1}));
    assert_eq!((&summary["excepted"]["not_observed"], &summary["excepted"]["syn_cookies"]), (&1.into(), &0.into()));
}
