//! cargo-mutants, which changes the core in all the small ways that it can think of, one at a time.
//!
//! One version, since the list of those that are justified (docs/mutants.md) is in its words. Nothing but
//! `cargo xtask prove mutants` asks for it.

use std::{path::PathBuf, process::Command};

use anyhow::Result;

use super::cache;
use crate::process;

const VERSION: &str = "27.1.0";

/// Finds it in `PATH` or in the cache, or installs it there.
pub fn ensure_mutants() -> Result<PathBuf> {
    let root = cache()?.join(format!("cargo-mutants-{VERSION}"));
    let cached = root.join("bin/cargo-mutants");
    let said = format!("cargo-mutants {VERSION}");
    let is_right = |tool: &PathBuf| {
        process::output_of(Command::new(tool).args(["mutants", "--version"])).is_some_and(|text| text.trim() == said)
    };
    let found = process::find("cargo-mutants").into_iter().chain([cached.clone()]).find(is_right);
    if let Some(tool) = found {
        return Ok(tool);
    }
    eprintln!("setup: installing cargo-mutants {VERSION} into {} (two to five minutes)", root.display());
    let mut command = process::cargo();
    command
        .args(["install", "cargo-mutants", "--version", VERSION, "--locked", "--force", "--root"])
        .arg(&root)
        .env_remove("CARGO_TARGET_DIR");
    process::run_quietly(&mut command)?;
    Ok(cached)
}
