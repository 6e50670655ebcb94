//! A queue of static frame buffers.

use core::sync::atomic::{Ordering::SeqCst, fence};

use virtio_drivers::queue::VirtQueue;

use super::device::{Device, Doorbell};
use super::memory::{Memory, Slot};

/// A ring of `SIZE` descriptors whose buffers are slots; the device writes to them if `RECEIVES`.
pub struct Ring<const SIZE: usize, const WORDS: usize, const RECEIVES: bool> {
    queue: VirtQueue<Memory, SIZE>,
    doorbell: Doorbell,
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
        let mut queue = VirtQueue::new(device.transport(), index, false, false)
            .map_err(|_| "The NIC's queues are shorter than 256 descriptors")?;
        queue.set_dev_notify(false);
        Ok(Self { queue, doorbell, slots, slot_of: [0; SIZE], doorbells: 0 })
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
        Some((slot, (written.ok()? as usize).saturating_sub(super::memory::HEADER)))
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
        // Between publishing the index and reading the device's flag: either we see its wish or it
        // sees our buffers when it looks again.
        fence(SeqCst);
        if self.queue.should_notify() {
            self.doorbell.ring();
            self.doorbells += 1;
        }
    }

    /// Asks for an interrupt when the device is done with a slot; look once more before sleeping.
    pub fn arm(&mut self) {
        self.queue.set_dev_notify(true);
        fence(SeqCst);
    }

    /// Asks for no more interrupts.
    pub fn disarm(&mut self) {
        self.queue.set_dev_notify(false);
    }
}
