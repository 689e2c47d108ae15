//! One agent per pin directory, and a way to tell a live agent's pins from a dead one's.
//!
//! The lock file lies under /run, named after the pin directory and the bpffs it is on (bpffs holds no plain files).
//! A running agent holds an open-file-description lock on it, which the kernel drops with the process, however it
//! ends. Readers ask who holds the lock without taking it, so that they never get in an agent's way. The file's first
//! line is the agent's process; each further line is an attachment that would outlive it, see [`super::clsact`].

use std::{
    fmt::Display,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use anyhow::Context;

const FOLDER: &str = "/run/tcp-observer";

/// Who holds the lock of a pin directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// An agent that runs.
    Running(u32),
    /// Nobody, but an agent once did and did not clean up.
    Gone(u32),
    /// There is no lock file to be seen.
    Unknown,
}

/// The lock, for as long as it lives.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

/// What an agent that did not clean up has left in its lock file, beyond its process.
#[derive(Debug, Default)]
pub struct Leftover {
    pub pid: u32,
    pub attachments: Vec<String>,
}

impl Lock {
    /// Takes the lock. What a dead agent noted comes with it, and stays noted until [`Self::note`] replaces it.
    ///
    /// # Errors
    /// When another agent holds it, with its process.
    pub fn take(pin_dir: &Path) -> anyhow::Result<(Self, Option<Leftover>)> {
        let path = path_of(pin_dir);
        let cannot = || format!("cannot lock `{}`", path.display());
        fs::create_dir_all(FOLDER).with_context(|| format!("cannot create `{FOLDER}`"))?;
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                .open(&path)
                .with_context(cannot)?;
            match lock_operation(&file, libc::F_OFD_SETLK) {
                Ok(_) => {}
                Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
                    let pid = read(&file).map_or(0, |left| left.pid);
                    anyhow::bail!(
                        "an agent is already running with pin directory `{}` (process {pid}); \
                         stop it, or choose another one with `--pin-dir`",
                        pin_dir.display()
                    );
                }
                Err(error) => return Err(error).with_context(cannot),
            }
            // An agent that stopped between our opening and our locking has removed the file.
            if is_same_file(&file, &path) {
                let leftover = read(&file).filter(|left| left.pid != 0);
                return Ok((Self { file, path }, leftover));
            }
        }
    }

    /// Replaces what the lock file says: this process, and what would outlive it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note<T: Display>(&self, attachments: &[T]) -> anyhow::Result<()> {
        let mut text = format!("{}\n", std::process::id());
        for line in attachments {
            text.push_str(&line.to_string());
            text.push('\n');
        }
        let write = || {
            let mut file = &self.file;
            file.rewind()?;
            file.write_all(text.as_bytes())?;
            file.set_len(text.len() as u64)
        };
        write().with_context(|| format!("cannot write `{}`", self.path.display()))
    }

    /// Gives the lock up, after everything that it stands for is gone.
    pub fn release(self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("cannot remove `{}`: {error}", self.path.display());
        }
    }
}

fn is_same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(opened), Ok(there)) => (opened.dev(), opened.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Who holds the lock of this pin directory.
pub fn holder(pin_dir: &Path) -> Holder {
    // For writing, since asking about a write lock needs that; without the privilege nothing can be said.
    let Ok(file) = OpenOptions::new().read(true).write(true).open(path_of(pin_dir)) else {
        return Holder::Unknown;
    };
    let pid = read(&file).unwrap_or_default().pid;
    match lock_operation(&file, libc::F_OFD_GETLK) {
        Ok(free) if free => Holder::Gone(pid),
        Ok(_) => Holder::Running(pid),
        Err(_) => Holder::Unknown,
    }
}

/// Asks for, or about, a write lock on the whole file; whether it is (or was) free.
fn lock_operation(file: &File, operation: libc::c_int) -> io::Result<bool> {
    // SAFETY: a flock structure is integers only.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    // SAFETY: `lock` is a flock structure for the kernel to read and write.
    if unsafe { libc::fcntl(file.as_raw_fd(), operation, &raw mut lock) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(operation == libc::F_OFD_SETLK || lock.l_type == libc::F_UNLCK as libc::c_short)
}

fn read(mut file: &File) -> Option<Leftover> {
    let mut text = String::new();
    file.rewind().and_then(|()| file.read_to_string(&mut text)).ok()?;
    let mut lines = text.lines();
    let pid = lines.next()?.trim().parse().ok()?;
    Some(Leftover { pid, attachments: lines.map(str::to_owned).collect() })
}

/// The lock file of a pin directory: one bpffs may be mounted where another namespace has another one.
fn path_of(pin_dir: &Path) -> PathBuf {
    let device = pin_dir.ancestors().find_map(|path| fs::metadata(path).ok()).map_or(0, |metadata| metadata.dev());
    Path::new(FOLDER).join(file_name(pin_dir, device))
}

fn file_name(pin_dir: &Path, device: u64) -> String {
    let name: String = pin_dir
        .to_string_lossy()
        .trim_matches('/')
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() || "._-".contains(letter) { letter } else { '+' })
        .collect();
    format!("{name}@{device:x}.lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_the_pin_directory_and_tell_file_systems_apart() {
        let of = |path: &str, device| file_name(Path::new(path), device);
        assert_eq!(of("/sys/fs/bpf/tcp-observer", 0x1f), "sys+fs+bpf+tcp-observer@1f.lock");
        assert_ne!(of("/sys/fs/bpf/a", 1), of("/sys/fs/bpf/a", 2));
    }

    #[test]
    fn a_lock_is_seen_as_held_until_its_file_is_closed() {
        let path = std::env::temp_dir().join(format!("tcp-observer-lock-{}", std::process::id()));
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).unwrap();
        let (holder, asker) = (open(), open());
        assert!(lock_operation(&asker, libc::F_OFD_GETLK).unwrap());
        lock_operation(&holder, libc::F_OFD_SETLK).unwrap();
        assert!(!lock_operation(&asker, libc::F_OFD_GETLK).unwrap());
        assert!(lock_operation(&asker, libc::F_OFD_SETLK).is_err());
        drop(holder);
        assert!(lock_operation(&asker, libc::F_OFD_GETLK).unwrap());
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_lock_file_gives_the_process_and_its_attachments_back() {
        let path = std::env::temp_dir().join(format!("tcp-observer-note-{}", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        let lock = Lock { file, path };
        lock.note(&["one", "two"]).unwrap();
        lock.note(&["three"]).unwrap();
        let left = read(&lock.file).unwrap();
        assert_eq!((left.pid, left.attachments), (std::process::id(), vec!["three".to_owned()]));
        lock.release();
    }
}
