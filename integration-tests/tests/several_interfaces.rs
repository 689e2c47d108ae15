//! Several interfaces that carry the same segments: a router's two, and a bridge with its ports.

use integration_tests::{
    cpu,
    pair::{address, wire},
    prelude::*,
    tcp_info::TcpInfo,
    wait::equal,
};

const PORT: u16 = 8080;

/// A client, a server, and a namespace between them that carries segments from one wire to the other.
struct Path {
    client: Namespace,
    middle: Namespace,
    server: Namespace,
}

impl Path {
    #[track_caller]
    fn new() -> Self {
        let path = Self { client: Namespace::new(), middle: Namespace::new(), server: Namespace::new() };
        wire(&path.client, "wire0", &path.middle, "left0");
        wire(&path.server, "wire0", &path.middle, "right0");
        path
    }

    /// The middle routes between two networks: the client's and the server's.
    #[track_caller]
    fn routed() -> Self {
        let path = Self::new();
        for (namespace, interface, addr, prefix) in [
            (&path.client, "wire0", "192.0.2.1", 25),
            (&path.middle, "left0", "192.0.2.2", 25),
            (&path.middle, "right0", "192.0.2.130", 25),
            (&path.server, "wire0", "192.0.2.129", 25),
            (&path.client, "wire0", "2001:db8:0:1::1", 64),
            (&path.middle, "left0", "2001:db8:0:1::2", 64),
            (&path.middle, "right0", "2001:db8:0:2::2", 64),
            (&path.server, "wire0", "2001:db8:0:2::1", 64),
        ] {
            let nodad = if addr.contains(':') { "nodad" } else { "" };
            namespace.ip(&format!("addr add {addr}/{prefix} dev {interface} {nodad}"));
        }
        path.middle.sysctl("ipv4/ip_forward", "1");
        path.middle.sysctl("ipv6/conf/all/forwarding", "1");
        path.client.ip("route add default via 192.0.2.2");
        path.client.ip("route add default via 2001:db8:0:1::2");
        path.server.ip("route add default via 192.0.2.130");
        path.server.ip("route add default via 2001:db8:0:2::2");
        path
    }

    /// The middle is a bridge with the wires as its ports, and has an address of its own on it.
    #[track_caller]
    fn bridged() -> Self {
        let path = Self::new();
        path.middle.ip("link add bridge0 type bridge");
        path.middle.ip("link set left0 master bridge0");
        path.middle.ip("link set right0 master bridge0");
        path.middle.ip("link set bridge0 up");
        for family in Family::BOTH {
            address(&path.client, "wire0", family.host(1));
            address(&path.server, "wire0", family.host(2));
            address(&path.middle, "bridge0", family.host(3));
        }
        path
    }
}

/// A count once it stands still: an earlier connection's last acknowledgement may be delayed by up to 200 ms.
fn at_rest(count: impl Fn() -> u64) -> u64 {
    let mut last = count();
    loop {
        std::thread::sleep(std::time::Duration::from_millis(300));
        let now = count();
        if now == last {
            return now;
        }
        last = now;
    }
}

/// One connection, each segment of which passes several hooks: its counts are those of its sockets, and the copies
/// are counted as such.
#[track_caller]
fn each_segment_is_counted_once(
    agent: &Agent<'_>,
    client: &Namespace,
    server: &Namespace,
    addr: &str,
    role: &str,
    hooks: u64,
) -> Connection {
    // Of a direction that passes on two CPUs at once a segment may be missing.
    cpu::stay_on(0);
    let duplicates = || agent.metrics().count("skipped_packets_total", &[("reason", "duplicate")]);
    let before = at_rest(duplicates);
    let listener = Listener::new(server, addr.parse().unwrap());
    let connection = Connection::open(client, &listener);
    for _ in 0..5 {
        connection.send(700);
        connection.answer(1300);
    }
    let port = connection.client_addr().port();
    wait_until("the counts to agree", SOON, || {
        let record = agent.flows_of_port(port).pop().ok_or("no flow")?;
        let info = TcpInfo::of(&connection.client);
        let count = |end: &str, field: &str| record[end][field].as_u64().unwrap();
        // On a slow machine some of it may be sent again.
        let payload = [info.bytes_sent, TcpInfo::of(&connection.server).bytes_sent];
        equal("payload", [count("originator", "bytes"), count("responder", "bytes")], payload)?;
        let segments = [u64::from(info.segs_out), u64::from(info.segs_in)];
        equal("segments", [count("originator", "packets"), count("responder", "packets")], segments)?;
        equal("role", record["role"].as_str(), Some(role))?;
        equal("duplicates", duplicates() - before, (hooks - 1) * segments.iter().sum::<u64>())
    });
    connection
}

