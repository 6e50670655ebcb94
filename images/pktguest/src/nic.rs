//! What roles need of a network card. A role is compiled for each driver: nothing is dispatched at
//! run time.

use core::fmt::Write;

use crate::buffer::RxFrame;
use crate::frame::{HEADER_WORDS, Header, Kind};
use crate::json::Object;
use crate::time;
pub use crate::wait::Until;
use crate::wait::Wakeable;

/// Frames discarded at a time.
const DISCARD: u32 = 64;

/// What a driver did.
#[derive(Clone, Copy)]
pub struct Counters {
    /// Register writes that told the device of frames to send (TDT).
    pub tx_doorbells: u64,
    /// Register writes that told the device of receive buffers (RDT).
    pub rx_doorbells: u64,
    /// NIC interrupt handler entries.
    pub interrupts: u64,
    /// Register reads that told an interrupt's cause (ICR).
    pub cause_reads: u64,
    /// Times the CPU was halted.
    pub halts: u64,
    /// Frames handed to the device.
    pub tx_frames: u64,
    /// Frames taken from the device.
    pub rx_frames: u64,
}

/// A transmit ring as a place to write frames into.
pub trait Queue {
    /// For how many frames there is room, up to `wanted`.
    fn room(&mut self, wanted: u32) -> u32;

    /// Whether there is room for a frame.
    #[inline]
    fn has_room(&mut self) -> bool {
        self.room(1) > 0
    }

    /// Appends a frame of `len` bytes, at most 1514, which `fill` writes, whatever was there before;
    /// the device hears of it with the next [`Nic::flush`]. Without room the frame is dropped.
    fn push<R>(&mut self, len: u16, fill: impl FnOnce(&mut [u8]) -> R) -> R;
}

/// A running network card and its driver.
pub trait Nic: Wakeable {
    /// The transmit ring.
    type Queue: Queue;

    /// Adds to the `ready` line what only this driver has to say.
    fn describe<'w, W: Write>(&self, ready: Object<'w, W>) -> Object<'w, W>;

    /// Its address.
    fn mac(&self) -> [u8; 6];

    /// Frames handed to the device but not known to be transmitted.
    fn unsent(&self) -> u64;

    /// What the driver did so far.
    fn counters(&self) -> Counters;

    /// Sends up to `count` test frames of `len` bytes with the headers that `header` makes; returns
    /// how many the ring took, 0 if it is full.
    fn send(&mut self, count: u32, len: u16, header: impl FnMut() -> [u64; HEADER_WORDS]) -> u32;

    /// Where to write frames of any other kind.
    fn queue(&mut self) -> &mut Self::Queue;

    /// Tells the device of the frames in the queue, if any were added. Before a wait, above all.
    fn flush(&mut self);

    /// Shows up to `max` received frames to `each`, which may answer into the queue; returns how
    /// many descriptors that took.
    fn exchange(&mut self, max: u32, each: impl FnMut(RxFrame<'_>, &mut Self::Queue)) -> u32;

    /// Whether a received frame waits.
    fn has_received(&self) -> bool;

    /// Drops the frames that wait.
    fn discard_received(&mut self) {
        while self.has_received() {
            self.receive(DISCARD, |_| ());
        }
    }

    /// As [`wait`](crate::wait::wait), once what waits to be sent is on its way.
    fn wait(&mut self, until: Until, deadline: u64);

    /// Receives no more; frames that wait can still be taken.
    fn stop_receiving(&mut self);

    /// Receives and interrupts no more, and leaves no frame on its way in either ring, so that the
    /// counters agree with the device's.
    fn finish(&mut self);

    /// Shows up to `max` received frames to `each`; returns how many descriptors that took.
    #[inline]
    fn receive(&mut self, max: u32, mut each: impl FnMut(RxFrame<'_>)) -> u32 {
        self.exchange(max, |frame, _| each(frame))
    }

    /// Broadcasts a frame that makes switches learn our address.
    fn announce(&mut self) {
        let header = Header {
            dst: [0xff; 6],
            src: self.mac(),
            sequence: 0,
            tsc: time::now(),
            kind: Kind::Announce,
        };
        self.queue().push(60, |frame| header.write(frame));
        self.flush();
    }
}

impl core::ops::Add for Counters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            tx_doorbells: self.tx_doorbells + other.tx_doorbells,
            rx_doorbells: self.rx_doorbells + other.rx_doorbells,
            interrupts: self.interrupts + other.interrupts,
            cause_reads: self.cause_reads + other.cause_reads,
            halts: self.halts + other.halts,
            tx_frames: self.tx_frames + other.tx_frames,
            rx_frames: self.rx_frames + other.rx_frames,
        }
    }
}
