//! The kernel's own table of TCP sockets (`NETLINK_SOCK_DIAG`, what `ss` reads): what packets cannot tell.
//!
//! What enters is the network namespace of the calling thread. What leaves are [`Socket`]s, all that have a peer, and
//! [`Listener`]s. IPv4-mapped addresses leave as IPv4 ones: the connection of a dual-stack socket is an IPv4 flow on
//! the wire.
//!
//! The table changes while it is read: a socket that moves meanwhile is missed or shown twice, as with any walk of a
//! live table. Every call asks anew, on a conversation of its own, and blocks until the kernel has answered; no
//! privilege is needed. Where the kernel has no such table to show, the error's kind is [`ErrorKind::Unsupported`].

pub(crate) mod diag;
pub(crate) mod entry;
mod listening;

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr},
};

use netlink_packet_sock_diag::inet::StateFlags;
use tcp_observer_common::conn::State;

pub use listening::{Listener, Listening};

/// A socket with a peer. Of one in TIME_WAIT, of an orphan in FIN_WAIT_2 and of a handshake in SYN_RECEIVED the kernel
/// keeps less: no queues, and no inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub state: State,
    /// The interface that it is bound to, as sockets with link-local addresses are.
    pub interface: Option<u32>,
    /// The timer that runs.
    pub timer: Option<Timer>,
    /// Bytes that the application has not read.
    pub receive_queue: u32,
    /// Bytes that the peer has not acknowledged.
    pub send_queue: u32,
    /// 0 where no process has it.
    pub inode: u32,
    pub uid: u32,
    /// The kernel's name for this socket, never used again (`SO_COOKIE`).
    pub cookie: u64,
}

#[cfg(test)]
impl Socket {
    /// A socket that belongs to a process, with nothing under way.
    pub fn fixture(local: &str, remote: &str, state: State) -> Self {
        Self {
            local: local.parse().expect("an address and a port"),
            remote: remote.parse().expect("an address and a port"),
            state,
            interface: None,
            timer: None,
            receive_queue: 0,
            send_queue: 0,
            inode: 1,
            uid: 0,
            cookie: 1,
        }
    }
}

/// A running timer of a socket, and what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    pub kind: TimerKind,
    pub expires_ms: u32,
}

/// What happens when a timer has run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerKind {
    /// Something is sent again.
    Retransmit,
    /// A sign of life is asked for, or an orphan is given up.
    KeepAlive,
    /// The tuple is free again: the end of TIME_WAIT, and of FIN_WAIT_2 for an orphan.
    TimeWait,
    /// A closed window is probed.
    Probe,
}

/// How often a reading that the kernel calls inconsistent is begun.
const TRIES: usize = 4;

/// Shows every socket that has a peer to `visit`.
///
/// # Errors
/// When the kernel has no table to show, or fails to; then some sockets may have been shown already.
pub fn for_each(mut visit: impl FnMut(Socket)) -> io::Result<()> {
    diag::dump(entry::with_peer(), |answer| {
        if let Some(socket) = entry::socket(answer)? {
            visit(socket);
        }
        Ok(())
    })
    .map_err(described)
}

/// Every socket that has a peer.
///
/// # Errors
/// When the kernel has no table to show, or fails to.
pub fn connections() -> io::Result<Vec<Socket>> {
    retried(|| {
        let mut sockets = Vec::new();
        for_each(|socket| sockets.push(socket))?;
        Ok(sockets)
    })
}

/// Every listening socket.
///
/// # Errors
/// When the kernel has no table to show, or fails to.
pub fn listeners() -> io::Result<Vec<Listener>> {
    retried(|| {
        let mut listeners = Vec::new();
        diag::dump(StateFlags::LISTEN, |answer| {
            listeners.push(entry::listener(answer)?);
            Ok(())
        })
        .map_err(described)?;
        Ok(listeners)
    })
}

