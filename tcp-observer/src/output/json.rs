//! Flow records as JSON, one object a line.
//!
//! The record is an interface: fields may be added, never renamed, and what is unknown is `null`. Their names stand here,
//! apart from how a snapshot happens to hold a flow. Times are written exactly: seconds as a decimal with as many digits
//! as nanoseconds need, never as a rounded binary fraction.

use std::{
    fmt::{self, Display},
    io::{self, Write},
    net::IpAddr,
    sync::{Arc, mpsc},
    thread,
};

use serde::{Serialize, Serializer, ser};
use serde_json::value::RawValue;
use tcp_observer_common::conn::Role;

use crate::{
    prefetch,
    snapshot::{Close, Endpoint, FlowRecord, Handshake, History, Notes},
};

/// How many flows are made into text at a time.
const TOGETHER: usize = 256;
/// So many are worth a second thread.
const MANY: usize = 50_000;

/// Writes the flows, one line each.
///
/// # Errors
/// When `out` takes no more.
pub fn write(flows: &[&FlowRecord], out: &mut impl Write) -> io::Result<()> {
    if flows.len() < MANY || thread::available_parallelism().is_ok_and(|threads| threads.get() < 2) {
        let mut text = Vec::new();
        return flows.chunks(TOGETHER).try_for_each(|flows| out.write_all(lines(flows, &mut text)));
    }
    // Every other part is made by another thread, which is ahead by a few.
    let parts = || flows.chunks(TOGETHER);
    let (made, others) = mpsc::sync_channel::<Vec<u8>>(16);
    let (used, spare) = mpsc::channel::<Vec<u8>>();
    thread::scope(|scope| {
        scope.spawn(move || {
            for flows in parts().skip(1).step_by(2) {
                let mut text = spare.try_recv().unwrap_or_default();
                lines(flows, &mut text);
                // Nobody takes it any more: the output has come to an end.
                if made.send(text).is_err() {
                    return;
                }
            }
        });
        let mut text = Vec::new();
        for flows in parts().step_by(2) {
            out.write_all(lines(flows, &mut text))?;
            if let Ok(text) = others.recv() {
                out.write_all(&text)?;
                // Likewise, after the last one.
                let _ = used.send(text);
            }
        }
        // Before the scope waits for the thread, which may wait for room.
        drop(others);
        Ok(())
    })
}

/// The lines of these flows, in place of what was there.
fn lines<'a>(flows: &[&FlowRecord], text: &'a mut Vec<u8>) -> &'a [u8] {
    text.clear();
    for (index, flow) in flows.iter().enumerate() {
        // They lie where they came, and are shown in another order.
        if let Some(soon) = flows.get(index + AHEAD) {
            prefetch::value(*soon);
        }
        flow.write(text);
        text.push(b'\n');
    }
    text
}

/// How many flows before its turn one is asked for.
const AHEAD: usize = 2;

/// A flow's object within what a serializer writes.
pub(super) struct Record<'a>(pub &'a FlowRecord);

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = Vec::new();
        self.0.write(&mut object);
        let object: &RawValue = serde_json::from_slice(&object).map_err(ser::Error::custom)?;
        object.serialize(serializer)
    }
}

/// What can be a value. It is written without a serializer, which looks at each byte of each name for what has to be
/// escaped: there may be a million lines.
trait Value {
    fn write(&self, out: &mut Vec<u8>);
}

/// An object with these fields, whose names need no escapes.
macro_rules! object {
    ($out:ident, { $($fields:tt)* }) => {
        $out.push(b'{');
        fields!($out, "", $($fields)*);
        $out.push(b'}');
    };
}

/// Fields, the first one behind this separator.
macro_rules! fields {
    ($out:ident, $before:literal, $name:literal: $value:expr, $($more:tt)*) => {
        $out.extend_from_slice(concat!($before, "\"", $name, "\":").as_bytes());
        $value.write($out);
        fields!($out, ",", $($more)*);
    };
    ($out:ident, $before:literal,) => {};
}

