//! In which order flows are shown.

use std::net::IpAddr;

use crate::snapshot::FlowRecord;

/// What flows are sorted by. Measures go from the largest to the smallest, so that `--limit` shows what stands out;
/// unknown ones come last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Order {
    /// Oldest first.
    #[default]
    FirstSeen,
    /// Most recent first.
    LastSeen,
    /// Longest first.
    Duration,
    /// Most payload first, both directions together.
    Bytes,
    /// Most segments first, both directions together.
    Packets,
    /// Slowest handshake first.
    Handshake,
    /// By the state of the endpoint that counts, in the order of a connection's life.
    State,
    /// By the originator's address, then the responder's.
    Addr,
}

impl Order {
    /// Sorts flows. What this order does not tell apart goes by first sight, then by address, so that the same flows
    /// always come in the same order.
    pub fn sort(self, flows: &mut [&FlowRecord]) {
        // Each is looked at once for most of what is compared: with a million of them that waits for memory.
        let mut ranked: Vec<_> = flows.iter().map(|&flow| (self.rank(flow), flow.first_seen_unix_ns, flow)).collect();
        ranked.sort_unstable_by(|&(rank, seen, flow), &(other_rank, other_seen, other)| {
            let by_addr = || addr(flow).cmp(&addr(other));
            match self {
                Order::Addr => by_addr().then_with(|| seen.cmp(&other_seen)),
                _ => (rank, seen).cmp(&(other_rank, other_seen)).then_with(by_addr),
            }
        });
        flows.iter_mut().zip(ranked).for_each(|(flow, (_, _, ranked))| *flow = ranked);
    }

    /// A number by which flows come in this order, the least first; the same for all where no number tells.
    fn rank(self, flow: &FlowRecord) -> u64 {
        match self {
            Order::FirstSeen => flow.first_seen_unix_ns,
            Order::LastSeen => !flow.last_seen_unix_ns,
            Order::Duration => !flow.duration_ns(),
            Order::Bytes => !bytes(flow),
            Order::Packets => !packets(flow),
            // Those without one come last, behind those of zero and of one nanosecond.
            Order::Handshake => flow.handshake.total_ns.map_or(u64::MAX, |ns| !ns.max(1)),
            Order::State => state(flow) as u64,
            Order::Addr => 0,
        }
    }
}

fn bytes(flow: &FlowRecord) -> u64 {
    flow.originator.bytes.saturating_add(flow.responder.bytes)
}

fn packets(flow: &FlowRecord) -> u64 {
    flow.originator.packets.saturating_add(flow.responder.packets)
}

fn state(flow: &FlowRecord) -> usize {
    let state = flow.counted_endpoints().next().and_then(|endpoint| endpoint.state);
    state.map_or(usize::MAX, |state| state.index())
}

fn addr(flow: &FlowRecord) -> (IpAddr, u16, IpAddr, u16) {
    (flow.originator.addr, flow.originator.port, flow.responder.addr, flow.responder.port)
}

#[cfg(test)]
mod tests {
    use tcp_observer_common::conn::State;

    use super::*;
    use crate::snapshot::fixture;

    /// The originator ports in the order given.
    fn ports(order: Order, flows: &[FlowRecord]) -> Vec<u16> {
        let mut sorted: Vec<_> = flows.iter().collect();
        order.sort(&mut sorted);
        sorted.iter().map(|flow| flow.originator.port).collect()
    }

    fn three() -> Vec<FlowRecord> {
        let mut flows: Vec<_> =
            ["192.0.2.3:1", "192.0.2.2:2", "192.0.2.1:3"].map(|at| fixture::flow(at, "192.0.2.9:80", None)).into();
        flows[0].handshake.total_ns = None;
        flows[0].first_seen_unix_ns += 2;
        flows[0].originator.state = None;
        flows[1].handshake.total_ns = Some(5);
        flows[1].first_seen_unix_ns += 1;
        flows[1].responder.bytes = 9_999;
        flows[2].handshake.total_ns = Some(6);
        flows[2].last_seen_unix_ns += 1;
        flows[2].originator.state = Some(State::SynSent);
        flows
    }

    #[test]
    fn each_order_puts_first_what_it_is_asked_for() {
        for (order, expected) in [
            (Order::FirstSeen, [3, 2, 1]),
            (Order::LastSeen, [3, 2, 1]),
            (Order::Duration, [3, 2, 1]),
            (Order::Bytes, [2, 3, 1]),
            (Order::Packets, [3, 2, 1]),
            (Order::Handshake, [3, 2, 1]),
            (Order::State, [3, 2, 1]),
            (Order::Addr, [3, 2, 1]),
        ] {
            assert_eq!(ports(order, &three()), expected, "{order:?}");
            let mut reversed = three();
            reversed.reverse();
            assert_eq!(ports(order, &reversed), expected, "{order:?}, given in reverse");
        }
    }
}
