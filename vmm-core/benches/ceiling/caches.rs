//! Asking the caches for a line before it is needed.

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

/// Starts fetching the line of `at`.
#[inline]
pub fn prefetch(at: *const u8) {
    // SAFETY: a prefetch never faults and changes no memory.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
}

/// Starts fetching the line of `at` in exclusive state. In assembly: of the intrinsic the compiler
/// makes a PREFETCHT0 for a plain x86-64.
#[inline]
pub fn prefetch_for_write(at: *const u8) {
    // SAFETY: a prefetch never faults and changes no memory; where PREFETCHW is not implemented it
    // is a NOP.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
}
