//! bpf-linker, which turns rustc's bitcode into a BPF object with BTF.
//!
//! One version is used, because the one that reads [`LLVM_MAJOR`](super::LLVM_MAJOR) is not the newest: 0.11 and later
//! want LLVM 23. It is looked for in `PATH` and in a cache of our own, and installed there: nobody's other version is
//! replaced.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::cache;
use crate::process;

/// 0.10 takes its LLVM 22 from the Rust toolchain at run time, so that it builds without LLVM's development files.
pub(super) const VERSION: &str = "0.10.4";

pub fn ensure() -> Result<PathBuf> {
    let root = cache()?.join(format!("bpf-linker-{VERSION}"));
    let cached = root.join("bin/bpf-linker");
    let found = process::find("bpf-linker").into_iter().chain([cached.clone()]).find(|linker| is_right(linker));
    if let Some(linker) = found {
        return Ok(linker);
    }
    eprintln!("setup: installing bpf-linker {VERSION} into {} (one to three minutes)", root.display());
    let mut command = process::cargo();
    command
        .args(["install", "bpf-linker", "--version", VERSION, "--locked", "--force", "--root"])
        .arg(&root)
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTC");
    process::run_quietly(&mut command)?;
    Ok(cached)
}

fn is_right(linker: &Path) -> bool {
    process::output_of(Command::new(linker).arg("--version")).is_some_and(|said| version_of(&said) == Some(VERSION))
}

fn version_of(said: &str) -> Option<&str> {
    said.trim().strip_prefix("bpf-linker ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_what_follows_the_name() {
        assert_eq!(version_of("bpf-linker 0.10.4\n"), Some("0.10.4"));
        assert_eq!(version_of("ld 2.40"), None);
    }
}
