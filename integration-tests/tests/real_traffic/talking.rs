//! What connections do while they live: keepalives, closed windows, repetitions, heartbeats.

use std::{io::Write, thread, time::Duration};

use integration_tests::{
    netstat::tcp_counter,
    pinned::{self, Observed},
    prelude::*,
    tcp_info::TcpInfo,
    traffic::set_tcp_option,
};
use tcp_observer_common::conn::{How, Initiator, Note, Phase, Role};

const PORT: u16 = 8080;
/// What a client has to hold on to, once and for all.
const TO_SERVER: &str = "tcp dport 8080";

#[track_caller]
fn wait_for(agent: &Agent<'_>, what: &str, holds: impl Fn(&Observed) -> bool) -> Observed {
    wait_until(what, SOON, || {
        let observed = pinned::flow_of_port(agent, PORT)?;
        if holds(&observed) { Ok(observed) } else { Err(format!("{observed}: {:#?}", observed.flow)) }
    })
}

#[track_caller]
fn opened(pair: &Pair, family: Family) -> (Listener, Connection) {
    let listener = Listener::new(&pair.server, pair.server_addr(family, PORT));
    let connection = Connection::open(&pair.client, &listener);
    (listener, connection)
}

/// One each second; the kernel counts them too. Unanswered ones end the connection.
#[test]
fn keepalives_are_counted_and_so_is_their_lack_of_an_answer() {
    let _bound = bounded();
    at_once(EITHER_END, |scene, pair| {
        let agent = scene.observe(pair);
        let (_listener, connection) = opened(pair, Family::V4);
        for (option, value) in [(libc::TCP_KEEPIDLE, 1), (libc::TCP_KEEPINTVL, 1), (libc::TCP_KEEPCNT, 2)] {
            set_tcp_option(&connection.client, option, value);
        }
        keep_alive(&connection);
        let probes = |observed: &Observed| observed.half(Role::Originator).keepalives.get();
        let answered = wait_for(&agent, "two keepalives", |observed| probes(observed) >= 2);
        let unanswered = |observed: &Observed| observed.flow.unanswered_keepalives(observed.word(), Role::Originator);
        assert!(answered.has(Note::Keepalive), "{answered}");
        assert_eq!(answered.word().phase(), Phase::Established);
        wait_for(&agent, "the answer to the last", |observed| unanswered(observed) == 0);
        // The server's kernel does not see the next ones, though an observer before its filter does.
        pair.server.drop_incoming(TO_SERVER);
        let lost = wait_for(&agent, "one without an answer", |observed| unanswered(observed) > 0);
        assert_eq!(lost.word().phase(), Phase::Established);
        let ended = wait_for(&agent, "the end", |observed| observed.word().phase() == Phase::Closed);
        assert_eq!((ended.word().initiator(), ended.word().how()), (Initiator::Originator, How::Rst), "{ended}");
        assert_eq!(u64::from(probes(&ended)), tcp_counter(&pair.client, "TCPKeepAlive"), "{ended}");
        assert_eq!(pinned::noted(&agent, Note::Keepalive), u64::from(probes(&ended)));
        agent.stop();
    });
}

fn keep_alive(connection: &Connection) {
    use std::os::fd::AsRawFd;
    let on = 1_i32;
    // SAFETY: the value is valid for its own size.
    let result = unsafe {
        let value = (&raw const on).cast();
        libc::setsockopt(connection.client.as_raw_fd(), libc::SOL_SOCKET, libc::SO_KEEPALIVE, value, 4)
    };
    assert_eq!(result, 0);
}

#[test]
fn a_receiver_that_does_not_read_closes_its_window() {
    let _bound = bounded();
    at_once(EITHER_END, |scene, pair| {
        let agent = scene.observe(pair);
        let listener = Listener::new(&pair.server, pair.server_addr(Family::V6, PORT));
        listener.set_receive_buffer(4096);
        let connection = Connection::open(&pair.client, &listener);
        connection.client.set_nonblocking(true).unwrap();
        let mut filled = 0;
        while let Ok(written) = (&connection.client).write(&[b'x'; 4096]) {
            filled += written;
        }
        let probes = |observed: &Observed| observed.half(Role::Originator).window_probes.get();
        let observed = wait_for(&agent, "probes of the closed window", |observed| probes(observed) >= 2);
        assert!(observed.has(Note::ZeroWindow) && observed.has(Note::WindowProbe), "{observed}");
        assert!(observed.half(Role::Responder).zero_windows.get() >= 2, "{observed}");
        assert!(observed.half(Role::Responder).window_is_zero(), "{observed}");
        let before = u64::from(probes(&observed));
        let by_kernel = tcp_counter(&pair.client, "TCPWinProbe");
        assert!(before <= by_kernel, "{before} probes, the kernel has sent {by_kernel}");
        // And it opens again.
        let mut server = &connection.server;
        let mut received = 0;
        while received < filled {
            received += std::io::Read::read(&mut server, &mut [0; 65_536]).expect("there is more");
        }
        wait_for(&agent, "an open window", |observed| !observed.half(Role::Responder).window_is_zero());
        agent.stop();
    });
}

/// One segment is lost behind the observer, at the server's filter; the client's socket counts what it sends again.
#[test]
fn what_is_sent_again_is_counted_as_tcp_info_counts_it() {
    let _bound = bounded();
    at_once(EITHER_END, |scene, _| {
        for family in Family::BOTH {
            let pair = &Pair::new();
            let agent = scene.observe(pair);
            let (_listener, connection) = opened(pair, family);
            connection.send(100);
            pair.server.drop_incoming(TO_SERVER);
            (&connection.client).write_all(&[b'x'; 100]).unwrap();
            wait_until("a repetition", SOON, || match TcpInfo::of(&connection.client).total_retrans {
                0 => Err("nothing sent again".into()),
                _ => Ok(()),
            });
            pair.server.let_all_pass();
            std::io::Read::read_exact(&mut &connection.server, &mut [0; 100]).expect("it arrives");
            let counted = |observed: &Observed| observed.half(Role::Originator).retransmits.get();
            let observed = wait_for(&agent, "the repetitions", |observed| {
                counted(observed) == TcpInfo::of(&connection.client).total_retrans
            });
            assert!(observed.has(Note::Retransmitted), "{observed}");
            assert_eq!(observed.half(Role::Responder).retransmits.get(), 0, "{observed}");
            agent.stop();
        }
    });
}

#[test]
fn small_messages_at_a_steady_period_are_a_heartbeat() {
    const PERIOD: Duration = Duration::from_millis(1200);
    let _bound = bounded();
    at_once(EITHER_END, |scene, pair| {
        let agent = scene.observe(pair);
        let (_listener, connection) = opened(pair, Family::V4);
        for _ in 0..5 {
            thread::sleep(PERIOD);
            connection.send(10);
        }
        let observed = wait_for(&agent, "a heartbeat", |observed| observed.has(Note::Heartbeat));
        let period = observed.half(Role::Originator).heartbeat_ns().expect("it was noted");
        // A sleeper wakes late, on a busy machine by some hundredths of a second.
        assert!((1_200_000_000..1_350_000_000).contains(&(period + 10_000_000)), "{period} ns");
        assert_eq!(observed.half(Role::Responder).heartbeat_ns(), None, "{observed}");
        agent.stop();
    });
}
