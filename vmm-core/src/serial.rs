//! Serial ports: 16550s at COM1 and COM2.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use vm_superio::Trigger;
use vm_superio::serial::NoEvents;

use crate::irq::InterruptLine;

/// Registers of a port.
pub const REGISTERS: u16 = 8;

/// Most bytes that were typed and that the guest has not read.
pub const INPUT_MAX: usize = 64 << 10;

/// Receive buffer, and with DLAB set the divisor.
const DATA: u8 = 0;
/// Line status.
const LSR: u8 = 5;
/// LSR: a byte waits.
const DATA_READY: u8 = 1 << 0;

type Uart = vm_superio::Serial<EdgeTrigger, NoEvents, Box<dyn Write + Send>>;

/// A 16550 UART.
pub struct Serial {
    // The guest's accesses and a SerialInput's bytes come from different threads. A guest that
    // prints pays an exit per byte; beside that an uncontended lock is nothing.
    port: Arc<Mutex<Port>>,
}

impl Serial {
    /// A UART with its interrupt on `line`, an edge-triggered input, and its output on `out`.
    ///
    /// `out` gets each byte as the guest sends it, on the vCPU's thread: what makes a system call
    /// of a write wants [`Lines`] or a buffer of its own in front.
    pub fn new(line: Arc<dyn InterruptLine>, out: Box<dyn Write + Send>) -> Self {
        let uart = vm_superio::Serial::new(EdgeTrigger(line), out);
        Self { port: Arc::new(Mutex::new(Port { uart, typed: VecDeque::new() })) }
    }

    /// The other end of the line, for typing.
    pub fn input(&self) -> SerialInput {
        SerialInput { port: Arc::downgrade(&self.port) }
    }

    /// Reads registers from `offset` on, one per byte.
    pub fn read(&mut self, offset: u16, data: &mut [u8]) {
        data.fill(0xff);
        let mut port = self.port.lock();
        for (register, byte) in (offset as u8..REGISTERS as u8).zip(data) {
            *byte = port.uart.read(register);
            if register != DATA {
                port.refill();
            }
        }
    }

    /// Writes registers from `offset` on, one per byte.
    pub fn write(&mut self, offset: u16, data: &[u8]) {
        let mut port = self.port.lock();
        for (register, byte) in (offset as u8..REGISTERS as u8).zip(data) {
            if let Err(error) = port.uart.write(register, *byte) {
                // A console that went away must not take the guest with it.
                tracing::debug!(?error, "guest console output lost");
            }
        }
    }
}

/// Types on a guest's serial port. Cloning gives another hand on the same keyboard.
#[derive(Clone)]
pub struct SerialInput {
    // Weak: whoever may type must not keep a guest's console open, or its memory.
    port: Weak<Mutex<Port>>,
}

impl SerialInput {
    /// Types `bytes` and returns how many were taken: all of them, unless more than [`INPUT_MAX`]
    /// would wait for the guest to read them. 0 after the guest's end.
    pub fn send(&self, bytes: &[u8]) -> usize {
        self.port.upgrade().map_or(0, |port| port.lock().take(bytes))
    }

    /// Types all of `bytes` or, if there is no room for them or the guest has ended, nothing: what
    /// is cut off reads as something else. Returns whether they were taken.
    pub fn send_whole(&self, bytes: &[u8]) -> bool {
        self.port.upgrade().is_some_and(|port| {
            let mut port = port.lock();
            let fits = bytes.len() <= port.room();
            fits && port.take(bytes) == bytes.len()
        })
    }
}

/// The UART, and what does not fit into its receive FIFO yet.
struct Port {
    uart: Uart,
    typed: VecDeque<u8>,
}

impl Port {
    /// How many more bytes may be typed.
    fn room(&self) -> usize {
        INPUT_MAX.saturating_sub(self.typed.len())
    }

