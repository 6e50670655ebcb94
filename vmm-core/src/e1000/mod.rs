//! An Intel 82540EM ("e1000") with the CSB extension.
//!
//! The device is made of four parts that different threads may enter at once, each behind its own
//! lock: `General`, `Transmitter`, `ReceiveUnit` and `Interrupts`. [`E1000`] carries register accesses
//! ([`registers`] lists them), frames and deadlines to the parts, and what they report to the
//! interrupt line and the timer. It knows neither KVM nor threads nor the time of day. Where a thread
//! of its own is to transmit, kicks only ring its doorbell (`served`).
//!
//! Lock order: general, transmit, then (through the backend) a cable's gate, the switch's ports,
//! another NIC's receive, then interrupts, then the schedule or the interrupt line. The receive and interrupt parts
//! call nothing that leads back to a NIC, so no cycle can form.

mod access;
mod checksum;
mod counters;
mod csb;
mod descriptor;
mod eeprom;
mod filter;
mod general;
mod inspect;
mod interrupts;
mod medium;
mod offload;
mod pacing;
mod phy;
pub mod registers;
pub mod regs;
mod ring;
mod rx;
mod schedule;
mod served;
mod traffic;
mod tx;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::backend::{Backend, Feed, Flow, FrameBatch, Mac, Receiver};
use crate::clock::{Clock, Timer};
use crate::doorbell::Doorbell;
use crate::irq::InterruptLine;
use crate::memory::GuestRam;
use crate::policy::Policy;

pub use counters::{NicCounters, RegisterCounters};
pub use rx::{RxCounters, RxDrops};
pub use traffic::Traffic;
pub use tx::{TxCounters, TxDrops};

use counters::{AccessCounters, Tally};
use csb::Csb;
use eeprom::Eeprom;
use general::General;
use interrupts::Interrupts;
use medium::Medium;
use regs::cause;
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
    /// Who moves the frames that its guest sends.
    pub policy: Policy,
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
    /// Wakes the thread that [serves](crate::doorbell::Served) it; `None`: who kicks also moves the frames.
    pub doorbell: Option<Arc<dyn Doorbell>>,
}

/// No tail waits: no tail has as many bits.
const NOTHING_POSTED: u64 = u64::MAX;

/// Keeps each part on cache lines of its own: they belong to different threads.
#[repr(align(128))]
struct Isolated<T>(T);

/// An emulated NIC. All methods may be called from any thread.
pub struct E1000 {
    config: E1000Config,
    ram: GuestRam,
    clock: Arc<dyn Clock>,
    schedule: Schedule,
    /// Whether the transmit side is amid a stream, for kicks to see without its lock.
    streams: AtomicBool,
    /// Where frames come from that nobody brings.
    feed: Option<Box<dyn Feed>>,
    doorbell: Option<Arc<dyn Doorbell>>,
    /// What was last written to TDT for the doorbell's thread to take, or [`NOTHING_POSTED`].
    posted: Isolated<AtomicU64>,
    /// Whether the doorbell is wired to TDT.
    wired: AtomicBool,
    general: Mutex<General>,
    tx: Isolated<Mutex<Transmitter>>,
    rx: Isolated<Mutex<ReceiveUnit>>,
    irq: Isolated<Mutex<Interrupts>>,
    accesses: Isolated<AccessCounters>,
    /// Frames received so far, for the transmit side's pacing to read without the receive lock.
    received: Isolated<Tally>,
}

