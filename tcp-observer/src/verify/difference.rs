//! One disagreement between the two views of a connection's local end.

use std::net::SocketAddr;

use tcp_observer_common::conn::State;

use super::Exception;
use crate::{
    kernel::sockets::Socket,
    snapshot::{Endpoint, FlowRecord},
};

/// Own address and port, then the other end's; IPv4-mapped ones as IPv4, without scope.
pub type Tuple = (SocketAddr, SocketAddr);

/// The tuple of a socket as flows have it.
pub fn tuple_of(socket: &Socket) -> Tuple {
    (unscoped(socket.local), unscoped(socket.remote))
}

fn unscoped(end: SocketAddr) -> SocketAddr {
    SocketAddr::new(end.ip().to_canonical(), end.port())
}

/// What kind of disagreement it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Both have the connection, in different states.
    State,
    /// There is a socket and no flow.
    NoFlow,
    /// There is a flow whose local end claims a state, and no socket.
    NoSocket,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::State, Self::NoFlow, Self::NoSocket];

    /// The word for it in metrics and records.
    pub const fn label(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::NoFlow => "no_flow",
            Self::NoSocket => "no_socket",
        }
    }
}

/// Both views of one local end, as far as there are two.
#[derive(Clone, Debug)]
pub enum Views {
    Both(Socket, Box<FlowRecord>),
    SocketOnly(Socket),
    FlowOnly(Box<FlowRecord>),
}

/// A local end of which the two views disagree.
#[derive(Clone, Debug)]
pub struct Difference {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub views: Views,
    /// The moment that the flow was looked at, in nanoseconds since the Unix epoch.
    pub seen_unix_ns: u64,
    /// Why it was to be expected, if it was.
    pub exception: Option<Exception>,
}

impl Difference {
    pub fn kind(&self) -> Kind {
        match self.views {
            Views::Both(..) => Kind::State,
            Views::SocketOnly(_) => Kind::NoFlow,
            Views::FlowOnly(_) => Kind::NoSocket,
        }
    }

    pub fn socket(&self) -> Option<&Socket> {
        match &self.views {
            Views::Both(socket, _) | Views::SocketOnly(socket) => Some(socket),
            Views::FlowOnly(_) => None,
        }
    }

    pub fn flow(&self) -> Option<&FlowRecord> {
        match &self.views {
            Views::Both(_, flow) | Views::FlowOnly(flow) => Some(flow),
            Views::SocketOnly(_) => None,
        }
    }

    /// The end of the flow that this is about.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        self.flow().map(|flow| ends(flow, (self.local, self.remote)).0)
    }

    /// What the observer says that this end's state is.
    pub fn state(&self) -> Option<State> {
        self.endpoint().and_then(|endpoint| endpoint.state)
    }

    /// Whether this is the same disagreement as one that was found before: about the same socket or flow, with the same
    /// states.
    pub fn goes_on_from(&self, earlier: &Self) -> bool {
        let name = |one: &Self| {
            let socket = one.socket().map(|socket| (socket.cookie, socket.state));
            // The number tells one incarnation from the next; where it is not known the socket's name does.
            (one.local, one.remote, socket, one.state(), one.flow().map(|flow| flow.originator.isn))
        };
        name(self) == name(earlier)
    }

    /// What it means in most cases, for people.
    pub fn likely_reason(&self) -> &'static str {
        match &self.views {
            Views::SocketOnly(_) => {
                "no flow: older than the agent and silent since, where the agent could not adopt it; its packets pass an \
                 interface that is not observed (policy routing); or the observer has lost it"
            }
            Views::FlowOnly(_) => {
                "no socket: it ended without a packet, and will be looked up within five minutes; somebody else answers \
                 for this address (address translation, IPVS, a TCP in userspace); or the observer has missed the end"
            }
            Views::Both(..) => match self.state() {
                None | Some(State::Closed | State::Listen | State::Unknown) => {
                    "the flow has ended, the socket has not: a RST or FIN that passed did not reach the socket, or it \
                     was silent for longer than the observer waits; else the observer has believed what it should not"
                }
                Some(_) => {
                    "the states differ: a segment passed the observer and did not reach the socket (a firewall behind \
                     it, a bad checksum), or what the socket sent was dropped before it; else the observer is wrong"
                }
            },
        }
    }
}

/// The end of a flow that has this tuple, and the other one.
pub fn ends(flow: &FlowRecord, (local, _): Tuple) -> (&Endpoint, &Endpoint) {
    let (originator, responder) = (&flow.originator, &flow.responder);
    if (originator.addr, originator.port) == (local.ip(), local.port()) {
        (originator, responder)
    } else {
        (responder, originator)
    }
}
