//! The hand of a script: does things to a NIC and notes what it sees.

use crate::nic::Nic;
use crate::registers::{ICR, Register};
use crate::transcript::{Step, Transcript};

/// A NIC under a script.
pub struct Driver<'n> {
    nic: &'n mut dyn Nic,
    heading: String,
    transcript: Transcript,
}

impl<'n> Driver<'n> {
    /// Runs `script` on `nic`; returns what it saw.
    pub fn run(nic: &'n mut dyn Nic, script: fn(&mut Driver<'_>)) -> Transcript {
        let mut driver = Self { nic, heading: String::new(), transcript: Vec::new() };
        script(&mut driver);
        driver.transcript
    }

    /// Names what the following steps are about.
    pub fn heading(&mut self, heading: impl Into<String>) {
        self.heading = heading.into();
    }

    /// Notes an observation.
    pub fn note(&mut self, at: impl std::fmt::Display, saw: impl Into<String>) {
        let at = if self.heading.is_empty() {
            at.to_string()
        } else {
            format!("{}: {at}", self.heading)
        };
        self.transcript.push(Step { at, saw: saw.into() });
    }

    /// Writes a register, and lets the NIC do what follows.
    pub fn set(&mut self, register: Register, value: u32) {
        self.nic.write(register.offset, &value.to_le_bytes());
        self.nic.rest();
    }

    /// Reads a register. What a script does next must not depend on it.
    pub fn get(&mut self, register: Register) -> u32 {
        let mut data = [0; 4];
        self.nic.read(register.offset, &mut data);
        u32::from_le_bytes(data)
    }

    /// Notes a register's value.
    pub fn see(&mut self, register: Register) {
        let value = self.get(register);
        self.note(register, format!("{value:#010x}"));
    }

    /// Notes the level of the interrupt line.
    pub fn see_line(&mut self) {
        let level = if self.nic.interrupt() { "high" } else { "low" };
        self.note("INTA#", level);
    }

    /// Notes the interrupt line and the causes, and clears them.
    pub fn see_causes(&mut self) {
        self.see_line();
        self.see(ICR);
    }

    /// Notes bytes of RAM.
    pub fn see_ram(&mut self, at: &str, address: u64, length: usize) {
        let bytes = self.ram(address, length);
        self.note(at, hex(&bytes));
    }

    /// Notes the frames that the NIC has sent since the last look.
    pub fn see_sent(&mut self) {
        let frames = self.nic.sent();
        self.note_sent(&frames);
    }

    /// Notes frames.
    pub fn note_sent(&mut self, frames: &[Vec<u8>]) {
        self.note("frames sent", frames.len().to_string());
        let shown: Vec<_> =
            frames.iter().map(|frame| format!("{} bytes {}", frame.len(), hex(frame))).collect();
        self.note("sent", shown.join(" | "));
    }

    /// Writes guest RAM.
    pub fn set_ram(&mut self, address: u64, data: &[u8]) {
        self.nic.ram_write(address, data);
    }

    /// Reads guest RAM. What a script does next must not depend on it.
    pub fn ram(&mut self, address: u64, length: usize) -> Vec<u8> {
        let mut data = vec![0; length];
        self.nic.ram_read(address, &mut data);
        data
    }

    /// Puts a frame on the NIC's cable.
    pub fn receive(&mut self, frame: &[u8]) {
        self.nic.receive(frame);
        self.nic.rest();
    }

    /// The NIC itself, for accesses that are not a driver's daily ones.
    pub fn nic(&mut self) -> &mut dyn Nic {
        self.nic
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
