//! What happens to flows, one line each as it happens: the segment in tcpdump's notation, then what it has done.
//!
//! ```text
//! 14:12:45.104701 127.0.0.1.9502 > 127.0.0.1.39870: Flags [S.], seq 1721825043, ack 2927179379, length 0 | responder listen → syn_received
//! ```
//!
//! Endpoints, flags and numbers are written as tcpdump writes them, numbers where it does (`print-tcp.c`). Behind the
//! bar come, each only where there is something to say: the states that have changed, the phase, what is unusual, the
//! times of the handshake, the end.

use std::{
    fmt,
    io::{self, Write},
    net::{IpAddr, SocketAddr},
};

use serde::Serialize;
use tcp_observer_common::{
    conn::{How, Role, State, Word},
    segment::Flags,
};

use super::{
    human::Took,
    json::{Seconds, Timestamp},
};
use crate::replay::follow::{self, Cause, Event, Seen};

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// As text with the time of day, and the date on a line of its own where another day begins.
    Text,
    /// As text with the date on each line.
    Dated,
    /// One JSON object a line.
    Json,
}

/// An output that events are added to.
pub struct Lines<W: Write> {
    format: Format,
    /// The day of the last line, as it is written.
    day: String,
    out: W,
}

impl<W: Write> Lines<W> {
    /// Nothing is written yet.
    pub fn new(format: Format, out: W) -> Self {
        Self { format, day: String::new(), out }
    }

    /// # Errors
    /// When the output takes no more.
    pub fn add(&mut self, event: &Event) -> io::Result<()> {
        if self.format == Format::Json {
            serde_json::to_writer(&mut self.out, &Record::from(event))?;
            return self.out.write_all(b"\n");
        }
        // 2026-01-01T00:00:00.000000000Z
        let time = Timestamp(event.unix_ns).to_string();
        let (day, time) = time.split_once('T').unwrap_or_default();
        let time = time.get(..if event.has_nanoseconds { 18 } else { 15 }).unwrap_or(time);
        if self.format == Format::Dated {
            write!(self.out, "{day} ")?;
        } else if self.day != day {
            day.clone_into(&mut self.day);
            writeln!(self.out, "{day} (UTC)")?;
        }
        writeln!(self.out, "{time} {} | {}", Left(event), Right(event))
    }

    /// Writes out what has been added.
    ///
    /// # Errors
    /// When the output takes no more.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// What was seen.
struct Left<'a>(&'a Event);

impl fmt::Display for Left<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event { originator, responder, cause, .. } = self.0;
        let (from, to) = match cause {
            Cause::Segment(Seen { from: Role::Responder, .. }) => (responder, originator),
            _ => (originator, responder),
        };
        write!(f, "{} > {}: ", Endpoint(from), Endpoint(to))?;
        match cause {
            Cause::Segment(seen) => seen.fmt(f),
            Cause::Silence => f.write_str("(silence)"),
            Cause::Replaced => f.write_str("(replaced)"),
            Cause::Unreachable(reason) => write!(f, "(ICMP error: {})", reason.label()),
        }
    }
}

struct Endpoint<'a>(&'a SocketAddr);

impl fmt::Display for Endpoint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0.ip(), self.0.port())
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flags, seq, ack, payload_bytes, .. } = *self;
        write!(f, "Flags [{}]", letters(self))?;
        if payload_bytes > 0 {
            write!(f, ", seq {}:{}", seq.shown, seq.shown.wrapping_add(payload_bytes))?;
        } else if flags.has(Flags::SYN | Flags::FIN | Flags::RST) {
            write!(f, ", seq {}", seq.shown)?;
        }
        if let Some(ack) = ack {
            write!(f, ", ack {}", ack.shown)?;
        }
        write!(f, ", length {payload_bytes}")
    }
}

/// A segment's flags in tcpdump's letters and order.
fn letters(seen: &Seen) -> String {
    const LETTERS: [(u8, char); 8] = [
        (Flags::FIN, 'F'),
        (Flags::SYN, 'S'),
        (Flags::RST, 'R'),
        (Flags::PSH, 'P'),
        (Flags::ACK, '.'),
        (Flags::URG, 'U'),
        (Flags::ECE, 'E'),
        (Flags::CWR, 'W'),
    ];
    let mut letters: String =
        LETTERS.iter().filter(|(flag, _)| seen.flags.has(*flag)).map(|&(_, letter)| letter).collect();
    if seen.accurate_ecn {
        letters.push('e');
    }
    if letters.is_empty() { "none".to_owned() } else { letters }
}

/// What it did.
struct Right<'a>(&'a Event);

impl fmt::Display for Right<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event { before, after, notes, handshake, vlans, .. } = self.0;
        let mut parts = Vec::new();
        let moves = [("originator", Role::Originator), ("responder", Role::Responder)];
        let moves = moves.into_iter().filter_map(|(name, role)| {
            let state = |word: Word| known(word.state(role));
            let moved = arrow(before.and_then(state), state(*after))?;
            Some(format!("{name} {moved}"))
        });
        parts.push(moves.collect::<Vec<_>>().join(", "));
        let phase = |word: Word| word.phase().label();
        parts.push(
            arrow(before.map(phase), Some(phase(*after))).map_or(String::new(), |moved| format!("phase {moved}")),
        );
        parts.extend(notes.iter().map(|note| note.label().to_owned()));
        parts.push(handshake.as_ref().map_or(String::new(), took));
        parts.push(self.0.failure().map_or(String::new(), |outcome| format!("outcome: {}", outcome.label())));
        if self.0.closes() {
            let (initiator, how) = (after.initiator().label(), after.how().label());
            parts.push(if after.how() == How::Timeout {
                format!("close: {how}")
            } else {
                format!("close: {initiator} {how}")
            });
        }
        if !vlans.is_empty() {
            let ids: Vec<_> = vlans.iter().map(u16::to_string).collect();
            parts.push(format!("vlan {}", ids.join(".")));
        }
        parts.retain(|part| !part.is_empty());
        f.write_str(&parts.join("; "))
    }
}

