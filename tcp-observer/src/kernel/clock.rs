//! The clock of the maps and what makes wall-clock time of it.
//!
//! `bpf_ktime_get_ns` is CLOCK_MONOTONIC. The offset to the realtime clock is taken anew for each snapshot, so that a
//! clock that was set since then shows the times as they are said now.

use std::time::Duration;

/// Now, in nanoseconds of CLOCK_MONOTONIC.
pub fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// What to add to CLOCK_MONOTONIC for nanoseconds since the Unix epoch.
pub fn unix_offset_ns() -> i64 {
    // Between the two readings time passes; half of it is the best guess of when the middle one was taken.
    let before = monotonic_ns();
    let unix = read(libc::CLOCK_REALTIME);
    let after = monotonic_ns();
    unix.cast_signed() - (before / 2 + after / 2).cast_signed()
}

/// What the calling thread has taken of a CPU so far.
pub fn thread_cpu() -> Duration {
    Duration::from_nanos(read(libc::CLOCK_THREAD_CPUTIME_ID))
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec for the kernel to fill. It cannot fail for these clocks.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_thread_that_sleeps_takes_no_cpu() {
        let before = thread_cpu();
        std::thread::sleep(Duration::from_millis(30));
        assert!(thread_cpu() - before < Duration::from_millis(20));
        while thread_cpu() - before < Duration::from_millis(20) {}
    }

    #[test]
    fn the_offset_turns_monotonic_time_into_unix_time() {
        let unix_ns = monotonic_ns().saturating_add_signed(unix_offset_ns());
        let expected_ns = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        assert!(expected_ns.abs_diff(unix_ns) < 1_000_000_000);
    }
}
