//! The ports on which this network namespace listens, for the counter slots of well-known services.

use std::{collections::BTreeSet, fs};

/// The ports of listening TCP sockets, in ascending order.
pub fn listening_ports() -> BTreeSet<u16> {
    ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| table.lines().filter_map(listener).collect::<Vec<_>>())
        .collect()
}

/// The lowest ephemeral port; IANA's where the kernel does not say.
pub fn first_ephemeral_port() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(49152)
}

/// The port of a line whose state is LISTEN: `sl local_address rem_address st …`, numbers in hexadecimal.
fn listener(line: &str) -> Option<u16> {
    const LISTEN: &str = "0A";
    let mut columns = line.split_whitespace().skip(1);
    let (local, _remote, state) = (columns.next()?, columns.next()?, columns.next()?);
    let (_, port) = local.rsplit_once(':')?;
    if state == LISTEN { u16::from_str_radix(port, 16).ok().filter(|&port| port != 0) } else { None }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn lines_of_listeners_give_their_port_and_others_nothing() {
        // Copied from a machine that runs sshd.
        let listen = "   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 18212";
        let established = "   1: 0100007F:0016 0100007F:C350 01 00000000:00000000 02:000A 00000000     0        0 1821";
        let header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
        assert_eq!(listener(listen), Some(22));
        assert_eq!(listener(established), None);
        assert_eq!(listener(header), None);
        let ipv6 = "   0: 00000000000000000000000000000000:01BB 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0";
        assert_eq!(listener(ipv6), Some(443));
        assert_eq!(listener("nonsense"), None);
    }

    #[test]
    fn a_listener_of_this_process_is_found() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(listening_ports().contains(&socket.local_addr().unwrap().port()));
        assert!(first_ephemeral_port() > 0);
    }
}
