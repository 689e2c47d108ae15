//! The kernel's own tools on real sockets: `ss -tan`, and `conntrack -L` where it is installed.

use std::{
    io, mem,
    process::{Command, Stdio},
};

use integration_tests::{
    namespace::Namespace,
    pair::{Family, Pair},
    run,
    traffic::{Connection, Listener},
};

use super::PART;
use crate::{
    effort,
    figure::{Figure, Unit},
};

const COUNTS: [usize; 2] = [1_000, 10_000];
const PORT: u16 = 7_200;
/// Descriptors for everything else.
const SPARE: usize = 500;

pub fn measure(rounds: usize) -> Vec<Figure> {
    let pair = Pair::new();
    let tracks = has_conntrack() && tracks(&pair.server);
    // Both ends are ours: two descriptors each.
    let room = (descriptors() - SPARE) / 2;
    let listener = Listener::new(&pair.server, pair.server_addr(Family::V4, PORT));
    let mut held = Vec::new();
    let mut figures = Vec::new();
    for count in COUNTS.map(|count| count.min(room)) {
        held.extend(Connection::open_many(&pair.client, &listener, count - held.len()));
        let ss = each(&pair.server, &["ss", "-tan"], count, rounds);
        let figure = |name, rounds| Figure::of(PART, name, Unit::Microseconds, rounds).with_flows(count as u64);
        figures.push(figure("ss -tan, CPU for each socket", ss));
        if tracks {
            figures.push(figure(
                "conntrack -L, CPU for each entry",
                each(&pair.server, &["conntrack", "-L"], count, rounds),
            ));
        }
    }
    if !tracks {
        eprintln!("userspace: no conntrack (the command, or the kernel's), left out");
    }
    figures
}

fn has_conntrack() -> bool {
    Command::new("conntrack").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Has connections tracked, if this kernel can.
fn tracks(namespace: &Namespace) -> bool {
    let rule = "table inet tracking { chain input { type filter hook input priority 0; ct state new accept; }; }";
    run::finish(namespace.command("nft").arg(rule)).code == Some(0)
}

/// Microseconds for each of the entries that a command lists.
fn each(namespace: &Namespace, words: &[&str], count: usize, rounds: usize) -> Vec<f64> {
    let took = |_| {
        let took = effort::of_command(namespace.command(words[0]).args(&words[1..])).expect("the command starts");
        took.cpu.as_secs_f64() * 1e6 / count as f64
    };
    (0..rounds).map(took).collect()
}

/// How many descriptors this process may have, after asking for as many as there are.
fn descriptors() -> usize {
    // SAFETY: limits are plain data, which the calls fill and read.
    unsafe {
        let mut limit: libc::rlimit = mem::zeroed();
        let result = libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        assert!(result == 0, "cannot ask for the limit of descriptors: {}", io::Error::last_os_error());
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        limit.rlim_max as usize
    }
}
