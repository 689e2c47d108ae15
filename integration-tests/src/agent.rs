//! An agent that runs in a namespace for as long as its value lives.

use std::{
    env,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use crate::{
    bounds::{BPFFS, unique_name},
    bpf,
    metrics::Metrics,
    namespace::Namespace,
    run::{self, Finished},
    wait::{SOON, patience, wait_until},
};

/// Where an agent serves its metrics: each namespace has a loopback of its own.
pub const PORT: u16 = 9477;

/// What the verification of the kernel programs may take where others want the CPUs, too.
const LOADED: Duration = Duration::from_secs(40);

/// The program under test: `TCP_OBSERVER_BIN`, else the release build of this workspace.
pub fn binary() -> PathBuf {
    let path = env::var_os("TCP_OBSERVER_BIN")
        .filter(|path| !path.is_empty())
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/tcp-observer"), PathBuf::from);
    assert!(path.exists(), "no program `{}`: build it with `cargo xtask build --release`", path.display());
    path
}

/// A running agent.
pub struct Agent<'n> {
    namespace: &'n Namespace,
    child: Child,
    pin_dir: PathBuf,
    stderr: Arc<Mutex<String>>,
    stopped: bool,
}

impl<'n> Agent<'n> {
    /// Starts `run` with these further arguments, and waits until it says it is well.
    #[track_caller]
    pub fn start(namespace: &'n Namespace, arguments: &[&str]) -> Self {
        Self::start_at(namespace, arguments, unused_pin_dir())
    }

    /// The same with a pin directory that may have been used before.
    #[track_caller]
    pub fn start_at(namespace: &'n Namespace, arguments: &[&str], pin_dir: PathBuf) -> Self {
        let mut agent = Self::spawn(namespace, run_command(namespace, &pin_dir, arguments), pin_dir);
        wait_until("the agent to answer /healthz", LOADED, || match agent.child.try_wait() {
            Ok(Some(status)) => panic!("the agent ended with {status}:\n{}", agent.stderr()),
            _ => agent.http("/healthz").and_then(|(code, body)| if code == 200 { Ok(()) } else { Err(body) }),
        });
        agent
    }

    fn spawn(namespace: &'n Namespace, mut command: Command, pin_dir: PathBuf) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stderr = Arc::new(Mutex::new(String::new()));
        let (kept, stream) = (Arc::clone(&stderr), child.stderr.take());
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            let mut stream = stream.expect("stderr is a pipe");
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                kept.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        });
        Self { namespace, child, pin_dir, stderr, stopped: false }
    }

    pub fn namespace(&self) -> &'n Namespace {
        self.namespace
    }

    pub fn pin_dir(&self) -> &Path {
        &self.pin_dir
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Whether its process still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it without a chance to clean up.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// Runs another command of the same program against this agent.
    pub fn command(&self, subcommand: &str, arguments: &[&str]) -> Finished {
        run::finish(&mut self.prepared(subcommand, arguments))
    }

    /// Such a command, to be run.
    pub fn prepared(&self, subcommand: &str, arguments: &[&str]) -> Command {
        let mut command = self.namespace.command(binary());
        command.arg(subcommand).arg("--pin-dir").arg(&self.pin_dir).args(arguments);
        command
    }

    /// The records of `dump -o json` with these further arguments.
    #[track_caller]
    pub fn dump(&self, arguments: &[&str]) -> Vec<serde_json::Value> {
        let finished = self.command("dump", &[&["-o", "json"], arguments].concat());
        assert!(finished.code == Some(0), "dump failed: {finished:#?}\nthe agent says:\n{}", self.stderr());
        let record = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON ({error}): {line}"));
        finished.stdout.lines().map(record).collect()
    }

    /// The records one of whose endpoints has this port.
    #[track_caller]
    pub fn flows_of_port(&self, port: u16) -> Vec<serde_json::Value> {
        let mut records = self.dump(&[]);
        records.retain(|record| ["originator", "responder"].iter().any(|end| record[end]["port"] == port));
        records
    }

    /// What `/metrics` says now.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&self.metrics_text())
    }

    #[track_caller]
    pub fn metrics_text(&self) -> String {
        match self.http("/metrics") {
            Ok((200, body)) => body,
            other => panic!("/metrics answers {other:?}; the agent says:\n{}", self.stderr()),
        }
    }

    /// Status and body of a page.
    pub fn http(&self, path: &str) -> Result<(u16, String), String> {
        let answer = self.namespace.within(|| fetch(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)), path));
        answer.map_err(|error| format!("{path}: {error}"))
    }

    /// Asks it to end, by SIGTERM, and checks that it did so well and left nothing.
    #[track_caller]
    pub fn stop(self) {
        self.stop_by(libc::SIGTERM);
    }

    #[track_caller]
    pub fn stop_by(mut self, signal: i32) {
        // SAFETY: kill has no memory to misuse; the child has not been waited for.
        unsafe { libc::kill(self.child.id() as i32, signal) };
        let asked = Instant::now();
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                _ if asked.elapsed() > patience(SOON) => {
                    panic!("the agent goes on after signal {signal}:\n{}", self.stderr())
                }
                _ => thread::sleep(Duration::from_millis(5)),
            }
        };
        self.stopped = true;
        assert!(status.code() == Some(0), "the agent ended with {status}:\n{}", self.stderr());
        self.assert_nothing_left();
    }

    #[track_caller]
    fn assert_nothing_left(&self) {
        assert!(!self.pin_dir.exists(), "`{}` is still there", self.pin_dir.display());
        let attached = bpf::attached(self.namespace);
        assert!(attached.is_empty(), "still attached: {attached:?}");
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        if !self.stopped {
            let _ = self.child.kill();
            let _ = self.child.wait();
            // Pins, lock and all.
            let _ = run::finish(self.namespace.command(binary()).arg("detach").arg("--pin-dir").arg(&self.pin_dir));
        }
        if thread::panicking() {
            eprintln!("the agent said:\n{}", self.stderr());
        }
    }
}

/// A pin directory that nothing else uses.
pub fn unused_pin_dir() -> PathBuf {
    Path::new(BPFFS).join(unique_name())
}

/// The command that starts an agent.
pub fn run_command(namespace: &Namespace, pin_dir: &Path, arguments: &[&str]) -> Command {
    let mut command = namespace.command(binary());
    command.arg("run").arg("--pin-dir").arg(pin_dir).arg("--listen").arg(format!("127.0.0.1:{PORT}")).args(arguments);
    command
}

/// A page by HTTP/1.0, with limits of time.
pub fn fetch(server: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&server, patience(Duration::from_secs(2)))?;
    stream.set_read_timeout(Some(patience(Duration::from_secs(5))))?;
    stream.set_write_timeout(Some(patience(Duration::from_secs(5))))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Ok((code, body.to_owned()))
}
