//! What a hostile guest and a hostile network do, decoded from a fuzzer's bytes.
//!
//! Every type leans towards what reaches deep into the device: registers that exist, addresses in
//! RAM, descriptors that belong together. The rest is there as well, only less often.

use arbitrary::{Arbitrary, Result, Unstructured};
use vmm_core::e1000::registers::REGISTERS;
use vmm_core::e1000::registers::offset as reg;

use super::guest::RAM;

/// One run: what the machine is, and what happens to it.
#[derive(Arbitrary, Debug)]
pub struct Program {
    pub setup: Setup,
    pub steps: Vec<Step>,
}

/// What the machine is.
#[derive(Arbitrary, Debug)]
pub struct Setup {
    /// The device honours the moderation registers.
    pub itr: bool,
    /// The device offers the CSB extension.
    pub csb: bool,
    /// Two guests on one VALE switch, instead of one on a wire.
    pub switch: bool,
    /// Rings, filters and masks are as a driver would leave them, instead of as after power-on.
    pub driver: bool,
    /// VLAN tags are stripped and filtered, checksums are checked, long packets are welcome.
    pub offloads: bool,
}

/// Something that happens to one of the guests.
#[derive(Arbitrary, Debug)]
pub struct Step {
    /// The second guest, where there are two.
    pub second: bool,
    pub action: Action,
}

#[derive(Arbitrary, Debug)]
pub enum Action {
    Read {
        register: Register,
        width: Width,
    },
    Write {
        register: Register,
        width: Width,
        value: Value,
    },
    PortRead {
        port: u8,
        width: Width,
    },
    PortWrite {
        port: u8,
        width: Width,
        value: Value,
    },
    /// IOADDR, then IODATA: a write, or a read where there is no value.
    Indirect {
        register: Register,
        value: Option<Value>,
    },
    ConfigRead {
        device: u8,
        offset: u8,
        width: Width,
    },
    ConfigWrite {
        offset: ConfigOffset,
        width: Width,
        value: Value,
    },
    Fill {
        at: Address,
        len: u16,
        seed: u8,
    },
    /// Puts a packet into memory for descriptors to point at.
    Compose {
        at: Address,
        packet: Packet,
    },
    /// Descriptors at the tail of the transmit ring.
    Transmit {
        descriptors: Vec<TxDescriptor>,
        kick: bool,
    },
    /// A packet as a driver sends it: a context, then the packet in up to three pieces.
    Offload {
        packet: Packet,
        context: Context,
        command: u8,
        options: u8,
        pieces: [u8; 2],
    },
    /// Buffers at the tail of the receive ring.
    Refill {
        buffers: Vec<Address>,
    },
    /// A word of the CSB page.
    Share {
        offset: u8,
        value: Value,
    },
    /// Reads or writes a register of the PHY.
    Phy {
        register: u8,
        value: Option<u16>,
    },
    /// Clocks bits into the EEPROM.
    Eeprom {
        bits: u32,
        count: u8,
    },
    /// One batch from the network.
    Receive {
        packets: Vec<Packet>,
    },
    /// Time passes, and the timer fires when it should.
    Advance {
        ns: u32,
    },
    /// The timer fires early.
    EarlyTimer,
    Link {
        up: bool,
    },
    Backend(Mode),
}

/// What the backend does with frames.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Hands them on.
    Deliver,
    /// Drops them all: a TAP whose queue is full.
    Stalled,
    /// Takes so long that deadlines pass.
    Slow,
    /// Sends them back before it returns: a cable with its ends joined.
    Echo,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Width {
    Byte,
    Word,
    Double,
    Quad,
}

impl Width {
    pub fn bytes(self) -> usize {
        1 << self as usize
    }
}

/// An offset into BAR 0.
#[derive(Clone, Copy, Debug)]
pub struct Register(pub u32);

impl<'a> Arbitrary<'a> for Register {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let how: u8 = u.arbitrary()?;
        let skew = if how & 0x80 != 0 { u32::from(how >> 5 & 3) } else { 0 };
        Ok(Self(match how & 0x1f {
            0 => u.arbitrary::<u32>()? & 0x1_ffff,
            1..=12 => {
                let register = u.choose(REGISTERS)?;
                let word =
                    if register.words == 1 { 0 } else { u.int_in_range(0..=register.words)? };
                skew + register.offset + 4 * word
            }
            _ => skew + *u.choose(HOT)?,
        }))
    }
}

