//! Two lanes of segments of one flow, each for a CPU of its own.
//!
//! What the client sends begins at 1000, what the server sends at 5000; a second incarnation is far beyond both.

use tcp_observer_common::segment::Flags;

pub const CLIENT_PORT: u16 = 40_000;
/// Every segment's window.
pub const WINDOW: u16 = 65_000;

const FIN: u8 = Flags::FIN | Flags::ACK;
const SYN: u8 = Flags::SYN;
const SYN_ACK: u8 = Flags::SYN | Flags::ACK;
const RST: u8 = Flags::RST | Flags::ACK;
const ACK: u8 = Flags::ACK;

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Client,
    Server,
}

/// What a CPU is shown, or does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Segment {
        from: End,
        flags: u8,
        seq: u32,
        ack: u32,
        payload: u16,
    },
    /// An ICMP error that quotes the client's SYN of this number.
    Error {
        seq: u32,
    },
    /// A round of the sweep over all tables.
    Sweep,
}

#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub setup: Vec<Act>,
    pub lanes: [Vec<Act>; 2],
    /// What comes when both lanes are through.
    pub after: Vec<Act>,
    /// Whether the flow may move to the other table meanwhile: a segment that has found it before may be lost from its
    /// half.
    pub moves: bool,
    /// Whether nothing that is over is kept: TIME-WAIT and lingering are over as soon as the sweep comes.
    pub ends_at_once: bool,
    /// Whether both lanes have segments of one direction, as no path but a broken one has.
    pub shares_direction: bool,
}

impl Scenario {
    fn new(name: &'static str, setup: &[Act], one: &[Act], other: &[Act]) -> Self {
        Self {
            name,
            setup: setup.to_vec(),
            lanes: [one.to_vec(), other.to_vec()],
            after: Vec::new(),
            moves: false,
            ends_at_once: false,
            shares_direction: false,
        }
    }

    fn then(self, after: &[Act]) -> Self {
        Self { after: after.to_vec(), ..self }
    }

    fn moving(self) -> Self {
        Self { moves: true, ..self }
    }

    fn swept(self) -> Self {
        Self { ends_at_once: true, ..self }
    }

    fn of_one_direction(self) -> Self {
        Self { shares_direction: true, ..self }
    }
}

const fn client(flags: u8, seq: u32, ack: u32, payload: u16) -> Act {
    Act::Segment { from: End::Client, flags, seq, ack, payload }
}

const fn server(flags: u8, seq: u32, ack: u32, payload: u16) -> Act {
    Act::Segment { from: End::Server, flags, seq, ack, payload }
}

const HANDSHAKE: [Act; 3] = [client(SYN, 1000, 0, 0), server(SYN_ACK, 5000, 1001, 0), client(ACK, 1001, 5001, 0)];
/// The second incarnation's.
const AGAIN: [Act; 3] =
    [client(SYN, 900_000, 0, 0), server(SYN_ACK, 800_000, 900_001, 0), client(ACK, 900_001, 800_001, 0)];
/// The client closes first and waits.
const CLOSE: [Act; 4] =
    [client(FIN, 1001, 5001, 0), server(ACK, 5001, 1002, 0), server(FIN, 5001, 1002, 0), client(ACK, 1002, 5002, 0)];
/// Data both ways after the handshake.
const TALK: [Act; 4] = [
    client(ACK, 1001, 5001, 100),
    server(ACK, 5001, 1101, 200),
    client(ACK, 1101, 5201, 0),
    server(ACK, 5201, 1101, 0),
];