impl Value for FlowRecord {
    fn write(&self, out: &mut Vec<u8>) {
        object! { out, {
            "originator": End(&self.originator, Role::Originator),
            "responder": End(&self.responder, Role::Responder),
            "interface": self.interface.as_deref().map(Escaped),
            "role": self.role.map(|role| role.label()),
            "inferred": self.inferred,
            "phase": self.phase.label(),
            "half_open": self.half_open().map(|kind| kind.label()),
            "first_seen": Timestamp(self.first_seen_unix_ns),
            "last_seen": Timestamp(self.last_seen_unix_ns),
            "duration_seconds": Seconds(self.duration_ns()),
            "handshake": self.handshake,
            "close": self.close,
            "half_close_seconds": self.half_close_ns.map(Seconds),
            "ecn": self.ecn(),
            "conn_state": self.conn_state().label(),
            "history": self.history,
            "completeness": self.completeness,
            "notes": self.notes,
            "vlan": self.vlan,
        } }
    }
}

struct End<'a>(&'a Endpoint, Role);

impl Value for End<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        let &Self(end, role) = self;
        out.push(b'{');
        fields! { out, "",
            "addr": end.addr,
            "port": end.port,
            "state": end.state.map(|state| state.label()),
            "local": end.local,
            "packets": end.packets,
            "bytes": end.bytes,
            "isn": end.isn,
        }
        match role {
            Role::Originator => {
                fields!(out, ",", "syn_retransmits": end.syn_retransmits,);
            }
            Role::Responder => {
                fields!(out, ",", "synack_retransmits": end.syn_retransmits,);
            }
        }
        fields! { out, ",",
            "fin": end.fin,
            "rst": end.rst,
            "mss": end.mss,
            "window_scale": end.window_scale,
            "sack": end.sack,
            "timestamps": end.timestamps,
            "retransmits": end.retransmits,
            "keepalives": end.keepalives,
            "unanswered_keepalives": end.unanswered_keepalives,
            "zero_windows": end.zero_windows,
            "window_probes": end.window_probes,
            "fin_retransmits": end.fin_retransmits,
            "heartbeat_seconds": end.heartbeat_ns.map(Seconds),
        }
        out.push(b'}');
    }
}

impl Value for Handshake {
    fn write(&self, out: &mut Vec<u8>) {
        object! { out, {
            "outcome": self.outcome.label(),
            "syn_to_synack_seconds": self.syn_to_synack_ns.map(Seconds),
            "synack_to_ack_seconds": self.synack_to_ack_ns.map(Seconds),
            "total_seconds": self.total_ns.map(Seconds),
            "retransmitted": self.retransmitted,
            "unreachable": self.unreachable.map(|reason| reason.label()),
        } }
    }
}

impl Value for Close {
    fn write(&self, out: &mut Vec<u8>) {
        object! { out, {
            "initiator": self.initiator.map(|initiator| initiator.label()),
            "how": self.how.map(|how| how.label()),
        } }
    }
}

impl<T: Value> Value for Option<T> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.write(out),
            None => out.extend_from_slice(b"null"),
        }
    }
}

impl Value for bool {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if *self { b"true" } else { b"false" });
    }
}

macro_rules! integers {
    ($($integer:ty)*) => {
        $(impl Value for $integer {
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(itoa::Buffer::new().format(*self).as_bytes());
            }
        })*
    };
}
integers!(u8 u16 u32 u64);

/// A label: letters and underscores.
impl Value for &'static str {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        out.extend_from_slice(self.as_bytes());
        out.push(b'"');
    }
}

impl Value for Notes {
    fn write(&self, out: &mut Vec<u8>) {
        list(self.iter().map(|note| note.label()), out);
    }
}

impl Value for Arc<[u16]> {
    fn write(&self, out: &mut Vec<u8>) {
        list(self.iter().copied(), out);
    }
}

fn list(values: impl Iterator<Item = impl Value>, out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, value) in values.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        value.write(out);
    }
    out.push(b']');
}

impl Value for IpAddr {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        match self {
            IpAddr::V4(addr) => {
                for (index, byte) in addr.octets().iter().enumerate() {
                    if index > 0 {
                        out.push(b'.');
                    }
                    byte.write(out);
                }
            }
            // A vector takes all there is.
            IpAddr::V6(addr) => _ = write!(out, "{addr}"),
        }
        out.push(b'"');
    }
}

/// As it displays itself.
impl Value for History {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        for (role, letter) in self.letters() {
            let from = out.len();
            out.extend_from_slice(letter.label().as_bytes());
            if role == Role::Originator {
                out[from..].make_ascii_uppercase();
            }
        }
        out.push(b'"');
    }
}

