//! `cargo xtask prove`: the proofs at whatever length one likes.
//!
//! Most proofs are ordinary tests that take an amount from the environment: `cargo xtask test` runs each as long as
//! suits every run, this command runs it for long. docs/proof.md says what each of them proves.

use std::process::ExitCode;

use clap::ValueEnum;

use crate::{
    fuzz, mutants, process,
    tally::Tally,
    test::{self, Outcome},
    vm,
    workspace::Workspace,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Proof {
    /// Simulated endpoints over a bad link; the amount is of runs
    Simulation,
    /// The kernel's sockets as oracle; the amount is of connections
    Oracle,
    /// The kernel programs and the core in userspace make the same of the same packets; the amount is of simulated runs,
    /// and of scripts at random
    Twin,
    /// Laws of the state machine over scripts at random; the amount is of scripts for each
    Laws,
    /// The flow table's protocol in all interleavings of two threads; the amount is of preemptions
    Interleavings,
    /// Each fuzz target; the amount is of seconds
    Fuzz,
    /// Two CPUs on the same flows; the amount is of rounds
    Races,
    /// Mixed load, counted beside the kernel; the amount is of seconds
    Soak,
    /// All kernel tests on Debian's 6.1 and 6.12; takes no amount
    OldKernels,
    /// Small changes to the core, each of which a test has to notice; the amount is of changes
    Mutants,
}

/// How a proof is run.
enum Form {
    /// As a test of `package` that reads its amount from `PROVE_<NAME>`.
    Test { package: &'static str, test: &'static str, amount: u64 },
    /// As the targets of `fuzz/`, each for so many seconds.
    Fuzz { seconds: u64 },
    /// On every other kernel there is, as it is.
    Vm,
    /// Of all mutations of the core.
    Mutants,
}

/// Runs these proofs, or all; `amount` stands in for what each takes when it is run for long.
pub fn run(workspace: &Workspace, only: &[Proof], amount: Option<u64>) -> ExitCode {
    let mut sum = Tally::default();
    let selected = |proof: &&Proof| only.is_empty() || only.contains(proof);
    for &proof in Proof::value_variants().iter().filter(selected) {
        println!("== {}", proof.name());
        let Outcome { tally, error } = proof.run(workspace, amount).settled(true);
        sum += tally;
        if let Some(error) = error {
            println!("== {}: failed: {error:#}", proof.name());
        }
    }
    println!("{sum}");
    if sum.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Proof {
    fn form(self) -> Form {
        match self {
            Self::Simulation => Form::Test { package: "proofs", test: "simulation", amount: 1_000_000 },
            Self::Oracle => Form::Test { package: "integration-tests", test: "oracle", amount: 50_000 },
            Self::Twin => Form::Test { package: "integration-tests", test: "twin", amount: 10_000 },
            Self::Laws => Form::Test { package: "proofs", test: "laws", amount: 100_000 },
            Self::Interleavings => Form::Test { package: "proofs", test: "table", amount: 3 },
            Self::Fuzz => Form::Fuzz { seconds: 600 },
            Self::Races => Form::Test { package: "integration-tests", test: "races", amount: 200 },
            Self::Soak => Form::Test { package: "integration-tests", test: "soak", amount: 600 },
            Self::OldKernels => Form::Vm,
            Self::Mutants => Form::Mutants,
        }
    }

    fn run(self, workspace: &Workspace, chosen: Option<u64>) -> Outcome {
        match self.form() {
            Form::Fuzz { seconds } => fuzz::run(workspace, chosen.unwrap_or(seconds)),
            Form::Vm => vm::outcome(workspace, None, &[], |available| vm::Suite::of(&[], &[], available)),
            Form::Test { package, test, amount } => {
                let mut command = process::cargo();
                command.args(["test", "--release", "--package", package, "--test", test]);
                command.current_dir(workspace.root()).env(self.variable(), chosen.unwrap_or(amount).to_string());
                if matches!(self, Self::Soak | Self::Oracle) {
                    // What they print is there to be watched, and the figures are what one wants to have.
                    command.env("RUST_TEST_NOCAPTURE", "1");
                }
                match package {
                    "integration-tests" => test::kernel_tests(workspace, &mut command),
                    _ => test::run_tests(command.args(["--", "--nocapture"])),
                }
            }
            Form::Mutants => mutants::prove(workspace, chosen),
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// As `proofs::amount` reads it.
    fn variable(self) -> String {
        format!("PROVE_{}", self.name().to_uppercase().replace('-', "_"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_has_its_variable() {
        assert_eq!(Proof::Simulation.variable(), "PROVE_SIMULATION");
    }
}
