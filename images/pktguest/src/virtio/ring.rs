//! A queue of static frame buffers.

use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicU16, fence};

use virtio_drivers::queue::VirtQueue;

use super::device::{Device, Doorbell};
use super::memory::{HEADER, Memory, Slot};

/// A ring of `SIZE` descriptors whose buffers are slots; the device writes to them if `RECEIVES`.
///
/// Notification by index (VIRTIO_F_EVENT_IDX, 2.7.7 and 2.7.10) is done here: the crate's queue
/// would ask for an interrupt with each slot it takes back, and it rings the doorbell of a device
/// that is at work anyway. It is told that there is no such feature and leaves both indices alone.
pub struct Ring<const SIZE: usize, const WORDS: usize, const RECEIVES: bool> {
    queue: VirtQueue<Memory, SIZE>,
    doorbell: Doorbell,
    /// The used index at which the device interrupts, and the available index at which it wants to
    /// be notified.
    used_event: &'static AtomicU16,
    avail_event: &'static AtomicU16,
    /// Slots given to the device, of these those that it was told of, and slots taken back; wrap.
    added: u16,
    notified: u16,
    popped: u16,
    slots: &'static [Slot<WORDS>],
    /// The slot that each descriptor holds.
    slot_of: [u16; SIZE],
    /// Doorbell writes.
    pub doorbells: u64,
}

impl<const SIZE: usize, const WORDS: usize, const RECEIVES: bool> Ring<SIZE, WORDS, RECEIVES> {
    /// Sets up queue `index` of `device`, empty and with its interrupt off.
    ///
    /// # Errors
    /// The device has no such queue.
    pub fn new(
        device: &mut Device,
        index: u16,
        slots: &'static [Slot<WORDS>],
    ) -> Result<Self, &'static str> {
        let doorbell = device.connect(index);
        let queue = VirtQueue::new(device.transport(), index, false, false)
            .map_err(|_| "A queue of the NIC is shorter than 256 descriptors")?;
        let [avail, used] = device.areas(index);
        // SAFETY: each ring is flags, index and entries, then the other side's event index; they
        // lie where the queue has just told the device, and the queue does not touch the latter.
        let [used_event, avail_event] = unsafe {
            [avail + 4 + 2 * SIZE, used + 4 + 8 * SIZE].map(|at| AtomicU16::from_ptr(at as *mut _))
        };
        let ring = Self {
            queue,
            doorbell,
            used_event,
            avail_event,
            added: 0,
            notified: 0,
            popped: 0,
            slots,
            slot_of: [0; SIZE],
            doorbells: 0,
        };
        ring.disarm();
        Ok(ring)
    }

    /// Gives `slot` to the device, of a frame to send its first `len` bytes; `None` if the ring is
    /// full. The device may not look before it is [notified](Self::notify).
    #[inline]
    pub fn add(&mut self, slot: u16, len: usize) -> Option<()> {
        // SAFETY: the crate makes a descriptor of the slice. The slot is static, and the caller's
        // until `pop` returns it.
        let token = unsafe {
            let span = self.slots[usize::from(slot)].span(len);
            if RECEIVES {
                self.queue.add(&[], &mut [span])
            } else {
                self.queue.add(&[span], &mut [])
            }
        };
        *self.slot_of.get_mut(usize::from(token.ok()?))? = slot;
        self.added = self.added.wrapping_add(1);
        Some(())
    }

    /// Takes back the next slot that the device is done with; with it comes how many bytes of a
    /// frame the device has written.
    #[inline]
    pub fn pop(&mut self) -> Option<(u16, usize)> {
        let token = self.queue.peek_used()?;
        let slot = *self.slot_of.get(usize::from(token))?;
        // SAFETY: the slice that `add` made a descriptor of, in all that the crate looks at.
        let written = unsafe {
            let span = self.slots[usize::from(slot)].span(WORDS * 8);
            if RECEIVES {
                self.queue.pop_used(token, &[], &mut [span])
            } else {
                self.queue.pop_used(token, &[span], &mut [])
            }
        };
        let written = written.ok()?;
        self.popped = self.popped.wrapping_add(1);
        Some((slot, (written as usize).saturating_sub(HEADER)))
    }

    /// The slot of this number.
    #[inline]
    pub fn slot(&self, slot: u16) -> &'static Slot<WORDS> {
        &self.slots[usize::from(slot)]
    }

    /// Whether [`pop`](Self::pop) has something to return.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.queue.can_pop()
    }

    /// Tells the device of what was added, unless it does not want to know.
    #[inline]
    pub fn notify(&mut self) {
        // Between publishing the index and reading the device's wish: either we see that, or the
        // device sees our slots when it looks again.
        fence(SeqCst);
        let wanted = self.avail_event.load(Relaxed);
        let beyond = self.added.wrapping_sub(wanted).wrapping_sub(1);
        if beyond < self.added.wrapping_sub(self.notified) {
            self.doorbell.ring();
            self.doorbells += 1;
        }
        self.notified = self.added;
    }

    /// Asks for an interrupt when the device is done with `count` more slots; look once more before
    /// sleeping.
    pub fn arm(&self, count: u16) {
        self.used_event.store(self.popped.wrapping_add(count).wrapping_sub(1), Relaxed);
        fence(SeqCst);
    }

    /// Asks for no more interrupts: the index asked for has passed, and comes again once in 65536.
    pub fn disarm(&self) {
        self.used_event.store(self.popped.wrapping_sub(1), Relaxed);
    }
}
