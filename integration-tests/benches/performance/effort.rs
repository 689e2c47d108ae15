//! What something takes: time, and the CPU's time, which tells more where others want the CPUs, too.

use std::{
    fs, io, mem,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

#[derive(Clone, Copy, Debug)]
pub struct Effort {
    pub time: Duration,
    pub cpu: Duration,
}

/// Of a command whose output nobody reads; `None` where it is not there.
///
/// # Panics
/// When it fails.
pub fn of_command(command: &mut Command) -> Option<Effort> {
    let begun = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
    // SAFETY: status and usage are plain data, which the call fills; nobody else waits for this child.
    let (result, status, usage) = unsafe {
        let (mut status, mut usage): (i32, libc::rusage) = (0, mem::zeroed());
        (libc::wait4(child.id() as i32, &mut status, 0, &mut usage), status, usage)
    };
    assert!(result > 0, "cannot wait for {command:?}: {}", io::Error::last_os_error());
    assert!(status == 0, "{command:?} ends with the status {status}");
    let of = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1_000);
    Some(Effort { time: begun.elapsed(), cpu: of(usage.ru_utime) + of(usage.ru_stime) })
}

/// CPU that this process has had, all threads together.
pub fn cpu_of_this_process() -> Duration {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// CPU that the calling thread has had.
pub fn cpu_of_this_thread() -> Duration {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn clock(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is valid, and filled by the call.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    assert!(result == 0, "cannot read a clock: {}", io::Error::last_os_error());
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// CPU that a process has had, by all its threads, those that have ended included.
pub fn cpu_of(pid: u32) -> Duration {
    let mut id = 0;
    // SAFETY: the call fills the number.
    let result = unsafe { libc::clock_getcpuclockid(pid as i32, &mut id) };
    assert!(result == 0, "process {pid} has no clock: {}", io::Error::from_raw_os_error(result));
    clock(id)
}

/// The thread that goes on with what the network has begun on this CPU, where that became too much at once.
pub fn softirq_thread(cpu: usize) -> u32 {
    let name = format!("ksoftirqd/{cpu}");
    let processes = fs::read_dir("/proc").expect("processes are shown").flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_it = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name);
    pids.find(is_it).unwrap_or_else(|| panic!("no `{name}`"))
}
