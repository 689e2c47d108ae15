//! What must be true of the machine and of this process before programs are loaded.
//!
//! Each check fails with one line that names the object and the remedy. The same checks, one by one, are what
//! `tcp-observer doctor` shows.

use std::{fs, path::Path};

use anyhow::Context;

use crate::exit::Failure;

/// Where the kernel describes its own types.
pub const BTF: &str = "/sys/kernel/btf/vmlinux";

/// What older kernels lack: `bpf_for_each_map_elem` came with 5.13, and 5.15 is the first long-term one after it.
pub const OLDEST_KERNEL: (u32, u32) = (5, 15);

/// TCX: links for tc programs, with an order.
pub const TCX_KERNEL: (u32, u32) = (6, 6);

/// Everything that makes loading hopeless, and a warning for what may.
///
/// # Errors
/// With [`Failure::Unavailable`] for missing privilege; an old kernel.
pub fn check() -> anyhow::Result<()> {
    let status = fs::read_to_string("/proc/self/status").context("cannot read `/proc/self/status`")?;
    if let Some(missing) = missing_capabilities(effective_capabilities(&status)) {
        return Err(Failure::unavailable(format!(
            "not enough privilege to observe packets: {missing} missing; run this as root (sudo), or grant CAP_BPF, \
             CAP_NET_ADMIN and CAP_PERFMON"
        )));
    }
    let release = kernel_release();
    if kernel_version(&release).is_some_and(|version| version < OLDEST_KERNEL) {
        let (major, minor) = OLDEST_KERNEL;
        anyhow::bail!("kernel {release} is too old: Linux {major}.{minor} or newer is needed");
    }
    if !Path::new(BTF).exists() {
        tracing::warn!("`{BTF}` is missing: this kernel was built without BTF (CONFIG_DEBUG_INFO_BTF)");
    }
    Ok(())
}

/// Whether the running kernel is at least this one.
pub fn kernel_is_at_least(version: (u32, u32)) -> bool {
    kernel_version(&kernel_release()).is_some_and(|running| running >= version)
}

/// The kernel's release, such as `6.1.0-18-amd64`.
pub fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The effective capabilities of this process, from the text of `/proc/self/status`.
fn effective_capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Which capabilities are missing, in words; CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON.
fn missing_capabilities(mask: u64) -> Option<String> {
    const NET_ADMIN: u32 = 12;
    const SYS_ADMIN: u32 = 21;
    const PERFMON: u32 = 38;
    const BPF: u32 = 39;
    let has = |capability: u32| mask >> capability & 1 != 0;
    let missing: Vec<&str> = [
        ("CAP_NET_ADMIN", has(NET_ADMIN)),
        ("CAP_BPF", has(BPF) || has(SYS_ADMIN)),
        ("CAP_PERFMON", has(PERFMON) || has(SYS_ADMIN)),
    ]
    .into_iter()
    .filter_map(|(name, has)| (!has).then_some(name))
    .collect();
    (!missing.is_empty()).then(|| missing.join(" and "))
}

/// Lets maps be larger than a small default on kernels that account them to the user. Newer ones account them to the
/// cgroup, so that failing here means nothing yet.
pub fn raise_memlock_limit() {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is a whole rlimit that the kernel only reads.
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) } != 0 {
        tracing::debug!("cannot raise RLIMIT_MEMLOCK: {}", std::io::Error::last_os_error());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_are_understood() {
        assert_eq!(kernel_version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(kernel_version("5.15.0-91-generic"), Some((5, 15)));
        assert_eq!(kernel_version("6.6+"), Some((6, 6)));
        assert_eq!(kernel_version("unknown"), None);
    }

    #[test]
    fn root_lacks_nothing_and_a_user_lacks_everything() {
        assert_eq!(missing_capabilities(effective_capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n")), None);
        assert_eq!(
            missing_capabilities(effective_capabilities("CapEff:\t0000000000000000")).as_deref(),
            Some("CAP_NET_ADMIN and CAP_BPF and CAP_PERFMON")
        );
    }

    #[test]
    fn the_fine_grained_capabilities_are_enough() {
        assert_eq!(missing_capabilities(1 << 12 | 1 << 38 | 1 << 39), None);
        assert_eq!(missing_capabilities(1 << 12 | 1 << 39).as_deref(), Some("CAP_PERFMON"));
    }
}
