//! Where things are in this checkout.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The target of the kernel programs: BPF in the byte order of this machine.
pub const BPF_TARGET: &str = if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };

pub struct Workspace {
    root: PathBuf,
}

impl Workspace {
    pub fn locate() -> Self {
        // Cargo says at run time where the manifest is; a binary that is started by hand remembers where it was built.
        let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let xtask = manifest.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        Self { root: xtask.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf) }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo's target directory for all but the kernel programs.
    pub fn target(&self) -> PathBuf {
        match env::var_os("CARGO_TARGET_DIR") {
            Some(directory) if !directory.is_empty() => self.root.join(directory),
            _ => self.root.join("target"),
        }
    }

    /// The target directory of the kernel programs, apart because another compiler builds them: the two would
    /// otherwise throw away each other's work.
    pub fn ebpf_target(&self) -> PathBuf {
        self.root.join("target/ebpf")
    }

    /// The kernel programs; `tcp-observer/build.rs` looks for them here.
    pub fn ebpf_object(&self) -> PathBuf {
        ebpf_object(&self.ebpf_target())
    }

    /// Kernels and disks of virtual machines.
    pub fn vm(&self) -> PathBuf {
        self.root.join("target/vm")
    }

    pub fn agent(&self, release: bool) -> PathBuf {
        self.target().join(if release { "release" } else { "debug" }).join("tcp-observer")
    }
}

/// The kernel programs in a target directory.
pub fn ebpf_object(target: &Path) -> PathBuf {
    target.join(BPF_TARGET).join("release/tcp-observer-ebpf")
}
