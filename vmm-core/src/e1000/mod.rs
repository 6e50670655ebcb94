//! An Intel 82540EM ("e1000") with the CSB extension.
//!
//! The device is made of three parts that different threads may enter at once, each behind its own
//! lock: `Transmitter`, `ReceiveUnit` and `Interrupts`. [`E1000`] routes register accesses and frames
//! to them and carries what they report to the interrupt line and the timer. It knows neither KVM
//! nor threads nor the time of day.
//!
//! Lock order: transmit, then (through the backend) the switch's ports, another NIC's receive, then
//! interrupts, then the schedule or the interrupt line. The receive and interrupt parts call nothing
//! that leads back to a NIC, so no cycle can form.

mod counters;
mod csb;
mod eeprom;
mod filter;
mod interrupts;
mod pacing;
mod phy;
pub mod regs;
mod ring;
mod rx;
mod schedule;
mod tx;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::backend::{Backend, FrameBatch, Mac, Receiver};
use crate::clock::{Clock, Timer};
use crate::irq::InterruptLine;
use crate::memory::GuestRam;

pub use counters::{NicCounters, RegisterCounters};
pub use rx::{RxCounters, RxDrops};
pub use tx::{TxCounters, TxDrops};

use counters::{AccessCounters, Tally};
use csb::Csb;
use eeprom::Eeprom;
use interrupts::Interrupts;
use phy::Phy;
use regs::ctrl;
use rx::{ReceiveUnit, RxOutcome};
use schedule::{Event, Schedule};
use tx::{Transmitter, TxOutcome};

/// PCI vendor id: Intel.
pub const VENDOR_ID: u16 = 0x8086;
/// PCI device id: 82540EM.
pub const DEVICE_ID: u16 = 0x100e;
/// PCI revision of the device.
pub const REVISION: u8 = 3;
/// PCI class code: Ethernet controller.
pub const CLASS: u32 = 0x02_0000;
/// Bytes of BAR 0, memory.
pub const BAR0_SIZE: u32 = 128 << 10;
/// Bytes of BAR 1, I/O ports.
pub const BAR1_SIZE: u32 = 64;
/// Subsystem vendor and device id of the plain device: Intel's PRO/1000 MT Desktop Adapter.
pub const PLAIN_SUBSYSTEM: (u16, u16) = (0x8086, 0x001e);
/// Subsystem vendor and device id that announce the CSB extension.
pub const CSB_SUBSYSTEM: (u16, u16) = (0, 0x1101);

/// What a NIC is.
#[derive(Clone, Debug)]
pub struct E1000Config {
    /// Permanent MAC address, in the EEPROM.
    pub mac: [u8; 6],
    /// Honour the interrupt moderation registers.
    pub itr: bool,
    /// Offer the CSB extension.
    pub csb: bool,
}

/// What a NIC needs of its host.
pub struct E1000Host {
    /// The guest's memory, for DMA.
    pub ram: GuestRam,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Calls [`E1000::on_timer`] back.
    pub timer: Arc<dyn Timer>,
    /// INTA#.
    pub line: Arc<dyn InterruptLine>,
    /// What the cable leads to.
    pub backend: Box<dyn Backend>,
}

/// Keeps each part on cache lines of its own: they belong to different threads.
#[repr(align(128))]
struct Isolated<T>(T);

/// Registers that are neither transmit, receive nor interrupt.
struct General {
    ctrl: u32,
    eerd: u32,
    mdic: u32,
    phy: Phy,
    csbah: u32,
    /// Stored for the driver to read back, by offset.
    stored: [(u32, u32); 12],
}

impl General {
    fn new() -> Self {
        use regs::*;
        let offsets =
            [EECD, CTRL_EXT, FCAL, FCAH, FCT, VET, FCTTV, TXCW, LEDCTL, PBA, FCRTL, FCRTH];
        Self {
            ctrl: ctrl::SLU,
            eerd: 0,
            mdic: 0,
            phy: Phy::new(),
            csbah: 0,
            stored: offsets.map(|offset| (offset, if offset == PBA { 0x0010_0030 } else { 0 })),
        }
    }

