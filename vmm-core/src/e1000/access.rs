//! The guest's way in: both BARs, and what writes to the registers set in motion.

use std::ops::Range;

use super::E1000;
use super::general::General;
use super::registers::{REGISTERS, Register};
use super::regs::{cause, ctrl, ctrl_ext, rctl};

/// The register of BAR 1 that selects a register of BAR 0.
const IOADDR: u64 = 0;
/// The register of BAR 1 that is the selected one.
const IODATA: u64 = 4;

/// The BARs.
impl E1000 {
    /// Reads from BAR 0: any width, any alignment. Each register that the access touches is read
    /// once, with the side effects that has.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        for (register, lane, bytes) in lanes(offset, data.len()) {
            let value = self.read_register(register).to_le_bytes();
            data[bytes].copy_from_slice(&value[lane]);
        }
    }

    /// Writes to BAR 0: any width, any alignment. Bytes of a register that the access does not
    /// touch keep their value.
    pub fn write(&self, offset: u64, data: &[u8]) {
        for (register, lane, bytes) in lanes(offset, data.len()) {
            self.accesses.0.writes.add(1);
            if let Some((register, word)) = Register::find(register) {
                let bytes = &data[bytes];
                match bytes.try_into() {
                    Ok(whole) => register.write(self, word, u32::from_le_bytes(whole)),
                    Err(_) => register.write_bytes(self, word, lane.start, bytes),
                }
            }
        }
    }

    fn read_register(&self, register: u64) -> u32 {
        self.accesses.0.reads.add(1);
        Register::find(register).map_or(0, |(register, word)| register.read(self, word))
    }

    /// Reads from BAR 1: IOADDR selects the register that IODATA is (manual 13.2).
    pub fn io_read(&self, offset: u64, data: &mut [u8]) {
        for (port, lane, bytes) in lanes(offset, data.len()) {
            let io_address = self.general.lock().io_address;
            let value = match port {
                IOADDR => io_address,
                IODATA => self.read_register(io_address.into()),
                _ => 0,
            };
            data[bytes].copy_from_slice(&value.to_le_bytes()[lane]);
        }
    }

    /// Writes to BAR 1. Both registers take whole aligned words only (manual 13.2).
    pub fn io_write(&self, offset: u64, data: &[u8]) {
        let Ok(value) = data.try_into().map(u32::from_le_bytes) else { return };
        match offset {
            // Only addresses of BAR 0's registers fit; others select none.
            IOADDR => self.general.lock().io_address = value & 0xf_fffc,
            IODATA => {
                let register = u64::from(self.general.lock().io_address);
                self.write(register, data);
            }
            _ => {}
        }
    }
}

/// Registers that do more than keep a value; [`super::registers`] says which.
impl E1000 {
    pub(super) fn write_tdt(&self, tail: u32) {
        self.accesses.0.tdt_writes.add(1);
        self.kick_transmit(Some(tail));
    }

    pub(super) fn read_tdt(&self) -> u32 {
        let tx = self.tx.0.lock();
        self.posted_tail().unwrap_or(tx.ring.tail)
    }

    pub(super) fn write_rdt(&self, tail: u32) {
        self.accesses.0.rdt_writes.add(1);
        let room = self.rx.0.lock().kick(tail, self.clock.now());
        if let (Some(room), Some(feed)) = (room, &self.feed) {
            feed.pull(room);
        }
    }

    pub(super) fn read_icr(&self) -> u32 {
        self.accesses.0.icr_reads.add(1);
        let mut causes = 0;
        self.with_interrupts(|irq, now| causes = irq.read_icr(now));
        causes
    }

    pub(super) fn write_tctl(&self, value: u32) {
        self.tx.0.lock().tctl = value;
        self.kick_transmit(None);
    }

    pub(super) fn write_rctl(&self, value: u32) {
        let mut general = self.general.lock();
        general.mac_loopback = value & rctl::LBM_MAC != 0;
        self.rx.0.lock().rctl = value;
        self.reconnect(&general);
    }

    pub(super) fn write_mdic(&self, value: u32) {
        let mut general = self.general.lock();
        let effect = general.phy.set_mdic(value);
        self.reconnect(&general);
        drop(general);
        let done = if effect.done_interrupt { cause::MDAC } else { 0 };
        let link = if effect.link_changed { cause::LSC } else { 0 };
        if done | link != 0 {
            self.with_interrupts(|irq, now| irq.raise(done | link, now));
        }
    }

    pub(super) fn set_vlan_type(&self, ethertype: u16) {
        let mut general = self.general.lock();
        general.vlan.ethertype = ethertype;
        self.apply_vlan(&general);
    }

    fn apply_vlan(&self, general: &General) {
        self.tx.0.lock().vlan = general.vlan;
        self.rx.0.lock().vlan = general.vlan;
    }

    /// CTRL (manual 13.4.1). RST restarts all but the PHY, PCI configuration, the EEPROM's contents
    /// and the CSB; PHY_RST the PHY alone.
    pub(super) fn write_ctrl(&self, value: u32) {
        let mut general = self.general.lock();
        if value & ctrl::RST != 0 {
            general.reset();
            self.reset_transmitter(&general);
            self.rx.0.lock().reset(general.eeprom.mac());
            self.irq.0.lock().reset();
        } else {
            general.ctrl = value & !ctrl::PHY_RST;
            general.vlan.enabled = value & ctrl::VME != 0;
            self.apply_vlan(&general);
        }
        let link_changed = value & ctrl::PHY_RST != 0 && general.phy.reset();
        self.reconnect(&general);
        drop(general);
        if value & ctrl::RST != 0 {
            let counters = self.counters();
            REGISTERS.iter().for_each(|register| register.restart(self, &counters));
        }
        if link_changed {
            self.announce_link();
        }
    }

    /// CTRL_EXT (manual 13.4.6). EE_RST loads the receive address from the EEPROM again.
    pub(super) fn write_ctrl_ext(&self, value: u32) {
        let mut general = self.general.lock();
        general.ctrl_ext = value & !(ctrl_ext::ASDCHK | ctrl_ext::EE_RST);
        if value & ctrl_ext::EE_RST != 0 {
            self.rx.0.lock().filter.set_own_address(general.eeprom.mac());
        }
    }

    /// CSBAL names one page at CSBAH:CSBAL, or none with address 0.
    pub(super) fn write_csbal(&self, low: u32) {
        if self.config.csb {
            let mut general = self.general.lock();
            general.csb = u64::from(general.csbah) << 32 | u64::from(low);
            if self.tx.0.lock().bus_master {
                self.map_csb(general.csb);
                self.wire(&general);
            }
        }
    }
}

/// Cuts an access of `len` bytes at `offset` into registers: the address of each, which of its
/// bytes are meant, and which bytes of the access these are. Ends at the end of the address space.
fn lanes(offset: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset.checked_add(done as u64)?;
        let start = (at % 4) as usize;
        let count = (4 - start).min(len - done);
        let bytes = done..done + count;
        done += count;
        (count > 0).then_some((at - start as u64, start..start + count, bytes))
    })
}
