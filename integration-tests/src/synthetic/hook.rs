//! The three places at which a packet meets one of our programs.

use tcp_observer_common::abi::program;

use crate::{asm::NEXT, bpf::ProgramKind};

const XDP_PASS: i32 = 2;

/// Which end a frame comes from. The host under observation is the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    FromClient,
    FromServer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    XdpIngress,
    TcIngress,
    TcEgress,
}

impl Hook {
    pub fn program(self) -> &'static str {
        match self {
            Self::XdpIngress => program::XDP_INGRESS,
            Self::TcIngress => program::TC_INGRESS,
            Self::TcEgress => program::TC_EGRESS,
        }
    }

    pub fn kind(self) -> ProgramKind {
        match self {
            Self::XdpIngress => ProgramKind::Xdp,
            Self::TcIngress | Self::TcEgress => ProgramKind::Tc,
        }
    }

    pub fn direction(self) -> Direction {
        match self {
            Self::XdpIngress | Self::TcIngress => Direction::FromClient,
            Self::TcEgress => Direction::FromServer,
        }
    }
}

/// What lets a packet go on.
pub fn verdict(kind: ProgramKind) -> i32 {
    match kind {
        ProgramKind::Xdp => XDP_PASS,
        ProgramKind::Tc => NEXT,
    }
}