/// Registers that decide what DMA does.
#[rustfmt::skip]
const HOT: &[u32] = &[
    reg::CTRL, reg::RCTL, reg::TCTL, reg::TDT, reg::RDT, reg::TDH, reg::RDH, reg::TDLEN,
    reg::RDLEN, reg::TDBAL, reg::TDBAH, reg::RDBAL, reg::RDBAH, reg::CSBAL, reg::CSBAH,
    reg::ICR, reg::IMS, reg::IMC, reg::ICS, reg::ITR, reg::RDTR, reg::RADV, reg::TIDV,
    reg::TADV, reg::MDIC, reg::EECD, reg::EERD, reg::RXCSUM, reg::TXDCTL, reg::VET,
];

/// What is written to a register.
#[derive(Clone, Copy, Debug)]
pub struct Value(pub u32);

impl<'a> Arbitrary<'a> for Value {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let how: u8 = u.arbitrary()?;
        Ok(Self(match how & 7 {
            0 => u.arbitrary()?,
            1 => 1 << (how >> 3),
            2 => !0 << (how >> 3),
            3 => u32::from(u.arbitrary::<u16>()?),
            4 => u.arbitrary::<Address>()?.0 as u32,
            _ => u32::from(u.arbitrary::<u8>()?),
        }))
    }
}

/// A guest-physical address.
#[derive(Clone, Copy, Debug)]
pub struct Address(pub u64);

impl<'a> Arbitrary<'a> for Address {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let how: u8 = u.arbitrary()?;
        Ok(Self(match how & 0xf {
            0 => u.arbitrary()?,
            1 => u64::from(u.arbitrary::<u32>()?) % RAM,
            2 => RAM - u64::from(how >> 4),
            3 => u64::MAX - u64::from(how >> 4),
            4 => vmm_core::platform::NIC_MMIO_BASE + u64::from(u.arbitrary::<u16>()?),
            5 => 0,
            6 => u64::from(how >> 4) << 12,
            _ => u64::from(u.arbitrary::<u8>()?) << 10 & (RAM - 1),
        }))
    }
}

/// An offset into the NIC's configuration space.
#[derive(Clone, Copy, Debug)]
pub struct ConfigOffset(pub u8);

impl<'a> Arbitrary<'a> for ConfigOffset {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let how: u8 = u.arbitrary()?;
        Ok(Self(match how & 7 {
            0..=2 => 0x04,          // command
            3 => 0x10 + (how >> 4), // BAR 0 and what follows
            4 => 0x14 + (how >> 7), // BAR 1
            _ => u.arbitrary()?,
        }))
    }
}

/// A transmit descriptor (manual 3.3.3 to 3.3.7).
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum TxDescriptor {
    Legacy { at: Address, len: u16, cso: u8, command: u8, css: u8, special: u16 },
    Context(Context),
    Data { at: Address, len: u32, command: u8, options: u8, special: u16 },
    Raw([u64; 2]),
}

/// A context descriptor (manual 3.3.6).
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Context {
    /// What fits the packet that it goes with.
    Fitting {
        command: u8,
        mss: u16,
    },
    Wild {
        ip: [u8; 4],
        tcp: [u8; 4],
        length: u32,
        command: u8,
        header: u8,
        mss: u16,
    },
}

/// An Ethernet frame.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Packet {
    pub destination: Destination,
    pub vlan: Option<u16>,
    pub network: Network,
    pub transport: Transport,
    /// Checksums are right.
    pub sound: bool,
    pub len: Length,
    pub seed: u8,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Destination {
    First,
    Second,
    Broadcast,
    Multicast(u8),
    Other,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Network {
    /// Header length in words and total length as they stand in the header, if not the true ones.
    Ipv4 {
        words: Option<u8>,
        total: Option<u16>,
        fragment: u16,
    },
    Ipv6 {
        payload: Option<u16>,
    },
    /// An EtherType.
    Other(u16),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Transport {
    Tcp { words: u8, flags: u8 },
    Udp { length: Option<u16> },
    Other(u8),
}

/// A frame's length in bytes, up to more than any medium carries.
#[derive(Clone, Copy, Debug)]
pub struct Length(pub usize);

impl<'a> Arbitrary<'a> for Length {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let how: u8 = u.arbitrary()?;
        Ok(Self(match how & 7 {
            0 => usize::from(how >> 3),
            1 => 1500 + usize::from(how >> 3),
            2 => 16376 + usize::from(how >> 3),
            3 => 2 * usize::from(u.arbitrary::<u16>()?),
            4 => usize::from(u.arbitrary::<u16>()? % 9018),
            _ => 60 + 4 * usize::from(how >> 3),
        }))
    }
}

impl Packet {
    /// A UDP datagram over IPv4.
    pub const PLAIN: Self = Self {
        destination: Destination::Broadcast,
        vlan: None,
        network: Network::Ipv4 { words: None, total: None, fragment: 0 },
        transport: Transport::Udp { length: None },
        sound: true,
        len: Length(60),
        seed: 0,
    };
}
