//! Flow records as JSON, one object a line.
//!
//! The record is an interface: fields may be added, never renamed, and what is unknown is `null`. Output structures
//! of their own keep it apart from how a snapshot happens to hold a flow. Times are written exactly: seconds as a
//! decimal with as many digits as nanoseconds need, never as a rounded binary fraction.

use std::{
    io::{self, Write},
    net::IpAddr,
    time::{Duration, UNIX_EPOCH},
};

use serde::{Serialize, Serializer, ser};
use serde_json::value::RawValue;

use crate::snapshot::{self, FlowRecord};

/// Writes the flows, one line each.
///
/// # Errors
/// When `out` takes no more.
pub fn write<'a>(flows: impl IntoIterator<Item = &'a FlowRecord>, out: &mut impl Write) -> io::Result<()> {
    for flow in flows {
        serde_json::to_writer(&mut *out, &Record::from(flow))?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

#[derive(Serialize)]
pub(super) struct Record<'a> {
    originator: Originator,
    responder: Responder,
    interface: Option<&'a str>,
    role: Option<&'static str>,
    inferred: bool,
    phase: &'static str,
    half_open: Option<&'static str>,
    first_seen: Timestamp,
    last_seen: Timestamp,
    duration_seconds: Seconds,
    handshake: Handshake,
    close: Close,
    half_close_seconds: Option<Seconds>,
    ecn: Option<&'static str>,
    conn_state: &'static str,
    history: Text<snapshot::History>,
    completeness: u8,
    notes: Labels,
    vlan: Option<&'a [u16]>,
}

#[derive(Serialize)]
struct Originator {
    addr: IpAddr,
    port: u16,
    state: Option<&'static str>,
    local: Option<bool>,
    packets: u64,
    bytes: u64,
    isn: Option<u32>,
    syn_retransmits: u8,
    fin: bool,
    rst: bool,
    #[serde(flatten)]
    more: More,
}

#[derive(Serialize)]
struct Responder {
    addr: IpAddr,
    port: u16,
    state: Option<&'static str>,
    local: Option<bool>,
    packets: u64,
    bytes: u64,
    isn: Option<u32>,
    synack_retransmits: u8,
    fin: bool,
    rst: bool,
    #[serde(flatten)]
    more: More,
}

/// What both kinds of endpoints have in common besides.
#[derive(Serialize)]
struct More {
    mss: Option<u16>,
    window_scale: Option<u8>,
    sack: Option<bool>,
    timestamps: Option<bool>,
    retransmits: u32,
    keepalives: u16,
    unanswered_keepalives: u8,
    zero_windows: u16,
    window_probes: u16,
    fin_retransmits: u8,
    heartbeat_seconds: Option<Seconds>,
}

#[derive(Serialize)]
struct Handshake {
    outcome: &'static str,
    syn_to_synack_seconds: Option<Seconds>,
    synack_to_ack_seconds: Option<Seconds>,
    total_seconds: Option<Seconds>,
    retransmitted: bool,
    unreachable: Option<&'static str>,
}

#[derive(Serialize)]
struct Close {
    initiator: Option<&'static str>,
    how: Option<&'static str>,
}

impl<'a> From<&'a FlowRecord> for Record<'a> {
    fn from(flow: &'a FlowRecord) -> Self {
        let handshake = &flow.handshake;
        Self {
            originator: (&flow.originator).into(),
            responder: (&flow.responder).into(),
            interface: flow.interface.as_deref(),
            role: flow.role.map(|role| role.label()),
            inferred: flow.inferred,
            phase: flow.phase.label(),
            half_open: flow.half_open().map(|kind| kind.label()),
            first_seen: Timestamp(flow.first_seen_unix_ns),
            last_seen: Timestamp(flow.last_seen_unix_ns),
            duration_seconds: Seconds(flow.duration_ns()),
            handshake: Handshake {
                outcome: handshake.outcome.label(),
                syn_to_synack_seconds: handshake.syn_to_synack_ns.map(Seconds),
                synack_to_ack_seconds: handshake.synack_to_ack_ns.map(Seconds),
                total_seconds: handshake.total_ns.map(Seconds),
                retransmitted: handshake.retransmitted,
                unreachable: handshake.unreachable.map(|reason| reason.label()),
            },
            close: Close {
                initiator: flow.close.initiator.map(|initiator| initiator.label()),
                how: flow.close.how.map(|how| how.label()),
            },
            half_close_seconds: flow.half_close_ns.map(Seconds),
            ecn: flow.ecn(),
            conn_state: flow.conn_state().label(),
            history: Text(flow.history),
            completeness: flow.completeness,
            notes: Labels(flow.notes),
            vlan: flow.vlan.as_deref(),
        }
    }
}

impl From<&snapshot::Endpoint> for Originator {
    fn from(endpoint: &snapshot::Endpoint) -> Self {
        Self {
            addr: endpoint.addr,
            port: endpoint.port,
            state: endpoint.state.map(|state| state.label()),
            local: endpoint.local,
            packets: endpoint.packets,
            bytes: endpoint.bytes,
            isn: endpoint.isn,
            syn_retransmits: endpoint.syn_retransmits,
            fin: endpoint.fin,
            rst: endpoint.rst,
            more: endpoint.into(),
        }
    }
}

