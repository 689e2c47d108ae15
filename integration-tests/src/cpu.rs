//! On which CPU a thread runs.

use std::{io, mem};

/// Keeps the calling thread, and the threads and processes that it starts, on one CPU, counted modulo those there are.
///
/// Traffic that one CPU carries is in one order everywhere: what a hook does with a packet, what the stack does with
/// it and what a capture writes down follow each other without anything in between.
pub fn stay_on(cpu: usize) {
    // SAFETY: sysconf has no preconditions.
    let online = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }.max(1) as usize;
    // SAFETY: a set of CPUs is plain data that may be all zero, and the call reads no more than its size.
    let result = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(cpu % online, &mut set);
        libc::sched_setaffinity(0, mem::size_of_val(&set), &set)
    };
    assert!(result == 0, "cannot stay on CPU {cpu}: {}", io::Error::last_os_error());
}

/// Takes that back: the calling thread may run on any CPU that is there.
pub fn stay_anywhere() {
    // SAFETY: as above.
    let result = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        (0..libc::CPU_SETSIZE as usize).for_each(|cpu| libc::CPU_SET(cpu, &mut set));
        libc::sched_setaffinity(0, mem::size_of_val(&set), &set)
    };
    assert!(result == 0, "cannot run anywhere: {}", io::Error::last_os_error());
}
