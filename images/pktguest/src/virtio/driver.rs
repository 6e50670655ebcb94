//! The driver proper.

use core::fmt::Write;

use super::device::{self, Device};
use super::memory::{MAX_RX, MAX_TX, RX_SLOTS, TX_SLOTS};
use super::ring::Ring;
use crate::apic::{self, Timer};
use crate::buffer::{RX_WORDS, RxFrame, TX_WORDS};
use crate::cmdline::Config;
use crate::frame::HEADER_WORDS;
use crate::irq::Events;
use crate::json::Object;
use crate::nic::{Counters, Nic, Queue, Until};
use crate::time::Clock;
use crate::wait::{self, Patience, Wakeable};

/// The shortest frame without its check sequence (IEEE 802.3, 3.2.8).
const MIN_FRAME: u16 = 60;
/// Free slots worth waiting for, as much as Linux waits for: at one at a time, both sides would look
/// at the ring for each frame.
const ROOM: usize = MAX_TX * 3 / 4;

/// A running virtio-net with `RX` receive descriptors.
pub struct Virtio<const RX: usize> {
    device: Device,
    patience: Patience,
    tx: Transmitter,
    rx: Ring<RX, RX_WORDS, true>,
    rx_frames: u64,
    /// Buffers return to the device.
    receiving: bool,
    mac: [u8; 6],
    link: bool,
    /// Queue interrupts serviced, and, as the stub counts them, the last of these, and of link
    /// changes.
    interrupts: u64,
    serviced: u16,
    heard: u8,
}

impl<const RX: usize> Virtio<RX> {
    /// Sets up the queues and starts the device.
    ///
    /// # Errors
    /// What the device lacks.
    pub fn new(
        mut device: Device,
        config: &Config,
        clock: Clock,
        timer: Timer,
    ) -> Result<Self, &'static str> {
        const { assert!(RX <= MAX_RX) };
        if config.sc || config.csb {
            return Err("sc and csb are options of the e1000 driver");
        }
        let mac = device.mac().ok_or("The NIC has no address")?;
        let mut rx = Ring::new(&mut device, device::RX, &RX_SLOTS)?;
        let tx = Transmitter::new(&mut device)?;
        for slot in 0..RX as u16 {
            rx.add(slot, usize::MAX);
        }
        device.start();
        rx.notify();
        let heard = Events::now().link();
        let link = device.link_up();
        Ok(Self {
            device,
            patience: Patience::new(clock, timer, config),
            tx,
            rx,
            rx_frames: 0,
            receiving: true,
            mac,
            link,
            interrupts: 0,
            serviced: 0,
            heard,
        })
    }

    #[cold]
    fn end_interrupt(&mut self, taken: u16) {
        self.interrupts += u64::from(taken.wrapping_sub(self.serviced));
        self.serviced = taken;
        apic::end_of_interrupt();
    }

    #[cold]
    fn hear_of_link(&mut self, changes: u8) {
        self.heard = changes;
        self.link = self.device.link_up();
    }
}

impl<const RX: usize> Nic for Virtio<RX> {
    type Queue = Transmitter;

    fn describe<'w, W: Write>(&self, ready: Object<'w, W>) -> Object<'w, W> {
        ready.num("rx_ring", RX as u64).num("tx_ring", MAX_TX as u64)
    }

    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn unsent(&self) -> u64 {
        self.tx.pending().into()
    }

    fn counters(&self) -> Counters {
        let waiting = Events::now().nic(0).wrapping_sub(self.serviced);
        Counters {
            tx_doorbells: self.tx.ring.doorbells,
            rx_doorbells: self.rx.doorbells,
            interrupts: self.interrupts + u64::from(waiting),
            cause_reads: 0,
            halts: self.patience.halts,
            tx_frames: self.tx.frames,
            rx_frames: self.rx_frames,
        }
    }

    #[inline]
    fn send(
        &mut self,
        count: u32,
        len: u16,
        mut header: impl FnMut() -> [u64; HEADER_WORDS],
    ) -> u32 {
        let mut sent = 0;
        while sent < count && self.tx.has_room() {
            let slot = self.tx.next();
            self.tx.ring.slot(slot).frame.set_header(header());
            self.tx.append(slot, len);
            sent += 1;
        }
        self.flush();
        sent
    }

    fn queue(&mut self) -> &mut Transmitter {
        &mut self.tx
    }

    #[inline]
    fn flush(&mut self) {
        if core::mem::take(&mut self.tx.added) {
            self.tx.ring.notify();
        }
    }

    #[inline]
    fn exchange(&mut self, max: u32, mut each: impl FnMut(RxFrame<'_>, &mut Transmitter)) -> u32 {
        let mut count = 0;
        while count < max {
            let Some((slot, len)) = self.rx.pop() else { break };
            // SAFETY: the slot is ours until it is added again.
            each(unsafe { RxFrame::new(&self.rx.slot(slot).frame, len as u16) }, &mut self.tx);
            if self.receiving {
                self.rx.add(slot, usize::MAX);
            }
            count += 1;
        }
        if count > 0 {
            self.rx_frames += u64::from(count);
            if self.receiving {
                self.rx.notify();
            }
        }
        count
    }

    #[inline]
    fn has_received(&self) -> bool {
        self.rx.is_ready()
    }

    fn wait(&mut self, until: Until, deadline: u64) {
        wait::wait(self, until, deadline);
    }

    fn stop_receiving(&mut self) {
        self.receiving = false;
    }

    fn finish(&mut self) {
        self.stop_receiving();
        self.discard_received();
        self.disarm();
    }
}

