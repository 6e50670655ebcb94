//! Register offsets and bits of the 82540EM.
//!
//! Names and section numbers are those of Intel's "PCI/PCI-X Family of Gigabit Ethernet Controllers
//! Software Developer's Manual" (8254x), chapter 13; the CSB registers are those of the published
//! paravirtual extension.

#![allow(missing_docs, reason = "the names are the manual's")]

pub const CTRL: u32 = 0x0000; // 13.4.1
pub const STATUS: u32 = 0x0008; // 13.4.2
pub const EECD: u32 = 0x0010; // 13.4.3
pub const EERD: u32 = 0x0014; // 13.4.4
pub const CTRL_EXT: u32 = 0x0018; // 13.4.6
pub const MDIC: u32 = 0x0020; // 13.4.8
pub const FCAL: u32 = 0x0028; // 13.4.10
pub const FCAH: u32 = 0x002c; // 13.4.11
pub const FCT: u32 = 0x0030; // 13.4.12
pub const VET: u32 = 0x0038; // 13.4.13
pub const ICR: u32 = 0x00c0; // 13.4.17
pub const ITR: u32 = 0x00c4; // 13.4.18
pub const ICS: u32 = 0x00c8; // 13.4.19
pub const IMS: u32 = 0x00d0; // 13.4.20
pub const IMC: u32 = 0x00d8; // 13.4.21
pub const RCTL: u32 = 0x0100; // 13.4.22
pub const FCTTV: u32 = 0x0170; // 13.4.14
pub const TXCW: u32 = 0x0178; // 13.4.15
pub const TCTL: u32 = 0x0400; // 13.4.33
pub const TIPG: u32 = 0x0410; // 13.4.34
pub const AIFS: u32 = 0x0458; // 13.4.35
pub const LEDCTL: u32 = 0x0e00; // 13.4.16
pub const PBA: u32 = 0x1000; // 13.5.1
pub const FCRTL: u32 = 0x2160; // 13.4.23
pub const FCRTH: u32 = 0x2168; // 13.4.24
pub const RDBAL: u32 = 0x2800; // 13.4.25
pub const RDBAH: u32 = 0x2804; // 13.4.26
pub const RDLEN: u32 = 0x2808; // 13.4.27
pub const RDH: u32 = 0x2810; // 13.4.28
pub const RDT: u32 = 0x2818; // 13.4.29
pub const RDTR: u32 = 0x2820; // 13.4.30
pub const RXDCTL: u32 = 0x2828; // 13.4.42
pub const RADV: u32 = 0x282c; // 13.4.31
pub const CSBAL: u32 = 0x2830; // CSB extension
pub const CSBAH: u32 = 0x2834; // CSB extension
pub const TDBAL: u32 = 0x3800; // 13.4.36
pub const TDBAH: u32 = 0x3804; // 13.4.37
pub const TDLEN: u32 = 0x3808; // 13.4.38
pub const TDH: u32 = 0x3810; // 13.4.39
pub const TDT: u32 = 0x3818; // 13.4.40
pub const TIDV: u32 = 0x3820; // 13.4.41
pub const TXDCTL: u32 = 0x3828; // 13.4.42
pub const TADV: u32 = 0x382c; // 13.4.44
pub const TSPMT: u32 = 0x3830; // 13.4.45
pub const RXCSUM: u32 = 0x5000; // 13.4.47
pub const MTA: u32 = 0x5200; // 13.5.2, 128 words
pub const RAL0: u32 = 0x5400; // 13.5.3, 16 pairs RAL, RAH
pub const VFTA: u32 = 0x5600; // 13.5.5, 128 words

pub mod ctrl {
    pub const SLU: u32 = 1 << 6;
    pub const RST: u32 = 1 << 26;
    pub const PHY_RST: u32 = 1 << 31;
}

pub mod status {
    pub const FD: u32 = 1 << 0;
    pub const LU: u32 = 1 << 1;
    pub const SPEED_1000: u32 = 0b10 << 6;
}

/// Interrupt causes: bits of ICR, ICS, IMS and IMC.
pub mod cause {
    pub const TXDW: u32 = 1 << 0;
    pub const TXQE: u32 = 1 << 1;
    pub const LSC: u32 = 1 << 2;
    pub const RXDMT0: u32 = 1 << 4;
    pub const RXO: u32 = 1 << 6;
    pub const RXT0: u32 = 1 << 7;
    pub const MDAC: u32 = 1 << 9;
    pub const ALL: u32 = 0x0001_f7df;
}

pub mod rctl {
    pub const EN: u32 = 1 << 1;
    pub const UPE: u32 = 1 << 3;
    pub const MPE: u32 = 1 << 4;
    pub const LPE: u32 = 1 << 5;
    pub const RDMTS_SHIFT: u32 = 8;
    pub const MO_SHIFT: u32 = 12;
    pub const BAM: u32 = 1 << 15;
    pub const BSIZE_SHIFT: u32 = 16;
    pub const BSEX: u32 = 1 << 25;
    pub const SECRC: u32 = 1 << 26;
}

pub mod tctl {
    pub const EN: u32 = 1 << 1;
}

/// Legacy transmit descriptor command bits, manual 3.3.3.1.
pub mod txd_cmd {
    pub const EOP: u8 = 1 << 0;
    pub const RS: u8 = 1 << 3;
    pub const DEXT: u8 = 1 << 5;
    pub const IDE: u8 = 1 << 7;
}

/// Descriptor done, in both descriptor types.
pub const STATUS_DD: u8 = 1 << 0;
/// End of packet in a receive descriptor, manual 3.2.3.1.
pub const RXD_STATUS_EOP: u8 = 1 << 1;
/// Address valid, in RAH.
pub const RAH_AV: u32 = 1 << 31;
