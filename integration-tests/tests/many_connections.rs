//! Many short connections in a row: none is lost, none is counted twice, none stays behind.

use std::{
    io::Read,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use integration_tests::{
    prelude::*,
    wait::{equal, patience},
};

const COUNT: u64 = 20_000;
const PORT: u16 = 8080;

/// So many that the ephemeral ports towards one of them suffice.
const ADDRESSES: u8 = 4;

/// Opens and closes connections, the client first, each of them over before the next.
fn connect_and_close() {
    let listeners: Vec<_> = (1..=ADDRESSES)
        .map(|n| TcpListener::bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, n), PORT))).unwrap())
        .collect();
    for i in 0..COUNT {
        let listener = &listeners[i as usize % listeners.len()];
        let client = TcpStream::connect_timeout(&listener.local_addr().unwrap(), patience(Duration::from_secs(5)))
            .expect("connects");
        let (mut server, _) = listener.accept().expect("accepts");
        drop(client);
        server.set_read_timeout(Some(patience(Duration::from_secs(5)))).unwrap();
        assert_eq!(server.read(&mut [0]).expect("the end of the stream"), 0);
    }
}

#[test]
fn twenty_thousand_short_connections_are_counted_exactly() {
    let _bound = bounded();
    let namespace = Namespace::new();
    let arguments = ["--interface", "lo", "--ingress", "tc", "--max-flows", "65536", "--max-half-open", "4096"];
    let agent = Agent::start(&namespace, &arguments);
    // The agent's own pages come over lo too, from clients that are not ours.
    let ours = |socket: &Socket| [socket.local.port(), socket.peer.port()].contains(&PORT);
    namespace.within(connect_and_close);
    let completed = |metrics: &Metrics| {
        let port = PORT.to_string();
        metrics.count("connection_attempts_total", &[("port", &port), ("outcome", "completed")])
    };
    wait_until("all of them", SOON, || {
        let metrics = agent.metrics();
        let port = PORT.to_string();
        equal("attempts", completed(&metrics), COUNT)?;
        equal("all outcomes", metrics.count("connection_attempts_total", &[("port", &port)]), COUNT)?;
        for segment in ["syn_to_synack", "synack_to_ack", "total"] {
            let labels = [("segment", segment), ("port", port.as_str())];
            equal(segment, metrics.count("port_handshake_duration_seconds_count", &labels), COUNT)?;
        }
        let half_open = agent.dump(&["--phase", "half_open", "--port", &port]);
        equal("half open", half_open.len(), 0)
    });
    let agreed = ss::agree(&agent, Duration::from_secs(20), ours);
    assert!(agreed.len() as u64 >= COUNT / 2, "TIME-WAIT lasts longer than this test: {}", agreed.len());
    assert!(agreed.iter().all(|socket| socket.state == "time_wait"));
    assert_eq!(completed(&agent.metrics()), COUNT);
    agent.stop();
}
