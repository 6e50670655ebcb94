//! A guest: its RAM, its NIC on a PCI bus, and what the NIC's other ends are told.

use std::cell::OnceCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use vmm_core::backend::{Backend, Feed, Flow, FrameBatch, Receiver};
use vmm_core::clock::{Clock, ManualClock, Timer};
use vmm_core::e1000::registers::offset as reg;
use vmm_core::e1000::{E1000, E1000Config, E1000Host, regs};
use vmm_core::irq::InterruptLine;
use vmm_core::memory::GuestRam;
use vmm_core::pci::{Intx, PciRoot, nic_function};
use vmm_core::policy::Policy;
use vmm_core::switch::Port;

use super::program::{Mode, Setup};

/// Bytes of a guest's RAM: little, so that hostile addresses often meet something.
pub const RAM: u64 = 64 << 10;
/// The NICs' addresses.
pub const MACS: [[u8; 6]; 2] = [[0x52, 0x54, 0, 0, 0, 1], [0x52, 0x54, 0, 0, 0, 2]];

/// Where a driver puts its rings, of [`SLOTS`] descriptors, and the CSB.
const TX_RING: u32 = 0x1000;
const RX_RING: u32 = 0x2000;
pub const CSB: u64 = 0x3000;
/// Where [`Action::Offload`](super::program::Action::Offload) puts its packets.
pub const TX_BUFFER: u64 = 0x4000;
const RX_BUFFER: u64 = 0x8000;
const SLOTS: u32 = 16;

/// Longest frame: the part's longest packet (manual 3.3.3) and a VLAN tag.
const MAX_FRAME: usize = 16288 + 4;
/// Most pieces of a frame: a chain of 256 descriptors, a header and padding.
const MAX_PIECES: usize = 258;
/// Most frames that VALE takes at once.
const MAX_BATCH: usize = 1024;

/// One guest.
pub struct Guest {
    pub nic: Arc<E1000>,
    pub root: PciRoot,
    pub ram: GuestRam,
    pub clock: Arc<ManualClock>,
    pub line: Arc<Line>,
    pub pin: Arc<Line>,
    pub alarm: Arc<Alarm>,
    pub wire: Arc<Wire>,
    pub csb: CsbShadow,
    /// What RAM holds if the device writes nothing.
    pub expected: Vec<u8>,
    /// A second buffer of that size, to compare with.
    pub spare: Vec<u8>,
}

impl Guest {
    /// Guest `index` with cleared RAM, its NIC's cable leading to `port` or nowhere.
    pub fn new(index: usize, setup: &Setup, clock: &Arc<ManualClock>, port: Option<Port>) -> Self {
        let ram = cleared_ram(index);
        let (line, pin) = (Arc::new(Line::default()), Arc::new(Line::default()));
        let alarm = Arc::new(Alarm::default());
        let wire = Arc::new(Wire::new(clock.clone()));
        let intx = Arc::new(Intx::new(pin.clone()));
        line.behind.set(intx.clone()).unwrap_or_else(|_| unreachable!("set once"));
        line.clock.set(clock.clone()).unwrap_or_else(|_| unreachable!("set once"));
        let host = E1000Host {
            ram: ram.clone(),
            clock: clock.clone(),
            timer: alarm.clone(),
            line: line.clone(),
            backend: Box::new(Cable { wire: wire.clone(), port }),
            doorbell: None,
        };
        let config =
            E1000Config { mac: MACS[index], itr: setup.itr, csb: setup.csb, policy: Policy::Pull };
        let nic = E1000::new(config, host);
        wire.nic.set(Arc::downgrade(&nic)).unwrap_or_else(|_| unreachable!("set once"));
        let mut root = PciRoot::new();
        root.add(nic_function(&nic, 0, setup.csb, intx));
        let (clock, csb) = (clock.clone(), CsbShadow::default());
        let (expected, spare) = (vec![0; RAM as usize], vec![0; RAM as usize]);
        let mut guest =
            Self { nic, root, ram, clock, line, pin, alarm, wire, csb, expected, spare };
        if setup.driver {
            guest.play_driver(setup);
        }
        guest
    }

    /// Brings the NIC up as a driver does.
    fn play_driver(&mut self, setup: &Setup) {
        self.nic.set_link(true);
        self.set_command(0x0007);
        for slot in 0..u64::from(SLOTS) {
            self.store(u64::from(RX_RING) + 16 * slot, &(RX_BUFFER + 2048 * slot).to_le_bytes());
        }
        if setup.csb {
            for (field, value) in [(0x08, 1), (0x10, SLOTS - 1), (0x0c, 1)] {
                self.store(CSB + field, &u32::to_le_bytes(value));
            }
            self.set(reg::CSBAL, CSB as u32);
        }
        let mut control = regs::ctrl::SLU;
        let mut receive = regs::rctl::EN | regs::rctl::BAM | regs::rctl::SECRC;
        if setup.offloads {
            control |= regs::ctrl::VME;
            receive |= regs::rctl::VFE | regs::rctl::LPE;
            self.set(reg::VFTA, 0xffff_00ff);
            self.set(reg::RXCSUM, regs::rxcsum::IPOFL | regs::rxcsum::TUOFL);
        }
        for (register, value) in [
            (reg::CTRL, control),
            (reg::TDBAL, TX_RING),
            (reg::TDLEN, 16 * SLOTS),
            (reg::TCTL, regs::tctl::EN),
            (reg::RDBAL, RX_RING),
            (reg::RDLEN, 16 * SLOTS),
            (reg::RDT, SLOTS - 1),
            (reg::RCTL, receive),
            (reg::IMS, regs::cause::ALL),
        ] {
            self.set(register, value);
        }
    }

