//! Empty programs where the agent's would be.

use integration_tests::{
    asm::{self, NEXT},
    bpf::{self, Attachment, Hook as Place, Neighbour, ProgramKind},
    pair::{Pair, WIRE},
    synthetic::{Hook, verdict},
};

/// One at the server's end of a pair's wire, for as long as this is held.
pub enum Empty {
    Xdp(#[expect(dead_code, reason = "held for what dropping it does")] Attachment),
    Tc(#[expect(dead_code, reason = "held for what dropping it does")] Neighbour),
}

impl Empty {
    pub fn attach(pair: &Pair, hook: Hook) -> Self {
        let tc = |place| Self::Tc(Neighbour::attach(&pair.server, WIRE, place, &asm::empty(NEXT)));
        match hook {
            Hook::XdpIngress => {
                let program = bpf::load(ProgramKind::Xdp, &asm::empty(verdict(ProgramKind::Xdp)));
                Self::Xdp(Attachment::xdp(&pair.server, WIRE, &program))
            }
            Hook::TcIngress => tc(Place::Ingress),
            Hook::TcEgress => tc(Place::Egress),
        }
    }
}
