//! Connections as frames: how flows get into the tables.

use std::net::SocketAddr;

use super::{Direction, Hook, Lane, Order, Subject, lane::spare};
use crate::{
    frames::{ACK, FIN, Frame, SYN},
    pair::Family,
};

/// The server's ports: each stands for flows that no other case touches.
pub const HOT: u16 = 440;
pub const TALKING: u16 = 442;
pub const ESTABLISHED: u16 = 443;
pub const NEW: u16 = 8080;
pub const WHOLE: u16 = 8443;
pub const FLOOD: u16 = 9090;

/// Numbers of every connection, so that a frame fits all of them.
pub const CLIENT_ISN: u32 = 1_000;
pub const SERVER_ISN: u32 = 5_000;
pub const REQUEST_BYTES: u32 = 100;

/// So many connections are opened step by step together: what is half open meanwhile has to fit its table.
const TOGETHER: u32 = 4_096;

/// A frame between the generator's client and the server (RFC 2544's network, RFC 3849's).
pub fn frame(family: Family, direction: Direction, port: u16, flags: u8, seq: u32, ack: u32) -> Frame {
    let (client, server): (SocketAddr, SocketAddr) = match family {
        Family::V4 => (([198, 18, 0, 1], 40_000).into(), ([198, 19, 0, 1], port).into()),
        Family::V6 => {
            let host = |network| [0x2001, 0xdb8, network, 0, 0, 0, 0, 1];
            ((host(1), 40_000).into(), (host(2), port).into())
        }
    };
    match direction {
        Direction::FromClient => Frame::new(client, server, flags, seq, ack),
        Direction::FromServer => Frame::new(server, client, flags, seq, ack),
    }
}

/// The frame of an ACK without data in an established connection.
pub fn ack(family: Family, direction: Direction, port: u16) -> Frame {
    match direction {
        Direction::FromClient => frame(family, direction, port, ACK, CLIENT_ISN + 1, SERVER_ISN + 1),
        Direction::FromServer => frame(family, direction, port, ACK, SERVER_ISN + 1, CLIENT_ISN + 1),
    }
}

/// An ACK of the first connection with this port of the server.
pub fn first_of(family: Family, port: u16) -> Frame {
    as_first(ack(family, Direction::FromClient, port), Direction::FromClient)
}

/// The same with the first tuple that a generator writes.
pub fn as_first(mut frame: Frame, direction: Direction) -> Frame {
    let client = if direction == Direction::FromClient { &mut frame.source } else { &mut frame.destination };
    client.set_port(10_000);
    match client {
        SocketAddr::V4(addr) => addr.set_ip([198, 18, 0, 0].into()),
        SocketAddr::V6(addr) => addr.set_ip([0x2001, 0xdb8, 1, 0, 0, 0, 0, 0].into()),
    }
    frame
}

/// The handshake, and an ACK of each end's, as each end has sent one when it talks.
pub fn opening(family: Family, port: u16) -> Vec<(Direction, Frame)> {
    use Direction::{FromClient, FromServer};
    vec![
        (FromClient, frame(family, FromClient, port, SYN, CLIENT_ISN, 0)),
        (FromServer, frame(family, FromServer, port, SYN | ACK, SERVER_ISN, CLIENT_ISN + 1)),
        (FromClient, ack(family, FromClient, port)),
        (FromServer, ack(family, FromServer, port)),
        (FromClient, ack(family, FromClient, port)),
    ]
}

/// A whole connection of eight packets: handshake, a request, and both ends close.
pub fn connection(family: Family, port: u16) -> Vec<(Direction, Frame)> {
    use Direction::{FromClient, FromServer};
    let (client, server) = (CLIENT_ISN + 1, SERVER_ISN + 1);
    let asked = client + REQUEST_BYTES;
    let request = frame(family, FromClient, port, ACK, client, server).with_payload(REQUEST_BYTES as usize);
    vec![
        (FromClient, frame(family, FromClient, port, SYN, CLIENT_ISN, 0)),
        (FromServer, frame(family, FromServer, port, SYN | ACK, SERVER_ISN, client)),
        (FromClient, frame(family, FromClient, port, ACK, client, server)),
        (FromClient, request),
        (FromServer, frame(family, FromServer, port, FIN | ACK, server, asked)),
        (FromClient, frame(family, FromClient, port, ACK, asked, server + 1)),
        (FromClient, frame(family, FromClient, port, FIN | ACK, asked, server + 1)),
        (FromServer, frame(family, FromServer, port, ACK, server + 1, asked + 1)),
    ]
}

/// Opens the first `count` connections with this port of the server through an agent's programs.
pub fn establish(subject: &Subject<'_>, family: Family, port: u16, count: u32) {
    show(subject, family, opening(family, port), count);
}

/// Opens as many and has the server close them first, so that its end is in TIME_WAIT.
pub fn close(subject: &Subject<'_>, family: Family, port: u16, count: u32) {
    show(subject, family, connection(family, port), count);
}

/// Shows an agent's programs so many connections of these steps.
fn show(subject: &Subject<'_>, family: Family, steps: Vec<(Direction, Frame)>, count: u32) {
    let mut lanes: Vec<_> = steps
        .into_iter()
        .map(|(direction, frame)| {
            let hook = if direction == Direction::FromClient { subject.ingress } else { Hook::TcEgress };
            let lane = Lane::behind((hook.kind(), family, direction), Order::Sequential, &spare(subject.program(hook)));
            (lane, frame.bytes())
        })
        .collect();
    let mut shown = 0;
    while shown < count {
        let together = TOGETHER.min(count - shown);
        for (lane, frame) in &mut lanes {
            lane.seek(shown.into());
            lane.run(frame, together);
        }
        shown += together;
    }
}
