//! The transmit ring and how its tail reaches the device.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

use super::csb::Csb;
use super::memory::{self, Memory};
use super::regs::{self, Regs};
use crate::frame::HEADER_WORDS;
use crate::nic::Queue;

/// Descriptor commands (3.3.3.1): end of packet, insert the check sequence.
const COMMAND: u64 = (1 << 0 | 1 << 1) << 24;
/// Descriptor command: report status. With shared memory the head tells what is done.
const REPORT: u64 = (1 << 3) << 24;
/// Descriptor done.
const DONE: u64 = 1 << 32;
/// Frames whose buffer is fetched ahead: a miss to the other core's cache takes up to
/// 200 ns, and the doorbell waits for what the frame before it has stored.
const AHEAD: u32 = 32;

/// The ring. One descriptor always stays free: a full ring would look empty (3.4).
pub struct TxRing {
    memory: &'static Memory,
    len: u32,
    /// Next descriptor to fill.
    next: u32,
    /// First descriptor not known to be done.
    clean: u32,
    /// Descriptors that may be filled.
    free: u32,
    doorbell: Doorbell,
    /// Frames were pushed since the doorbell rang.
    pushed: bool,
    /// TDT writes.
    pub tdt_writes: u64,
    /// Frames handed to the device.
    pub frames: u64,
}

/// How the tail is made known.
enum Doorbell {
    /// Write TDT each time.
    Plain,
    /// Send combining: after one TDT write, hold further ones until the NIC is heard of again.
    Combining {
        /// A TDT write is outstanding: nothing was heard of the NIC since.
        outstanding: bool,
        /// Frames wait behind it.
        held: bool,
    },
    /// Shared memory: write TDT only if the device sleeps.
    Shared(&'static Csb),
}

impl TxRing {
    /// Sets up the ring in `memory` with `len` descriptors and enables transmission.
    pub fn new(
        memory: &'static Memory,
        regs: &Regs,
        len: u32,
        sc: bool,
        csb: Option<&'static Csb>,
    ) -> Self {
        for index in 0..len {
            let buffer = memory.tx_buffer(index);
            buffer.fill();
            let descriptor = memory.tx_ring.at(index);
            descriptor.address.store(buffer.address(), Relaxed);
            descriptor.control.store(DONE, Relaxed);
        }
        regs.write(regs::TDBAL, memory.tx_ring.address() as u32);
        regs.write(regs::TDBAH, (memory.tx_ring.address() >> 32) as u32);
        regs.write(regs::TDLEN, len * 16);
        regs.write(regs::TDH, 0);
        regs.write(regs::TDT, 0);
        regs.write(regs::TIPG, regs::TIPG_SETUP);
        regs.write(regs::TCTL, regs::TCTL_SETUP);
        let doorbell = match csb {
            Some(csb) => Doorbell::Shared(csb),
            None if sc => Doorbell::Combining { outstanding: false, held: false },
            None => Doorbell::Plain,
        };
        Self {
            memory,
            len,
            next: 0,
            clean: 0,
            free: len - 1,
            doorbell,
            pushed: false,
            tdt_writes: 0,
            frames: 0,
        }
    }

    /// Sends up to `count` frames of `len` bytes with the headers that `header` makes; returns how
    /// many the ring took.
    #[inline]
    pub fn send(
        &mut self,
        regs: &Regs,
        count: u32,
        len: u16,
        mut header: impl FnMut() -> [u64; HEADER_WORDS],
    ) -> u32 {
        let count = self.room(count);
        if count == 0 {
            return 0;
        }
        let memory = self.memory;
        let mut index = self.next;
        for _ in 0..count {
            memory::prefetch_write(memory.tx_buffer(index + AHEAD).address());
            memory.tx_buffer(index).set_header(header());
            self.describe(index, len);
            index += 1;
            if index == self.len {
                index = 0;
            }
        }
        self.next = index;
        self.free -= count;
        self.frames += u64::from(count);
        self.ring_doorbell(regs);
        count
    }

    /// Makes pushed frames known.
    pub fn flush(&mut self, regs: &Regs) {
        if core::mem::take(&mut self.pushed) {
            self.ring_doorbell(regs);
        }
    }

