//! Flow records as CSV: a header line, then the JSON record's fields flattened, quoted as RFC 4180 says
//! (<https://www.rfc-editor.org/rfc/rfc4180#section-2>). What is unknown is an empty field.

use std::{
    fmt::Display,
    io::{self, Write},
};

use super::json::{Seconds, Timestamp};
use crate::snapshot::FlowRecord;

/// One column: its name, and what it says of a flow.
type Column = (&'static str, fn(&FlowRecord) -> String);

const COLUMNS: &[Column] = &[
    ("originator_addr", |flow| flow.originator.addr.to_string()),
    ("originator_port", |flow| flow.originator.port.to_string()),
    ("originator_state", |flow| known(flow.originator.state.map(|state| state.label()))),
    ("originator_local", |flow| known(flow.originator.local)),
    ("originator_packets", |flow| flow.originator.packets.to_string()),
    ("originator_bytes", |flow| flow.originator.bytes.to_string()),
    ("originator_isn", |flow| known(flow.originator.isn)),
    ("originator_syn_retransmits", |flow| flow.originator.syn_retransmits.to_string()),
    ("originator_fin", |flow| flow.originator.fin.to_string()),
    ("originator_rst", |flow| flow.originator.rst.to_string()),
    ("responder_addr", |flow| flow.responder.addr.to_string()),
    ("responder_port", |flow| flow.responder.port.to_string()),
    ("responder_state", |flow| known(flow.responder.state.map(|state| state.label()))),
    ("responder_local", |flow| known(flow.responder.local)),
    ("responder_packets", |flow| flow.responder.packets.to_string()),
    ("responder_bytes", |flow| flow.responder.bytes.to_string()),
    ("responder_isn", |flow| known(flow.responder.isn)),
    ("responder_synack_retransmits", |flow| flow.responder.syn_retransmits.to_string()),
    ("responder_fin", |flow| flow.responder.fin.to_string()),
    ("responder_rst", |flow| flow.responder.rst.to_string()),
    ("interface", |flow| known(flow.interface.as_deref())),
    ("role", |flow| known(flow.role.map(|role| role.label()))),
    ("inferred", |flow| flow.inferred.to_string()),
    ("phase", |flow| flow.phase.label().to_owned()),
    ("half_open", |flow| known(flow.half_open().map(|kind| kind.label()))),
    ("first_seen", |flow| Timestamp(flow.first_seen_unix_ns).to_string()),
    ("last_seen", |flow| Timestamp(flow.last_seen_unix_ns).to_string()),
    ("duration_seconds", |flow| Seconds(flow.duration_ns()).to_string()),
    ("handshake_outcome", |flow| flow.handshake.outcome.label().to_owned()),
    ("handshake_syn_to_synack_seconds", |flow| known(flow.handshake.syn_to_synack_ns.map(Seconds))),
    ("handshake_synack_to_ack_seconds", |flow| known(flow.handshake.synack_to_ack_ns.map(Seconds))),
    ("handshake_total_seconds", |flow| known(flow.handshake.total_ns.map(Seconds))),
    ("handshake_retransmitted", |flow| flow.handshake.retransmitted.to_string()),
    ("close_initiator", |flow| known(flow.close.initiator.map(|initiator| initiator.label()))),
    ("close_how", |flow| known(flow.close.how.map(|how| how.label()))),
];

fn known(value: Option<impl Display>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// Writes the header and the flows, one line each.
///
/// # Errors
/// When `out` takes no more.
pub fn write<'a>(flows: impl IntoIterator<Item = &'a FlowRecord>, out: &mut impl Write) -> io::Result<()> {
    let mut csv = ::csv::Writer::from_writer(out);
    csv.write_record(COLUMNS.iter().map(|(name, _)| name)).map_err(cause)?;
    for flow in flows {
        csv.write_record(COLUMNS.iter().map(|(_, field)| field(flow))).map_err(cause)?;
    }
    csv.flush()
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
    use tcp_observer_common::conn::Locality;

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
        assert!(lines[0].ends_with(",close_initiator,close_how"));
    }

    #[test]
    fn a_flow_is_one_line_and_what_is_unknown_is_empty() {
        let mut flow = fixture::flow("192.0.2.1:40000", "192.0.2.2:443", Some(Locality::Client));
        flow.responder.isn = None;
        // Interfaces may be named almost anything.
        flow.interface = Some("a,\"b".into());
        assert_eq!(
            lines(&[flow])[1],
            "192.0.2.1,40000,established,true,3,1000,7,0,false,false,\
             192.0.2.2,443,established,false,3,1000,,0,false,false,\
             \"a,\"\"b\",client,false,established,,\
             2026-01-01T00:00:00.000000000Z,2026-01-01T00:01:00.000000000Z,60,\
             completed,0.000123,0.000045,0.000168,false,,"
        );
    }
}
