//! The tasks of this repository: `cargo xtask setup|build|run|test|bench|vm|prove|soak`.
//!
//! Plain cargo builds and tests everything that needs neither privilege nor a BPF toolchain. What is left is here: the
//! kernel programs (another target, another linker), the agent with them inside, and the tests that need root.
//! Each command first makes sure of what it needs, installs it when it can, and names what is missing when it cannot.

mod bench;
mod build;
mod fuzz;
mod mutants;
mod process;
mod prove;
mod run;
mod setup;
mod tally;
mod test;
mod vm;
mod workspace;

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{
    prove::Proof,
    setup::Toolchain,
    test::Step,
    vm::{Kernel, Machine},
    workspace::Workspace,
};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, runs and tests tcp-observer")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Find or install what building and testing need; quick when it is all there
    Setup,
    /// Build the kernel programs and the agent that carries them
    Build {
        /// Optimize the agent as well (the kernel programs always are)
        #[arg(long)]
        release: bool,
    },
    /// Build in release and start `tcp-observer run ARGS` as root
    Run {
        /// Arguments of `tcp-observer run`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Everything that CI checks, from the cheap checks to the kernel tests
    Test {
        /// Only this step (repeatable)
        #[arg(long, value_name = "STEP")]
        only: Vec<Step>,
    },
    /// What the observer costs on this machine, beside what it is compared with: docs/performance.md
    Bench(bench::Options),
    /// The kernel tests on Debian's older kernels, booted in emulation: all of them, or those named
    Vm {
        /// This machine's kernels, or those of another one
        #[arg(long)]
        machine: Option<Machine>,
        /// Only this kernel (repeatable)
        #[arg(long, value_name = "VERSION")]
        kernel: Vec<Kernel>,
        /// Only this test binary (repeatable)
        #[arg(long, value_name = "NAME")]
        test: Vec<String>,
        /// Arguments of each test binary, such as the name of a test
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// The proofs at length: all of them, or those named
    Prove {
        only: Vec<Proof>,
        /// How many runs, connections, … instead of the usual long amount
        #[arg(long)]
        amount: Option<u64>,
    },
    /// Mixed load against a host with the agent, counted beside its kernel
    Soak {
        /// How long the load lasts
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
        minutes: u64,
    },
}

fn main() -> ExitCode {
    match perform(Arguments::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<ExitCode> {
    let workspace = Workspace::locate();
    match task {
        Task::Setup => {
            let toolchain = Toolchain::ensure(&workspace)?;
            setup::ensure_test_commands()?;
            println!("setup: kernel programs with {toolchain}; all commands of the tests are here");
        }
        Task::Build { release } => {
            let agent = build::everything(&workspace, release)?;
            println!("{}", agent.display());
        }
        Task::Run { arguments } => match run::run(&workspace, &arguments)? {},
        Task::Bench(options) => bench::run(&workspace, &options)?,
        Task::Vm { machine, kernel, test, arguments } => {
            return Ok(vm::run(&workspace, machine, &kernel, &test, &arguments));
        }
        Task::Prove { only, amount } => return Ok(prove::run(&workspace, &only, amount)),
        Task::Soak { minutes } => return Ok(prove::run(&workspace, &[Proof::Soak], Some(60 * minutes))),
        Task::Test { only } => return Ok(test::run(&workspace, &only)),
    }
    Ok(ExitCode::SUCCESS)
}
