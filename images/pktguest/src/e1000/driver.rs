//! The driver proper: set-up and interrupts.

use core::fmt::Write;

use super::csb::{self, Csb};
use super::memory::{Memory, RxFrame};
use super::regs::{self, Regs};
use super::rx::RxRing;
use super::tx::TxRing;
use crate::apic::{self, Timer};
use crate::cmdline::{Config, Role};
use crate::frame::HEADER_WORDS;
use crate::irq::{Events, NIC_VECTORS};
use crate::json::Object;
use crate::nic::{Counters, Nic, Queue, Until};
use crate::pci::Device;
use crate::time::{self, Clock};
use crate::wait::{self, Patience, Wakeable};

/// Causes that interrupt us ...
const CAUSES: u32 = CSB_CAUSES | regs::CAUSE_RXDMT0 | regs::CAUSE_RXO;
/// ... and with the CSB, where the device sees in memory how many buffers it has.
const CSB_CAUSES: u32 = regs::CAUSE_RXT0 | regs::CAUSE_TXDW | regs::CAUSE_LSC;
/// How long CTRL.RST and an EEPROM word may take.
const RESET_US: u64 = 10_000;

/// A running 82540EM.
pub struct E1000 {
    regs: Regs,
    patience: Patience,
    tx: TxRing,
    rx: RxRing,
    csb: bool,
    /// Which of the drivers this is.
    index: usize,
    mac: [u8; 6],
    subsystem: u16,
    irq: u8,
    link: bool,
    /// Causes that interrupt us.
    causes: u32,
    /// Interrupts serviced, and, as the stub counts them, the last of them.
    interrupts: u64,
    serviced: u16,
    icr_reads: u64,
}

impl E1000 {
    /// The I/O APIC pin that its interrupts arrive at.
    pub fn irq(&self) -> u8 {
        self.irq
    }

    /// Resets the NIC and sets it up as `config` says (14.3 to 14.5).
    ///
    /// # Errors
    /// What the machine lacks.
    pub fn new(
        device: &Device,
        config: &Config,
        clock: Clock,
        timer: Timer,
    ) -> Result<Self, &'static str> {
        let subsystem = device.subsystem();
        if config.csb && subsystem != csb::SUBSYSTEM {
            return Err("csb=1, but the NIC has no CSB (subsystem id is not 0x1101)");
        }
        device.enable();
        let bar0 = device.bar0().ok_or("BAR0 of the NIC is not memory")?;
        let regs = Regs::new(bar0).ok_or("BAR0 of the NIC is not in [3 GiB, 4 GiB)")?;
        reset(&regs, &clock)?;
        let mac = station_address(&regs, &clock)?;
        set_filters(&regs, mac);

        let len = u32::from(config.ring);
        let (index, memory) = Memory::claim().ok_or("More NICs than this guest can drive")?;
        let csb = config.csb.then(|| Csb::enable(index, &regs, len - 1));
        let tx = TxRing::new(memory, &regs, len, config.sc, csb);
        let rx = RxRing::new(memory, &regs, len, config.role == Role::Forward, csb);
        let irq = device.interrupt_line();
        apic::route(irq, NIC_VECTORS[index]);
        regs.write(regs::ITR, config.itr.into());
        let causes = if config.csb { CSB_CAUSES } else { CAUSES };
        regs.write(regs::IMS, causes);
        regs.write(regs::CTRL, regs.read(regs::CTRL) | regs::CTRL_SLU);
        let link = regs.read(regs::STATUS) & regs::STATUS_LU != 0;
        Ok(Self {
            regs,
            patience: Patience::new(clock, timer, config),
            tx,
            rx,
            csb: config.csb,
            index,
            mac,
            subsystem,
            irq,
            link,
            causes,
            interrupts: 0,
            serviced: 0,
            icr_reads: 0,
        })
    }

    /// Services an interrupt: reads its causes, which drops INTx, then ends it.
    #[cold]
    fn service_taken(&mut self, taken: u16) {
        // Without an EOI no further one is taken: these causes are the ones of this interrupt.
        self.interrupts += u64::from(taken.wrapping_sub(self.serviced));
        self.serviced = taken;
        let causes = self.regs.read(regs::ICR);
        self.icr_reads += 1;
        apic::end_of_interrupt();
        if causes & regs::CAUSE_LSC != 0 {
            self.link = self.regs.read(regs::STATUS) & regs::STATUS_LU != 0;
        }
        if causes & regs::CAUSE_TXDW != 0 {
            self.tx.reclaim();
        }
        self.tx.heard(&self.regs);
    }
}

impl Nic for E1000 {
    type Queue = TxRing;

