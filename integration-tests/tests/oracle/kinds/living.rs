//! What happens between an open and a close.

use std::{
    io::{self, Write},
    net::TcpStream,
    os::fd::AsRawFd,
    thread,
    time::Duration,
};

use integration_tests::traffic::set_tcp_option;

use crate::visit::{Both, Expected, Visit, read_out, send};

fn close(visit: &mut Visit<'_>, both: Both) -> io::Result<()> {
    drop(both.client);
    read_out(&both.server)?;
    visit.expect(Expected::closed("originator", "fin"));
    Ok(())
}

pub fn idle(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    both.talk()?;
    thread::sleep(Duration::from_millis(1_000 + visit.random.below(1_000)));
    both.talk()?;
    close(visit, both)
}

pub fn keepalive(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    both.talk()?;
    keep_alive(if visit.random.happens(500) { &both.client } else { &both.server });
    thread::sleep(Duration::from_millis(2_300));
    close(visit, both)
}

/// After a second of silence, each second.
fn keep_alive(stream: &TcpStream) {
    set_tcp_option(stream, libc::TCP_KEEPIDLE, 1);
    set_tcp_option(stream, libc::TCP_KEEPINTVL, 1);
    let (on, size) = (1_i32, size_of::<i32>() as u32);
    let value = (&raw const on).cast();
    // SAFETY: the value is valid for its own size.
    let result = unsafe { libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_KEEPALIVE, value, size) };
    assert!(result == 0, "setsockopt: {}", io::Error::last_os_error());
}

pub fn large_transfer(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    let bytes = if visit.world.has_delay() { 150_000 } else { 1_000_000 };
    let (from, to) = (&both.client, &both.server);
    thread::scope(|scope| {
        let sending = scope.spawn(move || (&mut &*from).write_all(&vec![b'x'; bytes]));
        let received = io::Read::read_exact(&mut &*to, &mut vec![0; bytes]);
        sending.join().expect("writing does not panic").and(received)
    })?;
    send(&both.server, &both.client, 3_000)?;
    close(visit, both)
}

/// The server reads nothing for a while, until its window is closed, and is asked whether it has room.
pub fn closed_window(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    both.client.set_nonblocking(true)?;
    while (&both.client).write(&[b'x'; 65_536]).is_ok() {}
    thread::sleep(Duration::from_millis(700));
    both.client.set_nonblocking(false)?;
    let (client, server) = (both.client, both.server);
    thread::scope(|scope| {
        let reading = scope.spawn(|| read_out(&server));
        let sent = (&client).write_all(&[b'x'; 5_000]);
        drop(client);
        reading.join().expect("reading does not panic").and(sent)
    })?;
    visit.expect(Expected::closed("originator", "fin"));
    Ok(())
}
