//! A network namespace that exists as long as its value does.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::Command,
    thread,
};

use crate::{bounds::unique_name, run};

/// A network namespace of the test's own, with its loopback device up.
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    #[track_caller]
    #[expect(clippy::new_without_default, reason = "it makes something outside this process")]
    pub fn new() -> Self {
        let name = unique_name();
        run::success(Command::new("ip").args(["netns", "add", &name]));
        let file = File::open(format!("/run/netns/{name}")).expect("a namespace just made can be opened");
        let namespace = Self { name, file };
        namespace.ip("link set lo up");
        namespace
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run in this namespace. Only the network changes: mounts stay, and with them the BPF file
    /// system. The command ends with the thread that started it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let namespace = self.file.as_raw_fd();
        // SAFETY: setns and prctl are async-signal-safe, and the file is open as long as the namespace lives.
        unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                enter(namespace)
            });
        }
        command
    }

    /// Runs `ip` with these words in this namespace; it has to succeed.
    #[track_caller]
    pub fn ip(&self, words: &str) -> String {
        run::success(self.command("ip").args(words.split_whitespace()))
    }

    /// Calls a function on a thread inside this namespace: sockets that it opens belong there.
    pub fn within<T: Send>(&self, call: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                enter(self.file.as_raw_fd()).expect("cannot enter the namespace");
                call()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread into this namespace for good: sockets that it opens from now on belong there.
    pub fn move_in(&self) {
        enter(self.file.as_raw_fd()).expect("cannot enter the namespace");
    }

    /// Sets a sysctl of the network, named by its path below /proc/sys/net.
    #[track_caller]
    pub fn sysctl(&self, path: &str, value: &str) {
        self.within(|| fs::write(format!("/proc/sys/net/{path}"), value))
            .unwrap_or_else(|error| panic!("cannot set net/{path} to {value}: {error}"));
    }

    /// Drops what a rule of nft describes, on the way in.
    #[track_caller]
    pub fn drop_incoming(&self, rule: &str) {
        self.filter("input", &format!("{rule} drop"));
    }

    /// The same on the way out, before any hook of the observer.
    #[track_caller]
    pub fn drop_outgoing(&self, rule: &str) {
        self.filter("output", &format!("{rule} drop"));
    }

    /// Adds a rule of nft, verdict included, to the chain of a hook.
    #[track_caller]
    pub fn filter(&self, hook: &str, rule: &str) {
        let table = format!(
            "table inet test {{ chain {hook} {{ type filter hook {hook} priority 0; policy accept; {rule}; }}; }}"
        );
        run::success(self.command("nft").arg(&table));
    }

    /// Takes all rules back.
    #[track_caller]
    pub fn let_all_pass(&self) {
        run::success(self.command("nft").args(["flush", "ruleset"]));
    }

    /// The names of its interfaces, `lo` included.
    pub fn interfaces(&self) -> Vec<String> {
        let links: serde_json::Value = serde_json::from_str(&self.ip("-j link show")).expect("`ip -j` writes JSON");
        let names = links.as_array().into_iter().flatten().filter_map(|link| link["ifname"].as_str());
        names.map(str::to_owned).collect()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

fn enter(namespace: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open; setns only reads it.
    match unsafe { libc::setns(namespace, libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends what still runs in a namespace, and removes it.
pub(crate) fn remove(name: &str) {
    let pids = Command::new("ip").args(["netns", "pids", name]).output().map(|output| output.stdout);
    for pid in String::from_utf8_lossy(&pids.unwrap_or_default()).lines().filter_map(|pid| pid.trim().parse().ok()) {
        // A thread of this very process may be inside.
        if pid != std::process::id() as i32 {
            // SAFETY: kill has no memory to misuse.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }
    let _ = Command::new("ip").args(["netns", "del", name]).output();
}