    fn stored(&mut self, offset: u32) -> Option<&mut u32> {
        self.stored.iter_mut().find(|(at, _)| *at == offset).map(|(_, value)| value)
    }
}

/// An emulated NIC. All methods may be called from any thread.
pub struct E1000 {
    config: E1000Config,
    ram: GuestRam,
    clock: Arc<dyn Clock>,
    schedule: Schedule,
    eeprom: Eeprom,
    link: AtomicBool,
    general: Mutex<General>,
    tx: Isolated<Mutex<Transmitter>>,
    rx: Isolated<Mutex<ReceiveUnit>>,
    irq: Isolated<Mutex<Interrupts>>,
    accesses: Isolated<AccessCounters>,
    /// Frames received so far, for the transmit side's pacing to read without the receive lock.
    received: Isolated<Tally>,
}

impl E1000 {
    /// A NIC after power-on, its link down.
    pub fn new(config: E1000Config, host: E1000Host) -> Arc<Self> {
        let (vendor, device) = if config.csb { CSB_SUBSYSTEM } else { PLAIN_SUBSYSTEM };
        Arc::new(Self {
            eeprom: Eeprom::new(config.mac, device, vendor),
            clock: host.clock,
            schedule: Schedule::new(host.timer),
            link: AtomicBool::new(false),
            general: Mutex::new(General::new()),
            tx: Isolated(Mutex::new(Transmitter::new(host.ram.clone(), host.backend))),
            rx: Isolated(Mutex::new(ReceiveUnit::new(host.ram.clone(), config.mac))),
            irq: Isolated(Mutex::new(Interrupts::new(host.line, config.itr))),
            accesses: Isolated(AccessCounters::default()),
            received: Isolated(Tally::default()),
            ram: host.ram,
            config,
        })
    }

    /// The permanent MAC address.
    pub fn mac(&self) -> Mac {
        self.config.mac.into()
    }

    /// PCI subsystem vendor and device id.
    pub fn subsystem(&self) -> (u16, u16) {
        if self.config.csb { CSB_SUBSYSTEM } else { PLAIN_SUBSYSTEM }
    }

    /// Plugs the cable in or out; the guest sees STATUS.LU and a link status change interrupt.
    pub fn set_link(&self, up: bool) {
        if self.set_carrier(up) {
            self.announce_link();
        }
    }

    /// Plugs the cables of several NICs in or out at one instant: no guest hears of it before all
    /// of them can receive, so that nothing the first one sends is lost.
    pub fn set_links(nics: &[Arc<E1000>], up: bool) {
        let changed: Vec<_> = nics.iter().filter(|nic| nic.set_carrier(up)).collect();
        changed.iter().for_each(|nic| nic.announce_link());
    }

    /// True if that was a change.
    fn set_carrier(&self, up: bool) -> bool {
        let changed = self.link.swap(up, Ordering::SeqCst) != up;
        if changed {
            self.tx.0.lock().link = up;
            self.rx.0.lock().link = up;
        }
        changed
    }

    fn announce_link(&self) {
        self.with_interrupts(|irq, now| irq.raise(regs::cause::LSC, now));
    }

    /// PCI Command.BME: allows or forbids DMA.
    pub fn set_bus_master(&self, on: bool) {
        self.tx.0.lock().bus_master = on;
        self.rx.0.lock().bus_master = on;
        if on {
            self.kick_transmit(None);
        }
    }

    /// Does what is due. The host calls this when a deadline that the device armed has passed.
    pub fn on_timer(&self) {
        let now = self.clock.now();
        let due = self.schedule.take_due(now);
        if due.contains(Event::Transmit) {
            self.look_at_transmit_ring(now);
        }
        if due.contains(Event::Receive) {
            self.with_receive_unit(|rx| rx.on_timer(now));
        }
        if due.contains(Event::Interrupt) {
            self.with_interrupts(|irq, now| irq.on_timer(now));
        }
        self.schedule.rearm();
    }

