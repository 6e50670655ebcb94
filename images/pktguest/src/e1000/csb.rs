//! The Communication Status Block: tails, heads and "need a kick" flags in shared memory, so that
//! registers are written and interrupts raised only when the other side sleeps (Rizzo, Lettieri,
//! Maffione: "Speeding up packet I/O in virtual machines", ANCS 2013; layout as published).

use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

use super::regs::{CSBAH, CSBAL, Regs};
use crate::irq::NICS;

/// PCI subsystem device id that announces the extension.
pub const SUBSYSTEM: u16 = 0x1101;
/// "No index" in a `..._at` field.
const NONE: u32 = u32::MAX;
/// Empty polls before the host's transmit side sleeps.
const HOST_POLLS: u32 = 1;

/// The block. Fields are named as published; `guest_*` are written by us, `host_*` by the device.
#[repr(C, align(4096))]
pub struct Csb {
    /// Next transmit index, exclusive.
    pub guest_tdt: AtomicU32,
    /// Non-zero: interrupt us when transmit descriptors are done.
    pub guest_need_txkick: AtomicU32,
    /// Non-zero: interrupt us when a frame arrives.
    pub guest_need_rxkick: AtomicU32,
    /// Non-zero: the block is in use.
    pub guest_csb_on: AtomicU32,
    /// Receive tail.
    pub guest_rdt: AtomicU32,
    guest_txkick_at: AtomicU32,
    guest_use_msix: AtomicU32,
    _pad: [AtomicU32; 9],
    /// Transmit head.
    pub host_tdh: AtomicU32,
    /// Non-zero: TDT must be written.
    pub host_need_txkick: AtomicU32,
    host_txcycles_lim: AtomicU32,
    host_txcycles: AtomicU32,
    /// Receive head.
    pub host_rdh: AtomicU32,
    host_need_rxkick: AtomicU32,
    host_isr: AtomicU32,
    /// RDT must be written when the receive tail gets here.
    pub host_rxkick_at: AtomicU32,
    vnet_ring: [AtomicU32; 2],
}

const _: () = {
    assert!(core::mem::offset_of!(Csb, host_tdh) == 0x40);
    assert!(core::mem::offset_of!(Csb, host_rxkick_at) == 0x5c);
    assert!(core::mem::size_of::<Csb>() == 4096);
};

/// One for each NIC.
static BLOCKS: [Csb; NICS] = [const { Csb::new() }; NICS];

impl Csb {
    /// A block that is not in use.
    const fn new() -> Self {
        Self {
            guest_tdt: AtomicU32::new(0),
            guest_need_txkick: AtomicU32::new(0),
            guest_need_rxkick: AtomicU32::new(1),
            guest_csb_on: AtomicU32::new(0),
            guest_rdt: AtomicU32::new(0),
            guest_txkick_at: AtomicU32::new(NONE),
            guest_use_msix: AtomicU32::new(0),
            _pad: [const { AtomicU32::new(0) }; 9],
            host_tdh: AtomicU32::new(0),
            host_need_txkick: AtomicU32::new(1),
            host_txcycles_lim: AtomicU32::new(HOST_POLLS),
            host_txcycles: AtomicU32::new(0),
            host_rdh: AtomicU32::new(0),
            host_need_rxkick: AtomicU32::new(1),
            host_isr: AtomicU32::new(0),
            host_rxkick_at: AtomicU32::new(NONE),
            vnet_ring: [const { AtomicU32::new(0) }; 2],
        }
    }

    /// Hands block `index` to the device and turns it on, with `rdt` as the receive tail.
    ///
    /// `guest_need_rxkick` starts at 0: we poll first and ask for interrupts before we sleep.
    pub fn enable(index: usize, regs: &Regs, rdt: u32) -> &'static Self {
        let csb = &BLOCKS[index];
        csb.guest_rdt.store(rdt, SeqCst);
        csb.guest_need_rxkick.store(0, SeqCst);
        let address = &raw const *csb as u64;
        regs.write(CSBAH, (address >> 32) as u32);
        regs.write(CSBAL, address as u32);
        csb.guest_csb_on.store(1, SeqCst);
        csb
    }
}
