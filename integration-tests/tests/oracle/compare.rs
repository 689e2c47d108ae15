//! The accounts of a round held against each other; what does not agree is a line of text.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    net::SocketAddr,
};

use integration_tests::{metrics::Metrics, scene::Side, set_state::Change};
use serde_json::Value;

use crate::{
    live::Id,
    replayed::Course,
    sequence,
    visit::{Expected, Made},
    world::SERVER_PORTS,
};

/// What depends on clocks, and what only the agent knows.
const TIMES: [&str; 7] = [
    "/interface",
    "/first_seen",
    "/last_seen",
    "/duration_seconds",
    "/half_close_seconds",
    "/originator/heartbeat_seconds",
    "/responder/heartbeat_seconds",
];
const HANDSHAKE_TIMES: [&str; 3] =
    ["/handshake/syn_to_synack_seconds", "/handshake/synack_to_ack_seconds", "/handshake/total_seconds"];
/// What the coarse clock, which data is noted with, does not tell within a tick: whether an answer came before or after a
/// probe (which what was overtaken can look like), and whether a FIN is sent again or seen twice.
const BY_TICKS: [&str; 4] = [
    "/originator/unanswered_keepalives",
    "/responder/unanswered_keepalives",
    "/originator/fin_retransmits",
    "/responder/fin_retransmits",
];
const NOTES_BY_TICKS: [&str; 3] = ["frames_doubled", "fin_retransmitted", "last_ack_lost"];
/// Said of a connection whose predecessor on the tuple was still known.
const TUPLE_REUSED: &str = "tuple_reused";
const OUT_OF_ORDER: &str = "out_of_order";
/// So long what is over is kept at least.
const LINGER_SECONDS: f64 = 5.0;
/// What changes when the agent finds that a socket is gone, of which a capture knows nothing.
const OF_THE_END: [&str; 7] = [
    "/originator/state",
    "/responder/state",
    "/phase",
    "/half_open",
    "/handshake/outcome",
    "/close/initiator",
    "/close/how",
];

/// Every record of the agent's has its twin in the replay; over a wire on which segments of one end may pass each other
/// `by_ticks`, too. Gives the differences of handshake times, in seconds.
pub fn live_and_replayed(
    live: &BTreeMap<Id, Value>,
    replayed: &BTreeMap<Id, Vec<Value>>,
    by_ticks: bool,
    outlasts_time_wait: bool,
    exceptions: &mut BTreeMap<&'static str, usize>,
    wrong: &mut Vec<String>,
) -> Vec<f64> {
    let mut spans = Vec::new();
    // Of the connections on a tuple all but the last were replaced.
    let mut last = BTreeMap::new();
    for (id, records) in replayed {
        for record in records {
            let begun = record["first_seen"].as_str();
            let latest = last.entry((id.originator, id.responder)).or_insert((begun, id));
            if begun > latest.0 {
                *latest = (begun, id);
            }
        }
    }
    let is_replaced = |id: &Id| last.get(&(id.originator, id.responder)).is_some_and(|&(_, latest)| latest != id);
    let swept_between = swept_between(live, replayed);
    let begun_late = begun_late(replayed);
    for id in live.keys().chain(replayed.keys()).collect::<BTreeSet<_>>() {
        if swept_between.contains(&id.tuple()) {
            *exceptions.entry("late segments, before one sweep and after the other").or_default() += 1;
            continue;
        }
        match (live.get(id), replayed.get(id).map(Vec::as_slice)) {
            // A lone ACK or RST begins a flow in `replay` only.
            (None, Some([replayed])) if is_echo(replayed) => {
                *exceptions.entry("a lone ACK or RST, in replay only").or_default() += 1;
            }
            // The agent knows that the socket is gone; to the replay the flow goes on, to the agent another one begins.
            (Some(live), Some([replayed])) if is_gone(live) && packets(live) != packets(replayed) => {
                *exceptions.entry("segments after the socket was gone").or_default() += 1;
            }
            (Some(remnant), None)
                if is_remnant(remnant) && live.iter().any(|(at, live)| is_gone(live) && at.tuple() == id.tuple()) => {}
            // On a tuple that is used again at once, what came last was not dumped any more.
            (Some(live), Some([replayed])) if by_ticks && is_replaced(id) && packets(live) != packets(replayed) => {
                *exceptions.entry("replaced between two dumps").or_default() += 1;
            }
            // An attempt that was refused may be made again with the same number: the refusal was lost.
            (Some(live), Some([before @ .., replayed])) => {
                if !before.is_empty() {
                    *exceptions.entry("the same attempt again").or_default() += before.len();
                }
                if met_on_two_cpus(live, replayed) {
                    *exceptions.entry(ONE_DIRECTION_ON_TWO_CPUS).or_default() += 1;
                    continue;
                }
                let may_be_over = outlasts_time_wait || is_replaced(id);
                let (mut live, mut replayed) = (live.clone(), replayed.clone());
                if begun_late.contains(id) && [&live, &replayed].map(reused_tuple) != [true; 2] {
                    *exceptions.entry("begun before one sweep of its predecessor and after the other").or_default() +=
                        1;
                    retain_notes(&mut live, |note| note != TUPLE_REUSED);
                    retain_notes(&mut replayed, |note| note != TUPLE_REUSED);
                }
                let differences = differences(&live, &replayed, may_be_over, by_ticks, &mut spans);
                if !differences.is_empty() {
                    wrong.push(format!("{differences}  live     {live}\n  replayed {replayed}"));
                }
            }
            (live, replayed) => wrong.push(format!("not one of each:\n  live     {live:?}\n  replayed {replayed:?}")),
        }
    }
    spans
}