    /// Takes of `bytes` what there is room for.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room());
        self.typed.extend(&bytes[..taken]);
        self.refill();
        taken
    }

    /// Fills the FIFO if it is empty.
    ///
    /// Not as soon as the guest takes its last byte, but when it has had a chance to see that: a
    /// driver may take only so many bytes per interrupt (Linux 256, `serial8250_rx_chars`), and there
    /// is no other interrupt before the next filling.
    fn refill(&mut self) {
        if self.typed.is_empty() || self.uart.read(LSR) & DATA_READY != 0 {
            return;
        }
        let (next, _) = self.typed.as_slices();
        // The only error is a full FIFO. In loopback mode it takes nothing.
        let taken = self.uart.enqueue_raw_bytes(next).unwrap_or(0);
        self.typed.drain(..taken);
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

/// Longest piece of a line that [`Lines`] keeps back.
const LINE_MAX: usize = 16 << 10;

/// Collects whole lines: hands over one write per line of up to 16 KiB, and the unfinished line when
/// it is dropped. Flushing does not break a line.
pub struct Lines<W: Write> {
    line: Vec<u8>,
    out: W,
}

impl<W: Write> Lines<W> {
    /// Collects lines for `out`.
    pub fn new(out: W) -> Self {
        Self { line: Vec::new(), out }
    }

    fn pass_on(&mut self) -> io::Result<()> {
        let result = self.out.write_all(&self.line).and_then(|()| self.out.flush());
        self.line.clear();
        result
    }
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(piece);
            if self.line.ends_with(b"\n") || self.line.len() >= LINE_MAX {
                self.pass_on()?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> Drop for Lines<W> {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            // Nobody is left to tell.
            let _ = self.pass_on();
        }
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
    fn output_is_handed_over_byte_by_byte() {
        let log = Log::default();
        let mut serial = Serial::new(Arc::new(Edges::default()), Box::new(log.clone()));
        for byte in b"$ " {
            serial.write(0, &[*byte]);
        }
        assert_eq!(*log.0.lock(), [b"$", b" "]);
    }

    #[test]
    fn lines_arrive_whole_and_the_rest_at_the_end() {
        let log = Log::default();
        let mut lines = Lines::new(log.clone());
        for bytes in ["on", "e\ntwo\nth", "r"] {
            lines.write_all(bytes.as_bytes()).unwrap();
            lines.flush().unwrap();
        }
        assert_eq!(*log.0.lock(), [b"one\n", b"two\n"]);
        drop(lines);
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

    fn register(serial: &mut Serial, offset: u16) -> u8 {
        let mut data = [0];
        serial.read(offset, &mut data);
        data[0]
    }

    #[test]
    fn what_is_typed_arrives_in_order_however_much_it_is() {
        let mut serial = Serial::new(Arc::new(Edges::default()), Box::new(io::sink()));
        let input = serial.input();
        assert_eq!(register(&mut serial, 5) & 1, 0, "LSR: no data ready");
        let typed: Vec<u8> = (0..INPUT_MAX + 200).map(|i| i as u8).collect();
        let taken = input.send(&typed[..INPUT_MAX]);
        let more = input.send(&typed[taken..]);
        assert_eq!((taken, more), (INPUT_MAX, 64), "the FIFO's share makes room");
        assert_eq!(input.send(b"x"), 0, "nobody has read");
        let mut seen = Vec::new();
        while seen.len() < taken + more {
            while register(&mut serial, 5) & 1 != 0 {
                seen.push(register(&mut serial, 0));
            }
        }
        assert_eq!(seen, typed[..taken + more]);
        assert_eq!(register(&mut serial, 5) & 1, 0, "that was all");
        assert_eq!(input.send(b"x"), 1, "there is room again");
    }

    #[test]
    fn what_must_be_whole_is_not_typed_in_part() {
        let mut serial = Serial::new(Arc::new(Edges::default()), Box::new(io::sink()));
        let input = serial.input();
        // The FIFO's share makes room.
        assert!(input.send_whole(&[b'x'; 64]) && input.send_whole(&[b'x'; INPUT_MAX - 1]));
        assert!(!input.send_whole(b"yy"), "there is room for one");
        assert!(input.send_whole(b"z"));
        assert!(!input.send_whole(b"y") && input.send_whole(b""));
        let mut seen = Vec::new();
        while seen.len() < INPUT_MAX + 64 {
            while register(&mut serial, 5) & 1 != 0 {
                seen.push(register(&mut serial, 0));
            }
        }
        assert!(seen.ends_with(b"xz") && !seen.contains(&b'y'));
        drop(serial);
        assert!(!input.send_whole(b"x"), "the guest is gone");
    }

    #[test]
    fn each_filling_of_the_fifo_interrupts_if_asked_for() {
        let line = Arc::new(Edges::default());
        let mut serial = Serial::new(line.clone(), Box::new(io::sink()));
        let input = serial.input();
        input.send(&[0; 10]);
        assert!(line.0.lock().is_empty(), "no interrupt unless IER asks for it");
        serial.write(1, &[1]);
        assert_eq!(*line.0.lock(), [true, false], "IER: data available, as a pulse");
        input.clone().send(&[1; 64]);
        while register(&mut serial, 5) & 1 != 0 {
            register(&mut serial, 0);
        }
        assert_eq!(line.0.lock().len(), 4, "the FIFO was empty, and was filled again");
        assert_eq!(register(&mut serial, 0), 1);
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