impl From<&snapshot::Endpoint> for Responder {
    fn from(endpoint: &snapshot::Endpoint) -> Self {
        Self {
            addr: endpoint.addr,
            port: endpoint.port,
            state: endpoint.state.map(|state| state.label()),
            local: endpoint.local,
            packets: endpoint.packets,
            bytes: endpoint.bytes,
            isn: endpoint.isn,
            synack_retransmits: endpoint.syn_retransmits,
            fin: endpoint.fin,
            rst: endpoint.rst,
            more: endpoint.into(),
        }
    }
}

impl From<&snapshot::Endpoint> for More {
    fn from(endpoint: &snapshot::Endpoint) -> Self {
        Self {
            mss: endpoint.mss,
            window_scale: endpoint.window_scale,
            sack: endpoint.sack,
            timestamps: endpoint.timestamps,
            retransmits: endpoint.retransmits,
            keepalives: endpoint.keepalives,
            unanswered_keepalives: endpoint.unanswered_keepalives,
            zero_windows: endpoint.zero_windows,
            window_probes: endpoint.window_probes,
            fin_retransmits: endpoint.fin_retransmits,
            heartbeat_seconds: endpoint.heartbeat_ns.map(Seconds),
        }
    }
}

/// What displays itself, as a string.
struct Text<T>(T);

impl<T: std::fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Notes by their labels.
struct Labels(snapshot::Notes);

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|note| note.label()))
    }
}

/// Nanoseconds since the Unix epoch, written as RFC 3339 has it, in UTC with all nine digits
/// (<https://www.rfc-editor.org/rfc/rfc3339#section-5.6>).
pub(super) struct Timestamp(pub u64);

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        humantime::format_rfc3339_nanos(UNIX_EPOCH + Duration::from_nanos(self.0)).fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Nanoseconds, written as decimal seconds: 14,000 is `0.000014`, and no value is rounded.
#[derive(Clone, Copy)]
pub(super) struct Seconds(pub u64);

impl Seconds {
    /// Room for the longest: 11 digits, the point, nine digits.
    const LONGEST: usize = 21;

