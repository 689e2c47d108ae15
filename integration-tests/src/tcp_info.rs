//! The kernel's own count of a connection: `TCP_INFO`.

use std::{mem, net::TcpStream, os::fd::AsRawFd};

/// Fields of the kernel's `struct tcp_info` (include/uapi/linux/tcp.h); the C library's is too short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    /// Segments that the socket has sent and received, its SYN or the answer to it included.
    pub segs_out: u32,
    pub segs_in: u32,
    pub data_segs_in: u32,
    pub data_segs_out: u32,
    /// Segments sent again.
    pub total_retrans: u32,
    /// Payload that the socket has sent, in bytes, what was sent again included.
    pub bytes_sent: u64,
}

impl TcpInfo {
    #[track_caller]
    pub fn of(stream: &TcpStream) -> Self {
        let mut bytes = [0_u8; 256];
        let mut length = mem::size_of_val(&bytes) as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes, which is how long the buffer is.
        let result = unsafe {
            libc::getsockopt(
                stream.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                bytes.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        assert!(result == 0 && length >= 208, "TCP_INFO: {}", std::io::Error::last_os_error());
        let word = |offset: usize| u32::from_ne_bytes(bytes[offset..offset + 4].try_into().unwrap());
        let long = |offset: usize| u64::from_ne_bytes(bytes[offset..offset + 8].try_into().unwrap());
        Self {
            total_retrans: word(100),
            segs_out: word(136),
            segs_in: word(140),
            data_segs_in: word(152),
            data_segs_out: word(156),
            bytes_sent: long(200),
        }
    }
}
