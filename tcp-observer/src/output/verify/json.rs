//! One object for each end, one with the counts. Fields may be added, never renamed; what is unknown is `null`.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::{IpAddr, SocketAddr},
};

use serde::Serialize;

use super::{View, timer_word};
use crate::{
    kernel::{processes::Process, sockets},
    output::json::{Record, Seconds, Timestamp},
    verify::{Difference, Exception, Kind},
};

pub(super) fn write(view: &View<'_>, out: &mut impl Write) -> io::Result<()> {
    for &difference in &view.shown {
        serde_json::to_writer(&mut *out, &End::new(difference, view.process_of(difference)))?;
        out.write_all(b"\n")?;
    }
    serde_json::to_writer(&mut *out, &Counts { summary: Summary::new(view) })?;
    out.write_all(b"\n")
}

#[derive(Serialize)]
struct End<'a> {
    difference: &'static str,
    exception: Option<&'static str>,
    local: Address,
    remote: Address,
    socket: Option<Socket<'a>>,
    /// What the flow says of this end.
    state: Option<&'static str>,
    flow: Option<Record<'a>>,
    idle_seconds: Option<Seconds>,
    age_seconds: Option<Seconds>,
    state_age_seconds: Option<Seconds>,
    likely_reason: &'static str,
}

#[derive(Serialize)]
struct Address {
    addr: IpAddr,
    port: u16,
}

#[derive(Serialize)]
struct Socket<'a> {
    state: &'static str,
    receive_queue: u32,
    send_queue: u32,
    timer: Option<Timer>,
    inode: Option<u32>,
    uid: u32,
    process: Option<Owner<'a>>,
    cookie: u64,
}

#[derive(Serialize)]
struct Timer {
    kind: &'static str,
    expires_seconds: Seconds,
}

#[derive(Serialize)]
struct Owner<'a> {
    pid: u32,
    name: &'a str,
}

#[derive(Serialize)]
struct Counts {
    summary: Summary,
}

#[derive(Serialize)]
struct Summary {
    taken: Timestamp,
    tries: u32,
    compared: u64,
    agreed: u64,
    differing: BTreeMap<&'static str, u64>,
    excepted: BTreeMap<&'static str, u64>,
    passing: u64,
    changed_meanwhile: u64,
}

impl<'a> End<'a> {
    fn new(difference: &'a Difference, process: Option<&'a Process>) -> Self {
        let flow = difference.flow();
        let since = |unix_ns: u64| Seconds(difference.seen_unix_ns.saturating_sub(unix_ns));
        Self {
            difference: difference.kind().label(),
            exception: difference.exception.map(Exception::label),
            local: difference.local.into(),
            remote: difference.remote.into(),
            socket: difference.socket().map(|socket| Socket::new(socket, process)),
            state: difference.state().map(|state| state.label()),
            flow: flow.map(Record),
            idle_seconds: flow.map(|flow| since(flow.last_seen_unix_ns)),
            age_seconds: flow.map(|flow| since(flow.first_seen_unix_ns)),
            state_age_seconds: flow.map(|flow| since(flow.changed_unix_ns)),
            likely_reason: difference.exception.map_or(difference.likely_reason(), Exception::explanation),
        }
    }
}

impl<'a> Socket<'a> {
    fn new(socket: &sockets::Socket, process: Option<&'a Process>) -> Self {
        let timer = |timer: sockets::Timer| Timer {
            kind: timer_word(timer.kind),
            expires_seconds: Seconds(u64::from(timer.expires_ms) * 1_000_000),
        };
        Self {
            state: socket.state.label(),
            receive_queue: socket.receive_queue,
            send_queue: socket.send_queue,
            timer: socket.timer.map(timer),
            inode: Some(socket.inode).filter(|&inode| inode != 0),
            uid: socket.uid,
            process: process.map(|process| Owner { pid: process.pid, name: &process.name }),
            cookie: socket.cookie,
        }
    }
}

impl Summary {
    fn new(view: &View<'_>) -> Self {
        let report = view.report;
        Self {
            taken: Timestamp(report.taken_unix_ns),
            tries: report.tries,
            compared: report.compared,
            agreed: report.agreed,
            differing: Kind::ALL.iter().map(|&kind| (kind.label(), report.differing_in(kind))).collect(),
            excepted: Exception::ALL.iter().map(|&one| (one.label(), report.excepted_by(one))).collect(),
            passing: report.passing,
            changed_meanwhile: report.changed,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(end: SocketAddr) -> Self {
        Self { addr: end.ip(), port: end.port() }
    }
}
