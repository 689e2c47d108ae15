//! Short scenes on one connection each, and workers that play them one after another.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use integration_tests::{
    namespace::Namespace,
    pair::Family,
    traffic::{begin_connect, reset_on_close},
};

use super::{
    Clock, Ledger,
    server::{PORT, to_the_end},
};
use crate::stage::{CLOSED_PORT, SILENT_PORTS, Stage};

/// What connecting, reading and writing may each take.
const LIMIT: Duration = Duration::from_secs(10);

/// Who does what on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    ClientCloses,
    ServerCloses,
    ClientResets,
    ServerResets,
    /// The client says that it has no more to send, and is sent more data.
    ClientHalfCloses,
    ServerHalfCloses,
    /// The client closes with the answer unread: a RST.
    LeftUnread,
    LeftUnreadByServer,
    /// A slow client: a byte now and then.
    Dribble,
    /// Opened, and nothing said for seconds.
    Idle,
    Refused,
    /// Nothing answers, until the kernel gives up.
    Silent,
    /// Nothing answers, and the application does not wait for it.
    GivenUp,
    /// An ICMP error answers.
    Prohibited,
}

/// Each act, and how often it comes among the others.
const REPERTOIRE: [(Act, u64); 14] = [
    (Act::ClientCloses, 12),
    (Act::ServerCloses, 12),
    (Act::ClientResets, 6),
    (Act::ServerResets, 6),
    (Act::ClientHalfCloses, 6),
    (Act::ServerHalfCloses, 6),
    (Act::LeftUnread, 4),
    (Act::LeftUnreadByServer, 4),
    (Act::Dribble, 3),
    (Act::Idle, 3),
    (Act::Refused, 6),
    (Act::Silent, 1),
    (Act::GivenUp, 1),
    (Act::Prohibited, 2),
];

impl Act {
    /// The byte by which the client tells the server.
    fn byte(self) -> u8 {
        self as u8
    }

    pub fn of(byte: u8) -> Option<Self> {
        REPERTOIRE.iter().map(|&(act, _)| act).find(|act| act.byte() == byte)
    }
}

/// From where to where a worker connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// From the client to the host.
    In,
    /// From the host to the client.
    Out,
    /// From the host to itself.
    Loopback,
}

/// Plays acts in an order of its own, which is the same in each run.
pub struct Worker<'s> {
    stage: &'s Stage,
    way: Way,
    family: Family,
    random: u64,
}

/// All workers: how many, and where.
pub fn workers(stage: &Stage) -> Vec<Worker<'_>> {
    let mut workers = Vec::new();
    for (way, count) in [(Way::In, 8), (Way::Out, 8), (Way::Loopback, 3)] {
        for family in Family::BOTH {
            for n in 1..=count {
                let random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(n * 6 + way as u64 * 2 + family as u64 + 1);
                workers.push(Worker { stage, way, family, random });
            }
        }
    }
    workers
}

impl Worker<'_> {
    pub fn work(mut self, clock: Clock, ledger: &Ledger) {
        let namespace: &Namespace = match self.way {
            Way::In => &self.stage.client,
            Way::Out | Way::Loopback => &self.stage.host,
        };
        let (stage, way, family) = (self.stage, self.way, self.family);
        namespace.within(|| {
            while clock.left().is_some() {
                let act = self.next_act();
                if let Some(result) = perform(stage, way, family, act, self.next()) {
                    ledger.note(&format!("{act:?}/{way:?}"), result.map_err(|error| error.to_string()));
                }
                clock.pause(Duration::from_millis(100 + self.next() % 200));
            }
        });
    }

    /// xorshift64 (Marsaglia 2003).
    fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn next_act(&mut self) -> Act {
        let mut drawn = self.next() % REPERTOIRE.iter().map(|(_, share)| share).sum::<u64>();
        for (act, share) in REPERTOIRE {
            match drawn.checked_sub(share) {
                Some(rest) => drawn = rest,
                None => return act,
            }
        }
        unreachable!("less than the sum was drawn")
    }
}