/// What others have named.
struct Escaped<'a>(&'a str);

impl Value for Escaped<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        // As above.
        let _ = serde_json::to_writer(out, self.0);
    }
}

impl Value for Timestamp {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        out.extend_from_slice(&self.text());
        out.push(b'"');
    }
}

impl Value for Seconds {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.write_to(&mut [0; Self::LONGEST]).as_bytes());
    }
}

/// Nanoseconds since the Unix epoch, written as RFC 3339 has it, in UTC with all nine digits
/// (<https://www.rfc-editor.org/rfc/rfc3339#section-5.6>).
pub(super) struct Timestamp(pub u64);

impl Timestamp {
    fn text(&self) -> [u8; Self::LENGTH] {
        let (seconds, ns) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = date(days);
        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        for (end, mut number) in [
            (4, year),
            (7, month),
            (10, day),
            (13, second / 3_600),
            (16, second / 60 % 60),
            (19, second % 60),
            (29, ns),
        ] {
            let mut at = end;
            while number > 0 {
                at -= 1;
                text[at] = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
        text
    }

    const LENGTH: usize = 30;
}

/// The date so many days after 1970-01-01. Years are counted from March, so that the leap day is the last one, and in eras
/// of 400 of them, which are all alike (<https://howardhinnant.github.io/date_algorithms.html#civil_from_days>).
fn date(days: u64) -> (u64, u64, u64) {
    const ERA: u64 = 146_097;
    // 0000-03-01 was this long before.
    let days = days + 719_468;
    let (era, day_of_era) = (days / ERA, days % ERA);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

impl Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.text()).unwrap_or_default())
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

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
    use std::time::{Duration, UNIX_EPOCH};

    use tcp_observer_common::{
        conn::{How, Initiator, Locality, Note, Outcome, Phase, State},
        counters::Unreachable,
    };

    use super::*;
    use crate::snapshot::fixture;

    fn line(flow: &FlowRecord) -> String {
        let mut out = Vec::new();
        write(&[flow], &mut out).unwrap();
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
    fn a_timestamp_is_what_another_library_says() {
        let moments = (0..2_000).map(|day| day * 8_640_000_123_456_789).chain([
            0,
            1,
            999_999_999,
            // Both ends of the leap days of 2000 and 2024, of 2100, which has none, and the last moment of all.
            951_782_399_999_999_999,
            951_868_800_000_000_000,
            1_709_164_800_000_000_000,
            4_107_542_399_000_000_000,
            4_107_542_400_000_000_000,
            u64::MAX,
        ]);
        for ns in moments {
            let expected = humantime::format_rfc3339_nanos(UNIX_EPOCH + Duration::from_nanos(ns)).to_string();
            assert_eq!(Timestamp(ns).to_string(), expected);
        }
        assert_eq!(Timestamp(951_782_400_000_000_000).to_string(), "2000-02-29T00:00:00.000000000Z");
    }

    /// More than one thread takes, and not a whole number of parts.
    fn many() -> Vec<FlowRecord> {
        let flow = |number: usize| FlowRecord {
            last_seen_unix_ns: number as u64,
            ..fixture::flow("192.0.2.1:40000", "[2001:db8::2]:443", None)
        };
        (0..MANY + 77).map(flow).collect()
    }

    #[test]
    fn many_flows_are_written_in_their_order() {
        let flows = many();
        let mut out = Vec::new();
        write(&flows.iter().collect::<Vec<_>>(), &mut out).unwrap();
        let lines: Vec<_> = out.split_inclusive(|&byte| byte == b'\n').collect();
        assert_eq!(lines.len(), flows.len());
        for (written, flow) in lines.into_iter().zip(&flows) {
            assert_eq!(std::str::from_utf8(written).unwrap(), line(flow));
        }
    }

    #[test]
    fn an_output_that_takes_no_more_ends_the_writing() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::BrokenPipe)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let flows = many();
        let flows: Vec<_> = flows.iter().collect();
        for takes in 0..4 {
            assert_eq!(write(&flows, &mut Full(takes)).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
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
        flow.close = Close { initiator: Some(Initiator::Originator), how: Some(How::Fin) };
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
        flow.handshake = Handshake {
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