    /// A snapshot of all counters.
    pub fn counters(&self) -> NicCounters {
        NicCounters {
            tx: self.tx.0.lock().counters(),
            rx: self.rx.0.lock().counters(),
            interrupts: self.irq.0.lock().raised(),
            registers: self.accesses.0.snapshot(),
        }
    }

    /// Reads from BAR 0. Accesses narrower than 32 bits read part of a register.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        let aligned = offset & !3;
        let mut words = [0u8; 16];
        let span = (offset - aligned) as usize + data.len();
        for (at, word) in words.chunks_exact_mut(4).enumerate().take(span.div_ceil(4)) {
            let register = aligned.saturating_add(4 * at as u64);
            let value = u32::try_from(register).map_or(0, |r| self.read_register(r));
            word.copy_from_slice(&value.to_le_bytes());
        }
        let skip = (offset - aligned) as usize;
        match words.get(skip..skip + data.len()) {
            Some(bytes) => data.copy_from_slice(bytes),
            None => data.fill(0),
        }
    }

    /// Writes to BAR 0. The part takes whole aligned registers only (manual 13.2); other accesses
    /// are ignored.
    pub fn write(&self, offset: u64, data: &[u8]) {
        if !offset.is_multiple_of(4) {
            return;
        }
        for (at, word) in data.chunks_exact(4).enumerate() {
            let register = offset.saturating_add(4 * at as u64);
            if let (Ok(register), Ok(bytes)) = (u32::try_from(register), word.try_into()) {
                self.write_register(register, u32::from_le_bytes(bytes));
            }
        }
    }

    /// Reads from BAR 1. IOADDR and IODATA are not decoded: no driver in use needs them.
    pub fn io_read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    /// Writes to BAR 1: ignored.
    pub fn io_write(&self, _offset: u64, _data: &[u8]) {}

    fn read_register(&self, register: u32) -> u32 {
        use regs::*;
        self.accesses.0.reads.add(1);
        let index = |base: u32| ((register - base) / 4) as usize;
        match register {
            CTRL => self.general.lock().ctrl,
            STATUS => {
                let up = if self.link.load(Ordering::SeqCst) { status::LU } else { 0 };
                status::FD | status::SPEED_1000 | up
            }
            EERD => self.general.lock().eerd,
            MDIC => self.general.lock().mdic,
            ICR => {
                self.accesses.0.icr_reads.add(1);
                let mut causes = 0;
                self.with_interrupts(|irq, now| causes = irq.read_icr(now));
                causes
            }
            ICS => self.irq.0.lock().icr(),
            IMS => self.irq.0.lock().ims(),
            ITR => u32::from(self.irq.0.lock().itr()),
            RDTR => u32::from(self.irq.0.lock().delays()[0]),
            RADV => u32::from(self.irq.0.lock().delays()[1]),
            TIDV => u32::from(self.irq.0.lock().delays()[2]),
            TADV => u32::from(self.irq.0.lock().delays()[3]),
            RCTL => self.rx.0.lock().rctl,
            RDBAL => self.rx.0.lock().ring.base[0],
            RDBAH => self.rx.0.lock().ring.base[1],
            RDLEN => self.rx.0.lock().ring.length,
            RDH => self.rx.0.lock().ring.head,
            RDT => self.rx.0.lock().ring.tail,
            RXDCTL => self.rx.0.lock().stored[0],
            RXCSUM => self.rx.0.lock().stored[1],
            TCTL => self.tx.0.lock().tctl,
            TDBAL => self.tx.0.lock().ring.base[0],
            TDBAH => self.tx.0.lock().ring.base[1],
            TDLEN => self.tx.0.lock().ring.length,
            TDH => self.tx.0.lock().ring.head,
            TDT => self.tx.0.lock().ring.tail,
            TIPG => self.tx.0.lock().stored[0],
            TXDCTL => self.tx.0.lock().stored[1],
            TSPMT => self.tx.0.lock().stored[2],
            AIFS => self.tx.0.lock().stored[3],
            RAL0..0x5480 => self.rx.0.lock().filter.receive_address(index(RAL0)),
            MTA..RAL0 => self.rx.0.lock().filter.multicast_word(index(MTA)),
            _ => self.general.lock().stored(register).map_or(0, |value| *value),
        }
    }

    fn write_register(&self, register: u32, value: u32) {
        use regs::*;
        self.accesses.0.writes.add(1);
        let index = |base: u32| ((register - base) / 4) as usize;
        let index16 = value & 0xffff;
        match register {
            TDT => {
                self.accesses.0.tdt_writes.add(1);
                self.kick_transmit(Some(index16));
            }
            RDT => {
                self.accesses.0.rdt_writes.add(1);
                self.rx.0.lock().ring.tail = index16;
            }
            CTRL => self.write_ctrl(value),
            EERD => self.general.lock().eerd = self.eeprom.eerd(value),
            MDIC => {
                let link = self.link.load(Ordering::SeqCst);
                let mut general = self.general.lock();
                general.mdic = general.phy.mdic(value, link);
                const INTERRUPT_ENABLE: u32 = 1 << 29;
                if value & INTERRUPT_ENABLE != 0 {
                    self.with_interrupts(|irq, now| irq.raise(cause::MDAC, now));
                }
            }
            ICR => self.with_interrupts(|irq, now| irq.clear_causes(value, now)),
            ICS => self.with_interrupts(|irq, now| irq.raise(value & cause::ALL, now)),
            IMS => self.with_interrupts(|irq, now| irq.unmask(value, now)),
            IMC => self.with_interrupts(|irq, now| irq.mask(value, now)),
            ITR => self.with_interrupts(|irq, now| irq.set_itr(value as u16, now)),
            RDTR => self.with_interrupts(|irq, now| irq.set_rdtr(value, now)),
            RADV => self.irq.0.lock().set_radv(value as u16),
            TIDV => self.irq.0.lock().set_tidv(value as u16),
            TADV => self.irq.0.lock().set_tadv(value as u16),
            RCTL => self.rx.0.lock().rctl = value,
            RDBAL => self.rx.0.lock().ring.base[0] = value & !0xf,
            RDBAH => self.rx.0.lock().ring.base[1] = value,
            RDLEN => self.rx.0.lock().ring.length = value & 0x000f_ff80,
            RDH => self.rx.0.lock().ring.head = index16,
            RXDCTL => self.rx.0.lock().stored[0] = value,
            RXCSUM => self.rx.0.lock().stored[1] = value,
            CSBAL => self.map_csb(value),
            CSBAH => self.general.lock().csbah = value,
            TCTL => {
                self.tx.0.lock().tctl = value;
                self.kick_transmit(None);
            }
            TDBAL => self.tx.0.lock().ring.base[0] = value & !0xf,
            TDBAH => self.tx.0.lock().ring.base[1] = value,
            TDLEN => self.tx.0.lock().ring.length = value & 0x000f_ff80,
            TDH => self.tx.0.lock().ring.head = index16,
            TIPG => self.tx.0.lock().stored[0] = value,
            TXDCTL => self.tx.0.lock().stored[1] = value,
            TSPMT => self.tx.0.lock().stored[2] = value,
            AIFS => self.tx.0.lock().stored[3] = value,
            RAL0..0x5480 => self.rx.0.lock().filter.set_receive_address(index(RAL0), value),
            MTA..RAL0 => self.rx.0.lock().filter.set_multicast_word(index(MTA), value),
            _ => {
                if let Some(stored) = self.general.lock().stored(register) {
                    *stored = value;
                }
            }
        }
    }

    /// Sends what is due: up to a new tail, or what an earlier one left because transmission was off.
    fn kick_transmit(&self, tail: Option<u32>) {
        let now = self.clock.now();
        let received = self.received.0.get();
        self.with_transmitter(|tx| {
            tx.ring.tail = tail.unwrap_or(tx.ring.tail);
            tx.kick(now, received)
        });
    }

    // The three parts below set their deadline while their lock is held: set afterwards, an older
    // state's deadline could replace a newer one's.

    fn with_transmitter(&self, act: impl FnOnce(&mut Transmitter) -> TxOutcome) {
        let outcome = {
            let mut tx = self.tx.0.lock();
            let outcome = act(&mut tx);
            self.schedule.set(Event::Transmit, outcome.deadline);
            outcome
        };
        self.conclude_transmit(outcome);
    }

    fn conclude_transmit(&self, outcome: TxOutcome) {
        if outcome.interrupt {
            self.with_interrupts(|irq, now| irq.transmitted(outcome.may_delay, now));
        } else if outcome.reported {
            self.irq.0.lock().latch(regs::cause::TXDW);
        }
    }

    /// The timer's share of transmission. A lock that is taken means that a kick is being served:
    /// that thread will set the next deadline, and waiting for it would only steal its CPU.
    fn look_at_transmit_ring(&self, now: u64) {
        let outcome = {
            let Some(mut tx) = self.tx.0.try_lock() else {
                return self.schedule.set(Event::Transmit, Some(now + pacing::LOOK_AFTER));
            };
            let outcome = tx.on_timer(now);
            self.schedule.set(Event::Transmit, outcome.deadline);
            outcome
        };
        self.conclude_transmit(outcome);
    }

    fn with_receive_unit(&self, act: impl FnOnce(&mut ReceiveUnit) -> RxOutcome) -> usize {
        let outcome = {
            let mut rx = self.rx.0.lock();
            let outcome = act(&mut rx);
            self.schedule.set(Event::Receive, outcome.deadline);
            outcome
        };
        self.received.0.add(outcome.delivered as u64);
        if outcome.interrupt || outcome.causes != 0 {
            self.with_interrupts(|irq, now| {
                if outcome.causes != 0 {
                    irq.raise(outcome.causes, now);
                }
                if outcome.interrupt {
                    irq.received(now);
                }
            });
        } else if outcome.delivered > 0 {
            self.irq.0.lock().latch(regs::cause::RXT0);
        }
        outcome.delivered
    }

    fn with_interrupts(&self, change: impl FnOnce(&mut Interrupts, u64)) {
        let now = self.clock.now();
        let mut irq = self.irq.0.lock();
        change(&mut irq, now);
        self.schedule.set(Event::Interrupt, irq.deadline());
    }

    /// CTRL.RST (manual 13.4.1): all but PCI configuration, EEPROM, link and the CSB restarts.
    fn write_ctrl(&self, value: u32) {
        if value & ctrl::RST == 0 {
            self.general.lock().ctrl = value & !ctrl::PHY_RST;
            return;
        }
        let csbah = self.general.lock().csbah;
        *self.general.lock() = General { csbah, ..General::new() };
        self.tx.0.lock().reset();
        self.rx.0.lock().reset(self.config.mac);
        self.irq.0.lock().reset();
    }

    /// CSBAL maps one page at CSBAH:CSBAL, or releases it with address 0.
    fn map_csb(&self, low: u32) {
        if !self.config.csb {
            return;
        }
        let base = u64::from(self.general.lock().csbah) << 32 | u64::from(low);
        let csb = Csb::map(&self.ram, base);
        if csb.is_none() && base != 0 {
            tracing::warn!(mac = %self.mac(), "CSB at {base:#x} is not in guest RAM: ignored");
        }
        self.tx.0.lock().set_csb(csb.clone());
        self.rx.0.lock().set_csb(csb);
    }
}

impl Receiver for E1000 {
    fn receive(&self, batch: &FrameBatch<'_>, picks: &[u32]) -> usize {
        let now = self.clock.now();
        self.with_receive_unit(|rx| rx.receive(batch, picks, now))
    }
}
