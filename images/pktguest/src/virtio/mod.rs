//! A driver for virtio-net over PCI (Virtual I/O Device 1.2), on the `virtio-drivers` crate.
//!
//! The crate's own network drivers notify and allocate per packet, and its `notify` costs three
//! register accesses; so [`ring`] keeps static buffers on its `VirtQueue`, [`device`] finds the
//! doorbells and has interrupts delivered as messages, and [`Virtio`] is the driver. Frames carry
//! no checksum and are not segmented by the device: there is nothing to offload.

mod device;
mod driver;
mod memory;
mod ring;

pub use device::Device;
pub use driver::Virtio;
