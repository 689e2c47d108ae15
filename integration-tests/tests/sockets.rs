//! The kernel's socket table as the observer reads it, beside what `ss` reads and what the sockets say of themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    mem::size_of,
    net::{Shutdown, SocketAddr, TcpStream},
    os::fd::AsRawFd,
};

use integration_tests::{
    pair::WIRE,
    prelude::*,
    run,
    traffic::{begin_connect, connect},
    wait::equal,
};
use tcp_observer::kernel::sockets::{self, Listening, Timer, TimerKind};
use tcp_observer_common::conn::State;

const PORT: u16 = 8080;

/// The same address as the wire has it.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Waits until the table's states are these and are those of `ss`, finds each socket by its tuple, too, and gives the
/// sockets.
#[track_caller]
fn agreed(namespace: &Namespace, states: &[&str]) -> Vec<sockets::Socket> {
    let sockets = wait_until("the sockets to be in their states", SOON, || {
        let ours = namespace.within(sockets::connections).map_err(|error| error.to_string())?;
        let seen: BTreeSet<_> = ours
            .iter()
            .map(|socket| Socket { local: socket.local, peer: socket.remote, state: socket.state.label() })
            .collect();
        let mut kernels = ss::sockets(namespace);
        kernels = kernels
            .into_iter()
            .map(|one| Socket { local: canonical(one.local), peer: canonical(one.peer), ..one })
            .collect();
        equal("sockets", seen.len(), ours.len())?;
        if seen != kernels {
            return Err(ss::difference(&seen, &kernels));
        }
        let mut words: Vec<_> = ours.iter().map(|socket| socket.state.label()).collect();
        words.sort_unstable();
        equal("states", words, states.to_vec())?;
        Ok(ours)
    });
    for socket in &sockets {
        let found = namespace.within(|| sockets::state_of(socket.local, socket.remote, socket.interface));
        assert_eq!(found.unwrap(), Some(socket.state), "{socket:?}");
    }
    sockets
}

/// Columns of `ss` for the sockets that a filter takes: both queues, both addresses, and the rest.
#[track_caller]
fn rows(namespace: &Namespace, filter: &str) -> BTreeMap<SocketAddr, (u32, u32, String)> {
    let text = run::success(namespace.command("ss").arg("-Htano").args(filter.split_whitespace()));
    let row = |line: &str| {
        let mut words = line.split_whitespace().skip_while(|word| word.parse::<u32>().is_err());
        let mut queue = || words.next().unwrap().parse().unwrap();
        let queues: (u32, u32) = (queue(), queue());
        let local = words.next().and_then(ss::addr_of).unwrap();
        (canonical(local), (queues.0, queues.1, words.skip(1).collect()))
    };
    text.lines().map(row).collect()
}

fn cookie(stream: &TcpStream) -> u64 {
    let (mut cookie, mut length) = (0_u64, size_of::<u64>() as libc::socklen_t);
    // SAFETY: the kernel writes at most `length` bytes.
    let result = unsafe {
        let value = (&raw mut cookie).cast();
        libc::getsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_COOKIE, value, &raw mut length)
    };
    assert_eq!(result, 0);
    cookie
}

/// The inode that /proc shows for a descriptor.
fn inode(stream: &TcpStream) -> u32 {
    let link = fs::read_link(format!("/proc/self/fd/{}", stream.as_raw_fd())).unwrap();
    let name = link.to_string_lossy();
    name.trim_start_matches("socket:[").trim_end_matches(']').parse().unwrap()
}

#[test]
fn open_connections_of_both_families_and_of_a_dual_stack_listener_are_shown() {
    let _bound = bounded();
    let pair = Pair::new();
    let any: SocketAddr = "[::]:8081".parse().unwrap();
    let listeners = [
        Listener::new(&pair.server, pair.server_addr(Family::V4, PORT)),
        Listener::new(&pair.server, pair.server_addr(Family::V6, PORT)),
        Listener::new(&pair.server, any),
    ];
    let held: Vec<_> = listeners[..2]
        .iter()
        .map(|listener| Connection::open(&pair.client, listener))
        .chain(Family::BOTH.iter().map(|family| {
            let client = connect(&pair.client, pair.server_addr(*family, any.port())).unwrap();
            Connection { client, server: listeners[2].accept() }
        }))
        .collect();
    for (namespace, end) in [(&pair.client, 0), (&pair.server, 1)] {
        let shown = agreed(namespace, &["established"; 4]);
        for connection in &held {
            let stream = [&connection.client, &connection.server][end];
            let local = canonical(stream.local_addr().unwrap());
            let remote = canonical(stream.peer_addr().unwrap());
            let socket = shown.iter().find(|one| (one.local, one.remote) == (local, remote)).unwrap();
            assert_eq!((socket.inode, socket.cookie), (inode(stream), cookie(stream)));
            assert_eq!((socket.uid, socket.interface), (0, None));
        }
    }
}

