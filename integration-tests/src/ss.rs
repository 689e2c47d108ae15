//! The kernel's own word on its sockets, by way of `ss`, and its comparison with the observer's.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use crate::{
    agent::{self, Agent},
    namespace::Namespace,
    run,
    wait::wait_until,
};

/// One TCP socket that is not listening, or one end of a flow as the observer has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Socket {
    pub local: SocketAddr,
    pub peer: SocketAddr,
    /// RFC 9293's name in snake case.
    pub state: &'static str,
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {} {}", self.local, self.peer, self.state)
    }
}

/// What `ss` calls a state, and what RFC 9293 does.
const STATES: [(&str, &str); 10] = [
    ("SYN-SENT", "syn_sent"),
    ("SYN-RECV", "syn_received"),
    ("ESTAB", "established"),
    ("FIN-WAIT-1", "fin_wait_1"),
    ("FIN-WAIT-2", "fin_wait_2"),
    ("CLOSE-WAIT", "close_wait"),
    ("CLOSING", "closing"),
    ("LAST-ACK", "last_ack"),
    ("TIME-WAIT", "time_wait"),
    ("LISTEN", "listen"),
];

/// All sockets of a namespace that are not listening.
#[track_caller]
pub fn sockets(namespace: &Namespace) -> BTreeSet<Socket> {
    let text = run::success(namespace.command("ss").arg("-Htan"));
    text.lines().filter_map(socket).filter(|socket| socket.state != "listen").collect()
}

/// A line of `ss -Htan`: state, two queues, local, peer.
fn socket(line: &str) -> Option<Socket> {
    let word = line.split_whitespace().next()?;
    let (_, state) = STATES.into_iter().find(|&(name, _)| name == word)?;
    let mut words = line.split_whitespace().skip(3);
    let mut addr = || words.next().and_then(addr_of);
    Some(Socket { local: addr()?, peer: addr()?, state })
}

/// The name of a state that a socket of a connection may have, among those that [`Socket`] uses.
pub fn state_named(name: &str) -> Option<&'static str> {
    STATES.into_iter().map(|(_, state)| state).find(|&state| state == name && state != "listen")
}

/// All sockets of a namespace that are not listening, and those of them in TIME_WAIT whose time is up within this many
/// seconds, by one look.
#[track_caller]
pub fn sockets_and_those_about_to_end(namespace: &Namespace, seconds: u64) -> (BTreeSet<Socket>, BTreeSet<Socket>) {
    let text = run::success(namespace.command("ss").arg("-Htano"));
    // Behind the addresses: `timer:(timewait,53sec,0)`; below ten seconds `9.043ms`, in the last one `860ms`, and nothing
    // at all when only the timer's coarseness keeps the socket.
    let ends_soon = |line: &str| {
        let Some(left) = line.split("timer:(timewait,").nth(1).and_then(|rest| rest.split(',').next()) else {
            return false;
        };
        let whole = match (left.strip_suffix("ms"), left.strip_suffix("sec")) {
            (Some(left), _) => left.split_once('.').map_or(Some(0), |(whole, _)| whole.parse().ok()),
            (None, Some(left)) => left.parse().ok(),
            (None, None) if left.is_empty() => Some(0),
            (None, None) => None,
        };
        whole.is_some_and(|left: u64| left < seconds)
    };
    let (mut all, mut ending) = (BTreeSet::new(), BTreeSet::new());
    for (line, socket) in text.lines().filter_map(|line| Some((line, socket(line)?))) {
        if ends_soon(line) {
            ending.insert(socket.clone());
        }
        all.insert(socket);
    }
    all.retain(|socket| socket.state != "listen");
    (all, ending)
}

/// An address and port as `ss` writes them: `*` for any, and `%` before the interface that a socket is bound to.
pub fn addr_of(word: &str) -> Option<SocketAddr> {
    let (ip, port) = word.rsplit_once(':')?;
    let ip = ip.split('%').next()?.trim_matches(['[', ']']);
    let ip = if ip == "*" { IpAddr::from(Ipv6Addr::UNSPECIFIED) } else { ip.parse().ok()? };
    Some(SocketAddr::new(ip, if port == "*" { 0 } else { port.parse().ok()? }))
}

/// The observer's local endpoints that the kernel should have a socket for.
pub fn local_endpoints(records: &[serde_json::Value]) -> BTreeSet<Socket> {
    let mut endpoints = BTreeSet::new();
    for record in records {
        for (this, that) in [("originator", "responder"), ("responder", "originator")] {
            let state = record[this]["state"].as_str().unwrap_or("null");
            let known = STATES.into_iter().find(|&(_, name)| name == state && name != "listen");
            if let (Some((_, state)), Some(true)) = (known, record[this]["local"].as_bool()) {
                endpoints.insert(Socket { local: addr(&record[this]), peer: addr(&record[that]), state });
            }
        }
    }
    endpoints
}

/// Address and port of a record's endpoint.
#[track_caller]
pub fn addr(endpoint: &serde_json::Value) -> SocketAddr {
    let ip = endpoint["addr"].as_str().and_then(|addr| addr.parse().ok());
    let port = endpoint["port"].as_u64().and_then(|port| u16::try_from(port).ok());
    match (ip, port) {
        (Some(ip), Some(port)) => SocketAddr::new(ip, port),
        _ => panic!("not an endpoint: {endpoint}"),
    }
}

/// Waits until the observer's local endpoints are the kernel's sockets, as far as `concerns` takes them in, and gives
/// that set. Connections to the agent itself, over a loopback that it may not watch, never concern. The kernel is asked before and after the observer, so that neither is compared with a moment gone by.
#[track_caller]
pub fn agree(agent: &Agent<'_>, limit: Duration, concerns: impl Fn(&Socket) -> bool) -> BTreeSet<Socket> {
    agree_among(agent, &[], limit, concerns)
}

/// The same among the flows that `dump` shows with these arguments: where there are many others.
#[track_caller]
pub fn agree_among(
    agent: &Agent<'_>,
    arguments: &[&str],
    limit: Duration,
    concerns: impl Fn(&Socket) -> bool,
) -> BTreeSet<Socket> {
    let to_agent = |socket: &Socket| [socket.local.port(), socket.peer.port()].contains(&agent::PORT);
    let concerns = |socket: &Socket| !to_agent(socket) && concerns(socket);
    wait_until("the observer and ss to agree", limit, || {
        let kernel = || sockets(agent.namespace()).into_iter().filter(&concerns).collect::<BTreeSet<_>>();
        let before = kernel();
        let records = agent.dump(arguments);
        let observed: BTreeSet<_> = local_endpoints(&records).into_iter().filter(&concerns).collect();
        let after = kernel();
        if before != after {
            return Err(format!("ss itself does not keep still: {} sockets, then {}", before.len(), after.len()));
        }
        if observed == after { Ok(observed) } else { Err(difference(&observed, &after)) }
    })
}

/// What only one of two sets has, a line each.
pub fn difference(observed: &BTreeSet<Socket>, kernel: &BTreeSet<Socket>) -> String {
    let lines = |title: &str, one: &BTreeSet<Socket>, other: &BTreeSet<Socket>| -> String {
        let only: Vec<_> = one.difference(other).collect();
        let shown: String = only.iter().take(12).map(|socket| format!("  {socket}\n")).collect();
        format!("{title} ({} of {}):\n{shown}", only.len(), one.len())
    };
    lines("only the observer has", observed, kernel) + &lines("only ss has", kernel, observed)
}
