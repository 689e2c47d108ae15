//! Debian's packages for a guest: this machine's apt for one of its kind, and for another kind one that has its lists and
//! packages in a directory of its own, from the same sources. Nothing is installed on this machine.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::machine::Machine;
use crate::process;

/// What a guest of another kind needs to start, and what the kernel tests call most.
const PACKAGES: &[&str] = &[
    "bash",
    "bpftool",
    "busybox-static",
    "coreutils",
    "curl",
    "dash",
    "grep",
    "iproute2",
    "kmod",
    "mount",
    "netbase",
    "nftables",
    "procps",
    "sed",
    "tcpdump",
    "util-linux",
];

pub struct Apt {
    /// Where another kind's are, and the configuration that says so.
    directory: Option<PathBuf>,
}

impl Apt {
    /// Under `directory`, if need be.
    pub fn new(machine: Machine, directory: &Path) -> Result<Self> {
        if machine == Machine::ours()? {
            return Ok(Self { directory: None });
        }
        let directory = directory.join("apt");
        for name in ["lists/partial", "cache/archives/partial"] {
            let name = directory.join(name);
            fs::create_dir_all(&name).with_context(|| format!("cannot create `{}`", name.display()))?;
        }
        let apt = Self { directory: Some(directory.clone()) };
        // Nothing is installed there, as far as this apt knows.
        write(&directory.join("status"), "")?;
        write(&directory.join("apt.conf"), &configuration(machine, &directory))?;
        Ok(apt)
    }

    /// `apt-get` or `apt-cache`.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        if let Some(directory) = &self.directory {
            command.env("APT_CONFIG", directory.join("apt.conf"));
        }
        command
    }

    /// Gets the lists anew.
    pub fn update(&self) -> Result<()> {
        let mut update = match &self.directory {
            Some(_) => self.command("apt-get"),
            None => process::as_root("updating the package lists", "apt-get")?,
        };
        process::run_quietly(update.args(["update", "-q"]))
    }

    /// The files of a guest that cannot have this machine's; `None` for one that can.
    pub fn root(&self) -> Result<Option<PathBuf>> {
        let Some(directory) = &self.directory else { return Ok(None) };
        let (part, root) = (directory.join("part"), directory.join("root"));
        if root.is_dir() {
            return Ok(Some(root));
        }
        eprintln!("vm: downloading {} and what they need", PACKAGES.join(" "));
        let install = || {
            let mut install = self.command("apt-get");
            install.args(["install", "-q", "-y", "--no-install-recommends", "--download-only"]);
            process::run_quietly(install.args(PACKAGES))
        };
        // No lists yet, or old ones.
        install().or_else(|_| self.update().and_then(|()| install()))?;
        if part.exists() {
            fs::remove_dir_all(&part).with_context(|| format!("cannot remove `{}`", part.display()))?;
        }
        let archives = directory.join("cache/archives");
        let entries = fs::read_dir(&archives).with_context(|| format!("cannot read `{}`", archives.display()))?;
        let packages = entries.flatten().map(|entry| entry.path());
        for package in packages.filter(|path| path.extension().is_some_and(|extension| extension == "deb")) {
            process::run_quietly(Command::new("dpkg-deb").arg("-x").args([&package, &part]))?;
        }
        let shell = part.join("bin/sh");
        if !shell.exists() {
            symlink("dash", &shell).with_context(|| format!("cannot link `{}`", shell.display()))?;
        }
        // Into place as a whole: what is there is taken for complete.
        fs::rename(&part, &root).with_context(|| format!("cannot rename `{}`", part.display()))?;
        Ok(Some(root))
    }
}

fn configuration(machine: Machine, directory: &Path) -> String {
    let (architecture, directory) = (machine.debian(), directory.display());
    format!(
        "APT::Architecture \"{architecture}\";\nAPT::Architectures {{ \"{architecture}\"; }};\n\
         Acquire::Languages \"none\";\nAPT::Sandbox::User \"\";\n\
         Dir::State \"{directory}\";\nDir::State::status \"{directory}/status\";\nDir::Cache \"{directory}/cache\";\n"
    )
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_kind_of_machine_has_lists_of_its_own() {
        let text = configuration(Machine::Aarch64, Path::new("/there/apt"));
        assert!(text.starts_with("APT::Architecture \"arm64\";\n"), "{text}");
        assert!(
            text.contains("Dir::State \"/there/apt\";\n") && text.contains("Dir::Cache \"/there/apt/cache\";\n"),
            "{text}"
        );
    }
}
