//! The machine that a guest is: this one's kind, or another that is emulated all the same.

use std::process::Command;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::{build::target_variable, process};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Machine {
    #[value(name = "x86_64")]
    X86_64,
    /// With the agent and the tests built for it: `rustup target add` gets what that takes
    Aarch64,
}

impl Machine {
    /// The one that this is.
    pub fn ours() -> Result<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::X86_64),
            arch => bail!("guests are booted on x86-64 only, and this machine is {arch}"),
        }
    }

    /// As rustc and the kernel programs' bindings call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// As Debian does.
    pub fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// What emulates it.
    pub fn emulator(self) -> &'static str {
        match self {
            Self::X86_64 => "qemu-system-x86_64",
            Self::Aarch64 => "qemu-system-aarch64",
        }
    }

    /// The kind of board, where the emulator knows several.
    pub fn board(self) -> &'static [&'static str] {
        match self {
            Self::X86_64 => &[],
            Self::Aarch64 => &["-machine", "virt"],
        }
    }

    /// The first serial line, as its kernel calls it.
    pub fn console(self) -> &'static str {
        match self {
            Self::X86_64 => "ttyS0",
            Self::Aarch64 => "ttyAMA0",
        }
    }

    /// What programs for it are built for, if not for this machine: statically, so that they need no library of its.
    pub fn target(self) -> Option<&'static str> {
        match self {
            Self::X86_64 => None,
            Self::Aarch64 => Some("aarch64-unknown-linux-musl"),
        }
    }

    /// Has cargo build for it; rustc brings the linker.
    pub fn aim(self, command: &mut Command) {
        let Some(target) = self.target() else { return };
        command.args(["--target", target]).env(target_variable(target, "LINKER"), "rust-lld");
        command.env(target_variable(target, "RUSTFLAGS"), "-Clink-self-contained=yes");
    }

    /// Makes sure that rustc can build for it.
    pub fn ensure_target(self) -> Result<()> {
        match self.target() {
            Some(target) => process::run_quietly(Command::new("rustup").args(["target", "add", target])),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_is_told_what_to_build_for_and_how_only_where_that_is_not_this_machine() {
        let aimed = |machine: Machine| {
            let mut command = Command::new("cargo");
            machine.aim(command.arg("build"));
            let variables: Vec<_> = command.get_envs().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
            (process::describe(&command), variables)
        };
        assert_eq!(aimed(Machine::X86_64), ("cargo build".to_owned(), vec![]));
        let (command, variables) = aimed(Machine::Aarch64);
        assert_eq!(command, "cargo build --target aarch64-unknown-linux-musl");
        let target = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL";
        assert_eq!(variables, [format!("{target}_LINKER"), format!("{target}_RUSTFLAGS")]);
    }
}
