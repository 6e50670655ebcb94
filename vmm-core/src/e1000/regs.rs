//! Bits of registers and descriptors.
//!
//! Names and section numbers are those of Intel's "PCI/PCI-X Family of Gigabit Ethernet Controllers
//! Software Developer's Manual" (8254x). The registers themselves are in [`super::registers`].

#![allow(missing_docs, reason = "the names are the manual's")]

/// Device control, 13.4.1.
pub mod ctrl {
    pub const SLU: u32 = 1 << 6;
    pub const SPEED_1000: u32 = 0b10 << 8;
    pub const RST: u32 = 1 << 26;
    pub const VME: u32 = 1 << 30;
    pub const PHY_RST: u32 = 1 << 31;
}

/// Device status, 13.4.2.
pub mod status {
    pub const FD: u32 = 1 << 0;
    pub const LU: u32 = 1 << 1;
    pub const SPEED_SHIFT: u32 = 6;
    pub const ASDV_SHIFT: u32 = 8;
}

/// Extended device control, 13.4.6.
pub mod ctrl_ext {
    pub const ASDCHK: u32 = 1 << 12;
    pub const EE_RST: u32 = 1 << 13;
}

/// Interrupt causes: bits of ICR, ICS, IMS and IMC, 13.4.17.
pub mod cause {
    pub const TXDW: u32 = 1 << 0;
    pub const TXQE: u32 = 1 << 1;
    pub const LSC: u32 = 1 << 2;
    pub const RXDMT0: u32 = 1 << 4;
    pub const RXO: u32 = 1 << 6;
    pub const RXT0: u32 = 1 << 7;
    pub const MDAC: u32 = 1 << 9;
    pub const TXD_LOW: u32 = 1 << 15;
    pub const SRPD: u32 = 1 << 16;
    /// All that can be latched: drivers test the reserved ones among them through ICS, too.
    pub const ALL: u32 = 0x0001_ffff;
}

/// Receive control, 13.4.22.
pub mod rctl {
    pub const EN: u32 = 1 << 1;
    pub const SBP: u32 = 1 << 2;
    pub const UPE: u32 = 1 << 3;
    pub const MPE: u32 = 1 << 4;
    pub const LPE: u32 = 1 << 5;
    pub const LBM_MAC: u32 = 1 << 6;
    pub const RDMTS_SHIFT: u32 = 8;
    pub const MO_SHIFT: u32 = 12;
    pub const BAM: u32 = 1 << 15;
    pub const BSIZE_SHIFT: u32 = 16;
    pub const VFE: u32 = 1 << 18;
    pub const CFIEN: u32 = 1 << 19;
    pub const CFI: u32 = 1 << 20;
    pub const BSEX: u32 = 1 << 25;
    pub const SECRC: u32 = 1 << 26;
    /// Every bit that is not reserved.
    pub const WRITABLE: u32 = 0x06df_b3fe;
}

/// Transmit control, 13.4.33.
pub mod tctl {
    pub const EN: u32 = 1 << 1;
    pub const PSP: u32 = 1 << 3;
    /// Every bit that is not reserved.
    pub const WRITABLE: u32 = 0x037f_fffa;
}

/// Transmit descriptor control, 13.4.43.
pub mod txdctl {
    pub const LWTHRESH_SHIFT: u32 = 25;
    /// Every field.
    pub const WRITABLE: u32 = 0xff3f_3f3f;
}

/// Receive checksum control, 13.4.47.
pub mod rxcsum {
    pub const PCSS: u32 = 0xff;
    pub const IPOFL: u32 = 1 << 8;
    pub const TUOFL: u32 = 1 << 9;
}

/// Second word of a receive descriptor, 3.2.3.
pub mod rxd {
    pub const CHECKSUM_SHIFT: u32 = 16;
    pub const DD: u64 = 1 << 32;
    pub const EOP: u64 = 1 << 33;
    pub const IXSM: u64 = 1 << 34;
    pub const VP: u64 = 1 << 35;
    pub const TCPCS: u64 = 1 << 37;
    pub const IPCS: u64 = 1 << 38;
    pub const PIF: u64 = 1 << 39;
    pub const TCPE: u64 = 1 << 45;
    pub const IPE: u64 = 1 << 46;
    pub const RXE: u64 = 1 << 47;
    pub const SPECIAL_SHIFT: u32 = 48;
}

/// Address select, in RAH, 13.5.3: compare with the destination, or the source.
pub const RAH_AS_SHIFT: u32 = 16;
/// Address valid, in RAH, 13.5.3.
pub const RAH_AV: u32 = 1 << 31;
