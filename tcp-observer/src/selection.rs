//! Which of a snapshot's flows are shown, in which order, and how many.

use crate::{
    filter::Filter,
    order::Order,
    snapshot::{FlowRecord, Snapshot},
};

/// What `dump` and `replay` were asked to show.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    pub filter: Filter,
    pub order: Order,
    /// At most so many, the first in order.
    pub limit: Option<usize>,
}

impl Selection {
    /// The flows of a snapshot that are to be shown.
    pub fn of<'a>(&self, snapshot: &'a Snapshot) -> Vec<&'a FlowRecord> {
        let mut flows: Vec<_> =
            snapshot.flows.iter().filter(|flow| self.filter.matches(flow, snapshot.taken_unix_ns)).collect();
        self.order.sort(&mut flows);
        flows.truncate(self.limit.unwrap_or(usize::MAX));
        flows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::fixture;

    #[test]
    fn the_limit_takes_the_first_of_those_that_match() {
        let mut snapshot = fixture::empty();
        for (port, bytes) in [(1, 10), (2, 30), (3, 20), (4, 99)] {
            let mut flow = fixture::flow(&format!("192.0.2.1:{port}"), "192.0.2.2:80", None);
            flow.originator.bytes = bytes;
            snapshot.flows.push(flow);
        }
        let filter = Filter { ports: vec![1, 2, 3], ..Filter::default() };
        let selection = Selection { filter, order: Order::Bytes, limit: Some(2) };
        let ports: Vec<_> = selection.of(&snapshot).iter().map(|flow| flow.originator.port).collect();
        assert_eq!(ports, [2, 3]);
    }
}
