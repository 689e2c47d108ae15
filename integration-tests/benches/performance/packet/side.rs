//! An agent, and the reference beside it.

use std::os::fd::OwnedFd;

use integration_tests::pair::{Family, Pair};

use super::{
    Hook, Subject,
    case::Three,
    flows::{self, ESTABLISHED, HOT, TALKING, establish},
    generator::Order,
    lane::{Lane, spare},
    reference::Tables,
    size::Size,
    subject::empty,
};

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
        establish(&self.subject, family, ESTABLISHED, size.flows);
        if size.hot {
            establish(&self.subject, family, HOT, 1);
            establish(&self.subject, family, TALKING, 1);
        }
        for hook in [self.subject.ingress, Hook::TcEgress] {
            let programs = self.programs(hook);
            let what = (hook.kind(), family, hook.direction());
            let frame = flows::ack(family, hook.direction(), ESTABLISHED).bytes();
            Lane::behind(what, Order::Sequential, &programs.reference).run(&frame, size.flows);
        }
    }

    /// Whether the reference has counted both directions of an established flow as one.
    ///
    /// # Panics
    /// When it has not.
    pub fn check_reference(&self) {
        for family in Family::BOTH {
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
