//! Embeds the kernel programs and says what was built.
//!
//! The BPF object is built by `cargo xtask build`, not here: this script only copies it, so that a checkout without
//! a BPF toolchain still checks and tests. Where there is none, an empty object is embedded, and the program says so
//! when it is asked to load it. `TCP_OBSERVER_EBPF_OBJECT` names another object.
//!
//! In the crate: `aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tcp-observer-ebpf"))`,
//! `env!("TCP_OBSERVER_COMMIT")`, `env!("TCP_OBSERVER_RUSTC")`.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

const OBJECT: &str = "TCP_OBSERVER_EBPF_OBJECT";

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(variable("OUT_DIR"));
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("..");
    describe_build(&root);
    match embed_object(&root, &out.join("tcp-observer-ebpf")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("cargo::error={message}");
            ExitCode::FAILURE
        }
    }
}

fn embed_object(root: &Path, destination: &Path) -> Result<(), String> {
    println!("cargo::rerun-if-env-changed={OBJECT}");
    let named = env::var_os(OBJECT).filter(|path| !path.is_empty()).map(PathBuf::from);
    let object = match &named {
        Some(path) => path.clone(),
        None => built_object(root),
    };
    println!("cargo::rerun-if-changed={}", watched(&object).display());
    let bytes = match fs::read(&object) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => Vec::new(),
        Err(error) => {
            return Err(format!(
                "cannot read the kernel programs `{}`: {error}; build them with `cargo xtask build`, or unset {OBJECT}",
                object.display()
            ));
        }
    };
    fs::write(destination, bytes).map_err(|error| format!("cannot write `{}`: {error}", destination.display()))
}

/// What cargo has to look at to notice a new object. It takes a path that does not exist for one that always changes and
/// would compile the crate each time, so until there is an object its folder is made and watched.
fn watched(object: &Path) -> &Path {
    match object.parent() {
        Some(folder) if !object.exists() && fs::create_dir_all(folder).is_ok() => folder,
        _ => object,
    }
}

/// Where `cargo xtask build` leaves the object (kept in step with `xtask/src/workspace.rs`).
fn built_object(root: &Path) -> PathBuf {
    let target = match variable("CARGO_CFG_TARGET_ENDIAN").as_str() {
        "big" => "bpfeb-unknown-none",
        _ => "bpfel-unknown-none",
    };
    root.join("target/ebpf").join(target).join("release/tcp-observer-ebpf")
}

fn describe_build(root: &Path) {
    let commit = first_line(Command::new("git").arg("-C").arg(root).args(["rev-parse", "--short=12", "HEAD"]));
    let rustc = first_line(Command::new(variable("RUSTC")).arg("--version"));
    println!("cargo::rustc-env=TCP_OBSERVER_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
    println!("cargo::rustc-env=TCP_OBSERVER_RUSTC={}", rustc.as_deref().unwrap_or("unknown"));
    // HEAD's log changes with each commit and each checkout. Where there is no git directory nothing is watched.
    for name in ["HEAD", "logs/HEAD"] {
        let path = first_line(Command::new("git").arg("-C").arg(root).args(["rev-parse", "--git-path", name]));
        if let Some(path) = path.map(|path| root.join(path)).filter(|path| path.exists()) {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let line = String::from_utf8(output.stdout).ok()?.lines().next()?.trim().to_owned();
    (!line.is_empty()).then_some(line)
}

/// A variable that cargo promises to a build script; empty when it does not keep its word.
fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}
