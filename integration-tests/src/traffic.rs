//! Real connections, both ends of which are held by the test.

use std::{
    io::{self, Read, Write},
    mem,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd, FromRawFd},
    thread,
    time::Duration,
};

use crate::namespace::Namespace;

/// What connecting, accepting, reading and writing may each take.
const LIMIT: Duration = Duration::from_secs(10);

/// A listening socket in a namespace.
pub struct Listener(TcpListener);

impl Listener {
    #[track_caller]
    pub fn new(namespace: &Namespace, addr: SocketAddr) -> Self {
        let listener =
            namespace.within(|| TcpListener::bind(addr)).unwrap_or_else(|e| panic!("cannot bind {addr}: {e}"));
        set_timeout(&listener, libc::SO_RCVTIMEO);
        Self(listener)
    }

    pub fn addr(&self) -> SocketAddr {
        self.0.local_addr().expect("a bound socket has an address")
    }

    /// One accepted connection, with limits of time on it.
    #[track_caller]
    pub fn accept(&self) -> TcpStream {
        let (stream, _) = self.0.accept().unwrap_or_else(|error| panic!("nothing to accept: {error}"));
        bound(&stream);
        stream
    }
}

/// A connection with both its ends.
pub struct Connection {
    pub client: TcpStream,
    pub server: TcpStream,
}

impl Connection {
    /// Connects from a namespace to a listener (which may live in another one), and accepts.
    #[track_caller]
    pub fn open(from: &Namespace, listener: &Listener) -> Self {
        let client =
            connect(from, listener.addr()).unwrap_or_else(|e| panic!("cannot connect to {}: {e}", listener.addr()));
        Self { client, server: listener.accept() }
    }

    /// Several of them, all held open.
    #[track_caller]
    pub fn open_many(from: &Namespace, listener: &Listener, count: usize) -> Vec<Self> {
        (0..count).map(|_| Self::open(from, listener)).collect()
    }

    /// Sends bytes from the client, read to the last one by the server.
    #[track_caller]
    pub fn send(&self, bytes: usize) {
        transfer(&self.client, &self.server, bytes);
    }

    /// Sends bytes from the server, read to the last one by the client.
    #[track_caller]
    pub fn answer(&self, bytes: usize) {
        transfer(&self.server, &self.client, bytes);
    }

    /// The client's address.
    pub fn client_addr(&self) -> SocketAddr {
        self.client.local_addr().expect("a connected socket has an address")
    }
}

/// Connects from a namespace, with a limit of time on this and what follows.
pub fn connect(from: &Namespace, to: SocketAddr) -> io::Result<TcpStream> {
    let stream = from.within(|| TcpStream::connect_timeout(&to, LIMIT))?;
    bound(&stream);
    Ok(stream)
}

/// A socket whose connect has been begun, and goes on in the kernel while this is held.
#[track_caller]
pub fn begin_connect(from: &Namespace, to: SocketAddr) -> TcpStream {
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: a plain system call; the descriptor it gives is owned by nobody else.
    let stream = from.within(|| unsafe {
        let fd = libc::socket(family, libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0, "socket: {}", io::Error::last_os_error());
        TcpStream::from_raw_fd(fd)
    });
    // SAFETY: sockaddr_storage is plain data that may be all zero.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let length = match to.ip() {
        IpAddr::V4(ip) => {
            let addr: *mut libc::sockaddr_in = (&raw mut storage).cast();
            // SAFETY: the storage is large enough and aligned for any address.
            unsafe {
                (*addr).sin_family = libc::AF_INET as u16;
                (*addr).sin_port = to.port().to_be();
                (*addr).sin_addr.s_addr = u32::from_ne_bytes(ip.octets());
            }
            mem::size_of::<libc::sockaddr_in>()
        }
        IpAddr::V6(ip) => {
            let addr: *mut libc::sockaddr_in6 = (&raw mut storage).cast();
            // SAFETY: as above.
            unsafe {
                (*addr).sin6_family = libc::AF_INET6 as u16;
                (*addr).sin6_port = to.port().to_be();
                (*addr).sin6_addr.s6_addr = ip.octets();
            }
            mem::size_of::<libc::sockaddr_in6>()
        }
    };
    // SAFETY: the address is valid for `length` bytes.
    let result = unsafe { libc::connect(stream.as_raw_fd(), (&raw const storage).cast(), length as u32) };
    let error = io::Error::last_os_error();
    assert!(result == 0 || error.raw_os_error() == Some(libc::EINPROGRESS), "connect to {to}: {error}");
    stream
}

/// Makes the next close of this socket send a RST.
pub fn reset_on_close(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    set_option(stream.as_raw_fd(), libc::SO_LINGER, &linger);
}

#[track_caller]
fn transfer(mut from: &TcpStream, mut to: &TcpStream, bytes: usize) {
    thread::scope(|scope| {
        scope.spawn(move || from.write_all(&vec![b'x'; bytes]).expect("cannot send"));
        let mut received = vec![0; bytes];
        to.read_exact(&mut received).expect("cannot receive");
    });
}

fn bound(stream: &TcpStream) {
    stream.set_read_timeout(Some(LIMIT)).expect("a socket takes a timeout");
    stream.set_write_timeout(Some(LIMIT)).expect("a socket takes a timeout");
}

fn set_timeout(socket: &impl AsRawFd, option: i32) {
    let limit = libc::timeval { tv_sec: LIMIT.as_secs() as libc::time_t, tv_usec: 0 };
    set_option(socket.as_raw_fd(), option, &limit);
}

fn set_option<T>(fd: i32, option: i32, value: &T) {
    // SAFETY: the value is valid for its own size.
    let result = unsafe {
        libc::setsockopt(fd, libc::SOL_SOCKET, option, (&raw const *value).cast(), mem::size_of::<T>() as u32)
    };
    assert!(result == 0, "setsockopt {option}: {}", io::Error::last_os_error());
}
