//! What was asked for. `cargo xtask bench --help` says what the flags mean; they are handed on as they are typed.

use std::{env, path::PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Packet,
    Flood,
    TimeWait,
    Growth,
    EndToEnd,
    Userspace,
    Replay,
}

impl Part {
    pub const ALL: [Self; 7] =
        [Self::Packet, Self::Flood, Self::TimeWait, Self::Growth, Self::EndToEnd, Self::Userspace, Self::Replay];

    pub fn name(self) -> &'static str {
        match self {
            Self::Packet => "packet",
            Self::Flood => "flood",
            Self::TimeWait => "time-wait",
            Self::Growth => "growth",
            Self::EndToEnd => "end-to-end",
            Self::Userspace => "userspace",
            Self::Replay => "replay",
        }
    }
}

#[derive(Debug, Default)]
pub struct Arguments {
    pub only: Vec<Part>,
    /// Less of everything, and ratios held against those that are recorded.
    pub short: bool,
    /// Writes the ratios down instead.
    pub record: bool,
    pub json: Option<PathBuf>,
    pub plots: Option<PathBuf>,
}

impl Arguments {
    /// # Errors
    /// A message for whoever has typed something else.
    pub fn typed() -> Result<Self, String> {
        let mut arguments = Self::default();
        let mut words = env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("`{word}` takes a value"));
            match word.as_str() {
                "--only" => arguments.only.push(part(&value()?)?),
                "--short" => arguments.short = true,
                "--record" => arguments.record = true,
                "--json" => arguments.json = Some(value()?.into()),
                "--plots" => arguments.plots = Some(value()?.into()),
                // What `cargo bench` adds to every target.
                "--bench" => {}
                _ => return Err(format!("`{word}` is none of --only, --short, --record, --json, --plots")),
            }
        }
        Ok(arguments)
    }

    /// What is measured: in short only what a packet costs, unless something else is named.
    pub fn parts(&self) -> Vec<Part> {
        match (self.only.is_empty(), self.short) {
            (false, _) => self.only.clone(),
            (true, true) => vec![Part::Packet],
            (true, false) => Part::ALL.to_vec(),
        }
    }
}

fn part(name: &str) -> Result<Part, String> {
    let names = || Part::ALL.map(Part::name).join(", ");
    Part::ALL.into_iter().find(|part| part.name() == name).ok_or_else(|| format!("`{name}` is none of {}", names()))
}
