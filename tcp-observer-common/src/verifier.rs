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

    #[inline(always)]
    pub fn forget_index(value: u64) -> u64 {
        // SAFETY: as above.
        value ^ unsafe { core::ptr::read_volatile(&raw const ZERO) }
    }

    /// Zero, which the verifier knows: it lies in memory that is frozen before the programs are loaded.
    #[unsafe(no_mangle)]
    static KNOWN_ZERO: u32 = 0;

    #[inline(always)]
    pub fn opaque(value: u32) -> u32 {
        // SAFETY: one aligned word that nobody writes.
        value + unsafe { core::ptr::read_volatile(&raw const KNOWN_ZERO) }
    }
}

#[cfg(target_arch = "bpf")]
pub use kernel::{forget, forget_index, opaque};

/// The value it is given.
#[cfg(not(target_arch = "bpf"))]
#[inline(always)]
pub fn forget(value: u64) -> u64 {
    value
}

/// The value it is given, which the compiler does not know any more and the verifier does: as the end of a loop, it
/// keeps the loop one. Unrolled, it would keep more at a time than the stack has room for.
#[cfg(not(target_arch = "bpf"))]
#[inline(always)]
pub fn opaque(value: u32) -> u32 {
    value
}

/// The value it is given, as [`forget`] does, for an index that is compared with its bound next: across an exclusive or
/// the compiler moves no addition, so what it compares is what it uses. (It does move a mask, hence not for those.)
#[cfg(not(target_arch = "bpf"))]
#[inline(always)]
pub fn forget_index(value: u64) -> u64 {
    value
}
