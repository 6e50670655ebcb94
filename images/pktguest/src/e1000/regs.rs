//! Registers (SDM chapter 13) and what the driver needs of their bits.

use crate::mmio;

/// PCI vendor id.
pub const VENDOR: u16 = 0x8086;
/// PCI device id.
pub const DEVICE: u16 = 0x100e;

/// Device Control.
pub const CTRL: usize = 0x0000;
pub const CTRL_SLU: u32 = 1 << 6;
pub const CTRL_RST: u32 = 1 << 26;
/// Device Status.
pub const STATUS: usize = 0x0008;
pub const STATUS_LU: u32 = 1 << 1;
/// EEPROM Read.
pub const EERD: usize = 0x0014;
pub const EERD_START: u32 = 1 << 0;
pub const EERD_DONE: u32 = 1 << 4;
/// Interrupt Cause Read; reading clears it and drops INTx.
pub const ICR: usize = 0x00c0;
/// Interrupt Throttling, in 256 ns.
pub const ITR: usize = 0x00c4;
/// Interrupt Mask Set.
pub const IMS: usize = 0x00d0;
/// Interrupt Mask Clear.
pub const IMC: usize = 0x00d8;
/// Transmit descriptor written back.
pub const CAUSE_TXDW: u32 = 1 << 0;
/// Link status change.
pub const CAUSE_LSC: u32 = 1 << 2;
/// Receive descriptors run low.
pub const CAUSE_RXDMT0: u32 = 1 << 4;
/// Receiver overrun.
pub const CAUSE_RXO: u32 = 1 << 6;
/// Frame received.
pub const CAUSE_RXT0: u32 = 1 << 7;
/// Receive Control.
pub const RCTL: usize = 0x0100;
/// Enable, accept broadcast, strip the CRC; buffers of 2048 bytes.
pub const RCTL_SETUP: u32 = 1 << 1 | 1 << 15 | 1 << 26;
/// Take unicast and multicast to anyone.
pub const RCTL_PROMISCUOUS: u32 = 1 << 3 | 1 << 4;
/// Transmit Control.
pub const TCTL: usize = 0x0400;
/// Enable, pad short frames; collision threshold 15 and distance 64 (full duplex).
pub const TCTL_SETUP: u32 = 1 << 1 | 1 << 3 | 0x0f << 4 | 0x40 << 12;
/// Transmit inter-packet gap.
pub const TIPG: usize = 0x0410;
/// For copper (13.4.34): 10, 8 and 6.
pub const TIPG_SETUP: u32 = 10 | 8 << 10 | 6 << 20;

/// Receive descriptor ring: base low/high, length, head, tail.
pub const RDBAL: usize = 0x2800;
pub const RDBAH: usize = 0x2804;
pub const RDLEN: usize = 0x2808;
pub const RDH: usize = 0x2810;
pub const RDT: usize = 0x2818;
/// Receive delay timers, 1.024 us.
pub const RDTR: usize = 0x2820;
pub const RADV: usize = 0x282c;
/// Address of the shared-memory block (not in the manual): write high, then low.
pub const CSBAL: usize = 0x2830;
pub const CSBAH: usize = 0x2834;
/// Transmit descriptor ring.
pub const TDBAL: usize = 0x3800;
pub const TDBAH: usize = 0x3804;
pub const TDLEN: usize = 0x3808;
pub const TDH: usize = 0x3810;
pub const TDT: usize = 0x3818;
/// Multicast table, 128 words.
pub const MTA: usize = 0x5200;
/// Receive address 0.
pub const RAL0: usize = 0x5400;
pub const RAH0: usize = 0x5404;
pub const RAH_AV: u32 = 1 << 31;

/// BAR0 of one NIC.
pub struct Regs {
    base: usize,
}

impl Regs {
    /// Registers at physical address `bar0`; `None` if that is not where the stub maps devices.
    pub fn new(bar0: u32) -> Option<Self> {
        (bar0 >= 0xc000_0000).then_some(Self { base: bar0 as usize })
    }

    /// Reads a register: an exit.
    #[inline]
    pub fn read(&self, register: usize) -> u32 {
        // SAFETY: `new` checked that BAR0 is in device space; `register` is one of the above.
        unsafe { mmio::read(self.base + register) }
    }

    /// Writes a register: an exit.
    #[inline]
    pub fn write(&self, register: usize, value: u32) {
        // SAFETY: as for reads. DMA goes to the atomics in `memory` and `csb` only, which are what
        // the driver puts into rings and registers.
        unsafe { mmio::write(self.base + register, value) }
    }
}
