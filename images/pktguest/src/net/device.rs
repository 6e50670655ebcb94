//! A driver's rings as smoltcp's device: at most one received frame, and a queue to send into.

use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

use crate::nic::Queue;

/// What smoltcp sees of the driver during one poll.
pub struct Device<'d, Q> {
    received: Option<&'d [u8]>,
    queue: &'d mut Q,
    mtu: u16,
}

impl<'d, Q: Queue> Device<'d, Q> {
    /// A device that has `received` one frame, or none, and sends frames of up to `mtu` bytes into
    /// `queue`.
    #[inline]
    pub fn new(received: Option<&'d [u8]>, queue: &'d mut Q, mtu: u16) -> Self {
        Self { received, queue, mtu }
    }
}

impl<Q: Queue> phy::Device for Device<'_, Q> {
    type RxToken<'a>
        = Received<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Room<'a, Q>
    where
        Self: 'a;

    #[inline]
    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Room<'_, Q>)> {
        Some((Received(self.received.take()?), Room(self.queue)))
    }

    #[inline]
    fn transmit(&mut self, _: Instant) -> Option<Room<'_, Q>> {
        self.queue.has_room().then_some(Room(self.queue))
    }

    #[inline]
    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu.into();
        capabilities
    }
}

/// A received frame.
pub struct Received<'a>(&'a [u8]);

impl phy::RxToken for Received<'_> {
    #[inline]
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

/// Room for one frame. An answer to a received frame is dropped if there is none after all.
pub struct Room<'a, Q>(&'a mut Q);

impl<Q: Queue> phy::TxToken for Room<'_, Q> {
    #[inline]
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        // smoltcp asks for no more than the MTU, which is 16 bits.
        self.0.push(len as u16, write)
    }
}
