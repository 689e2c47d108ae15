//! How connections end, and what comes after: resets of all sorts, ports used again, peers that have forgotten.

use std::{
    net::{Shutdown, SocketAddr},
    thread,
    time::Duration,
};

use integration_tests::{
    pinned::{self, Observed},
    prelude::*,
    traffic::{connect_again, reset_on_close},
    wait::equal,
};
use tcp_observer_common::conn::{How, Initiator, Note, Outcome, Phase, Role, State};

const PORT: u16 = 8080;

struct Opened<'p> {
    agent: Agent<'p>,
    connection: Connection,
    listener: Listener,
}

impl<'p> Opened<'p> {
    #[track_caller]
    fn new(scene: Scene, pair: &'p Pair, family: Family) -> Self {
        let agent = scene.observe(pair);
        let listener = Listener::new(&pair.server, pair.server_addr(family, PORT));
        // Any port, which others may have afterwards.
        let own = SocketAddr::new(family.host(1), 0);
        let client = connect_again(&pair.client, own, listener.addr()).expect("it connects");
        let connection = Connection { client, server: listener.accept() };
        connection.send(10);
        Self { agent, connection, listener }
    }
}

#[track_caller]
fn wait_for(agent: &Agent<'_>, what: &str, holds: impl Fn(&Observed) -> bool) -> Observed {
    wait_until(what, SOON, || {
        let observed = pinned::flow_of_port(agent, PORT)?;
        if holds(&observed) { Ok(observed) } else { Err(observed.to_string()) }
    })
}

fn is_closed(observed: &Observed) -> bool {
    observed.word().phase() == Phase::Closed
}

#[test]
fn data_towards_an_end_that_has_closed_is_noted() {
    let _bound = bounded();
    for scene in EITHER_END {
        for family in Family::BOTH {
            let pair = Pair::new();
            let Opened { agent, connection, listener: _listener } = Opened::new(scene, &pair, family);
            connection.client.shutdown(Shutdown::Write).unwrap();
            wait_for(&agent, "the half-close", |observed| observed.word().phase() == Phase::HalfClosed);
            assert!(!pinned::flow_of_port(&agent, PORT).unwrap().has(Note::HalfCloseData));
            connection.answer(500);
            let observed = wait_for(&agent, "data", |observed| observed.has(Note::HalfCloseData));
            assert_eq!(observed.word().phase(), Phase::HalfClosed, "{observed}");
            assert_eq!(observed.half(Role::Responder).payload_bytes.get(), 500, "{observed}");
            thread::sleep(Duration::from_millis(50));
            drop(connection.server);
            let ended = wait_for(&agent, "the end", |observed| observed.word().phase() == Phase::TimeWait);
            let lasted = ended.flow.times.half_close_ns.get();
            assert!((50_000_000..8_000_000_000).contains(&lasted), "half-closed for {lasted} ns");
            agent.stop();
        }
    }
}

/// Linux resets a connection that is closed with data unread (RFC 2525, section 2.17), and one without time to linger.
#[test]
fn a_close_that_throws_data_away_is_abortive() {
    let _bound = bounded();
    for scene in EITHER_END {
        for lingers in [true, false] {
            let pair = Pair::new();
            let Opened { agent, connection, listener: _listener } = Opened::new(scene, &pair, Family::V4);
            if lingers {
                std::io::Write::write_all(&mut &connection.client, b"never read").unwrap();
                wait_for(&agent, "the data", |o| o.half(Role::Originator).payload_bytes.get() == 20);
            } else {
                reset_on_close(&connection.server);
            }
            drop(connection.server);
            let observed = wait_for(&agent, "the reset", is_closed);
            assert!(observed.has(Note::AbortiveClose) && !observed.has(Note::ResetAfterFin), "{observed}");
            assert_eq!((observed.word().initiator(), observed.word().how()), (Initiator::Responder, How::Rst));
            agent.stop();
        }
    }
}