    /// The PCI Command register.
    pub fn set_command(&mut self, command: u16) {
        self.root.config_write(vmm_core::pci::CONFIG_ADDRESS, &0x8000_0804u32.to_le_bytes());
        self.root.config_write(vmm_core::pci::CONFIG_DATA, &command.to_le_bytes());
    }

    /// Reads the PCI Command register.
    pub fn command(&mut self) -> u16 {
        let mut raw = [0; 2];
        self.root.config_write(vmm_core::pci::CONFIG_ADDRESS, &0x8000_0804u32.to_le_bytes());
        self.root.config_read(vmm_core::pci::CONFIG_DATA, &mut raw);
        u16::from_le_bytes(raw)
    }

    /// Writes a register, whatever BAR 0 decodes.
    pub fn set(&mut self, register: u32, value: u32) {
        self.csb.note(u64::from(register), &value.to_le_bytes());
        self.nic.write(u64::from(register), &value.to_le_bytes());
    }

    /// Reads a register, whatever BAR 0 decodes.
    pub fn get(&self, register: u32) -> u32 {
        let mut raw = [0; 4];
        self.nic.read(u64::from(register), &mut raw);
        u32::from_le_bytes(raw)
    }

    /// The guest's own store; nothing happens where there is no RAM.
    pub fn store(&mut self, at: u64, bytes: &[u8]) {
        if let Some(to) = self.ram.slice(at, bytes.len()) {
            to.copy_from(bytes);
            self.expected[at as usize..][..bytes.len()].copy_from_slice(bytes);
        }
    }

    /// The guest's own load from its RAM; zeroes if `at` is elsewhere.
    pub fn load<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        if let Some(from) = self.ram.slice(at, N) {
            from.copy_to(&mut bytes);
        }
        bytes
    }
}

/// Where the guest has put its CSB, from the writes that it made.
#[derive(Default)]
pub struct CsbShadow {
    high: u32,
    /// Guest-physical address; 0 if there is none.
    pub base: u64,
    /// An access that may or may not have counted: the device decides what a part of a register is.
    pub unknown: bool,
}

impl CsbShadow {
    /// Notes a write to BAR 0.
    pub fn note(&mut self, offset: u64, data: &[u8]) {
        let end = u64::from(reg::CSBAH) + 4;
        if offset >= end || offset + data.len() as u64 <= u64::from(reg::CSBAL) {
            return;
        }
        if !offset.is_multiple_of(4) || !data.len().is_multiple_of(4) {
            self.unknown = true;
        }
        for (at, word) in data.chunks_exact(4).enumerate() {
            let value = u32::from_le_bytes(word.try_into().expect("four bytes"));
            match offset as u32 + 4 * at as u32 {
                reg::CSBAL => self.base = u64::from(self.high) << 32 | u64::from(value),
                reg::CSBAH => self.high = value,
                _ => {}
            }
        }
    }
}

/// This thread's RAM of guest `index`, zeroed: mapping it anew would cost more than most runs.
fn cleared_ram(index: usize) -> GuestRam {
    thread_local! {
        static RAMS: [OnceCell<GuestRam>; 2] = const { [const { OnceCell::new() }; 2] };
    }
    let ram = RAMS.with(|rams| {
        rams[index].get_or_init(|| GuestRam::new(RAM).expect("a few pages of memory")).clone()
    });
    let all = ram.slice(0, RAM as usize).expect("all of RAM is RAM");
    all.copy_from(&[0u8; RAM as usize]);
    ram
}

/// An interrupt line that knows its level and checks that it rises no sooner than it may.
#[derive(Default)]
pub struct Line {
    high: AtomicBool,
    rises: AtomicU64,
    rose_at: AtomicU64,
    /// Nanoseconds that must lie between the last rise and the next.
    spacing: AtomicU64,
    clock: OnceLock<Arc<ManualClock>>,
    behind: OnceLock<Arc<Intx>>,
}

impl Line {
    pub fn high(&self) -> bool {
        self.high.load(Ordering::SeqCst)
    }

    pub fn rises(&self) -> u64 {
        self.rises.load(Ordering::SeqCst)
    }

    pub fn require_spacing(&self, ns: u64) {
        self.spacing.store(ns, Ordering::SeqCst);
    }

