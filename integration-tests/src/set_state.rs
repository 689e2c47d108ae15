//! The sockets' own account of their states: the tracepoint `sock:inet_sock_set_state`, read by way of tracefs.
//!
//! Each change of a full socket's `sk_state` is one event. TIME_WAIT and NEW_SYN_RECV are minisocks and have none: a
//! socket that goes into TIME_WAIT is closed there and then, replaced by a minisock, and the socket of a handshake that
//! comes in begins with SYN_RECV → ESTABLISHED. A listener's events, and those of a child before it has a tuple, have no
//! remote port and are left out.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{bounds, run};

const TRACEFS: &str = "/sys/kernel/tracing";
/// For each CPU: room for some 400,000 events between two readings.
const BUFFER_KB: &str = "40960";

/// One change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// RFC 9293's names in snake case.
    pub old: &'static str,
    pub new: &'static str,
    /// `CLOCK_MONOTONIC`, in microseconds.
    pub at_us: u64,
}

/// What the tracepoint says from the beginning of this on; its buffer is its own.
pub struct Account {
    instance: PathBuf,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<Vec<Change>>>,
}

impl Account {
    /// Begins to listen to sockets that have one of these ports at either end.
    ///
    /// # Panics
    /// When the kernel has no tracefs or not this tracepoint.
    #[track_caller]
    pub fn begin(ports: std::ops::RangeInclusive<u16>) -> Self {
        let instances = Path::new(bounds::TRACE_INSTANCES);
        if !instances.exists() {
            run::success(Command::new("mount").args(["-t", "tracefs", "tracefs", TRACEFS]));
        }
        let instance = instances.join(bounds::unique_name());
        fs::create_dir(&instance).unwrap_or_else(|error| panic!("cannot make {}: {error}", instance.display()));
        let stop = Arc::new(AtomicBool::new(false));
        let mut account = Self { instance, stop, reader: None };
        let (first, last) = (ports.start(), ports.end());
        account.set("trace_clock", "mono");
        account.set("buffer_size_kb", BUFFER_KB);
        let filter = format!("(sport >= {first} && sport <= {last}) || (dport >= {first} && dport <= {last})");
        account.set("events/sock/inet_sock_set_state/filter", &filter);
        account.set("events/sock/inet_sock_set_state/enable", "1");
        let (pipe, stopped) = (account.instance.join("trace_pipe"), Arc::clone(&account.stop));
        account.reader = Some(thread::spawn(move || read(&pipe, &stopped).expect("the trace can be read")));
        account
    }

    #[track_caller]
    fn set(&self, file: &str, value: &str) {
        let path = self.instance.join(file);
        fs::write(&path, value).unwrap_or_else(|error| panic!("cannot write {value} to {}: {error}", path.display()));
    }

    /// All of it, in the order in which it happened.
    ///
    /// # Panics
    /// When events were lost.
    #[track_caller]
    pub fn end(mut self) -> Vec<Change> {
        self.set("events/sock/inet_sock_set_state/enable", "0");
        self.stop.store(true, Ordering::Relaxed);
        let changes = self.reader.take().expect("the account is read once").join().expect("the reader lives");
        for cpu in fs::read_dir(self.instance.join("per_cpu")).expect("each CPU has a buffer").flatten() {
            let stats = fs::read_to_string(cpu.path().join("stats")).expect("a buffer has statistics");
            let lost = stats.lines().filter(|line| line.starts_with("overrun") || line.starts_with("dropped"));
            let lost: Vec<_> = lost.filter(|line| !line.ends_with(": 0")).collect();
            assert!(lost.is_empty(), "the trace lacks events: {lost:?}");
        }
        changes
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.reader.take().map(JoinHandle::join);
        let _ = fs::remove_dir(&self.instance);
    }
}

/// Reads until the trace is empty after it was asked to stop.
fn read(pipe: &Path, stop: &AtomicBool) -> io::Result<Vec<Change>> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(pipe)?;
    let mut lines = BufReader::with_capacity(1 << 16, file);
    let mut changes = Vec::new();
    let mut line = String::new();
    loop {
        let stopping = stop.load(Ordering::Relaxed);
        match lines.read_line(&mut line) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if stopping {
                    return Ok(changes);
                }
                thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(error),
            Ok(0) => return Ok(changes),
            // Of a line that is cut off the rest comes with the next reading.
            Ok(_) if line.ends_with('\n') => {
                changes.extend(change(&line));
                line.clear();
            }
            Ok(_) => {}
        }
    }
}

/// A line such as `task-1 [000] d..1. 12.345678: inet_sock_set_state: family=AF_INET … newstate=TCP_CLOSE`.
fn change(line: &str) -> Option<Change> {
    let (head, fields) = line.split_once(": inet_sock_set_state: ")?;
    let field = |name: &str| {
        let words = fields.split_whitespace();
        words.filter_map(|word| word.split_once('=')).find(|&(key, _)| key == name).map(|(_, value)| value)
    };
    let addr = |ip: &str, port: &str| {
        let ip: IpAddr = field(ip)?.parse::<Ipv6Addr>().ok()?.to_canonical();
        Some(SocketAddr::new(ip, field(port)?.parse().ok()?))
    };
    let (seconds, fraction) = head.rsplit(' ').next()?.split_once('.')?;
    let at_us = seconds.parse::<u64>().ok()? * 1_000_000 + fraction.parse::<u64>().ok()?;
    let change = Change {
        local: addr("saddrv6", "sport")?,
        remote: addr("daddrv6", "dport")?,
        old: state(field("oldstate")?)?,
        new: state(field("newstate")?)?,
        at_us,
    };
    (change.remote.port() != 0).then_some(change)
}

fn state(word: &str) -> Option<&'static str> {
    Some(match word {
        "TCP_ESTABLISHED" => "established",
        "TCP_SYN_SENT" => "syn_sent",
        "TCP_SYN_RECV" => "syn_received",
        "TCP_FIN_WAIT1" => "fin_wait_1",
        "TCP_FIN_WAIT2" => "fin_wait_2",
        "TCP_CLOSE" => "closed",
        "TCP_CLOSE_WAIT" => "close_wait",
        "TCP_LAST_ACK" => "last_ack",
        "TCP_LISTEN" => "listen",
        "TCP_CLOSING" => "closing",
        _ => return None,
    })
}
