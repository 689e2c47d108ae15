//! Debian's kernels: found, or downloaded by apt, and unpacked.
//!
//! The packages come from whatever sources this machine's apt has; they are unpacked, not installed. What is under
//! `target/vm` is taken as it is, so that a second run needs no network: to get a newer kernel, remove it.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use super::{apt::Apt, machine::Machine};
use crate::{process, setup};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kernel {
    /// Debian 12's own: no TCX, and a verifier that looks at twice the instructions where paths meet often
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13's, which Debian 12 has too
    #[value(name = "6.12")]
    V6_12,
}

/// A kernel that can be booted.
pub struct Unpacked {
    /// As `uname -r` will say it.
    pub release: String,
    pub image: PathBuf,
    /// The directory that holds `lib/modules`.
    root: PathBuf,
}

impl Kernel {
    pub fn version(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        }
    }

    /// The packages that may depend on the newest kernel of this version: which of them does is a matter of the
    /// Debian release that apt looks at.
    fn metapackages(self, machine: Machine) -> Vec<String> {
        let names = match self {
            Self::V6_1 => &["linux-image-cloud"][..],
            Self::V6_12 => &["linux-image-6.12-cloud", "linux-image-cloud"],
        };
        names.iter().map(|name| format!("{name}-{}", machine.debian())).collect()
    }

    /// Finds this kernel for a machine under `directory`, or gets it.
    pub fn ensure(self, machine: Machine, apt: &Apt, directory: &Path) -> Result<Unpacked> {
        let directory = directory.join(self.version());
        match Unpacked::find(&directory) {
            Some(unpacked) => Ok(unpacked),
            None => self.fetch(machine, apt, &directory).with_context(|| self.remedy(machine, &directory)),
        }
    }

    fn fetch(self, machine: Machine, apt: &Apt, directory: &Path) -> Result<Unpacked> {
        fs::create_dir_all(directory).with_context(|| format!("cannot create `{}`", directory.display()))?;
        if self.package_file(directory).is_none() {
            ensure!(setup::are_debian(), "there is no `apt-get` here");
            let package = self.newest_package(machine, apt)?;
            eprintln!("vm: downloading {package}");
            let mut download = apt.command("apt-get");
            process::run_quietly(download.args(["download", "-q", &package]).current_dir(directory))?;
        }
        let package = self.package_file(directory).context("the download left no package")?;
        // Into place as a whole: what is there is taken for complete.
        let (part, root) = (directory.join("part"), directory.join("root"));
        for old in [&part, &root] {
            if old.exists() {
                fs::remove_dir_all(old).with_context(|| format!("cannot remove `{}`", old.display()))?;
            }
        }
        process::run_quietly(Command::new("dpkg-deb").arg("-x").args([&package, &part]))?;
        let release = only_entry(&part.join("lib/modules"))?;
        process::run_quietly(process::administrator("depmod").arg("-b").arg(&part).arg(&release))?;
        fs::rename(&part, &root).with_context(|| format!("cannot rename `{}`", part.display()))?;
        Unpacked::find(directory).with_context(|| format!("`{}` holds no kernel", package.display()))
    }

    /// A package of this kernel that lies there: downloaded, or put there by hand.
    fn package_file(self, directory: &Path) -> Option<PathBuf> {
        let mut packages = fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
        packages.find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            path.extension().is_some_and(|extension| extension == "deb") && self.is_named(&name)
        })
    }

    /// Whether a package's name begins as those of this kernel do: 6.1 is not 6.12.
    fn is_named(self, package: &str) -> bool {
        let rest = package.strip_prefix("linux-image-").and_then(|rest| rest.strip_prefix(self.version()));
        rest.is_some_and(|rest| rest.starts_with('.'))
    }

    fn newest_package(self, machine: Machine, apt: &Apt) -> Result<String> {
        let metapackages = self.metapackages(machine);
        let known = || metapackages.iter().find_map(|name| self.dependency(apt, name));
        if let Some(package) = known() {
            return Ok(package);
        }
        // No lists yet, or old ones.
        apt.update()?;
        let names = metapackages.join("`, `");
        known().with_context(|| format!("apt knows no kernel {} by `{names}`", self.version()))
    }

    fn dependency(self, apt: &Apt, metapackage: &str) -> Option<String> {
        let text = process::output_of(apt.command("apt-cache").args(["depends", metapackage]))?;
        let mut packages = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        packages.find(|package| self.is_named(package)).map(str::to_owned)
    }

    fn remedy(self, machine: Machine, directory: &Path) -> String {
        let (version, architecture) = (self.version(), machine.debian());
        format!(
            "there is no kernel {version} to boot; add a Debian release that has it to apt's sources (bookworm has \
             6.1 and 6.12), or put a package linux-image-{version}.*-cloud-{architecture} into `{}`",
            directory.display()
        )
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Linux {}", self.version())
    }
}

impl Unpacked {
    fn find(directory: &Path) -> Option<Self> {
        let root = directory.join("root");
        let release = only_entry(&root.join("lib/modules")).ok()?;
        let image = root.join("boot").join(format!("vmlinuz-{release}"));
        image.is_file().then_some(Self { release, image, root })
    }

    /// The directory of its modules.
    pub fn modules(&self) -> PathBuf {
        self.root.join("lib/modules").join(&self.release)
    }

    /// The files of some modules, each after those that it needs.
    pub fn module_files(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for name in names {
            let mut command = process::administrator("modprobe");
            command.args(["--show-depends", "--ignore-install", "--set-version", &self.release, "--dirname"]);
            let text = process::output_of(command.arg(&self.root).arg(name))
                .with_context(|| format!("kernel {} has no module `{name}`", self.release))?;
            // `builtin name`, or `insmod path`.
            for file in text.lines().filter_map(|line| line.strip_prefix("insmod ")).map(|path| path.trim().into()) {
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        Ok(files)
    }
}

fn only_entry(directory: &Path) -> Result<String> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read `{}`", directory.display()))?;
    let names: Vec<_> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    match &names[..] {
        [name] => Ok(name.clone()),
        _ => bail!("`{}` holds {} entries instead of one", directory.display(), names.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_belongs_to_the_kernel_that_its_name_begins_with() {
        assert!(Kernel::V6_1.is_named("linux-image-6.1.0-56-cloud-amd64"));
        assert!(!Kernel::V6_1.is_named("linux-image-6.12.117+deb12-cloud-amd64"));
        assert!(Kernel::V6_12.is_named("linux-image-6.12.117+deb12-cloud-amd64_6.12.117-1~deb12u1_amd64.deb"));
        assert!(!Kernel::V6_12.is_named("linux-image-6.1.0-56-cloud-amd64"));
    }
}
