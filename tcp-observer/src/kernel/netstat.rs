//! The kernel's own counts of what its TCP did (`/proc/net/netstat`, what `nstat` shows), in the network namespace of
//! the calling thread: the facts behind sockets that are missing although nothing was sent.

use std::{fs, io};

/// The counts that say why a socket may be missing or waiting. 0 where the kernel does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpCounts {
    /// TIME_WAIT sockets that were not made: `tcp_max_tw_buckets`, or memory.
    pub time_wait_overflows: u64,
    /// SYN-ACKs that were sent without keeping a request.
    pub syn_cookies_sent: u64,
    /// Connections that found the queue of those to be accepted full.
    pub listen_overflows: u64,
}

/// What the kernel has counted so far.
///
/// # Errors
/// When /proc is not there to be read.
pub fn tcp_counts() -> io::Result<TcpCounts> {
    // The thread's own: another one of this process may be in another namespace.
    fs::read_to_string("/proc/thread-self/net/netstat").map(|text| parse(&text))
}

fn parse(text: &str) -> TcpCounts {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let count = |name: &str| {
        let found = names.split(' ').zip(values.split(' ')).find(|&(of, _)| of == name);
        found.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
    };
    TcpCounts {
        time_wait_overflows: count("TCPTimeWaitOverflow"),
        syn_cookies_sent: count("SyncookiesSent"),
        listen_overflows: count("ListenOverflows"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_stands_below_its_name() {
        // The format of net/ipv4/proc.c, shortened.
        let text = "TcpExt: SyncookiesSent ListenOverflows TCPTimeWaitOverflow\nTcpExt: 3 0 12\n\
                    IpExt: InOctets\nIpExt: 99\n";
        let counts = TcpCounts { time_wait_overflows: 12, syn_cookies_sent: 3, listen_overflows: 0 };
        assert_eq!(parse(text), counts);
        assert_eq!(parse("TcpExt: SyncookiesSent\nTcpExt: 1\n").time_wait_overflows, 0);
        assert_eq!(parse(""), TcpCounts::default());
    }

    #[test]
    fn this_kernel_has_all_of_them() {
        let text = fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
        for name in ["SyncookiesSent", "ListenOverflows", "TCPTimeWaitOverflow"] {
            assert!(text.contains(name), "{name}");
        }
        tcp_counts().unwrap();
    }
}
