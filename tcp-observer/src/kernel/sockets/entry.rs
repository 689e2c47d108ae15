//! From one answer of the kernel (`struct inet_diag_msg` and attributes) to a [`Socket`] or a [`Listener`], and from a
//! tuple to the name by which the kernel finds it.

use std::net::SocketAddr;

use netlink_packet_core::{DecodeError, NlasIterator, Parseable, parse_u32};
use netlink_packet_sock_diag::{
    constants::{
        INET_DIAG_SKV6ONLY, TCP_CLOSE_WAIT, TCP_CLOSING, TCP_ESTABLISHED, TCP_FIN_WAIT1, TCP_FIN_WAIT2, TCP_LAST_ACK,
        TCP_SYN_RECV, TCP_SYN_SENT, TCP_TIME_WAIT,
    },
    inet::{self, InetResponseHeader, SocketId, StateFlags},
};
use tcp_observer_common::conn::State;

use super::{Listener, Socket, Timer, TimerKind, canonical};

/// Where the remaining time of the timer lies; the crate leaves it out for TIME_WAIT.
const EXPIRES: std::ops::Range<usize> = 52..56;
/// Where the attributes begin.
const ATTRIBUTES: usize = 72;

/// The states of a socket that has a peer.
pub fn with_peer() -> StateFlags {
    StateFlags::all() - StateFlags::LISTEN - StateFlags::CLOSE
}

/// A socket that has a peer. One may have lost it between being chosen and being described.
pub fn socket(answer: &[u8]) -> Result<Option<Socket>, DecodeError> {
    let header = InetResponseHeader::parse(answer)?;
    let Some(state) = state(header.state) else { return Ok(None) };
    let id = &header.socket_id;
    Ok(Some(Socket {
        local: canonical(id.source_address, id.source_port),
        remote: canonical(id.destination_address, id.destination_port),
        state,
        interface: interface(id),
        timer: timer(&header, answer)?,
        receive_queue: header.recv_queue,
        send_queue: header.send_queue,
        inode: header.inode,
        uid: header.uid,
        cookie: cookie(id),
    }))
}

/// A listening socket. Its queues are of connections.
pub fn listener(answer: &[u8]) -> Result<Listener, DecodeError> {
    let header = InetResponseHeader::parse(answer)?;
    let id = &header.socket_id;
    let local = canonical(id.source_address, id.source_port);
    Ok(Listener {
        local,
        accepts_ipv4: local.is_ipv4() || (local.ip().is_unspecified() && !is_ipv6_only(answer)?),
        interface: interface(id),
        backlog: header.send_queue,
        queued: header.recv_queue,
    })
}

/// The name of a socket, whatever its cookie.
pub fn id(local: SocketAddr, remote: SocketAddr, interface: Option<u32>) -> SocketId {
    SocketId {
        source_port: local.port(),
        destination_port: remote.port(),
        // IPv4 finds the connections of dual-stack sockets as well.
        source_address: local.ip().to_canonical(),
        destination_address: remote.ip().to_canonical(),
        interface_id: interface.unwrap_or(0),
        cookie: [0xff; 8],
    }
}

fn state(kernels: u8) -> Option<State> {
    match kernels {
        TCP_SYN_SENT => Some(State::SynSent),
        TCP_SYN_RECV => Some(State::SynReceived),
        TCP_ESTABLISHED => Some(State::Established),
        TCP_FIN_WAIT1 => Some(State::FinWait1),
        TCP_FIN_WAIT2 => Some(State::FinWait2),
        TCP_CLOSE_WAIT => Some(State::CloseWait),
        TCP_CLOSING => Some(State::Closing),
        TCP_LAST_ACK => Some(State::LastAck),
        TCP_TIME_WAIT => Some(State::TimeWait),
        // LISTEN, CLOSE, and what only the kernel knows: none has a peer.
        _ => None,
    }
}

fn timer(header: &InetResponseHeader, answer: &[u8]) -> Result<Option<Timer>, DecodeError> {
    let kind = match header.timer {
        Some(inet::Timer::Retransmit(..)) => TimerKind::Retransmit,
        Some(inet::Timer::KeepAlive(_)) => TimerKind::KeepAlive,
        Some(inet::Timer::TimeWait) => TimerKind::TimeWait,
        Some(inet::Timer::Probe(_)) => TimerKind::Probe,
        None => return Ok(None),
    };
    let expires_ms = parse_u32(answer.get(EXPIRES).unwrap_or_default())?;
    Ok(Some(Timer { kind, expires_ms }))
}

fn is_ipv6_only(answer: &[u8]) -> Result<bool, DecodeError> {
    for attribute in NlasIterator::new(answer.get(ATTRIBUTES..).unwrap_or_default()) {
        let attribute = attribute?;
        if attribute.kind() == INET_DIAG_SKV6ONLY {
            return Ok(attribute.value() != [0]);
        }
    }
    Ok(false)
}

