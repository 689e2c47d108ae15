//! Who listens, and whether a connection's local end is one of those: then it is the responder's.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::canonical;

/// A listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    pub local: SocketAddr,
    /// Also where its address is `::`, unless it is for IPv6 only.
    pub accepts_ipv4: bool,
    /// The interface that it is bound to.
    pub interface: Option<u32>,
    /// How many connections may wait for the application.
    pub backlog: u32,
    /// How many do.
    pub queued: u32,
}

/// The local ends that listeners take. Interfaces that they are bound to do not matter here.
#[derive(Clone, Debug, Default)]
pub struct Listening(HashSet<SocketAddr>);

impl Listening {
    /// Whether there is a listener for connections to this end.
    pub fn takes(&self, local: SocketAddr) -> bool {
        let local = canonical(local.ip(), local.port());
        let any = match local.ip() {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        self.0.contains(&local) || self.0.contains(&SocketAddr::new(any, local.port()))
    }
}

impl<'l> FromIterator<&'l Listener> for Listening {
    fn from_iter<I: IntoIterator<Item = &'l Listener>>(listeners: I) -> Self {
        let mut ends = HashSet::new();
        for listener in listeners {
            ends.insert(listener.local);
            if listener.local.is_ipv6() && listener.accepts_ipv4 {
                ends.insert(SocketAddr::from((Ipv4Addr::UNSPECIFIED, listener.local.port())));
            }
        }
        Self(ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(listeners: &[(&str, bool)]) -> Listening {
        let listener = |&(local, accepts_ipv4): &(&str, bool)| Listener {
            local: local.parse().unwrap(),
            accepts_ipv4,
            interface: None,
            backlog: 128,
            queued: 0,
        };
        listeners.iter().map(listener).collect::<Vec<_>>().iter().collect()
    }

    fn takes(listening: &Listening, local: &str) -> bool {
        listening.takes(local.parse().unwrap())
    }

    #[test]
    fn an_address_takes_what_is_sent_to_it_and_nothing_else() {
        let one = listening(&[("192.0.2.2:80", true), ("[2001:db8::2]:443", false)]);
        assert!(takes(&one, "192.0.2.2:80"));
        assert!(takes(&one, "[::ffff:192.0.2.2]:80"));
        assert!(!takes(&one, "192.0.2.2:81"));
        assert!(!takes(&one, "192.0.2.3:80"));
        assert!(takes(&one, "[2001:db8::2]:443"));
        assert!(!takes(&one, "[2001:db8::3]:443"));
    }

    #[test]
    fn the_any_address_takes_its_own_family() {
        let any = listening(&[("0.0.0.0:80", true), ("[::]:443", false)]);
        assert!(takes(&any, "192.0.2.2:80"));
        assert!(!takes(&any, "[2001:db8::2]:80"));
        assert!(takes(&any, "[2001:db8::2]:443"));
        assert!(!takes(&any, "192.0.2.2:443"));
    }

    #[test]
    fn a_dual_stack_listener_takes_both() {
        let dual = listening(&[("[::]:80", true)]);
        assert!(takes(&dual, "192.0.2.2:80"));
        assert!(takes(&dual, "[2001:db8::2]:80"));
        assert!(!takes(&dual, "192.0.2.2:81"));
    }
}