    /// Fills the descriptor of a frame of `len` bytes.
    #[inline]
    fn describe(&self, index: u32, len: u16) {
        let control = &self.memory.tx_ring.at(index).control;
        let wanted = COMMAND | u64::from(len);
        if !matches!(self.doorbell, Doorbell::Shared(_)) {
            control.store(wanted | REPORT, Release);
        } else if control.load(Relaxed) != wanted {
            // Nobody else writes it: mostly it says that already, and its cache line stays with both.
            control.store(wanted, Release);
        }
    }

    /// Makes the new tail known, or holds it back.
    #[inline]
    fn ring_doorbell(&mut self, regs: &Regs) {
        match &mut self.doorbell {
            Doorbell::Plain => self.write_tail(regs),
            Doorbell::Combining { outstanding: true, held } => *held = true,
            Doorbell::Combining { outstanding, .. } => {
                *outstanding = true;
                self.write_tail(regs);
            }
            Doorbell::Shared(csb) => {
                // A locked exchange is both the store and the full fence that must precede the look
                // at the device's flag. MFENCE costs 30 ns more per frame (measured on an EPYC).
                csb.guest_tdt.swap(self.next, SeqCst);
                if csb.host_need_txkick.load(SeqCst) != 0 {
                    self.write_tail(regs);
                }
            }
        }
    }

    #[inline]
    fn write_tail(&mut self, regs: &Regs) {
        regs.write(regs::TDT, self.next);
        self.tdt_writes += 1;
    }

    /// The NIC was heard of (an interrupt, frames, descriptors done): with send combining, writes
    /// the tail that was held, or lets the next frame go at once if none was.
    #[inline]
    pub fn heard(&mut self, regs: &Regs) {
        if let Doorbell::Combining { outstanding, held } = &mut self.doorbell {
            *outstanding = *held;
            if core::mem::take(held) {
                self.write_tail(regs);
            }
        }
    }

    /// Takes back descriptors that are done; returns whether there were any.
    pub fn reclaim(&mut self) -> bool {
        let before = self.free;
        match &self.doorbell {
            Doorbell::Shared(csb) => {
                // An index that is not in the ring would be a device's bug: take no notice.
                let head = csb.host_tdh.load(Acquire);
                if head < self.len {
                    self.clean = head;
                    let pending = if self.next >= head { 0 } else { self.len } + self.next - head;
                    self.free = self.len - 1 - pending;
                }
            }
            _ => {
                while self.free < self.len - 1
                    && self.memory.tx_ring.at(self.clean).control.load(Acquire) & DONE != 0
                {
                    self.free += 1;
                    self.clean = if self.clean + 1 == self.len { 0 } else { self.clean + 1 };
                }
            }
        }
        self.free != before
    }

    /// Whether the device has done all frames, after a look at what is done.
    pub fn is_idle(&mut self) -> bool {
        self.reclaim();
        self.pending() == 0
    }

    /// Frames not known to be done.
    pub fn pending(&self) -> u32 {
        self.len - 1 - self.free
    }

    /// There is nothing better to do than to wait. With shared memory, lends the device our CPU by
    /// writing TDT if frames are pending; with send combining, this clean-up flushes a held tail.
    pub fn lend(&mut self, regs: &Regs) {
        self.heard(regs);
        if let Doorbell::Shared(_) = self.doorbell {
            self.reclaim();
            if self.pending() > 0 {
                self.write_tail(regs);
            }
        }
    }

    /// Asks for an interrupt when descriptors are done; look once more before sleeping.
    pub fn arm(&self) {
        if let Doorbell::Shared(csb) = self.doorbell {
            csb.guest_need_txkick.swap(1, SeqCst);
        }
    }

    /// Asks for no more transmit interrupts.
    pub fn disarm(&self) {
        if let Doorbell::Shared(csb) = self.doorbell {
            csb.guest_need_txkick.store(0, Release);
        }
    }
}

impl Queue for TxRing {
    #[inline]
    fn room(&mut self, wanted: u32) -> u32 {
        if self.free < wanted {
            self.reclaim();
        }
        wanted.min(self.free)
    }

    #[inline]
    fn push<R>(&mut self, len: u16, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        // SAFETY: the device knows nothing of the descriptor at the tail, even if the ring is full.
        let result = fill(unsafe { self.memory.tx_buffer(self.next).bytes_mut(len) });
        if self.has_room() {
            self.describe(self.next, len);
            self.next = if self.next + 1 == self.len { 0 } else { self.next + 1 };
            self.free -= 1;
            self.frames += 1;
            self.pushed = true;
        }
        result
    }
}
