//! Flow records as CSV: a header line, then the JSON record's fields flattened, quoted as RFC 4180 says
//! (<https://www.rfc-editor.org/rfc/rfc4180#section-2>). What is unknown is an empty field; the elements of a list have
//! bars between them.

use std::{
    fmt::{Display, Write as _},
    io::{self, Write},
    mem,
};

use super::json::{Seconds, Timestamp};
use crate::snapshot::FlowRecord;

/// One column: its name, and what it says of a flow.
type Column = (&'static str, fn(&FlowRecord, &mut String));

const COLUMNS: &[Column] = &[
    ("originator_addr", |flow, out| put(flow.originator.addr, out)),
    ("originator_port", |flow, out| put(flow.originator.port, out)),
    ("originator_state", |flow, out| known(flow.originator.state.map(|state| state.label()), out)),
    ("originator_local", |flow, out| known(flow.originator.local, out)),
    ("originator_packets", |flow, out| put(flow.originator.packets, out)),
    ("originator_bytes", |flow, out| put(flow.originator.bytes, out)),
    ("originator_isn", |flow, out| known(flow.originator.isn, out)),
    ("originator_syn_retransmits", |flow, out| put(flow.originator.syn_retransmits, out)),
    ("originator_fin", |flow, out| put(flow.originator.fin, out)),
    ("originator_rst", |flow, out| put(flow.originator.rst, out)),
    ("originator_mss", |flow, out| known(flow.originator.mss, out)),
    ("originator_window_scale", |flow, out| known(flow.originator.window_scale, out)),
    ("originator_sack", |flow, out| known(flow.originator.sack, out)),
    ("originator_timestamps", |flow, out| known(flow.originator.timestamps, out)),
    ("originator_retransmits", |flow, out| put(flow.originator.retransmits, out)),
    ("originator_keepalives", |flow, out| put(flow.originator.keepalives, out)),
    ("originator_unanswered_keepalives", |flow, out| put(flow.originator.unanswered_keepalives, out)),
    ("originator_zero_windows", |flow, out| put(flow.originator.zero_windows, out)),
    ("originator_window_probes", |flow, out| put(flow.originator.window_probes, out)),
    ("originator_fin_retransmits", |flow, out| put(flow.originator.fin_retransmits, out)),
    ("originator_heartbeat_seconds", |flow, out| known(flow.originator.heartbeat_ns.map(Seconds), out)),
    ("responder_addr", |flow, out| put(flow.responder.addr, out)),
    ("responder_port", |flow, out| put(flow.responder.port, out)),
    ("responder_state", |flow, out| known(flow.responder.state.map(|state| state.label()), out)),
    ("responder_local", |flow, out| known(flow.responder.local, out)),
    ("responder_packets", |flow, out| put(flow.responder.packets, out)),
    ("responder_bytes", |flow, out| put(flow.responder.bytes, out)),
    ("responder_isn", |flow, out| known(flow.responder.isn, out)),
    ("responder_synack_retransmits", |flow, out| put(flow.responder.syn_retransmits, out)),
    ("responder_fin", |flow, out| put(flow.responder.fin, out)),
    ("responder_rst", |flow, out| put(flow.responder.rst, out)),
    ("responder_mss", |flow, out| known(flow.responder.mss, out)),
    ("responder_window_scale", |flow, out| known(flow.responder.window_scale, out)),
    ("responder_sack", |flow, out| known(flow.responder.sack, out)),
    ("responder_timestamps", |flow, out| known(flow.responder.timestamps, out)),
    ("responder_retransmits", |flow, out| put(flow.responder.retransmits, out)),
    ("responder_keepalives", |flow, out| put(flow.responder.keepalives, out)),
    ("responder_unanswered_keepalives", |flow, out| put(flow.responder.unanswered_keepalives, out)),
    ("responder_zero_windows", |flow, out| put(flow.responder.zero_windows, out)),
    ("responder_window_probes", |flow, out| put(flow.responder.window_probes, out)),
    ("responder_fin_retransmits", |flow, out| put(flow.responder.fin_retransmits, out)),
    ("responder_heartbeat_seconds", |flow, out| known(flow.responder.heartbeat_ns.map(Seconds), out)),
    ("interface", |flow, out| known(flow.interface.as_deref(), out)),
    ("role", |flow, out| known(flow.role.map(|role| role.label()), out)),
    ("inferred", |flow, out| put(flow.inferred, out)),
    ("phase", |flow, out| put(flow.phase.label(), out)),
    ("half_open", |flow, out| known(flow.half_open().map(|kind| kind.label()), out)),
    ("first_seen", |flow, out| put(Timestamp(flow.first_seen_unix_ns), out)),
    ("last_seen", |flow, out| put(Timestamp(flow.last_seen_unix_ns), out)),
    ("duration_seconds", |flow, out| put(Seconds(flow.duration_ns()), out)),
    ("handshake_outcome", |flow, out| put(flow.handshake.outcome.label(), out)),
    ("handshake_syn_to_synack_seconds", |flow, out| known(flow.handshake.syn_to_synack_ns.map(Seconds), out)),
    ("handshake_synack_to_ack_seconds", |flow, out| known(flow.handshake.synack_to_ack_ns.map(Seconds), out)),
    ("handshake_total_seconds", |flow, out| known(flow.handshake.total_ns.map(Seconds), out)),
    ("handshake_retransmitted", |flow, out| put(flow.handshake.retransmitted, out)),
    ("handshake_unreachable", |flow, out| known(flow.handshake.unreachable.map(|reason| reason.label()), out)),
    ("close_initiator", |flow, out| known(flow.close.initiator.map(|initiator| initiator.label()), out)),
    ("close_how", |flow, out| known(flow.close.how.map(|how| how.label()), out)),
    ("half_close_seconds", |flow, out| known(flow.half_close_ns.map(Seconds), out)),
    ("ecn", |flow, out| known(flow.ecn(), out)),
    ("conn_state", |flow, out| put(flow.conn_state().label(), out)),
    ("history", |flow, out| put(flow.history, out)),
    ("completeness", |flow, out| put(flow.completeness, out)),
    ("notes", |flow, out| put(flow.notes.joined('|'), out)),
    ("vlan", |flow, out| known(flow.vlan.as_deref().map(vlans), out)),
];

fn put(value: impl Display, out: &mut String) {
    // Writing to a string does not fail.
    let _ = write!(out, "{value}");
}

fn known(value: Option<impl Display>, out: &mut String) {
    if let Some(value) = value {
        put(value, out);
    }
}

/// Identifiers from the outer tag to the inner one.
fn vlans(ids: &[u16]) -> impl Display {
    std::fmt::from_fn(move |f| {
        for (index, id) in ids.iter().enumerate() {
            write!(f, "{}{id}", if index > 0 { "|" } else { "" })?;
        }
        Ok(())
    })
}

/// Writes the header and the flows, one line each.
///
/// # Errors
/// When `out` takes no more.
pub fn write<'a>(flows: impl IntoIterator<Item = &'a FlowRecord>, out: &mut impl Write) -> io::Result<()> {
    let mut lines = Lines::new(out);
    flows.into_iter().try_for_each(|flow| lines.add(flow))?;
    lines.end()
}