    fn write_to(self, buffer: &mut [u8; Self::LONGEST]) -> &str {
        let mut start = buffer.len();
        let mut push = |byte: u8| {
            start -= 1;
            buffer[start] = byte;
        };
        let (mut whole, mut fraction) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        if fraction > 0 {
            let mut digits = 9;
            while fraction % 10 == 0 {
                fraction /= 10;
                digits -= 1;
            }
            for _ in 0..digits {
                push(b'0' + (fraction % 10) as u8);
                fraction /= 10;
            }
            push(b'.');
        }
        loop {
            push(b'0' + (whole % 10) as u8);
            whole /= 10;
            if whole == 0 {
                break;
            }
        }
        // Digits and a point only.
        std::str::from_utf8(&buffer[start..]).unwrap_or_default()
    }
}

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.write_to(&mut [0; Self::LONGEST]))
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut buffer = [0; Self::LONGEST];
        let number: &RawValue = serde_json::from_str(self.write_to(&mut buffer)).map_err(ser::Error::custom)?;
        number.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use tcp_observer_common::{
        conn::{How, Initiator, Locality, Note, Outcome, Phase, State},
        counters::Unreachable,
    };

    use super::*;
    use crate::snapshot::fixture;

    fn line(flow: &FlowRecord) -> String {
        let mut out = Vec::new();
        write([flow], &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn seconds_are_exact_decimals() {
        for (ns, text) in [
            (0, "0"),
            (1, "0.000000001"),
            (14_000, "0.000014"),
            (100_000_000, "0.1"),
            (1_000_000_000, "1"),
            (1_234_567_890, "1.23456789"),
            (90_000_000_000, "90"),
            // A binary fraction of 64 bits has no room for this one's last digit.
            (12_345_678_123_456_789, "12345678.123456789"),
            (u64::MAX, "18446744073.709551615"),
        ] {
            assert_eq!(Seconds(ns).to_string(), text);
            assert_eq!(serde_json::to_string(&Seconds(ns)).unwrap(), text);
        }
    }

    #[test]
    fn a_closed_flow_is_this_record() {
        let mut flow = fixture::flow("192.0.2.1:40000", "[2001:db8::2]:443", Some(Locality::Client));
        flow.originator.state = Some(State::TimeWait);
        flow.originator.isn = Some(3_626_544_836);
        flow.originator.fin = true;
        flow.responder.state = Some(State::Closed);
        flow.responder.syn_retransmits = 2;
        flow.phase = Phase::TimeWait;
        flow.last_seen_unix_ns = flow.first_seen_unix_ns + 1_234_567_000;
        flow.close = snapshot::Close { initiator: Some(Initiator::Originator), how: Some(How::Fin) };
        flow.originator.retransmits = 5;
        flow.originator.heartbeat_ns = Some(30_010_000_000);
        flow.responder.keepalives = 9;
        flow.responder.unanswered_keepalives = 1;
        flow.responder.mss = None;
        flow.responder.window_scale = Some(0);
        flow.responder.sack = Some(false);
        flow.half_close_ns = Some(250_000_000);
        flow.history = "ShADadtFf".into();
        flow.notes = [Note::Completed, Note::Ecn, Note::Keepalive].into_iter().collect();
        flow.completeness = 31;
        flow.vlan = Some([100, 7].into());
        let expected = concat!(
            r#"{"originator":{"addr":"192.0.2.1","port":40000,"state":"time_wait","local":true,"packets":3,"#,
            r#""bytes":1000,"isn":3626544836,"syn_retransmits":0,"fin":true,"rst":false,"#,
            r#""mss":1460,"window_scale":7,"sack":true,"timestamps":true,"retransmits":5,"keepalives":0,"#,
            r#""unanswered_keepalives":0,"zero_windows":0,"window_probes":0,"fin_retransmits":0,"#,
            r#""heartbeat_seconds":30.01},"#,
            r#""responder":{"addr":"2001:db8::2","port":443,"state":"closed","local":false,"packets":3,"#,
            r#""bytes":1000,"isn":7,"synack_retransmits":2,"fin":false,"rst":false,"#,
            r#""mss":null,"window_scale":0,"sack":false,"timestamps":true,"retransmits":0,"keepalives":9,"#,
            r#""unanswered_keepalives":1,"zero_windows":0,"window_probes":0,"fin_retransmits":0,"#,
            r#""heartbeat_seconds":null},"#,
            r#""interface":"eth0","role":"client","inferred":false,"phase":"time_wait","half_open":null,"#,
            r#""first_seen":"2026-01-01T00:00:00.000000000Z","last_seen":"2026-01-01T00:00:01.234567000Z","#,
            r#""duration_seconds":1.234567,"#,
            r#""handshake":{"outcome":"completed","syn_to_synack_seconds":0.000123,"#,
            r#""synack_to_ack_seconds":0.000045,"total_seconds":0.000168,"retransmitted":false,"#,
            r#""unreachable":null},"#,
            r#""close":{"initiator":"originator","how":"fin"},"half_close_seconds":0.25,"ecn":"ecn","#,
            r#""conn_state":"SF","history":"ShADadtFf","completeness":31,"notes":["ecn","keepalive"],"#,
            r#""vlan":[100,7]}"#,
            "\n",
        );
        assert_eq!(line(&flow), expected);
    }

    #[test]
    fn what_is_unknown_is_null_and_never_zero() {
        let mut flow = fixture::flow("192.0.2.1:40000", "192.0.2.2:443", None);
        flow.interface = None;
        flow.responder.state = None;
        flow.responder.isn = None;
        flow.phase = Phase::HalfOpen;
        flow.handshake = snapshot::Handshake {
            outcome: Outcome::InProgress,
            syn_to_synack_ns: None,
            synack_to_ack_ns: None,
            total_ns: None,
            retransmitted: false,
            unreachable: None,
        };
        flow.responder.mss = None;
        flow.responder.window_scale = None;
        flow.responder.sack = None;
        flow.responder.timestamps = None;
        let record: serde_json::Value = serde_json::from_str(&line(&flow)).unwrap();
        for pointer in [
            "/interface",
            "/role",
            "/originator/local",
            "/responder/state",
            "/responder/isn",
            "/handshake/syn_to_synack_seconds",
            "/handshake/synack_to_ack_seconds",
            "/handshake/total_seconds",
            "/close/initiator",
            "/close/how",
            "/handshake/unreachable",
            "/responder/mss",
            "/responder/window_scale",
            "/responder/sack",
            "/responder/timestamps",
            "/responder/heartbeat_seconds",
            "/half_close_seconds",
            "/ecn",
            "/vlan",
        ] {
            assert_eq!(record.pointer(pointer), Some(&serde_json::Value::Null), "{pointer}");
        }
        assert_eq!(record["half_open"], "unanswered_syn");
        assert_eq!(record["notes"], serde_json::json!([]), "nothing recognised is not unknown");
    }

    #[test]
    fn an_attempt_that_icmp_ended_says_why() {
        let mut flow = fixture::flow("192.0.2.1:40000", "192.0.2.2:443", Some(Locality::Client));
        flow.history = "S".into();
        flow.handshake.outcome = Outcome::Unreachable;
        flow.handshake.unreachable = Some(Unreachable::Prohibited);
        flow.notes = [Note::Unreachable, Note::AccurateEcn].into_iter().collect();
        let record: serde_json::Value = serde_json::from_str(&line(&flow)).unwrap();
        assert_eq!(record["handshake"]["outcome"], "unreachable");
        assert_eq!(record["handshake"]["unreachable"], "prohibited");
        assert_eq!((&record["conn_state"], &record["ecn"]), (&"S0".into(), &"accecn".into()));
    }
}
