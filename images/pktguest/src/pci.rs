//! PCI configuration space through ports 0xCF8/0xCFC (PCI 3.0, section 3.2.2.3.2).

use crate::port;

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
const ENABLE: u32 = 1 << 31;

const ID: u8 = 0x00;
const COMMAND: u8 = 0x04;
const BAR0: u8 = 0x10;
const SUBSYSTEM: u8 = 0x2c;
const INTERRUPT: u8 = 0x3c;

const COMMAND_IO: u32 = 1 << 0;
const COMMAND_MEMORY: u32 = 1 << 1;
const COMMAND_MASTER: u32 = 1 << 2;
const COMMAND_INTX_OFF: u32 = 1 << 10;

/// A function on bus 0.
pub struct Device {
    slot: u8,
}

/// Finds function 0 of device number `index`, from 0, of those on bus 0 that have one of these ids.
pub fn find(vendor: u16, devices: &[u16], index: u8) -> Option<Device> {
    let is_one = |device: &Device| {
        let id = device.read(ID);
        id as u16 == vendor && devices.contains(&((id >> 16) as u16))
    };
    (0..32).map(Device::at).filter(is_one).nth(index.into())
}

impl Device {
    /// The device in slot `slot`, there or not.
    pub fn at(slot: u8) -> Self {
        Self { slot }
    }

    /// Its slot.
    pub fn slot(&self) -> u8 {
        self.slot
    }

    fn select(&self, register: u8) {
        port::write32(ADDRESS, ENABLE | u32::from(self.slot) << 11 | u32::from(register));
    }

    /// Reads a register of configuration space.
    pub fn read(&self, register: u8) -> u32 {
        self.select(register);
        port::read32(DATA)
    }

    /// Writes a register of configuration space.
    pub fn write(&self, register: u8, value: u32) {
        self.select(register);
        port::write32(DATA, value);
    }

    /// Physical address in BAR0 as firmware or VMM assigned it; `None` if it is not memory.
    pub fn bar0(&self) -> Option<u32> {
        let bar = self.read(BAR0);
        (bar & 1 == 0).then_some(bar & !0xf)
    }

    /// Subsystem device id.
    pub fn subsystem(&self) -> u16 {
        (self.read(SUBSYSTEM) >> 16) as u16
    }

    /// The Interrupt Line register: the I/O APIC pin that INTA is wired to.
    pub fn interrupt_line(&self) -> u8 {
        self.read(INTERRUPT) as u8
    }

    /// Lets the function decode its BARs, master the bus and raise INTx.
    pub fn enable(&self) {
        let command = self.read(COMMAND) & 0xffff & !COMMAND_INTX_OFF;
        // Writing Status (the upper half) as zero clears nothing.
        self.write(COMMAND, command | COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER);
    }
}
