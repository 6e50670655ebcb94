//! The registers by the manual's names (chapter 13), written down once more on purpose: the
//! device's own table is what is under test.

use std::fmt;

/// A 32-bit register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// The manual's name.
    pub name: &'static str,
    /// Offset in BAR 0.
    pub offset: u32,
    /// Which one, of a register array.
    pub index: Option<u32>,
}

impl Register {
    const fn new(name: &'static str, offset: u32) -> Self {
        Self { name, offset, index: None }
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            None => f.write_str(self.name),
            Some(index) => write!(f, "{}[{index}]", self.name),
        }
    }
}

/// Registers of one name at equal distances.
#[derive(Clone, Copy, Debug)]
pub struct Array {
    name: &'static str,
    base: u32,
    count: u32,
    stride: u32,
}

impl Array {
    /// Register number `index`.
    pub const fn at(self, index: u32) -> Register {
        assert!(index < self.count);
        let Self { name, base, stride, .. } = self;
        Register { name, offset: base + index * stride, index: Some(index) }
    }

    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = Register> {
        (0..self.count).map(move |index| self.at(index))
    }
}

macro_rules! registers {
    ($($list:ident { $($name:ident $offset:literal)* })*) => {
        $($(pub const $name: Register = Register::new(stringify!($name), $offset);)*)*
        $(pub const $list: &[Register] = &[$($name),*];)*
    };
}

macro_rules! arrays {
    ($($name:ident $base:literal $count:literal $stride:literal)*) => {
        $(pub const $name: Array =
            Array { name: stringify!($name), base: $base, count: $count, stride: $stride };)*
        pub const ARRAYS: &[Array] = &[$($name),*];
    };
}

registers! {
    // Reading or writing them does something.
    ACTIVE {
        CTRL 0x0000  EECD 0x0010  EERD 0x0014  MDIC 0x0020
        ICR 0x00c0  ICS 0x00c8  IMS 0x00d0  IMC 0x00d8
        RCTL 0x0100  TCTL 0x0400  RDT 0x2818  TDT 0x3818
    }
    // They hold what was written, or do not take writes.
    PASSIVE {
        STATUS 0x0008  CTRL_EXT 0x0018  FCAL 0x0028  FCAH 0x002c  FCT 0x0030  VET 0x0038
        ITR 0x00c4  FCTTV 0x0170  TXCW 0x0178  RXCW 0x0180  TIPG 0x0410  AIFS 0x0458
        LEDCTL 0x0e00  PBA 0x1000  FCRTL 0x2160  FCRTH 0x2168
        RDFH 0x2410  RDFT 0x2418  RDFHS 0x2420  RDFTS 0x2428  RDFPC 0x2430
        RDBAL 0x2800  RDBAH 0x2804  RDLEN 0x2808  RDH 0x2810
        RDTR 0x2820  RXDCTL 0x2828  RADV 0x282c  RSRPD 0x2c00  TXDMAC 0x3000
        TDFH 0x3410  TDFT 0x3418  TDFHS 0x3420  TDFTS 0x3428  TDFPC 0x3430
        TDBAL 0x3800  TDBAH 0x3804  TDLEN 0x3808  TDH 0x3810
        TIDV 0x3820  TXDCTL 0x3828  TADV 0x382c  TSPMT 0x3830
        RXCSUM 0x5000  WUC 0x5800  WUFC 0x5808  WUS 0x5810  MANC 0x5820  IPAV 0x5838
        WUPL 0x5900
    }
    // They count, and start anew when read.
    STATISTICS {
        CRCERRS 0x4000  ALGNERRC 0x4004  SYMERRS 0x4008  RXERRC 0x400c  MPC 0x4010  SCC 0x4014
        ECOL 0x4018  MCC 0x401c  LATECOL 0x4020  COLC 0x4028  DC 0x4030  TNCRS 0x4034  SEC 0x4038
        CEXTERR 0x403c  RLEC 0x4040  XONRXC 0x4048  XONTXC 0x404c  XOFFRXC 0x4050  XOFFTXC 0x4054
        FCRUC 0x4058  PRC64 0x405c  PRC127 0x4060  PRC255 0x4064  PRC511 0x4068  PRC1023 0x406c
        PRC1522 0x4070  GPRC 0x4074  BPRC 0x4078  MPRC 0x407c  GPTC 0x4080  GORCL 0x4088
        GORCH 0x408c  GOTCL 0x4090  GOTCH 0x4094  RNBC 0x40a0  RUC 0x40a4  RFC 0x40a8  ROC 0x40ac
        RJC 0x40b0  MGTPRC 0x40b4  MGTPDC 0x40b8  MGTPTC 0x40bc  TORL 0x40c0  TORH 0x40c4
        TOTL 0x40c8  TOTH 0x40cc  TPR 0x40d0  TPT 0x40d4  PTC64 0x40d8  PTC127 0x40dc  PTC255 0x40e0
        PTC511 0x40e4  PTC1023 0x40e8  PTC1522 0x40ec  MPTC 0x40f0  BPTC 0x40f4  TSCTC 0x40f8
        TSCTFC 0x40fc
    }
}

arrays! {
    // base, count, distance
    MTA 0x5200 128 4
    RA 0x5400 32 4
    VFTA 0x5600 128 4
    IP4AT 0x5840 4 8
    IP6AT 0x5880 4 4
    WUPM 0x5a00 32 4
    FFLT 0x5f00 4 8
    FFMT 0x9000 128 8
    FFVT 0x9800 128 8
    PBM 0x10000 16384 4
}
