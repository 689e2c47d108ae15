//! How much memory the tables take, before they take it; and how the agent's own is given back.
//!
//! Hash maps are allocated whole when they are made: per element the kernel's header (`struct htab_elem`), the key and
//! the value, each rounded up to eight bytes; per bucket a list head with its lock; as many buckets as the next power
//! of two of the entries.

use tcp_observer_common::{
    conn::Flow,
    flow::{FlowKey4, FlowKey6},
};

use crate::{agent::Options, exit::Failure};

const ELEMENT_HEADER_BYTES: u64 = 48;
const BUCKET_BYTES: u64 = 16;

/// Buffers from this size on go back to the kernel as soon as they are free.
#[cfg(target_env = "gnu")]
const LARGE_BYTES: i32 = 1 << 20;

/// Keeps the allocator from holding the room of a whole snapshot for each thread that has ever made one: glibc's
/// threshold for mapping a buffer by itself grows with each that is freed, up to 32 MiB (mallopt(3)), and what lies
/// below it stays with the thread's arena. musl's does no such thing.
pub fn give_back_large_buffers() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt sets a parameter of the allocator, which may be done at any time.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
    }
}

/// What all four tables of flows take, in bytes.
pub fn tables_bytes(max_flows: u32, max_half_open: u32) -> u64 {
    [max_flows, max_half_open]
        .into_iter()
        .map(|entries| hash_bytes(entries, size_of::<FlowKey4>()) + hash_bytes(entries, size_of::<FlowKey6>()))
        .sum()
}

fn hash_bytes(entries: u32, key_bytes: usize) -> u64 {
    let element = ELEMENT_HEADER_BYTES + (key_bytes.next_multiple_of(8) + size_of::<Flow>()) as u64;
    let entries = u64::from(entries);
    entries * element + entries.next_power_of_two() * BUCKET_BYTES
}

/// # Errors
/// With [`Failure::Usage`] when a table would hold nothing, or the tables would take more than half of the memory.
pub fn check(options: &Options, memory_bytes: u64) -> anyhow::Result<()> {
    for (flag, entries) in [("--max-flows", options.max_flows), ("--max-half-open", options.max_half_open)] {
        if entries == 0 {
            return Err(Failure::usage(format!("`{flag} 0` leaves no room for a flow; use at least 1")));
        }
    }
    let needed = tables_bytes(options.max_flows, options.max_half_open);
    if needed <= memory_bytes / 2 {
        return Ok(());
    }
    let flag = if options.max_flows >= options.max_half_open { "--max-flows" } else { "--max-half-open" };
    Err(Failure::usage(format!(
        "the tables would take {} of this machine's {}; lower `{flag}` so that they fit into half of it",
        mebibytes(needed),
        mebibytes(memory_bytes)
    )))
}

/// The machine's memory in bytes.
pub fn machine_bytes() -> u64 {
    // SAFETY: sysconf takes numbers and gives one.
    let (pages, page_bytes) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    match (u64::try_from(pages), u64::try_from(page_bytes)) {
        (Ok(pages), Ok(page_bytes)) => pages.saturating_mul(page_bytes),
        _ => u64::MAX,
    }
}

/// A size as people read it.
pub fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use super::*;
    use crate::agent::Ingress;

    fn options(max_flows: u32, max_half_open: u32) -> Options {
        Options {
            interfaces: Vec::new(),
            ingress: Ingress::Auto,
            max_flows,
            max_half_open,
            pin_dir: "/sys/fs/bpf/tcp-observer".into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 9477)),
            ports: Vec::new(),
            remote_time_wait: Duration::from_secs(60),
            self_check: None,
        }
    }

    #[test]
    fn an_entry_costs_header_key_value_and_bucket() {
        // 48 + 16 + 240 and 48 + 40 + 240, and 16 for each of 1024 buckets: counted by hand for 1000 entries.
        assert_eq!(hash_bytes(1000, 12), 1000 * 304 + 1024 * 16);
        assert_eq!(hash_bytes(1000, 36), 1000 * 328 + 1024 * 16);
        assert_eq!(tables_bytes(1000, 1000), 2 * (1000 * 632 + 2 * 1024 * 16));
    }

    #[test]
    fn nothing_and_too_much_name_their_flag() {
        let gib = 1 << 30;
        assert!(check(&options(1 << 20, 1 << 16), 2 * gib).is_ok());
        let error = check(&options(1 << 16, 0), gib).unwrap_err().to_string();
        assert!(error.starts_with("`--max-half-open 0`"), "{error}");
        let error = check(&options(1 << 23, 1 << 16), 2 * gib).unwrap_err().to_string();
        assert!(error.contains("lower `--max-flows`") && error.contains("2048 MiB"), "{error}");
        assert!(check(&options(u32::MAX, u32::MAX), gib).is_err());
    }
}
