//! The user's side of interrupts: what the stub counted, and how to halt without losing one.

use core::sync::atomic::{AtomicU64, Ordering};

/// Vector of the NIC's INTx.
pub const NIC_VECTOR: u8 = 0x40;
/// Vector of the local APIC's timer. Its class is above the NIC's: it may interrupt while the
/// NIC's interrupt waits for the driver's EOI.
pub const TIMER_VECTOR: u8 = 0x50;
/// Vector of a NIC's link changes, where they have one of their own. Of the timer's class.
pub const LINK_VECTOR: u8 = 0x51;
/// Vector of the local APIC's spurious interrupt.
pub const SPURIOUS_VECTOR: u8 = 0xff;

unsafe extern "C" {
    /// The stub's counters, seen through CPL3's alias: 32 bits of NIC interrupts, 16 of timer
    /// interrupts, 16 of link changes.
    static events_alias: AtomicU64;
    /// `boot.S`: halts unless the counters differ from `seen`.
    fn halt(seen: u64);
}

/// Interrupts taken so far.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Events(u64);

impl Events {
    /// Reads the counters.
    #[inline]
    pub fn now() -> Self {
        // SAFETY: linker.ld places the symbol; the stub maps it; an atomic may change any time.
        Self(unsafe { &events_alias }.load(Ordering::Acquire))
    }

    /// NIC interrupts; wraps.
    #[inline]
    pub fn nic(self) -> u32 {
        self.0 as u32
    }

    /// Timer interrupts; wraps.
    #[inline]
    pub fn timer(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// Link changes; wraps.
    #[inline]
    pub fn link(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// Halts until an interrupt is taken; returns at once if one was since `self` was read.
    pub fn halt(self) {
        // SAFETY: `halt` clobbers nothing the C ABI preserves and returns after an interrupt.
        unsafe { halt(self.0) }
    }
}

/// Halts for ever.
pub fn stop() -> ! {
    loop {
        Events::now().halt();
    }
}
