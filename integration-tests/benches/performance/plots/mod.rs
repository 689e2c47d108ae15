//! Figures as pictures (SVG): what a packet costs, and how long it takes to ask, by the number of flows; and both again as
//! far as there is memory.

mod chart;

use std::{fs, path::Path};

use self::chart::{Axis, Chart, Line};
use crate::{figure::Figure, growth, machine::Machine, packet, spread::Spread, userspace};

/// Writes the charts for which there are figures.
///
/// # Panics
/// When a file cannot be written.
pub fn write(directory: &Path, machine: &Machine, figures: &[Figure]) {
    fs::create_dir_all(directory).unwrap_or_else(|error| panic!("cannot make `{}`: {error}", directory.display()));
    let charts = [
        ("packet.svg", packet_cost(machine, figures)),
        ("asking.svg", asking(userspace::PART, machine, figures)),
        ("growth.svg", growth_of_costs(machine, figures)),
        ("growth-asking.svg", asking(growth::PART, machine, figures)),
    ];
    for (name, chart) in charts {
        if chart.lines.iter().any(|line| !line.points.is_empty()) {
            let path = directory.join(name);
            fs::write(&path, chart.svg()).unwrap_or_else(|error| panic!("cannot write `{}`: {error}", path.display()));
        }
    }
}

fn packet_cost(machine: &Machine, figures: &[Figure]) -> Chart {
    let cases = [("xdp_ingress IPv4", 0), ("xdp_ingress IPv6", 1), ("tc_ingress IPv4", 2), ("tc_ingress IPv6", 3)];
    let mut lines = Vec::new();
    for (case, colour) in cases {
        let of = |figure: &&Figure| {
            figure.part == packet::PART && figure.name.starts_with("ACK") && figure.name.ends_with(case)
        };
        lines.extend(beside_hash(case, colour, figures.iter().filter(of)));
    }
    Chart {
        title: "ACK of an established flow, ns above an empty program".to_owned(),
        below: format!("flows; dashed: a lookup in the kernel's HASH and two counters. {}", machine.kind()),
        vertical: Axis::Linear,
        lines,
    }
}

fn growth_of_costs(machine: &Machine, figures: &[Figure]) -> Chart {
    let mut lines = Vec::new();
    for (case, colour) in [("ACK at random", 0), ("SYN of a new flow", 1)] {
        let of = |figure: &&Figure| figure.part == growth::PART && figure.name.starts_with(case);
        lines.extend(beside_hash(case, colour, figures.iter().filter(of)));
    }
    Chart {
        title: "A packet by the number of flows, ns above an empty program (tc_ingress, IPv4)".to_owned(),
        below: format!("flows; dashed: a lookup in the kernel's HASH and two counters. {}", machine.kind()),
        vertical: Axis::Linear,
        lines,
    }
}

/// A line through these figures by their number of flows, and a dashed one through what they are compared with.
fn beside_hash<'a>(name: &str, colour: usize, figures: impl Iterator<Item = &'a Figure>) -> [Line; 2] {
    let [mut ours, mut reference] = [Vec::new(), Vec::new()];
    for figure in figures {
        let Some(flows) = figure.flows.map(|flows| flows as f64) else { continue };
        ours.push((flows, figure.spread().middle));
        reference.extend(figure.reference.as_ref().map(|(_, rounds)| (flows, Spread::of(rounds).middle)));
    }
    [Line::new(name, colour, false, ours), Line::new(&format!("HASH, {name}"), colour, true, reference)]
}

fn asking(part: &str, machine: &Machine, figures: &[Figure]) -> Chart {
    let line = |name: &str, colour, is_dashed| {
        let of = figures.iter().filter(|figure| figure.part == part && figure.name == name);
        let points = of.filter_map(|figure| Some((figure.flows? as f64, figure.spread().middle))).collect();
        Line::new(name, colour, is_dashed, points)
    };
    let mut lines = vec![line(userspace::SNAPSHOT, 3, true)];
    for (colour, name) in userspace::ASKED.into_iter().enumerate() {
        lines.extend([line(&userspace::cpu_of(name), colour, false), line(name, colour, true)]);
    }
    Chart {
        title: "To ask for all flows: ms of CPU, and dashed of time".to_owned(),
        below: format!("flows. {}", machine.kind()),
        vertical: Axis::Logarithmic,
        lines,
    }
}