fn interface(id: &SocketId) -> Option<u32> {
    (id.interface_id != 0).then_some(id.interface_id)
}

/// Two words, the low one first.
fn cookie(id: &SocketId) -> u64 {
    let [a, b, c, d, e, f, g, h] = id.cookie;
    u64::from(u32::from_ne_bytes([e, f, g, h])) << 32 | u64::from(u32::from_ne_bytes([a, b, c, d]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer, put together as include/uapi/linux/inet_diag.h describes it.
    fn answer(family: u8, state: u8, timer: u8, local: [u8; 16], remote: [u8; 16]) -> Vec<u8> {
        let mut bytes = vec![family, state, timer, 0];
        bytes.extend([8080_u16.to_be_bytes(), 40_000_u16.to_be_bytes()].concat());
        bytes.extend([local, remote].concat());
        // Interface, cookie, timer, queues, owner, inode.
        for word in [7, 0xc0ffee, 1, 59_876, 11, 12, 1000, 4242_u32] {
            bytes.extend(word.to_ne_bytes());
        }
        assert_eq!(bytes.len(), ATTRIBUTES);
        bytes
    }

    fn attribute(bytes: &mut Vec<u8>, kind: u16, value: u8) {
        bytes.extend([5_u16.to_ne_bytes(), kind.to_ne_bytes()].concat());
        bytes.extend([value, 0, 0, 0]);
    }

    const V4: u8 = 2;
    const V6: u8 = 10;

    fn ipv4(last: u8) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&[192, 0, 2, last]);
        bytes
    }

    fn mapped(last: u8) -> [u8; 16] {
        std::net::Ipv4Addr::new(192, 0, 2, last).to_ipv6_mapped().octets()
    }

    #[test]
    fn each_field_is_where_the_kernel_puts_it() {
        let socket = socket(&answer(V4, 6, 3, ipv4(2), ipv4(1))).unwrap().unwrap();
        let expected = Socket {
            local: "192.0.2.2:8080".parse().unwrap(),
            remote: "192.0.2.1:40000".parse().unwrap(),
            state: State::TimeWait,
            interface: Some(7),
            timer: Some(Timer { kind: TimerKind::TimeWait, expires_ms: 59_876 }),
            receive_queue: 11,
            send_queue: 12,
            inode: 4242,
            uid: 1000,
            cookie: 0x1_00c0_ffee,
        };
        assert_eq!(socket, expected);
    }

    #[test]
    fn the_connection_of_a_dual_stack_socket_is_an_ipv4_one() {
        let dual = socket(&answer(V6, 1, 0, mapped(2), mapped(1))).unwrap().unwrap();
        let plain = socket(&answer(V4, 1, 0, ipv4(2), ipv4(1))).unwrap().unwrap();
        assert_eq!(dual, plain);
        assert_eq!(dual.timer, None);
    }

    #[test]
    fn states_without_a_peer_are_no_connections() {
        // CLOSE, LISTEN, NEW_SYN_RECV, BOUND_INACTIVE: include/net/tcp_states.h.
        for state in [0, 7, 10, 12, 13] {
            assert_eq!(socket(&answer(V4, state, 0, ipv4(2), ipv4(1))).unwrap(), None);
        }
        let states = [1, 2, 3, 4, 5, 6, 8, 9, 11];
        assert_eq!(with_peer().bits(), states.iter().fold(0, |all, state| all | 1 << state));
        assert!(states.into_iter().all(|state| self::state(state).is_some()));
    }

    #[test]
    fn the_any_address_takes_ipv4_unless_it_is_told_not_to() {
        let any = |only: u8| {
            let mut bytes = answer(V6, 10, 0, [0; 16], [0; 16]);
            attribute(&mut bytes, 8, 1);
            attribute(&mut bytes, 11, only);
            listener(&bytes).unwrap()
        };
        assert!(any(0).accepts_ipv4);
        assert!(!any(1).accepts_ipv4);
        assert_eq!((any(1).queued, any(1).backlog), (11, 12));
        let mut one = [0; 16];
        one[15] = 1;
        assert!(!listener(&answer(V6, 10, 0, one, [0; 16])).unwrap().accepts_ipv4);
        assert!(listener(&answer(V6, 10, 0, mapped(2), [0; 16])).unwrap().accepts_ipv4);
        assert!(listener(&answer(V4, 10, 0, [0; 16], [0; 16])).unwrap().accepts_ipv4);
    }

    #[test]
    fn an_answer_cut_short_is_an_error_and_no_panic() {
        let mut whole = answer(V6, 10, 3, mapped(2), mapped(1));
        for length in 0..ATTRIBUTES {
            assert!(socket(&whole[..length]).is_err());
            assert!(listener(&whole[..length]).is_err());
        }
        attribute(&mut whole, 11, 1);
        for length in ATTRIBUTES..whole.len() {
            let _ = listener(&whole[..length]);
        }
    }
}
