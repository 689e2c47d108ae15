//! Captures: how fast `replay` reads one, beside `tshark`, which does the same kind of work where it lists
//! conversations.

mod capture;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use integration_tests::{agent::binary, bounds::unique_name};

use crate::{
    arguments::Arguments,
    effort::{self, Effort},
    figure::{Figure, Unit},
    progress,
};

pub const PART: &str = "replay";

pub fn measure(arguments: &Arguments) -> Vec<Figure> {
    let (packets, rounds) = if arguments.short { (200_000, 5) } else { (1_000_000, 7) };
    let file = Removed(env::temp_dir().join(format!("{}.pcap", unique_name())));
    progress::show(&format!("replay: writing a capture of {packets} packets"));
    let packets = capture::write(&file.0, packets).expect("a capture can be written");
    let [mut json, mut summary] = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        progress::show(&format!("replay: {packets} packets"));
        json.push(replay(&file.0, &["-o", "json"]));
        summary.push(replay(&file.0, &["--summary"]));
    }
    // It takes its time: once is enough.
    progress::show(&format!("replay: {packets} packets by tshark"));
    let tshark = || effort::of_command(Command::new("tshark").args(["-q", "-z", "conv,tcp", "-r"]).arg(&file.0));
    let times = if arguments.short { 0 } else { 1 };
    let tshark: Vec<_> = (0..times).filter_map(|_| tshark()).collect();
    progress::done();
    let mut figures = Vec::new();
    for (name, efforts) in [("replay -o json", json), ("replay --summary", summary)] {
        for (what, value) in [("packets", time as fn(&Effort) -> f64), ("packets in a second of CPU", cpu)] {
            let rates = |efforts: &[Effort]| efforts.iter().map(|effort| packets as f64 / value(effort)).collect();
            let figure = Figure::of(PART, format!("{what}, {name}"), Unit::PerSecond, rates(&efforts));
            figures.push(if tshark.is_empty() { figure } else { figure.beside("tshark", rates(&tshark)) });
        }
    }
    figures
}

fn replay(file: &Path, arguments: &[&str]) -> Effort {
    let mut command = Command::new(binary());
    effort::of_command(command.arg("replay").args(arguments).arg(file)).expect("the command starts")
}

fn time(effort: &Effort) -> f64 {
    effort.time.as_secs_f64()
}

fn cpu(effort: &Effort) -> f64 {
    effort.cpu.as_secs_f64()
}

/// A file that is gone with its value.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
