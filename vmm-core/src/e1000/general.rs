//! Registers that are neither transmit, receive nor interrupt: control, EEPROM, PHY, and those that
//! are only kept.

use std::collections::HashMap;

use super::eeprom::Eeprom;
use super::medium::{Medium, VlanMode};
use super::phy::Phy;
use super::regs::{ctrl, status};

/// CTRL after reset: what the EEPROM's control words ask for.
const CTRL_RESET: u32 = ctrl::SLU | ctrl::SPEED_1000 | 1;

/// General registers and state.
pub struct General {
    /// CTRL, without the bits that clear themselves.
    pub ctrl: u32,
    /// CTRL_EXT, likewise.
    pub ctrl_ext: u32,
    /// Behind EECD and EERD.
    pub eeprom: Eeprom,
    /// Behind MDIC.
    pub phy: Phy,
    /// CSBAH.
    pub csbah: u32,
    /// Where CSBAL has put the CSB; 0 for nowhere.
    pub csb: u64,
    /// Where BAR 0 decodes, if it does.
    pub window: Option<u64>,
    /// CTRL.VME and VET.
    pub vlan: VlanMode,
    /// RCTL.LBM asks for loopback in the MAC.
    pub mac_loopback: bool,
    /// IOADDR of BAR 1.
    pub io_address: u32,
    /// Registers that are only kept, by offset; those that were never written are missing.
    stored: HashMap<u32, u32>,
    /// How far each statistic had come when it was read last, by offset.
    baselines: HashMap<u32, u64>,
    /// How far a 64-bit statistic had come when its low half was read, until its high half is.
    halves: HashMap<u32, u64>,
}

impl General {
    /// The state after power-on.
    pub fn new(eeprom: Eeprom) -> Self {
        Self {
            ctrl: CTRL_RESET,
            ctrl_ext: 0,
            eeprom,
            phy: Phy::new(),
            csbah: 0,
            csb: 0,
            window: None,
            vlan: VlanMode::default(),
            mac_loopback: false,
            io_address: 0,
            stored: HashMap::new(),
            baselines: HashMap::new(),
            halves: HashMap::new(),
        }
    }

    /// CTRL.RST: the PHY, the EEPROM's contents and the CSB's address stay, as does the register
    /// that BAR 1 points at, through which the reset may have come.
    pub fn reset(&mut self) {
        self.ctrl = CTRL_RESET;
        self.ctrl_ext = 0;
        self.eeprom.reset();
        self.vlan = VlanMode::default();
        self.mac_loopback = false;
        self.stored.clear();
    }

    /// STATUS.
    pub fn status(&self) -> u32 {
        let up = self.phy.link() || self.phy.loopback();
        let speed = u32::from(self.phy.speed().code());
        speed << status::SPEED_SHIFT
            | speed << status::ASDV_SHIFT
            | if self.phy.full_duplex() { status::FD } else { 0 }
            | if up { status::LU } else { 0 }
    }

    /// What the MAC is connected to now.
    pub fn medium(&self) -> Medium {
        if self.mac_loopback || self.phy.loopback() {
            Medium::Itself
        } else if self.phy.link() {
            Medium::Network
        } else {
            Medium::Nothing
        }
    }

    /// The register at `offset` as it was written last, else `reset`.
    pub fn stored(&self, offset: u32, reset: u32) -> u32 {
        self.stored.get(&offset).copied().unwrap_or(reset)
    }

    /// Keeps a register's value.
    pub fn store(&mut self, offset: u32, value: u32) {
        self.stored.insert(offset, value);
    }

    /// How far a statistic has come since it was taken last, now that it is at `total`. It starts
    /// anew.
    pub fn take_count(&mut self, offset: u32, total: u64) -> u64 {
        let count = self.count(offset, total);
        self.baselines.insert(offset, total);
        self.halves.remove(&offset);
        count
    }

    /// How far a 64-bit statistic has come, for its low half. What is counted before the high half
    /// is read belongs to the next reading: no octet is lost in between.
    pub fn begin_count(&mut self, offset: u32, total: u64) -> u64 {
        self.halves.insert(offset, total);
        self.count(offset, total)
    }

    /// The same count, for its high half. It starts anew.
    pub fn end_count(&mut self, offset: u32, total: u64) -> u64 {
        let begun = self.halves.get(&offset).copied().unwrap_or(total);
        self.take_count(offset, begun)
    }

    fn count(&self, offset: u32, total: u64) -> u64 {
        total.saturating_sub(self.baselines.get(&offset).copied().unwrap_or(0))
    }
}
