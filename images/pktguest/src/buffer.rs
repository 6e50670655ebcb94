//! Memory that frames lie in and a device shares.
//!
//! All of it is atomics, so a device that changes it at any time is no undefined behaviour; on x86
//! the accesses are plain moves. Addresses are physical: the stub maps memory one to one.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::frame::{self, HEADER_WORDS, Header, Kind};

/// A receive buffer: 2048 bytes and a cache line, so that the buffers' first lines, all a short
/// frame needs, spread over the whole cache instead of every 32nd set.
pub const RX_WORDS: usize = (2048 + 64) / 8;
/// A transmit buffer: 1514 bytes rounded up to an odd number of cache lines, for the same reason.
pub const TX_WORDS: usize = 1600 / 8;

/// A frame's buffer.
#[repr(C, align(64))]
pub struct Buffer<const WORDS: usize>([AtomicU64; WORDS]);

impl<const WORDS: usize> Buffer<WORDS> {
    /// A buffer of zeros.
    pub const fn new() -> Self {
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

    /// The first `len` bytes, at most all, for writing.
    ///
    /// # Safety
    /// Neither the device nor anyone else accesses the buffer while the slice lives.
    #[allow(clippy::mut_from_ref, reason = "atomics may change behind a shared reference")]
    #[inline]
    pub unsafe fn bytes_mut(&self, len: u16) -> &mut [u8] {
        let len = usize::from(len).min(WORDS * 8);
        // SAFETY: within the buffer; the caller vouches that nobody else accesses it.
        unsafe { core::slice::from_raw_parts_mut(self.0.as_ptr().cast_mut().cast(), len) }
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
    ///
    /// # Safety
    /// The device is done with the buffer and gets it back only when the view is gone.
    #[inline]
    pub unsafe fn new(buffer: &'b Buffer<RX_WORDS>, len: u16) -> Self {
        Self { buffer, len }
    }

    /// Bytes without the check sequence.
    #[inline]
    pub fn len(&self) -> u16 {
        self.len
    }

    /// What it holds.
    #[inline]
    pub fn bytes(&self) -> &'b [u8] {
        let len = usize::from(self.len).min(RX_WORDS * 8);
        // SAFETY: within the buffer, which nobody writes to while the view lives (see `new`).
        unsafe { core::slice::from_raw_parts(self.buffer.0.as_ptr().cast(), len) }
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
