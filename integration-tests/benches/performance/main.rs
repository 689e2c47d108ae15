//! `cargo xtask bench`: what the observer costs on this machine, beside what it is compared with, in rounds that
//! alternate. docs/performance.md says what each figure means.
//!
//! Everything is driven from outside, by frames and by the command line, so that another layout of the tables is
//! measured in the same way. Nothing leaves network namespaces of its own.

mod arguments;
mod effort;
mod empty;
mod end_to_end;
mod figure;
mod flood;
mod growth;
mod machine;
mod packet;
mod plots;
mod progress;
mod recorded;
mod replay;
mod spread;
mod table;
mod time_wait;
mod userspace;

use std::{fs, process::ExitCode, time::Duration};

use integration_tests::bounds;
use serde_json::json;

use self::{
    arguments::{Arguments, Part},
    figure::Figure,
    machine::Machine,
};

/// Whatever goes wrong, it ends: all of it takes some forty minutes on a busy machine.
const LIMIT: Duration = Duration::from_secs(3_600);

fn main() -> ExitCode {
    let arguments = match Arguments::typed() {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::from(2);
        }
    };
    let _bounded = bounds::bounded_by(LIMIT);
    let machine = Machine::this();
    println!("{machine}");
    let mut figures = Vec::new();
    for part in arguments.parts() {
        let measured = match part {
            Part::Packet => packet::measure(&arguments),
            Part::Flood => flood::measure(&arguments),
            Part::TimeWait => time_wait::measure(&arguments),
            Part::Growth => growth::measure(),
            Part::EndToEnd => end_to_end::measure(&arguments),
            Part::Userspace => userspace::measure(&arguments),
            Part::Replay => replay::measure(&arguments),
        };
        // As they come: a long run may be given up.
        println!("{}", table::text(part.name(), &measured));
        figures.extend(measured);
        write(&arguments, &machine, &figures);
    }
    // Only a packet's ratios are steady enough to be held against others.
    let has_packets = arguments.parts().contains(&Part::Packet);
    match (arguments.short && has_packets, arguments.record) {
        (true, true) => recorded::write(&machine, &figures),
        (true, false) => recorded::compare(&figures, || packet::measure(&arguments)),
        (false, _) => ExitCode::SUCCESS,
    }
}

/// Figures and charts, where they are asked for.
fn write(arguments: &Arguments, machine: &Machine, figures: &[Figure]) {
    if let Some(path) = &arguments.json {
        let figures: Vec<_> = figures.iter().map(Figure::json).collect();
        let text = format!("{:#}\n", json!({ "machine": machine.json(), "figures": figures }));
        fs::write(path, text).unwrap_or_else(|error| panic!("cannot write `{}`: {error}", path.display()));
    }
    if let Some(directory) = &arguments.plots {
        plots::write(directory, machine, figures);
    }
}
