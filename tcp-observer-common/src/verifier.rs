//! What the kernel's verifier must not know. The only lines of the core that differ between kernel and userspace.
//!
//! The verifier follows every path through a program, and takes up a path again where two meet only if it knows the
//! same about both. A state machine is a place where many paths meet, each knowing a little else about the same
//! word: without a word of forgetting their number multiplies beyond the million instructions that it will look at.
//! [`forget`] gives back its argument as a value of which nothing is known.

#[cfg(target_arch = "bpf")]
mod kernel {
    /// Zero, which the verifier does not know: it lies in memory that userspace could write.
    #[unsafe(no_mangle)]
    static mut ZERO: u64 = 0;

    #[inline(always)]
    pub fn forget(value: u64) -> u64 {
        // SAFETY: one aligned word that nobody writes.
        value + unsafe { core::ptr::read_volatile(&raw const ZERO) }
    }
}

#[cfg(target_arch = "bpf")]
pub use kernel::forget;

/// The value it is given.
#[cfg(not(target_arch = "bpf"))]
#[inline(always)]
pub fn forget(value: u64) -> u64 {
    value
}
