//! Which sockets' packets pass where they are seen: those between two local addresses pass `lo`, the others the
//! interface that has the local address, or that they are bound to. Policy routing may say otherwise, and is not asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{links::Inventory, sockets::Socket};

/// What is needed to know of the network beside the sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// The local addresses, each with its interface.
    pub addresses: BTreeMap<IpAddr, u32>,
    /// The interfaces under observation.
    pub interfaces: BTreeSet<u32>,
    /// Whether `lo` is one of them.
    pub loopback: bool,
}

impl Sight {
    /// What is seen where these interfaces of an inventory are observed.
    pub fn new(inventory: &Inventory, interfaces: BTreeSet<u32>) -> Self {
        let loopback = inventory.links.iter().any(|link| link.is_loopback && interfaces.contains(&link.index));
        Self { addresses: inventory.addresses.clone(), interfaces, loopback }
    }

    fn is_local(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.addresses.contains_key(&address)
    }

    /// Whether the packets of a socket pass where they are seen.
    pub fn sees(&self, socket: &Socket) -> bool {
        if self.is_local(socket.remote.ip()) {
            return self.loopback;
        }
        let interface = socket.interface.or_else(|| self.addresses.get(&socket.local.ip()).copied());
        interface.is_some_and(|index| self.interfaces.contains(&index))
    }
}

#[cfg(test)]
mod tests {
    use tcp_observer_common::conn::State;

    use super::*;

    #[test]
    fn only_what_passes_an_observed_interface_is_seen() {
        let addresses = BTreeMap::from([("192.0.2.1".parse().unwrap(), 2), ("192.0.2.9".parse().unwrap(), 3)]);
        let sight = Sight { addresses, interfaces: BTreeSet::from([2]), loopback: false };
        let sees = |local: &str, remote: &str| sight.sees(&Socket::fixture(local, remote, State::Established));
        assert!(sees("192.0.2.1:1", "198.51.100.1:2"));
        assert!(!sees("192.0.2.9:1", "198.51.100.1:2"));
        assert!(!sees("192.0.2.1:1", "192.0.2.9:2"), "that passes lo");
        assert!(!sees("127.0.0.1:1", "127.0.0.1:2"));
    }
}
