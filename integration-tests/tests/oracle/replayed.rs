//! What `replay` makes of a round's capture: records, and the near end's states as they change.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::Path,
    process::Command,
};

use integration_tests::{agent, run, scene::Side, ss};
use serde_json::Value;

use crate::{live::Id, world::SERVER_PORTS};

/// One flow's near end, as the events tell of it.
#[derive(Debug, Default)]
pub struct Course {
    pub is_originator: bool,
    /// Begun by something else than an open.
    pub is_remnant: bool,
    pub states: Vec<String>,
    /// The last change of state came with a RST of the near end's without ACK, as is sent where there is no socket.
    pub ends_in_bare_reset: bool,
    /// The events themselves, for a message.
    pub lines: Vec<String>,
}

fn replay(capture: &Path, local: &[IpAddr], arguments: &[&str]) -> String {
    let mut command = Command::new(agent::binary());
    command.arg("replay").args(["-o", "json"]).args(arguments);
    for ip in local {
        command.arg("--local").arg(ip.to_string());
    }
    run::success(command.arg(capture))
}

fn parsed(text: &str) -> impl Iterator<Item = (&str, Value)> {
    text.lines()
        .map(|line| (line, serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON ({error}): {line}"))))
}

/// The records; several where flows cannot be told apart by their ends and numbers.
pub fn records(capture: &Path, local: &[IpAddr]) -> BTreeMap<Id, Vec<Value>> {
    let mut records: BTreeMap<Id, Vec<Value>> = BTreeMap::new();
    for (_, record) in parsed(&replay(capture, local, &[])) {
        records.entry(Id::of(&record)).or_default().push(record);
    }
    records
}

/// An event as a message shows it.
fn shortened(event: &Value) -> String {
    let word = |pointer: &str| match event.pointer(pointer) {
        Some(Value::String(word)) => word.clone(),
        Some(other) => other.to_string(),
        None => "-".to_owned(),
    };
    let states = ["/sender", "/flags", "/seq", "/ack", "/length", "/after/originator", "/after/responder", "/notes"];
    format!("{} {}: {}", word("/time"), word("/kind"), states.map(word).join(" "))
}

/// The courses of all flows, by the client's address, in the order in which they began.
pub fn courses(capture: &Path, local: &[IpAddr], near: Side) -> BTreeMap<SocketAddr, Vec<Course>> {
    let mut courses: BTreeMap<SocketAddr, Vec<Course>> = BTreeMap::new();
    for (line, event) in parsed(&replay(capture, local, &["--follow"])) {
        let ends = [ss::addr(&event["originator"]), ss::addr(&event["responder"])];
        let [is_server, _] = ends.map(|end| SERVER_PORTS.contains(&end.port()));
        let is_originator = is_server == (near == Side::Server);
        let of_client = courses.entry(ends[usize::from(is_server)]).or_default();
        if event["before"].is_null() {
            of_client.push(Course { is_remnant: event["outcome"] == "not_seen", ..Course::default() });
        }
        let Some(course) = of_client.last_mut() else { panic!("a flow that never began: {line}") };
        course.is_originator = is_originator;
        course.lines.push(shortened(&event));
        let state = event["after"][if is_originator { "originator" } else { "responder" }].as_str().unwrap_or("none");
        if course.states.last().is_none_or(|last| last != state) {
            course.states.push(state.to_owned());
            let is_nears = (event["sender"] == "originator") == is_originator;
            course.ends_in_bare_reset = is_nears && event["flags"] == "R";
        }
    }
    courses
}
