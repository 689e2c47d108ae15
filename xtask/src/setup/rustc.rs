//! A rustc for the kernel programs: any that has its library's source and the right LLVM.
//!
//! The first of these that fits: `RUSTC`, the active toolchain, rustup's others, the distribution's. Where none does,
//! rustup is asked for the source of one that otherwise fits, and then the distribution for a whole compiler.

use std::{
    collections::HashSet,
    env, fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{LLVM_MAJOR, packages};
use crate::process;

/// The oldest release that compiles the workspace (`rust-version` in `Cargo.toml`).
const OLDEST: (u32, u32) = (1, 95);

/// Debian's compiler for building its browsers: newer than the release's own, and its source is packaged.
const DEBIAN_PACKAGES: &[&str] = &["rustc-web", "rust-web-src"];

/// rustup downloads three megabytes, or fails at once; on a network that answers nothing it would wait.
const RUSTUP_LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rustc {
    pub path: PathBuf,
    sysroot: PathBuf,
    release: String,
    llvm: String,
    has_source: bool,
}

pub fn ensure() -> Result<Rustc> {
    let candidates = candidates();
    if let Some(rustc) = first_fit(&candidates) {
        return Ok(rustc);
    }
    if let Some(rustc) = candidates.iter().find(|rustc| rustc.lacks() == ["its library's source"])
        && let Some(toolchain) = rustc.rustup_toolchain()
    {
        eprintln!("setup: adding the library's source to the toolchain {toolchain} (up to a minute)");
        let mut command = Command::new("rustup");
        command.args(["component", "add", "rust-src", "--toolchain", &toolchain]);
        match process::run_within(RUSTUP_LIMIT, &mut command) {
            Ok(()) => return first_fit(&self::candidates()).context(format!("{rustc} has no source even now")),
            Err(error) => eprintln!("setup: {error:#}; trying the distribution's compiler"),
        }
    }
    if packages::are_debian() {
        let names = DEBIAN_PACKAGES.join(" ");
        eprintln!("setup: installing {names}: a compiler with its library's source (about a minute)");
        match packages::install(DEBIAN_PACKAGES) {
            Ok(()) if let Some(rustc) = first_fit(&self::candidates()) => return Ok(rustc),
            Ok(()) => eprintln!("setup: {names} are installed, and do not fit"),
            Err(error) => eprintln!("setup: {error:#}"),
        }
    }
    bail!("{}", explain_misfits(&self::candidates()))
}

fn first_fit(candidates: &[Rustc]) -> Option<Rustc> {
    candidates.iter().find(|rustc| rustc.lacks().is_empty()).cloned()
}

/// Every rustc of this machine, in the order of preference, each once.
fn candidates() -> Vec<Rustc> {
    let mut paths = vec![env::var_os("RUSTC").map(PathBuf::from).unwrap_or_default(), "rustc".into()];
    let mut others: Vec<_> = rustup_toolchains().map(|toolchain| toolchain.join("bin/rustc")).collect();
    others.sort();
    paths.append(&mut others);
    paths.push("/usr/bin/rustc".into());
    let mut seen = HashSet::new();
    paths.iter().filter_map(|path| Rustc::probe(path)).filter(|rustc| seen.insert(rustc.sysroot.clone())).collect()
}

fn rustup_home() -> Option<PathBuf> {
    let home = || env::home_dir().map(|home| home.join(".rustup"));
    env::var_os("RUSTUP_HOME").map(PathBuf::from).or_else(home)
}

fn rustup_toolchains() -> impl Iterator<Item = PathBuf> {
    let entries = rustup_home().and_then(|home| fs::read_dir(home.join("toolchains")).ok());
    entries.into_iter().flatten().flatten().map(|entry| entry.path())
}

fn explain_misfits(candidates: &[Rustc]) -> String {
    let mut text = format!(
        "no rustc here can build the kernel programs (it takes {}.{} or later, LLVM {LLVM_MAJOR} and the library's \
         source)",
        OLDEST.0, OLDEST.1
    );
    for rustc in candidates {
        text += &format!("\n  {rustc} lacks {}", rustc.lacks().join(", "));
    }
    text + "\nrun `rustup component add rust-src` for a toolchain that lacks only its source, or install the \
            distribution's rustc and its source, and name it with RUSTC=/path/to/rustc"
}

impl Rustc {
    /// Asks a rustc about itself; `None` when there is no such program.
    fn probe(path: &Path) -> Option<Self> {
        if path.as_os_str().is_empty() {
            return None;
        }
        // The library path is that of the toolchain that runs this program, which is nothing to another one.
        let ask =
            |argument: &[&str]| process::output_of(Command::new(path).args(argument).env_remove("LD_LIBRARY_PATH"));
        let sysroot = PathBuf::from(ask(&["--print", "sysroot"])?.trim());
        let version = ask(&["-vV"])?;
        let real = sysroot.join("bin/rustc");
        Some(Self {
            path: if real.is_file() { real } else { path.to_path_buf() },
            release: field(&version, "release")?.to_owned(),
            llvm: field(&version, "LLVM version").unwrap_or("none").to_owned(),
            has_source: sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file(),
            sysroot,
        })
    }

    /// What keeps this rustc from building the kernel programs.
    fn lacks(&self) -> Vec<String> {
        let mut lacks = Vec::new();
        if release_of(&self.release).is_none_or(|release| release < OLDEST) {
            lacks.push(format!("the age of {}.{}", OLDEST.0, OLDEST.1));
        }
        if leading_number(&self.llvm) != Some(LLVM_MAJOR) {
            lacks.push(format!("LLVM {LLVM_MAJOR} (it has {})", self.llvm));
        }
        if !self.has_source {
            lacks.push("its library's source".to_owned());
        }
        lacks
    }

    /// The cargo that came with it, or the one that started this program when it has none of its own.
    pub fn cargo(&self) -> PathBuf {
        let beside = self.sysroot.join("bin/cargo");
        let version = process::output_of(Command::new(&beside).arg("--version").env_remove("LD_LIBRARY_PATH"));
        let release = version.as_deref().and_then(|version| version.split(' ').nth(1)).and_then(release_of);
        if release.is_some() && release == release_of(&self.release) {
            return beside;
        }
        process::cargo().get_program().into()
    }

    /// The shared library of its LLVM.
    pub fn llvm_library(&self) -> Result<PathBuf> {
        let folders = [
            self.sysroot.join("lib"),
            self.sysroot.join("lib64"),
            self.sysroot.join(format!("lib/{}-linux-gnu", env::consts::ARCH)),
            self.sysroot.join(format!("lib/llvm-{LLVM_MAJOR}/lib")),
        ];
        let files = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        let libraries = files.map(|entry| entry.path()).filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            library_major(name) == Some(LLVM_MAJOR)
        });
        // Beside the library there may be a linker script of the same name: of some dozens of bytes.
        let largest = libraries.max_by_key(|path| fs::metadata(path).map_or(0, |metadata| metadata.len()));
        let Some(library) = largest else {
            bail!(
                "{self} brings no shared LLVM library (`libLLVM*{LLVM_MAJOR}*` in `{}`), which bpf-linker has to load; \
                 name another compiler with RUSTC=/path/to/rustc",
                folders[0].display()
            );
        };
        fs::canonicalize(&library).with_context(|| format!("cannot find `{}`", library.display()))
    }

    /// Its name in rustup, when rustup installed it.
    fn rustup_toolchain(&self) -> Option<String> {
        process::find("rustup")?;
        let folder = rustup_toolchains().find(|folder| *folder == self.sysroot)?;
        Some(folder.file_name()?.to_str()?.to_owned())
    }
}

