//! Real connections, both ends of which are held by the test.

use std::{
    io::{self, Read, Write},
    mem,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd, FromRawFd},
    thread,
    time::Duration,
};

use crate::{namespace::Namespace, wait::patience};

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

    /// Sets an option of TCP's; accepted sockets inherit it.
    pub fn set_tcp_option(&self, option: i32, value: i32) {
        set_tcp_option(&self.0, option, value);
    }

    /// How much of what it is sent an accepted socket keeps unread (the kernel doubles it).
    pub fn set_receive_buffer(&self, bytes: i32) {
        set_option(self.0.as_raw_fd(), libc::SO_RCVBUF, &bytes);
    }

    /// Changes how many connections may wait to be accepted.
    pub fn set_backlog(&self, backlog: i32) {
        // SAFETY: the socket is open; to listen again changes nothing but the backlog.
        let result = unsafe { libc::listen(self.0.as_raw_fd(), backlog) };
        assert!(result == 0, "listen: {}", io::Error::last_os_error());
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
    let stream = from.within(|| TcpStream::connect_timeout(&to, patience(LIMIT)))?;
    bound(&stream);
    Ok(stream)
}

/// A socket whose connect has been begun, and goes on in the kernel while this is held.
#[track_caller]
pub fn begin_connect(from: &Namespace, to: SocketAddr) -> TcpStream {
    let stream = socket(from, to.is_ipv4());
    stream.set_nonblocking(true).expect("a socket can do without waiting");
    let result = call_with(&stream, to, libc::connect);
    let error = io::Error::last_os_error();
    assert!(result == 0 || error.raw_os_error() == Some(libc::EINPROGRESS), "connect to {to}: {error}");
    stream
}

/// Connects from a port that may have been used before, with a limit of time on this and what follows.
pub fn connect_again(from: &Namespace, own: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let stream = socket(from, to.is_ipv4());
    bound(&stream);
    bind(&stream, own)?;
    connect_to(&stream, to)?;
    Ok(stream)
}

/// A connected socket in the calling thread's namespace that has no peer and sends nothing, as one whose connection is about
/// to be restored there (`TCP_REPAIR`, <https://lwn.net/Articles/495304/>).
pub fn without_peer(own: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let stream = socket_here(to.is_ipv4());
    set_tcp_option(&stream, libc::TCP_REPAIR, 1);
    // Not `bind`, whose `SO_REUSEADDR` would take back what this option gives: any number of them on one port.
    done(call_with(&stream, own, libc::bind))?;
    connect_to(&stream, to)?;
    Ok(stream)
}

/// Connects by Fast Open: the data goes with the SYN where a cookie is known, else one is asked for.
pub fn connect_fast(from: &Namespace, to: SocketAddr, data: &[u8]) -> io::Result<TcpStream> {
    let stream = socket(from, to.is_ipv4());
    bound(&stream);
    send_fast(&stream, to, data)?;
    Ok(stream)
}

/// Sets an option of TCP's.
#[track_caller]
pub fn set_tcp_option(socket: &impl AsRawFd, option: i32, value: i32) {
    set_option_of(socket.as_raw_fd(), libc::IPPROTO_TCP, option, &value);
}

#[track_caller]
fn socket(namespace: &Namespace, is_ipv4: bool) -> TcpStream {
    namespace.within(|| socket_here(is_ipv4))
}

/// A socket in the calling thread's namespace, not bound to anything.
#[track_caller]
pub fn socket_here(is_ipv4: bool) -> TcpStream {
    let family = if is_ipv4 { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: a plain system call; the descriptor it gives is owned by nobody else.
    unsafe {
        let fd = libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0, "socket: {}", io::Error::last_os_error());
        TcpStream::from_raw_fd(fd)
    }
}

/// Binds a socket, with `SO_REUSEADDR`, so that nothing but a living socket is in the way.
pub fn bind(stream: &TcpStream, own: SocketAddr) -> io::Result<()> {
    set_option(stream.as_raw_fd(), libc::SO_REUSEADDR, &1_i32);
    done(call_with(stream, own, libc::bind))
}

