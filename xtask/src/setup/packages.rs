//! The commands that the kernel tests call, and the Debian packages that bring them.

use std::fs;

use anyhow::{Context, Result, anyhow, bail};

use crate::process;

/// A command, the Debian package that has it, and what the tests want of it.
struct Needed {
    command: &'static str,
    package: &'static str,
    purpose: &'static str,
}

const fn needed(command: &'static str, package: &'static str, purpose: &'static str) -> Needed {
    Needed { command, package, purpose }
}

const NEEDED: &[Needed] = &[
    needed("ip", "iproute2", "network namespaces and veth pairs"),
    needed("ss", "iproute2", "what the kernel says of its sockets"),
    needed("tc", "iproute2", "filters that share a hook with ours"),
    needed("nft", "nftables", "dropping chosen segments"),
    needed("sysctl", "procps", "settings of a network namespace"),
    needed("bpftool", "bpftool", "what is attached and pinned"),
    needed("tcpdump", "tcpdump", "captures to replay"),
    needed("tshark", "tshark", "an independent reading of captures"),
    needed("promtool", "prometheus", "checking the exposition"),
    needed("curl", "curl", "scrapes and short connections"),
    needed("nginx", "nginx-light", "a real server"),
    needed("iperf3", "iperf3", "real load"),
    needed("wrk", "wrk", "requests in great numbers"),
    needed("nmap", "nmap", "port scans"),
];

/// What booting other kernels takes besides.
const NEEDED_BY_GUESTS: &[Needed] = &[
    needed("busybox", "busybox-static", "the first steps of a guest"),
    needed("modprobe", "kmod", "a kernel's modules"),
    needed("mke2fs", "e2fsprogs", "a guest's disk"),
];

/// What emulates the machines that guests are.
const EMULATORS: &[Needed] = &[
    needed("qemu-system-x86_64", "qemu-system-x86", "booting other kernels"),
    needed("qemu-system-aarch64", "qemu-system-arm", "booting other machines' kernels"),
];

/// Keeps the packages' services from being started, as in any build environment, and tidies up after itself.
const INSTALL: &str = r#"
set -e
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
lock='-o DPkg::Lock::Timeout=120'
install() { apt-get install -q -y --no-install-recommends $lock "$@"; }
# Lists that are missing or too old to name files that still exist are fetched; others are left alone.
ls /var/lib/apt/lists/*_Packages* >/dev/null 2>&1 || apt-get update -q $lock
install "$@" || { apt-get update -q $lock && install "$@"; }
"#;

pub fn ensure_test_commands() -> Result<()> {
    ensure_commands(NEEDED, "the kernel tests")
}

/// What guests take that this emulates, and what the tests call in them.
pub fn ensure_vm_commands(emulator: &str) -> Result<()> {
    ensure_test_commands()?;
    ensure_commands(NEEDED_BY_GUESTS, "other kernels")?;
    let mut emulators = EMULATORS.chunks(1);
    let emulator = emulators.find(|one| one.iter().any(|needed| needed.command == emulator));
    ensure_commands(emulator.context("nothing is known to emulate that machine")?, "other kernels")
}

/// The commands that the kernel tests call.
pub fn test_commands() -> Vec<&'static str> {
    NEEDED.iter().map(|needed| needed.command).collect()
}

fn ensure_commands(needed: &'static [Needed], user: &str) -> Result<()> {
    let missing = missing(needed, |command| process::find(command).is_some());
    if missing.is_empty() {
        return Ok(());
    }
    let packages = packages_of(&missing);
    let list = packages.join(" ");
    if !are_debian() {
        bail!("setup failed at the commands of {user}: {}", explain(&missing));
    }
    eprintln!("setup: installing {list} for {user} (up to two minutes)");
    install(&packages).with_context(|| format!("setup failed at the commands of {user}"))
}

pub fn are_debian() -> bool {
    fs::exists("/etc/debian_version").unwrap_or(false) && process::find("apt-get").is_some()
}

pub fn install(packages: &[&str]) -> Result<()> {
    let mut command = process::as_root("installing packages", "sh")?;
    process::run_quietly(command.args(["-c", INSTALL, "install"]).args(packages)).map_err(|error| {
        // The script is ours and long; what went wrong is in apt's own words after it.
        let text = error.to_string();
        let said = text.split_once(" failed (").map_or(text.as_str(), |(_, said)| said);
        anyhow!("`apt-get install {}` failed ({said}", packages.join(" "))
    })
}

fn missing(needed: &'static [Needed], is_here: impl Fn(&str) -> bool) -> Vec<&'static Needed> {
    needed.iter().filter(|needed| !is_here(needed.command)).collect()
}

fn packages_of(missing: &[&Needed]) -> Vec<&'static str> {
    let mut packages: Vec<_> = missing.iter().map(|needed| needed.package).collect();
    packages.dedup();
    packages
}

fn explain(missing: &[&Needed]) -> String {
    let mut text = "install these commands with your distribution's packages (in brackets: Debian's)".to_owned();
    for Needed { command, package, purpose } in missing {
        text += &format!("\n  {command} [{package}]: {purpose}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_named_once() {
        let missing = missing(NEEDED, |command| !matches!(command, "ip" | "ss" | "curl"));
        assert_eq!(packages_of(&missing), ["iproute2", "curl"]);
    }

    #[test]
    fn nothing_is_missing_where_everything_is_here() {
        assert!(missing(NEEDED, |_| true).is_empty());
    }

    #[test]
    fn elsewhere_the_commands_are_named_with_their_purpose() {
        let text = explain(&missing(NEEDED, |command| command != "nft"));
        assert!(text.ends_with("\n  nft [nftables]: dropping chosen segments"), "{text}");
    }
}
