//! `verify` and the agent's self-check beside real connections: they agree with `ss` on what agrees, find what was made
//! wrong, and know the reasons that are none of the observer's.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{Shutdown, SocketAddr},
    time::Duration,
};

use integration_tests::{
    agent::{PORT as AGENT_PORT, binary},
    pair::WIRE,
    pinned,
    prelude::*,
    run::{self, Finished},
    traffic::{begin_connect, reset_on_close},
    wait::equal,
};
use serde_json::Value;
use tcp_observer_common::conn::{Role, State};

const PORT: u16 = 8080;
/// What the agent's threads take to find something, at most.
const CHECKED: Duration = Duration::from_secs(30);

/// The ends that `verify -o json` shows, its counts, and how it ended.
#[track_caller]
fn verify(agent: &Agent<'_>, arguments: &[&str]) -> (Vec<Value>, Value, Finished) {
    let finished = agent.command("verify", &[&["-o", "json"], arguments].concat());
    let object = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON ({error}): {finished:#?}"));
    let mut lines: Vec<Value> = finished.stdout.lines().map(object).collect();
    let summary = lines.pop().map(|last| last["summary"].clone()).unwrap_or_else(|| panic!("{finished:#?}"));
    (lines, summary, finished)
}

/// The exceptions that occurred.
fn excepted(summary: &Value) -> BTreeMap<&str, u64> {
    let all = summary["excepted"].as_object().expect("counts by reason");
    all.iter().filter_map(|(word, count)| Some((word.as_str(), count.as_u64().filter(|&count| count > 0)?))).collect()
}

/// An address of the client's, to which the server connects.
fn client_addr(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(family.host(1), port)
}

#[test]
fn connections_in_every_state_agree_and_their_number_is_that_of_ss() {
    let _bound = bounded();
    let pair = Pair::new();
    let agent = Agent::start(&pair.client, &["--interface", WIRE]);
    let mut held = Vec::new();
    let mut attempts = Vec::new();
    for family in Family::BOTH {
        let listener = Listener::new(&pair.server, pair.server_addr(family, PORT));
        let open = || Connection::open(&pair.client, &listener);
        let [established, fin_wait_2, close_wait] = [open(), open(), open()];
        fin_wait_2.client.shutdown(Shutdown::Write).unwrap();
        close_wait.server.shutdown(Shutdown::Write).unwrap();
        established.send(1000);
        // Who closes first waits.
        let Connection { client, server } = open();
        drop(client);
        assert_eq!((&server).read(&mut [0]).unwrap(), 0);
        drop(server);
        held.extend([established, fin_wait_2, close_wait]);
    }
    let v4 = Listener::new(&pair.server, pair.server_addr(Family::V4, 8081));
    let [fin_wait_1, last_ack] = [(); 2].map(|()| Connection::open(&pair.client, &v4));
    last_ack.server.shutdown(Shutdown::Write).unwrap();
    assert_eq!((&last_ack.client).read(&mut [0]).unwrap(), 0);
    // From here on nothing of that port arrives, and neither does the second step of the client's own listener.
    let own: Vec<_> =
        Family::BOTH.iter().map(|&family| Listener::new(&pair.client, client_addr(family, 8083))).collect();
    pair.server.drop_incoming("tcp dport { 8081, 8082 }");
    pair.server.drop_incoming("tcp sport 8083");
    fin_wait_1.client.shutdown(Shutdown::Write).unwrap();
    last_ack.client.shutdown(Shutdown::Write).unwrap();
    for family in Family::BOTH {
        attempts.push(begin_connect(&pair.client, pair.server_addr(family, 8082)));
        attempts.push(begin_connect(&pair.server, client_addr(family, 8083)));
    }
    let all =
        ["close_wait", "established", "fin_wait_1", "fin_wait_2", "last_ack", "syn_received", "syn_sent", "time_wait"];
    wait_until("every state to agree", SOON, || {
        let is_agents = |socket: &Socket| [socket.local.port(), socket.peer.port()].contains(&AGENT_PORT);
        let before = ss::sockets(&pair.client);
        let (ends, summary, finished) = verify(&agent, &[]);
        if before != ss::sockets(&pair.client) {
            return Err("ss itself does not keep still".to_owned());
        }
        let (lo, wire): (Vec<_>, Vec<_>) = before.iter().partition(|socket| is_agents(socket));
        let mut states: Vec<_> = wire.iter().map(|socket| socket.state).collect();
        states.sort_unstable();
        states.dedup();
        equal("states", states, all.to_vec())?;
        equal("code", (finished.code, ends.len()), (Some(0), 0))?;
        equal("compared", summary["compared"].as_u64(), Some(before.len() as u64))?;
        equal("agreed", summary["agreed"].as_u64(), Some(wire.len() as u64))?;
        equal("changed", summary["changed_meanwhile"].as_u64(), Some(0))?;
        let expected = if lo.is_empty() { BTreeMap::new() } else { [("not_observed", lo.len() as u64)].into() };
        equal("excepted", excepted(&summary), expected)
    });
    let table = agent.command("verify", &["--state", "estab"]);
    assert!(
        table.code == Some(0) && table.stdout.contains("\ndiffering: 0 state, 0 no_flow, 0 no_socket\n"),
        "{table:#?}"
    );
    drop((held, fin_wait_1, last_ack, attempts, own));
    agent.stop();
}

#[test]
fn what_was_made_wrong_is_found_and_measured_and_told_once() {
    let _bound = bounded();
    let pair = Pair::new();
    // Small tables: the pause between two comparisons is 200 times what one takes of a CPU.
    let tables = ["--max-flows", "1000", "--max-half-open", "1000"];
    let agent = Agent::start(&pair.client, &[&["--interface", WIRE, "--self-check", "500ms"], &tables[..]].concat());
    let listener = Listener::new(&pair.server, pair.server_addr(Family::V4, PORT));
    let [right, wrong, lost] = [(); 3].map(|()| Connection::open(&pair.client, &listener));
    let counts = |kinds: [u64; 3]| {
        let metrics = agent.metrics();
        let count = |kind| metrics.sum("socket_disagreements", &[("kind", kind)]);
        let seen = ["state", "no_flow", "no_socket"].map(count);
        equal("disagreements", seen, kinds.map(|count| Some(count as f64)))
    };
    wait_until("a comparison", CHECKED, || counts([0; 3]));

    let port = |connection: &Connection| connection.client_addr().port();
    // A port that no connection has.
    const GHOST: u16 = 20_000;
    pinned::forget(&agent, port(&lost));
    pinned::falsify(&agent, port(&wrong), |flow| {
        flow.word.0.set(flow.word.load().with_state(Role::Originator, State::CloseWait).0);
    });
    pinned::invent(&agent, port(&right), |key| {
        let own = if key.low_port == PORT { &mut key.high_port } else { &mut key.low_port };
        *own = GHOST;
    });

    let (ends, summary, finished) = verify(&agent, &[]);
    assert_eq!((finished.code, summary["tries"].as_u64()), (Some(4), Some(5)), "{finished:#?}");
    assert!(finished.stderr.contains("3 local ends differ"), "{finished:#?}");
    let end = |kind: &str| {
        let mut of_kind = ends.iter().filter(|end| end["difference"] == kind);
        let (Some(end), None) = (of_kind.next(), of_kind.next()) else { panic!("not one `{kind}`: {finished:#?}") };
        (end["local"]["port"].as_u64(), end["socket"]["state"].as_str(), end["state"].as_str())
    };
    assert_eq!(end("state"), (Some(port(&wrong).into()), Some("established"), Some("close_wait")));
    assert_eq!(end("no_flow"), (Some(port(&lost).into()), Some("established"), None));
    assert_eq!(end("no_socket"), (Some(GHOST.into()), None, Some("established")));
    let state = ends.iter().find(|end| end["difference"] == "state").unwrap();
    assert_eq!(state["socket"]["process"]["pid"], std::process::id());

    // Only what is asked for counts.
    let own = port(&right).to_string();
    assert_eq!(verify(&agent, &["--port", &own]).2.code, Some(0));
    assert_eq!(verify(&agent, &["--port", &GHOST.to_string(), "--tries", "1"]).2.code, Some(4));

    // Another namespace has other sockets.
    let mut elsewhere = pair.server.command(binary());
    let elsewhere = run::finish(elsewhere.arg("verify").arg("--pin-dir").arg(agent.pin_dir()));
    assert!(elsewhere.code == Some(3) && elsewhere.stderr.contains("another network namespace"), "{elsewhere:#?}");

    wait_until("the agent to find the same", CHECKED, || counts([1, 1, 1]));
    for connection in [&wrong, &lost] {
        reset_on_close(&connection.server);
    }
    drop((wrong, lost));
    pinned::forget(&agent, GHOST);
    wait_until("the agent to find no more", CHECKED, || counts([0; 3]));
    let said = agent.stderr();
    assert_eq!(said.matches("local ends differ from the kernel's sockets").count(), 1, "{said}");
    assert_eq!(said.matches("agree with the kernel's sockets again").count(), 1, "{said}");
    let metrics = agent.metrics();
    assert!(metrics.count("socket_comparisons_total", &[]) >= 3);
    assert!(metrics.count("sockets_compared", &[]) >= 1);
    agent.stop();
}

#[test]
fn what_packets_cannot_tell_is_excepted_by_its_reason() {
    let _bound = bounded();
    let pair = Pair::new();
    let agent = Agent::start(&pair.server, &["--interface", WIRE, "--self-check", "off"]);
    let listen = |port| Listener::new(&pair.server, pair.server_addr(Family::V4, port));

    // The handshake is over, and the listener waits for data.
    let deferring = listen(8081);
    deferring.set_tcp_option(libc::TCP_DEFER_ACCEPT, 60);
    let mut held = vec![begin_connect(&pair.client, deferring.addr())];

    // Closed with more to send than the other end reads.
    let sending = listen(8082);
    let Connection { client, server } = Connection::open(&pair.client, &sending);
    server.set_nonblocking(true).unwrap();
    while (&server).write(&[0; 65536]).is_ok() {}
    drop(server);
    held.push(client);

    // The kernel keeps no TIME_WAIT.
    let counted = listen(8083);
    pair.server.sysctl("ipv4/tcp_max_tw_buckets", "0");
    let Connection { client, server } = Connection::open(&pair.client, &counted);
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!((&client).read(&mut [0]).unwrap(), 0);
    drop(client);
    assert_eq!((&server).read(&mut [0]).unwrap(), 0);
    drop(server);

    // Two handshakes that end when the queue has room for one.
    let full = listen(8084);
    pair.server.drop_incoming("tcp dport 8084 tcp flags & (syn | ack) == ack");
    held.extend([(); 2].map(|()| begin_connect(&pair.client, full.addr())));
    wait_until("both requests", SOON, || {
        let waiting = |socket: &&Socket| socket.local.port() == 8084 && socket.state == "syn_received";
        equal("requests", ss::sockets(&pair.server).iter().filter(waiting).count(), 2)
    });
    full.set_backlog(0);
    pair.server.let_all_pass();

    // A SYN that does not come as far as the hook.
    pair.server.drop_outgoing("tcp dport 9999");
    held.push(begin_connect(&pair.server, client_addr(Family::V4, 9999)));

    // A listener without a memory.
    let forgetful = listen(8085);
    pair.server.sysctl("ipv4/tcp_syncookies", "2");
    pair.client.drop_incoming("tcp sport 8085");
    held.push(begin_connect(&pair.client, forgetful.addr()));

    let expected = BTreeMap::from([
        ("accept_queue_full", 1),
        ("deferred_accept", 1),
        ("fin_unsent", 1),
        ("syn_cookies", 1),
        ("syn_unseen", 1),
        ("time_wait_overflow", 1),
    ]);
    wait_until("each reason to be found", CHECKED, || {
        let (ends, summary, finished) = verify(&agent, &["--all"]);
        let mut found = excepted(&summary);
        let on_lo = found.remove("not_observed").unwrap_or(0);
        equal("reasons", &found, &expected)?;
        equal("code", finished.code, Some(0))?;
        let shown = ends.iter().filter(|end| end["exception"].is_string()).count() as u64;
        equal("shown", shown, on_lo + expected.len() as u64)
    });

    // An attempt that its application has given up: nothing is sent, and the agent looks it up soon; on a slow day before
    // it is asked.
    pair.client.drop_incoming("tcp dport 9900-9909");
    let was_awaited = (9900..9910).any(|port: u16| {
        let attempt = begin_connect(&pair.server, client_addr(Family::V4, port));
        wait_until("the SYN", SOON, || equal("flows", agent.flows_of_port(port).len(), 1));
        drop(attempt);
        let (_, summary, finished) = verify(&agent, &["--port", &port.to_string()]);
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        excepted(&summary) == BTreeMap::from([("awaited_lookup", 1)])
    });
    assert!(was_awaited);
    drop(held);
    agent.stop();
}
