//! A bad link between two real stacks: segments are lost, delayed, reordered and doubled by the kernel's own netem, and
//! the observer says what `ss` says, after every batch of connections.

use std::{
    collections::HashMap,
    io::Read,
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use integration_tests::{
    kernel::{self, Feature},
    pair::WIRE,
    prelude::*,
    traffic::{connect, reset_on_close},
    wait::patience,
};

/// What the link does to each direction.
const LINK: &str = "netem loss 5% delay 20ms 10ms reorder 25% 50% duplicate 2%";
const BATCHES: usize = 8;
/// Connections in a batch, all at the same time.
const BATCH: usize = 24;
const PORT: u16 = 8080;
/// A handshake of which four segments in a row are lost takes 15 seconds.
const AGREED: Duration = Duration::from_secs(60);

/// How a connection ends, or whether.
#[derive(Clone, Copy, Debug)]
enum End {
    Stays,
    ClientFirst,
    ServerFirst,
    Together,
    ResetByClient,
    ResetByServer,
    HalfClosedByClient,
    HalfClosedByServer,
}

const ENDS: [End; 8] = [
    End::Stays,
    End::ClientFirst,
    End::ServerFirst,
    End::Together,
    End::ResetByClient,
    End::ResetByServer,
    End::HalfClosedByClient,
    End::HalfClosedByServer,
];

/// Opens connections at the same time. An attempt may fail on such a link; it is made again, from another port.
#[track_caller]
fn open(pair: &Pair, listener: &Listener) -> Vec<Connection> {
    let addr = listener.addr();
    let clients: Vec<TcpStream> = thread::scope(|scope| {
        let attempt = || loop {
            if let Ok(stream) = connect(&pair.client, addr) {
                return stream;
            }
        };
        let attempts: Vec<_> = (0..BATCH).map(|_| scope.spawn(attempt)).collect();
        attempts.into_iter().map(|attempt| attempt.join().expect("an attempt does not panic")).collect()
    });
    let mut clients: HashMap<SocketAddr, TcpStream> = clients
        .into_iter()
        .map(|client| (client.local_addr().expect("a connected socket has an address"), client))
        .collect();
    let mut connections = Vec::new();
    while !clients.is_empty() {
        let server = listener.accept();
        // One whose client has given up has nobody at its other end.
        let client = server.peer_addr().ok().and_then(|peer| clients.remove(&peer));
        connections.extend(client.map(|client| Connection { client, server }));
    }
    connections
}

/// A question, an answer, and the end. What stays open is given back.
fn live(connection: Connection, end: End, bytes: usize) -> Option<Connection> {
    for socket in [&connection.client, &connection.server] {
        socket.set_read_timeout(Some(patience(AGREED))).expect("a socket takes a timeout");
        socket.set_write_timeout(Some(patience(AGREED))).expect("a socket takes a timeout");
    }
    connection.send(bytes);
    connection.answer(bytes);
    let Connection { mut client, mut server } = connection;
    match end {
        End::Stays => return Some(Connection { client, server }),
        End::ClientFirst => {
            drop(client);
            assert_eq!(server.read(&mut [0]).expect("the end of the stream"), 0);
        }
        End::ServerFirst => {
            drop(server);
            assert_eq!(client.read(&mut [0]).expect("the end of the stream"), 0);
        }
        End::Together => drop((client, server)),
        End::ResetByClient => {
            reset_on_close(&client);
            drop(client);
            // Its only RST may be lost: the server's end stays.
            return Some(Connection { client: server.try_clone().expect("a socket can be held twice"), server });
        }
        End::ResetByServer => {
            reset_on_close(&server);
            drop(server);
            return Some(Connection { server: client.try_clone().expect("a socket can be held twice"), client });
        }
        End::HalfClosedByClient => {
            client.shutdown(Shutdown::Write).expect("a socket can be shut down");
            return Some(Connection { client, server });
        }
        End::HalfClosedByServer => {
            server.shutdown(Shutdown::Write).expect("a socket can be shut down");
            return Some(Connection { client, server });
        }
    }
    None
}

#[test]
fn over_a_bad_link_every_local_state_is_what_ss_says() {
    let _bound = bounded();
    if !kernel::has(Feature::Netem) {
        return;
    }
    at_once(EITHER_END, |scene, pair| {
        let agent = scene.observe(pair);
        for namespace in [&pair.client, &pair.server] {
            kernel::add_qdisc(namespace, WIRE, LINK);
        }
        let listeners = Family::BOTH.map(|family| Listener::new(&pair.server, pair.server_addr(family, PORT)));
        let mut held = Vec::new();
        for batch in 0..BATCHES {
            let connections = open(pair, &listeners[batch % listeners.len()]);
            let lives = thread::scope(|scope| {
                let each = connections.into_iter().enumerate();
                let lives: Vec<_> = each
                    .map(|(n, connection)| scope.spawn(move || live(connection, ENDS[n % ENDS.len()], 1 + 977 * n)))
                    .collect();
                lives.into_iter().filter_map(|life| life.join().expect("a life does not panic")).collect::<Vec<_>>()
            });
            held.extend(lives);
            let agreed = ss::agree(&agent, AGREED, |_| true);
            eprintln!("{scene}: batch {batch}: {} sockets agree", agreed.len());
            assert!(agreed.len() >= BATCH / ENDS.len() * (batch + 1), "what stays is there: {agreed:?}");
        }
        let repeated = agent.dump(&[]).iter().filter(|record| record["handshake"]["retransmitted"] == true).count();
        assert!(repeated > 0, "the link loses one segment in twenty, and no handshake was repeated");
        agent.stop();
    });
}
