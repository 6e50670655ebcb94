//! What a script may do to a NIC, whoever emulates it.

/// Bytes of guest RAM that both machines have and that scripts may use.
pub const RAM: u64 = 8 << 20;

/// The MAC address in the EEPROM of both NICs.
pub const MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

/// A machine with one 82540EM, seen from its processor, its cable and its clock.
///
/// Time may pass at any moment; after [`rest`](Self::rest) everything has happened that was due.
pub trait Nic {
    /// Reads 1, 2, 4 or 8 bytes of BAR 0.
    fn read(&mut self, offset: u32, data: &mut [u8]);
    /// Writes 1, 2, 4 or 8 bytes of BAR 0.
    fn write(&mut self, offset: u32, data: &[u8]);
    /// Reads 32 bits of BAR 1.
    fn io_read(&mut self, offset: u32) -> u32;
    /// Writes 32 bits of BAR 1.
    fn io_write(&mut self, offset: u32, value: u32);
    /// Reads guest RAM.
    fn ram_read(&mut self, address: u64, data: &mut [u8]);
    /// Writes guest RAM.
    fn ram_write(&mut self, address: u64, data: &[u8]);
    /// PCI Command.BME.
    fn set_bus_master(&mut self, on: bool);
    /// Puts a frame, without frame check sequence, on the cable; returns when the NIC has seen it.
    fn receive(&mut self, frame: &[u8]);
    /// The frames that the NIC has put on the cable since the last call.
    fn sent(&mut self) -> Vec<Vec<u8>>;
    /// Plugs the cable in or out.
    fn set_link(&mut self, up: bool);
    /// The level of INTA#.
    fn interrupt(&mut self) -> bool;
    /// Lets time pass until the NIC waits for no deadline of its own.
    fn rest(&mut self);
}