#[test]
fn a_reset_after_a_fin_is_told_from_one_instead_of_it() {
    let _bound = bounded();
    for scene in EITHER_END {
        let pair = Pair::new();
        let Opened { agent, connection, listener: _listener } = Opened::new(scene, &pair, Family::V6);
        std::io::Write::write_all(&mut &connection.client, b"never read").unwrap();
        connection.client.shutdown(Shutdown::Write).unwrap();
        wait_for(&agent, "the half-close", |observed| observed.word().phase() == Phase::HalfClosed);
        drop(connection.server);
        let observed = wait_for(&agent, "the reset", is_closed);
        assert!(observed.has(Note::ResetAfterFin) && !observed.has(Note::AbortiveClose), "{observed}");
        agent.stop();
    }
}

/// A new SYN from the same port takes the TIME-WAIT of whoever has it.
#[test]
fn a_port_in_time_wait_is_used_again() {
    let _bound = bounded();
    at_once(EITHER_END, |scene, pair| {
        // A client's own TIME-WAIT gives way after a second.
        pair.client.sysctl("ipv4/tcp_tw_reuse", "1");
        for closes_first in [Side::Server, Side::Client] {
            let Opened { agent, connection, listener } = Opened::new(scene, pair, Family::V4);
            let own = connection.client_addr();
            let Connection { client, server } = connection;
            if closes_first == Side::Server {
                drop(server);
                wait_for(&agent, "its FIN", |observed| observed.word().state(Role::Originator) == State::CloseWait);
                drop(client);
            } else {
                drop(client);
                wait_for(&agent, "its FIN", |observed| observed.word().state(Role::Responder) == State::CloseWait);
                drop(server);
            }
            wait_for(&agent, "TIME-WAIT", |observed| observed.word().phase() == Phase::TimeWait);
            thread::sleep(Duration::from_millis(if closes_first == Side::Server { 10 } else { 1_200 }));
            let again = connect_again(&pair.client, own, listener.addr()).expect("the port is free");
            let accepted = listener.accept();
            let observed = wait_for(&agent, "the new connection", |observed| observed.has(Note::TimeWaitReused));
            assert_eq!(observed.originator, own);
            wait_until("it to be established", SOON, || {
                let observed = pinned::flow_of_port(&agent, PORT)?;
                equal("phase", observed.word().phase(), Phase::Established)?;
                equal("outcome", observed.word().outcome(), Outcome::Completed)
            });
            let completed = [("outcome", "completed"), ("role", scene.side.role())];
            assert_eq!(agent.metrics().count("connection_attempts_total", &completed), 2);
            reset_on_close(&again);
            drop((again, accepted));
            agent.stop();
        }
    });
}

/// The client forgets its connection without a word, and opens it anew from the same port: the server challenges the
/// SYN, the client resets what it does not know, and its next SYN gets through.
#[test]
fn a_peer_that_has_lost_the_connection_is_told_by_its_reset() {
    let _bound = bounded();
    at_once(EITHER_END, |scene, pair| {
        let Opened { agent, connection, listener } = Opened::new(scene, pair, Family::V4);
        let own = connection.client_addr();
        pair.client.drop_outgoing("tcp dport 8080");
        reset_on_close(&connection.client);
        drop(connection.client);
        wait_until("the client to have forgotten", SOON, || {
            let left = ss::sockets(&pair.client).into_iter().filter(|socket| socket.peer.port() == PORT);
            equal("sockets", left.count(), 0)
        });
        pair.client.let_all_pass();
        let before = pinned::flow_of_port(&agent, PORT).unwrap();
        assert_eq!(before.word().phase(), Phase::Established, "{before}");
        let _again = connect_again(&pair.client, own, listener.addr()).expect("the second SYN gets through");
        let observed = wait_for(&agent, "the new connection", |observed| {
            observed.word().phase() == Phase::Established && observed.flow.times.first_ns != before.flow.times.first_ns
        });
        assert_eq!(observed.originator, own);
        for note in [Note::SynInConnection, Note::PeerRestarted, Note::AbortiveClose] {
            assert_eq!(pinned::noted(&agent, note), 1, "{note:?}");
        }
        agent.stop();
    });
}