/// Every scenario.
pub fn all() -> Vec<Scenario> {
    let settled = HANDSHAKE.as_slice();
    let talking = &[&HANDSHAKE[..], &TALK].concat()[..];
    let waiting = &[&HANDSHAKE[..], &CLOSE].concat()[..];
    let reset = &[&HANDSHAKE[..], &[server(RST, 5001, 1001, 0)]].concat()[..];
    let half_closed = &[&HANDSHAKE[..], &CLOSE[..2]].concat()[..];
    vec![
        Scenario::new("the SYN-ACK and its ACK", &HANDSHAKE[..1], &HANDSHAKE[2..], &HANDSHAKE[1..2])
            .then(&TALK)
            .moving(),
        Scenario::new(
            "a simultaneous open",
            &[],
            &[client(SYN, 1000, 0, 0), client(SYN_ACK, 1000, 5001, 0)],
            &[server(SYN, 5000, 0, 0), server(SYN_ACK, 5000, 1001, 0)],
        )
        .moving(),
        Scenario::new(
            "both first segments of a pick-up",
            &[],
            &[client(ACK, 2000, 6000, 100), client(ACK, 2100, 6300, 0)],
            &[server(ACK, 6000, 2000, 300), server(ACK, 6300, 2100, 0)],
        )
        .then(&[client(ACK, 2100, 6300, 10), server(ACK, 6300, 2110, 10), client(ACK, 2110, 6310, 0)])
        .moving(),
        Scenario::new(
            "a pick-up while the other end closes",
            &[],
            &[client(ACK, 2000, 6000, 100), client(ACK, 2100, 6001, 0)],
            &[server(FIN, 6000, 2000, 0)],
        )
        .moving(),
        Scenario::new(
            "the last ACK and what the server says first",
            &HANDSHAKE[..2],
            &[client(ACK, 1001, 5001, 0), client(ACK, 1001, 5001, 100)],
            &[server(ACK, 5001, 1001, 300), server(ACK, 5301, 1001, 300)],
        )
        .then(&[client(ACK, 1101, 5601, 0), server(ACK, 5601, 1101, 10)])
        .moving(),
        Scenario::new(
            "the last ACK and a close by the server",
            &HANDSHAKE[..2],
            &HANDSHAKE[2..],
            &[server(FIN, 5001, 1001, 0)],
        )
        .then(&[client(FIN, 1001, 5002, 0), server(ACK, 5002, 1002, 0)])
        .moving(),
        Scenario::new("the last ACK and a reset", &HANDSHAKE[..2], &HANDSHAKE[2..], &[server(RST, 5001, 1001, 0)])
            .moving(),
        Scenario::new("a SYN again and its answer", &HANDSHAKE[..1], &HANDSHAKE[..1], &HANDSHAKE[1..2])
            .then(&HANDSHAKE[2..]),
        Scenario::new("a SYN again and its refusal", &HANDSHAKE[..1], &HANDSHAKE[..1], &[server(RST, 0, 1001, 0)]),
        Scenario::new("another SYN and the answer to the first", &HANDSHAKE[..1], &AGAIN[..1], &HANDSHAKE[1..2])
            .then(&AGAIN[1..]),
        Scenario::new(
            "another SYN and the refusal of the first",
            &HANDSHAKE[..1],
            &AGAIN[..1],
            &[server(RST, 0, 1001, 0)],
        ),
        Scenario::new("a SYN again and an ICMP error", &HANDSHAKE[..1], &HANDSHAKE[..1], &[Act::Error { seq: 1000 }]),
        Scenario::new(
            "an ICMP error and the answer",
            &HANDSHAKE[..1],
            &[client(RST, 1001, 5001, 0)],
            &[Act::Error { seq: 1000 }, HANDSHAKE[1]],
        ),
        Scenario::new(
            "data both ways",
            talking,
            &[client(ACK, 1101, 5201, 50), client(ACK, 1151, 5201, 50), client(ACK, 1201, 5201, 50)],
            &[server(ACK, 5201, 1101, 70), server(ACK, 5271, 1101, 70), server(ACK, 5341, 1101, 70)],
        )
        .then(&[client(ACK, 1251, 5411, 0), server(ACK, 5411, 1251, 0)]),
        Scenario::new(
            "data while the other end closes",
            talking,
            &[client(ACK, 1101, 5201, 50), client(ACK, 1151, 5202, 0)],
            &[server(FIN, 5201, 1101, 0), server(ACK, 5202, 1151, 0)],
        )
        .then(&[client(FIN, 1151, 5202, 0), server(ACK, 5202, 1152, 0)]),
        Scenario::new(
            "an acknowledgement of all data, and the FIN behind it",
            talking,
            &[client(ACK, 1101, 5301, 0), client(ACK, 1101, 5302, 0)],
            &[server(ACK, 5201, 1101, 100), server(FIN, 5301, 1101, 0)],
        ),
        Scenario::new(
            "FINs from both sides",
            settled,
            &[client(FIN, 1001, 5001, 0), client(ACK, 1002, 5002, 0)],
            &[server(FIN, 5001, 1001, 0), server(ACK, 5002, 1002, 0)],
        ),
        Scenario::new(
            "FINs with data from both sides",
            talking,
            &[client(FIN, 1101, 5201, 50), client(ACK, 1152, 5272, 0)],
            &[server(FIN, 5201, 1101, 70), server(ACK, 5272, 1152, 0)],
        ),
        Scenario::new("a RST against a FIN", settled, &[client(FIN, 1001, 5001, 0)], &[server(RST, 5001, 1001, 0)]),
        Scenario::new("RSTs from both sides", settled, &[client(RST, 1001, 5001, 0)], &[server(RST, 5001, 1001, 0)]),
        Scenario::new(
            "a RST against data",
            talking,
            &[client(ACK, 1101, 5201, 50), client(ACK, 1151, 5201, 50)],
            &[server(RST, 5201, 1101, 0)],
        ),
        Scenario::new(
            "the acknowledgement of a FIN, and a RST after it",
            &[&HANDSHAKE[..], &CLOSE[..1]].concat(),
            &[client(RST, 1002, 5001, 0)],
            &[server(ACK, 5001, 1002, 0)],
        ),
        Scenario::new(
            "the end of a half-close by FIN, and a RST",
            half_closed,
            &[client(RST, 1002, 5001, 0)],
            &[server(FIN, 5001, 1002, 0)],
        ),
        Scenario::new(
            "a FIN again, and the last ACK",
            &[&HANDSHAKE[..], &CLOSE[..3]].concat(),
            &[client(ACK, 1002, 5002, 0)],
            &[server(FIN, 5001, 1002, 0)],
        ),
        Scenario::new(
            "a SYN in TIME_WAIT, and the last of the old",
            waiting,
            &AGAIN[..1],
            &[server(RST, 5002, 1002, 0)],
        )
        .then(&AGAIN[1..])
        .moving(),
        Scenario::new(
            "SYNs from both sides on a flow that was reset",
            reset,
            &AGAIN[..1],
            &[server(SYN, 800_000, 0, 0)],
        )
        .moving(),
        Scenario::new(
            "a SYN on a flow that was reset, and a late RST",
            reset,
            &AGAIN[..1],
            &[server(RST, 5001, 1001, 0)],
        )
        .then(&AGAIN[1..])
        .moving(),
        Scenario::new("a handshake in TIME_WAIT while the sweep runs", waiting, &AGAIN, &[Act::Sweep; 3])
            .then(&[client(ACK, 900_001, 800_001, 10)])
            .moving()
            .swept(),
        Scenario::new("a SYN on a flow that was reset while the sweep runs", reset, &AGAIN[..1], &[Act::Sweep; 3])
            .then(&AGAIN[1..])
            .moving()
            .swept(),
        Scenario::new("a close while the sweep runs", settled, &CLOSE, &[Act::Sweep; 3]).then(&[Act::Sweep; 2]).swept(),
        Scenario::new(
            "an attempt after a refusal while the sweep runs",
            &[HANDSHAKE[0], server(RST, 0, 1001, 0)],
            &[AGAIN[0], AGAIN[0]],
            &[Act::Sweep; 3],
        )
        .then(&AGAIN[1..])
        .swept(),
        Scenario::new(
            "one direction on two CPUs",
            talking,
            &[client(ACK, 1101, 5201, 50), client(ACK, 1201, 5201, 50)],
            &[client(ACK, 1151, 5201, 50), client(ACK, 1251, 5201, 50)],
        )
        .of_one_direction(),
    ]
}
