//! Figures as pictures (SVG): what a packet costs, and how long it takes to ask, by the number of flows.

mod chart;

use std::{fs, path::Path};

use self::chart::{Axis, Chart, Line};
use crate::{figure::Figure, machine::Machine, packet, spread::Spread, userspace};

/// Writes the charts for which there are figures.
///
/// # Panics
/// When a file cannot be written.
pub fn write(directory: &Path, machine: &Machine, figures: &[Figure]) {
    fs::create_dir_all(directory).unwrap_or_else(|error| panic!("cannot make `{}`: {error}", directory.display()));
    for (name, chart) in [("packet.svg", packet_cost(machine, figures)), ("asking.svg", asking(machine, figures))] {
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
        let fitting: Vec<_> = figures.iter().filter(of).collect();
        let points = |value: &dyn Fn(&Figure) -> Option<f64>| -> Vec<_> {
            fitting.iter().filter_map(|figure| Some((figure.flows? as f64, value(figure)?))).collect()
        };
        lines.push(Line::new(case, colour, false, points(&|figure| Some(figure.spread().middle))));
        let reference = |figure: &Figure| Some(Spread::of(&figure.reference.as_ref()?.1).middle);
        lines.push(Line::new(&format!("HASH, {case}"), colour, true, points(&reference)));
    }
    Chart {
        title: "ACK of an established flow, ns above an empty program".to_owned(),
        below: format!("flows; dashed: a lookup in the kernel's HASH and two counters. {}", machine.kind()),
        vertical: Axis::Linear,
        lines,
    }
}

fn asking(machine: &Machine, figures: &[Figure]) -> Chart {
    let line = |name: &str, colour, is_dashed| {
        let of = figures.iter().filter(|figure| figure.part == userspace::PART && figure.name == name);
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
