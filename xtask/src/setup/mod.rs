//! What building and testing need, found or installed.
//!
//! Three things: a rustc with its library's source, a bpf-linker that fits its LLVM, and the commands that the kernel
//! tests call. Each is looked for first, so that a second run takes no time and no network, and is installed only
//! where that needs no decision of the user's. Every installation says what it does and how long it may take.

mod linker;
mod mutants;
mod packages;
mod rustc;

use std::{
    env, fmt, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

pub use mutants::ensure_mutants;
pub use packages::{are_debian, ensure_test_commands, ensure_vm_commands, install, test_commands};

use crate::workspace::Workspace;

/// The LLVM that the kernel programs go through: rustc writes its bitcode and bpf-linker reads it, so that both must
/// be of one major version. It changes together with [`linker::VERSION`].
const LLVM_MAJOR: u32 = 22;

/// What builds the kernel programs.
pub struct Toolchain {
    rustc: rustc::Rustc,
    linker: PathBuf,
    llvm_directory: PathBuf,
}

impl Toolchain {
    /// Finds the toolchain, or installs what it lacks.
    pub fn ensure(workspace: &Workspace) -> Result<Self> {
        let rustc = rustc::ensure().context("setup failed at the compiler of the kernel programs")?;
        let linker = linker::ensure().context("setup failed at bpf-linker")?;
        let llvm_directory = workspace.ebpf_target().join("llvm");
        offer_llvm(&rustc, &llvm_directory).context("setup failed at the LLVM library")?;
        Ok(Self { rustc, linker, llvm_directory })
    }

    pub fn rustc(&self) -> &Path {
        &self.rustc.path
    }

    pub fn cargo(&self) -> PathBuf {
        self.rustc.cargo()
    }

    pub fn linker(&self) -> &Path {
        &self.linker
    }

    pub fn llvm_directory(&self) -> &Path {
        &self.llvm_directory
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {}", self.rustc, self.linker.display())
    }
}

/// Leaves rustc's LLVM alone in a directory. bpf-linker opens the first `libLLVM*` of its library path, and where
/// distributions keep theirs there may be several, of any version.
fn offer_llvm(rustc: &rustc::Rustc, directory: &Path) -> Result<()> {
    let library = rustc.llvm_library()?;
    let link = directory.join("libLLVM.so");
    if fs::read_link(&link).is_ok_and(|target| target == library) {
        return Ok(());
    }
    fs::create_dir_all(directory).with_context(|| format!("cannot create `{}`", directory.display()))?;
    if link.symlink_metadata().is_ok() {
        fs::remove_file(&link).with_context(|| format!("cannot replace `{}`", link.display()))?;
    }
    symlink(&library, &link).with_context(|| format!("cannot link `{}`", link.display()))
}

/// Where tools of our own are, so that nobody's other version is replaced.
fn cache() -> Result<PathBuf> {
    let home = || env::home_dir().map(|home| home.join(".cache"));
    let cache = env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from).or_else(home);
    Ok(cache.context("there is no home directory to install into; set HOME or XDG_CACHE_HOME")?.join("tcp-observer"))
}
