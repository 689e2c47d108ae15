//! Conversations, segment by segment, with sequence numbers relative to each end's first.

use std::net::SocketAddr;

use integration_tests::frames::{ACK, CWR, ECE, FIN, Frame, PSH, RST, SYN, URG};
use tcp_observer_common::conn::Note;

pub use Who::{Client, Server};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Client,
    Server,
}

impl Who {
    fn opposite(self) -> Self {
        match self {
            Client => Server,
            Server => Client,
        }
    }
}

/// Who, flags, sequence number, acknowledgement number, payload bytes.
type Plain = (Who, u8, u32, u32, usize);

/// A segment of a conversation.
#[derive(Clone, Debug)]
pub struct Said {
    who: Who,
    flags: u8,
    seq: u32,
    ack: u32,
    payload: usize,
    accurate_ecn: bool,
    window: u16,
    options: Vec<u8>,
    /// So long after the one before.
    after_ns: u64,
    /// An ICMP error sends it back: type and code, and those of ICMPv6.
    quoted: Option<[(u8, u8); 2]>,
}

impl From<Plain> for Said {
    fn from((who, flags, seq, ack, payload): Plain) -> Self {
        Self {
            who,
            flags,
            seq,
            ack,
            payload,
            accurate_ecn: false,
            window: 65_000,
            options: Vec::new(),
            after_ns: 0,
            quoted: None,
        }
    }
}

impl Said {
    fn window(self, window: u16) -> Self {
        Self { window, ..self }
    }

    fn options(self, options: &[u8]) -> Self {
        Self { options: options.to_vec(), ..self }
    }

    /// With a timestamps option (RFC 7323): this one's value, and the one that it echoes.
    fn stamped(self, value: u32, echo: u32) -> Self {
        self.options(&timestamps(value, echo))
    }

    fn after_ms(self, ms: u64) -> Self {
        Self { after_ns: ms * 1_000_000, ..self }
    }
}

fn said(who: Who, flags: u8, seq: u32, ack: u32, payload: usize) -> Said {
    (who, flags, seq, ack, payload).into()
}

/// An ICMP error that quotes the client's SYN.
fn quoted(v4: (u8, u8), v6: (u8, u8)) -> Said {
    Said { quoted: Some([v4, v6]), ..said(Client, SYN, 0, 0, 0) }
}

fn timestamps(value: u32, echo: u32) -> Vec<u8> {
    [&[1, 1, 8, 10], &value.to_be_bytes()[..], &echo.to_be_bytes()].concat()
}

pub struct Exchange {
    pub name: &'static str,
    pub segments: Vec<Said>,
    /// What has to be noted of it, among other things.
    pub notes: &'static [Note],
}

/// Both near the wrap, from either side of it.
const CLIENT_ISN: u32 = u32::MAX - 150;
const SERVER_ISN: u32 = 0x7fff_ff00;

const OPENING: [Plain; 3] = [(Client, SYN, 0, 0, 0), (Server, SYN | ACK, 0, 1, 0), (Client, ACK, 1, 1, 0)];
const CLIENT_CLOSES: [Plain; 4] =
    [(Client, FIN | ACK, 1, 1, 0), (Server, ACK, 1, 2, 0), (Server, FIN | ACK, 1, 2, 0), (Client, ACK, 2, 2, 0)];
const SERVER_CLOSES: [Plain; 4] =
    [(Server, FIN | ACK, 1, 1, 0), (Client, ACK, 1, 2, 0), (Client, FIN | ACK, 1, 2, 0), (Server, ACK, 2, 2, 0)];

/// A frame on its way.
pub struct Shown {
    /// Who it comes from, seen from here.
    pub from: Who,
    pub after_ns: u64,
    pub frame: Frame,
}

/// The frames of a conversation.
pub fn frames(segments: &[Said], client: SocketAddr, server: SocketAddr) -> Vec<Shown> {
    let shown = |said: &Said| {
        let ((from, from_isn), (to, to_isn)) = match said.who {
            Client => ((client, CLIENT_ISN), (server, SERVER_ISN)),
            Server => ((server, SERVER_ISN), (client, CLIENT_ISN)),
        };
        let ack = if said.flags & ACK != 0 { to_isn.wrapping_add(said.ack) } else { 0 };
        let frame = Frame::new(from, to, said.flags, from_isn.wrapping_add(said.seq), ack).with_payload(said.payload);
        let quoted = said.quoted.map(|[v4, v6]| if client.is_ipv4() { v4 } else { v6 });
        let frame = Frame {
            accurate_ecn: said.accurate_ecn,
            window: said.window,
            tcp_options: said.options.clone(),
            quoted,
            ..frame
        };
        let from = if quoted.is_some() { said.who.opposite() } else { said.who };
        Shown { from, after_ns: said.after_ns, frame }
    };
    segments.iter().map(shown).collect()
}

