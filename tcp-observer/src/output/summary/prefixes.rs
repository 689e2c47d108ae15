//! The remote networks with the most flows: /24 of IPv4, /64 of IPv6.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use foldhash::fast::RandomState;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Serialize;

use crate::snapshot::FlowRecord;

/// How many are shown.
const SHOWN: usize = 10;

/// One network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Busy {
    #[serde(serialize_with = "as_text")]
    pub prefix: IpNet,
    pub flows: u64,
    /// How many of them are half open.
    pub half_open: u64,
}

/// Flows by network, all and half open ones, of endpoints that are not known to be local. A flow within one network
/// counts once. The hasher is keyed at random, and done in few steps: each flow asks twice.
#[derive(Debug, Default)]
pub(super) struct Prefixes(HashMap<IpNet, (u64, u64), RandomState>);

impl Prefixes {
    pub fn add(&mut self, flow: &FlowRecord) {
        let network =
            |endpoint: &crate::snapshot::Endpoint| (endpoint.local != Some(true)).then(|| network_of(endpoint.addr));
        let (one, other) = (network(&flow.originator), network(&flow.responder));
        for prefix in one.into_iter().chain(other.filter(|_| other != one)) {
            let (all, half_open) = self.0.entry(prefix).or_default();
            *all += 1;
            *half_open += u64::from(flow.half_open().is_some());
        }
    }

    /// Those with the most flows, busiest first.
    pub fn busiest(&self) -> Vec<Busy> {
        let mut busy: Vec<_> =
            self.0.iter().map(|(&prefix, &(flows, half_open))| Busy { prefix, flows, half_open }).collect();
        busy.sort_unstable_by_key(|busy| (Reverse(busy.flows), busy.prefix));
        busy.truncate(SHOWN);
        busy
    }
}

fn network_of(addr: IpAddr) -> IpNet {
    match addr {
        IpAddr::V4(addr) => {
            let [a, b, c, _] = addr.octets();
            Ipv4Net::new(Ipv4Addr::new(a, b, c, 0), 24).unwrap_or_default().into()
        }
        IpAddr::V6(addr) => {
            let [a, b, c, d, ..] = addr.segments();
            Ipv6Net::new(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), 64).unwrap_or_default().into()
        }
    }
}

fn as_text<S: serde::Serializer>(prefix: &IpNet, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(prefix)
}

#[cfg(test)]
mod tests {
    use tcp_observer_common::conn::{Locality, Outcome};

    use super::*;
    use crate::snapshot::fixture;

    fn busiest(flows: &[FlowRecord]) -> Vec<Busy> {
        let mut prefixes = Prefixes::default();
        flows.iter().for_each(|flow| prefixes.add(flow));
        prefixes.busiest()
    }

    fn summary(flows: &[FlowRecord]) -> Vec<(String, u64, u64)> {
        busiest(flows).iter().map(|busy| (busy.prefix.to_string(), busy.flows, busy.half_open)).collect()
    }

    #[test]
    fn remote_addresses_are_put_together_by_network() {
        let server = Some(Locality::Server);
        let mut flows = vec![
            fixture::flow("198.51.100.1:1", "192.0.2.1:443", server),
            fixture::flow("198.51.100.200:2", "192.0.2.1:443", server),
            fixture::flow("[2001:db8:1:2:3::4]:3", "[2001:db8::1]:443", server),
        ];
        flows[1].handshake.outcome = Outcome::InProgress;
        assert_eq!(summary(&flows), [("198.51.100.0/24".to_owned(), 2, 1), ("2001:db8:1:2::/64".to_owned(), 1, 0)]);
    }

    #[test]
    fn loopback_has_no_remote_end_and_a_forwarded_flow_two() {
        let loopback = fixture::flow("127.0.0.1:1", "127.0.0.1:2", Some(Locality::Loopback));
        let forwarded = fixture::flow("192.0.2.1:1", "198.51.100.1:2", Some(Locality::Forwarded));
        let within = fixture::flow("203.0.113.1:1", "203.0.113.2:2", None);
        let all = summary(&[loopback, forwarded, within]);
        let expected = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"].map(|prefix| (prefix.to_owned(), 1, 0));
        assert_eq!(all, expected);
    }

    #[test]
    fn only_the_ten_busiest_are_named() {
        let flows: Vec<_> =
            (0..12).map(|n| fixture::flow(&format!("10.0.{n}.1:1"), "192.0.2.1:1", Some(Locality::Server))).collect();
        assert_eq!(busiest(&flows).len(), 10);
    }
}