/// A header line, and a line for each flow as it comes. Nothing is written before the first flow or the end.
pub struct Lines<W: Write> {
    csv: ::csv::Writer<W>,
    has_header: bool,
    field: String,
}

impl<W: Write> Lines<W> {
    pub fn new(out: W) -> Self {
        Self { csv: ::csv::Writer::from_writer(out), has_header: false, field: String::new() }
    }

    /// # Errors
    /// When the output takes no more.
    pub fn add(&mut self, flow: &FlowRecord) -> io::Result<()> {
        self.header()?;
        for (_, write_field) in COLUMNS {
            self.field.clear();
            write_field(flow, &mut self.field);
            self.csv.write_field(&self.field).map_err(cause)?;
        }
        self.csv.write_record(None::<&[u8]>).map_err(cause)
    }

    /// # Errors
    /// When the output takes no more.
    pub fn end(mut self) -> io::Result<()> {
        self.header()?;
        self.csv.flush()
    }

    fn header(&mut self) -> io::Result<()> {
        if !mem::replace(&mut self.has_header, true) {
            self.csv.write_record(COLUMNS.iter().map(|(name, _)| name)).map_err(cause)?;
        }
        Ok(())
    }
}

/// The error of the writer below, whose kind the crate's own conversion forgets: a broken pipe has to be known as one.
fn cause(error: ::csv::Error) -> io::Error {
    match error.into_kind() {
        ::csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use tcp_observer_common::conn::{Locality, Note};

    use super::*;
    use crate::snapshot::fixture;

    fn lines(flows: &[FlowRecord]) -> Vec<String> {
        let mut out = Vec::new();
        write(flows, &mut out).unwrap();
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_broken_pipe_is_still_one_when_it_comes_out() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let flows = vec![fixture::flow("192.0.2.1:1", "192.0.2.2:2", None); 1000];
        assert_eq!(write(&flows, &mut Closed).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn without_flows_there_is_a_header() {
        let lines = lines(&[]);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with("originator_addr,originator_port,originator_state,"));
        assert!(lines[0].ends_with(",conn_state,history,completeness,notes,vlan"));
    }

    #[test]
    fn a_flow_is_one_line_and_what_is_unknown_is_empty() {
        let mut flow = fixture::flow("192.0.2.1:40000", "192.0.2.2:443", Some(Locality::Client));
        flow.responder.isn = None;
        // Interfaces may be named almost anything.
        flow.interface = Some("a,\"b".into());
        flow.responder.sack = None;
        flow.responder.heartbeat_ns = Some(15_000_000_000);
        flow.notes = [Note::FastOpen, Note::Heartbeat].into_iter().collect();
        flow.vlan = Some([100, 7].into());
        assert_eq!(
            lines(&[flow])[1],
            "192.0.2.1,40000,established,true,3,1000,7,0,false,false,1460,7,true,true,0,0,0,0,0,0,,\
             192.0.2.2,443,established,false,3,1000,,0,false,false,1460,7,,true,0,0,0,0,0,0,15,\
             \"a,\"\"b\",client,false,established,,\
             2026-01-01T00:00:00.000000000Z,2026-01-01T00:01:00.000000000Z,60,\
             completed,0.000123,0.000045,0.000168,false,,,,,,S1,ShADad,15,fast_open|heartbeat,100|7"
        );
    }
}