fn differences(live: &Value, replayed: &Value, may_be_over: bool, by_ticks: bool, spans: &mut Vec<f64>) -> String {
    let mut text = String::new();
    for pointer in HANDSHAKE_TIMES {
        match [live, replayed].map(|record| record.pointer(pointer).and_then(Value::as_f64)) {
            [Some(live), Some(replayed)] => spans.push((live - replayed).abs()),
            [None, None] => {}
            other => writeln!(text, "{pointer}: {other:?}").expect("text takes more"),
        }
    }
    let is_gone = is_gone(live);
    let [mut live, mut replayed] = [live.clone(), replayed.clone()];
    for record in [&mut live, &mut replayed] {
        let of_the_end = if is_gone { &OF_THE_END[..] } else { &[] };
        let of_ticks = if by_ticks { &BY_TICKS[..] } else { &[] };
        for pointer in TIMES.iter().chain(&HANDSHAKE_TIMES).chain(of_the_end).chain(of_ticks) {
            if let Some(value) = record.pointer_mut(pointer) {
                *value = Value::Null;
            }
        }
    }
    if may_be_over && replayed["phase"] == "closed" {
        // Its TIME_WAIT was ended, by time or by what took its place, after the agent was asked.
        for pointer in &OF_THE_END[..3] {
            if let Some(value) = live.pointer_mut(pointer).filter(|value| *value == "time_wait") {
                *value = "closed".into();
            }
        }
    }
    for record in [&mut live, &mut replayed] {
        retain_notes(record, |note| note != "socket_gone" && !(by_ticks && NOTES_BY_TICKS.contains(&note)));
    }
    differ("", &live, &replayed, &mut text);
    text
}

/// A timer may run on another CPU than the rest of a round's traffic, and what it sends meets what is sent there:
/// ARCHITECTURE.md has the race. A half's counts then lack a segment; or two segments come to the hook the one way round
/// and into the capture the other, and the one that is late there is `out_of_order`, and to Zeek sent again. Nothing else
/// may differ.
pub const ONE_DIRECTION_ON_TWO_CPUS: &str = "one direction on two CPUs at once";

