//! Whatever comes to mind: at each step either end writes, reads, shuts down, closes or aborts.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::Duration,
};

use integration_tests::{random::Random, traffic::reset_on_close};

use crate::visit::{Both, Visit};

pub fn whim(visit: &mut Visit<'_>) -> io::Result<()> {
    let Both { client, server } = visit.open()?;
    let mut ends = [Some(client), Some(server)];
    for end in ends.iter().flatten() {
        end.set_nonblocking(true)?;
    }
    for _ in 0..2 + visit.random.below(10) {
        let end = visit.random.below(2) as usize;
        if act(&mut ends[end], &mut visit.random).is_err() {
            // Its connection was reset; it has nothing to do but close.
            ends[end] = None;
        }
        if visit.random.happens(400) {
            thread::sleep(Duration::from_micros(visit.random.below(8_000)));
        }
    }
    Ok(())
}

fn act(end: &mut Option<TcpStream>, random: &mut Random) -> io::Result<()> {
    let Some(stream) = end else { return Ok(()) };
    match random.below(12) {
        0..=3 => {
            let bytes = 1 + random.below(5_000) as usize;
            unless_blocked((&*stream).write(&vec![b'x'; bytes]))
        }
        4..=7 => unless_blocked((&*stream).read(&mut [0; 8_192])),
        8 => stream.shutdown(Shutdown::Write),
        9 => stream.shutdown(Shutdown::Read),
        10 => {
            *end = None;
            Ok(())
        }
        _ => {
            reset_on_close(stream);
            *end = None;
            Ok(())
        }
    }
}

fn unless_blocked(result: io::Result<usize>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}
