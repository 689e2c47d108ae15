//! Flows as a table for people: aligned columns, humanised numbers, one line a flow.
//!
//! Widths follow the content. Each cell is made twice, once for its width and once for the output, so that a table of
//! a million flows needs no memory of its own.

use std::{
    fmt::Write as _,
    io::{self, Write},
    net::IpAddr,
};

use tcp_observer_common::conn::{Outcome, State};

use super::human::{Ago, Bytes, Count, Took};
use crate::snapshot::{Endpoint, FlowRecord};

/// How a table is to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// With all that is known of a flow.
    pub wide: bool,
    /// The header in bold: for terminals.
    pub bold_header: bool,
}

/// One column: its title, where its text stands, and what it says of a flow at a moment (Unix time, nanoseconds).
struct Column {
    title: &'static str,
    align: Align,
    cell: fn(&FlowRecord, u64, &mut String),
}

#[derive(Clone, Copy)]
enum Align {
    Left,
    Right,
}

const fn left(title: &'static str, cell: fn(&FlowRecord, u64, &mut String)) -> Column {
    Column { title, align: Align::Left, cell }
}

const fn right(title: &'static str, cell: fn(&FlowRecord, u64, &mut String)) -> Column {
    Column { title, align: Align::Right, cell }
}

const NARROW: &[Column] = &[
    left("ORIGINATOR", |flow, _, out| endpoint(&flow.originator, out)),
    left("STATE", |flow, _, out| state(&flow.originator, out)),
    left("RESPONDER", |flow, _, out| endpoint(&flow.responder, out)),
    left("STATE", |flow, _, out| state(&flow.responder, out)),
    left("PHASE", |flow, _, out| out.push_str(flow.phase.label())),
    left("ROLE", role),
    left("HANDSHAKE", handshake),
    left("CLOSE", close),
    right("AGE", |flow, now, out| put(out, Ago(flow.age_ns(now)))),
];

const WIDE: &[Column] = &[
    right("SYN→SYN-ACK", |flow, _, out| took(flow.handshake.syn_to_synack_ns, out)),
    right("SYN-ACK→ACK", |flow, _, out| took(flow.handshake.synack_to_ack_ns, out)),
    right("REPEATED", |flow, _, out| {
        put(out, format_args!("{}/{}", flow.originator.syn_retransmits, flow.responder.syn_retransmits));
    }),
    right("PACKETS", |flow, _, out| {
        put(out, format_args!("{}/{}", Count(flow.originator.packets), Count(flow.responder.packets)));
    }),
    right("BYTES", |flow, _, out| {
        put(out, format_args!("{}/{}", Bytes(flow.originator.bytes), Bytes(flow.responder.bytes)));
    }),
    right("ISN", |flow, _, out| {
        known(flow.originator.isn, out);
        out.push('/');
        known(flow.responder.isn, out);
    }),
    right("IDLE", |flow, now, out| put(out, Ago(now.saturating_sub(flow.last_seen_unix_ns)))),
    left("INTERFACE", |flow, _, out| known(flow.interface.as_deref(), out)),
    left("HISTORY", |flow, _, out| put(out, flow.history)),
    left("CONN_STATE", |flow, _, out| out.push_str(flow.conn_state().label())),
    left("NOTES", |flow, _, out| match flow.notes.iter().next() {
        Some(_) => put(out, flow.notes.joined(',')),
        None => out.push('-'),
    }),
];

