//! Packets that are not TCP's: UDP to ports with and without a socket, and the ICMP errors that come of it.

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use integration_tests::pair::Family;

use super::{Clock, Ledger};
use crate::stage::{Stage, any};

const PORT: u16 = 5353;

pub fn make(stage: &Stage, clock: Clock, ledger: &Ledger) {
    let _open = Family::BOTH.map(|family| stage.host.within(|| UdpSocket::bind(any(family, PORT))).expect("is free"));
    let senders = Family::BOTH.map(|family| {
        let socket = stage.client.within(|| UdpSocket::bind(any(family, 0))).expect("any port will do");
        (socket, family.host(2))
    });
    while clock.left().is_some() {
        for (socket, host) in &senders {
            for port in [PORT, PORT + 1] {
                // An earlier ICMP error is told by a later call, and is what was wanted.
                let sent = socket.send_to(&[0; 200], SocketAddr::new(*host, port));
                let _ = sent.or_else(|_| socket.send_to(&[0; 200], SocketAddr::new(*host, port)));
                ledger.note("Udp", Ok(()));
            }
        }
        clock.pause(Duration::from_millis(50));
    }
}
