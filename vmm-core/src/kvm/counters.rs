//! How often, and why, a vCPU came back to us.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Exits of a vCPU to user space, by kind, since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VcpuCounters {
    /// Reads of memory-mapped registers.
    pub mmio_read: u64,
    /// Writes to memory-mapped registers.
    pub mmio_write: u64,
    /// Reads of I/O ports; a string instruction counts once per exit.
    pub pio_in: u64,
    /// Writes to I/O ports.
    pub pio_out: u64,
    /// Returns because a signal arrived, such as the one that stops the vCPU.
    pub signal: u64,
    /// All others, among them the exit that ended the guest.
    pub other: u64,
}

impl VcpuCounters {
    /// Exits of all kinds.
    pub fn total(&self) -> u64 {
        self.mmio_read + self.mmio_write + self.pio_in + self.pio_out + self.signal + self.other
    }
}

/// The counters while the vCPU runs: written by its thread alone, read by anyone.
///
/// On cache lines of their own (two, as processors prefetch pairs), so that a reader of anything
/// else does not slow the writer down.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct LiveCounters {
    pub mmio_read: Count,
    pub mmio_write: Count,
    pub pio_in: Count,
    pub pio_out: Count,
    pub signal: Count,
    pub other: Count,
}

impl LiveCounters {
    pub fn snapshot(&self) -> VcpuCounters {
        VcpuCounters {
            mmio_read: self.mmio_read.get(),
            mmio_write: self.mmio_write.get(),
            pio_in: self.pio_in.get(),
            pio_out: self.pio_out.get(),
            signal: self.signal.get(),
            other: self.other.get(),
        }
    }
}

/// A counter with a single writer.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    /// Adds one. With a single writer a load and a store do, without the price of a locked add.
    #[inline]
    pub fn increment(&self) {
        self.0.store(self.0.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