/// Writes the header and the flows; `now_unix_ns` is the moment that ages refer to.
///
/// # Errors
/// When `out` takes no more.
pub fn write(flows: &[&FlowRecord], now_unix_ns: u64, style: Style, out: &mut impl Write) -> io::Result<()> {
    let columns: Vec<_> = NARROW.iter().chain(WIDE.iter().filter(|_| style.wide)).collect();
    let mut cell = String::new();
    let mut widths: Vec<_> = columns.iter().map(|column| width(column.title)).collect();
    for flow in flows {
        for (column, widest) in columns.iter().zip(&mut widths) {
            cell.clear();
            (column.cell)(flow, now_unix_ns, &mut cell);
            *widest = width(&cell).max(*widest);
        }
    }
    let mut line = String::new();
    for (column, &width) in columns.iter().zip(&widths) {
        pad(column.title, column.align, width, &mut line);
    }
    let (bold, plain) = if style.bold_header { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    writeln!(out, "{bold}{}{plain}", line.trim_end())?;
    for flow in flows {
        line.clear();
        for (column, &width) in columns.iter().zip(&widths) {
            cell.clear();
            (column.cell)(flow, now_unix_ns, &mut cell);
            pad(&cell, column.align, width, &mut line);
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Columns on a terminal: nothing in a cell is wider or narrower than one per character.
fn width(text: &str) -> usize {
    text.chars().count()
}

fn pad(text: &str, align: Align, width: usize, line: &mut String) {
    if !line.is_empty() {
        line.push_str("  ");
    }
    match align {
        Align::Left => put(line, format_args!("{text:<width$}")),
        Align::Right => put(line, format_args!("{text:>width$}")),
    }
}

fn put(out: &mut String, value: impl std::fmt::Display) {
    // Writing to a string does not fail.
    let _ = write!(out, "{value}");
}

fn known(value: Option<impl std::fmt::Display>, out: &mut String) {
    match value {
        Some(value) => put(out, value),
        None => out.push('-'),
    }
}

fn endpoint(endpoint: &Endpoint, out: &mut String) {
    match endpoint.addr {
        IpAddr::V4(addr) => put(out, format_args!("{addr}:{}", endpoint.port)),
        IpAddr::V6(addr) => put(out, format_args!("[{addr}]:{}", endpoint.port)),
    }
}

fn state(endpoint: &Endpoint, out: &mut String) {
    known(endpoint.state.map(State::label), out);
}

/// A guess is marked with a tilde.
fn role(flow: &FlowRecord, _: u64, out: &mut String) {
    if flow.inferred {
        out.push('~');
    }
    known(flow.role.map(|role| role.label()), out);
}

fn took(ns: Option<u64>, out: &mut String) {
    known(ns.map(Took), out);
}

/// What the user waited; for one that did not complete, what became of it or what it is waiting for.
fn handshake(flow: &FlowRecord, now_unix_ns: u64, out: &mut String) {
    let handshake = &flow.handshake;
    match (handshake.outcome, flow.half_open(), handshake.total_ns) {
        (_, Some(kind), _) => put(out, format_args!("half open {}: {}", Ago(flow.age_ns(now_unix_ns)), kind.label())),
        (Outcome::Completed, _, Some(total_ns)) => put(out, Took(total_ns)),
        (outcome, _, _) => out.push_str(outcome.label()),
    }
    if handshake.retransmitted {
        out.push_str(" (repeated)");
    }
}

fn close(flow: &FlowRecord, _: u64, out: &mut String) {
    match (flow.close.initiator, flow.close.how) {
        (Some(initiator), Some(how)) => put(out, format_args!("{} {}", initiator.label(), how.label())),
        (Some(initiator), None) => out.push_str(initiator.label()),
        (None, Some(how)) => out.push_str(how.label()),
        (None, None) => out.push('-'),
    }
}

#[cfg(test)]
mod tests {
    use tcp_observer_common::conn::{How, Initiator, Locality, Note, Phase};

    use super::*;
    use crate::snapshot::{Close, fixture};

    fn table(flows: &[FlowRecord], style: Style) -> String {
        let mut out = Vec::new();
        write(&flows.iter().collect::<Vec<_>>(), fixture::TAKEN_UNIX_NS, style, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn three() -> [FlowRecord; 3] {
        let mut closed = fixture::flow("[2001:db8::1]:40000", "[2001:db8::2]:443", Some(Locality::Client));
        closed.originator.state = Some(State::TimeWait);
        closed.responder.state = Some(State::Closed);
        closed.phase = Phase::TimeWait;
        closed.close = Close { initiator: Some(Initiator::Originator), how: Some(How::Fin) };
        closed.handshake.total_ns = Some(1_034_000_000);
        closed.handshake.retransmitted = true;

        let mut half_open = fixture::flow("198.51.100.3:40003", "192.0.2.1:443", Some(Locality::Server));
        half_open.originator.state = Some(State::SynSent);
        half_open.responder.state = None;
        half_open.responder.isn = None;
        half_open.phase = Phase::HalfOpen;
        half_open.handshake.outcome = Outcome::InProgress;
        half_open.handshake.syn_to_synack_ns = None;
        half_open.handshake.synack_to_ack_ns = None;
        half_open.handshake.total_ns = None;
        half_open.first_seen_unix_ns = fixture::TAKEN_UNIX_NS - 3_200_000_000;
        half_open.last_seen_unix_ns = fixture::TAKEN_UNIX_NS - 200_000_000;

        let mut guessed = fixture::flow("192.0.2.1:5000", "192.0.2.7:22", Some(Locality::Client));
        guessed.inferred = true;
        guessed.handshake.outcome = Outcome::NotSeen;
        guessed.handshake.total_ns = None;
        guessed.originator.bytes = 4_608;
        [closed, half_open, guessed]
    }

    #[test]
    fn columns_are_as_wide_as_their_content() {
        let expected = "\
ORIGINATOR           STATE        RESPONDER          STATE        PHASE        ROLE     HANDSHAKE                       CLOSE              AGE
[2001:db8::1]:40000  time_wait    [2001:db8::2]:443  closed       time_wait    client   1.03 s (repeated)               originator fin  10m00s
198.51.100.3:40003   syn_sent     192.0.2.1:443      -            half_open    server   half open 3.2s: unanswered_syn  -                 3.2s
192.0.2.1:5000       established  192.0.2.7:22       established  established  ~client  not_seen                        -               10m00s
";
        assert_eq!(table(&three(), Style::default()), expected);
    }

    #[test]
    fn wide_adds_what_else_is_known() {
        let [_, mut half_open, mut guessed] = three();
        half_open.history = "S".into();
        guessed.notes = [Note::Heartbeat, Note::Keepalive].into_iter().collect();
        let text = table(&[guessed, half_open], Style { wide: true, ..Style::default() });
        let added: Vec<_> = text.lines().map(|line| line.split_once("AGE").map_or(line, |(_, rest)| rest)).collect();
        assert_eq!(
            added[0],
            "  SYN→SYN-ACK  SYN-ACK→ACK  REPEATED  PACKETS           BYTES  ISN   IDLE  INTERFACE  HISTORY  CONN_STATE  NOTES"
        );
        assert!(added[1].ends_with(
            "10m00s       123 µs        45 µs       0/0      3/3  4.5 KiB/1000 B  7/7  9m00s  \
             eth0       ShADad   S1          keepalive,heartbeat"
        ));
        assert!(added[2].ends_with(
            "3.2s            -            -       0/0      3/3   1000 B/1000 B  7/-   0.2s  \
             eth0       S        S0          -"
        ));
    }

    #[test]
    fn without_flows_there_is_a_header() {
        let text = table(&[], Style { bold_header: true, ..Style::default() });
        assert_eq!(text, "\x1b[1mORIGINATOR  STATE  RESPONDER  STATE  PHASE  ROLE  HANDSHAKE  CLOSE  AGE\x1b[0m\n");
    }
}
