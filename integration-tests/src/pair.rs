//! Two namespaces with a wire between them.

use std::net::{IpAddr, SocketAddr};

use crate::namespace::Namespace;

/// The two families that every test of traffic goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The n-th host of the documentation network (RFC 5737, RFC 3849) that the pair lives in.
    pub fn host(self, n: u8) -> IpAddr {
        match self {
            Family::V4 => IpAddr::from([192, 0, 2, n]),
            Family::V6 => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(n)]),
        }
    }

    pub fn loopback(self) -> IpAddr {
        match self {
            Family::V4 => IpAddr::from([127, 0, 0, 1]),
            Family::V6 => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        }
    }
}

/// The device that each end of a wire is called.
pub const WIRE: &str = "wire0";

/// A client and a server; hosts 1 and 2 of both families' networks.
pub struct Pair {
    pub client: Namespace,
    pub server: Namespace,
}

impl Pair {
    #[track_caller]
    #[expect(clippy::new_without_default, reason = "it makes something outside this process")]
    pub fn new() -> Self {
        let pair = Self { client: Namespace::new(), server: Namespace::new() };
        wire(&pair.client, WIRE, &pair.server, WIRE);
        for (namespace, n) in [(&pair.client, 1), (&pair.server, 2)] {
            for family in Family::BOTH {
                address(namespace, WIRE, family.host(n));
            }
        }
        pair
    }

    /// Where the server listens.
    pub fn server_addr(&self, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(family.host(2), port)
    }
}

/// Puts a veth pair between two namespaces, both ends up.
#[track_caller]
pub fn wire(one: &Namespace, one_name: &str, other: &Namespace, other_name: &str) {
    one.ip(&format!("link add {one_name} type veth peer name {other_name} netns {}", other.name()));
    one.ip(&format!("link set {one_name} up"));
    other.ip(&format!("link set {other_name} up"));
}

/// Gives an interface an address that is usable at once.
#[track_caller]
pub fn address(namespace: &Namespace, interface: &str, addr: IpAddr) {
    match addr {
        IpAddr::V4(_) => namespace.ip(&format!("addr add {addr}/24 dev {interface}")),
        IpAddr::V6(_) => namespace.ip(&format!("addr add {addr}/64 dev {interface} nodad")),
    };
}
