//! Device registers. Plain `mov`s, which every hypervisor's instruction decoder knows; the asm
//! blocks also order the access against all memory accesses around it.

use core::arch::asm;

/// Where the stub maps devices, uncached.
pub const DEVICES: core::ops::Range<u64> = 0xc000_0000..0x1_0000_0000;

/// Reads a register.
///
/// # Safety
/// `address` is a device register in [`DEVICES`].
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

/// Reads a 16-bit register.
///
/// # Safety
/// As [`read`].
pub unsafe fn read16(address: usize) -> u16 {
    let value;
    // SAFETY: the caller's contract.
    unsafe {
        asm!("mov {:x}, word ptr [{}]", out(reg) value, in(reg) address,
            options(nostack, preserves_flags));
    }
    value
}

/// Writes a 16-bit register.
///
/// # Safety
/// As [`write`].
#[inline]
pub unsafe fn write16(address: usize, value: u16) {
    // SAFETY: the caller's contract.
    unsafe {
        asm!("mov word ptr [{}], {:x}", in(reg) address, in(reg) value,
            options(nostack, preserves_flags));
    }
}