/// The state of the one socket with these ends; `None` where there is none. A socket that is bound to an interface is
/// found by that one's index only, any other by whatever index.
///
/// # Errors
/// When the kernel has no table to ask, or fails to answer.
pub fn state_of(local: SocketAddr, remote: SocketAddr, interface: Option<u32>) -> io::Result<Option<State>> {
    let mut found = None;
    let asked = diag::query(entry::id(local, remote, interface), |answer| {
        found = entry::socket(answer)?;
        Ok(())
    });
    match asked {
        // Where nothing but a listener would take the tuple's packets, that is what the kernel shows.
        Ok(()) => Ok(found.filter(|it| same(it.local, local) && same(it.remote, remote)).map(|it| it.state)),
        // So answers a kernel without the table, too. That one shows not even a part of it that is always empty.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            diag::dump(StateFlags::empty(), |_| Ok(())).map(|()| None).map_err(described)
        }
        Err(error) => Err(described(error)),
    }
}

/// The same address and port, whichever family writes it and whatever its scope.
fn same(one: SocketAddr, other: SocketAddr) -> bool {
    canonical(one.ip(), one.port()) == canonical(other.ip(), other.port())
}

fn canonical(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}

fn retried<T>(mut read: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let passes = |error: &io::Error| matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::OutOfMemory);
    for _ in 1..TRIES {
        match read() {
            Err(error) if passes(&error) => {}
            result => return result,
        }
    }
    read()
}

/// The same error with its object and its remedy.
fn described(error: io::Error) -> io::Error {
    let (kind, remedy) = match error.raw_os_error() {
        Some(libc::ENOENT | libc::EPROTONOSUPPORT | libc::EOPNOTSUPP) => {
            (ErrorKind::Unsupported, "load the kernel's module for it: `modprobe tcp_diag` (CONFIG_INET_TCP_DIAG)")
        }
        // What systemd makes of an address family that is not allowed.
        Some(libc::EPERM | libc::EACCES | libc::EAFNOSUPPORT) => (
            ErrorKind::PermissionDenied,
            "let this process open netlink sockets (AF_NETLINK in systemd's RestrictAddressFamilies=)",
        ),
        Some(libc::ENOBUFS | libc::ENOMEM) => (ErrorKind::OutOfMemory, "the kernel is out of memory; try again later"),
        _ if error.kind() == ErrorKind::Interrupted => (ErrorKind::Interrupted, "it changed meanwhile; try again"),
        _ => (error.kind(), "try `ss -tan`, which asks the same"),
    };
    io::Error::new(kind, format!("cannot read the kernel's TCP sockets: {error}; {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_the_table_is_told_from_one_that_refuses() {
        let said = |errno| described(io::Error::from_raw_os_error(errno));
        let missing = said(libc::ENOENT);
        assert_eq!(missing.kind(), ErrorKind::Unsupported);
        assert!(missing.to_string().contains("modprobe tcp_diag"), "{missing}");
        assert_eq!(said(libc::EPROTONOSUPPORT).kind(), ErrorKind::Unsupported);
        assert_eq!(said(libc::EPERM).kind(), ErrorKind::PermissionDenied);
        assert!(said(libc::EAFNOSUPPORT).to_string().contains("AF_NETLINK"));
    }

    #[test]
    fn a_reading_is_begun_again_when_that_may_help_and_not_for_ever() {
        let tries = |kind: ErrorKind, until: usize| {
            let mut begun = 0;
            let result = retried(|| {
                begun += 1;
                if begun < until { Err(kind.into()) } else { Ok(()) }
            });
            (begun, result.is_ok())
        };
        assert_eq!(tries(ErrorKind::Interrupted, 3), (3, true));
        assert_eq!(tries(ErrorKind::OutOfMemory, usize::MAX), (TRIES, false));
        assert_eq!(tries(ErrorKind::Unsupported, 3), (1, false));
    }

    #[test]
    fn addresses_are_the_same_in_either_family() {
        let (mapped, plain) = ("[::ffff:192.0.2.1]:80".parse().unwrap(), "192.0.2.1:80".parse().unwrap());
        assert!(same(mapped, plain));
        assert!(!same(plain, "192.0.2.1:81".parse().unwrap()));
        assert!(same("[fe80::1%3]:80".parse().unwrap(), "[fe80::1]:80".parse().unwrap()));
    }
}