#[test]
fn bytes_that_nobody_has_read_are_in_the_receive_queue() {
    let _bound = bounded();
    let pair = Pair::new();
    let listener = Listener::new(&pair.server, pair.server_addr(Family::V4, PORT));
    let held = Connection::open(&pair.client, &listener);
    (&held.client).write_all(&[0; 1234]).unwrap();
    wait_until("the bytes to arrive", SOON, || {
        equal("unread", agreed(&pair.server, &["established"])[0].receive_queue, 1234)
    });
    assert_eq!(rows(&pair.server, "state established")[&listener.addr()].0, 1234);
    wait_until("the bytes to be acknowledged", SOON, || {
        equal("unacknowledged", agreed(&pair.client, &["established"])[0].send_queue, 0)
    });
    // Nothing comes back from a wire that is cut.
    pair.server.drop_incoming("tcp dport 8080");
    (&held.client).write_all(&[0; 567]).unwrap();
    let socket = agreed(&pair.client, &["established"])[0];
    assert_eq!((socket.send_queue, rows(&pair.client, "state established")[&held.client_addr()].1), (567, 567));
    assert_eq!(socket.timer.map(|timer| timer.kind), Some(TimerKind::Retransmit));
}

#[test]
fn time_wait_is_shown_with_what_is_left_of_it() {
    let _bound = bounded();
    let pair = Pair::new();
    for family in Family::BOTH {
        let listener = Listener::new(&pair.server, pair.server_addr(family, PORT));
        let Connection { client, server } = Connection::open(&pair.client, &listener);
        drop(client);
        // Else both may close at once.
        assert_eq!((&server).read(&mut [0]).unwrap(), 0);
        drop(server);
    }
    let sockets = agreed(&pair.client, &["time_wait"; 2]);
    let rows = rows(&pair.client, "state time-wait");
    for socket in sockets {
        let Some(Timer { kind: TimerKind::TimeWait, expires_ms }) = socket.timer else { panic!("{socket:?}") };
        // 60 s, less what this test has taken.
        assert!((50_000..=60_000).contains(&expires_ms), "{expires_ms}");
        let shown = seconds(&rows[&socket.local].2);
        assert!((expires_ms / 1000).abs_diff(shown) <= 2, "{expires_ms} ms, and {shown} s by ss");
        assert_eq!(socket.inode, 0);
    }
    assert!(agreed(&pair.server, &[]).is_empty());
}

/// Of `timer:(timewait,59sec,0)`, or of `timer:(timewait,1min,0)`.
fn seconds(timer: &str) -> u32 {
    let left = timer.split(',').nth(1).unwrap_or_else(|| panic!("no time in {timer}"));
    if left.starts_with("1min") { 60 } else { left.trim_end_matches("sec").parse().unwrap() }
}

/// To the peer both are the same; the kernel keeps of the orphan no more than of TIME_WAIT.
#[test]
fn half_closed_connections_are_shown_with_and_without_a_process() {
    let _bound = bounded();
    for family in Family::BOTH {
        let pair = Pair::new();
        let listener = Listener::new(&pair.server, pair.server_addr(family, PORT));
        let closed = Connection::open(&pair.client, &listener);
        let half_closed = Connection::open(&pair.client, &listener);
        half_closed.client.shutdown(Shutdown::Write).unwrap();
        drop(closed.client);
        agreed(&pair.server, &["close_wait"; 2]);
        for socket in agreed(&pair.client, &["fin_wait_2"; 2]) {
            if socket.local == half_closed.client_addr() {
                assert_eq!(socket.inode, inode(&half_closed.client));
            } else {
                assert_eq!(socket.inode, 0);
                assert_eq!(socket.timer.map(|timer| timer.kind), Some(TimerKind::TimeWait));
                assert!(socket.timer.unwrap().expires_ms <= 60_000);
            }
        }
    }
}

#[test]
fn ends_that_wait_for_an_acknowledgement_are_shown() {
    let _bound = bounded();
    let pair = Pair::new();
    let listener = Listener::new(&pair.server, pair.server_addr(Family::V4, PORT));
    let connections = Connection::open_many(&pair.client, &listener, 3);
    let [first, second, third]: [Connection; 3] = connections.try_into().ok().unwrap();
    first.client.shutdown(Shutdown::Write).unwrap();
    agreed(&pair.server, &["close_wait", "established", "established"]);
    agreed(&pair.client, &["established", "established", "fin_wait_2"]);
    pair.client.drop_incoming("tcp sport 8080");
    pair.server.drop_incoming("tcp dport 8080");
    let _unanswered = begin_connect(&pair.client, listener.addr());
    drop(first.server);
    drop(second.client);
    agreed(&pair.client, &["established", "fin_wait_1", "fin_wait_2", "syn_sent"]);
    agreed(&pair.server, &["established", "established", "last_ack"]);
    drop(third);
}

