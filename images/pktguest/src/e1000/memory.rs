//! Memory the device reads and writes: descriptors and frame buffers, all of it atomics (see
//! [`crate::buffer`]).

use core::sync::atomic::AtomicU64;

use crate::buffer::{Buffer, RX_WORDS, TX_WORDS};
pub use crate::buffer::{RxFrame, prefetch, prefetch_write};

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

/// Buffer `i` belongs to descriptor `i` for ever.
pub static TX_RING: Ring = Ring::new();
/// As [`TX_RING`].
pub static RX_RING: Ring = Ring::new();
static TX_BUFFERS: [Buffer<TX_WORDS>; MAX_RING] = [const { Buffer::new() }; MAX_RING];
static RX_BUFFERS: [Buffer<RX_WORDS>; MAX_RING] = [const { Buffer::new() }; MAX_RING];

/// The transmit buffer of descriptor `index`.
#[inline]
pub fn tx_buffer(index: u32) -> &'static Buffer<TX_WORDS> {
    &TX_BUFFERS[index as usize % MAX_RING]
}

/// The receive buffer of descriptor `index`.
#[inline]
pub fn rx_buffer(index: u32) -> &'static Buffer<RX_WORDS> {
    &RX_BUFFERS[index as usize % MAX_RING]
}
