//! The kernel's own tools at the same counts: `ss -tan` on sockets, and `conntrack -L` where it is installed.

use std::{
    env, fs,
    io::{self, Read as _, Write as _},
    mem,
    net::SocketAddr,
    ops::Range,
    process::{self, Command, Stdio},
    ptr,
};

use integration_tests::{
    namespace::Namespace,
    pair::{Family, Pair},
    run, traffic,
};

use super::PART;
use crate::{
    effort,
    figure::{Figure, Unit},
    machine, progress,
};

/// One port of the server's for all of them, and so many of each client's.
const PORT: u16 = 7_200;
const PORTS_OF_A_CLIENT: usize = 50_000;
const FIRST_PORT_OF_A_CLIENT: usize = 10_000;
/// Descriptors for everything else.
const SPARE: usize = 500;
/// What a socket takes of the kernel's memory, with its file, and how much memory is to be left.
const SOCKET_BYTES: u64 = 6_000;
const LEFT_BYTES: u64 = 4 << 30;

pub fn measure(counts: &[u32], rounds: usize) -> Vec<Figure> {
    let pair = Pair::new();
    let server = &pair.server;
    let tracks = has_conntrack() && tracks(server);
    if !tracks {
        eprintln!("userspace: no conntrack (the command, or the kernel's), left out");
    }
    let most = most_sockets();
    let (mut holders, mut held, mut tracked) = (Vec::new(), 0, 0);
    let mut figures = Vec::new();
    let mut list = |name: &str, count: usize, command: [&str; 2]| {
        progress::show(&format!("userspace: {} of {count}", command[0]));
        let each = each(server, command, count, rounds);
        figures.push(Figure::of(PART, name, Unit::Microseconds, each).with_flows(count as u64));
    };
    for &count in counts {
        let count = most.min(count as usize);
        while held < count {
            let numbers = held..count.min(held + sockets_of_a_process());
            held = numbers.end;
            holders.push(server.within(|| Holder::new(numbers)));
        }
        assert_eq!(server.within(in_use), count, "as many sockets as the kernel says");
        list("ss -tan, CPU for each socket", count, ["ss", "-tan"]);
        if tracks {
            let count = most_tracked().min(count);
            track(server, tracked..count);
            tracked = count;
            let entries = run::success(server.command("conntrack").arg("-C"));
            assert_eq!(entries.trim().parse(), Ok(count), "as many entries as the kernel says");
            list("conntrack -L, CPU for each entry", count, ["conntrack", "-L"]);
        }
    }
    figures
}

/// The ends of a connection: the server's, and one of as many as there may be at the other end.
fn ends(number: usize) -> [SocketAddr; 2] {
    let client = Family::V4.host(10 + (number / PORTS_OF_A_CLIENT) as u8);
    let port = FIRST_PORT_OF_A_CLIENT + number % PORTS_OF_A_CLIENT;
    [SocketAddr::new(Family::V4.host(2), PORT), SocketAddr::new(client, port as u16)]
}

/// How many TCP sockets the calling thread's namespace has that are neither closed nor in TIME-WAIT.
fn in_use() -> usize {
    let text = fs::read_to_string("/proc/thread-self/net/sockstat").expect("sockets are counted");
    let tcp = text.lines().find_map(|line| line.strip_prefix("TCP: inuse "));
    tcp.and_then(|rest| rest.split(' ').next()?.parse().ok()).expect("TCP's are counted")
}

/// A process that holds some of the sockets: no process may have descriptors for all of them.
struct Holder(libc::pid_t);

impl Holder {
    /// In the calling thread's namespace.
    fn new(numbers: Range<usize>) -> Self {
        let (mut done, mut tell) = io::pipe().expect("a pipe can be made");
        let parent = process::id();
        // SAFETY: the child makes system calls, and ends by one.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork: {}", io::Error::last_os_error());
        if pid == 0 {
            let count = numbers.len();
            let made = numbers.filter(|&number| hold(number)).count();
            let _ = tell.write_all(&[u8::from(made == count)]);
            // SAFETY: as above. Not `PR_SET_PDEATHSIG`: the parent is a thread, which ends before its process does.
            unsafe {
                while libc::getppid() == parent as libc::pid_t {
                    libc::sleep(1);
                }
                libc::_exit(0)
            }
        }
        let holder = Self(pid);
        drop(tell);
        let mut is_complete = [0];
        done.read_exact(&mut is_complete).expect("the child says that it is ready");
        assert!(is_complete == [1], "the kernel takes no more sockets");
        holder
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // SAFETY: a child that nobody has waited for yet.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, ptr::null_mut(), 0);
        }
    }
}

/// Makes one of the sockets, which lives as long as this process; whether it could be made.
fn hold(number: usize) -> bool {
    let [own, client] = ends(number);
    traffic::without_peer(own, client).map(mem::forget).is_ok()
}

fn has_conntrack() -> bool {
    Command::new("conntrack").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Has connections tracked, if this kernel can.
fn tracks(namespace: &Namespace) -> bool {
    let rule = "table inet tracking { chain input { type filter hook input priority 0; ct state new accept; }; }";
    run::finish(namespace.command("nft").arg(rule)).code == Some(0)
}

/// How many connections may be tracked: a limit of the whole machine's, for each namespace.
fn most_tracked() -> usize {
    let path = "/proc/sys/net/netfilter/nf_conntrack_max";
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.trim().parse().expect("the limit is a number")
}

/// Has these connections tracked.
fn track(namespace: &Namespace, numbers: Range<usize>) {
    let path = env::temp_dir().join(format!("tcp-observer-tracked-{}", process::id()));
    let line = |number| {
        let [server, client] = ends(number).map(|end| (end.ip(), end.port()));
        format!(
            "-I -p tcp -s {} --sport {} -d {} --dport {} --state ESTABLISHED -u SEEN_REPLY -t 3600\n",
            client.0, client.1, server.0, server.1
        )
    };
    fs::write(&path, numbers.map(line).collect::<String>()).expect("a temporary file can be written");
    let loaded = run::finish(namespace.command("conntrack").arg("-R").arg(&path));
    fs::remove_file(&path).expect("a temporary file can be removed");
    assert!(loaded.code == Some(0), "conntrack -R: {}", loaded.stderr);
}

/// Microseconds for each of the entries that a command lists.
fn each(namespace: &Namespace, [program, argument]: [&str; 2], count: usize, rounds: usize) -> Vec<f64> {
    let took = |_| {
        let took = effort::of_command(namespace.command(program).arg(argument)).expect("the command starts");
        took.cpu.as_secs_f64() * 1e6 / count as f64
    };
    (0..rounds).map(took).collect()
}

/// How many sockets there is memory for.
fn most_sockets() -> usize {
    (machine::available_bytes().saturating_sub(LEFT_BYTES) / SOCKET_BYTES) as usize
}

/// For how many a process may have descriptors.
fn sockets_of_a_process() -> usize {
    // SAFETY: a limit is plain data, which the call fills.
    let limit = unsafe {
        let mut limit: libc::rlimit = mem::zeroed();
        let result = libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        assert!(result == 0, "cannot ask for the limit of descriptors: {}", io::Error::last_os_error());
        limit.rlim_cur as usize
    };
    assert!(limit > SPARE, "a process may have {limit} descriptors here");
    limit - SPARE
}
