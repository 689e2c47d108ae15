//! Ends by RST, at different moments.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::Duration,
};

use integration_tests::traffic::{disconnect, reset_on_close};

use crate::visit::{Expected, Visit, read_out, send};

/// Closes by a RST.
fn abort(stream: TcpStream) {
    reset_on_close(&stream);
}

/// Waits for the other end's RST.
fn reset(mut stream: &TcpStream) -> io::Result<()> {
    match stream.read(&mut [0; 4_096]) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error),
        Ok(bytes) => Err(io::Error::other(format!("{bytes} bytes where a reset should come"))),
    }
}

/// Waits for the RST of an end that has closed: no news to who reads, a broken pipe to who writes.
fn broken(stream: &TcpStream) -> io::Result<()> {
    for _ in 0..5_000 {
        match stream.take_error()? {
            Some(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            Some(error) => return Err(error),
            None => thread::sleep(Duration::from_millis(1)),
        }
    }
    Err(ErrorKind::TimedOut.into())
}

pub fn client_unused(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    abort(both.client);
    visit.expect(Expected::closed("originator", "rst"));
    reset(&both.server)
}

pub fn server_unused(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    abort(both.server);
    visit.expect(Expected::closed("responder", "rst"));
    reset(&both.client)
}

pub fn client_after_data(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    both.talk()?;
    abort(both.client);
    visit.expect(Expected::closed("originator", "rst"));
    reset(&both.server)
}

pub fn server_after_data(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    both.talk()?;
    abort(both.server);
    visit.expect(Expected::closed("responder", "rst"));
    reset(&both.client)
}

/// What the client has not read makes its close a RST (RFC 1122, 4.2.2.13).
pub fn client_with_unread_data(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    send(&both.server, &both.client, 100)?;
    (&both.server).write_all(&[b'x'; 500])?;
    both.client.peek(&mut [0])?;
    drop(both.client);
    visit.expect(Expected::closed("originator", "rst"));
    reset(&both.server)
}

pub fn server_with_unread_data(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    (&both.client).write_all(&[b'x'; 500])?;
    both.server.peek(&mut [0])?;
    drop(both.server);
    visit.expect(Expected::closed("responder", "rst"));
    reset(&both.client)
}

pub fn client_in_its_half_close(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    both.talk()?;
    both.client.shutdown(Shutdown::Write)?;
    read_out(&both.server)?;
    (&both.server).write_all(&[b'x'; 500])?;
    both.client.peek(&mut [0])?;
    abort(both.client);
    visit.expect(Expected::closed("originator", "rst"));
    broken(&both.server)
}

pub fn server_in_the_clients_half_close(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    both.talk()?;
    both.client.shutdown(Shutdown::Write)?;
    read_out(&both.server)?;
    send(&both.server, &both.client, 1_000)?;
    abort(both.server);
    visit.expect(Expected::closed("originator", "rst"));
    reset(&both.client)
}

pub fn client_disconnects(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    both.talk()?;
    disconnect(&both.client)?;
    visit.expect(Expected::closed("originator", "rst"));
    reset(&both.server)
}

/// The client has closed for good, and is sent data: it answers with a RST.
pub fn data_after_a_close(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    both.talk()?;
    drop(both.client);
    read_out(&both.server)?;
    (&both.server).write_all(&[b'x'; 500])?;
    visit.expect(Expected::closed("originator", "rst"));
    broken(&both.server)
}

pub fn both(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    both.talk()?;
    abort(both.client);
    abort(both.server);
    Ok(())
}

/// One end closes, the other aborts at about the time at which the FIN arrives.
pub fn across_a_close(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    both.talk()?;
    let (closes, aborts) =
        if visit.random.happens(500) { (both.client, both.server) } else { (both.server, both.client) };
    drop(closes);
    thread::sleep(Duration::from_micros(visit.random.below(10_000)));
    abort(aborts);
    Ok(())
}
