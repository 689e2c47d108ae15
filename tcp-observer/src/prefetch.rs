//! Asking for memory before it is needed: where much is read in an order that the processor cannot guess, most of the
//! time is spent waiting for it.

use tcp_observer_common::table::LINE;

/// Asks for the cache line that lies there, if one does.
#[inline(always)]
pub fn line<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Asks for all of a value.
#[inline(always)]
pub fn value<T>(value: *const T) {
    (0..size_of::<T>().max(1)).step_by(LINE).for_each(|offset| line(value.cast::<u8>().wrapping_add(offset)));
}
