//! What the kernel might answer about its sockets: bytes as one answer, and as a datagram of several.

use std::net::{IpAddr, SocketAddr};

use tcp_observer_common::conn::State;

use crate::kernel::sockets::{diag, entry};

/// # Panics
/// Where an answer is misread.
pub fn sockets(bytes: &[u8]) {
    one(bytes);
    let (mut interrupted, mut shown) = (false, 0);
    let ended = diag::walk(bytes, &mut interrupted, &mut |answer| {
        shown += answer.len();
        one(answer);
        Ok(())
    });
    assert!(shown <= bytes.len(), "{shown} bytes of answers out of {}", bytes.len());
    // An end that something went wrong before is an error.
    assert!(!(interrupted && matches!(ended, Ok(true))) || bytes.len() >= 16);
}

/// What is no error is a socket with a peer, or a listener.
fn one(answer: &[u8]) {
    let is_canonical = |at: SocketAddr| at.ip().to_canonical() == at.ip();
    if let Ok(Some(socket)) = entry::socket(answer) {
        assert!(!matches!(socket.state, State::Unknown | State::Listen | State::Closed), "{socket:?}");
        assert!(is_canonical(socket.local) && is_canonical(socket.remote), "{socket:?}");
        // Ports are in the order of the network at the bytes 4 and 6 (struct inet_diag_msg).
        assert_eq!(socket.local.port().to_be_bytes(), answer[4..6]);
        assert_eq!(socket.remote.port().to_be_bytes(), answer[6..8]);
        let id = entry::id(socket.local, socket.remote, socket.interface);
        assert_eq!((id.source_port, id.destination_port), (socket.local.port(), socket.remote.port()));
    }
    if let Ok(listener) = entry::listener(answer) {
        assert!(is_canonical(listener.local), "{listener:?}");
        assert!(listener.accepts_ipv4 || matches!(listener.local.ip(), IpAddr::V6(_)), "{listener:?}");
    }
}
