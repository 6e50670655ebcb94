//! What the compiler expects from a C library. All of it runs at CPL3, natively: string instructions
//! and SSE are as fast as anywhere.

use core::arch::asm;

use crate::bytes;

/// Copies `count` bytes between regions that do not overlap.
///
/// # Safety
/// As C's `memcpy`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(dest: *mut u8, src: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller vouches for both regions.
    unsafe { bytes::copy_up(dest, src, count) };
    dest
}

/// Copies `count` bytes between regions that may overlap.
///
/// # Safety
/// As C's `memmove`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(dest: *mut u8, src: *const u8, count: usize) -> *mut u8 {
    if (dest as usize).wrapping_sub(src as usize) >= count {
        // SAFETY: the caller vouches for both regions, and `dest` is not within the source.
        unsafe { bytes::copy_up(dest, src, count) };
        return dest;
    }
    // SAFETY: the caller vouches for both regions; copying downwards from the last byte reads each
    // byte before it is overwritten. DF is restored.
    unsafe {
        asm!("std", "rep movsb", "cld",
            inout("rdi") dest.wrapping_add(count).wrapping_sub(1) => _,
            inout("rsi") src.wrapping_add(count).wrapping_sub(1) => _,
            inout("rcx") count => _, options(nostack));
    }
    dest
}

/// Fills `count` bytes with `value`.
///
/// # Safety
/// As C's `memset`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(dest: *mut u8, value: i32, count: usize) -> *mut u8 {
    // SAFETY: the caller vouches for the region; DF is clear by the ABI.
    unsafe {
        asm!("rep stosb", inout("rdi") dest => _, inout("rcx") count => _, in("al") value as u8,
            options(nostack, preserves_flags));
    }
    dest
}

/// Compares `count` bytes.
///
/// # Safety
/// As C's `memcmp`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
    // SAFETY: the same contract.
    unsafe { bytes::compare(a, b, count) }
}

/// Compares `count` bytes for equality.
///
/// # Safety
/// As `memcmp`.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
    // SAFETY: the same contract.
    unsafe { memcmp(a, b, count) }
}

/// Counts the bytes before the first NUL.
///
/// # Safety
/// As C's `strlen`.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut len = 0;
    // SAFETY: the caller vouches for all bytes up to the NUL; volatile as in memcmp.
    while unsafe { text.add(len).read_volatile() } != 0 {
        len += 1;
    }
    len
}

/// Named by the precompiled `core`, never called: panics abort.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As [`rust_eh_personality`].
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    crate::irq::stop()
}
