//! The kernel's own counts of what its protocols did in a namespace: `/proc/net/netstat` and its neighbours, which
//! `nstat` shows.

use std::{collections::BTreeMap, fs};

use crate::namespace::Namespace;

/// A counter of TCP's by its name in the file, without the prefix: `ListenOverflows`, `TCPKeepAlive`.
#[track_caller]
pub fn tcp_counter(namespace: &Namespace, name: &str) -> u64 {
    counter(&read(namespace, "netstat"), "TcpExt: ", name)
}

/// All counters of TCP's and its extensions by their names in the files, `Tcp` and `TcpExt` together.
#[track_caller]
pub fn tcp_counters(namespace: &Namespace) -> BTreeMap<String, u64> {
    let mut counters = table(&read(namespace, "snmp"), "Tcp: ");
    counters.append(&mut table(&read(namespace, "netstat"), "TcpExt: "));
    counters
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

/// A number of one of these tables.
#[track_caller]
fn counter(text: &str, prefix: &str, name: &str) -> u64 {
    let value = table(text, prefix).remove(name);
    value.unwrap_or_else(|| panic!("this kernel has no counter `{name}`"))
}

/// Names on the first line with this prefix, and the numbers below them on the second; what is negative is no count.
fn table(text: &str, prefix: &str) -> BTreeMap<String, u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(prefix));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let pairs = names.split(' ').zip(values.split(' '));
    pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
}
