//! The kernel programs as an object file, for tests that load them without an agent.

use std::{env, fs, path::Path};

/// The bytes of `TCP_OBSERVER_EBPF_OBJECT`, else of what `cargo xtask build` has left.
///
/// # Panics
/// When there is none.
pub fn bytes() -> Vec<u8> {
    let path = env::var_os("TCP_OBSERVER_EBPF_OBJECT").filter(|path| !path.is_empty()).map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ebpf/bpfel-unknown-none/release/tcp-observer-ebpf"),
        Into::into,
    );
    fs::read(&path).unwrap_or_else(|error| {
        panic!("cannot read the kernel programs `{}`: {error}; build them with `cargo xtask build`", path.display())
    })
}
