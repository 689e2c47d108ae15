//! Two namespaces with addresses and ports of the round's own, and what the kernel is told to allow in them.

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU32, Ordering},
};

use integration_tests::{
    link::Link,
    namespace::Namespace,
    pair::{Family, WIRE, wire},
    run,
    scene::Side,
};

use crate::round::Wire;

/// Ports of the server's end, of connections to it and of sockets that connect from it. A port in here tells which end
/// is which.
pub const SERVER_PORTS: std::ops::RangeInclusive<u16> = 20_000..=29_999;
/// Where a listener of a visit's own may be.
const OWN_LISTENERS: u16 = 21_000;
/// Nothing listens here.
pub const REFUSED: u16 = 29_900;
/// What comes to these is dropped, or answered by ICMP, behind the observer.
pub const NOBODY: u16 = 29_901;
pub const UNREACHABLE: [(u16, &str); 3] =
    [(29_902, "host-unreachable"), (29_903, "admin-prohibited"), (29_904, "port-unreachable")];

const CLIENT_PORTS: u16 = 30_000;
/// So many addresses has the client in each family.
const CLIENT_ADDRS: u32 = 4;

pub struct World {
    pub client: Namespace,
    pub server: Namespace,
    /// Which network of those for measurements (RFC 2544) is this round's.
    network: u8,
    link: Option<Link>,
    client_ports: AtomicU32,
    listeners: AtomicU32,
}

impl World {
    pub fn new(wire_kind: Wire, cpu: usize, seed: u64) -> Self {
        static ROUNDS: AtomicU32 = AtomicU32::new(0);
        let network = (std::process::id() * 16 + ROUNDS.fetch_add(1, Ordering::Relaxed)) as u8;
        let (client, server) = (Namespace::new(), Namespace::new());
        let link = match wire_kind {
            Wire::Near => {
                wire(&client, WIRE, &server, WIRE);
                None
            }
            Wire::Long(quality) | Wire::Bad(quality) => Some(Link::new([&client, &server], WIRE, quality, seed, cpu)),
        };
        let world =
            Self { client, server, network, link, client_ports: AtomicU32::new(0), listeners: AtomicU32::new(0) };
        for namespace in [&world.client, &world.server] {
            // A segment is a packet, to the hook and to the capture.
            namespace.ip(&format!("link set {WIRE} gso_max_segs 1"));
            namespace.sysctl("ipv4/tcp_fastopen", "3");
            namespace.sysctl("ipv4/tcp_tw_reuse", "1");
            namespace.sysctl("ipv4/icmp_ratelimit", "0");
            namespace.sysctl("ipv6/icmp/ratelimit", "0");
        }
        for family in Family::BOTH {
            world.set_addresses(family);
        }
        let unreachable = UNREACHABLE.map(|(port, word)| format!("tcp dport {port} reject with icmpx type {word}"));
        world.server.filter("input", &format!("tcp dport {NOBODY} drop; {}", unreachable.join("; ")));
        world
    }

    /// The addresses of both ends, each known to the other, so that no question about one is lost on the way.
    fn set_addresses(&self, family: Family) {
        let length = if family == Family::V4 { 24 } else { 64 };
        let ends = [(&self.client, &self.server, CLIENT_ADDRS), (&self.server, &self.client, 1)];
        for (own, other, count) in ends {
            let shown = own.ip(&format!("-o link show {WIRE}"));
            let mac = shown.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next());
            let mac = mac.unwrap_or_else(|| panic!("no Ethernet address: {shown}"));
            for n in 0..count {
                let addr =
                    if std::ptr::eq(own, &self.client) { self.client_ip(family, n) } else { self.server_ip(family) };
                let nodad = if family == Family::V4 { "" } else { "nodad" };
                own.ip(&format!("addr add {addr}/{length} dev {WIRE} {nodad}"));
                other.ip(&format!("neigh replace {addr} lladdr {mac} dev {WIRE} nud permanent"));
            }
        }
    }

    fn host(&self, family: Family, n: u8) -> IpAddr {
        match family {
            Family::V4 => IpAddr::from([198, 18, self.network, n]),
            Family::V6 => IpAddr::from([0x2001, 0xdb8, 18, u16::from(self.network), 0, 0, 0, u16::from(n)]),
        }
    }

    fn client_ip(&self, family: Family, n: u32) -> IpAddr {
        self.host(family, n as u8 + 1)
    }

    pub fn server_ip(&self, family: Family) -> IpAddr {
        self.host(family, 100)
    }

    /// The addresses of one end.
    pub fn local(&self, side: Side, family: Family) -> Vec<IpAddr> {
        match side {
            Side::Client => (0..CLIENT_ADDRS).map(|n| self.client_ip(family, n)).collect(),
            Side::Server => vec![self.server_ip(family)],
        }
    }

    /// Whether this is the server's address in this round.
    pub fn has(&self, ip: IpAddr) -> bool {
        Family::BOTH.iter().any(|&family| self.server_ip(family) == ip)
    }

    /// An address and port for a client, never given before.
    pub fn client_addr(&self, family: Family) -> SocketAddr {
        let n = self.client_ports.fetch_add(1, Ordering::Relaxed);
        let port = u32::from(CLIENT_PORTS) + n / CLIENT_ADDRS;
        SocketAddr::new(self.client_ip(family, n % CLIENT_ADDRS), u16::try_from(port).expect("there are ports left"))
    }

    /// Where one visit may listen for itself; it is used again when all have been, by then with other clients.
    pub fn own_listener(&self, family: Family) -> SocketAddr {
        let n = self.listeners.fetch_add(1, Ordering::Relaxed) % 8_000;
        SocketAddr::new(self.server_ip(family), OWN_LISTENERS + n as u16)
    }

    pub fn near(&self, side: Side) -> &Namespace {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }

    /// Whether a connection takes longer than what goes on in one namespace meanwhile.
    pub fn has_delay(&self) -> bool {
        self.link.is_some()
    }

    /// The sockets that are neither listening nor in TIME_WAIT, in either namespace.
    pub fn alive(&self) -> Vec<String> {
        let alive = |namespace: &Namespace| {
            let text = run::success(namespace.command("ss").args(["-Htan"]));
            let alive = text.lines().filter(|line| {
                !line.starts_with("LISTEN") && !line.starts_with("TIME-WAIT") && !line.contains(":9477")
            });
            alive.map(str::to_owned).collect::<Vec<_>>()
        };
        [alive(&self.client), alive(&self.server)].concat()
    }
}
