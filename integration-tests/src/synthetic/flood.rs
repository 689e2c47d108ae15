//! Floods: frames made in the kernel (`BPF_F_TEST_XDP_LIVE_FRAMES`) by a program that writes another source address and
//! port into each and redirects it into a wire.

use std::os::fd::OwnedFd;

use super::{
    Direction, Order, Then,
    flows::{CLIENT_ISN, FLOOD, REQUEST_BYTES, SERVER_ISN, frame},
    generator::generator,
    lane::new_state,
};
use crate::{
    bpf::{self, ProgramKind},
    frames::{ACK, FIN, PSH, RST, SYN},
    interface,
    pair::{Family, Pair, WIRE},
    test_run,
};

/// What a flood is made of. None of it belongs to any connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Syn,
    Rst,
    Ack,
    Fin,
    /// Data in the middle of a connection.
    Data,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::Syn, Self::Rst, Self::Ack, Self::Fin, Self::Data];

    /// Several of them, in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Syn => "SYNs",
            Self::Rst => "RSTs",
            Self::Ack => "ACKs",
            Self::Fin => "FINs",
            Self::Data => "data segments",
        }
    }

    /// The frame whose source the generator changes.
    fn frame(self) -> Vec<u8> {
        // A port for each, since generators write the same sources: a RST is not to meet what a SYN has begun.
        let port = FLOOD + self as u16;
        let (flags, ack, bytes) = match self {
            Self::Syn => (SYN, 0, 0),
            Self::Rst => (RST, 0, 0),
            Self::Ack => (ACK, SERVER_ISN, 0),
            // As stacks send it: none sends a FIN alone.
            Self::Fin => (FIN | ACK, SERVER_ISN, 0),
            Self::Data => (PSH | ACK, SERVER_ISN, REQUEST_BYTES as usize),
        };
        frame(Family::V4, Direction::FromClient, port, flags, CLIENT_ISN, ack).with_payload(bytes).bytes()
    }
}

/// A generator into a pair's wire, towards the server.
pub struct Flood<'n> {
    pair: &'n Pair,
    program: OwnedFd,
    frame: Vec<u8>,
}

impl<'n> Flood<'n> {
    #[track_caller]
    pub fn new(pair: &'n Pair, kind: Kind) -> Self {
        // A veth takes redirected frames where its peer polls: with XDP, or with GRO.
        interface::receive_in_batches(&pair.server, WIRE);
        let then = Then::Redirect(interface::index(&pair.client, WIRE));
        let what = (ProgramKind::Xdp, Family::V4, Direction::FromClient);
        let program = bpf::load(ProgramKind::Xdp, &generator(what, Order::Any, &new_state(), &then));
        Self { pair, program, frame: kind.frame() }
    }

    /// Does something on a thread that sends: in the client's namespace, with what sends so many frames at once.
    pub fn within<T: Send>(&self, call: impl FnOnce(&dyn Fn(u32)) -> T + Send) -> T {
        let send = |frames| test_run::send_live(&self.program, &self.frame, frames).expect("frames can be sent");
        self.pair.client.within(|| call(&send))
    }
}
