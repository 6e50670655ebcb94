//! The serial console: a 16550 at COM1.

use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::Arc;

use vm_superio::Trigger;
use vm_superio::serial::NoEvents;

use crate::irq::InterruptLine;
use crate::platform::COM1_PORT;

/// First port behind the UART's eight registers.
pub const END: u16 = COM1_PORT + 8;

/// A 16550 UART that writes what the guest sends, line by line.
pub struct Serial {
    uart: vm_superio::Serial<EdgeTrigger, NoEvents, Lines>,
}

impl Serial {
    /// A UART with its interrupt on `line`, an edge-triggered input, and its output on `console`.
    ///
    /// `console` gets one write per line of up to 16 KiB, and the unfinished line when the UART is
    /// dropped.
    pub fn new(line: Arc<dyn InterruptLine>, console: Box<dyn Write + Send>) -> Self {
        let lines = Lines { line: Vec::new(), out: console };
        Self { uart: vm_superio::Serial::new(EdgeTrigger(line), lines) }
    }

    /// Reads registers from `offset` on, one per byte.
    pub fn read(&mut self, offset: u16, data: &mut [u8]) {
        data.fill(0xff);
        for (register, byte) in (offset as u8..8).zip(data) {
            *byte = self.uart.read(register);
        }
    }

    /// Writes registers from `offset` on, one per byte.
    pub fn write(&mut self, offset: u16, data: &[u8]) {
        for (register, byte) in (offset as u8..8).zip(data) {
            if let Err(error) = self.uart.write(register, *byte) {
                // A console that went away must not take the guest with it.
                tracing::debug!(?error, "guest console output lost");
            }
        }
    }
}

/// The UART's interrupt: a pulse on an edge-triggered input.
struct EdgeTrigger(Arc<dyn InterruptLine>);

impl Trigger for EdgeTrigger {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.0.set_level(true);
        self.0.set_level(false);
        Ok(())
    }
}

/// Longest piece of a line that is kept back.
const LINE_MAX: usize = 16 << 10;

/// Collects whole lines: the UART hands over byte by byte, which would be a system call each.
struct Lines {
    line: Vec<u8>,
    out: Box<dyn Write + Send>,
}

impl Lines {
    fn pass_on(&mut self) -> io::Result<()> {
        let result = self.out.write_all(&self.line).and_then(|()| self.out.flush());
        self.line.clear();
        result
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if self.line.ends_with(b"\n") || self.line.len() >= LINE_MAX {
            self.pass_on()?;
        }
        Ok(bytes.len())
    }

    /// The UART flushes after each byte; a line goes on when it is complete.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // Nobody is left to tell.
        let _ = self.pass_on();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().push(bytes.to_vec());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[derive(Default)]
    struct Edges(Mutex<Vec<bool>>);

    impl InterruptLine for Edges {
        fn set_level(&self, high: bool) {
            self.0.lock().push(high);
        }
    }

    #[test]
    fn output_arrives_line_by_line_and_the_rest_at_the_end() {
        let log = Log::default();
        let mut serial = Serial::new(Arc::new(Edges::default()), Box::new(log.clone()));
        for byte in b"one\ntwo\nthr" {
            serial.write(0, &[*byte]);
        }
        assert_eq!(*log.0.lock(), [b"one\n", b"two\n"]);
        drop(serial);
        assert_eq!(log.0.lock().last().unwrap(), b"thr");
    }

    #[test]
    fn the_transmitter_is_always_ready_and_interrupts_when_asked() {
        let line = Arc::new(Edges::default());
        let mut serial = Serial::new(line.clone(), Box::new(io::sink()));
        let mut lsr = [0];
        serial.read(5, &mut lsr);
        assert_eq!(lsr[0] & 0x60, 0x60, "LSR: holding register and shifter empty");
        assert!(line.0.lock().is_empty());
        serial.write(1, &[2]);
        assert_eq!(*line.0.lock(), [true, false], "IER: transmitter empty, as a pulse");
    }

    #[test]
    fn a_wide_access_touches_consecutive_registers_and_stops_at_the_last() {
        let mut serial = Serial::new(Arc::new(Edges::default()), Box::new(io::sink()));
        serial.write(7, &[0x5a, 0xff, 0xff, 0xff]);
        let mut data = [0; 4];
        serial.read(7, &mut data);
        assert_eq!(data, [0x5a, 0xff, 0xff, 0xff]);
    }
}
