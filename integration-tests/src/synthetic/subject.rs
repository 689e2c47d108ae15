//! An agent whose programs are run on frames.

use std::{collections::BTreeMap, os::fd::OwnedFd};

use super::{Hook, hook::verdict};
use crate::{
    agent::Agent,
    asm,
    bpf::{self, ProgramKind},
    namespace::Namespace,
    pair::WIRE,
    test_run,
};

pub struct Subject<'n> {
    pub agent: Agent<'n>,
    /// Where segments from the client come in.
    pub ingress: Hook,
    programs: BTreeMap<String, OwnedFd>,
}

impl<'n> Subject<'n> {
    pub fn start(namespace: &'n Namespace, ingress: Hook, max_flows: u32, max_half_open: u32) -> Self {
        let mode = match ingress {
            Hook::XdpIngress => "xdp",
            Hook::TcIngress | Hook::TcEgress => "tc",
        };
        let (flows, half_open) = (max_flows.to_string(), max_half_open.to_string());
        let sizes = ["--max-flows", &flows, "--max-half-open", &half_open];
        let hooks = ["--interface", WIRE, "--ingress", mode, "--self-check", "off"];
        let agent = Agent::start(namespace, &[&hooks[..], &sizes[..]].concat());
        let programs = test_run::programs_of(agent.pid());
        Self { agent, ingress, programs }
    }

    pub fn program(&self, hook: Hook) -> &OwnedFd {
        let name = hook.program();
        self.programs.get(name).unwrap_or_else(|| panic!("the agent has no program `{name}`"))
    }

    /// From now on nothing but packets touches its tables.
    pub fn stand_still(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// It lives again.
    pub fn go_on(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: i32) {
        // SAFETY: kill has no memory to misuse; the agent has not been waited for.
        unsafe { libc::kill(self.agent.pid() as i32, signal) };
    }
}

/// A program of this kind that does nothing.
pub fn empty(kind: ProgramKind) -> OwnedFd {
    bpf::load(kind, &asm::empty(verdict(kind)))
}
