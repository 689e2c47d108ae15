//! `cargo xtask vm`: the kernel tests on Debian's older kernels.
//!
//! Each kernel is booted in qemu, emulated, with a disk of this machine's own commands, the agent and the test
//! binaries. What the guest says on its console is passed on and counted as any test run is; a kernel that panics,
//! a test binary without a summary and a guest that hangs are failures.

mod apt;
mod guest;
mod image;
mod kernel;
mod machine;

use std::{
    fs,
    panic::resume_unwind,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use self::apt::Apt;
pub use self::{kernel::Kernel, machine::Machine};
use crate::{
    build, process,
    setup::{self, Toolchain},
    tally::{Counting, Tally},
    test::Outcome,
    workspace::Workspace,
};

/// How much longer than on this machine anything may take there (`TCP_OBSERVER_PATIENCE`, as the tests read it).
const PATIENCE: u32 = 30;

/// What all kernel tests may take, on one kernel.
const LIMIT: Duration = Duration::from_secs(4 * 3600);

/// What every run of CI shows on each kernel, in the few minutes that emulation may take: that each program loads and
/// what its verifier took, that the programs do there what the core does here, and that traffic, hooks, leftovers and
/// the socket table are what they are on a newer kernel.
const SHORT: &[(&str, &[&str])] = &[
    ("verifier_budget", &["--nocapture"]),
    ("twin", &["every_scenario_is_noted_for_what_it_is"]),
    (
        "real_traffic",
        &["opening::open_connections", "ends::a_reset_after_a_fin", "attempts::an_address_that_nobody_has"],
    ),
    ("several_interfaces", &["a_router_counts_each_segment_once_and_forwards"]),
    ("neighbours", &[]),
    ("wrong_use", &["what_a_killed_agent_left_does_not_stop_the_next_one"]),
    ("adoption", &["a_request_socket_is_adopted"]),
];

/// What that may take on one kernel, where the machine is busy.
const SHORT_LIMIT: Duration = Duration::from_secs(1500);

/// Tests to run, one binary after the other.
pub struct Suite {
    /// Name of a test binary, and its arguments.
    runs: Vec<(String, Vec<String>)>,
    /// What the whole may take.
    limit: Duration,
    /// Each binary has to run a test: its arguments are ours, and name one.
    is_chosen: bool,
}

impl Suite {
    /// These test binaries, or all where none is named, each with these arguments.
    pub fn of(tests: &[String], arguments: &[String], available: &[(String, PathBuf)]) -> Result<Self> {
        for test in tests {
            ensure!(available.iter().any(|(name, _)| name == test), "there is no kernel test `{test}`");
        }
        let selected = available.iter().filter(|(name, _)| tests.is_empty() || tests.contains(name));
        let runs = selected.map(|(name, _)| (name.clone(), arguments.to_vec())).collect();
        Ok(Self { runs, limit: LIMIT, is_chosen: false })
    }

    /// What CI runs.
    pub fn short() -> Self {
        let run =
            |&(name, filters): &(&str, &[&str])| (name.to_owned(), filters.iter().map(ToString::to_string).collect());
        Self { runs: SHORT.iter().map(run).collect(), limit: SHORT_LIMIT, is_chosen: true }
    }

    /// A variable for all binaries, then one line for each, as the guest reads them.
    fn lines(&self) -> String {
        let variables = [format!("TCP_OBSERVER_PATIENCE={PATIENCE}\n")];
        let runs = self.runs.iter().map(|(name, arguments)| format!("{name} {}\n", arguments.join(" ")));
        variables.into_iter().chain(runs).collect()
    }
}

/// Runs these tests on these kernels (all where none is named) of a machine (ours where none is), and counts.
pub fn run(
    workspace: &Workspace,
    machine: Option<Machine>,
    kernels: &[Kernel],
    tests: &[String],
    arguments: &[String],
) -> ExitCode {
    let suite = |available: &[_]| Suite::of(tests, arguments, available);
    let Outcome { tally, error } = outcome(workspace, machine, kernels, suite).settled(true);
    if let Some(error) = error {
        println!("== vm: failed: {error:#}");
    }
    println!("{tally}");
    if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs on these kernels the tests that `suite` chooses from those that there are.
pub fn outcome(
    workspace: &Workspace,
    machine: Option<Machine>,
    kernels: &[Kernel],
    suite: impl FnOnce(&[(String, PathBuf)]) -> Result<Suite>,
) -> Outcome {
    let kernels = if kernels.is_empty() { Kernel::value_variants() } else { kernels };
    let mut tally = Tally::default();
    let error = boot_all(workspace, machine, kernels, suite, &mut tally).err();
    Outcome { tally, error }
}

fn boot_all(
    workspace: &Workspace,
    machine: Option<Machine>,
    kernels: &[Kernel],
    suite: impl FnOnce(&[(String, PathBuf)]) -> Result<Suite>,
    tally: &mut Tally,
) -> Result<()> {
    let ours = Machine::ours()?;
    let machine = machine.unwrap_or(ours);
    setup::ensure_vm_commands(machine.emulator())?;
    let directory = if machine == ours { workspace.vm() } else { workspace.vm().join(machine.name()) };
    fs::create_dir_all(&directory).with_context(|| format!("cannot create `{}`", directory.display()))?;
    let (agent, object) = programs(workspace, machine, &directory)?;
    let tests = test_binaries(workspace, machine)?;
    let suite = suite(&tests)?;
    let apt = Apt::new(machine, &directory)?;
    let unpacked = kernels.iter().map(|kernel| kernel.ensure(machine, &apt, &directory)).collect::<Result<Vec<_>>>()?;
    let files = apt.root()?;
    let contents = image::Contents {
        tests: &tests.into_iter().filter(|(name, _)| suite.runs.iter().any(|run| run.0 == *name)).collect::<Vec<_>>(),
        suite: &suite,
        agent: &agent,
        object: &object,
        kernels: &unpacked,
        commands: setup::test_commands(),
        files: files.as_deref(),
    };
    let scratch = Scratch::new(&directory)?;
    let disk = image::disk(&scratch.0, &contents)?;
    let initramfs = |kernel| image::initramfs(&scratch.0, kernel, files.as_deref());
    let initramfses = unpacked.iter().map(initramfs).collect::<Result<Vec<_>>>()?;
    // At the same time: tests wait much, and most of a guest's tests keep one CPU busy.
    let results: Vec<_> = thread::scope(|scope| {
        let guests = kernels.iter().zip(unpacked.iter().zip(&initramfses)).map(|(kernel, (unpacked, initramfs))| {
            let (disk, suite) = (&disk, &suite);
            scope.spawn(move || run_suite((machine, *kernel), unpacked, initramfs, disk, suite))
        });
        let guests: Vec<_> = guests.collect();
        guests.into_iter().map(|guest| guest.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    let mut failures = Vec::new();
    for (kernel, (counted, result)) in kernels.iter().zip(results) {
        *tally += counted;
        failures.extend(result.err().map(|error| format!("{kernel}: {error:#}")));
    }
    if failures.is_empty() { Ok(()) } else { bail!("{}", failures.join("; ")) }
}

/// Where this run's images are, and nobody else's.
struct Scratch(PathBuf);

impl Scratch {
    fn new(directory: &Path) -> Result<Self> {
        // Those of runs that were killed.
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.strip_prefix("run-").is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let path = directory.join(format!("run-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot create `{}`", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Boots one kernel and counts; each line of the guest's is passed on with the kernel's version before it.
fn run_suite(
    (machine, kernel): (Machine, Kernel),
    unpacked: &kernel::Unpacked,
    initramfs: &Path,
    disk: &Path,
    suite: &Suite,
) -> (Tally, Result<()>) {
    let mut counting = Counting::default();
    let mut unwell = Vec::new();
    let started = Instant::now();
    let result = guest::boot(machine, unpacked, initramfs, disk, suite.limit, |line| {
        println!("{} | {line}", kernel.version());
        counting.line(line);
        if suite.is_chosen && Tally::parse(line).is_some_and(|tally| tally == Tally::default()) {
            unwell.push("a binary of the selection ran no test".to_owned());
        }
        if let Some((name, code)) = ended(line).filter(|&(_, code)| code != "0") {
            unwell.push(format!("`{name}` ended with {code}"));
        }
    });
    let (summaries, tally) = (counting.summaries(), counting.tally());
    println!("== {kernel} ({}): {tally} in {:.1} s", unpacked.release, started.elapsed().as_secs_f64());
    let result = result.and_then(|()| {
        unwell.extend_from_slice(counting.failures());
        ensure!(unwell.is_empty(), "{}", unwell.join(", "));
        ensure!(summaries == suite.runs.len(), "{summaries} of {} test binaries said their result", suite.runs.len());
        Ok(())
    });
    (tally, result)
}

/// `vm: NAME ended with CODE`, as the guest says it.
fn ended(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("vm: ")?.split_once(" ended with ")
}

/// Builds agent and kernel programs for a machine: where they are.
fn programs(workspace: &Workspace, machine: Machine, directory: &Path) -> Result<(PathBuf, PathBuf)> {
    let Some(target) = machine.target() else {
        return Ok((build::everything(workspace, true)?, workspace.ebpf_object()));
    };
    machine.ensure_target()?;
    let toolchain = Toolchain::ensure(workspace)?;
    let object = build::kernel_programs_for(machine.name(), &directory.join("ebpf"), workspace, &toolchain)?;
    let mut command = process::cargo();
    command.args(["build", "--release", "--package", "tcp-observer", "--bin", "tcp-observer"]);
    // What it carries, as `tcp-observer/build.rs` is told.
    machine.aim(command.current_dir(workspace.root()).env("TCP_OBSERVER_EBPF_OBJECT", &object));
    process::run(&mut command)?;
    Ok((workspace.target().join(target).join("release/tcp-observer"), object))
}

/// Builds the kernel tests: their names, and where they are.
fn test_binaries(workspace: &Workspace, machine: Machine) -> Result<Vec<(String, PathBuf)>> {
    let mut command = process::cargo();
    command.args(["test", "--package", "integration-tests", "--tests", "--no-run", "--message-format"]);
    command.arg("json-render-diagnostics").current_dir(workspace.root()).stderr(Stdio::inherit());
    machine.aim(&mut command);
    let text = output_of(&mut command)?;
    let mut binaries: Vec<_> = text.lines().filter_map(test_binary).collect();
    binaries.sort();
    ensure!(!binaries.is_empty(), "cargo built no kernel tests");
    Ok(binaries)
}

fn output_of(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "`{}` failed ({})", process::describe(command), output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// A line of cargo's JSON that tells of an executable: `…"executable":"/…/deps/adoption-0123456789abcdef"…`.
fn test_binary(line: &str) -> Option<(String, PathBuf)> {
    let is_test = line.contains(r#""kind":["test"]"#);
    let path = line.split_once(r#""executable":""#)?.1.split('"').next().filter(|_| is_test)?;
    let (name, _hash) = path.rsplit('/').next()?.rsplit_once('-')?;
    Some((name.to_owned(), path.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn available() -> Vec<(String, PathBuf)> {
        ["adoption", "twin"].map(|name| (name.to_owned(), PathBuf::from("/there").join(name))).to_vec()
    }

    #[test]
    fn a_test_binary_is_read_from_what_cargo_says() {
        let line = r#"{"target":{"kind":["test"],"name":"twin"},"executable":"/t/debug/deps/twin-01ab","fresh":true}"#;
        assert_eq!(test_binary(line), Some(("twin".to_owned(), "/t/debug/deps/twin-01ab".into())));
        let library = r#"{"target":{"kind":["lib"],"name":"aya"},"executable":null,"fresh":true}"#;
        assert_eq!(test_binary(library), None);
    }

    #[test]
    fn a_suite_is_what_was_named_or_all() {
        let all = Suite::of(&[], &["--nocapture".to_owned()], &available()).unwrap();
        assert_eq!(all.lines(), "TCP_OBSERVER_PATIENCE=30\nadoption --nocapture\ntwin --nocapture\n");
        let one = Suite::of(&["twin".to_owned()], &[], &available()).unwrap();
        assert_eq!(one.runs, [("twin".to_owned(), vec![])]);
        let error = Suite::of(&["twins".to_owned()], &[], &available()).err().unwrap();
        assert_eq!(error.to_string(), "there is no kernel test `twins`");
    }

    #[test]
    fn the_end_of_a_binary_is_read() {
        assert_eq!(ended("vm: twin ended with 101"), Some(("twin", "101")));
        assert_eq!(ended("vm: twin --nocapture"), None);
    }
}
