//! The pin directory: where on a bpffs the maps are found by name, from the time they are complete until the agent
//! stops.

use std::{
    ffi::CString,
    fs, io,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::Path,
};

use anyhow::Context;
use tcp_observer_common::abi::map;

use crate::exit::Failure;

/// Where a bpffs belongs.
pub const BPFFS: &str = "/sys/fs/bpf";

/// What is pinned, in this order; the layout is the last, since its presence says that the others are complete.
pub const PINNED: [&str; 17] = [
    map::FLOWS_IPV4,
    map::FLOWS_IPV6,
    map::HALF_OPEN_IPV4,
    map::HALF_OPEN_IPV6,
    map::FLOWS_IPV4_TAGS,
    map::FLOWS_IPV6_TAGS,
    map::HALF_OPEN_IPV4_TAGS,
    map::HALF_OPEN_IPV6_TAGS,
    map::COUNTERS,
    map::HANDSHAKES,
    map::PORTS,
    map::LOCAL_IPV4,
    map::LOCAL_IPV6,
    map::LOCAL_IPV4_PLACES,
    map::LOCAL_IPV6_PLACES,
    map::INTERFACES,
    map::LAYOUT,
];

/// Makes sure that the pin directory will be on a bpffs, and mounts one in the usual place when there is none.
///
/// # Errors
/// When it is elsewhere, or when mounting is not allowed.
pub fn prepare_bpffs(pin_dir: &Path) -> anyhow::Result<()> {
    if is_on_bpffs(pin_dir) {
        return Ok(());
    }
    if !pin_dir.starts_with(BPFFS) {
        return Err(Failure::usage(format!(
            "pin directory `{}` is not on a bpffs; choose one under `{BPFFS}` with `--pin-dir`",
            pin_dir.display()
        )));
    }
    mount_bpffs()
        .with_context(|| format!("no bpffs at `{BPFFS}`, and mounting one failed; try `mount -t bpf bpf {BPFFS}`"))?;
    tracing::info!("mounted a bpffs at `{BPFFS}`, where there was none");
    Ok(())
}

/// Whether this path is, or would be, on a bpffs.
pub fn is_on_bpffs(path: &Path) -> bool {
    path.ancestors().find(|path| path.exists()).is_some_and(|existing| file_system(existing) == Some(BPF_FS_MAGIC))
}

/// `BPF_FS_MAGIC` of `include/uapi/linux/magic.h`.
const BPF_FS_MAGIC: u32 = 0xcafe_4a11;

fn file_system(path: &Path) -> Option<u32> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: a statfs structure is integers only.
    let mut status: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is terminated, and `status` is a statfs for the kernel to fill.
    let result = unsafe { libc::statfs(path.as_ptr(), &raw mut status) };
    // The type's width and sign differ between architectures; the magic number has 32 bits.
    (result == 0).then_some(status.f_type as u32)
}

fn mount_bpffs() -> io::Result<()> {
    // SAFETY: all three are terminated strings; there is no data.
    let result = unsafe { libc::mount(c"bpf".as_ptr(), c"/sys/fs/bpf".as_ptr(), c"bpf".as_ptr(), 0, std::ptr::null()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the pin directory, for root's eyes only: it leads to every address that this host speaks with.
///
/// # Errors
/// When it cannot be made.
pub fn create(pin_dir: &Path) -> anyhow::Result<()> {
    let make = || {
        fs::create_dir_all(pin_dir)?;
        fs::set_permissions(pin_dir, fs::Permissions::from_mode(0o700))
    };
    make().with_context(|| format!("cannot create pin directory `{}`", pin_dir.display()))
}

/// Removes the pins and the directory; the number of pins that were there. The layout goes first, so that nobody
/// opens what is about to vanish.
///
/// # Errors
/// When a pin cannot be removed.
pub fn remove(pin_dir: &Path) -> anyhow::Result<usize> {
    let mut removed = 0;
    for name in PINNED.iter().rev() {
        let path = pin_dir.join(name);
        match fs::remove_file(&path) {
            Ok(()) => removed += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot remove `{}`", path.display())),
        }
    }
    match fs::remove_dir(pin_dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // Somebody else's pins, or the bpffs itself: not ours to remove.
        Err(error) => tracing::debug!("left `{}` in place: {error}", pin_dir.display()),
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_directory_elsewhere_is_wrong_usage() {
        let error = prepare_bpffs(Path::new("/proc/tcp-observer")).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Failure::Usage(_))), "{error:#}");
        assert!(error.to_string().contains("`/proc/tcp-observer` is not on a bpffs"), "{error}");
    }

    #[test]
    fn removing_takes_our_names_only_and_says_how_many() {
        let dir = std::env::temp_dir().join(format!("tcp-observer-pins-{}", std::process::id()));
        create(&dir).unwrap();
        for name in [map::LAYOUT, map::COUNTERS, "somebody_elses"] {
            fs::write(dir.join(name), "").unwrap();
        }
        assert_eq!(remove(&dir).unwrap(), 2);
        assert!(dir.join("somebody_elses").exists());
        fs::remove_file(dir.join("somebody_elses")).unwrap();
        assert_eq!(remove(&dir).unwrap(), 0);
        assert!(!dir.exists());
    }
}
