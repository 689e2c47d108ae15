//! What a guest boots from: a small initramfs that finds the disk, and a disk with the tests, the agent, and the
//! commands of this machine that the tests call, each with its libraries.
//!
//! The disk's files are hard links until `mke2fs` copies them into the image, and a guest's writes to it are thrown
//! away with the guest.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::{Suite, kernel::Unpacked};
use crate::process;

/// What a guest needs to see its disk; it loads all other modules by name, when they are first used.
const BOOT_MODULES: &[&str] = &["virtio_pci", "virtio_blk"];

/// Commands of the guest's besides those of the kernel tests. Whatever else a test may call is busybox's.
const COMMANDS: &[&str] = &["sh", "mount", "setpriv", "prometheus", "busybox", "modprobe"];

/// Names to look users, protocols and services up by.
const CONFIGURATION: &[&str] =
    &["passwd", "group", "nsswitch.conf", "protocols", "services", "hosts", "iproute2/rt_tables"];

/// Directories that are there for something to be mounted, or made, in them.
const EMPTY: &[&str] = &["proc", "sys", "dev", "run", "tmp", "root", "var/tmp", "var/log"];

/// What a disk is made for.
pub struct Contents<'a> {
    /// The test binaries by name.
    pub tests: &'a [(String, PathBuf)],
    pub suite: &'a Suite,
    pub agent: &'a Path,
    pub object: &'a Path,
    pub kernels: &'a [Unpacked],
    /// This machine's commands that the tests call.
    pub commands: Vec<&'static str>,
    /// The files of a guest that cannot have this machine's.
    pub files: Option<&'a Path>,
}

/// Makes the disk image; `directory` holds it, and what it is made from.
pub fn disk(directory: &Path, contents: &Contents<'_>) -> Result<PathBuf> {
    let root = directory.join("disk");
    for name in EMPTY.iter().chain(&["usr/bin", "usr/local/bin", "tests", "etc"]) {
        create(&root.join(name))?;
    }
    match contents.files {
        Some(files) => place_all(files, &root)?,
        None => place_commands(contents, &root)?,
    }
    let tests = contents.tests.iter().map(|(name, path)| (name.as_str(), path.as_path()));
    for (name, path) in tests.chain([("tcp-observer", contents.agent)]) {
        place_stripped(path, &root.join("tests").join(name))?;
    }
    place(contents.object, &root.join("tests/tcp-observer-ebpf"))?;
    for kernel in contents.kernels {
        place_all(&kernel.modules(), &root.join("lib/modules").join(&kernel.release))?;
    }
    for name in CONFIGURATION {
        let file = Path::new("/etc").join(name);
        if file.is_file() {
            place(&file, &root.join("etc").join(name))?;
        }
    }
    write(&root.join("tests/suite"), &contents.suite.lines())?;
    write(&root.join("init"), include_str!("guest.sh"))?;
    let image = directory.join("disk.ext4");
    make_ext4(&root, &image)?;
    Ok(image)
}

/// Puts this machine's commands there, and the libraries of all programs.
fn place_commands(contents: &Contents<'_>, root: &Path) -> Result<()> {
    // One directory of commands under all its names.
    for (link, target) in [("bin", "usr/bin"), ("sbin", "usr/bin"), ("usr/sbin", "bin")] {
        symlink(target, root.join(link)).with_context(|| format!("cannot link `{link}`"))?;
    }
    for (link, target) in [("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        create(&root.join(target))?;
        symlink(target, root.join(link)).with_context(|| format!("cannot link `{link}`"))?;
    }
    let mut programs = Vec::new();
    for name in contents.commands.iter().chain(COMMANDS) {
        // A command that is missing here will be missed by the test that calls it.
        programs.extend(process::find(name).map(|path| (path, root.join("usr/bin").join(name))));
    }
    let mut libraries = BTreeSet::new();
    for (from, to) in &programs {
        place(from, to)?;
        libraries.extend(libraries_of(from)?);
    }
    for path in contents.tests.iter().map(|(_, path)| path.as_path()).chain([contents.agent]) {
        libraries.extend(libraries_of(path)?);
    }
    for library in &libraries {
        place(library, &root.join(within_root(library)?))?;
    }
    Ok(())
}

/// Makes the initramfs of a kernel; `files` as for the disk.
pub fn initramfs(directory: &Path, kernel: &Unpacked, files: Option<&Path>) -> Result<PathBuf> {
    let root = directory.join(format!("initramfs-{}", kernel.release));
    for name in ["bin", "dev", "proc", "disk", "modules"] {
        create(&root.join(name))?;
    }
    let own = files.map(|files| files.join("bin/busybox"));
    let busybox = own.or_else(|| process::find("busybox")).context("there is no `busybox`")?;
    place(&busybox, &root.join("bin/busybox"))?;
    for library in libraries_of(&busybox)? {
        place(&library, &root.join(library.strip_prefix("/").unwrap_or(&library)))?;
    }
    let mut order = String::new();
    for file in kernel.module_files(BOOT_MODULES)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        place(&file, &root.join("modules").join(&name))?;
        order += &format!("{name}\n");
    }
    write(&root.join("modules/order"), &order)?;
    write(&root.join("init"), include_str!("initramfs.sh"))?;
    let image = directory.join(format!("initramfs-{}.cpio", kernel.release));
    let archive = fs::File::create(&image).with_context(|| format!("cannot create `{}`", image.display()))?;
    let script = "find . | busybox cpio -o -H newc";
    let mut command = Command::new("sh");
    let status = command.args(["-c", script]).current_dir(&root).stdout(archive).stderr(Stdio::null()).status()?;
    if !status.success() {
        bail!("`{script}` failed ({status})");
    }
    Ok(image)
}

