//! The disagreements that are to be expected, since packets cannot tell what the socket says, and the facts by which each
//! is recognised. `docs/semantics.md` explains them; what no fact sets apart from a mistake of the observer is none.

use tcp_observer_common::conn::{How, Initiator, Note, Outcome, State};

use super::{
    Difference,
    difference::{Views, ends},
};
use crate::{
    kernel::{
        netstat::TcpCounts,
        sight::Sight,
        sockets::{Listener, Listening, Socket, TimerKind},
    },
    snapshot::{Endpoint, FlowRecord},
};

macro_rules! exceptions {
    ($($(#[$attr:meta])* $variant:ident = $label:literal, $why:literal;)+) => {
        /// Why a disagreement was to be expected.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Exception { $($(#[$attr])* $variant,)+ }

        impl Exception {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            pub const COUNT: usize = Self::ALL.len();

            /// The word for it in metrics and records.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }

            /// A line of explanation for people.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $why,)+ }
            }

            /// Its place in [`Self::ALL`].
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

exceptions! {
    /// A socket whose packets pass no observed interface.
    NotObserved = "not_observed",
        "its packets pass no observed interface (lo, or an interface that the agent was not told of)";
    /// The same address and port at both ends.
    SelfConnected = "self_connected",
        "connected to itself: both directions have one key, and the observer cannot tell them apart";
    /// Two sockets that differ only in what they are bound to.
    SameTuple = "same_tuple",
        "two sockets have this tuple, bound to different interfaces; a flow is one tuple";
    /// A flow table was full.
    TableFull = "table_full",
        "a table was full since the agent started (skipped_packets_total), and new flows were not taken; raise --max-flows";
    /// `TCP_FASTOPEN_CONNECT`: connected by name only.
    DeferredConnect = "deferred_connect",
        "a Fast Open that waits for its first data: no SYN was sent";
    /// A SYN_SENT socket whose SYNs pass no hook, at least not since the agent is there.
    SynUnseen = "syn_unseen",
        "its SYN passed no hook: held back on the way (neighbour not resolved, firewall, carrier down), or older than the \
         agent, which takes the next one";
    /// One side of the flow was never seen.
    OneDirection = "one_direction",
        "only one direction passes an observed interface: the other end's segments were never seen";
    /// What had happened before the flow was picked up.
    PickedUp = "picked_up",
        "picked up mid-stream after one end's FIN had passed: taken to be established";
    /// `TCP_DEFER_ACCEPT`.
    DeferredAccept = "deferred_accept",
        "the handshake is complete on the wire and the listener waits for data (TCP_DEFER_ACCEPT)";
    /// A full accept queue.
    AcceptQueueFull = "accept_queue_full",
        "the handshake is complete on the wire and the listener's accept queue has no room for it";
    /// Closed behind data that the peer or the network does not take.
    FinUnsent = "fin_unsent",
        "the socket is closed and its FIN waits, or waited when the peer's came, behind data that the window or the network \
         does not take";
    /// An attempt that the kernel goes on with after an ICMP error.
    Unreachable = "unreachable",
        "an ICMP error ended the attempt, and the kernel sends its SYN once more";
    /// The last moments of TIME_WAIT.
    TimeWaitEnd = "time_wait_end",
        "the last seconds of TIME_WAIT: the kernel's timer runs 60.3 to 62 s, the observer's 60 s";
    /// `tcp_max_tw_buckets`.
    TimeWaitOverflow = "time_wait_overflow",
        "the kernel has dropped TIME_WAIT sockets for want of room (tcp_max_tw_buckets)";
    /// A handshake that no request stands for.
    SynCookies = "syn_cookies",
        "the listener answers with SYN cookies and keeps no request";
    /// A request that has run out.
    RequestExpired = "request_expired",
        "the kernel gave the request up in silence; the observer waits for a moment longer";
    /// Given up after retransmissions or probes without an answer.
    GivenUp = "given_up",
        "the kernel gave the connection up in silence after repetitions without an answer; it is looked up within five \
         minutes of silence";
    /// Gone in silence, and looked up before the comparison was over.
    AwaitedLookup = "awaited_lookup",
        "the socket had ended in silence, and the agent's next look at the socket table has found that out";
    /// Somebody else is the end of this connection.
    Elsewhere = "elsewhere",
        "this address goes on speaking without a socket of this host: address translation, IPVS, a TCP in userspace";
}

/// What exceptions are recognised by, beside the two views.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub sight: Sight,
    pub listeners: Vec<Listener>,
    pub listening: Listening,
    /// What the kernel has counted in this network namespace.
    pub counts: TcpCounts,
    /// Packets that found no room in a table since the agent started.
    pub table_full: u64,
}

/// The end of the last wait for a final ACK: Linux repeats SYN-ACKs at 1, 3, 7, 15 and 31 s and gives up at 63 s.
const LAST_REQUEST_WAIT_NS: u64 = 31 * SECOND_NS;
/// From here on the kernel's TIME_WAIT may be over, or the observer's.
const TIME_WAIT_ENDS_NS: u64 = 59 * SECOND_NS;
/// What may be left of the kernel's timer when the observer's wait is over.
const TIME_WAIT_LEFT_MS: u32 = 1000;
/// Five minutes and the ten seconds between two looks, and a moment for the look itself.
const LOOKED_UP_NS: u64 = 315 * SECOND_NS;

const SECOND_NS: u64 = 1_000_000_000;

/// Why this disagreement is to be expected, by what one look can tell.
pub fn recognise(difference: &Difference, facts: &Facts) -> Option<Exception> {
    if difference.local == difference.remote {
        return Some(Exception::SelfConnected);
    }
    let tuple = (difference.local, difference.remote);
    match &difference.views {
        Views::SocketOnly(socket) => without_flow(socket, facts),
        Views::FlowOnly(flow) => without_socket(flow, ends(flow, tuple).0, difference, facts),
        Views::Both(socket, flow) => {
            let (own, peer) = ends(flow, tuple);
            between(socket, flow, own, peer, facts)
        }
    }
}

fn without_flow(socket: &Socket, facts: &Facts) -> Option<Exception> {
    if !facts.sight.sees(socket) {
        return Some(Exception::NotObserved);
    }
    match socket.state {
        State::SynSent if socket.timer.is_none() => Some(Exception::DeferredConnect),
        State::SynSent => Some(Exception::SynUnseen),
        State::TimeWait if ends_soon(socket) => Some(Exception::TimeWaitEnd),
        _ if facts.table_full > 0 => Some(Exception::TableFull),
        _ => None,
    }
}

/// Whether a TIME_WAIT socket is about to go.
fn ends_soon(socket: &Socket) -> bool {
    socket.timer.is_some_and(|timer| timer.kind == TimerKind::TimeWait && timer.expires_ms <= TIME_WAIT_LEFT_MS)
}

fn between(socket: &Socket, flow: &FlowRecord, own: &Endpoint, peer: &Endpoint, facts: &Facts) -> Option<Exception> {
    let is_closed = matches!(own.state, Some(State::Closed));
    let outcome = flow.handshake.outcome;
    match socket.state {
        State::SynReceived if is_responder(flow, own) && outcome == Outcome::Completed => {
            let is_full = facts.has_full_queue(socket);
            // Data ends deferring; a queue that was full when it came may have room by now.
            match (peer.bytes, is_full || facts.counts.listen_overflows > 0) {
                (0, _) if !is_full => Some(Exception::DeferredAccept),
                (_, true) => Some(Exception::AcceptQueueFull),
                (_, false) => None,
            }
        }
        State::SynSent if is_closed && outcome == Outcome::Unreachable => Some(Exception::Unreachable),
        State::SynSent if is_closed && outcome == Outcome::TimedOut => Some(Exception::SynUnseen),
        State::TimeWait if is_closed && ends_soon(socket) => Some(Exception::TimeWaitEnd),
        // Its FIN acknowledged the peer's, and yet it is in CLOSING or came from there: it had closed before the peer's came.
        State::TimeWait if is_closed && is_closed_by_peer(flow, own, peer) => Some(Exception::FinUnsent),
        State::Closing if own.state == Some(State::LastAck) && is_closed_by_peer(flow, own, peer) => {
            Some(Exception::FinUnsent)
        }
        State::FinWait1 | State::LastAck | State::Closing if has_unsent_fin(socket, own) => Some(Exception::FinUnsent),
        _ if is_one_sided(flow, own, peer) => Some(Exception::OneDirection),
        State::CloseWait | State::FinWait2 if was_picked_up(flow, own, peer) => Some(Exception::PickedUp),
        _ => None,
    }
}

/// More than a FIN is waiting, or what is waiting is not under way; and no FIN was seen.
fn has_unsent_fin(socket: &Socket, own: &Endpoint) -> bool {
    let is_held_back =
        socket.send_queue > 1 || socket.timer.is_some_and(|timer| matches!(timer.kind, TimerKind::Probe));
    is_held_back && !own.fin && matches!(own.state, Some(State::Established | State::CloseWait))
}

fn is_closed_by_peer(flow: &FlowRecord, own: &Endpoint, peer: &Endpoint) -> bool {
    let by = if is_responder(flow, own) { Initiator::Originator } else { Initiator::Responder };
    own.fin && peer.fin && flow.close.initiator == Some(by) && flow.close.how == Some(How::Fin)
}

fn is_one_sided(flow: &FlowRecord, own: &Endpoint, peer: &Endpoint) -> bool {
    (own.packets == 0) != (peer.packets == 0)
        && !flow.notes.has(Note::Adopted)
        && flow.handshake.outcome == Outcome::NotSeen
}

fn was_picked_up(flow: &FlowRecord, own: &Endpoint, peer: &Endpoint) -> bool {
    flow.notes.has(Note::PickedUp)
        && flow.handshake.outcome == Outcome::NotSeen
        && !own.fin
        && !peer.fin
        && own.state == Some(State::Established)
}

fn is_responder(flow: &FlowRecord, own: &Endpoint) -> bool {
    std::ptr::eq(&raw const flow.responder, own)
}

fn without_socket(flow: &FlowRecord, own: &Endpoint, difference: &Difference, facts: &Facts) -> Option<Exception> {
    let since_ns = |unix_ns: u64| difference.seen_unix_ns.saturating_sub(unix_ns);
    let silent_ns = since_ns(flow.last_seen_unix_ns);
    match own.state? {
        State::TimeWait if since_ns(flow.changed_unix_ns) >= TIME_WAIT_ENDS_NS => Some(Exception::TimeWaitEnd),
        State::TimeWait if facts.counts.time_wait_overflows > 0 => Some(Exception::TimeWaitOverflow),
        State::SynReceived if facts.listening.takes(difference.local) => {
            if facts.counts.syn_cookies_sent > 0 {
                Some(Exception::SynCookies)
            } else {
                (silent_ns >= LAST_REQUEST_WAIT_NS).then_some(Exception::RequestExpired)
            }
        }
        // Without room in the accept queue the cookie's ACK was dropped, and nothing remembers it.
        State::Established
            if is_responder(flow, own)
                && own.bytes == 0
                && facts.counts.syn_cookies_sent > 0
                && facts.counts.listen_overflows > 0
                && facts.listening.takes(difference.local) =>
        {
            Some(Exception::SynCookies)
        }
        State::Established | State::CloseWait if silent_ns <= LOOKED_UP_NS && is_unanswered(own) => {
            Some(Exception::GivenUp)
        }
        _ => None,
    }
}

/// Whether an end has said something again and again.
fn is_unanswered(own: &Endpoint) -> bool {
    own.retransmits > 0 || own.window_probes > 0 || own.unanswered_keepalives > 0
}

impl Facts {
    /// Whether the listener that this connection belongs to has no room for it (`sk_acceptq_is_full`).
    fn has_full_queue(&self, socket: &Socket) -> bool {
        self.listeners.iter().any(|listener| {
            listener.queued > listener.backlog && [listener].into_iter().collect::<Listening>().takes(socket.local)
        })
    }
}

impl Difference {
    /// Whether the agent asks for this end's socket so often that waiting for it will tell.
    pub fn awaits_lookup(&self) -> bool {
        let state = match &self.views {
            Views::FlowOnly(_) => self.state(),
            Views::Both(..) | Views::SocketOnly(_) => None,
        };
        matches!(
            state,
            Some(
                State::SynSent
                    | State::SynReceived
                    | State::FinWait1
                    | State::FinWait2
                    | State::Closing
                    | State::LastAck
            )
        )
    }
}