#[test]
fn handshakes_without_their_last_ack_are_shown_in_syn_received() {
    let _bound = bounded();
    let pair = Pair::new();
    pair.server.drop_incoming("tcp flags & (syn | ack) == ack");
    let one = Listener::new(&pair.server, pair.server_addr(Family::V4, PORT));
    let dual = Listener::new(&pair.server, "[::]:8081".parse().unwrap());
    let _held = [
        begin_connect(&pair.client, one.addr()),
        begin_connect(&pair.client, pair.server_addr(Family::V4, dual.addr().port())),
        begin_connect(&pair.client, pair.server_addr(Family::V6, dual.addr().port())),
    ];
    for socket in agreed(&pair.server, &["syn_received"; 3]) {
        assert_eq!(socket.inode, 0);
        assert_eq!(socket.timer.map(|timer| timer.kind), Some(TimerKind::Retransmit), "{socket:?}");
    }
    // Their client has its answer, and believes it.
    agreed(&pair.client, &["established"; 3]);
}

#[test]
fn listeners_are_shown_with_their_queues_and_what_they_take() {
    let _bound = bounded();
    let pair = Pair::new();
    let exact = Listener::new(&pair.server, pair.server_addr(Family::V4, PORT));
    let dual = Listener::new(&pair.server, "[::]:8081".parse().unwrap());
    pair.server.sysctl("ipv6/bindv6only", "1");
    let only = Listener::new(&pair.server, "[::]:8082".parse().unwrap());
    let _held: Vec<_> = (0..3).map(|_| begin_connect(&pair.client, exact.addr())).collect();
    agreed(&pair.server, &["established"; 3]);
    let shown = pair.server.within(sockets::listeners).unwrap();
    let rows = rows(&pair.server, "state listening");
    assert_eq!(shown.len(), 3);
    for listener in &shown {
        let (queued, backlog, _) = rows[&listener.local];
        assert_eq!((listener.queued, listener.backlog), (queued, backlog));
        assert_eq!(listener.queued, if listener.local == exact.addr() { 3 } else { 0 });
        assert_eq!(listener.accepts_ipv4, listener.local != only.addr(), "{listener:?}");
    }
    let listening: Listening = shown.iter().collect();
    for (port, family, taken) in [
        (exact.addr().port(), Family::V4, true),
        (exact.addr().port(), Family::V6, false),
        (dual.addr().port(), Family::V4, true),
        (dual.addr().port(), Family::V6, true),
        (only.addr().port(), Family::V4, false),
        (only.addr().port(), Family::V6, true),
    ] {
        let addr = pair.server_addr(family, port);
        assert_eq!(listening.takes(addr), taken, "{addr}");
        // The kernel's own opinion.
        assert_eq!(connect(&pair.client, addr).is_ok(), taken, "{addr}");
    }
}

#[test]
fn a_tuple_without_a_connection_has_no_state_whoever_listens() {
    let _bound = bounded();
    let pair = Pair::new();
    let _dual = Listener::new(&pair.server, "[::]:8081".parse().unwrap());
    for family in Family::BOTH {
        let remote = SocketAddr::new(family.host(1), 40_000);
        for port in [PORT, 8081] {
            let state = pair.server.within(|| sockets::state_of(pair.server_addr(family, port), remote, None));
            assert_eq!(state.unwrap(), None, "port {port}");
        }
    }
}

/// As sockets with link-local addresses are.
#[test]
fn a_socket_that_is_bound_to_an_interface_is_found_by_it() {
    let _bound = bounded();
    let pair = Pair::new();
    let listener = Listener::new(&pair.server, pair.server_addr(Family::V4, PORT));
    let held = Connection::open(&pair.client, &listener);
    bind_to(&held.server, WIRE);
    let socket = agreed(&pair.server, &["established"])[0];
    assert!(socket.interface.is_some());
    let found = |interface| {
        pair.server.within(|| sockets::state_of(socket.local, socket.remote, interface)).unwrap()
            == Some(State::Established)
    };
    assert!(found(socket.interface));
    assert!(!found(None));
    // One that is bound to none is found by any.
    let other = pair.client.within(|| sockets::state_of(socket.remote, socket.local, Some(1)));
    assert_eq!(other.unwrap(), Some(State::Established));
}

fn bind_to(stream: &TcpStream, interface: &str) {
    let length = interface.len() as libc::socklen_t;
    // SAFETY: the name is valid for its length.
    let result = unsafe {
        let name = interface.as_ptr().cast();
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_BINDTODEVICE, name, length)
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
