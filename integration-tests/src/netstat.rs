//! The kernel's own counts of what its protocols did in a namespace: `/proc/net/netstat` and its neighbours, which
//! `nstat` shows.

use std::fs;

use crate::namespace::Namespace;

/// A counter of TCP's by its name in the file, without the prefix: `ListenOverflows`, `TCPKeepAlive`.
#[track_caller]
pub fn tcp_counter(namespace: &Namespace, name: &str) -> u64 {
    counter(&read(namespace, "netstat"), "TcpExt: ", name)
}

/// The "destination unreachable" errors of ICMP and ICMPv6 that a namespace has received.
#[track_caller]
pub fn unreachables_received(namespace: &Namespace) -> u64 {
    let v6 = read(namespace, "snmp6");
    let mut words = v6.lines().filter_map(|line| line.strip_prefix("Icmp6InDestUnreachs"));
    let v6: u64 = words.next().and_then(|value| value.trim().parse().ok()).expect("the kernel counts it");
    v6 + counter(&read(namespace, "snmp"), "Icmp: ", "InDestUnreachs")
}

/// A file below `/proc/net`: the thread's own, since another one of this process is in another namespace.
#[track_caller]
fn read(namespace: &Namespace, file: &str) -> String {
    namespace.within(|| fs::read_to_string(format!("/proc/thread-self/net/{file}"))).expect("the kernel says it")
}

/// A number below its name, on the second of two lines with this prefix.
#[track_caller]
fn counter(text: &str, prefix: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(prefix));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let found = names.split(' ').zip(values.split(' ')).find(|&(of, _)| of == name);
    let (_, value) = found.unwrap_or_else(|| panic!("this kernel has no counter `{name}`"));
    value.parse().expect("a counter is a number")
}