fn met_on_two_cpus(live: &Value, replayed: &Value) -> bool {
    ["originator", "responder"].into_iter().any(|end| {
        let counts = |record: &Value| ["packets", "bytes", "retransmits"].map(|field| record[end][field].as_u64());
        let ([Some(live_packets), live_bytes, Some(live_again)], [Some(packets), bytes, Some(again)]) =
            (counts(live), counts(replayed))
        else {
            return false;
        };
        let lacks_a_segment = live_packets + 1 == packets;
        let is_late = |record: &Value| notes(record).any(|note| note == OUT_OF_ORDER);
        let late_where_again = if live_again > again { is_late(live) } else { is_late(replayed) };
        let passed_each_other =
            (live_packets, live_bytes) == (packets, bytes) && live_again.abs_diff(again) == 1 && late_where_again;
        let [mut live, mut replayed] = [live.clone(), replayed.clone()];
        for field in ["packets", "bytes", "retransmits"] {
            live[end][field] = replayed[end][field].clone();
        }
        if passed_each_other {
            for record in [&mut live, &mut replayed] {
                retain_notes(record, |note| note != OUT_OF_ORDER && note != "data_retransmitted");
            }
        }
        (lacks_a_segment || passed_each_other)
            && differences(&live, &replayed, false, false, &mut Vec::new()).is_empty()
    })
}

/// The tuples on which something was said again five seconds or more after the end, by one account at least: what is over
/// stays for five to ten seconds, by when the sweep comes by, and what comes then is the flow's in one account and
/// another's, or nobody's, in the other.
fn swept_between(live: &BTreeMap<Id, Value>, replayed: &BTreeMap<Id, Vec<Value>>) -> BTreeSet<[SocketAddr; 2]> {
    let lasted = |record: &Value| record["duration_seconds"].as_f64().unwrap_or_default();
    let is_late = |(id, live): &(&Id, &Value)| {
        let replayed = replayed.get(id).and_then(|records| records.last());
        let both_over = |replayed: &Value| live["phase"] == "closed" && replayed["phase"] == "closed";
        replayed
            .is_some_and(|replayed| both_over(replayed) && (lasted(replayed) - lasted(live)).abs() >= LINGER_SECONDS)
    };
    live.iter().filter(is_late).map(|(id, _)| id.tuple()).collect()
}

/// The connections that began on a tuple whose last one had been over for so long that a sweep may have come by in between.
fn begun_late(replayed: &BTreeMap<Id, Vec<Value>>) -> BTreeSet<Id> {
    let mut by_tuple: BTreeMap<_, Vec<(&Id, &Value)>> = BTreeMap::new();
    for (id, records) in replayed {
        by_tuple.entry(id.tuple()).or_default().extend(records.iter().map(|record| (id, record)));
    }
    let mut late = BTreeSet::new();
    for records in by_tuple.values_mut() {
        records.sort_by_key(|(_, record)| record["first_seen"].as_str());
        let pairs = records.windows(2).filter(|pair| {
            let between = second_of_day(&pair[1].1["first_seen"]) - second_of_day(&pair[0].1["last_seen"]);
            between.rem_euclid(86_400.0) >= LINGER_SECONDS
        });
        late.extend(pairs.map(|pair| *pair[1].0));
    }
    late
}

/// Of a time like `2026-01-01T00:00:00.000000000Z`.
fn second_of_day(time: &Value) -> f64 {
    let clock =
        time.as_str().and_then(|time| time.split_once('T')).map_or("", |(_, clock)| clock.trim_end_matches('Z'));
    clock.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().expect("a time has numbers"))
}

fn reused_tuple(record: &Value) -> bool {
    notes(record).any(|note| note == TUPLE_REUSED)
}

/// Whether the agent has found that the local socket is not there any more.
fn is_gone(live: &Value) -> bool {
    notes(live).any(|note| note == "socket_gone")
}

