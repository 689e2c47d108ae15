//! An agent, and the reference beside it.

use std::os::fd::OwnedFd;

use integration_tests::{
    pair::{Family, Pair},
    synthetic::{
        Hook, Lane, Order, Subject, empty,
        flows::{self, ESTABLISHED, HOT, TALKING, establish},
        spare,
    },
};

use super::{case::Three, reference::Tables, size::Size};

/// An agent, and the reference that sees what it sees.
pub struct Side<'n> {
    pub subject: Subject<'n>,
    reference: Tables,
}

impl<'n> Side<'n> {
    pub fn start(pair: &'n Pair, ingress: Hook, size: &Size) -> Self {
        Self {
            subject: Subject::start(&pair.server, ingress, size.max_flows, size.max_half_open),
            reference: Tables::new(size.max_flows + size.max_half_open),
        }
    }

    /// Puts the flows in that the cases find.
    pub fn fill(&self, family: Family, size: &Size) {
        self.put_in(family, ESTABLISHED, size.flows);
        if size.hot {
            establish(&self.subject, family, HOT, 1);
            establish(&self.subject, family, TALKING, 1);
        }
    }

    /// Puts so many established flows with this port of the server in, into the reference's tables, too.
    pub fn put_in(&self, family: Family, port: u16, count: u32) {
        establish(&self.subject, family, port, count);
        for hook in [self.subject.ingress, Hook::TcEgress] {
            let programs = self.programs(hook);
            let what = (hook.kind(), family, hook.direction());
            let frame = flows::ack(family, hook.direction(), port).bytes();
            Lane::behind(what, Order::Sequential, &programs.reference).run(&frame, count);
        }
    }

    /// Whether nothing was skipped but for want of room, and the reference has counted both directions of an established
    /// flow as one.
    ///
    /// # Panics
    /// When it is not so.
    pub fn check(&self, families: &[Family]) {
        let mut skipped = self.subject.agent.metrics().skipped();
        // What the wire itself carries, such as neighbour discovery; and the flood.
        skipped.retain(|reason, _| !["not_ip", "not_tcp", "table_full"].contains(&reason.as_str()));
        assert!(skipped.is_empty(), "skipped: {skipped:?}");
        for &family in families {
            let packets = self.reference.packets(&flows::first_of(family, ESTABLISHED));
            assert!(packets > 1, "the reference has counted {packets} packets of an established flow");
        }
    }

    pub fn programs(&self, hook: Hook) -> Three<OwnedFd> {
        Three {
            empty: empty(hook.kind()),
            reference: self.reference.program(hook.kind(), hook.direction()),
            ours: spare(self.subject.program(hook)),
        }
    }
}
