//! What the kernel knows of an interface, and one thing that it can be told.

use std::{ffi::CString, io, os::fd::AsRawFd};

use crate::namespace::Namespace;

/// Its index.
///
/// # Panics
/// When the namespace has no such interface.
#[track_caller]
pub fn index(namespace: &Namespace, name: &str) -> u32 {
    let c_name = CString::new(name).expect("an interface name has no zero byte");
    // SAFETY: the name ends with a zero byte.
    let index = namespace.within(|| unsafe { libc::if_nametoindex(c_name.as_ptr()) });
    assert!(index != 0, "no interface `{name}`");
    index
}

/// How many packets it has received.
#[track_caller]
pub fn received(namespace: &Namespace, name: &str) -> u64 {
    counted(&statistics(namespace, name)["rx"]["packets"])
}

/// How many packets have been received and sent, those included that the other end of a wire had no room for.
#[track_caller]
pub fn carried(namespace: &Namespace, name: &str) -> u64 {
    let statistics = statistics(namespace, name);
    let sent = &statistics["tx"];
    counted(&statistics["rx"]["packets"]) + counted(&sent["packets"]) + counted(&sent["dropped"])
}

#[track_caller]
fn statistics(namespace: &Namespace, name: &str) -> serde_json::Value {
    let links: serde_json::Value =
        serde_json::from_str(&namespace.ip(&format!("-j -s link show dev {name}"))).expect("`ip -j` writes JSON");
    links[0]["stats64"].clone()
}

#[track_caller]
fn counted(packets: &serde_json::Value) -> u64 {
    packets.as_u64().expect("packets are counted")
}

/// Turns on GRO, with which even a veth device polls for what comes.
///
/// # Panics
/// When the kernel refuses.
#[track_caller]
pub fn receive_in_batches(namespace: &Namespace, name: &str) {
    // As <linux/ethtool.h> and <linux/sockios.h> have them.
    const SIOCETHTOOL: libc::c_ulong = 0x8946;
    const ETHTOOL_SGRO: u32 = 0x2c;
    let mut command = [ETHTOOL_SGRO, 1];
    let socket = namespace.within(|| std::net::UdpSocket::bind("127.0.0.1:0")).expect("a socket can be had");
    // SAFETY: a request is plain data that may be all zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_data = command.as_mut_ptr().cast();
    // SAFETY: the descriptor is open, and the request and what it points to are what this call reads.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &request) };
    assert!(result == 0, "cannot turn on GRO of `{name}`: {}", io::Error::last_os_error());
}
