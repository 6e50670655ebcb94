//! A type 0 configuration space: 256 bytes and a mask of the bits a guest may write.
//!
//! PCI Local Bus Specification 3.0, section 6.1 (header) and 6.2.5 (base address registers).

/// Vendor and device ID.
const ID: usize = 0x00;
/// Command register.
pub const COMMAND: usize = 0x04;
/// Status register.
pub const STATUS: usize = 0x06;
const REVISION: usize = 0x08;
const CACHE_LINE_SIZE: usize = 0x0c;
const LATENCY_TIMER: usize = 0x0d;
const BAR0: usize = 0x10;
const SUBSYSTEM: usize = 0x2c;
const INTERRUPT_LINE: usize = 0x3c;
const INTERRUPT_PIN: usize = 0x3d;

/// Command: the device answers in I/O space.
pub const COMMAND_IO: u16 = 1 << 0;
/// Command: the device answers in memory space.
pub const COMMAND_MEMORY: u16 = 1 << 1;
/// Command: the device may access memory.
pub const COMMAND_BUS_MASTER: u16 = 1 << 2;
/// Command: parity error response.
const COMMAND_PARITY: u16 = 1 << 6;
/// Command: SERR# enable.
const COMMAND_SERR: u16 = 1 << 8;
/// Command: the device must not assert INTx.
pub const COMMAND_INTX_DISABLE: u16 = 1 << 10;
/// Status: INTx would be asserted, were it not disabled.
pub const STATUS_INTERRUPT: u16 = 1 << 3;

/// Who a function says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Revision ID.
    pub revision: u8,
    /// Class code: base class, sub-class, programming interface; 24 bits.
    pub class: u32,
    /// Subsystem vendor ID.
    pub subsystem_vendor: u16,
    /// Subsystem ID.
    pub subsystem_device: u16,
}

/// The space that a base address register decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// 32-bit memory, not prefetchable.
    Memory,
    /// I/O ports.
    Ports,
}

impl Space {
    /// The low bits that tell the spaces apart; a guest cannot change them.
    const fn type_bits(self) -> u32 {
        match self {
            Space::Memory => 0b0000,
            Space::Ports => 0b0001,
        }
    }

    const fn enable_bit(self) -> u16 {
        match self {
            Space::Memory => COMMAND_MEMORY,
            Space::Ports => COMMAND_IO,
        }
    }
}

/// A base address register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Which space it decodes.
    pub space: Space,
    /// Size in bytes: a power of two, at least 16.
    pub len: u32,
    /// Where it lies until the guest moves it.
    pub base: u32,
}

/// A function's configuration space.
#[derive(Debug)]
pub struct ConfigSpace {
    bytes: [u8; 256],
    writable: [u8; 256],
    bars: Vec<Bar>,
}

impl ConfigSpace {
    /// A function with `bars` from BAR0 on, decoding where they lie, as firmware would leave it;
    /// bus mastering is the driver's to turn on.
    pub fn new(identity: &Identity, bars: Vec<Bar>) -> Self {
        let mut space = Self { bytes: [0; 256], writable: [0; 256], bars: Vec::new() };
        space.put(ID, &identity.vendor.to_le_bytes());
        space.put(ID + 2, &identity.device.to_le_bytes());
        space.put(REVISION, &((identity.class << 8) | u32::from(identity.revision)).to_le_bytes());
        space.put(SUBSYSTEM, &identity.subsystem_vendor.to_le_bytes());
        space.put(SUBSYSTEM + 2, &identity.subsystem_device.to_le_bytes());
        space.writable[CACHE_LINE_SIZE] = 0xff;
        space.writable[LATENCY_TIMER] = 0xff;
        space.writable[INTERRUPT_LINE] = 0xff;

        let mut command = COMMAND_BUS_MASTER | COMMAND_PARITY | COMMAND_SERR | COMMAND_INTX_DISABLE;
        for (index, bar) in bars.iter().enumerate() {
            // A register whose low bits are fixed is all that BAR sizing needs.
            let address_bits = !(bar.len - 1);
            space.put(BAR0 + 4 * index, &(bar.base | bar.space.type_bits()).to_le_bytes());
            space.writable[BAR0 + 4 * index..][..4].copy_from_slice(&address_bits.to_le_bytes());
            command |= bar.space.enable_bit();
            space.bytes[COMMAND] |= bar.space.enable_bit() as u8;
        }
        space.writable[COMMAND..][..2].copy_from_slice(&command.to_le_bytes());
        space.bars = bars;
        space
    }

    /// Announces INTA#, routed to interrupt `line`.
    pub fn with_inta(mut self, line: u8) -> Self {
        self.bytes[INTERRUPT_PIN] = 1;
        self.bytes[INTERRUPT_LINE] = line;
        self
    }

    /// Reads bytes from `offset` on; those past the end read as all ones.
    pub fn read(&self, offset: usize, data: &mut [u8]) {
        for (at, byte) in (offset..).zip(data) {
            *byte = self.bytes.get(at).copied().unwrap_or(0xff);
        }
    }