#[test]
fn a_router_counts_each_segment_once_and_forwards() {
    let _bound = bounded();
    for mode in [IngressMode::Tc, IngressMode::Xdp] {
        let path = Path::routed();
        let arguments = ["--interface", "left0", "--interface", "right0", "--ingress", mode.word()];
        let agent = Agent::start(&path.middle, &arguments);
        // In by one wire, out by the other.
        let _held = ["192.0.2.129:8080", "[2001:db8:0:2::1]:8080"]
            .map(|addr| each_segment_is_counted_once(&agent, &path.client, &path.server, addr, "forwarded", 2));
        assert!(ss::agree(&agent, SOON, |_| true).is_empty(), "no endpoint is the router's");
        let forwarded = [("role", "forwarded"), ("outcome", "completed")];
        assert_eq!(agent.metrics().count("connection_attempts_total", &forwarded), 2);
        agent.stop();
    }
}

#[test]
fn a_bridge_and_its_ports_count_each_segment_once() {
    let _bound = bounded();
    let path = Path::bridged();
    let arguments = ["--interface", "bridge0", "--interface", "left0", "--interface", "right0", "--ingress", "tc"];
    let agent = Agent::start(&path.middle, &arguments);
    // To the bridge's own address: the port's ingress, then the bridge's; and back the same way.
    let _held = [
        each_segment_is_counted_once(&agent, &path.client, &path.middle, "192.0.2.3:8080", "server", 2),
        each_segment_is_counted_once(&agent, &path.client, &path.middle, "[2001:db8::3]:8080", "server", 2),
        // Through the bridge: in by one port, out by the other.
        each_segment_is_counted_once(&agent, &path.client, &path.server, "192.0.2.2:8080", "forwarded", 2),
    ];
    agent.stop();
}

/// An asymmetric path: what goes there and what comes back is seen on different interfaces, and belongs together.
#[test]
fn a_flow_whose_two_directions_take_different_interfaces_is_whole() {
    let _bound = bounded();
    let (client, server) = (Namespace::new(), Namespace::new());
    wire(&client, "there0", &server, "there0");
    wire(&client, "back0", &server, "back0");
    for (namespace, n) in [(&client, 1), (&server, 2)] {
        namespace.ip(&format!("addr add 192.0.2.{n}/25 dev there0"));
        namespace.ip(&format!("addr add 192.0.2.{}/25 dev back0", 128 + n));
        for path in ["all", "there0", "back0"] {
            namespace.sysctl(&format!("ipv4/conf/{path}/rp_filter"), "0");
        }
    }
    // The server answers the client's first address over the second wire.
    server.ip("route add 192.0.2.1/32 via 192.0.2.129 dev back0 src 192.0.2.2");
    let agent = Agent::start(&server, &["--interface", "there0", "--interface", "back0", "--ingress", "tc"]);
    let listener = Listener::new(&server, format!("192.0.2.2:{PORT}").parse().unwrap());
    let connection = Connection::open(&client, &listener);
    connection.send(100);
    connection.answer(200);
    let agreed = ss::agree(&agent, SOON, |_| true);
    assert_eq!(agreed.len(), 1);
    let record = agent.flows_of_port(PORT).remove(0);
    assert_eq!(record["handshake"]["outcome"], "completed", "{record}");
    assert_eq!((&record["originator"]["bytes"], &record["responder"]["bytes"]), (&100.into(), &200.into()), "{record}");
    agent.stop();
}
