//! COM1, written by polling; input interrupts. Registers as in the 16550A data sheet.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::irq::CONSOLE_VECTOR;
use crate::{apic, port};

const DATA: u16 = 0x3f8;
const INTERRUPT_ENABLE: u16 = 0x3f9;
const FIFO_CONTROL: u16 = 0x3fa;
const LINE_CONTROL: u16 = 0x3fb;
const MODEM_CONTROL: u16 = 0x3fc;
const LINE_STATUS: u16 = 0x3fd;

/// The I/O APIC pin of its interrupt.
const PIN: u8 = 4;

/// Without clearing: what is still in it gets sent.
const FIFO_ON: u8 = 0x01;
const EIGHT_N_ONE: u8 = 0x03;
const TRANSMITTER_EMPTY: u8 = 0x20;
const DATA_READY: u8 = 0x01;
const INPUT_INTERRUPT: u8 = 0x01;
/// Ready, and OUT2, which lets the interrupt out.
const LISTENING: u8 = 0x0b;
const FIFO_LEN: u8 = 16;

/// Where the port's cursor is, whoever wrote last.
static AT_LINE_START: AtomicBool = AtomicBool::new(true);

/// The console's port.
pub struct Serial {
    /// Bytes the FIFO surely takes: its status costs an exit, so it is read once per FIFO.
    room: u8,
}

impl Serial {
    /// Sets the port up for polled output.
    pub fn open() -> Self {
        port::write8(INTERRUPT_ENABLE, 0);
        port::write8(LINE_CONTROL, EIGHT_N_ONE);
        port::write8(FIFO_CONTROL, FIFO_ON);
        Self { room: 0 }
    }

    /// Has input interrupt us, what is there already, too.
    pub fn listen(&mut self) {
        apic::route(PIN, CONSOLE_VECTOR);
        port::write8(MODEM_CONTROL, LISTENING);
        port::write8(INTERRUPT_ENABLE, INPUT_INTERRUPT);
    }

    /// The next byte of input, if there is any.
    pub fn read(&mut self) -> Option<u8> {
        (port::read8(LINE_STATUS) & DATA_READY != 0).then(|| port::read8(DATA))
    }

    /// Ends the line that is being printed, if there is one.
    pub fn end_line(&mut self) {
        if !AT_LINE_START.load(Relaxed) {
            // Always succeeds.
            let _ = self.write_char('\n');
        }
    }
}

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            AT_LINE_START.store(byte == b'\n', Relaxed);
            while self.room == 0 {
                if port::read8(LINE_STATUS) & TRANSMITTER_EMPTY != 0 {
                    self.room = FIFO_LEN;
                }
            }
            port::write8(DATA, byte);
            self.room -= 1;
        }
        Ok(())
    }
}
