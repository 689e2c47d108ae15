//! Building the kernel programs and the agent.
//!
//! The kernel programs are one object for the target `bpfel-unknown-none` (or `bpfeb`), which has no prebuilt `core`:
//! it is built along, which needs a compiler with the library's source and leave to use `-Z` (`RUSTC_BOOTSTRAP`).
//! They are always optimized: the verifier would not accept them otherwise. `tcp-observer/build.rs` embeds the result.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{
    process,
    setup::Toolchain,
    workspace::{self, BPF_TARGET, Workspace},
};

/// Makes sure of the toolchain, builds both and says where the agent is.
pub fn everything(workspace: &Workspace, release: bool) -> Result<PathBuf> {
    let toolchain = Toolchain::ensure(workspace)?;
    kernel_programs(workspace, &toolchain)?;
    agent(workspace, release)
}

pub fn kernel_programs(workspace: &Workspace, toolchain: &Toolchain) -> Result<()> {
    kernel_programs_for(std::env::consts::ARCH, &workspace.ebpf_target(), workspace, toolchain).map(drop)
}

/// Builds the kernel programs for such machines in this target directory; where they are.
pub fn kernel_programs_for(arch: &str, target: &Path, workspace: &Workspace, toolchain: &Toolchain) -> Result<PathBuf> {
    let arch = bpf_target_arch(arch);
    // The third version of the instructions (Linux 5.1): 32-bit arithmetic, and exchanges of 32 bits (5.12).
    let arch = format!("--cfg=bpf_target_arch=\"{arch}\"");
    // Blocks stay in the order in which they are written. Placed anew, a loop's end may come to lie in front of its
    // beginning and run into it without a jump: the verifier of Linux 6.1 takes that for an endless loop ("back-edge").
    let order = "-Clink-arg=--llvm-args=-disable-block-placement";
    let flags = [&arch, "-Ctarget-cpu=v3", "-Cdebuginfo=2", "-Clink-arg=--btf", order].join("\x1f");
    let mut command = Command::new(toolchain.cargo());
    command
        .args(["build", "--release", "--package", "tcp-observer-ebpf"])
        .args(["-Z", "build-std=core", "--target", BPF_TARGET, "--target-dir"])
        .arg(target)
        .current_dir(workspace.root())
        // One crate, of which the linker makes what the verifier sees.
        .env("CARGO_PROFILE_RELEASE_LTO", "false")
        .env("RUSTC", toolchain.rustc())
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .env(target_variable(BPF_TARGET, "LINKER"), toolchain.linker())
        // The linker loads the first LLVM it finds here: this directory holds one.
        .env("LD_LIBRARY_PATH", toolchain.llvm_directory())
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER");
    process::run(&mut command).context("cannot build the kernel programs")?;
    let object = workspace::ebpf_object(target);
    ensure!(object.is_file(), "the build of the kernel programs left no `{}`", object.display());
    Ok(object)
}

pub fn agent(workspace: &Workspace, release: bool) -> Result<PathBuf> {
    let mut command = process::cargo();
    command.args(["build", "--package", "tcp-observer", "--bin", "tcp-observer"]).current_dir(workspace.root());
    if release {
        command.arg("--release");
    }
    process::run(&mut command).context("cannot build the agent")?;
    let agent = workspace.agent(release);
    ensure!(agent.is_file(), "the build of the agent left no `{}`", agent.display());
    Ok(agent)
}

/// The name that the BPF bindings have for the machine that will run them.
fn bpf_target_arch(arch: &str) -> &str {
    if arch.starts_with("riscv64") { "riscv64" } else { arch }
}

/// What cargo calls a variable of its own for one target: its `LINKER`, or its `RUSTFLAGS`.
pub fn target_variable(target: &str, what: &str) -> String {
    format!("CARGO_TARGET_{}_{what}", target.to_uppercase().replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linker_is_named_after_the_target() {
        assert_eq!(target_variable("bpfel-unknown-none", "LINKER"), "CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER");
    }

    #[test]
    fn bindings_know_one_name_for_all_riscv64() {
        assert_eq!(bpf_target_arch("riscv64gc"), "riscv64");
        assert_eq!(bpf_target_arch("x86_64"), "x86_64");
    }
}
