//! What a process holds, as /proc tells it.

use std::{collections::BTreeMap, fs};

/// What the agent holds at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Anonymous memory in KiB, shared pages by their share.
    pub anonymous_kib: u64,
    pub descriptors: usize,
    pub threads: u64,
    /// Descriptors of BPF programs, maps and links.
    pub bpf: [usize; 3],
    /// What the kernel says its maps take, each counted once.
    pub maps_bytes: u64,
    /// Processor time of user and system in hundredths of a second.
    pub cpu_ticks: u64,
}

impl Held {
    #[track_caller]
    pub fn by(pid: u32) -> Self {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read `{path}`: {error}"))
        };
        let stat = read("stat");
        // The name in brackets may hold anything; times are the 14th and 15th fields, the first behind it is the third.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        let cpu_ticks = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        let mut held = Self {
            anonymous_kib: number_after(&read("smaps_rollup"), "Pss_Anon:"),
            descriptors: 0,
            threads: number_after(&read("status"), "Threads:"),
            bpf: [0; 3],
            maps_bytes: map_bytes(pid).values().sum(),
            cpu_ticks,
        };
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("a process shows its descriptors").flatten() {
            // A connection may have been closed meanwhile.
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            held.descriptors += 1;
            let kinds = ["anon_inode:bpf-prog", "anon_inode:bpf-map", "anon_inode:bpf_link"];
            let target = target.to_string_lossy().replace(['[', ']'], "");
            if let Some(kind) = kinds.iter().position(|kind| target == *kind) {
                held.bpf[kind] += 1;
            }
        }
        held
    }
}

/// What the kernel says that each map of a process takes, by the map's id.
#[track_caller]
pub fn map_bytes(pid: u32) -> BTreeMap<u32, u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("a process shows its descriptors").flatten();
    let map = |entry: fs::DirEntry| {
        let info = fs::read_to_string(entry.path()).ok()?;
        let field = |name| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        Some((field("map_id:")?.parse().ok()?, field("memlock:")?.parse().ok()?))
    };
    entries.filter_map(map).collect()
}

#[track_caller]
fn number_after(text: &str, name: &str) -> u64 {
    let rest = text.lines().find_map(|line| line.strip_prefix(name));
    let number = rest.and_then(|rest| rest.split_whitespace().next()).and_then(|word| word.parse().ok());
    number.unwrap_or_else(|| panic!("no `{name}` in:\n{text}"))
}
