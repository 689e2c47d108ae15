//! What the running kernel has, where a test depends on it.

use std::{fs, io::Write as _, process::Command, sync::LazyLock, thread};

use crate::{namespace::Namespace, run};

/// Something that some kernels do not have and that some test cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// The queueing discipline that loses, delays and reorders packets (`CONFIG_NET_SCH_NETEM`).
    Netem,
}

impl Feature {
    fn description(self) -> &'static str {
        match self {
            Self::Netem => "the queueing discipline netem (CONFIG_NET_SCH_NETEM)",
        }
    }

    fn is_here(self) -> bool {
        match self {
            Self::Netem => {
                static NETEM: LazyLock<bool> = LazyLock::new(|| {
                    let namespace = Namespace::new();
                    let words = ["qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"];
                    run::finish(namespace.command("tc").args(words)).code == Some(0)
                });
                *NETEM
            }
        }
    }
}

/// Whether the kernel has this feature. Where it has not, the test that asks is told of as skipped, with the reason,
/// and `cargo xtask` counts it as such: it is to return at once.
pub fn has(feature: Feature) -> bool {
    let is_here = feature.is_here();
    if !is_here {
        let test = thread::current().name().unwrap_or("?").to_owned();
        // Past what captures a test's output, and in one piece on a line of its own.
        let line = format!("\nskipped: {test}: Linux {} lacks {}\n", release(), feature.description());
        let _ = std::io::stdout().write_all(line.as_bytes());
    }
    is_here
}

/// The kernel's release, as `uname -r` says it.
pub fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").map_or_else(|_| "?".to_owned(), |text| text.trim().to_owned())
}

/// Major and minor version of the kernel.
///
/// # Panics
/// When its release does not begin with them.
pub fn version() -> (u32, u32) {
    let release = release();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor),
        _ => panic!("the kernel calls itself `{release}`"),
    }
}

/// Whether tc programs hang in TCX chains (since Linux 6.6), rather than as filters under a `clsact` qdisc.
pub fn has_tcx() -> bool {
    version() >= (6, 6)
}

/// Adds a queueing discipline to an interface's way out; it has to be taken.
#[track_caller]
pub fn add_qdisc(namespace: &Namespace, interface: &str, words: &str) {
    let mut command: Command = namespace.command("tc");
    run::success(command.args(["qdisc", "add", "dev", interface, "root"]).args(words.split_whitespace()));
}
