//! The user's side of interrupts: what the stub counted, and how to halt without losing one.

use core::sync::atomic::{AtomicU64, Ordering};

/// NICs that can be driven at a time.
pub const NICS: usize = 2;
/// Vectors of the NICs' interrupts. Of one class: while one waits for its driver's EOI the other
/// waits, too, so whoever drives two must service both.
pub const NIC_VECTORS: [u8; NICS] = [0x40, 0x41];
/// Vector of the local APIC's timer. Its class is above the NICs': it may interrupt while a
/// NIC's interrupt waits for the driver's EOI.
pub const TIMER_VECTOR: u8 = 0x50;
/// Vector of a NIC's link changes, where they have one of their own. Of the timer's class.
pub const LINK_VECTOR: u8 = 0x51;
/// Vector of the console's input. Of the timer's class.
pub const CONSOLE_VECTOR: u8 = 0x52;
/// Vector of the local APIC's spurious interrupt.
pub const SPURIOUS_VECTOR: u8 = 0xff;

unsafe extern "C" {
    /// The stub's counters, seen through CPL3's alias: 16 bits of each NIC's interrupts, 16 of timer
    /// interrupts, 8 of link changes, 8 of console input.
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

    /// Interrupts of NIC `index`; wraps.
    #[inline]
    pub fn nic(self, index: usize) -> u16 {
        (self.0 >> (16 * index)) as u16
    }

    /// Timer interrupts; wraps.
    #[inline]
    pub fn timer(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// Link changes; wraps.
    #[inline]
    pub fn link(self) -> u8 {
        (self.0 >> 48) as u8
    }

    /// Interrupts of the console's input; wraps.
    #[inline]
    pub fn console(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// Halts until an interrupt is taken; returns at once if one was since `self` was read.
    pub fn halt(self) {
        // SAFETY: `halt` clobbers nothing the C ABI preserves and returns after an interrupt.
        unsafe { halt(self.0) }
    }
}

/// Ends the machine by an exception that nothing can handle.
pub fn triple_fault() -> ! {
    unsafe extern "C" {
        fn triple_fault() -> !;
    }
    // SAFETY: boot.S: it does not return.
    unsafe { triple_fault() }
}

/// Touches memory that is not there.
pub fn page_fault() -> ! {
    // SAFETY: boot.S maps nothing at 2 GiB; the fault never comes back.
    unsafe {
        core::arch::asm!("mov al, [{}]", "ud2", in(reg) 0x8000_0000_u64, options(noreturn));
    }
}

/// Halts for ever.
pub fn stop() -> ! {
    loop {
        Events::now().halt();
    }
}
