//! Asking the caches for a line before it is needed.

use std::arch::x86_64::{_MM_HINT_ET0, _MM_HINT_T0, _mm_prefetch};

/// Starts fetching the line of `at`.
#[inline]
pub fn prefetch(at: *const u8) {
    // SAFETY: a prefetch never faults and changes no memory.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
}

/// Starts fetching the line of `at` in exclusive state.
#[inline]
pub fn prefetch_for_write(at: *const u8) {
    // SAFETY: a prefetch never faults and changes no memory.
    unsafe { _mm_prefetch::<_MM_HINT_ET0>(at.cast()) };
}
