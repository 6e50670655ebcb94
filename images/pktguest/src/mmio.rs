//! 32-bit device registers. Plain `mov`s, which every hypervisor's instruction decoder knows; the
//! asm blocks also order the access against all memory accesses around it.

use core::arch::asm;

/// Reads a register.
///
/// # Safety
/// `address` is a device register in [3 GiB, 4 GiB), where the stub maps devices uncached.
#[inline]
pub unsafe fn read(address: usize) -> u32 {
    let value;
    // SAFETY: the caller's contract.
    unsafe {
        asm!("mov {:e}, dword ptr [{}]", out(reg) value, in(reg) address,
            options(nostack, preserves_flags));
    }
    value
}

/// Writes a register.
///
/// # Safety
/// As [`read`]; and the write must not make the device touch memory that Rust owns.
#[inline]
pub unsafe fn write(address: usize, value: u32) {
    // SAFETY: the caller's contract.
    unsafe {
        asm!("mov dword ptr [{}], {:e}", in(reg) address, in(reg) value,
            options(nostack, preserves_flags));
    }
}
