//! Memory the device reads and writes: descriptors and frame buffers, all of it atomics (see
//! [`crate::buffer`]).

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::buffer::{Buffer, RX_WORDS, TX_WORDS};
pub use crate::buffer::{RxFrame, prefetch, prefetch_write};
use crate::irq::NICS;

/// Descriptors a ring has room for.
pub const MAX_RING: usize = 4096;

/// A legacy descriptor (3.2.3, 3.3.3): buffer address, then length, status and commands.
#[repr(C, align(16))]
pub struct Descriptor {
    pub address: AtomicU64,
    pub control: AtomicU64,
}

/// A ring; as aligned as TDBAL and RDBAL demand, and more.
#[repr(C, align(4096))]
pub struct Ring([Descriptor; MAX_RING]);

impl Ring {
    const fn new() -> Self {
        Self(
            [const { Descriptor { address: AtomicU64::new(0), control: AtomicU64::new(0) } };
                MAX_RING],
        )
    }

    /// Descriptor `index`, modulo [`MAX_RING`] to spare a bounds check.
    #[inline]
    pub fn at(&self, index: u32) -> &Descriptor {
        &self.0[index as usize % MAX_RING]
    }

    /// Physical address.
    pub fn address(&self) -> u64 {
        &raw const self.0 as u64
    }
}

/// What one NIC and its driver share. All zeros: it must not reach the image's file.
pub struct Memory {
    /// Transmit descriptors.
    pub tx_ring: Ring,
    /// Receive descriptors.
    pub rx_ring: Ring,
    // Buffer `i` belongs to descriptor `i` for ever.
    tx_buffers: [Buffer<TX_WORDS>; MAX_RING],
    rx_buffers: [Buffer<RX_WORDS>; MAX_RING],
}

static MEMORY: [Memory; NICS] = [const { Memory::new() }; NICS];
static CLAIMED: AtomicUsize = AtomicUsize::new(0);

impl Memory {
    const fn new() -> Self {
        Self {
            tx_ring: Ring::new(),
            rx_ring: Ring::new(),
            tx_buffers: [const { Buffer::new() }; MAX_RING],
            rx_buffers: [const { Buffer::new() }; MAX_RING],
        }
    }

    /// Memory for one driver, which nobody else has, and the driver's number; `None` if all is taken.
    pub fn claim() -> Option<(usize, &'static Self)> {
        let index = CLAIMED.fetch_add(1, Relaxed);
        Some((index, MEMORY.get(index)?))
    }

    /// The transmit buffer of descriptor `index`.
    #[inline]
    pub fn tx_buffer(&self, index: u32) -> &Buffer<TX_WORDS> {
        &self.tx_buffers[index as usize % MAX_RING]
    }

    /// The receive buffer of descriptor `index`.
    #[inline]
    pub fn rx_buffer(&self, index: u32) -> &Buffer<RX_WORDS> {
        &self.rx_buffers[index as usize % MAX_RING]
    }
}
