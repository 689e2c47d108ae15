//! One visit: a script's surroundings while it opens a connection (seldom several), uses and closes it.
//!
//! A close takes effect when no process has the socket any more, and one that is being started has copies of all until it
//! executes another program. So a script waits for what a close does, never for a time.
//!
//! Both ends are held by one thread, so that a script reads from top to bottom. Whatever a script waits for has a limit
//! of time; over a bad wire it may pass, and then nothing is expected of the connection but that all accounts of it
//! agree.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    thread,
    time::{Duration, Instant},
};

use integration_tests::{
    pair::Family,
    random::Random,
    scene::Side,
    traffic::{bind, connect_to, socket_here},
};

use crate::{live::Dumps, world::World};

/// What connecting, accepting, reading and writing may each take: a handful of repetitions.
const LIMIT: Duration = Duration::from_secs(12);

/// What is certain of one connection on a tuple, by how the script has gone about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    pub outcome: Option<&'static str>,
    /// Who began the end, and how it came.
    pub close: Option<(&'static str, &'static str)>,
}

impl Expected {
    pub const UNSURE: Self = Self { outcome: None, close: None };

    /// An attempt that came to nothing.
    pub const fn failed(outcome: &'static str) -> Self {
        Self { outcome: Some(outcome), close: None }
    }

    /// A connection that came about and was closed.
    pub const fn closed(initiator: &'static str, how: &'static str) -> Self {
        Self { outcome: Some("completed"), close: Some((initiator, how)) }
    }
}

/// A tuple, and the connections that were on it one after the other.
#[derive(Clone, Debug)]
pub struct Made {
    pub kind: &'static str,
    pub client: SocketAddr,
    pub server: SocketAddr,
    pub expected: Vec<Expected>,
}

/// Both ends of a connection.
pub struct Both {
    pub client: TcpStream,
    pub server: TcpStream,
}

pub struct Visit<'w> {
    pub world: &'w World,
    pub dumps: &'w Dumps,
    pub side: Side,
    pub family: Family,
    pub listener: &'w TcpListener,
    pub random: Random,
    pub kind: &'static str,
    pub made: Vec<Made>,
}

impl Visit<'_> {
    /// A socket for a new connection of the client's to there, bound and written down.
    pub fn client(&mut self, server: SocketAddr) -> io::Result<TcpStream> {
        let client = self.world.client_addr(self.family);
        self.made.push(Made { kind: self.kind, client, server, expected: vec![Expected::UNSURE] });
        let stream = socket_here(self.family == Family::V4);
        limited(&stream);
        bind(&stream, client)?;
        Ok(stream)
    }

    /// The worker's own listener.
    pub fn server_addr(&self) -> SocketAddr {
        self.listener.local_addr().expect("a bound socket has an address")
    }

    /// A connection to the worker's listener, accepted.
    pub fn open(&mut self) -> io::Result<Both> {
        let client = self.client(self.server_addr())?;
        connect_to(&client, self.server_addr())?;
        self.accept(client)
    }

    /// The other end of this client's connection.
    pub fn accept(&self, client: TcpStream) -> io::Result<Both> {
        let server = accept(self.listener, client.local_addr()?)?;
        Ok(Both { client, server })
    }

    /// A listener of this visit's own, with room for so many that wait.
    pub fn listener(&self, backlog: i32) -> io::Result<TcpListener> {
        let addr = self.world.own_listener(self.family);
        let listener = self.world.server.within(|| TcpListener::bind(addr))?;
        // SAFETY: the socket is open; to listen again changes nothing but the backlog.
        unsafe { libc::listen(listener.as_raw_fd(), backlog) };
        limit_accepting(&listener);
        Ok(listener)
    }

    /// The next connection of a client that is free again: on the same tuple as the last one.
    pub fn open_again(&mut self) -> io::Result<Both> {
        // What was there is to be in a dump before it is gone.
        self.dumps.wait_for_next();
        let made = self.made.last_mut().expect("there was a connection before");
        let (own, to) = (made.client, made.server);
        let mut tries = 0;
        let client = loop {
            let client = socket_here(self.family == Family::V4);
            limited(&client);
            bind(&client, own)?;
            match connect_to(&client, to) {
                Ok(()) => break client,
                // The socket before is not gone, or its TIME_WAIT is too young.
                Err(error) if error.kind() == ErrorKind::AddrNotAvailable && tries < 40 => tries += 1,
                Err(error) => return Err(error),
            }
            thread::sleep(Duration::from_millis(100));
        };
        made.expected.push(Expected::UNSURE);
        self.accept(client)
    }

    /// What is certain of the last connection.
    pub fn expect(&mut self, expected: Expected) {
        let made = self.made.last_mut().expect("there is a connection");
        *made.expected.last_mut().expect("there was one at least") = expected;
    }

    /// The same of all that were made.
    pub fn expect_of_all(&mut self, expected: Expected) {
        self.made.iter_mut().for_each(|made| made.expected.fill(expected));
    }
}

impl Both {
    /// A word of the client's, and the server's answer, both read.
    pub fn talk(&self) -> io::Result<()> {
        send(&self.client, &self.server, 100)?;
        send(&self.server, &self.client, 300)
    }
}

/// So many bytes, at most what a socket takes without being read, read at the other end.
pub fn send(mut from: &TcpStream, mut to: &TcpStream, bytes: usize) -> io::Result<()> {
    from.write_all(&vec![b'x'; bytes])?;
    to.read_exact(&mut vec![0; bytes])
}

/// Reads whatever comes until the other end has closed.
pub fn read_out(mut stream: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

/// Waits for a connection from there; others are of visits that have given up.
pub fn accept(listener: &TcpListener, from: SocketAddr) -> io::Result<TcpStream> {
    loop {
        let (server, addr) = listener.accept()?;
        limited(&server);
        if addr == from {
            return Ok(server);
        }
    }
}

/// Waits until a socket that does not wait by itself is connected, or is not.
pub fn connected(stream: &TcpStream) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Ok(_) => return stream.set_nonblocking(false),
            Err(_) if begun.elapsed() > LIMIT => return Err(ErrorKind::TimedOut.into()),
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Begins to connect, without waiting for what becomes of it.
pub fn begin(stream: &TcpStream, to: SocketAddr) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    match connect_to(stream, to) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(()),
    }
}

pub fn limited(stream: &TcpStream) {
    stream.set_read_timeout(Some(LIMIT)).expect("a socket takes a timeout");
    stream.set_write_timeout(Some(LIMIT)).expect("a socket takes a timeout");
}

pub fn limit_accepting(listener: &TcpListener) {
    let limit = libc::timeval { tv_sec: LIMIT.as_secs() as _, tv_usec: 0 };
    let size = size_of_val(&limit) as u32;
    let (option, value) = (libc::SO_RCVTIMEO, (&raw const limit).cast());
    // SAFETY: the value is valid for its own size.
    let result = unsafe { libc::setsockopt(listener.as_raw_fd(), libc::SOL_SOCKET, option, value, size) };
    assert!(result == 0, "setsockopt: {}", io::Error::last_os_error());
}
