//! Descriptor ring registers, common to both directions (manual 3.2.6 and 3.4).

use vm_memory::{VolatileArrayRef, VolatileSlice};

use crate::memory::{CACHE_LINE, GuestRam};

/// Bytes of a descriptor.
pub const DESCRIPTOR_BYTES: u64 = 16;

/// Descriptors in a cache line.
pub const DESCRIPTORS_PER_LINE: u32 = (CACHE_LINE as u64 / DESCRIPTOR_BYTES) as u32;

/// A descriptor as two little-endian words: buffer address, then everything else.
pub type Descriptor = [u64; 2];

/// The bytes of descriptor `index`; `None` outside the ring.
#[inline]
pub fn bytes<'r>(
    descriptors: &VolatileArrayRef<'r, Descriptor>,
    index: u32,
) -> Option<VolatileSlice<'r>> {
    let at = index as usize * DESCRIPTOR_BYTES as usize;
    descriptors.to_slice().subslice(at, DESCRIPTOR_BYTES as usize).ok()
}

/// Base, length, head and tail. All of them are the guest's and may hold anything.
#[derive(Debug, Default)]
pub struct Ring {
    /// xDBAL and xDBAH.
    pub base: [u32; 2],
    /// xDLEN: bytes.
    pub length: u32,
    /// xDH: the device's next descriptor.
    pub head: u32,
    /// xDT: the first descriptor that is not the device's.
    pub tail: u32,
}

impl Ring {
    /// Descriptors in the ring.
    #[inline]
    pub fn size(&self) -> u32 {
        (self.length & 0x000f_ff80) / DESCRIPTOR_BYTES as u32
    }

    /// Guest-physical address of the first descriptor; the four low bits are ignored.
    #[inline]
    pub fn address(&self) -> u64 {
        (u64::from(self.base[1]) << 32) | u64::from(self.base[0] & !0xf)
    }

    /// Descriptors from head up to `tail`; 0 if either lies outside the ring.
    #[inline]
    pub fn owned(&self, tail: u32) -> u32 {
        let size = self.size();
        match (self.head < size, tail < size) {
            (true, true) if tail >= self.head => tail - self.head,
            (true, true) => size - self.head + tail,
            _ => 0,
        }
    }

    /// The index after `index`. Both lie inside the ring.
    #[inline]
    pub fn next(&self, index: u32) -> u32 {
        if index + 1 == self.size() { 0 } else { index + 1 }
    }

    /// The index `ahead` descriptors, less than a ring, after `index`.
    #[inline]
    pub fn after(&self, index: u32, ahead: u32) -> u32 {
        let sum = index + ahead;
        if sum >= self.size() { sum - self.size() } else { sum }
    }

    /// The descriptors; `None` unless all of them are in RAM.
    #[inline]
    pub fn view<'r>(&self, ram: &'r GuestRam) -> Option<VolatileArrayRef<'r, Descriptor>> {
        ram.array(self.address(), self.size() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(length: u32, head: u32) -> Ring {
        Ring { length, head, ..Ring::default() }
    }

    #[test]
    fn counts_across_the_end() {
        assert_eq!(ring(128, 6).owned(2), 4);
        assert_eq!(ring(128, 2).owned(6), 4);
        assert_eq!(ring(128, 2).owned(2), 0);
    }

    #[test]
    fn indices_outside_the_ring_own_nothing() {
        assert_eq!(ring(128, 0).owned(8), 0);
        assert_eq!(ring(128, 8).owned(2), 0);
        assert_eq!(ring(0, 0).owned(0), 0);
        assert_eq!(ring(127, 0).owned(1), 0, "a length is a multiple of 128 bytes");
        assert_eq!(ring(u32::MAX, u32::MAX).owned(u32::MAX), 0);
    }

    #[test]
    fn a_ring_outside_ram_has_no_view() {
        let ram = GuestRam::new(4096).unwrap();
        let at = |low, high, length| Ring { base: [low, high], length, ..Ring::default() };
        assert!(at(0, 0, 4096).view(&ram).is_some());
        assert!(at(128, 0, 4096).view(&ram).is_none());
        assert!(at(0xffff_fff0, 0xffff_ffff, 128).view(&ram).is_none());
    }
}