/// Where a library lies, by the name that programs know it by, with the directory's own name.
fn within_root(library: &Path) -> Result<PathBuf> {
    let (Some(directory), Some(name)) = (library.parent(), library.file_name()) else {
        bail!("`{}` is no file", library.display());
    };
    let directory = fs::canonicalize(directory).with_context(|| format!("cannot find `{}`", directory.display()))?;
    Ok(directory.join(name).strip_prefix("/").map(Path::to_owned)?)
}

/// The libraries of a program, the dynamic loader included; none where it is static.
fn libraries_of(program: &Path) -> Result<Vec<PathBuf>> {
    let Some(text) = process::output_of(Command::new("ldd").arg(program)) else {
        return Ok(Vec::new());
    };
    if let Some(missing) = text.lines().find(|line| line.contains("not found")) {
        bail!("`{}` lacks a library: {}", program.display(), missing.trim());
    }
    Ok(text.lines().filter_map(library).map(PathBuf::from).collect())
}

/// A line of `ldd`: `libc.so.6 => /lib/…/libc.so.6 (0x…)`, or the loader's path alone.
fn library(line: &str) -> Option<&str> {
    line.split_whitespace().find(|word| word.starts_with('/'))
}

fn make_ext4(root: &Path, image: &Path) -> Result<()> {
    let bytes = size_of_all(root)?;
    // Room for what the file system itself takes, and for what the tests write.
    let mebibytes = bytes / 1024 / 1024 * 5 / 4 + 512;
    let mut command = process::administrator("mke2fs");
    command.args(["-q", "-t", "ext4", "-O", "^has_journal", "-E", "root_owner=0:0", "-d"]).arg(root).arg(image);
    process::run_quietly(command.arg(format!("{mebibytes}M")))
}

fn size_of_all(path: &Path) -> Result<u64> {
    let metadata = fs::symlink_metadata(path).with_context(|| format!("cannot look at `{}`", path.display()))?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    let entries = fs::read_dir(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    entries.map(|entry| size_of_all(&entry?.path())).sum()
}

/// Puts a file there: as a hard link where it can be one.
fn place(from: &Path, to: &Path) -> Result<()> {
    let from = fs::canonicalize(from).with_context(|| format!("cannot find `{}`", from.display()))?;
    if let Some(directory) = to.parent() {
        create(directory)?;
    }
    let linked = fs::hard_link(&from, to);
    if linked.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
        return Ok(());
    }
    let placed = linked.or_else(|_| fs::copy(&from, to).map(drop));
    placed.with_context(|| format!("cannot copy `{}` to `{}`", from.display(), to.display()))
}

/// Puts a program there without its debug information, which is most of it.
fn place_stripped(from: &Path, to: &Path) -> Result<()> {
    // Another machine's program it may not know.
    let mut strip = Command::new("strip");
    let stripped = strip.args(["--strip-debug", "-o"]).args([to, from]).stderr(Stdio::null()).status();
    if stripped.is_ok_and(|status| status.success()) { Ok(()) } else { place(from, to) }
}

/// Puts a directory there, with all that is in it.
fn place_all(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("cannot read `{}`", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()? {
            kind if kind.is_dir() => {
                create(&target)?;
                place_all(&entry.path(), &target)?;
            }
            kind if kind.is_symlink() => symlink(fs::read_link(entry.path())?, &target)
                .with_context(|| format!("cannot link `{}`", target.display()))?,
            _ => place(&entry.path(), &target)?,
        }
    }
    Ok(())
}

fn create(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot create `{}`", directory.display()))
}

/// Writes a text that may be run.
fn write(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make `{}` executable", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_read_from_its_line() {
        assert_eq!(library("\tlibc.so.6 => /lib/libc.so.6 (0x00007f)"), Some("/lib/libc.so.6"));
        assert_eq!(library("\t/lib64/ld-linux-x86-64.so.2 (0x00007f)"), Some("/lib64/ld-linux-x86-64.so.2"));
        assert_eq!(library("\tlinux-vdso.so.1 (0x00007f)"), None);
        assert_eq!(library("\tstatically linked"), None);
    }
}