/// The client's first data after the opening.
pub fn data_after_opening(client: SocketAddr, server: SocketAddr, bytes: usize) -> Frame {
    frames(&[said(Client, PSH | ACK, 1, 1, bytes)], client, server).remove(0).frame
}

/// All conversations; the first is the plain opening.
pub fn all() -> Vec<Exchange> {
    let mut all = plain();
    all.extend(noted());
    all
}

fn words(segments: &[Plain]) -> impl Iterator<Item = Said> {
    segments.iter().copied().map(Said::from)
}

/// Those that nobody hurries or delays.
fn plain() -> Vec<Exchange> {
    let alone = |name, segments: &[Plain]| Exchange { name, segments: words(segments).collect(), notes: &[] };
    let opened = |name, rest: &[Plain]| alone(name, &[&OPENING, rest].concat());
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
        opened(
            "the tuple is used again",
            &[
                &CLIENT_CLOSES[..],
                &[
                    (Client, SYN, 90_000, 0, 0),
                    (Server, SYN | ACK, 90_000, 90_001, 0),
                    (Client, ACK, 90_001, 90_001, 0),
                ],
            ]
            .concat(),
        ),
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

/// What Linux sends with a SYN: MSS, SACK permitted, timestamps, window scale 7.
fn syn_options(value: u32, echo: u32) -> Vec<u8> {
    [&[2, 4, 5, 0xb4, 4, 2], &timestamps(value, echo)[2..], &[1, 3, 3, 7]].concat()
}

/// An opening with all of Linux's options.
fn stamped_opening() -> Vec<Said> {
    vec![
        said(Client, SYN, 0, 0, 0).options(&syn_options(100, 0)),
        said(Server, SYN | ACK, 0, 1, 0).options(&syn_options(900, 100)),
        said(Client, ACK, 1, 1, 0).stamped(101, 900),
    ]
}

/// Those of which something unusual is to be told.
fn noted() -> Vec<Exchange> {
    let alone = |name, segments, notes| Exchange { name, segments, notes };
    let opened = |name, rest: Vec<Said>, notes| alone(name, words(&OPENING).chain(rest).collect(), notes);
    let stamped =
        |name, rest: Vec<Said>, notes| alone(name, stamped_opening().into_iter().chain(rest).collect(), notes);
    let after = |before: &[Plain], rest: Vec<Said>| words(before).chain(rest).collect::<Vec<_>>();
    let syn = || said(Client, SYN, 0, 0, 0);
    let beat = |n: u32| {
        let data = said(Client, PSH | ACK, 1 + 10 * n, 1, 10).after_ms(1_200 + u64::from(n));
        [data, said(Server, ACK, 1, 11 + 10 * n, 0)]
    };
    let again = |n: usize| std::iter::repeat_n(said(Client, PSH | ACK, 1, 1, 100).after_ms(300), n);
    let mut all = vec![
        // ---- opening ----
        stamped("all options of Linux", vec![said(Client, PSH | ACK, 1, 1, 10).stamped(102, 900)], &[]),
        alone("a SYN again and again", vec![syn(), syn().after_ms(1_000), syn().after_ms(2_000)], &[Note::SynRepeated]),
        alone("a SYN twice at once", vec![syn(), syn()], &[Note::FramesDoubled]),
        alone(
            "the first of two SYNs is answered",
            vec![
                syn().stamped(100, 0),
                syn().stamped(1_100, 0).after_ms(1_000),
                said(Server, SYN | ACK, 0, 1, 0).stamped(900, 100),
                said(Client, ACK, 1, 1, 0).stamped(1_101, 900),
            ],
            &[Note::SynRepeated, Note::FirstSynAnswered],
        ),
        alone(
            "the last of two SYN-ACKs is acknowledged",
            vec![
                syn().stamped(100, 0),
                said(Server, SYN | ACK, 0, 1, 0).stamped(900, 100),
                said(Server, SYN | ACK, 0, 1, 0).stamped(1_900, 100).after_ms(1_000),
                said(Client, ACK, 1, 1, 0).stamped(1_101, 1_900),
            ],
            &[Note::SynAckRepeated, Note::LastSynAckAcked],
        ),
        alone(
            "SYN cookies",
            vec![
                syn(),
                said(Server, SYN | ACK, 0, 1, 0),
                said(Server, SYN | ACK, 7_000, 1, 0).after_ms(1_000),
                said(Client, ACK, 1, 7_001, 0),
            ],
            &[Note::SynAckRenumbered],
        ),
        opened(
            "a full accept queue",
            vec![
                said(Server, SYN | ACK, 0, 1, 0).after_ms(1_000),
                said(Client, ACK, 1, 1, 0),
                said(Client, PSH | ACK, 1, 1, 50),
                said(Server, SYN | ACK, 0, 1, 0).after_ms(2_000),
                said(Client, ACK, 51, 1, 0),
            ],
            &[Note::SynAckAfterAck, Note::SynAckAfterData],
        ),
        alone(
            "fast open with data",
            vec![
                said(Client, SYN, 0, 0, 50).options(&[34, 10, 1, 2, 3, 4, 5, 6, 7, 8]),
                said(Server, SYN | ACK, 0, 51, 0),
                said(Client, ACK, 51, 1, 0),
            ],
            &[Note::FastOpen, Note::SynWithData],
        ),
        alone(
            "a fast open cookie is asked for and given, the old way",
            vec![
                syn().options(&[254, 4, 0xf9, 0x89]),
                said(Server, SYN | ACK, 0, 1, 0).options(&[254, 12, 0xf9, 0x89, 1, 2, 3, 4, 5, 6, 7, 8]),
                said(Client, ACK, 1, 1, 0),
            ],
            &[Note::FastOpen],
        ),
        alone(
            "ECN",
            vec![
                said(Client, SYN | ECE | CWR, 0, 0, 0),
                said(Server, SYN | ACK | ECE, 0, 1, 0),
                said(Client, ACK, 1, 1, 0),
            ],
            &[Note::Ecn],
        ),
        alone(
            "accurate ECN",
            vec![
                Said { accurate_ecn: true, ..said(Client, SYN | ECE | CWR, 0, 0, 0) },
                said(Server, SYN | ACK | CWR, 0, 1, 0),
                said(Client, ACK, 1, 1, 0),
            ],
            &[Note::AccurateEcn],
        ),
        alone(
            "a handshake in four steps",
            vec![
                syn(),
                said(Server, ACK, 0, 1, 0),
                said(Server, SYN, 0, 0, 0),
                said(Client, SYN | ACK, 0, 1, 0),
                said(Server, ACK, 1, 1, 0),
            ],
            &[Note::SplitHandshake],
        ),
        alone(
            "an old connection answers",
            vec![syn(), said(Server, ACK, 5_000, 5_000, 0), said(Client, RST, 5_000, 0, 0), syn().after_ms(1_000)],
            &[Note::ChallengeAck, Note::SynRepeated],
        ),
        alone("a RST that acknowledges nothing", vec![syn(), said(Server, RST, 0, 0, 0)], &[Note::RstBeforeAnswer]),
        alone(
            "an ACK of something else",
            vec![syn(), said(Server, SYN | ACK, 0, 1, 0), said(Client, ACK, 1, 800, 0), said(Client, ACK, 1, 1, 0)],
            &[Note::WrongAck],
        ),
        // ---- living ----
        stamped(
            "keepalives, answered",
            vec![
                said(Client, ACK, 0, 1, 0).stamped(2_000, 900).after_ms(2_000),
                said(Server, ACK, 1, 1, 0).stamped(2_900, 2_000),
                said(Server, ACK, 0, 1, 0).stamped(4_900, 2_000).after_ms(2_000),
                said(Client, ACK, 1, 1, 0).stamped(4_000, 4_900),
            ],
            &[Note::Keepalive],
        ),
        opened(
            "keepalives that nobody answers, with a byte of garbage",
            vec![
                said(Client, ACK, 0, 1, 1).after_ms(2_000),
                said(Client, ACK, 0, 1, 1).after_ms(1_000),
                said(Client, ACK, 0, 1, 1).after_ms(1_000),
                said(Client, RST | ACK, 1, 1, 0).after_ms(1_000),
            ],
            &[Note::Keepalive, Note::AbortiveClose],
        ),
        opened(
            "a window of zero, probed",
            vec![
                said(Client, PSH | ACK, 1, 1, 100),
                said(Server, ACK, 1, 101, 0).window(0),
                said(Client, ACK, 100, 1, 0).after_ms(200),
                said(Server, ACK, 1, 101, 0).window(0),
                said(Client, PSH | ACK, 101, 1, 1).after_ms(400),
                said(Server, ACK, 1, 101, 0).window(0),
                said(Server, ACK, 1, 102, 0).window(8_000).after_ms(100),
                said(Client, PSH | ACK, 102, 1, 100),
            ],
            &[Note::ZeroWindow, Note::WindowProbe],
        ),
        opened("a dozen repetitions", again(13).collect(), &[Note::Retransmitted]),
        opened(
            "a gap, and what fills it",
            vec![
                said(Client, PSH | ACK, 1, 1, 100),
                said(Server, ACK, 1, 101, 0),
                said(Client, PSH | ACK, 201, 1, 100),
                said(Client, PSH | ACK, 101, 1, 100),
                said(Server, ACK, 1, 301, 0),
                said(Client, PSH | ACK, 101, 1, 100),
            ],
            &[Note::OutOfOrder, Note::Retransmitted],
        ),
        opened("a heartbeat", (0..6).flat_map(beat).collect(), &[Note::Heartbeat]),
        opened(
            "one side has lost the connection",
            vec![said(Client, SYN, 90_000, 0, 0), said(Server, ACK, 1, 1, 0), said(Client, RST, 1, 0, 0)],
            &[Note::SynInConnection, Note::PeerRestarted],
        ),
        opened(
            "flags that no TCP sends, in a connection",
            vec![
                said(Client, 0, 1, 1, 0),
                said(Client, FIN | PSH | URG, 1, 1, 0),
                said(Client, SYN | FIN, 1, 0, 0),
                said(Client, SYN | FIN | ACK, 1, 1, 0),
                said(Client, FIN | RST | ACK, 1, 1, 0),
            ],
            &[Note::NonsenseFlags],
        ),
        // ---- closing ----
        alone(
            "a FIN begins a flow",
            vec![
                said(Client, FIN | ACK, 5, 5, 10),
                said(Server, ACK, 5, 16, 0),
                said(Server, FIN | ACK, 5, 16, 0),
                said(Client, ACK, 16, 6, 0),
            ],
            &[Note::PickedUpClosing, Note::FinWithData],
        ),
        opened(
            "half-closed, with data towards the end that has closed",
            vec![
                said(Client, FIN | ACK, 1, 1, 0),
                said(Server, ACK, 1, 2, 0),
                said(Server, PSH | ACK, 1, 2, 10).after_ms(1_500),
                said(Client, ACK, 2, 11, 0),
            ],
            &[Note::HalfCloseData],
        ),
        opened(
            "a FIN in answer to a FIN, and the last ACK lost",
            vec![
                said(Client, FIN | ACK, 1, 1, 0),
                said(Server, FIN | ACK, 1, 2, 0),
                said(Client, ACK, 2, 2, 0),
                said(Server, FIN | ACK, 1, 2, 0).after_ms(300),
                said(Client, ACK, 2, 2, 0),
            ],
            &[Note::ThreeSegmentClose, Note::LastAckLost],
        ),
        opened(
            "a FIN beyond a gap, and another end",
            vec![
                said(Client, FIN | ACK, 101, 1, 10),
                said(Server, ACK, 1, 1, 0),
                said(Client, FIN | ACK, 301, 1, 0),
                said(Client, PSH | ACK, 1, 1, 100),
                said(Server, ACK, 1, 112, 0),
            ],
            &[Note::FinOutOfOrder, Note::SecondFin],
        ),
        opened("a RST that is challenged", vec![said(Server, RST, 2_000, 0, 0)], &[Note::RstChallenged]),
        opened(
            "TIME-WAIT assassinated",
            after(&CLIENT_CLOSES, vec![said(Client, RST, 2, 0, 0)]),
            &[Note::TimeWaitAssassinated],
        ),
        stamped(
            "TIME-WAIT taken by a newer timestamp",
            after(
                &SERVER_CLOSES,
                vec![
                    syn().stamped(70_000, 0).after_ms(10),
                    said(Server, SYN | ACK, 70_000, 1, 0).stamped(70_900, 70_000),
                    said(Client, ACK, 1, 70_001, 0).stamped(70_001, 70_900),
                ],
            ),
            &[Note::TimeWaitReused],
        ),
        stamped(
            "TIME-WAIT of the one that opens again",
            after(&CLIENT_CLOSES, vec![said(Client, SYN, 90_000, 0, 0).stamped(70_000, 0).after_ms(10)]),
            &[Note::TimeWaitReused],
        ),
        stamped(
            "TIME-WAIT is not taken by an older timestamp",
            after(&SERVER_CLOSES, vec![syn().stamped(50, 0).after_ms(10), said(Server, ACK, 2, 2, 0)]),
            &[],
        ),
        opened(
            "a long history",
            (0..12)
                .flat_map(|n| {
                    let zero = said(Client, ACK, 1 + n, 1 + n, 0).window(0);
                    let rst = said(Server, RST, 0x4000_0000 + n, 0, 0);
                    [zero, rst, said(Client, FIN | ACK, 0x3000_0000 + n, 1, 0)]
                })
                .collect(),
            &[Note::RstOutOfWindow, Note::FinOutOfWindow, Note::ZeroWindow],
        ),
        opened(
            "reset after one's FIN",
            vec![said(Client, FIN | ACK, 1, 1, 0), said(Client, RST, 2, 0, 0)],
            &[Note::ResetAfterFin],
        ),
    ];
    all.extend(unreachable());
    all
}

/// ICMP errors, by type and code, and by ICMPv6's.
fn unreachable() -> Vec<Exchange> {
    const HOST: [(u8, u8); 2] = [(3, 1), (1, 3)];
    const NETWORK: [(u8, u8); 2] = [(3, 0), (1, 0)];
    const PROTOCOL: [(u8, u8); 2] = [(3, 2), (4, 1)];
    const PORT: [(u8, u8); 2] = [(3, 3), (1, 4)];
    const PROHIBITED: [(u8, u8); 2] = [(3, 13), (1, 1)];
    const HOPS: [(u8, u8); 2] = [(11, 0), (3, 0)];
    const TOO_BIG: [(u8, u8); 2] = [(3, 4), (2, 0)];
    let alone = |name, segments, notes| Exchange { name, segments, notes };
    let syn = || said(Client, SYN, 0, 0, 0);
    let error = |[v4, v6]: [(u8, u8); 2]| quoted(v4, v6);
    let named = [
        ("no route to the host", HOST),
        ("no route to the network", NETWORK),
        ("no TCP there", PROTOCOL),
        ("rejected with port unreachable", PORT),
        ("administratively prohibited", PROHIBITED),
        ("hop limit exceeded", HOPS),
    ];
    let single = |(name, kind)| alone(name, vec![syn(), error(kind), error(kind)], &[Note::Unreachable]);
    let mut all: Vec<_> = named.into_iter().map(single).collect();
    all.extend([
        alone(
            "no route to the host, and then there is one",
            vec![
                syn(),
                error(HOST),
                said(Client, SYN, 70_000, 0, 0).after_ms(300),
                said(Server, SYN | ACK, 0, 70_001, 0),
                said(Client, ACK, 70_001, 1, 0),
            ],
            &[Note::Unreachable, Note::TupleReused],
        ),
        alone(
            "no route to the host, and the sender tries on until there is one",
            vec![
                syn(),
                error(HOST),
                syn().after_ms(1_000),
                error(PROHIBITED),
                syn().after_ms(2_000),
                said(Server, SYN | ACK, 0, 1, 0),
                said(Client, ACK, 1, 1, 0),
            ],
            &[Note::Unreachable, Note::SynRepeated],
        ),
        alone("too big for the way, which ends nothing", vec![syn(), error(TOO_BIG)], &[]),
        alone("an error of nothing known", vec![error(HOST)], &[]),
        alone("an error with another number", vec![said(Client, SYN, 1, 0, 0), error(HOST)], &[]),
        alone("an error of a SYN that was answered", vec![syn(), said(Server, SYN | ACK, 0, 1, 0), error(HOST)], &[]),
        alone("an error in a connection", words(&OPENING).chain([error(HOST)]).collect(), &[]),
    ]);
    all
}
