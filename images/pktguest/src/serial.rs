//! COM1, written by polling. Registers as in the 16550A data sheet.

use core::fmt;

use crate::port;

const DATA: u16 = 0x3f8;
const INTERRUPT_ENABLE: u16 = 0x3f9;
const FIFO_CONTROL: u16 = 0x3fa;
const LINE_CONTROL: u16 = 0x3fb;
const LINE_STATUS: u16 = 0x3fd;

/// Without clearing: what is still in it gets sent.
const FIFO_ON: u8 = 0x01;
const EIGHT_N_ONE: u8 = 0x03;
const TRANSMITTER_EMPTY: u8 = 0x20;
const FIFO_LEN: u8 = 16;

/// The console.
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
}

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
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