/// Connects a socket; one that does not wait has then begun to (`EINPROGRESS`).
pub fn connect_to(stream: &TcpStream, to: SocketAddr) -> io::Result<()> {
    done(call_with(stream, to, libc::connect))
}

/// Takes a socket's connection from it (`connect` to nothing), by a RST where there is one.
pub fn disconnect(stream: &TcpStream) -> io::Result<()> {
    // SAFETY: sockaddr is plain data that may be all zero, which is AF_UNSPEC.
    let result = unsafe {
        let nothing: libc::sockaddr = mem::zeroed();
        libc::connect(stream.as_raw_fd(), &nothing, mem::size_of_val(&nothing) as u32)
    };
    done(result)
}

/// What a system call that gives back zero or an error has come to.
fn done(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends data by Fast Open from a socket that is bound: with the SYN where a cookie is known.
pub fn send_fast(stream: &TcpStream, to: SocketAddr, data: &[u8]) -> io::Result<()> {
    let (storage, length) = socket_address(to);
    let address = (&raw const storage).cast();
    let (fd, flags) = (stream.as_raw_fd(), libc::MSG_FASTOPEN);
    // SAFETY: data and address are valid for their lengths.
    let sent = unsafe { libc::sendto(fd, data.as_ptr().cast(), data.len(), flags, address, length) };
    if sent == data.len() as isize { Ok(()) } else { Err(io::Error::last_os_error()) }
}

type Call = unsafe extern "C" fn(i32, *const libc::sockaddr, libc::socklen_t) -> i32;

/// `bind` or `connect`.
fn call_with(stream: &TcpStream, addr: SocketAddr, call: Call) -> i32 {
    let (storage, length) = socket_address(addr);
    // SAFETY: the address is valid for `length` bytes.
    unsafe { call(stream.as_raw_fd(), (&raw const storage).cast(), length) }
}

fn socket_address(addr: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: sockaddr_storage is plain data that may be all zero.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let length = match addr.ip() {
        IpAddr::V4(ip) => {
            let to: *mut libc::sockaddr_in = (&raw mut storage).cast();
            // SAFETY: the storage is large enough and aligned for any address.
            unsafe {
                (*to).sin_family = libc::AF_INET as u16;
                (*to).sin_port = addr.port().to_be();
                (*to).sin_addr.s_addr = u32::from_ne_bytes(ip.octets());
            }
            mem::size_of::<libc::sockaddr_in>()
        }
        IpAddr::V6(ip) => {
            let to: *mut libc::sockaddr_in6 = (&raw mut storage).cast();
            // SAFETY: as above.
            unsafe {
                (*to).sin6_family = libc::AF_INET6 as u16;
                (*to).sin6_port = addr.port().to_be();
                (*to).sin6_addr.s6_addr = ip.octets();
            }
            mem::size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, length as libc::socklen_t)
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
    stream.set_read_timeout(Some(patience(LIMIT))).expect("a socket takes a timeout");
    stream.set_write_timeout(Some(patience(LIMIT))).expect("a socket takes a timeout");
}

fn set_timeout(socket: &impl AsRawFd, option: i32) {
    let limit = libc::timeval { tv_sec: patience(LIMIT).as_secs() as _, tv_usec: 0 };
    set_option(socket.as_raw_fd(), option, &limit);
}

#[track_caller]
fn set_option<T>(fd: i32, option: i32, value: &T) {
    set_option_of(fd, libc::SOL_SOCKET, option, value);
}

#[track_caller]
fn set_option_of<T>(fd: i32, level: i32, option: i32, value: &T) {
    // SAFETY: the value is valid for its own size.
    let result = unsafe { libc::setsockopt(fd, level, option, (&raw const *value).cast(), mem::size_of::<T>() as u32) };
    assert!(result == 0, "setsockopt {option}: {}", io::Error::last_os_error());
}
