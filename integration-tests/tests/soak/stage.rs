//! Three namespaces: the host, which the agent watches, a client, and a scanner, each on a wire of its own.
//!
//! What the host is sent comes in plain segments (`gso_max_segs 1` at the other ends and on `lo`), since the kernel's
//! `InSegs` counts a super-packet as one; what it sends may be super-packets, which `OutSegs` counts segment by segment
//! as the observer does.

use std::net::{IpAddr, SocketAddr};

use integration_tests::{
    namespace::Namespace,
    pair::{Family, WIRE, address, wire},
    run,
};

/// The host's interface towards the scanner.
pub const SCAN: &str = "scan0";
/// The interface that comes and goes.
pub const GUEST: &str = "guest0";

/// The host's ports at which it drops every SYN, before TCP has counted it.
pub const SILENT_PORTS: std::ops::RangeInclusive<u16> = 7000..=7009;
/// Where nobody listens.
pub const CLOSED_PORT: u16 = 9;

/// What rules of nft in the host count, TCP only.
const HOST_RULES: &str = "
    table inet soak {
        counter silent { }
        counter loopback { }
        chain input {
            type filter hook input priority 0; policy accept;
            iifname != \"lo\" tcp dport 7000-7009 counter name silent drop;
        }
        chain output {
            type filter hook output priority 0; policy accept;
            oifname \"lo\" meta l4proto tcp counter name loopback;
        }
    }";

/// The client's hosts that do not answer, and that have it answered for them.
const CLIENT_RULES: &str = "
    table inet soak {
        chain input {
            type filter hook input priority 0; policy accept;
            ip daddr 192.0.2.77 meta l4proto tcp drop;
            ip6 daddr 2001:db8::4d meta l4proto tcp drop;
            ip daddr 192.0.2.78 meta l4proto tcp reject with icmp type admin-prohibited;
        }
    }";

pub struct Stage {
    pub host: Namespace,
    pub client: Namespace,
    pub scanner: Namespace,
}

impl Stage {
    pub fn new() -> Self {
        let stage = Self { host: Namespace::new(), client: Namespace::new(), scanner: Namespace::new() };
        let Self { host, client, scanner } = &stage;
        for namespace in [host, client] {
            namespace.sysctl("ipv6/bindv6only", "1");
            namespace.sysctl("core/somaxconn", "4096");
        }
        // Attempts that nobody answers end within the soak: SYNs at 0, 1 and 2 s, given up at 3 s.
        host.sysctl("ipv4/tcp_syn_retries", "2");
        host.sysctl("ipv4/tcp_max_tw_buckets", "262144");
        // Each attempt is answered.
        client.sysctl("ipv4/icmp_ratelimit", "0");
        wire(client, WIRE, host, WIRE);
        wire(scanner, SCAN, host, SCAN);
        for family in Family::BOTH {
            address(client, WIRE, family.host(1));
            address(host, WIRE, family.host(2));
            for n in [77, 78] {
                address(client, WIRE, family.host(n));
            }
            address(scanner, SCAN, scan_host(family, 1));
            address(host, SCAN, scan_host(family, 2));
        }
        for (namespace, interface) in [(client, WIRE), (scanner, SCAN), (host, "lo")] {
            plain_segments(namespace, interface);
        }
        run::success(host.command("nft").arg(HOST_RULES));
        run::success(client.command("nft").arg(CLIENT_RULES));
        stage
    }

    /// What a rule of the host has counted, in packets.
    pub fn ruled(&self, counter: &str) -> u64 {
        let text = run::success(self.host.command("nft").args(["-j", "list", "counter", "inet", "soak", counter]));
        let json: serde_json::Value = serde_json::from_str(&text).expect("`nft -j` writes JSON");
        let objects = json["nftables"].as_array().into_iter().flatten();
        let packets = objects.filter_map(|object| object["counter"]["packets"].as_u64()).next();
        packets.unwrap_or_else(|| panic!("nft says nothing of `{counter}`: {text}"))
    }
}

/// Makes what this end sends as many packets as it is segments.
pub fn plain_segments(namespace: &Namespace, interface: &str) {
    namespace.ip(&format!("link set dev {interface} gso_max_segs 1"));
}

/// The n-th host of the scanner's network.
pub fn scan_host(family: Family, n: u8) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([198, 51, 100, n]),
        Family::V6 => IpAddr::from([0x2001, 0xdb8, 0x51, 0, 0, 0, 0, u16::from(n)]),
    }
}

/// The n-th host of the network that comes and goes.
pub fn guest_host(family: Family, n: u8) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([203, 0, 113, n]),
        Family::V6 => IpAddr::from([0x2001, 0xdb8, 0x113, 0, 0, 0, 0, u16::from(n)]),
    }
}

/// All of a family's addresses, to listen on.
pub fn any(family: Family, port: u16) -> SocketAddr {
    match family {
        Family::V4 => SocketAddr::from(([0; 4], port)),
        Family::V6 => SocketAddr::from(([0; 16], port)),
    }
}