/// The client's part; `None` where there is no such thing on this way.
fn perform(stage: &Stage, way: Way, family: Family, act: Act, random: u64) -> Option<io::Result<()>> {
    let server: IpAddr = match way {
        Way::In => family.host(2),
        Way::Out => family.host(1),
        Way::Loopback => family.loopback(),
    };
    let silent = match way {
        Way::In => SocketAddr::new(server, SILENT_PORTS.start() + (random % 10) as u16),
        Way::Out => SocketAddr::new(family.host(77), 80),
        Way::Loopback => SocketAddr::new(server, 0),
    };
    let is_away = matches!((act, way), (Act::Silent | Act::GivenUp, Way::Loopback));
    // Linux goes on after an ICMPv6 error where it gives up after one of ICMP.
    let is_elsewhere = act == Act::Prohibited && (way != Way::Out || family != Family::V4);
    if is_away || is_elsewhere {
        return None;
    }
    Some(match act {
        Act::Refused => expect(TcpStream::connect((server, CLOSED_PORT)), ErrorKind::ConnectionRefused),
        // The client's kernel would go on for two minutes.
        Act::Silent if way == Way::In => {
            expect(TcpStream::connect_timeout(&silent, Duration::from_millis(2500)), ErrorKind::TimedOut)
        }
        Act::Silent => expect(TcpStream::connect(silent), ErrorKind::TimedOut),
        Act::GivenUp => {
            let from = if way == Way::In { &stage.client } else { &stage.host };
            let attempt = begin_connect(from, silent);
            thread::sleep(Duration::from_millis(random % 1500));
            drop(attempt);
            Ok(())
        }
        Act::Prohibited => expect(TcpStream::connect((family.host(78), 80)), ErrorKind::HostUnreachable),
        _ => talk(SocketAddr::new(server, PORT), act, random),
    })
}

/// An attempt that has to end so.
fn expect(attempt: io::Result<TcpStream>, kind: ErrorKind) -> io::Result<()> {
    match attempt {
        Ok(_) => Err(io::Error::other("connected")),
        Err(error) if error.kind() == kind => Ok(()),
        Err(error) => Err(error),
    }
}

fn talk(server: SocketAddr, act: Act, random: u64) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&server, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(&[act.byte()])?;
    let mut answer = [0; 1024];
    match act {
        Act::ClientCloses => stream.read_exact(&mut answer),
        Act::ServerCloses => to_the_end(&mut stream),
        Act::ClientResets => {
            stream.read_exact(&mut answer)?;
            reset_on_close(&stream);
            Ok(())
        }
        Act::ServerResets => expect_reset(to_the_end(&mut stream)),
        Act::ClientHalfCloses => {
            stream.shutdown(Shutdown::Write)?;
            to_the_end(&mut stream)
        }
        Act::ServerHalfCloses => {
            to_the_end(&mut stream)?;
            (0..4).try_for_each(|_| {
                thread::sleep(Duration::from_millis(20));
                stream.write_all(&answer)
            })
        }
        Act::LeftUnread => {
            // Until the answer is there, or it would meet a closed socket.
            stream.peek(&mut answer)?;
            Ok(())
        }
        Act::LeftUnreadByServer => {
            stream.write_all(&answer)?;
            expect_reset(to_the_end(&mut stream))
        }
        Act::Dribble => (0..5 + random % 10).try_for_each(|_| {
            thread::sleep(Duration::from_millis(200));
            stream.write_all(b"x")
        }),
        Act::Idle => {
            thread::sleep(Duration::from_millis(1000 + random % 2000));
            Ok(())
        }
        Act::Refused | Act::Silent | Act::GivenUp | Act::Prohibited => unreachable!("no connection comes of it"),
    }
}

fn expect_reset(result: io::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) => Err(io::Error::other("closed, not reset")),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error),
    }
}
