//! One look: the sockets, the flows, and the sockets again. Pure: what enters is what was read, in that order.
//!
//! A socket takes part if both dumps show it, by its cookie, in the same state: then it was in that state while the
//! flows were read. A flow's end without a socket takes part if neither dump has one for it.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
};

use tcp_observer_common::conn::{Note, State};

use super::{
    Difference, Exception,
    difference::{Tuple, Views, ends, tuple_of},
};
use crate::{
    filter::Filter,
    kernel::sockets::Socket,
    snapshot::{Endpoint, FlowRecord},
};

/// A look under way.
pub struct Look<'f> {
    filter: &'f Filter,
    sockets: HashMap<Tuple, Entry>,
    /// Flows with a local end that claims a state and had no socket when the look began.
    without_socket: HashMap<Tuple, Box<FlowRecord>>,
    looked_up: HashSet<Tuple>,
}

/// A socket of the first dump.
struct Entry {
    socket: Socket,
    /// Another socket with the same tuple.
    twin: Option<Socket>,
    ours: Ours,
}

/// What the observer says of it.
enum Ours {
    Nothing,
    TheSame,
    Another(Box<FlowRecord>),
}

/// What one look has found.
#[derive(Debug, Default)]
pub struct Looked {
    /// Sockets that both dumps show in the same state.
    pub compared: u64,
    /// Of these, those that the observer has in that state.
    pub agreed: u64,
    /// Sockets that only one dump shows, or each in another state.
    pub changed: u64,
    /// All that do not agree, not yet asked for an exception other than [`Exception::SameTuple`].
    pub differences: Vec<Difference>,
    /// Local ends that the agent has closed since it found no socket for them.
    pub looked_up: HashSet<Tuple>,
}

impl<'f> Look<'f> {
    /// Begins with the first dump of the sockets. `filter` chooses by states, ports and addresses.
    pub fn begin(before: impl IntoIterator<Item = Socket>, filter: &'f Filter) -> Self {
        let mut look =
            Self { filter, sockets: HashMap::new(), without_socket: HashMap::new(), looked_up: HashSet::new() };
        for socket in before {
            let tuple = tuple_of(&socket);
            if !look.is_between(tuple) {
                continue;
            }
            let entry = look.sockets.entry(tuple).or_insert(Entry { socket, twin: None, ours: Ours::Nothing });
            if entry.socket.cookie != socket.cookie {
                entry.twin = Some(socket);
            }
        }
        look
    }

    fn is_between(&self, (local, remote): Tuple) -> bool {
        self.filter.is_between([(local.ip(), local.port()), (remote.ip(), remote.port())], None)
    }

    /// Takes in a flow. Of one that is shown twice the later record counts.
    pub fn flow(&mut self, flow: FlowRecord) {
        let at = |end: &Endpoint| SocketAddr::new(end.addr, end.port);
        let (originator, responder) = (at(&flow.originator), at(&flow.responder));
        // Most flows have one local end, which agrees: nothing is kept of those.
        for tuple in [(originator, responder), (responder, originator)] {
            let own = ends(&flow, tuple).0;
            if own.local == Some(true) && own.state == Some(State::Closed) && flow.notes.has(Note::SocketGone) {
                self.looked_up.insert(tuple);
            }
            match self.sockets.get_mut(&tuple) {
                Some(entry) if own.state == Some(entry.socket.state) => entry.ours = Ours::TheSame,
                Some(entry) => entry.ours = Ours::Another(Box::new(flow.clone())),
                None => {
                    self.without_socket.remove(&tuple);
                    if own.local == Some(true) && has_socket(own.state) && self.is_between(tuple) {
                        self.without_socket.insert(tuple, Box::new(flow.clone()));
                    }
                }
            }
        }
    }

    /// Ends with the second dump. `seen_unix_ns` is the moment that the flows' records refer to.
    pub fn end(mut self, after: impl IntoIterator<Item = Socket>, seen_unix_ns: u64) -> Looked {
        let mut looked = Looked { looked_up: std::mem::take(&mut self.looked_up), ..Looked::default() };
        let difference =
            |(local, remote), views, exception| Difference { local, remote, views, seen_unix_ns, exception };
        for socket in after {
            let tuple = tuple_of(&socket);
            if !self.is_between(tuple) {
                continue;
            }
            self.without_socket.remove(&tuple);
            if let Some(twins) = self.sockets.get(&tuple).and_then(|entry| Some([entry.socket, entry.twin?])) {
                if twins.iter().any(|twin| twin.cookie == socket.cookie) {
                    looked.compared += 1;
                    let views = Views::SocketOnly(socket);
                    looked.differences.push(difference(tuple, views, Some(Exception::SameTuple)));
                } else {
                    looked.changed += 1;
                }
                continue;
            }
            let entry = self.sockets.remove(&tuple);
            if !self.has_state(Some(socket.state))
                && !entry.as_ref().is_some_and(|entry| self.has_state(entry.observed()))
            {
                continue;
            }
            match entry {
                Some(entry) if (entry.socket.cookie, entry.socket.state) == (socket.cookie, socket.state) => {
                    looked.compared += 1;
                    let views = match entry.ours {
                        Ours::TheSame => {
                            looked.agreed += 1;
                            continue;
                        }
                        Ours::Nothing => Views::SocketOnly(socket),
                        Ours::Another(flow) => Views::Both(socket, flow),
                    };
                    looked.differences.push(difference(tuple, views, None));
                }
                Some(_) | None => looked.changed += 1,
            }
        }
        let vanished = self.sockets.values().filter(|entry| entry.twin.is_none());
        looked.changed += vanished.filter(|entry| self.has_state(Some(entry.socket.state))).count() as u64;
        for (tuple, flow) in std::mem::take(&mut self.without_socket) {
            if self.has_state(ends(&flow, tuple).0.state) {
                looked.differences.push(difference(tuple, Views::FlowOnly(flow), None));
            }
        }
        looked
    }

    fn has_state(&self, state: Option<State>) -> bool {
        self.filter.has_state(state)
    }
}

impl Entry {
    /// The state that the observer says, where it says one.
    fn observed(&self) -> Option<State> {
        match &self.ours {
            Ours::Nothing => None,
            Ours::TheSame => Some(self.socket.state),
            Ours::Another(flow) => ends(flow, tuple_of(&self.socket)).0.state,
        }
    }
}

/// Whether an end in this state has a socket with a peer.
fn has_socket(state: Option<State>) -> bool {
    match state {
        None | Some(State::Unknown | State::Listen | State::Closed) => false,
        Some(
            State::SynSent
            | State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait,
        ) => true,
    }
}
