//! Guest RAM: one contiguous region that starts at guest-physical address 0.
//!
//! Everything that a device does with guest memory goes through [`GuestRam`], which hands out
//! vm-memory's volatile views: the guest may change any byte at any time, so no Rust reference to
//! its contents ever exists.

use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_storeu_si128};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};

use vm_memory::{
    ByteValued, GuestAddress, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap, MmapRegion,
    VolatileArrayRef, VolatileMemory, VolatileSlice,
};

/// Bytes of a cache line.
pub const CACHE_LINE: usize = 64;

/// The largest RAM of a guest: the MMIO window begins at 3 GiB.
pub const MAX_RAM_BYTES: u64 = 3 << 30;

/// Why guest RAM could not be allocated.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The size is zero, not a multiple of 4 KiB, or above [`MAX_RAM_BYTES`].
    #[error("guest RAM of {0} bytes: must be a multiple of 4096, above 0 and at most 3 GiB")]
    Size(u64),
    /// The host refused the mapping.
    #[error("cannot map {bytes} bytes of guest RAM: {reason}")]
    Map {
        /// Requested size.
        bytes: u64,
        /// The host's words.
        reason: String,
    },
}

/// A guest's RAM. Cloning shares the same memory.
#[derive(Clone, Debug)]
pub struct GuestRam {
    region: Arc<GuestRegionMmap>,
}

impl GuestRam {
    /// Maps `bytes` of zeroed RAM, backed by huge pages where the host allows.
    ///
    /// The host gives a page when it is first touched.
    pub fn new(bytes: u64) -> Result<Self, MemoryError> {
        if bytes == 0 || bytes > MAX_RAM_BYTES || !bytes.is_multiple_of(4096) {
            return Err(MemoryError::Size(bytes));
        }
        let map_error = |reason: String| MemoryError::Map { bytes, reason };
        let region = MmapRegion::new(bytes as usize).map_err(|e| map_error(e.to_string()))?;
        // A host without huge pages refuses, which only costs speed.
        // SAFETY: the range is the mapping just made; the advice keeps its contents.
        unsafe { libc::madvise(region.as_ptr().cast(), region.size(), libc::MADV_HUGEPAGE) };
        let region = GuestRegionMmap::new(region, GuestAddress(0))
            .ok_or_else(|| map_error("address range overflows".into()))?;
        Ok(Self { region: Arc::new(region) })
    }

    /// Has the host give all pages now, so that no page fault falls into a measurement. That takes
    /// longer than all else that a guest needs to start.
    pub fn populate(&self) {
        // A host without MADV_POPULATE_WRITE refuses, which only costs speed.
        // SAFETY: the range is our own mapping; the advice keeps its contents.
        unsafe {
            let (start, size) = (self.region.as_ptr().cast(), self.region.size());
            libc::madvise(start, size, libc::MADV_POPULATE_WRITE);
        }
    }

    /// Size in bytes; also the first guest-physical address that is not RAM.
    pub fn len(&self) -> u64 {
        self.region.len()
    }

    /// Never true: a guest has at least one page.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A view of all of it: for loops that take many pieces, and to whom each step on the way to
    /// the mapping counts.
    #[inline]
    pub fn all(&self) -> VolatileSlice<'_> {
        self.region
            .as_volatile_slice()
            .unwrap_or_else(|e| unreachable!("no region is too long: {e}"))
    }

    /// A view of `len` bytes at guest-physical `addr`; `None` unless all of it is RAM.
    #[inline]
    pub fn slice(&self, addr: u64, len: usize) -> Option<VolatileSlice<'_>> {
        piece(&self.all(), addr, len)
    }

    /// A view of `count` elements at `addr`; `None` unless all of it is RAM.
    #[inline]
    pub fn array<T: ByteValued>(&self, addr: u64, count: usize) -> Option<VolatileArrayRef<'_, T>> {
        (**self.region).get_array_ref(usize::try_from(addr).ok()?, count).ok()
    }

    /// An atomic view of a little-endian 32-bit word; `None` if it is unaligned or not RAM.
    #[inline]
    pub fn atomic_u32(&self, addr: u64) -> Option<&AtomicU32> {
        (**self.region).get_atomic_ref(usize::try_from(addr).ok()?).ok()
    }

    /// An atomic view of a little-endian 64-bit word; `None` if it is unaligned or not RAM.
    #[inline]
    pub fn atomic_u64(&self, addr: u64) -> Option<&AtomicU64> {
        (**self.region).get_atomic_ref(usize::try_from(addr).ok()?).ok()
    }

    /// The same memory in the form that rust-vmm's loaders take.
    pub fn as_guest_memory(&self) -> GuestMemoryMmap {
        GuestMemoryMmap::from_arc_regions(vec![self.region.clone()])
            .unwrap_or_else(|e| unreachable!("one region cannot overlap another: {e}"))
    }

    /// Host address and size, for KVM_SET_USER_MEMORY_REGION. The mapping lives as long as `self`.
    pub fn host_mapping(&self) -> (u64, u64) {
        (self.region.as_ptr() as u64, self.len())
    }
}