    /// Writes the writable bits of the bytes from `offset` on.
    pub fn write(&mut self, offset: usize, data: &[u8]) {
        let places = self.bytes.iter_mut().zip(&self.writable).skip(offset);
        for ((byte, mask), new) in places.zip(data) {
            *byte = (*byte & !mask) | (new & mask);
        }
    }

    /// The Command register.
    pub fn command(&self) -> u16 {
        u16::from_le_bytes([self.bytes[COMMAND], self.bytes[COMMAND + 1]])
    }

    /// The BARs that decode at present: index, register, current base address.
    pub fn decoded_bars(&self) -> impl Iterator<Item = (usize, &Bar, u32)> {
        let command = self.command();
        let enabled = move |bar: &Bar| command & bar.space.enable_bit() != 0;
        self.bars.iter().enumerate().filter(move |(_, bar)| enabled(bar)).map(|(index, bar)| {
            let mut raw = [0; 4];
            self.read(BAR0 + 4 * index, &mut raw);
            (index, bar, u32::from_le_bytes(raw) & !(bar.len - 1))
        })
    }

    fn put(&mut self, offset: usize, value: &[u8]) {
        self.bytes[offset..][..value.len()].copy_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nic() -> ConfigSpace {
        let identity = Identity {
            vendor: 0x8086,
            device: 0x100e,
            revision: 3,
            class: 0x02_0000,
            subsystem_vendor: 0x8086,
            subsystem_device: 0x001e,
        };
        let bars = vec![
            Bar { space: Space::Memory, len: 0x2_0000, base: 0xfeb0_0000 },
            Bar { space: Space::Ports, len: 0x40, base: 0xc000 },
        ];
        ConfigSpace::new(&identity, bars).with_inta(10)
    }

    fn dword(space: &ConfigSpace, offset: usize) -> u32 {
        let mut raw = [0; 4];
        space.read(offset, &mut raw);
        u32::from_le_bytes(raw)
    }

    #[test]
    fn the_header_shows_the_identity() {
        let space = nic();
        assert_eq!(dword(&space, 0x00), 0x100e_8086);
        assert_eq!(dword(&space, 0x08), 0x0200_0003);
        assert_eq!(dword(&space, 0x0c), 0, "type 0 header, one function");
        assert_eq!(dword(&space, 0x2c), 0x001e_8086);
        assert_eq!(dword(&space, 0x3c), 0x0000_010a, "INTA# on line 10");
        assert_eq!(dword(&space, 0x34), 0, "no capabilities");
    }

    #[test]
    fn read_only_bits_stay() {
        let mut space = nic();
        for offset in (0..256).step_by(4) {
            space.write(offset, &[0xff; 4]);
        }
        assert_eq!(dword(&space, 0x00), 0x100e_8086);
        assert_eq!(dword(&space, 0x04), 0x0000_0547, "command bits only, status untouched");
        assert_eq!(dword(&space, 0x08), 0x0200_0003);
        assert_eq!(dword(&space, 0x0c), 0x0000_ffff, "cache line size and latency timer");
        assert_eq!(dword(&space, 0x18), 0, "no BAR2");
        assert_eq!(dword(&space, 0x30), 0, "no expansion ROM");
        assert_eq!(dword(&space, 0x3c), 0x0000_01ff, "interrupt line only");
    }

    #[test]
    fn bars_answer_sizing_and_take_a_new_base() {
        let mut space = nic();
        assert_eq!(dword(&space, 0x10), 0xfeb0_0000);
        assert_eq!(dword(&space, 0x14), 0xc001);
        space.write(0x10, &[0xff; 4]);
        space.write(0x14, &[0xff; 4]);
        assert_eq!(dword(&space, 0x10), 0xfffe_0000, "128 KiB of memory");
        assert_eq!(dword(&space, 0x14), 0xffff_ffc1, "64 ports");
        space.write(0x10, &0xe012_3456u32.to_le_bytes());
        assert_eq!(dword(&space, 0x10), 0xe012_0000);
    }

    #[test]
    fn narrow_writes_change_only_their_bytes() {
        let mut space = nic();
        space.write(0x13, &[0xe0]);
        assert_eq!(dword(&space, 0x10), 0xe0b0_0000);
        space.write(0x05, &[0x04]);
        assert_eq!(space.command(), 0x0403);
    }

    #[test]
    fn only_enabled_bars_decode() {
        let mut space = nic();
        let bases = |space: &ConfigSpace| {
            space.decoded_bars().map(|(i, _, base)| (i, base)).collect::<Vec<_>>()
        };
        assert_eq!(bases(&space), [(0, 0xfeb0_0000), (1, 0xc000)]);
        space.write(COMMAND, &COMMAND_MEMORY.to_le_bytes());
        assert_eq!(bases(&space), [(0, 0xfeb0_0000)]);
        space.write(COMMAND, &[0, 0]);
        assert_eq!(bases(&space), []);
    }

    #[test]
    fn reads_past_the_end_are_all_ones() {
        let mut data = [0; 4];
        nic().read(0xfe, &mut data);
        assert_eq!(data, [0, 0, 0xff, 0xff]);
    }
}