    fn describe<'w, W: Write>(&self, ready: Object<'w, W>) -> Object<'w, W> {
        ready.show("subsystem", format_args!("{:#06x}", self.subsystem)).num("irq", self.irq.into())
    }

    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn unsent(&self) -> u64 {
        self.tx.pending().into()
    }

    fn counters(&self) -> Counters {
        let waiting = Events::now().nic(self.index).wrapping_sub(self.serviced);
        Counters {
            tx_doorbells: self.tx.tdt_writes,
            rx_doorbells: self.rx.rdt_writes,
            interrupts: self.interrupts + u64::from(waiting),
            cause_reads: self.icr_reads,
            halts: self.patience.halts,
            tx_frames: self.tx.frames,
            rx_frames: self.rx.frames,
        }
    }

    #[inline]
    fn send(&mut self, count: u32, len: u16, header: impl FnMut() -> [u64; HEADER_WORDS]) -> u32 {
        if !self.csb {
            self.service();
        }
        self.tx.send(&self.regs, count, len, header)
    }

    fn queue(&mut self) -> &mut TxRing {
        &mut self.tx
    }

    #[inline]
    fn flush(&mut self) {
        self.tx.flush(&self.regs);
    }

    #[inline]
    fn exchange(&mut self, max: u32, mut each: impl FnMut(RxFrame<'_>, &mut TxRing)) -> u32 {
        if !self.csb {
            self.service();
        }
        let Self { regs, rx, tx, .. } = self;
        let count = rx.receive(regs, max, |frame| each(frame, tx));
        if count > 0 {
            self.tx.heard(&self.regs);
        }
        count
    }

    #[inline]
    fn has_received(&self) -> bool {
        self.rx.ready()
    }

    fn wait(&mut self, until: Until, deadline: u64) {
        // The CSB driver looks at its rings before the slow register; that debt is paid here.
        self.service();
        if until.is_transmit() {
            self.tx.lend(&self.regs);
        }
        wait::wait(self, until, deadline);
    }

    fn stop_receiving(&mut self) {
        self.regs.write(regs::RCTL, 0);
    }

    fn finish(&mut self) {
        self.stop_receiving();
        self.discard_received();
        self.tx.lend(&self.regs);
        self.regs.write(regs::IMC, u32::MAX);
    }
}

impl Wakeable for E1000 {
    fn link_up(&self) -> bool {
        self.link
    }

    #[inline]
    fn service(&mut self) {
        let taken = Events::now().nic(self.index);
        if taken != self.serviced {
            self.service_taken(taken);
        }
    }

    fn patience(&mut self) -> &mut Patience {
        &mut self.patience
    }

    #[inline]
    fn reached(&mut self, until: Until) -> bool {
        match until {
            Until::Frame => self.has_received(),
            Until::Room => self.tx.has_room(),
            Until::Sent => self.tx.is_idle(),
            Until::Link => self.link,
            Until::Deadline => false,
        }
    }

    fn arm(&mut self, until: Until) {
        if until == Until::Frame {
            self.rx.arm();
        }
        if until.is_transmit() {
            self.tx.arm();
        }
        self.tx.lend(&self.regs);
        if self.rx.take_posted() {
            // A hypervisor may hold RDT writes back until another exit (KVM's coalesced MMIO), and
            // a halt is none: without this the device might wait for buffers, and we for frames.
            self.regs.write(regs::IMS, self.causes);
        }
    }

    fn disarm(&mut self) {
        self.rx.disarm();
        self.tx.disarm();
    }
}

/// Resets the MAC with interrupts off before and after (14.3).
fn reset(regs: &Regs, clock: &Clock) -> Result<(), &'static str> {
    regs.write(regs::IMC, u32::MAX);
    regs.write(regs::CTRL, regs.read(regs::CTRL) | regs::CTRL_RST);
    poll(clock, || regs.read(regs::CTRL) & regs::CTRL_RST == 0)
        .ok_or("The NIC does not come out of reset")?;
    regs.write(regs::IMC, u32::MAX);
    regs.read(regs::ICR);
    Ok(())
}

/// The address the reset loaded from the EEPROM (13.5.3), or the EEPROM's own words 0 to 2.
fn station_address(regs: &Regs, clock: &Clock) -> Result<[u8; 6], &'static str> {
    let high = regs.read(regs::RAH0);
    let [w0, w1, w2] = if high & regs::RAH_AV != 0 {
        let low = regs.read(regs::RAL0);
        [low as u16, (low >> 16) as u16, high as u16]
    } else {
        let mut words = [0; 3];
        for (address, word) in (0u32..).zip(&mut words) {
            regs.write(regs::EERD, regs::EERD_START | address << 8);
            let mut eerd = 0;
            poll(clock, || {
                eerd = regs.read(regs::EERD);
                eerd & regs::EERD_DONE != 0
            })
            .ok_or("The NIC's EEPROM does not answer")?;
            *word = (eerd >> 16) as u16;
        }
        words
    };
    let ([a, b], [c, d], [e, f]) = (w0.to_le_bytes(), w1.to_le_bytes(), w2.to_le_bytes());
    Ok([a, b, c, d, e, f])
}

/// Accepts our own address, and no multicast; broadcasts pass by RCTL.BAM.
fn set_filters(regs: &Regs, mac: [u8; 6]) {
    let [a, b, c, d, e, f] = mac;
    regs.write(regs::RAL0, u32::from_le_bytes([a, b, c, d]));
    regs.write(regs::RAH0, u32::from(u16::from_le_bytes([e, f])) | regs::RAH_AV);
    for word in 0..128 {
        regs.write(regs::MTA + 4 * word, 0);
    }
}

/// Polls `done` for as long as a reset may take.
fn poll(clock: &Clock, mut done: impl FnMut() -> bool) -> Option<()> {
    let end = time::now() + clock.ticks(RESET_US);
    while !done() {
        if time::now() >= end {
            return None;
        }
    }
    Some(())
}
