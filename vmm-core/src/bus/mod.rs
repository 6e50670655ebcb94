//! Where a guest's accesses go: I/O ports and memory-mapped registers.
//!
//! The vCPU thread owns the [`Bus`], so dispatch takes no lock. What nothing answers reads as all
//! ones and swallows writes, as an open bus does. There are no errors here: an access that a device
//! cannot make sense of is the guest's affair, and the device's to count.

use std::ops::ControlFlow;

use crate::pci::{self, PciRoot};
use crate::platform::{COM1_PORT, COM2_PORT};
use crate::serial::{self, Serial};

const COM1_END: u16 = COM1_PORT + serial::REGISTERS;
const COM2_END: u16 = COM2_PORT + serial::REGISTERS;

/// i8042 keyboard controller, status and command port.
const I8042_COMMAND: u16 = 0x64;
/// i8042 command: pulse the CPU's reset line.
const I8042_RESET_CPU: u8 = 0xfe;

/// The guest asked for a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetRequest;

/// Everything a vCPU can reach besides RAM and the interrupt controllers in KVM.
pub struct Bus {
    pci: PciRoot,
    com1: Serial,
    com2: Option<Serial>,
}

impl Bus {
    /// A bus with a PCI root and one or two serial ports.
    pub fn new(pci: PciRoot, com1: Serial, com2: Option<Serial>) -> Self {
        Self { pci, com1, com2 }
    }

    /// Reads memory-mapped registers.
    #[inline]
    pub fn mmio_read(&mut self, addr: u64, data: &mut [u8]) {
        match self.pci.memory().find(addr, data.len()) {
            Some((target, offset)) => target.read(offset, data),
            None => data.fill(0xff),
        }
    }

    /// Writes memory-mapped registers.
    #[inline]
    pub fn mmio_write(&mut self, addr: u64, data: &[u8]) {
        if let Some((target, offset)) = self.pci.memory().find(addr, data.len()) {
            target.write(offset, data);
        }
    }

    /// Reads I/O ports from `port` on: 1, 2 or 4 bytes.
    pub fn port_read(&mut self, port: u16, data: &mut [u8]) {
        match port {
            COM1_PORT..COM1_END => self.com1.read(port - COM1_PORT, data),
            COM2_PORT..COM2_END => match &mut self.com2 {
                Some(com2) => com2.read(port - COM2_PORT, data),
                None => data.fill(0xff),
            },
            pci::CONFIG_ADDRESS..pci::CONFIG_END => self.pci.config_read(port, data),
            // An i8042 with empty buffers and a CMOS of zeros: a driver that polls either for
            // "busy" would spin on all ones.
            I8042_COMMAND | 0x70 | 0x71 => data.fill(0),
            _ => match self.pci.ports().find(u64::from(port), data.len()) {
                Some((target, offset)) => target.read(offset, data),
                None => data.fill(0xff),
            },
        }
    }

    /// Writes I/O ports from `port` on: 1, 2 or 4 bytes. Breaks when the guest resets itself.
    pub fn port_write(&mut self, port: u16, data: &[u8]) -> ControlFlow<ResetRequest> {
        match port {
            COM1_PORT..COM1_END => self.com1.write(port - COM1_PORT, data),
            COM2_PORT..COM2_END => {
                if let Some(com2) = &mut self.com2 {
                    com2.write(port - COM2_PORT, data);
                }
            }
            pci::CONFIG_ADDRESS..pci::CONFIG_END => self.pci.config_write(port, data),
            I8042_COMMAND if data == [I8042_RESET_CPU] => return ControlFlow::Break(ResetRequest),
            _ => {
                if let Some((target, offset)) = self.pci.ports().find(u64::from(port), data.len()) {
                    target.write(offset, data);
                }
            }
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irq::InterruptLine;
    use std::io::Write;
    use std::sync::{Arc, mpsc};

    struct NoLine;
    impl InterruptLine for NoLine {
        fn set_level(&self, _high: bool) {}
    }

    fn bare() -> Bus {
        Bus::new(PciRoot::new(), serial(std::io::sink()), None)
    }

    fn serial(out: impl Write + Send + 'static) -> Serial {
        Serial::new(Arc::new(NoLine), Box::new(out))
    }

    #[test]
    fn an_open_bus_reads_all_ones_and_swallows_writes() {
        let mut bus = bare();
        let mut data = [0; 8];
        bus.mmio_read(0xd000_0000, &mut data);
        assert_eq!(data, [0xff; 8]);
        bus.mmio_write(0xd000_0000, &data);
        let mut data = [0; 4];
        bus.port_read(0x2e, &mut data);
        assert_eq!(data, [0xff; 4]);
        assert!(bus.port_write(0x80, &[0]).is_continue());
    }

    /// Hands bytes over to the test.
    struct Line(mpsc::Sender<u8>);

    impl Write for Line {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            bytes.iter().for_each(|byte| self.0.send(*byte).unwrap());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_serial_port_has_a_line_of_its_own_if_it_is_there() {
        let lines = [(); 2].map(|()| mpsc::channel());
        let [com1, com2] = lines.each_ref().map(|(line, _)| serial(Line(line.clone())));
        let mut bus = Bus::new(PciRoot::new(), com1, Some(com2));
        assert!(bus.port_write(0x3f8, b"1").is_continue());
        assert!(bus.port_write(0x2f8, b"2").is_continue());
        let seen = lines.each_ref().map(|(_, line)| line.try_iter().collect::<Vec<_>>());
        assert_eq!(seen, [b"1".to_vec(), b"2".to_vec()]);
        let line_status = |bus: &mut Bus, port| {
            let mut data = [0];
            bus.port_read(port, &mut data);
            data[0]
        };
        assert_eq!(line_status(&mut bus, 0x2fd), 0x60);
        assert_eq!(line_status(&mut bare(), 0x3fd), 0x60);
        assert_eq!(line_status(&mut bare(), 0x2fd), 0xff, "nobody is there");
    }

    #[test]
    fn nothing_that_boot_code_polls_looks_busy() {
        let mut bus = bare();
        for port in [0x64, 0x70, 0x71] {
            let mut data = [0xaa];
            bus.port_read(port, &mut data);
            assert_eq!(data, [0], "port {port:#x}");
        }
    }

    #[test]
    fn the_keyboard_controller_resets_the_guest() {
        let mut bus = bare();
        assert!(bus.port_write(0x64, &[0xd1]).is_continue());
        assert_eq!(bus.port_write(0x64, &[0xfe]), ControlFlow::Break(ResetRequest));
    }
}
