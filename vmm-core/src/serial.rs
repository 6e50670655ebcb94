//! The serial console: a 16550 at COM1.

use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use vm_superio::Trigger;
use vm_superio::serial::NoEvents;

use crate::irq::InterruptLine;
use crate::platform::COM1_PORT;

/// First port behind the UART's eight registers.
pub const END: u16 = COM1_PORT + 8;

type Uart = vm_superio::Serial<EdgeTrigger, NoEvents, Lines>;

/// A 16550 UART that writes what the guest sends, line by line.
pub struct Serial {
    // The guest's accesses and a SerialInput's bytes come from different threads. A guest that
    // prints pays an exit per byte; beside that an uncontended lock is nothing.
    uart: Arc<Mutex<Uart>>,
}

impl Serial {
    /// A UART with its interrupt on `line`, an edge-triggered input, and its output on `console`.
    ///
    /// `console` gets one write per line of up to 16 KiB, and the unfinished line when the UART is
    /// dropped.
    pub fn new(line: Arc<dyn InterruptLine>, console: Box<dyn Write + Send>) -> Self {
        let lines = Lines { line: Vec::new(), out: console };
        let uart = vm_superio::Serial::new(EdgeTrigger(line), lines);
        Self { uart: Arc::new(Mutex::new(uart)) }
    }

    /// The other end of the line, for typing.
    pub fn input(&self) -> SerialInput {
        SerialInput { uart: Arc::downgrade(&self.uart) }
    }

    /// Reads registers from `offset` on, one per byte.
    pub fn read(&mut self, offset: u16, data: &mut [u8]) {
        data.fill(0xff);
        let mut uart = self.uart.lock();
        for (register, byte) in (offset as u8..8).zip(data) {
            *byte = uart.read(register);
        }
    }

    /// Writes registers from `offset` on, one per byte.
    pub fn write(&mut self, offset: u16, data: &[u8]) {
        let mut uart = self.uart.lock();
        for (register, byte) in (offset as u8..8).zip(data) {
            if let Err(error) = uart.write(register, *byte) {
                // A console that went away must not take the guest with it.
                tracing::debug!(?error, "guest console output lost");
            }
        }
    }
}

/// Types on a guest's serial console. Cloning gives another hand on the same keyboard.
#[derive(Clone)]
pub struct SerialInput {
    // Weak: whoever may type must not keep a guest's console open, or its memory.
    uart: Weak<Mutex<Uart>>,
}

impl SerialInput {
    /// Puts bytes into the UART's receive FIFO, which holds 64, and returns how many fitted: the
    /// rest is for the caller to send once the guest has read some. 0 also after the guest's end.
    pub fn send(&self, bytes: &[u8]) -> usize {
        let Some(uart) = self.uart.upgrade() else {
            return 0;
        };
        // The only error is a full FIFO.
        uart.lock().enqueue_raw_bytes(bytes).unwrap_or(0)
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
    fn what_is_typed_arrives_in_order_and_no_more_than_fits() {
        let line = Arc::new(Edges::default());
        let mut serial = Serial::new(line.clone(), Box::new(io::sink()));
        let input = serial.input();
        let mut register = |offset| {
            let mut data = [0];
            serial.read(offset, &mut data);
            data[0]
        };
        assert_eq!(register(5) & 1, 0, "LSR: no data ready");
        let typed: Vec<u8> = (0..100).collect();
        assert_eq!(input.send(&typed), 64);
        assert_eq!(input.send(&typed[64..]), 0, "the FIFO is full");
        let mut seen = Vec::new();
        while register(5) & 1 != 0 {
            seen.push(register(0));
        }
        assert_eq!(seen, typed[..64]);
        assert!(line.0.lock().is_empty(), "no interrupt unless IER asks for it");

        serial.write(1, &[1]);
        assert_eq!(input.clone().send(b"x"), 1);
        assert_eq!(*line.0.lock(), [true, false], "IER: data available, as a pulse");
        drop(serial);
        assert_eq!(input.send(b"x"), 0, "the guest is gone");
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
