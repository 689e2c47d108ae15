//! Attempts that come to nothing, or to nobody who accepts.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    thread,
    time::Duration,
};

use integration_tests::traffic::{connect_to, set_tcp_option};

use crate::{
    visit::{Expected, Visit, begin, connected},
    world::{NOBODY, REFUSED, UNREACHABLE},
};

fn port(visit: &Visit<'_>, port: u16) -> SocketAddr {
    SocketAddr::new(visit.world.server_ip(visit.family), port)
}

pub fn refused(visit: &mut Visit<'_>) -> io::Result<()> {
    let to = port(visit, REFUSED);
    let client = visit.client(to)?;
    match connect_to(&client, to) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            visit.expect(Expected::failed("refused"));
            Ok(())
        }
        Err(error) => Err(error),
        Ok(()) => panic!("nobody listens at {to}"),
    }
}

/// The client gives up by itself; nothing is seen of that.
pub fn to_nobody(visit: &mut Visit<'_>) -> io::Result<()> {
    let to = port(visit, NOBODY);
    let client = visit.client(to)?;
    set_tcp_option(&client, libc::TCP_USER_TIMEOUT, 1_500);
    begin(&client, to)?;
    assert!(connected(&client).is_err(), "nobody is at {to}");
    Ok(())
}

pub fn unreachable(visit: &mut Visit<'_>) -> io::Result<()> {
    let (number, _) = UNREACHABLE[visit.random.below(UNREACHABLE.len() as u64) as usize];
    let to = port(visit, number);
    let client = visit.client(to)?;
    begin(&client, to)?;
    assert!(connected(&client).is_err(), "{to} cannot be reached");
    // An error that finds its socket in the hands of a system call is a hint; the repeated SYN brings another.
    if visit.family == integration_tests::pair::Family::V4 {
        visit.expect(Expected::failed("unreachable"));
    }
    Ok(())
}

/// The client closes before it is answered; nobody knows the connection that the SYN-ACK is for. A process that is being
/// started at that moment holds the socket for a while more, so that nothing is certain.
pub fn given_up_while_connecting(visit: &mut Visit<'_>) -> io::Result<()> {
    let to = visit.server_addr();
    let client = visit.client(to)?;
    begin(&client, to)?;
    thread::sleep(Duration::from_micros(visit.random.below(7_000)));
    drop(client);
    Ok(())
}

/// Between the SYN-ACK and its ACK: the request is gone, and the ACK is answered by a RST.
pub fn listener_closed_in_the_handshake(visit: &mut Visit<'_>) -> io::Result<()> {
    let listener = visit.listener(8)?;
    let to = listener.local_addr()?;
    let client = visit.client(to)?;
    begin(&client, to)?;
    thread::sleep(Duration::from_micros(5_000 + visit.random.below(4_000)));
    drop(listener);
    thread::sleep(Duration::from_millis(30));
    Ok(())
}

/// What waits to be accepted is reset when the listener closes.
pub fn listener_closed(visit: &mut Visit<'_>) -> io::Result<()> {
    let listener = visit.listener(8)?;
    let to = listener.local_addr()?;
    let clients = [visit.client(to)?, visit.client(to)?];
    clients.iter().try_for_each(|client| connect_to(client, to))?;
    // The handshake's last segment is to be there, too.
    thread::sleep(Duration::from_millis(30));
    drop(listener);
    for client in &clients {
        match io::Read::read(&mut &*client, &mut [0]) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => return Err(io::Error::other(format!("not reset: {other:?}"))),
        }
    }
    visit.expect_of_all(Expected::closed("responder", "rst"));
    Ok(())
}