impl<const RX: usize> Wakeable for Virtio<RX> {
    fn link_up(&self) -> bool {
        self.link
    }

    #[inline]
    fn service(&mut self) {
        let events = Events::now();
        if events.nic(0) != self.serviced {
            self.end_interrupt(events.nic(0));
        }
        if events.link() != self.heard {
            self.hear_of_link(events.link());
        }
    }

    fn patience(&mut self) -> &mut Patience {
        &mut self.patience
    }

    #[inline]
    fn reached(&mut self, until: Until) -> bool {
        match until {
            Until::Frame => self.has_received(),
            Until::Room => self.tx.missing() == 0,
            Until::Sent => self.tx.is_idle(),
            Until::Link => self.link,
            Until::Deadline => false,
        }
    }

    fn arm(&mut self, until: Until) {
        match until {
            Until::Frame => self.rx.arm(1),
            Until::Room => {
                let missing = self.tx.missing();
                self.tx.ring.arm(missing);
            }
            Until::Sent => self.tx.ring.arm(self.tx.pending()),
            Until::Link | Until::Deadline => (),
        }
    }

    fn disarm(&mut self) {
        self.rx.disarm();
        self.tx.ring.disarm();
    }
}

/// The transmit side.
pub struct Transmitter {
    ring: Ring<MAX_TX, TX_WORDS, false>,
    /// Slots that are ours: the first `free`, a stack.
    slots: [u16; MAX_TX],
    free: usize,
    /// Frames were added since the device was notified.
    added: bool,
    /// Frames handed to the device.
    frames: u64,
}

impl Transmitter {
    fn new(device: &mut Device) -> Result<Self, &'static str> {
        for slot in &TX_SLOTS {
            slot.frame.fill();
        }
        let ring = Ring::new(device, device::TX, &TX_SLOTS)?;
        let slots = core::array::from_fn(|slot| slot as u16);
        Ok(Self { ring, slots, free: MAX_TX, added: false, frames: 0 })
    }

    /// The slot for the next frame: if there is no room, the one that is not sent.
    #[inline]
    fn next(&self) -> u16 {
        self.free.checked_sub(1).map_or(MAX_TX as u16, |top| self.slots[top])
    }

    /// Gives the [next](Self::next) slot to the device.
    #[inline]
    fn append(&mut self, slot: u16, len: u16) {
        if self.ring.add(slot, len.into()).is_some() {
            self.free -= 1;
            self.frames += 1;
            self.added = true;
        }
    }

    /// Takes back slots that are done.
    fn reclaim(&mut self) {
        while let Some((slot, _)) = self.ring.pop() {
            self.slots[self.free] = slot;
            self.free += 1;
        }
    }

    /// Frames not known to be done.
    fn pending(&self) -> u16 {
        (MAX_TX - self.free) as u16
    }

    /// Slots that must be done before sending goes on.
    fn missing(&mut self) -> u16 {
        self.reclaim();
        ROOM.saturating_sub(self.free) as u16
    }

    /// Whether the device has done all frames.
    fn is_idle(&mut self) -> bool {
        self.reclaim();
        self.free == MAX_TX
    }
}

impl Queue for Transmitter {
    #[inline]
    fn room(&mut self, wanted: u32) -> u32 {
        if self.free < wanted as usize {
            self.reclaim();
        }
        wanted.min(self.free as u32)
    }

    #[inline]
    fn push<R>(&mut self, len: u16, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let has_room = self.has_room();
        let slot = self.next();
        let padded = len.max(MIN_FRAME);
        // SAFETY: the slot is ours until it is added.
        let bytes = unsafe { self.ring.slot(slot).frame.bytes_mut(padded) };
        let (frame, padding) = bytes.split_at_mut(usize::from(len).min(bytes.len()));
        padding.fill(0);
        let result = fill(frame);
        if has_room {
            self.append(slot, padded);
        }
        result
    }
}
