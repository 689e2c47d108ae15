//! Attempts that a router on the way sends back with an ICMP error.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
};

use integration_tests::{netstat::unreachables_received, pinned, prelude::*, traffic::connect, wait::equal};
use tcp_observer_common::{
    conn::{Note, Outcome},
    counters::Unreachable,
};

const PORT: u16 = 8080;

/// What becomes of a packet to an address beyond the router; what the client's socket says of it; why, by the observer.
struct Rejection {
    addr: &'static str,
    /// A type of route, or else a rule of nft.
    route: Option<&'static str>,
    rule: &'static str,
    errno: i32,
    reason: Unreachable,
}

/// The errors are those of Linux's tables (`icmp_err_convert`, `icmpv6_err_convert`); it has the same type of route say
/// "host unreachable" in IPv4 and "no route" in IPv6.
const REJECTIONS: [Rejection; 8] = [
    by_route("198.51.100.1", "unreachable", libc::EHOSTUNREACH, Unreachable::Host),
    by_route("198.51.100.2", "prohibit", libc::EHOSTUNREACH, Unreachable::Prohibited),
    by_rule("198.51.100.3", "ip daddr 198.51.100.3 reject with icmp port-unreachable", Unreachable::Port),
    by_route("2001:db8:1::1", "unreachable", libc::ENETUNREACH, Unreachable::Network),
    by_route("2001:db8:1::2", "prohibit", libc::EACCES, Unreachable::Prohibited),
    by_rule("2001:db8:1::3", "ip6 daddr 2001:db8:1::3 reject with icmpv6 port-unreachable", Unreachable::Port),
    Rejection {
        errno: libc::EHOSTUNREACH,
        ..by_rule("2001:db8:1::5", "ip6 daddr 2001:db8:1::5 reject with icmpv6 addr-unreachable", Unreachable::Host)
    },
    Rejection {
        errno: libc::EACCES,
        ..by_rule(
            "2001:db8:1::4",
            "ip6 daddr 2001:db8:1::4 reject with icmpv6 admin-prohibited",
            Unreachable::Prohibited,
        )
    },
];

const fn by_route(addr: &'static str, route: &'static str, errno: i32, reason: Unreachable) -> Rejection {
    Rejection { addr, route: Some(route), rule: "", errno, reason }
}

const fn by_rule(addr: &'static str, rule: &'static str, reason: Unreachable) -> Rejection {
    Rejection { addr, route: None, rule, errno: libc::ECONNREFUSED, reason }
}

/// Makes the server a router to networks that it does not let anybody reach.
fn reject(pair: &Pair) {
    pair.server.sysctl("ipv4/ip_forward", "1");
    pair.server.sysctl("ipv6/conf/all/forwarding", "1");
    pair.client.ip("route add 198.51.100.0/24 via 192.0.2.2");
    pair.client.ip("-6 route add 2001:db8:1::/64 via 2001:db8::2");
    for Rejection { addr, route, rule, .. } in &REJECTIONS {
        match route {
            Some(route) => pair.server.ip(&format!("route add {route} {addr}")),
            None => pair.server.ip(&format!("addr add {addr} dev lo")),
        };
        if !rule.is_empty() {
            pair.server.filter("input", rule);
        }
    }
}

#[test]
fn what_a_router_rejects_is_unreachable() {
    let _bound = bounded();
    for scene in Scene::all() {
        let pair = Pair::new();
        reject(&pair);
        let agent = scene.observe(&pair);
        // All at once: what has ended is shown for a few seconds only.
        thread::scope(|scope| {
            for Rejection { addr, errno, .. } in &REJECTIONS {
                let addr: IpAddr = addr.parse().unwrap();
                let client = &pair.client;
                scope.spawn(move || {
                    let error = connect(client, SocketAddr::new(addr, PORT)).unwrap_err();
                    assert_eq!(error.raw_os_error(), Some(*errno), "{addr}: {error}");
                });
            }
        });
        let count = REJECTIONS.len() as u64;
        // Seen from the router, it is the server of some and forwards to others.
        let labels = [("outcome", "unreachable")];
        wait_until("the rejections", SOON, || {
            equal("unreachable", agent.metrics().count("connection_attempts_total", &labels), count)
        });
        assert_eq!(agent.metrics().count("connection_attempts_total", &[]), count);
        assert_eq!(agent.metrics().count("half_open_connections", &[]), 0);
        let flows = pinned::flows_of_port(&agent, PORT);
        for Rejection { addr, reason, .. } in &REJECTIONS {
            let addr: IpAddr = addr.parse().unwrap();
            let of: Vec<_> = flows.iter().filter(|flow| flow.responder.ip() == addr).collect();
            let [flow] = of[..] else { panic!("{} flows to {addr}", of.len()) };
            assert!(flow.has(Note::Unreachable), "{flow}");
            assert_eq!(flow.word().outcome(), Outcome::Unreachable, "{flow}");
            assert_eq!(flow.flow.story.unreachable(), Some(*reason), "{flow}");
        }
        // Over IPv6 Linux may try once more before it believes: each error counts, the attempt once.
        let counted = pinned::counters(&agent).unreachable;
        assert_eq!(counted.iter().sum::<u64>(), unreachables_received(&pair.client));
        for reason in Unreachable::ALL {
            let expected = REJECTIONS.iter().filter(|rejection| rejection.reason as u8 == *reason as u8).count() as u64;
            assert!((expected..=2 * expected).contains(&counted[*reason as usize]), "{}: {counted:?}", reason.label());
        }
        agent.stop();
    }
}