impl E1000 {
    /// A NIC after power-on, its cable out.
    pub fn new(config: E1000Config, host: E1000Host) -> Arc<Self> {
        let (vendor, device) = if config.csb { CSB_SUBSYSTEM } else { PLAIN_SUBSYSTEM };
        let eeprom = Eeprom::new(config.mac, device, vendor);
        let pull = config.policy == Policy::Pull;
        let feed = host.backend.feed();
        Arc::new(Self {
            streams: AtomicBool::new(false),
            feed,
            doorbell: host.doorbell,
            posted: Isolated(AtomicU64::new(NOTHING_POSTED)),
            wired: AtomicBool::new(false),
            clock: host.clock,
            schedule: Schedule::new(host.timer),
            general: Mutex::new(General::new(eeprom)),
            tx: Isolated(Mutex::new(Transmitter::new(host.ram.clone(), host.backend, pull))),
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
        if self.set_cable(up) {
            self.announce_link();
        }
    }

    /// Plugs the cables of several NICs in or out at one instant: no guest hears of it before all
    /// of them can receive, so that nothing the first one sends is lost.
    pub fn set_links(nics: &[Arc<E1000>], up: bool) {
        let changed: Vec<_> = nics.iter().filter(|nic| nic.set_cable(up)).collect();
        changed.iter().for_each(|nic| nic.announce_link());
    }

    /// True if the link changed.
    fn set_cable(&self, up: bool) -> bool {
        let mut general = self.general.lock();
        let changed = general.phy.set_cable(up);
        self.reconnect(&general);
        changed
    }

    /// Tells both directions what the MAC is connected to.
    fn reconnect(&self, general: &General) {
        let medium = general.medium();
        self.tx.0.lock().medium = medium;
        self.rx.0.lock().medium = medium;
    }

    fn announce_link(&self) {
        self.with_interrupts(|irq, now| irq.raise(cause::LSC, now));
    }

    /// PCI Command.BME: allows or forbids DMA.
    pub fn set_bus_master(&self, on: bool) {
        let general = self.general.lock();
        if !on {
            self.map_csb(0);
        }
        self.tx.0.lock().bus_master = on;
        self.rx.0.lock().bus_master = on;
        if on {
            self.map_csb(general.csb);
        }
        self.wire(&general);
        drop(general);
        if on {
            self.kick_transmit(None);
        }
    }

    /// Does what is due. The host calls this when a deadline that the device armed has passed.
    pub fn on_timer(&self) {
        let now = self.clock.now();
        let due = self.schedule.take_due(now);
        if due.contains(Event::Interrupt) {
            self.with_interrupts(|irq, now| irq.on_timer(now));
        }
        if due.contains(Event::Receive) {
            self.with_receive_unit(|rx| rx.on_timer(now));
        }
        // Last: it may take long.
        if due.contains(Event::Transmit) {
            self.look_at_transmit_ring(now);
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

    /// Sends what is due: up to a new tail, or what an earlier one left because transmission was off.
    fn kick_transmit(&self, tail: Option<u32>) {
        if let Some(doorbell) = &self.doorbell {
            return self.post(tail, &**doorbell);
        }
        let now = self.clock.now();
        let received = self.received.0.get();
        // In a stream whoever holds the lock sends what this kick is about, or will come again.
        if tail.is_some() && self.streams.load(Ordering::Relaxed) && self.tx.0.is_locked() {
            return;
        }
        self.with_transmitter(|tx| {
            tx.ring.tail = tail.unwrap_or(tx.ring.tail);
            tx.kick(now, received, &mut OwnReceiver(self))
        });
    }

    // The three parts below set their deadline while their lock is held: set afterwards, an older
    // state's deadline could replace a newer one's.

    fn with_transmitter(&self, act: impl FnOnce(&mut Transmitter) -> TxOutcome) {
        self.transmit(self.tx.0.lock(), act);
    }

    fn transmit(
        &self,
        mut tx: MutexGuard<'_, Transmitter>,
        act: impl FnOnce(&mut Transmitter) -> TxOutcome,
    ) {
        let outcome = act(&mut tx);
        self.schedule.set(Event::Transmit, outcome.deadline);
        self.note_stream(&tx);
        drop(tx);
        self.conclude_transmit(outcome);
    }

    /// To be called before the lock is given back, by whoever may have ended a stream: kicks that are
    /// not part of one must wait for the lock, for nobody else comes to look.
    fn note_stream(&self, tx: &Transmitter) {
        self.streams.store(tx.streams(), Ordering::Relaxed);
    }

    fn conclude_transmit(&self, outcome: TxOutcome) {
        if outcome.silent {
            let reported = if outcome.reported { cause::TXDW } else { 0 };
            if outcome.causes | reported != 0 {
                self.irq.0.lock().latch(outcome.causes | reported);
            }
        } else if outcome.reported || outcome.causes != 0 {
            self.with_interrupts(|irq, now| {
                if outcome.causes != 0 {
                    irq.raise(outcome.causes, now);
                }
                if outcome.reported {
                    irq.transmitted(outcome.may_delay, now);
                }
            });
        }
    }

    /// The timer's share of transmission. A lock that is taken means that a kick is being served:
    /// that thread will set the next deadline, and waiting for it would only steal its CPU.
    fn look_at_transmit_ring(&self, now: u64) {
        match self.tx.0.try_lock() {
            Some(tx) => self.transmit(tx, |tx| tx.on_timer(now, &mut OwnReceiver(self))),
            None => self.schedule.set(Event::Transmit, Some(now + pacing::LOOK_AFTER)),
        }
    }

    fn with_receive_unit(&self, act: impl FnOnce(&mut ReceiveUnit) -> RxOutcome) -> usize {
        let outcome = {
            let mut rx = self.rx.0.lock();
            let outcome = act(&mut rx);
            self.schedule.set(Event::Receive, outcome.deadline);
            outcome
        };
        self.received.0.add(outcome.delivered as u64);
        if outcome.quiet_causes != 0 {
            self.irq.0.lock().latch(outcome.quiet_causes);
        }
        if outcome.interrupt || outcome.causes != 0 {
            self.with_interrupts(|irq, now| {
                if outcome.interrupt {
                    irq.received(now);
                }
                if outcome.causes & cause::SRPD != 0 {
                    irq.end_receive_delay(now);
                }
                if outcome.causes != 0 {
                    irq.raise(outcome.causes, now);
                }
            });
        }
        outcome.delivered
    }

    fn with_interrupts(&self, change: impl FnOnce(&mut Interrupts, u64)) {
        let mut irq = self.irq.0.lock();
        // Asked for under the lock: an older time would let the next interrupt come too soon.
        let now = self.clock.now();
        change(&mut irq, now);
        self.schedule.set(Event::Interrupt, irq.deadline());
    }

    /// Shares the page at `base`, or none with 0. Without bus mastering none may be: every word
    /// the device writes there is DMA.
    fn map_csb(&self, base: u64) {
        let csb = Csb::map(&self.ram, base);
        if csb.is_none() && base != 0 {
            tracing::debug!(mac = %self.mac(), "CSB at {base:#x} is not in guest RAM: ignored");
        }
        let mut tx = self.tx.0.lock();
        tx.set_csb(csb.clone());
        self.note_stream(&tx);
        drop(tx);
        self.rx.0.lock().set_csb(csb);
    }
}

impl Receiver for E1000 {
    fn receive(&self, batch: &FrameBatch<'_>, picks: &[u32]) -> usize {
        let now = self.clock.now();
        self.with_receive_unit(|rx| rx.receive(Medium::Network, batch, picks, now))
    }

    fn room(&self, flow: Flow) -> usize {
        self.rx.0.lock().room(flow, self.clock.now())
    }

    fn send_waiting(&self, most: usize) -> usize {
        let most = most.try_into().unwrap_or(u32::MAX);
        let now = self.clock.now();
        // Taken: somebody is at it already.
        let Some(tx) = self.tx.0.try_lock() else { return 0 };
        let mut sent = 0;
        self.transmit(tx, |tx| {
            let outcome;
            (outcome, sent) = tx.pulled(now, most, &mut OwnReceiver(self));
            outcome
        });
        sent as usize
    }
}

/// The far end of the wire in loopback.
struct OwnReceiver<'a>(&'a E1000);

impl Backend for OwnReceiver<'_> {
    // Receiving never transmits, so this cannot come back to the transmitter that is calling.
    fn transmit(&mut self, batch: &FrameBatch<'_>) {
        let now = self.0.clock.now();
        let all: Vec<u32> = (0..batch.len() as u32).collect();
        self.0.with_receive_unit(|rx| rx.receive(Medium::Itself, batch, &all, now));
    }
}