    fn rise(&self, now: u64) {
        let since = now - self.rose_at.swap(now, Ordering::SeqCst);
        let spacing = self.spacing.load(Ordering::SeqCst);
        let first = self.rises.fetch_add(1, Ordering::SeqCst) == 0;
        assert!(first || since >= spacing, "an interrupt {since} ns after one, not {spacing}");
    }
}

impl InterruptLine for Line {
    fn set_level(&self, high: bool) {
        let before = self.high.swap(high, Ordering::SeqCst);
        assert_ne!(before, high, "a line is driven only when its level changes");
        if let (true, Some(clock)) = (high, self.clock.get()) {
            self.rise(clock.now());
        }
        if let Some(intx) = self.behind.get() {
            intx.set_level(high);
        }
    }
}

/// The host's timer.
#[derive(Default)]
pub struct Alarm(Mutex<Option<u64>>);

impl Alarm {
    pub fn deadline(&self) -> Option<u64> {
        *self.0.lock().unwrap()
    }

    pub fn take_before(&self, until: u64) -> Option<u64> {
        self.0.lock().unwrap().take_if(|at| *at <= until)
    }
}

impl Timer for Alarm {
    fn arm(&self, deadline: u64) {
        *self.0.lock().unwrap() = Some(deadline);
    }
}

/// What went over a NIC's cable, and how it behaves.
pub struct Wire {
    pub mode: Mutex<Mode>,
    /// Frames and bytes that the NIC sent.
    pub sent: [AtomicU64; 2],
    /// Frames that the NIC was offered.
    pub offered: AtomicU64,
    clock: Arc<ManualClock>,
    nic: OnceLock<Weak<E1000>>,
}

impl Wire {
    fn new(clock: Arc<ManualClock>) -> Self {
        Self {
            mode: Mutex::new(Mode::Deliver),
            sent: Default::default(),
            offered: AtomicU64::new(0),
            clock,
            nic: OnceLock::new(),
        }
    }

    /// Looks at a batch of which the first `taken` frames leave the NIC.
    fn check(&self, batch: &FrameBatch<'_>, taken: usize) {
        assert!((1..=MAX_BATCH).contains(&batch.len()), "a batch of {}", batch.len());
        assert!(taken <= batch.len());
        let mut bytes = [0; MAX_FRAME + 1];
        let (mut total, mut sent) = (0, 0);
        for (index, frame) in batch.iter().enumerate() {
            assert!((14..=MAX_FRAME).contains(&frame.len()), "a frame of {} bytes", frame.len());
            assert!(frame.spans().len() <= MAX_PIECES, "{} pieces", frame.spans().len());
            assert_eq!(frame.copy_out(0, &mut bytes), frame.len());
            total += frame.len() as u64;
            sent += if index < taken { frame.len() as u64 } else { 0 };
        }
        assert_eq!(total, batch.total_bytes());
        self.sent[0].fetch_add(taken as u64, Ordering::SeqCst);
        self.sent[1].fetch_add(sent, Ordering::SeqCst);
    }
}

/// Frames for the NIC, from the switch or from the fuzzer.
impl Receiver for Wire {
    fn receive(&self, batch: &FrameBatch<'_>, picks: &[u32]) -> usize {
        self.offered.fetch_add(picks.len() as u64, Ordering::SeqCst);
        let Some(nic) = self.nic.get().and_then(Weak::upgrade) else { return 0 };
        let taken = nic.receive(batch, picks);
        assert!(taken <= picks.len());
        taken
    }

    fn room(&self, flow: Flow) -> usize {
        self.nic.get().and_then(Weak::upgrade).map_or(usize::MAX, |nic| nic.room(flow))
    }

    fn send_waiting(&self, most: usize) -> usize {
        self.nic.get().and_then(Weak::upgrade).map_or(0, |nic| nic.send_waiting(most))
    }
}

/// The backend: checks what the NIC sends, then does as its [`Mode`] says.
struct Cable {
    wire: Arc<Wire>,
    port: Option<Port>,
}

impl Cable {
    /// Plays the cable's mode; returns the port that the frames then go to, if they do.
    fn carry(&mut self, batch: &FrameBatch<'_>) -> Option<&mut Port> {
        let mode = *self.wire.mode.lock().unwrap();
        match mode {
            Mode::Stalled => return None,
            Mode::Slow => self.wire.clock.advance(2_000_000),
            Mode::Echo => {
                let all: Vec<u32> = (0..batch.len() as u32).collect();
                self.wire.receive(batch, &all);
            }
            Mode::Deliver => {}
        }
        self.port.as_mut()
    }
}

impl Backend for Cable {
    fn transmit(&mut self, batch: &FrameBatch<'_>) {
        self.wire.check(batch, batch.len());
        if let Some(port) = self.carry(batch) {
            port.transmit(batch);
        }
    }

    fn transmit_while_room(&mut self, batch: &FrameBatch<'_>) -> usize {
        let port = self.carry(batch);
        let taken = port.map_or(batch.len(), |port| port.transmit_while_room(batch));
        self.wire.check(batch, taken);
        taken
    }

    fn feed(&self) -> Option<Box<dyn Feed>> {
        self.port.as_ref().and_then(Backend::feed)
    }
}