fn packets(record: &Value) -> [Option<u64>; 2] {
    ["originator", "responder"].map(|end| record[end]["packets"].as_u64())
}

fn notes(record: &Value) -> impl Iterator<Item = &str> {
    record["notes"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn retain_notes(record: &mut Value, is_kept: impl Fn(&str) -> bool) {
    let kept: Vec<_> = notes(record).filter(|note| is_kept(note)).map(str::to_owned).collect();
    record["notes"] = kept.into();
}

fn differ(at: &str, live: &Value, replayed: &Value, text: &mut String) {
    match (live, replayed) {
        (Value::Object(live), Value::Object(replayed)) => {
            for key in live.keys().chain(replayed.keys()).collect::<BTreeSet<_>>() {
                let of = |object: &serde_json::Map<String, Value>| object.get(key).cloned().unwrap_or_default();
                differ(&format!("{at}/{key}"), &of(live), &of(replayed), text);
            }
        }
        _ if live == replayed => {}
        _ => writeln!(text, "{at}: live {live}, replayed {replayed}").expect("text takes more"),
    }
}

/// Whether a record was begun by something else than an open, of a connection that nobody knew (any more).
fn is_remnant(record: &Value) -> bool {
    record["handshake"]["outcome"] == "not_seen"
}

/// Whether nothing but ACKs and RSTs were seen (`completeness`: 4 and 32).
fn is_echo(record: &Value) -> bool {
    is_remnant(record) && record["completeness"].as_u64().is_some_and(|seen| seen & !(4 | 32) == 0)
}

/// Each connection's near socket has said that it went through the states that were observed, and no others did. Gives
/// the clients of those that held their FINs back.
pub fn courses_and_sockets(
    courses: &BTreeMap<SocketAddr, Vec<Course>>,
    changes: &[Change],
    near: Side,
    is_lossy: bool,
    exceptions: &mut BTreeMap<&'static str, usize>,
    wrong: &mut Vec<String>,
) -> BTreeSet<SocketAddr> {
    let mut held_back_on = BTreeSet::new();
    let mut sockets: BTreeMap<SocketAddr, Vec<(&'static str, &'static str)>> = BTreeMap::new();
    for change in changes {
        let is_server = SERVER_PORTS.contains(&change.local.port());
        if is_server == (near == Side::Server) {
            let client = if is_server { change.remote } else { change.local };
            sockets.entry(client).or_default().push((change.old, change.new));
        }
    }
    for client in courses.keys().chain(sockets.keys()).collect::<BTreeSet<_>>() {
        let kernel = sequence::connections(sockets.get(client).map_or(&[][..], Vec::as_slice));
        let observed = courses.get(client).map_or(&[][..], Vec::as_slice);
        let mut left = kernel.iter().peekable();
        let is_used_again = kernel.len() > 1;
        let in_vain = |kernel: &&Vec<&str>| is_used_again && sequence::is_in_vain(kernel);
        let agree = observed.iter().all(|course| {
            while left.peek().is_some_and(|next| in_vain(next) && !sequence::agree(next, &course.states)) {
                left.next();
            }
            if left.next_if(|kernel| sequence::agree(kernel, &course.states)).is_some() {
                return true;
            }
            if !course.is_originator && sequence::is_unfinished(&course.states) {
                return true;
            }
            let held_back = |kernel: &&Vec<&str>| sequence::agree_but_for_a_fin_held_back(kernel, &course.states);
            let unread = |kernel: &&Vec<&str>| sequence::agree_but_for_a_fin_unread(kernel, &course.states);
            let silent = |kernel: &&Vec<&str>| sequence::agree_but_for_a_silent_end(kernel, &course.states);
            let exception = if left.next_if(held_back).is_some() {
                held_back_on.insert(*client);
                "a FIN was held back"
            } else if left.next_if(silent).is_some() {
                "aborted in LAST_ACK, which sends nothing"
            } else if course.ends_in_bare_reset && left.next_if(unread).is_some() {
                "a FIN came with data that nobody reads"
            } else if course.is_remnant && is_lossy {
                "the other end of a connection that is over here"
            } else if !course.is_originator && course.ends_in_bare_reset {
                "the listener was gone when the handshake's ACK came"
            } else {
                return false;
            };
            *exceptions.entry(exception).or_default() += 1;
            true
        });
        if !agree || !left.all(|next| in_vain(&next)) {
            let seen: Vec<_> = observed.iter().map(|course| course.states.join(" ")).collect();
            let lines: Vec<_> = observed.iter().flat_map(|course| &course.lines).map(String::as_str).collect();
            wrong.push(format!("{client}\n  sockets  {kernel:?}\n  observed {seen:?}\n    {}", lines.join("\n    ")));
        }
    }
    held_back_on
}

/// Each connection that was made has a record that says what is certain of it; there are no others. Where segments are
/// lost, an attempt may not have come by at all, and the other end of a connection that has ended may have more to say
/// when it is not known any more.
pub fn made_and_recorded(
    made: &[Made],
    records: &BTreeMap<Id, Value>,
    courses: &BTreeMap<SocketAddr, Vec<Course>>,
    is_lossy: bool,
    exceptions: &mut BTreeMap<&'static str, usize>,
    wrong: &mut Vec<String>,
) {
    let mut of_client: BTreeMap<SocketAddr, Vec<&Value>> = BTreeMap::new();
    for (id, record) in records {
        let is_server = SERVER_PORTS.contains(&id.originator.port());
        of_client.entry(if is_server { id.responder } else { id.originator }).or_default().push(record);
    }
    for made in made {
        let mut records = of_client.remove(&made.client).unwrap_or_default();
        records.sort_by_key(|record| record["first_seen"].as_str());
        if is_lossy {
            if records.is_empty() && !courses.contains_key(&made.client) {
                *exceptions.entry("nothing of it arrived at the observer").or_default() += 1;
                continue;
            }
            records.retain(|record| !is_remnant(record));
        }
        if records.len() != made.expected.len() {
            wrong.push(format!("{made:?} has {} records:\n{}", records.len(), lines(&records)));
            continue;
        }
        for (record, expected) in records.iter().zip(&made.expected) {
            if !fits(record, expected) {
                wrong.push(format!("{}: expected {expected:?}, recorded {record}", made.kind));
            }
        }
    }
    wrong.extend(of_client.into_iter().map(|(client, records)| format!("nobody made {client}:\n{}", lines(&records))));
}

fn lines(records: &[&Value]) -> String {
    records.iter().map(|record| format!("  {record}\n")).collect()
}

fn fits(record: &Value, expected: &Expected) -> bool {
    let outcome = expected.outcome.is_none_or(|outcome| record["handshake"]["outcome"] == outcome);
    let close = expected
        .close
        .is_none_or(|(initiator, how)| record["close"]["initiator"] == initiator && record["close"]["how"] == how);
    outcome && close
}

/// The agent's counters say of how many connections what the records say of each.
pub fn counted_and_recorded(
    metrics: &Metrics,
    live: &BTreeMap<Id, Value>,
    replayed: &BTreeMap<Id, Vec<Value>>,
    near: Side,
    wrong: &mut Vec<String>,
) {
    let mut attempts: BTreeMap<String, u64> = BTreeMap::new();
    let mut closes: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut open = 0;
    let word = |value: &Value| value.as_str().unwrap_or("none").to_owned();
    // All that were, those that were replaced before the agent was asked included; of sockets that ended in silence only
    // the agent knows.
    let of_replay = replayed.iter().flat_map(|(id, records)| records.iter().map(move |record| (id, record)));
    let of_replay = of_replay.filter(|(id, _)| !live.get(id).is_some_and(is_gone));
    for (id, record) in of_replay.chain(live.iter().filter(|(_, record)| is_gone(record))) {
        let outcome = word(&record["handshake"]["outcome"]);
        let near_is_originator = SERVER_PORTS.contains(&id.originator.port()) == (near == Side::Server);
        if outcome == "completed" && matches!(record["phase"].as_str(), Some("time_wait" | "closed")) {
            let initiator = match (word(&record["close"]["initiator"]).as_str(), near_is_originator) {
                ("originator", true) | ("responder", false) => "local",
                ("originator", false) | ("responder", true) => "remote",
                ("both", _) => "both",
                _ => "none",
            };
            *closes.entry((initiator.to_owned(), word(&record["close"]["how"]))).or_default() += 1;
        }
        if outcome == "completed" && !matches!(record["phase"].as_str(), Some("time_wait" | "closed")) {
            open += 1;
        }
        *attempts.entry(outcome).or_default() += 1;
    }
    // What ends in silence may have been found to between the last dump and the counters.
    let undecided = attempts.get("in_progress").copied().unwrap_or(0);
    let fit = |counted: u64, recorded: u64, is_silent: bool, more: u64| {
        counted == recorded || is_silent && (recorded..=recorded + more).contains(&counted)
    };
    for outcome in ["completed", "refused", "reset", "unreachable", "timed_out", "abandoned"] {
        let counted = metrics.count("connection_attempts_total", &[("outcome", outcome)]);
        let recorded = attempts.get(outcome).copied().unwrap_or(0);
        if !fit(counted, recorded, outcome == "timed_out", undecided) {
            wrong.push(format!("attempts that are {outcome}: {counted} counted, {recorded} recorded"));
        }
    }
    for initiator in ["local", "remote", "both", "none"] {
        for how in ["fin", "simultaneous", "rst", "timeout"] {
            let counted = metrics.count("closes_total", &[("initiator", initiator), ("how", how)]);
            let recorded = closes.get(&(initiator.to_owned(), how.to_owned())).copied().unwrap_or(0);
            if !fit(counted, recorded, how == "timeout", open) {
                wrong.push(format!("closes by {initiator}, {how}: {counted} counted, {recorded} recorded"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(packets: u64, retransmits: u64, notes: &[&str]) -> Value {
        json!({
            "originator": {"packets": packets, "bytes": 1_000 * packets, "retransmits": retransmits, "isn": 1},
            "responder": {"packets": 2, "bytes": 0, "retransmits": 0, "isn": 9},
            "notes": notes,
        })
    }

    #[test]
    fn two_cpus_cost_one_segment_or_its_turn_and_no_more() {
        let with_gap = ["data_retransmitted", "out_of_order"];
        let replayed = record(122, 4, &with_gap);
        assert!(met_on_two_cpus(&record(122, 3, &with_gap), &replayed));
        assert!(met_on_two_cpus(&record(122, 3, &[]), &replayed));
        assert!(met_on_two_cpus(&record(122, 5, &with_gap), &record(122, 4, &[])));
        assert!(met_on_two_cpus(&record(121, 2, &with_gap), &replayed));

        // None of these is of that race.
        assert!(!met_on_two_cpus(&record(122, 2, &with_gap), &replayed));
        assert!(!met_on_two_cpus(&record(120, 4, &with_gap), &replayed));
        assert!(!met_on_two_cpus(&record(123, 3, &with_gap), &replayed));
        assert!(!met_on_two_cpus(&record(122, 3, &["data_retransmitted"]), &record(122, 4, &["data_retransmitted"])));
        assert!(!met_on_two_cpus(&record(122, 5, &[]), &replayed));
        let mut of_another_number = record(122, 3, &with_gap);
        of_another_number["originator"]["isn"] = 2.into();
        assert!(!met_on_two_cpus(&of_another_number, &replayed));
    }
}
