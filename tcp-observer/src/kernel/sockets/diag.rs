//! One question to the kernel's socket table and the answers to it, as bytes.
//!
//! <https://man7.org/linux/man-pages/man7/sock_diag.7.html>. Nothing that the kernel sends is believed further than
//! its length allows.

use std::io::{self, ErrorKind};

use netlink_packet_core::{
    DecodeError, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_MULTIPART, NLM_F_REQUEST, NLMSG_ALIGNTO, NLMSG_DONE, NLMSG_ERROR,
    NetlinkBuffer, NetlinkHeader, NetlinkMessage, parse_i32,
};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP, SOCK_DIAG_BY_FAMILY},
    inet::{ExtensionFlags, InetRequest, SocketId, StateFlags},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};

/// As much as the kernel ever puts together, given a reader with the room for it.
const RECEIVE_BYTES: usize = 32 << 10;

/// Shows all sockets in these states, of both families.
pub fn dump(states: StateFlags, mut visit: impl FnMut(&[u8]) -> Result<(), DecodeError>) -> io::Result<()> {
    ask(NLM_F_DUMP, request(AF_INET, states.clone(), SocketId::new_v4()), &mut visit)?;
    ask(NLM_F_DUMP, request(AF_INET6, states, SocketId::new_v6()), &mut visit)
}

/// Shows the one socket that takes what `id` says; the error is `ENOENT` where there is none.
pub fn query(id: SocketId, mut visit: impl FnMut(&[u8]) -> Result<(), DecodeError>) -> io::Result<()> {
    let family = if id.source_address.is_ipv4() { AF_INET } else { AF_INET6 };
    ask(0, request(family, StateFlags::all(), id), &mut visit)
}

fn request(family: u8, states: StateFlags, socket_id: SocketId) -> InetRequest {
    InetRequest { family, protocol: IPPROTO_TCP, extensions: ExtensionFlags::empty(), states, socket_id }
}

fn ask(flags: u16, request: InetRequest, visit: &mut impl FnMut(&[u8]) -> Result<(), DecodeError>) -> io::Result<()> {
    let socket = Socket::new(NETLINK_SOCK_DIAG)?;
    // To the kernel: what is connected takes messages from nobody else.
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&message(flags, request), 0)?;
    let mut buffer = vec![0; RECEIVE_BYTES];
    let mut interrupted = false;
    loop {
        let length = receive(&socket, &mut buffer)?;
        if walk(&buffer[..length], &mut interrupted, visit)? {
            return Ok(());
        }
    }
}

/// Shows the answers in one datagram to `visit`; says whether they were the last.
pub fn walk(
    datagram: &[u8],
    interrupted: &mut bool,
    visit: &mut impl FnMut(&[u8]) -> Result<(), DecodeError>,
) -> io::Result<bool> {
    let mut rest = datagram;
    while !rest.is_empty() {
        let message = NetlinkBuffer::new_checked(rest).map_err(unreadable)?;
        *interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
        match message.message_type() {
            NLMSG_DONE | NLMSG_ERROR => return end(message.payload(), *interrupted).map(|()| true),
            SOCK_DIAG_BY_FAMILY => visit(message.payload()).map_err(unreadable)?,
            _ => {}
        }
        if message.flags() & NLM_F_MULTIPART == 0 {
            return Ok(true);
        }
        let length = (message.length() as usize).next_multiple_of(usize::from(NLMSG_ALIGNTO));
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(false)
}

fn message(flags: u16, request: InetRequest) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.recv(&mut &mut *buffer, 0) {
            // By a signal, which is another matter than an interrupted dump.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// What the last message says: nothing, or a negative error number.
fn end(payload: &[u8], interrupted: bool) -> io::Result<()> {
    let code = payload.get(..4).map_or(Ok(0), parse_i32).map_err(unreadable)?;
    match code {
        0 if interrupted => Err(ErrorKind::Interrupted.into()),
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
    }
}

fn unreadable(error: DecodeError) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_dump_carries_its_error() {
        assert!(end(&0_i32.to_ne_bytes(), false).is_ok());
        let missing = (-libc::ENOENT).to_ne_bytes();
        assert_eq!(end(&missing, false).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        assert_eq!(end(&missing, true).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn an_error_number_that_has_no_opposite_is_an_error_all_the_same() {
        assert!(end(&i32::MIN.to_ne_bytes(), false).is_err());
    }

    #[test]
    fn a_dump_that_the_kernel_calls_inconsistent_is_not_taken_for_whole() {
        assert_eq!(end(&0_i32.to_ne_bytes(), true).unwrap_err().kind(), ErrorKind::Interrupted);
    }

    #[test]
    fn a_request_has_the_kernels_layout() {
        // struct nlmsghdr, then struct inet_diag_req_v2.
        let bytes = message(NLM_F_DUMP, request(AF_INET6, StateFlags::LISTEN, SocketId::new_v6()));
        assert_eq!(bytes.len(), 16 + 56);
        assert_eq!(bytes[..4], 72_u32.to_ne_bytes());
        assert_eq!(bytes[4..6], 20_u16.to_ne_bytes());
        assert_eq!(bytes[6..8], 0x301_u16.to_ne_bytes());
        assert_eq!(bytes[16..20], [10, 6, 0, 0]);
        assert_eq!(bytes[20..24], (1_u32 << 10).to_ne_bytes());
    }
}