/// `len` bytes at guest-physical `addr` of the RAM that [`GuestRam::all`] shows; `None` unless all of
/// it is there.
#[inline]
pub fn piece<'r>(ram: &VolatileSlice<'r>, addr: u64, len: usize) -> Option<VolatileSlice<'r>> {
    ram.subslice(usize::try_from(addr).ok()?, len).ok()
}

/// Copies `from` to `to`, which is as long. For the shortest frames, of 32 to 64 bytes, without the
/// call that takes longer than their copy.
#[inline]
pub fn copy_piece(from: &VolatileSlice<'_>, to: &VolatileSlice<'_>) {
    const PART: usize = size_of::<__m128i>();
    let len = from.len();
    if to.len() != len || !(2 * PART..=4 * PART).contains(&len) {
        return from.copy_to_volatile_slice(*to);
    }
    let (source, target) = (from.ptr_guard(), to.ptr_guard_mut());
    let (source, target) = (source.as_ptr(), target.as_ptr());
    // SAFETY: each part lies within the `len` bytes of both views. As with every access to guest
    // memory they may change meanwhile; these are only bytes to us.
    unsafe {
        let read = |at: usize| _mm_loadu_si128(source.add(at).cast());
        let write = |at: usize, part| _mm_storeu_si128(target.add(at).cast(), part);
        let (a, b, c, d) = (read(0), read(PART), read(len - 2 * PART), read(len - PART));
        write(0, a);
        write(PART, b);
        write(len - 2 * PART, c);
        write(len - PART, d);
    }
}

/// Starts fetching the first cache line of `slice` for reading.
#[inline]
pub fn prefetch(slice: VolatileSlice<'_>) {
    // SAFETY: a prefetch never faults and changes no memory.
    unsafe {
        std::arch::asm!("prefetcht0 [{}]", in(reg) slice.ptr_guard().as_ptr(),
            options(nostack, preserves_flags, readonly));
    }
}

/// Starts fetching the first cache line of `slice` in exclusive state.
///
/// In assembly: for a plain x86-64 the compiler makes a PREFETCHT0 of the intrinsic, which fetches
/// the line as shared, so that the store misses once more.
#[inline]
pub fn prefetch_for_write(slice: VolatileSlice<'_>) {
    // SAFETY: a prefetch never faults and changes no memory; where PREFETCHW is not implemented it
    // is a NOP.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) slice.ptr_guard().as_ptr(),
            options(nostack, preserves_flags, readonly));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_never_leaves_ram() {
        let ram = GuestRam::new(8192).unwrap();
        assert!(ram.slice(0, 8192).is_some());
        assert!(ram.slice(8191, 1).is_some());
        for (addr, len) in [(8192, 1), (8191, 2), (u64::MAX, 1), (u64::MAX - 7, 16), (1 << 40, 1)] {
            assert!(ram.slice(addr, len).is_none(), "{addr:#x}+{len}");
        }
    }

    #[test]
    fn atomics_need_alignment() {
        let ram = GuestRam::new(4096).unwrap();
        assert!(ram.atomic_u32(4092).is_some());
        assert!(ram.atomic_u32(4093).is_none());
        assert!(ram.atomic_u32(4096).is_none());
        assert!(ram.atomic_u64(4088).is_some());
        assert!(ram.atomic_u64(4092).is_none());
    }

    #[test]
    fn a_copy_is_exact_at_every_length() {
        let ram = GuestRam::new(4096).unwrap();
        for len in 1..=100 {
            let pattern: Vec<u8> = (0..len).map(|i| (i * 7 + len) as u8).collect();
            ram.slice(3, len).unwrap().copy_from(&pattern);
            let guarded = ram.slice(1001, len + 2).unwrap();
            guarded.copy_from(&vec![0xee_u8; len + 2]);
            copy_piece(&ram.slice(3, len).unwrap(), &ram.slice(1002, len).unwrap());
            let mut out = vec![0_u8; len + 2];
            guarded.copy_to(&mut out[..]);
            assert_eq!(out[1..=len], pattern);
            assert_eq!((out[0], out[len + 1]), (0xee, 0xee), "{len}");
        }
    }

    #[test]
    fn sizes_are_checked() {
        for bytes in [0, 4095, MAX_RAM_BYTES + 4096] {
            assert!(matches!(GuestRam::new(bytes), Err(MemoryError::Size(_))), "{bytes}");
        }
    }
}
