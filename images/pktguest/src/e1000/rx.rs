//! The receive ring and how descriptors return to the device.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

use super::csb::Csb;
use super::memory::{self, Memory, RxFrame};
use super::regs::{self, Regs};

/// Descriptor done.
const DONE: u64 = 1 << 32;
/// End of packet.
const END: u64 = 1 << 33;
/// Any receive error (3.2.3.2).
const ERRORS: u64 = 0xff << 40;
/// The descriptors must tell how many frames wait.
const UNKNOWN: u32 = u32::MAX;
/// Frames ahead to fetch.
const AHEAD: u32 = 24;

/// The ring. The device owns all descriptors but the one before `next`.
pub struct RxRing {
    memory: &'static Memory,
    len: u32,
    /// Next descriptor to look at.
    next: u32,
    /// Descriptors consumed but not returned.
    unreturned: u32,
    csb: Option<&'static Csb>,
    /// RDT was written since [`take_posted`](Self::take_posted).
    posted: bool,
    /// RDT writes.
    pub rdt_writes: u64,
    /// Frames received.
    pub frames: u64,
}

impl RxRing {
    /// Sets up the ring in `memory` with `len` descriptors, all the device's but one, and enables
    /// reception: of frames to anyone if `promiscuous`.
    pub fn new(
        memory: &'static Memory,
        regs: &Regs,
        len: u32,
        promiscuous: bool,
        csb: Option<&'static Csb>,
    ) -> Self {
        for index in 0..len {
            let descriptor = memory.rx_ring.at(index);
            descriptor.address.store(memory.rx_buffer(index).address(), Relaxed);
            descriptor.control.store(0, Relaxed);
        }
        regs.write(regs::RDBAL, memory.rx_ring.address() as u32);
        regs.write(regs::RDBAH, (memory.rx_ring.address() >> 32) as u32);
        regs.write(regs::RDLEN, len * 16);
        regs.write(regs::RDH, 0);
        regs.write(regs::RDTR, 0);
        regs.write(regs::RADV, 0);
        let promiscuous = if promiscuous { regs::RCTL_PROMISCUOUS } else { 0 };
        regs.write(regs::RCTL, regs::RCTL_SETUP | promiscuous);
        regs.write(regs::RDT, len - 1);
        Self { memory, len, next: 0, unreturned: 0, csb, posted: true, rdt_writes: 1, frames: 0 }
    }

    /// Whether a frame waits.
    #[inline]
    pub fn ready(&self) -> bool {
        match self.announced() {
            UNKNOWN => self.memory.rx_ring.at(self.next).control.load(Acquire) & DONE != 0,
            count => count > 0,
        }
    }

    /// Frames that wait, as the device's head in shared memory tells: it moves once a batch, so that
    /// the descriptors' cache lines do not travel while the device still writes to them. Without
    /// shared memory the descriptors must tell, one by one.
    #[inline]
    fn announced(&self) -> u32 {
        let Some(csb) = self.csb else { return UNKNOWN };
        let head = csb.host_rdh.load(Acquire);
        // An index outside the ring would be a device's bug: take no notice.
        if head >= self.len {
            return 0;
        }
        if head >= self.next { head - self.next } else { head + self.len - self.next }
    }

    /// Shows up to `max` frames to `each`; returns how many descriptors that took.
    #[inline]
    pub fn receive(&mut self, regs: &Regs, max: u32, mut each: impl FnMut(RxFrame<'_>)) -> u32 {
        // At most a quarter at a time, so that the rest is the device's meanwhile.
        let max = max.min(self.len / 4).min(self.announced());
        let memory = self.memory;
        let mut index = self.next;
        let mut count = 0;
        while count < max {
            let descriptor = memory.rx_ring.at(index);
            let control = descriptor.control.load(Acquire);
            if control & DONE == 0 {
                break;
            }
            if self.csb.is_none() {
                // Where the head tells what is done the line is left as it is, with both of us.
                descriptor.control.store(0, Release);
            }
            memory::prefetch(memory.rx_buffer(index + AHEAD).address());
            if control & (END | ERRORS) == END {
                // SAFETY: the descriptor is done, and is not the device's again before we return it.
                each(unsafe { RxFrame::new(memory.rx_buffer(index), control as u16) });
            }
            count += 1;
            index += 1;
            if index == self.len {
                index = 0;
            }
        }
        if count > 0 {
            self.next = index;
            self.frames += u64::from(count);
            self.unreturned += count;
            self.return_descriptors(regs);
        }
        count
    }

    #[inline]
    fn return_descriptors(&mut self, regs: &Regs) {
        let tail = if self.next == 0 { self.len - 1 } else { self.next - 1 };
        let Some(csb) = self.csb else {
            // Once per quarter, not per packet: three quarters are always the device's, so this
            // never starves it.
            if self.unreturned >= self.len / 4 {
                self.unreturned = 0;
                self.write_tail(regs, tail);
            }
            return;
        };
        let returned = core::mem::take(&mut self.unreturned);
        // The exchange is also the full fence between publishing the tail and reading the index:
        // either we see the device's wish or the device sees our tail when it looks again.
        csb.guest_rdt.swap(tail, SeqCst);
        let kick_at = csb.host_rxkick_at.load(SeqCst);
        if kick_at < self.len {
            let behind = if tail >= kick_at { 0 } else { self.len } + tail - kick_at;
            if behind < returned {
                self.write_tail(regs, tail);
            }
        }
    }

    #[inline]
    fn write_tail(&mut self, regs: &Regs, tail: u32) {
        regs.write(regs::RDT, tail);
        self.rdt_writes += 1;
        self.posted = true;
    }

    /// Whether RDT was written since the last call.
    pub fn take_posted(&mut self) -> bool {
        core::mem::take(&mut self.posted)
    }

    /// Asks for an interrupt at the next frame; look once more before sleeping.
    pub fn arm(&self) {
        if let Some(csb) = self.csb {
            csb.guest_need_rxkick.swap(1, SeqCst);
        }
    }

    /// Asks for no more receive interrupts.
    pub fn disarm(&self) {
        if let Some(csb) = self.csb {
            csb.guest_need_rxkick.store(0, Release);
        }
    }
}
