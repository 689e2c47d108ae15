//! How many local ports are in use towards each remote service: when all ephemeral ones are, connecting fails.
//!
//! A port counts for the pair of local address and remote service: the same port can be used again towards another one
//! (<https://www.rfc-editor.org/rfc/rfc6056#section-2.2>).

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use foldhash::fast::RandomState;

use super::standing::Ends;

/// The local ports in use from one local address towards one remote service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortsInUse {
    pub local: IpAddr,
    pub remote: SocketAddr,
    pub ports: u64,
}

/// Counts flows that a local originator holds a port for ([`Standing::holds_port`](super::Standing::holds_port)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PortsCounted(HashMap<(IpAddr, SocketAddr), u64, RandomState>);

impl PortsCounted {
    pub fn add(&mut self, ends: &Ends) {
        *self.0.entry((ends.originator.ip(), ends.responder)).or_default() += 1;
    }

    /// The most used, at most so many.
    pub fn top(&self, shown: usize) -> Vec<PortsInUse> {
        let mut all: Vec<_> =
            self.0.iter().map(|(&(local, remote), &ports)| PortsInUse { local, remote, ports }).collect();
        let by_use = |one: &PortsInUse| (Reverse(one.ports), one.remote, one.local);
        if all.len() > shown && shown > 0 {
            all.select_nth_unstable_by_key(shown - 1, by_use);
        }
        all.truncate(shown);
        all.sort_unstable_by_key(by_use);
        all
    }
}

#[cfg(test)]
mod tests {
    use tcp_observer_common::conn::{Locality, State};

    use super::*;
    use crate::snapshot::{Standing, fixture};

    #[test]
    fn a_port_is_in_use_towards_one_service_from_one_address_until_its_socket_is_gone() {
        let mut counted = PortsCounted::default();
        let mut add = |from: &str, to: &str, role, state| {
            let mut flow = fixture::flow(from, to, Some(role));
            flow.originator.state = Some(state);
            if Standing::from(&flow).holds_port() {
                counted.add(&Ends::from(&flow));
            }
        };
        for port in 40000..40005 {
            add(&format!("192.0.2.1:{port}"), "198.51.100.1:443", Locality::Client, State::TimeWait);
        }
        add("192.0.2.1:40005", "198.51.100.1:443", Locality::Client, State::Closed);
        add("192.0.2.2:40000", "198.51.100.1:443", Locality::Client, State::Established);
        add("192.0.2.1:40000", "198.51.100.1:80", Locality::Client, State::SynSent);
        add("192.0.2.1:40001", "198.51.100.1:80", Locality::Client, State::SynSent);
        add("127.0.0.1:40000", "127.0.0.1:80", Locality::Loopback, State::Established);
        add("203.0.113.1:40000", "192.0.2.1:22", Locality::Server, State::Established);
        let top = counted.top(2);
        let shown: Vec<_> = top.iter().map(|one| (one.local.to_string(), one.remote.to_string(), one.ports)).collect();
        let expected = [("198.51.100.1:443", 5), ("198.51.100.1:80", 2)];
        assert_eq!(shown, expected.map(|(remote, ports)| ("192.0.2.1".to_owned(), remote.to_owned(), ports)));
    }

    #[test]
    fn without_clients_nothing_is_in_use() {
        assert_eq!(PortsCounted::default().top(5), []);
    }
}
