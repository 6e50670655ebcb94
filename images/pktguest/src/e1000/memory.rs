//! Memory the device reads and writes: descriptors and frame buffers.
//!
//! All of it is atomics, so a device that changes them at any time is no undefined behaviour; on
//! x86 the accesses are plain moves. Addresses are physical: the stub maps memory one to one.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::frame::{self, HEADER_WORDS, Header, Kind};

/// Descriptors a ring has room for.
pub const MAX_RING: usize = 4096;

/// A receive buffer: the 2048 bytes the NIC is told of and a cache line, so that the buffers'
/// first lines, all a short frame needs, spread over the whole cache instead of every 32nd set.
const RX_WORDS: usize = (2048 + 64) / 8;
/// A transmit buffer: 1514 bytes rounded up to an odd number of cache lines, for the same reason.
const TX_WORDS: usize = 1600 / 8;

/// A legacy descriptor (3.2.3, 3.3.3): buffer address, then length, status and commands.
#[repr(C, align(16))]
pub struct Descriptor {
    pub address: AtomicU64,
    pub control: AtomicU64,
}

impl Descriptor {
    /// Physical address.
    #[inline]
    pub fn address_of(&self) -> u64 {
        &raw const *self as u64
    }
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

/// A frame's buffer.
#[repr(C, align(64))]
pub struct Buffer<const WORDS: usize>([AtomicU64; WORDS]);

impl<const WORDS: usize> Buffer<WORDS> {
    const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; WORDS])
    }

    /// Physical address.
    #[inline]
    pub fn address(&self) -> u64 {
        &raw const self.0 as u64
    }

    /// Stores a frame's header.
    #[inline]
    pub fn set_header(&self, header: [u64; HEADER_WORDS]) {
        for (word, value) in self.0.iter().zip(header) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Stores the pattern that follows the header.
    pub fn fill(&self) {
        for word in self.0.iter().skip(HEADER_WORDS) {
            word.store(frame::FILLER, Ordering::Relaxed);
        }
    }
}

/// A received frame, valid while the driver shows it.
#[derive(Clone, Copy)]
pub struct RxFrame<'b> {
    buffer: &'b Buffer<RX_WORDS>,
    len: u16,
}

impl<'b> RxFrame<'b> {
    /// The first `len` bytes of `buffer`.
    #[inline]
    pub fn new(buffer: &'b Buffer<RX_WORDS>, len: u16) -> Self {
        Self { buffer, len }
    }

    /// Bytes without the check sequence.
    #[inline]
    pub fn len(&self) -> u16 {
        self.len
    }

    #[inline]
    fn word(&self, index: usize) -> u64 {
        self.buffer.0[index].load(Ordering::Relaxed)
    }

    #[inline]
    fn has_header(&self) -> bool {
        usize::from(self.len) >= HEADER_WORDS * 8
    }

    /// What the frame is for; `None` if it is not one of ours.
    #[inline]
    pub fn kind(&self) -> Option<Kind> {
        if self.has_header() { frame::kind(self.word(1), self.word(4)) } else { None }
    }

    /// The sequence number, if the frame is one of ours.
    #[inline]
    pub fn sequence(&self) -> u64 {
        self.word(2)
    }

    /// The whole header; `None` if the frame is not one of ours.
    pub fn header(&self) -> Option<Header> {
        let words = core::array::from_fn(|i| self.word(i));
        if self.has_header() { Header::decode(words) } else { None }
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

/// Starts to fetch the cache line at `address` for reading.
#[inline]
pub fn prefetch(address: u64) {
    // SAFETY: a prefetch changes nothing and never faults.
    unsafe {
        core::arch::asm!("prefetcht0 [{}]", in(reg) address,
            options(nostack, preserves_flags, readonly));
    }
}

/// Starts to fetch the cache line at `address` for writing.
#[inline]
pub fn prefetch_write(address: u64) {
    // SAFETY: as `prefetch`; where PREFETCHW is not implemented it is a NOP.
    unsafe {
        core::arch::asm!("prefetchw [{}]", in(reg) address,
            options(nostack, preserves_flags, readonly));
    }
}
