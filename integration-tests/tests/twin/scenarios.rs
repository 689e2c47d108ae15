//! Conversations, segment by segment, with sequence numbers relative to each end's first.

use std::net::SocketAddr;

use integration_tests::frames::{ACK, FIN, Frame, PSH, RST, SYN};

pub use Who::{Client, Server};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Client,
    Server,
}

/// Who, flags, sequence number, acknowledgement number, payload bytes.
pub type Said = (Who, u8, u32, u32, usize);

pub struct Exchange {
    pub name: &'static str,
    pub segments: Vec<Said>,
}

/// Both near the wrap, from either side of it.
const CLIENT_ISN: u32 = u32::MAX - 150;
const SERVER_ISN: u32 = 0x7fff_ff00;

const OPENING: [Said; 3] = [(Client, SYN, 0, 0, 0), (Server, SYN | ACK, 0, 1, 0), (Client, ACK, 1, 1, 0)];
const CLIENT_CLOSES: [Said; 4] =
    [(Client, FIN | ACK, 1, 1, 0), (Server, ACK, 1, 2, 0), (Server, FIN | ACK, 1, 2, 0), (Client, ACK, 2, 2, 0)];

/// The frames of a conversation.
pub fn frames(segments: &[Said], client: SocketAddr, server: SocketAddr) -> Vec<(Who, Frame)> {
    let frame = |&(who, flags, seq, ack, payload): &Said| {
        let ((from, from_isn), (to, to_isn)) = match who {
            Client => ((client, CLIENT_ISN), (server, SERVER_ISN)),
            Server => ((server, SERVER_ISN), (client, CLIENT_ISN)),
        };
        let ack = if flags & ACK != 0 { to_isn.wrapping_add(ack) } else { 0 };
        (who, Frame::new(from, to, flags, from_isn.wrapping_add(seq), ack).with_payload(payload))
    };
    segments.iter().map(frame).collect()
}

/// The client's first data after the opening.
pub fn data_after_opening(client: SocketAddr, server: SocketAddr, bytes: usize) -> Frame {
    let (_, frame) = frames(&[(Client, PSH | ACK, 1, 1, bytes)], client, server).remove(0);
    frame
}

