//! The bounds of a test: root, a mounted BPF file system, a limit of time, and no remains of runs that were killed.

use std::{
    fs,
    path::Path,
    process::{Command, abort},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

use crate::{run, wait::patience};

/// What names of namespaces and pin directories begin with; then come process id and a number.
pub const PREFIX: &str = "tcpo-";
/// The BPF file system's usual place.
pub const BPFFS: &str = "/sys/fs/bpf";
/// Where tracefs has the buffers that are a test's own.
pub const TRACE_INSTANCES: &str = "/sys/kernel/tracing/instances";
/// No test takes longer than this, whatever goes wrong, unless it says otherwise.
const LIMIT: Duration = Duration::from_secs(150);

/// A name that nothing else on the machine has.
pub fn unique_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{PREFIX}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Ends a test's limit of time when it is dropped.
#[must_use]
pub struct Bounded(#[expect(dead_code, reason = "dropping it is what the watchdog waits for")] Sender<()>);

/// To be held by each test from its first line: checks what the tests need, and ends the process, with its namespaces
/// removed, should the test hang.
#[track_caller]
pub fn bounded() -> Bounded {
    bounded_by(LIMIT)
}

/// The same with a limit of its own, for a proof that is to run for long.
#[track_caller]
pub fn bounded_by(limit: Duration) -> Bounded {
    // SAFETY: geteuid has no preconditions.
    let user = unsafe { libc::geteuid() };
    assert!(user == 0, "the kernel tests need root: run them as root, through `cargo xtask test`");
    static PREPARED: Once = Once::new();
    PREPARED.call_once(|| {
        mount_bpffs();
        remove_remains();
    });
    let limit = patience(limit);
    let (alive, ended) = mpsc::channel();
    let test = thread::current().name().unwrap_or("?").to_owned();
    thread::spawn(move || {
        if ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            eprintln!("`{test}` still runs after {limit:?}: giving up all tests of this process");
            remove_namespaces(std::process::id());
            abort();
        }
    });
    Bounded(alive)
}

fn mount_bpffs() {
    let mounted = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    if !mounted.lines().any(|line| line.split(' ').nth(1) == Some(BPFFS)) {
        run::success(Command::new("mount").args(["-t", "bpf", "bpf", BPFFS]));
    }
}

/// Removes what earlier processes left because they were killed.
fn remove_remains() {
    let names = |dir: &str| -> Vec<String> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    for name in names("/run/netns").into_iter().chain(names(BPFFS)).chain(names(TRACE_INSTANCES)) {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()).and_then(|pid| pid.parse().ok());
        if let Some(pid) = pid.filter(|pid: &u32| !Path::new("/proc").join(pid.to_string()).exists()) {
            remove_namespaces(pid);
            let _ = fs::remove_dir_all(Path::new(BPFFS).join(&name));
            let _ = fs::remove_dir(Path::new(TRACE_INSTANCES).join(name));
        }
    }
}

fn remove_namespaces(pid: u32) {
    let prefix = format!("{PREFIX}{pid}-");
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&prefix) {
            crate::namespace::remove(&name);
        }
    }
}
