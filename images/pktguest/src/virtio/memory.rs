//! Memory the device shares: rings, and frame buffers.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

use crate::buffer::{Buffer, RX_WORDS, TX_WORDS};
use crate::mmio;

/// Descriptors of the largest receive ring.
pub const MAX_RX: usize = 1024;
/// Descriptors of the transmit ring: all that QEMU offers over TAP.
pub const MAX_TX: usize = 256;
/// What precedes a frame: `struct virtio_net_hdr_mrg_rxbuf`, all zero without offloads (5.1.6).
pub const HEADER: usize = 12;

/// A frame's buffer, and the line at whose end the header lies.
#[repr(C, align(64))]
pub struct Slot<const WORDS: usize> {
    line: [AtomicU64; 8],
    /// The frame.
    pub frame: Buffer<WORDS>,
}

impl<const WORDS: usize> Slot<WORDS> {
    const fn new() -> Self {
        Self { line: [const { AtomicU64::new(0) }; 8], frame: Buffer::new() }
    }

    /// Header and `len` bytes of the frame, or as many as there are.
    ///
    /// # Safety
    /// The slice is for the device: nobody reads or writes through it.
    #[allow(clippy::mut_from_ref, reason = "atomics may change behind a shared reference")]
    pub unsafe fn span(&self, len: usize) -> &mut [u8] {
        let start = (&raw const *self).cast_mut().cast::<u8>();
        let len = HEADER + len.min(WORDS * 8);
        // SAFETY: the header ends where the frame starts, within this slot.
        unsafe { core::slice::from_raw_parts_mut(start.add(size_of_val(&self.line) - HEADER), len) }
    }
}

/// Receive buffers.
pub static RX_SLOTS: [Slot<RX_WORDS>; MAX_RX] = [const { Slot::new() }; MAX_RX];
/// Transmit buffers, and one that is never sent: what a full ring drops is written there.
pub static TX_SLOTS: [Slot<TX_WORDS>; MAX_TX + 1] = [const { Slot::new() }; MAX_TX + 1];

/// Pages for rings: 8 for the largest receive ring, 3 for the transmit ring.
const PAGES: usize = 11;

#[repr(C, align(4096))]
struct Arena([AtomicU64; PAGES * PAGE_SIZE / 8]);

static ARENA: Arena = Arena([const { AtomicU64::new(0) }; PAGES * PAGE_SIZE / 8]);
static PAGES_USED: AtomicUsize = AtomicUsize::new(0);

/// What `virtio-drivers` needs to know of this machine: addresses are physical, and its rings come
/// from a static arena.
pub struct Memory;

// SAFETY: each page of the arena is handed out once, zero as .bss is.
unsafe impl Hal for Memory {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let first = PAGES_USED.fetch_add(pages, Ordering::Relaxed);
        match ARENA.0.get(first * PAGE_SIZE / 8..(first + pages) * PAGE_SIZE / 8) {
            Some(words) => {
                let start = NonNull::from(words).cast();
                (start.as_ptr() as PhysAddr, start)
            }
            // Address 0 means that there is none.
            None => (0, NonNull::dangling()),
        }
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, _: usize) -> NonNull<u8> {
        match NonNull::new(address as *mut u8) {
            Some(register) if mmio::DEVICES.contains(&address) => register,
            _ => panic!("A BAR of the NIC is not in [3 GiB, 4 GiB)"),
        }
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        buffer.cast::<u8>().as_ptr() as PhysAddr
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}
