//! What roles need of a network card. A role is compiled for each driver: nothing is dispatched at
//! run time.

use core::fmt::Write;

use crate::buffer::RxFrame;
use crate::frame::{HEADER_WORDS, Header, Kind};
use crate::json::Object;
use crate::time;

/// Frames discarded at a time.
const DISCARD: u32 = 64;

/// What a wait is for, besides its deadline and the link's end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// A frame has arrived.
    Frame,
    /// The transmit ring has room.
    Room,
    /// All frames have been transmitted.
    Sent,
    /// The link is up.
    Link,
    /// Nothing else.
    Deadline,
}

impl Until {
    /// Whether the device's transmit side brings it about.
    pub fn is_transmit(self) -> bool {
        matches!(self, Self::Room | Self::Sent)
    }

    /// Whether it can come at any moment, so that polling may pay.
    pub fn is_polled(self) -> bool {
        matches!(self, Self::Frame | Self::Room | Self::Sent)
    }
}

/// What a driver did.
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
    /// Whether there is room for a frame.
    fn has_room(&mut self) -> bool;

    /// Appends a frame of `len` bytes, at most 1514, which `fill` writes, whatever was there before;
    /// the device hears of it with the next [`Nic::flush`]. Without room the frame is dropped.
    fn push<R>(&mut self, len: u16, fill: impl FnOnce(&mut [u8]) -> R) -> R;
}

/// A running network card and its driver.
pub trait Nic {
    /// The transmit ring.
    type Queue: Queue;

    /// Adds to the `ready` line what only this driver has to say.
    fn describe<'w, W: Write>(&self, ready: Object<'w, W>) -> Object<'w, W>;

    /// Its address.
    fn mac(&self) -> [u8; 6];

    /// Whether the link was up when last heard of.
    fn link_up(&self) -> bool;

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

    /// Services the interrupt, if there was one.
    fn service(&mut self);

    /// Waits for `until`, for TSC time `deadline`, or for the link to go down: polls memory for a
    /// while, then arms the interrupt and halts. May return a little early.
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
