//! `cargo xtask prove fuzz`: each target of `fuzz/` for so many seconds, from its corpus on.
//!
//! It takes a nightly compiler (coverage and sanitizers are unstable), a C++ compiler (libFuzzer is compiled along) and
//! cargo-fuzz; what is missing is installed. What a target finds new goes into `fuzz/corpus`, what makes it fail into
//! `fuzz/artifacts`.

use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::{process, setup, tally::Tally, test::Outcome, workspace::Workspace};

const TARGETS: &[&str] = &["frames", "captures", "filters", "http", "sockets"];
/// One that is known to build the targets; later ones should as well.
const CARGO_FUZZ: &str = "0.13.2";
/// Longer inputs than this say nothing new of a target.
const MAX_BYTES: &[(&str, u32)] =
    &[("frames", 580), ("captures", 2048), ("filters", 400), ("http", 1024), ("sockets", 512)];

/// One target is one test.
pub fn run(workspace: &Workspace, seconds: u64) -> Outcome {
    let mut tally = Tally::default();
    if let Err(error) = ensure() {
        return Err(error).into();
    }
    let mut failures = Vec::new();
    for &target in TARGETS {
        println!("-- {target}, {seconds} s");
        match process::run(&mut command(workspace, target, seconds)) {
            Ok(()) => tally.passed += 1,
            Err(error) => {
                tally.failed += 1;
                failures.push(format!("{error:#}; the input is under fuzz/artifacts/{target}"));
            }
        }
    }
    let error = (!failures.is_empty()).then(|| anyhow!(failures.join("\n")));
    Outcome { tally, error }
}

fn command(workspace: &Workspace, target: &str, seconds: u64) -> Command {
    let max_bytes = MAX_BYTES.iter().find(|(name, _)| *name == target).map_or(4096, |(_, bytes)| *bytes);
    // Through rustup, which knows the nightly one: the cargo that runs this program is that of another toolchain.
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo", "fuzz", "run", "--release", "--debug-assertions", target, "--"]);
    command.args([format!("-max_total_time={seconds}"), format!("-max_len={max_bytes}")]);
    command.args(["-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1"]);
    command.current_dir(workspace.root().join("fuzz")).env_remove("RUSTC").env_remove("LD_LIBRARY_PATH");
    command
}

/// Finds or installs what fuzzing takes.
fn ensure() -> Result<()> {
    if process::find("c++").is_none() {
        if !setup::are_debian() {
            bail!("there is no C++ compiler (`c++`), which libFuzzer takes; install one");
        }
        setup::install(&["g++"])?;
    }
    if process::find("rustup").is_none() {
        bail!(
            "fuzzing takes a nightly compiler by way of rustup, which is not here; install it from https://rustup.rs"
        );
    }
    let nightly = process::output_of(Command::new("rustup").args(["run", "nightly", "rustc", "--version"]));
    if nightly.is_none() {
        let install = ["toolchain", "install", "nightly", "--profile", "minimal"];
        process::run(Command::new("rustup").args(install)).context("cannot install a nightly compiler")?;
    }
    if process::output_of(process::cargo().args(["fuzz", "--version"])).is_none() {
        process::run(process::cargo().args(["install", "cargo-fuzz", "--locked", "--version", CARGO_FUZZ]))
            .context("cannot install cargo-fuzz")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_target_has_its_file_its_corpus_and_its_length() {
        let fuzz = Workspace::locate().root().join("fuzz");
        let files = fs::read_dir(fuzz.join("targets")).unwrap();
        let mut names: Vec<_> = files.map(|file| file.unwrap().path().file_stem().unwrap().to_owned()).collect();
        names.sort();
        let mut targets = TARGETS.to_vec();
        targets.sort_unstable();
        assert_eq!(names, targets);
        for target in TARGETS {
            assert!(fuzz.join("corpus").join(target).is_dir(), "{target}");
            assert!(MAX_BYTES.iter().any(|(name, _)| name == target), "{target}");
        }
    }
}
