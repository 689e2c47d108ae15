//! Where an agent stands while traffic goes by: on which side of the wire, and with which program on ingress.

use std::{fmt, thread};

use crate::{
    agent::Agent,
    namespace::Namespace,
    pair::{Pair, WIRE},
};

/// The ways to see what comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IngressMode {
    Tc,
    Xdp,
    XdpGeneric,
}

impl IngressMode {
    pub const ALL: [Self; 3] = [Self::Tc, Self::Xdp, Self::XdpGeneric];

    /// The word for `--ingress`.
    pub fn word(self) -> &'static str {
        match self {
            IngressMode::Tc => "tc",
            IngressMode::Xdp => "xdp",
            IngressMode::XdpGeneric => "xdp-generic",
        }
    }
}

/// The end of the wire at which the agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

impl Side {
    /// The observer's word for what its host is to connections from client to server.
    pub fn role(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Server => "server",
        }
    }
}

/// One of the places and modes.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    pub side: Side,
    pub mode: IngressMode,
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "on the {} with {}", self.side.role(), self.mode.word())
    }
}

impl Scene {
    /// Every mode on either side.
    pub fn all() -> impl Iterator<Item = Self> {
        let modes = IngressMode::ALL.into_iter();
        modes.flat_map(|mode| [Side::Client, Side::Server].map(|side| Self { side, mode }))
    }

    pub fn namespace(self, pair: &Pair) -> &Namespace {
        match self.side {
            Side::Client => &pair.client,
            Side::Server => &pair.server,
        }
    }

    /// An agent in this place.
    #[track_caller]
    pub fn observe(self, pair: &Pair) -> Agent<'_> {
        self.observe_with(pair, &[])
    }

    #[track_caller]
    pub fn observe_with<'p>(self, pair: &'p Pair, arguments: &[&str]) -> Agent<'p> {
        eprintln!("{self}");
        let place = ["--interface", WIRE, "--ingress", self.mode.word()];
        Agent::start(self.namespace(pair), &[&place, arguments].concat())
    }
}

/// From either end, by different programs: for tests that take seconds, of what depends on neither.
pub const EITHER_END: [Scene; 2] =
    [Scene { side: Side::Client, mode: IngressMode::Tc }, Scene { side: Side::Server, mode: IngressMode::Xdp }];

/// Runs a test in each of these places at the same time, each with a pair of its own.
pub fn at_once(scenes: impl IntoIterator<Item = Scene>, test: impl Fn(Scene, &Pair) + Sync) {
    thread::scope(|scope| {
        for scene in scenes {
            let test = &test;
            scope.spawn(move || test(scene, &Pair::new()));
        }
    });
}