/// A side of which nothing is known has no state.
fn known(state: State) -> Option<&'static str> {
    (state != State::Unknown).then(|| state.label())
}

/// What has become of what; `None` where it is the same.
fn arrow(before: Option<&str>, after: Option<&str>) -> Option<String> {
    match (before, after) {
        (before, after) if before == after => None,
        (Some(before), after) => Some(format!("{before} → {}", after.unwrap_or("unknown"))),
        (None, after) => Some(format!("→ {}", after.unwrap_or("unknown"))),
    }
}

fn took(handshake: &follow::Handshake) -> String {
    let follow::Handshake { syn_to_synack_ns, synack_to_ack_ns, total_ns } = *handshake;
    match (total_ns, syn_to_synack_ns, synack_to_ack_ns) {
        (Some(total), Some(first), Some(second)) if first + second == total => {
            format!("handshake {} = {} + {}", Took(total), Took(first), Took(second))
        }
        // The waiting before a repetition is in neither part.
        (Some(total), Some(first), Some(second)) => {
            let (first, second) = (Took(first), Took(second));
            format!("handshake {}, of which SYN to SYN-ACK {first}, SYN-ACK to ACK {second}", Took(total))
        }
        (Some(total), _, _) => format!("handshake {}", Took(total)),
        (None, _, Some(second)) => format!("handshake unknown, of which SYN-ACK to ACK {}", Took(second)),
        (None, _, None) => String::new(),
    }
}

/// The interface for programs: fields may be added, never renamed, and what is unknown or does not apply is `null`.
#[derive(Serialize)]
struct Record<'a> {
    time: Timestamp,
    kind: &'static str,
    originator: Address,
    responder: Address,
    role: Option<&'static str>,
    vlans: &'a [u16],
    sender: Option<&'static str>,
    flags: Option<String>,
    seq: Option<u32>,
    ack: Option<u32>,
    seq_raw: Option<u32>,
    ack_raw: Option<u32>,
    length: Option<u32>,
    before: Option<Standing>,
    after: Standing,
    phase: &'static str,
    notes: Vec<&'static str>,
    outcome: &'static str,
    handshake: Option<Handshake>,
    close: Option<Close>,
    unreachable: Option<&'static str>,
}

#[derive(Serialize)]
struct Address {
    addr: IpAddr,
    port: u16,
}

#[derive(Serialize)]
struct Standing {
    originator: Option<&'static str>,
    responder: Option<&'static str>,
    phase: &'static str,
}

#[derive(Serialize)]
struct Handshake {
    syn_to_synack_seconds: Option<Seconds>,
    synack_to_ack_seconds: Option<Seconds>,
    total_seconds: Option<Seconds>,
}

#[derive(Serialize)]
struct Close {
    initiator: &'static str,
    how: &'static str,
}

impl<'a> From<&'a Event> for Record<'a> {
    fn from(event: &'a Event) -> Self {
        let Event { before, after, .. } = *event;
        let address = |endpoint: &SocketAddr| Address { addr: endpoint.ip(), port: endpoint.port() };
        let seen = match event.cause {
            Cause::Segment(seen) => Some(seen),
            Cause::Silence | Cause::Replaced | Cause::Unreachable(_) => None,
        };
        Self {
            time: Timestamp(event.unix_ns),
            kind: match event.cause {
                Cause::Segment(_) => "segment",
                Cause::Silence => "silence",
                Cause::Replaced => "replaced",
                Cause::Unreachable(_) => "icmp",
            },
            originator: address(&event.originator),
            responder: address(&event.responder),
            role: event.role.map(|role| role.label()),
            vlans: &event.vlans,
            sender: seen.map(|seen| match seen.from {
                Role::Originator => "originator",
                Role::Responder => "responder",
            }),
            flags: seen.as_ref().map(letters),
            seq: seen.map(|seen| seen.seq.shown),
            ack: seen.and_then(|seen| seen.ack).map(|ack| ack.shown),
            seq_raw: seen.map(|seen| seen.seq.raw),
            ack_raw: seen.and_then(|seen| seen.ack).map(|ack| ack.raw),
            length: seen.map(|seen| seen.payload_bytes),
            before: before.map(Standing::from),
            after: after.into(),
            phase: after.phase().label(),
            notes: event.notes.iter().map(|note| note.label()).collect(),
            outcome: after.outcome().label(),
            handshake: event.handshake.map(|handshake| Handshake {
                syn_to_synack_seconds: handshake.syn_to_synack_ns.map(Seconds),
                synack_to_ack_seconds: handshake.synack_to_ack_ns.map(Seconds),
                total_seconds: handshake.total_ns.map(Seconds),
            }),
            close: (event.closes()).then(|| Close { initiator: after.initiator().label(), how: after.how().label() }),
            unreachable: match event.cause {
                Cause::Unreachable(reason) => Some(reason.label()),
                Cause::Segment(_) | Cause::Silence | Cause::Replaced => None,
            },
        }
    }
}

impl From<Word> for Standing {
    fn from(word: Word) -> Self {
        let state = |role| known(word.state(role));
        Self { originator: state(Role::Originator), responder: state(Role::Responder), phase: word.phase().label() }
    }
}
