//! The ports on which this network namespace listens, for the counter slots of well-known services.

use std::{collections::BTreeSet, fs, ops::RangeInclusive};

use super::sockets;

/// The ports of listening TCP sockets, in ascending order; none where the kernel does not say.
pub fn listening_ports() -> BTreeSet<u16> {
    match sockets::listeners() {
        Ok(listeners) => listeners.iter().map(|listener| listener.local.port()).collect(),
        Err(error) => {
            tracing::warn!("{error}; ports get counters in the order in which they are first seen");
            BTreeSet::new()
        }
    }
}

/// The lowest ephemeral port; IANA's where the kernel does not say.
pub fn first_ephemeral_port() -> u16 {
    ephemeral_ports().map_or(49152, |ports| *ports.start())
}

/// The ports given to connections that ask for none, of both address families; `None` where the kernel does not say.
pub fn ephemeral_ports() -> Option<RangeInclusive<u16>> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ends = range.split_whitespace().map(str::parse);
    Some(ends.next()?.ok()?..=ends.next()?.ok()?)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_of_this_process_is_found() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(listening_ports().contains(&socket.local_addr().unwrap().port()));
        assert!(first_ephemeral_port() > 0);
        assert!(ephemeral_ports().is_some_and(|ports| !ports.is_empty()));
    }
}
