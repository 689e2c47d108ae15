//! Everything that an observer has written, in a form that two of them can be compared by.

use std::collections::BTreeMap;

use tcp_observer_common::{
    conn::{Flow, Note},
    counters::{Counters, Skip},
    histogram::Histogram,
};

/// Packets of one segment each that a program has accounted for: updates, ICMP errors that ended an attempt, and skips.
pub fn packets(counters: &Counters) -> u64 {
    let updates = counters.segments.iter().flatten().chain(&counters.unreachable);
    updates.sum::<u64>() + counters.skipped.iter().sum::<u64>()
}

#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Table and key in words; every field of the flow in words.
    pub flows: BTreeMap<String, String>,
    pub counters: Counters,
    pub histograms: Vec<Histogram>,
    pub port_slots: Vec<u64>,
}

impl State {
    /// A table's name and a key, as one word.
    pub fn key(table: &str, key: &impl std::fmt::Debug) -> String {
        format!("{table} {key:?}")
    }

    pub fn flow(flow: &Flow) -> String {
        // Entries are told apart by a number of the place they lie in, which is each table's own.
        let flow = flow.clone();
        flow.word.0.set(flow.word.load().in_epoch(0).0);
        format!("{:?} {:?} {flow:?}", flow.word.load(), flow.times)
    }

    /// The lines by which two states differ.
    pub fn difference(kernel: &Self, replica: &Self) -> String {
        let (kernel, replica) = (kernel.lines(), replica.lines());
        let mut text = String::new();
        for (title, one, other) in [("kernel", &kernel, &replica), ("userspace", &replica, &kernel)] {
            for (name, line) in one {
                if other.get(name) != Some(line) {
                    text += &format!("{title}: {name}: {line}\n");
                }
            }
        }
        text
    }

    fn lines(&self) -> BTreeMap<String, String> {
        let mut lines = self.flows.clone();
        let counters = &self.counters;
        for (reason, count) in Skip::ALL.iter().zip(counters.skipped) {
            lines.insert(format!("skipped {}", reason.label()), count.to_string());
        }
        for (note, count) in Note::ALL.iter().zip(counters.notes) {
            lines.insert(format!("noted {}", note.label()), count.to_string());
        }
        lines.insert("unreachable".into(), format!("{:?}", counters.unreachable));
        lines.insert("segments".into(), format!("{:?}", counters.segments));
        lines.insert("handshake_retransmits".into(), format!("{:?}", counters.handshake_retransmits));
        lines.insert("resets".into(), format!("{:?}", counters.resets));
        lines.insert("closes".into(), format!("{:?}", counters.closes));
        lines.insert("evictions".into(), format!("{:?}", counters.evictions));
        lines.insert("attempts".into(), format!("{:?}", counters.attempts));
        lines.insert("ports".into(), format!("{:?}", self.port_slots));
        for (place, histogram) in self.histograms.iter().enumerate() {
            lines.insert(format!("histogram {place}"), format!("{histogram:?}"));
        }
        lines
    }
}
