//! `cargo xtask test`: what CI checks, from cheap to dear.
//!
//! Every step runs whatever became of the others, except those that cannot without them. The last line adds up the
//! tests: `tests: 123 passed, 0 failed`. A step that fails without a failed test counts as one, and a step that is to
//! run tests and ran none fails.

use std::{
    io::{BufRead, BufReader},
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use anyhow::{Context, Error, Result, anyhow};
use clap::ValueEnum;

use crate::{
    bench, build, process,
    setup::{self, Toolchain},
    tally::{Counting, Tally},
    vm,
    workspace::Workspace,
};

/// Everything that runs on the host; the kernel programs have steps of their own.
const HOST_PACKAGES: &[&str] = &["tcp-observer-common", "tcp-observer", "proofs", "xtask", "integration-tests"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Step {
    /// What the other steps need, found or installed
    Setup,
    /// Formatting
    Fmt,
    /// Lints of everything that runs on the host
    Clippy,
    /// Lints of the kernel programs, checked as host code
    EbpfClippy,
    /// Unit, property, snapshot and documentation tests
    Unit,
    /// Documentation without warnings
    Doc,
    /// The kernel programs, and the agent in release
    Build,
    /// Tests against the running kernel, as root
    Kernel,
    /// What packets cost beside a reference, held against recorded ratios
    Bench,
    /// The kernel tests that matter most on Debian's 6.1 and 6.12
    Vm,
}

/// What became of a step.
#[derive(Default)]
pub struct Outcome {
    pub tally: Tally,
    pub error: Option<Error>,
}

pub fn run(workspace: &Workspace, only: &[Step]) -> ExitCode {
    let mut sum = Tally::default();
    let mut failed = Vec::new();
    let selected = |step: &&Step| only.is_empty() || only.contains(step);
    for &step in Step::value_variants().iter().filter(selected) {
        let name = step.name();
        println!("== {name}: {}", step.purpose());
        let started = Instant::now();
        let has_failed = |needed: &&Step| failed.iter().any(|(step, _)| step == *needed);
        let outcome = match step.needs().iter().find(has_failed) {
            Some(needed) => Err(anyhow!("not run, because {} failed", needed.name())).into(),
            None => step.perform(workspace),
        };
        let seconds = started.elapsed().as_secs_f64();
        let Outcome { tally, error } = outcome.settled(step.is_tests());
        sum += tally;
        match error {
            None => println!("== {name}: ok in {seconds:.1} s"),
            Some(error) => {
                println!("== {name}: failed in {seconds:.1} s: {error:#}");
                failed.push((step, error));
            }
        }
    }
    // Once more, since whoever reads the end of a long log wants to know what to look for in it.
    for (step, error) in &failed {
        let (name, error) = (step.name(), format!("{error:#}"));
        println!("failed: {name}: {}", error.lines().next().unwrap_or_default());
        println!("  alone: `cargo xtask test --only {name}`");
    }
    println!("{sum}");
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Step {
    fn perform(self, workspace: &Workspace) -> Outcome {
        let cargo = |arguments: &[&str]| {
            let mut command = process::cargo();
            command.args(arguments).current_dir(workspace.root());
            command
        };
        match self {
            Self::Setup => Toolchain::ensure(workspace).and_then(|_| setup::ensure_test_commands()).into(),
            Self::Fmt => process::run(&mut cargo(&["fmt", "--all", "--check"])).into(),
            Self::Clippy => {
                let packages = HOST_PACKAGES.iter().flat_map(|package| ["--package", package]);
                let mut command = cargo(&["clippy", "--all-targets"]);
                process::run(command.args(packages).args(["--", "-D", "warnings"])).into()
            }
            Self::EbpfClippy => {
                // In the kernel programs' own directory: leave for unstable features changes what dependencies build.
                let mut command = cargo(&["clippy", "--package", "tcp-observer-ebpf", "--target-dir"]);
                command.arg(workspace.ebpf_target()).args(["--", "-D", "warnings"]).env("RUSTC_BOOTSTRAP", "1");
                process::run(&mut command).into()
            }
            Self::Unit => run_tests(&mut cargo(&["test", "--no-fail-fast"])),
            Self::Doc => {
                let mut command = cargo(&["doc", "--no-deps", "--document-private-items"]);
                process::run(command.env("RUSTDOCFLAGS", "-D warnings")).into()
            }
            Self::Build => build::everything(workspace, true).map(drop).into(),
            Self::Kernel => kernel_tests(workspace, &mut cargo(&["test", "--package", "integration-tests"])),
            Self::Bench => bench::outcome(workspace),
            Self::Vm => vm::outcome(workspace, None, &[], |_| Ok(vm::Suite::short())),
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn purpose(self) -> String {
        let help = self.to_possible_value().and_then(|value| value.get_help().map(ToString::to_string));
        help.unwrap_or_default()
    }

    fn is_tests(self) -> bool {
        matches!(self, Self::Unit | Self::Kernel | Self::Bench | Self::Vm)
    }

    /// The steps that this one cannot do without.
    fn needs(self) -> &'static [Self] {
        match self {
            Self::Build => &[Self::Setup],
            Self::Kernel | Self::Bench | Self::Vm => &[Self::Setup, Self::Build],
            Self::Setup | Self::Fmt | Self::Clippy | Self::EbpfClippy | Self::Unit | Self::Doc => &[],
        }
    }
}

/// Runs the kernel tests, each test binary as root. They are built in the profile of the unit tests, which shares the
/// dependencies with those.
pub fn kernel_tests(workspace: &Workspace, command: &mut Command) -> Outcome {
    if let Err(error) = prepare(workspace, command) {
        return Err(error).into();
    }
    // Each test has network namespaces of its own, but the machine's two cores are shared.
    run_tests(command.args(["--no-fail-fast", "--", "--test-threads=2"]))
}

/// Makes sure of what the kernel tests call, builds the agent that they run (`TCP_OBSERVER_BIN`), and has cargo run what
/// it builds as root.
pub fn prepare(workspace: &Workspace, command: &mut Command) -> Result<()> {
    setup::ensure_test_commands()?;
    let agent = build::everything(workspace, true)?;
    if !process::is_root() {
        process::as_root("running the kernel tests", "cargo")?;
        command.args(["--config", r#"target."cfg(unix)".runner = ["sudo", "-E"]"#]);
    }
    command.env("TCP_OBSERVER_BIN", agent);
    Ok(())
}

/// Runs `cargo test`, passes on what it prints, and counts.
pub fn run_tests(command: &mut Command) -> Outcome {
    let mut counting = Counting::default();
    let result = stream_lines(command, |line| {
        println!("{line}");
        counting.line(line);
    });
    let error = result.err().map(|error| match counting.failures() {
        [] => error,
        failures => error.context(failures.join(", ")),
    });
    Outcome { tally: counting.tally(), error }
}

fn stream_lines(command: &mut Command, mut on_line: impl FnMut(&str)) -> Result<()> {
    let line = process::describe(command);
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start `{line}`"))?;
    if let Some(stdout) = child.stdout.take() {
        // Tests may print anything, UTF-8 or not.
        for bytes in BufReader::new(stdout).split(b'\n') {
            on_line(&String::from_utf8_lossy(&bytes?));
        }
    }
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(anyhow!("`{line}` failed ({status})")) }
}

impl Outcome {
    /// Makes the count and the verdict agree.
    pub fn settled(mut self, is_tests: bool) -> Self {
        if is_tests && self.error.is_none() && self.tally.is_empty() {
            self.error = Some(anyhow!("no test ran"));
        }
        if self.error.is_some() && self.tally.failed == 0 {
            self.tally.failed = 1;
        }
        self
    }
}

impl From<Result<()>> for Outcome {
    fn from(result: Result<()>) -> Self {
        Self { tally: Tally::default(), error: result.err() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(passed: u64, failed: u64, error: Option<&'static str>) -> Outcome {
        Outcome { tally: Tally { passed, failed, ignored: 0 }, error: error.map(Error::msg) }
    }

    #[test]
    fn a_test_step_without_tests_fails() {
        let outcome = outcome(0, 0, None).settled(true);
        assert_eq!(outcome.error.unwrap().to_string(), "no test ran");
        assert_eq!(outcome.tally.failed, 1);
    }

    #[test]
    fn a_failure_without_a_failed_test_counts_as_one() {
        assert_eq!(
            outcome(7, 0, Some("does not compile")).settled(true).tally.to_string(),
            "tests: 7 passed, 1 failed"
        );
        assert_eq!(outcome(7, 2, Some("two failed")).settled(true).tally.to_string(), "tests: 7 passed, 2 failed");
    }

    #[test]
    fn a_check_that_passes_counts_nothing() {
        let outcome = outcome(0, 0, None).settled(false);
        assert!(outcome.error.is_none());
        assert_eq!(outcome.tally, Tally::default());
    }

    #[test]
    fn steps_need_only_earlier_steps() {
        let steps = Step::value_variants();
        for (index, step) in steps.iter().enumerate() {
            assert!(step.needs().iter().all(|needed| steps[..index].contains(needed)), "{step:?}");
        }
    }

    #[test]
    fn what_has_failed_is_named() {
        let script = "echo 'test one ... FAILED'; exit 1";
        let error = run_tests(Command::new("sh").args(["-c", script])).error.unwrap();
        assert_eq!(format!("{error:#}"), format!("one: `sh -c {script}` failed (exit status: 1)"));
    }

    #[test]
    fn lines_are_counted_while_they_are_passed_on() {
        let script = "echo running; echo 'test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out'";
        let outcome = run_tests(Command::new("sh").args(["-c", script]));
        assert_eq!(outcome.tally, Tally { passed: 2, failed: 0, ignored: 1 });
        assert!(outcome.error.is_none());
    }
}
