//! Closes by FIN.

use std::{
    io::{self, Write},
    net::Shutdown,
    thread,
    time::Duration,
};

use integration_tests::traffic::set_tcp_option;

use crate::visit::{Expected, Visit, read_out, send};

pub fn client_first(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    both.talk()?;
    drop(both.client);
    read_out(&both.server)?;
    visit.expect(Expected::closed("originator", "fin"));
    Ok(())
}

pub fn server_first(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    both.talk()?;
    drop(both.server);
    read_out(&both.client)?;
    visit.expect(Expected::closed("responder", "fin"));
    Ok(())
}

pub fn nothing_said(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    drop(both.client);
    read_out(&both.server)?;
    visit.expect(Expected::closed("originator", "fin"));
    Ok(())
}

/// The client has closed before the server knows of it.
pub fn at_once(visit: &mut Visit<'_>) -> io::Result<()> {
    let to = visit.server_addr();
    let client = visit.client(to)?;
    let addr = client.local_addr()?;
    integration_tests::traffic::connect_to(&client, to)?;
    drop(client);
    read_out(&crate::visit::accept(visit.listener, addr)?)?;
    visit.expect(Expected::closed("originator", "fin"));
    Ok(())
}

/// The server's FIN is to acknowledge the client's.
pub fn in_three_segments(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    both.talk()?;
    set_tcp_option(&both.server, libc::TCP_QUICKACK, 0);
    drop(both.client);
    read_out(&both.server)?;
    visit.expect(Expected::closed("originator", "fin"));
    Ok(())
}

pub fn fin_with_data(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    set_tcp_option(&both.client, libc::TCP_CORK, 1);
    (&both.client).write_all(&[b'x'; 700])?;
    drop(both.client);
    read_out(&both.server)?;
    visit.expect(Expected::closed("originator", "fin"));
    Ok(())
}

pub fn shut_down_both_ways(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    both.talk()?;
    both.server.shutdown(Shutdown::Both)?;
    read_out(&both.client)?;
    both.client.shutdown(Shutdown::Both)?;
    visit.expect(Expected::closed("responder", "fin"));
    Ok(())
}

/// RFC 9293, 3.6, case 2: data goes on towards the end that has closed.
pub fn half_close_of_the_clients(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    both.talk()?;
    both.client.shutdown(Shutdown::Write)?;
    read_out(&both.server)?;
    send(&both.server, &both.client, 4_000)?;
    drop(both.server);
    read_out(&both.client)?;
    visit.expect(Expected::closed("originator", "fin"));
    Ok(())
}

pub fn half_close_of_the_servers(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    both.talk()?;
    both.server.shutdown(Shutdown::Write)?;
    read_out(&both.client)?;
    send(&both.client, &both.server, 4_000)?;
    drop(both.client);
    read_out(&both.server)?;
    visit.expect(Expected::closed("responder", "fin"));
    Ok(())
}

/// RFC 9293, 3.6, case 3: the FINs cross.
pub fn both_at_once(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    both.talk()?;
    // Whoever is first by more than the wire's delay closes alone.
    let (client, server) = (both.client.shutdown(Shutdown::Write), both.server.shutdown(Shutdown::Write));
    client.and(server)?;
    read_out(&both.client)?;
    read_out(&both.server)
}

pub fn both_at_once_with_data(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    (&both.client).write_all(&[b'x'; 2_000])?;
    (&both.server).write_all(&[b'x'; 2_000])?;
    both.client.shutdown(Shutdown::Write)?;
    thread::sleep(Duration::from_micros(visit.random.below(6_000)));
    both.server.shutdown(Shutdown::Write)?;
    read_out(&both.client)?;
    read_out(&both.server)
}

/// More than the server's window takes: the FIN waits behind it.
pub fn with_unsent_data(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    both.client.set_nonblocking(true)?;
    while (&both.client).write(&[b'x'; 65_536]).is_ok() {}
    drop(both.client);
    thread::sleep(Duration::from_millis(visit.random.below(400)));
    read_out(&both.server)?;
    visit.expect(Expected::closed("originator", "fin"));
    Ok(())
}

/// The same, and the server's FIN comes meanwhile: the client's socket goes to CLOSING with its own unsent. On the wire
/// the server closes first.
pub fn with_unsent_data_at_both_ends_close(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    both.client.set_nonblocking(true)?;
    while (&both.client).write(&[b'x'; 65_536]).is_ok() {}
    drop(both.client);
    both.server.shutdown(Shutdown::Write)?;
    thread::sleep(Duration::from_millis(50));
    read_out(&both.server)
}

/// The server does not close, and the client's socket, which nobody holds, ends in silence.
pub fn fin_wait_2_left_alone(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    both.talk()?;
    set_tcp_option(&both.client, libc::TCP_LINGER2, 1);
    drop(both.client);
    read_out(&both.server)?;
    thread::sleep(Duration::from_millis(1_500 + visit.random.below(1_000)));
    Ok(())
}
