//! A driver for the Intel 82540EM, with send combining and the shared-memory extension (CSB) as
//! run-time options.
//!
//! [`E1000`] is the driver; [`tx`] and [`rx`] keep the rings, [`csb`] the shared block, [`regs`] the
//! registers. Section numbers refer to Intel's PCI/PCI-X GbE Family Software Developer's Manual.

mod csb;
mod driver;
mod memory;
mod regs;
mod rx;
mod tx;

pub use driver::E1000;
pub use regs::{DEVICE, VENDOR};