/// All conversations; the first is the plain opening.
pub fn all() -> Vec<Exchange> {
    let alone = |name, segments: &[Said]| Exchange { name, segments: segments.to_vec() };
    let opened = |name, rest: &[Said]| Exchange { name, segments: [&OPENING, rest].concat() };
    vec![
        alone("handshake", &OPENING),
        alone("unanswered", &[(Client, SYN, 0, 0, 0), (Client, SYN, 0, 0, 0)]),
        alone("refused", &[(Client, SYN, 0, 0, 0), (Server, RST | ACK, 0, 1, 0)]),
        alone("refused late", &[(Client, SYN, 0, 0, 0), (Client, SYN, 0, 0, 0), (Server, RST | ACK, 0, 1, 0)]),
        alone("abandoned after its SYN", &[(Client, SYN, 0, 0, 0), (Client, RST, 1, 0, 0)]),
        alone("reset by the client", &[(Client, SYN, 0, 0, 0), (Server, SYN | ACK, 0, 1, 0), (Client, RST, 1, 0, 0)]),
        alone(
            "reset by the server",
            &[(Client, SYN, 0, 0, 0), (Server, SYN | ACK, 0, 1, 0), (Server, RST | ACK, 1, 1, 0)],
        ),
        alone(
            "SYN and SYN-ACK repeated",
            &[
                (Client, SYN, 0, 0, 0),
                (Client, SYN, 0, 0, 0),
                (Server, SYN | ACK, 0, 1, 0),
                (Client, SYN, 0, 0, 0),
                (Server, SYN | ACK, 0, 1, 0),
                (Client, ACK, 1, 1, 0),
                (Server, SYN | ACK, 0, 1, 0),
                (Client, ACK, 1, 1, 0),
            ],
        ),
        alone(
            "a new SYN gives up the old attempt",
            &[
                (Client, SYN, 0, 0, 0),
                (Client, SYN, 70_000, 0, 0),
                (Server, SYN | ACK, 0, 70_001, 0),
                (Client, ACK, 70_001, 1, 0),
            ],
        ),
        alone("begins with the SYN-ACK", &OPENING[1..]),
        alone("a SYN-ACK that acknowledges nothing sent", &[(Client, SYN, 0, 0, 0), (Server, SYN | ACK, 0, 900, 0)]),
        alone("SYN with data", &[(Client, SYN, 0, 0, 100), (Server, SYN | ACK, 0, 101, 0), (Client, ACK, 101, 1, 0)]),
        alone(
            "the handshake ends with data",
            &[(Client, SYN, 0, 0, 0), (Server, SYN | ACK, 0, 1, 0), (Client, PSH | ACK, 1, 1, 50)],
        ),
        alone(
            "the handshake ends with FIN",
            &[(Client, SYN, 0, 0, 0), (Server, SYN | ACK, 0, 1, 0), (Client, FIN | ACK, 1, 1, 9)],
        ),
        opened(
            "data both ways, out of order and repeated",
            &[
                (Client, PSH | ACK, 1, 1, 100),
                (Server, ACK, 1, 101, 0),
                (Server, PSH | ACK, 501, 101, 500),
                (Server, PSH | ACK, 1, 101, 500),
                (Client, ACK, 101, 1001, 0),
                (Client, PSH | ACK, 101, 1001, 300),
                (Client, PSH | ACK, 101, 1001, 300),
                (Server, ACK, 1001, 401, 0),
            ],
        ),
        opened("closed by four segments, client first", &CLIENT_CLOSES),
        opened(
            "closed by three segments, server first",
            &[(Server, FIN | ACK, 1, 1, 0), (Client, FIN | ACK, 1, 2, 0), (Server, ACK, 2, 2, 0)],
        ),
        opened(
            "half-closed with data going on",
            &[
                (Client, FIN | ACK, 1, 1, 10),
                (Server, ACK, 1, 12, 0),
                (Server, PSH | ACK, 1, 12, 800),
                (Client, ACK, 12, 801, 0),
                (Server, FIN | ACK, 801, 12, 0),
                (Client, ACK, 12, 802, 0),
                (Server, FIN | ACK, 801, 12, 0),
                (Client, ACK, 12, 802, 0),
            ],
        ),
        opened(
            "simultaneous close",
            &[
                (Client, FIN | ACK, 1, 1, 0),
                (Server, FIN | ACK, 1, 1, 0),
                (Client, ACK, 2, 2, 0),
                (Server, ACK, 2, 2, 0),
            ],
        ),
        alone(
            "simultaneous open",
            &[
                (Client, SYN, 0, 0, 0),
                (Server, SYN, 0, 0, 0),
                (Client, SYN | ACK, 0, 1, 0),
                (Server, SYN | ACK, 0, 1, 0),
                (Client, PSH | ACK, 1, 1, 5),
                (Server, ACK, 1, 6, 0),
            ],
        ),
        opened("reset", &[(Client, PSH | ACK, 1, 1, 10), (Server, RST | ACK, 1, 11, 0), (Client, ACK, 11, 1, 0)]),
        opened("reset out of the window", &[(Server, RST, 0x4000_0000, 0, 0), (Client, PSH | ACK, 1, 1, 10)]),
        opened("reset after FIN", &[(Client, FIN | ACK, 1, 1, 0), (Server, RST | ACK, 1, 2, 0)]),
        opened("a SYN out of nowhere", &[(Client, SYN, 0x3000_0000, 0, 0), (Server, ACK, 1, 1, 0)]),
        opened("a FIN from the future", &[(Client, FIN | ACK, 0x3000_0000, 1, 0), (Server, ACK, 1, 1, 0)]),
        alone(
            "picked up mid-stream",
            &[
                (Client, ACK, 900, 900, 0),
                (Client, PSH | ACK, 900, 900, 10),
                (Server, PSH | ACK, 900, 910, 20),
                (Client, ACK, 910, 920, 0),
                (Server, FIN | ACK, 920, 910, 0),
                (Client, FIN | ACK, 910, 921, 0),
                (Server, ACK, 921, 911, 0),
            ],
        ),
        alone("only a RST", &[(Server, RST, 5, 0, 0)]),
        alone("only a FIN", &[(Server, FIN | ACK, 5, 5, 0)]),
        Exchange {
            name: "the tuple is used again",
            segments: [
                &OPENING[..],
                &CLIENT_CLOSES,
                &[
                    (Client, SYN, 90_000, 0, 0),
                    (Server, SYN | ACK, 90_000, 90_001, 0),
                    (Client, ACK, 90_001, 90_001, 0),
                ],
            ]
            .concat(),
        },
        alone(
            "flags that no TCP sends",
            &[
                (Client, 0, 1, 1, 0),
                (Client, FIN, 1, 1, 0),
                (Client, PSH, 1, 1, 10),
                (Client, SYN | FIN, 0, 0, 0),
                (Client, SYN | RST, 0, 0, 0),
                (Client, 0xff, 0, 0, 0),
            ],
        ),
    ]
}
