//! The server's side of acts, in the host and in the client: a connection's first byte says what is to be done with it.

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use integration_tests::{namespace::Namespace, pair::Family, traffic::reset_on_close};

use super::{Clock, acts::Act};
use crate::stage::{Stage, any};

/// Where acts are served.
pub const PORT: u16 = 8080;
/// How long connections may live on after the load has ended.
const GRACE: Duration = Duration::from_secs(4);
/// What one read may wait.
const LIMIT: Duration = Duration::from_secs(8);
/// An answer.
const KIB: [u8; 1024] = [b'.'; 1024];

pub struct Servers(Vec<TcpListener>);

impl Servers {
    #[track_caller]
    pub fn listen(stage: &Stage) -> Self {
        let listen = |namespace: &Namespace, family| {
            let listener = namespace.within(|| TcpListener::bind(any(family, PORT))).expect("the port is free");
            listener.set_nonblocking(true).expect("a listener need not wait");
            listener
        };
        let places = [&stage.host, &stage.client].into_iter();
        Self(places.flat_map(|place| Family::BOTH.map(|family| listen(place, family))).collect())
    }

    /// Accepts and plays along, until the clock has run down and what it left is over.
    pub fn serve(&self, clock: Clock) {
        let end = clock.until + GRACE;
        thread::scope(|scope| {
            while std::time::Instant::now() < end {
                for listener in &self.0 {
                    while let Ok((stream, _)) = listener.accept() {
                        scope.spawn(move || play(stream));
                    }
                }
                thread::sleep(Duration::from_millis(3));
            }
        });
    }
}

/// Plays the server's part. Whatever goes wrong is the client's to notice: scans and resets come here too.
fn play(mut stream: TcpStream) {
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_read_timeout(Some(LIMIT));
    let _ = stream.set_write_timeout(Some(LIMIT));
    let mut first = [0];
    if !matches!(stream.read(&mut first), Ok(1)) {
        return;
    }
    let Some(act) = Act::of(first[0]) else { return };
    let _ = match act {
        Act::ClientCloses | Act::Dribble => stream.write_all(&KIB).and_then(|()| to_the_end(&mut stream)),
        Act::ServerCloses => stream.write_all(&KIB),
        Act::ClientResets | Act::LeftUnread | Act::Idle => {
            stream.write_all(&KIB).and_then(|()| to_the_end(&mut stream))
        }
        Act::ServerResets => {
            reset_on_close(&stream);
            Ok(())
        }
        Act::ClientHalfCloses => to_the_end(&mut stream).and_then(|()| {
            (0..4).try_for_each(|_| {
                thread::sleep(Duration::from_millis(20));
                stream.write_all(&KIB)
            })
        }),
        Act::ServerHalfCloses => stream.shutdown(std::net::Shutdown::Write).and_then(|()| to_the_end(&mut stream)),
        // Dropped with bytes unread.
        Act::LeftUnreadByServer => {
            thread::sleep(Duration::from_millis(20));
            Ok(())
        }
        Act::Refused | Act::Silent | Act::GivenUp | Act::Prohibited => Ok(()),
    };
}

/// Reads until the other end has closed.
pub fn to_the_end(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
