//! How much memory the tables take, before they take it; and how the agent's own is given back.
//!
//! The tables are arrays of buckets, allocated whole when they are made.

use tcp_observer_common::{
    flow::{Ipv4, Ipv6},
    table::{TAGS_BYTES, buckets_for, slots_bytes},
};

use crate::{agent::Options, exit::Failure};

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
    let bucket_bytes = 2 * TAGS_BYTES + slots_bytes::<Ipv4>() + slots_bytes::<Ipv6>();
    [max_flows, max_half_open].into_iter().map(|flows| u64::from(buckets_for(flows)) * bucket_bytes as u64).sum()
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
    fn a_table_takes_its_buckets() {
        // By hand: 1000 flows want 1250 places, 84 buckets of 64 + 3840 and of 64 + 4224 bytes; and all that twice.
        assert_eq!(tables_bytes(1000, 1000), 2 * 84 * (64 + 3840 + 64 + 4224));
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