impl fmt::Display for Rustc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rustc {} ({})", self.release, self.path.display())
    }
}

fn field<'a>(version: &'a str, name: &str) -> Option<&'a str> {
    version.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::trim)
}

fn release_of(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The major version in the name of an LLVM library: `libLLVM-22-rust-1.95.0-stable.so`, `libLLVM.so.22.1`.
fn library_major(name: &str) -> Option<u32> {
    let rest = name.strip_prefix("libLLVM")?;
    let rest = rest.strip_prefix(".so").unwrap_or(rest);
    leading_number(rest.strip_prefix(['-', '.'])?)
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rustc(release: &str, llvm: &str, has_source: bool) -> Rustc {
        let sysroot = PathBuf::from("/opt/rust");
        Rustc {
            path: sysroot.join("bin/rustc"),
            sysroot,
            release: release.to_owned(),
            llvm: llvm.to_owned(),
            has_source,
        }
    }

    #[test]
    fn the_first_that_lacks_nothing_is_taken() {
        let candidates = [
            rustc("1.95.0", "22.1.2", false),
            rustc("1.98.0-nightly", "23.0.0", true),
            rustc("1.90.0", "22.1.0", true),
            rustc("1.96.0", "22.1.8", true),
            rustc("1.97.0-nightly", "22.1.8", true),
        ];
        assert_eq!(first_fit(&candidates), Some(candidates[3].clone()));
        assert_eq!(first_fit(&candidates[..3]), None);
    }

    #[test]
    fn a_misfit_is_told_what_it_lacks() {
        assert_eq!(rustc("1.96.0", "22.1.8", true).lacks(), [] as [&str; 0]);
        assert_eq!(
            rustc("1.63.0", "14.0.6", false).lacks(),
            ["the age of 1.95", "LLVM 22 (it has 14.0.6)", "its library's source"]
        );
        let text = explain_misfits(&[rustc("1.98.0-nightly", "23.0.1", true)]);
        assert!(text.contains("rustc 1.98.0-nightly (/opt/rust/bin/rustc) lacks LLVM 22 (it has 23.0.1)"), "{text}");
    }

    #[test]
    fn versions_are_read_from_what_rustc_says() {
        let text = "rustc 1.96.0 (ac68faa20 2026-05-25)\nbinary: rustc\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(field(text, "release"), Some("1.96.0"));
        assert_eq!(field(text, "LLVM version"), Some("22.1.8"));
        assert_eq!(field(text, "host"), None);
        assert_eq!(release_of("1.97.0-nightly"), Some((1, 97)));
        assert_eq!(release_of("unknown"), None);
    }

    #[test]
    fn library_names_tell_their_major_version() {
        assert_eq!(library_major("libLLVM-22-rust-1.95.0-stable.so"), Some(22));
        assert_eq!(library_major("libLLVM.so.22.1-rust-1.95.0-stable"), Some(22));
        assert_eq!(library_major("libLLVM.so.22.1"), Some(22));
        assert_eq!(library_major("libLLVM-14.0.6.so.1"), Some(14));
        assert_eq!(library_major("libLLVM.so"), None);
        assert_eq!(library_major("libLLVMCore.so.22"), None);
        assert_eq!(library_major("librustc_driver-22.so"), None);
    }
}
