//! The transmit side: gathers frames from the ring, hands them over in batches, writes back.

use std::sync::atomic::{Ordering, fence};

use serde::Serialize;
use vm_memory::{VolatileArrayRef, VolatileMemory};

use super::csb::{Csb, Field};
use super::pacing::{Pacing, Step};
use super::regs::{STATUS_DD, tctl, txd_cmd};
use super::ring::{DESCRIPTOR_BYTES, Descriptor, Ring};
use crate::backend::{Backend, ETH_HEADER_LEN, FrameBatch};
use crate::memory::GuestRam;

/// Frames handed over at once: enough to amortise a hand-over, few enough that the receiving core
/// starts while the sending one still gathers.
const BATCH: usize = 256;

/// Longest packet that the part sends (manual 3.3.3).
const MAX_FRAME: usize = 16288;

/// Most descriptors of one frame.
const MAX_SPANS: usize = 256;

/// How often a kick looks again after it has asked for the next one.
const LOOKS_BEFORE_SLEEP: u32 = 4;

/// Why the device could not send a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    BadAddress,
    Oversize,
    Unsupported,
}

/// What the transmit side has done since it was made.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct TxCounters {
    /// Frames handed to the backend.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Hand-overs.
    pub batches: u64,
    /// Descriptors consumed.
    pub descriptors: u64,
    /// Frames not sent, by cause.
    pub dropped: TxDrops,
    /// Ring scans that a timer started, because no kick came.
    pub timer_scans: u64,
    /// Kicks that never came although the guest had been asked for them.
    pub lost_kicks: u64,
}

/// Frames that the transmit side could not send, by cause.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct TxDrops {
    /// A buffer outside guest RAM.
    pub bad_address: u64,
    /// Longer than 16288 bytes, or in more than 256 pieces.
    pub oversize: u64,
    /// Shorter than an Ethernet header.
    pub runt: u64,
    /// A descriptor type that the device does not have.
    pub unsupported: u64,
    /// The link was down.
    pub link_down: u64,
}

impl TxDrops {
    /// All causes together.
    pub fn total(&self) -> u64 {
        self.bad_address + self.oversize + self.runt + self.unsupported + self.link_down
    }
}

/// What a kick did, for the interrupt block and the timer.
#[derive(Clone, Copy, Debug, Default)]
pub struct TxOutcome {
    /// A descriptor asked for a report (RS) and was written back.
    pub reported: bool,
    /// All that asked also allowed a delay (IDE).
    pub may_delay: bool,
    /// The guest wants to hear of it.
    pub interrupt: bool,
    /// When [`Transmitter::on_timer`] must run.
    pub deadline: Option<u64>,
}

/// Transmit registers and state.
pub struct Transmitter {
    ram: GuestRam,
    backend: Box<dyn Backend>,
    batch: FrameBatch<'static>,
    /// TDBAL, TDBAH, TDLEN, TDH, TDT.
    pub ring: Ring,
    /// TCTL.
    pub tctl: u32,
    /// TIPG, TXDCTL, TSPMT, AIFS: stored for the driver to read back.
    pub stored: [u32; 4],
    /// PCI Command.BME.
    pub bus_master: bool,
    /// Whether a cable is plugged in.
    pub link: bool,
    csb: Option<Csb>,
    pacing: Pacing,
    /// The tail up to which frames were found that should have come with a kick.
    missing_kick: Option<u32>,
    /// The frame at the head is being skipped up to its end.
    fault: Option<Fault>,
    /// A report was written back and the guest was not told.
    unannounced: bool,
    counters: TxCounters,
}

impl Transmitter {
    /// A transmitter after power-on.
    pub fn new(ram: GuestRam, backend: Box<dyn Backend>) -> Self {
        Self {
            ram,
            backend,
            batch: FrameBatch::new(),
            ring: Ring::default(),
            tctl: 0,
            stored: [0; 4],
            bus_master: false,
            link: false,
            csb: None,
            pacing: Pacing::default(),
            missing_kick: None,
            fault: None,
            unannounced: false,
            counters: TxCounters::default(),
        }
    }

    /// CTRL.RST: registers go to their defaults; the CSB stays mapped, as its drivers expect.
    pub fn reset(&mut self) {
        self.ring = Ring::default();
        self.tctl = 0;
        self.stored = [0; 4];
        self.fault = None;
        self.unannounced = false;
        self.withdraw_promise();
        if let Some(csb) = &self.csb {
            csb.store(Field::HostTdh, 0);
        }
    }

    /// CSBAL: maps or releases the block.
    pub fn set_csb(&mut self, csb: Option<Csb>) {
        self.withdraw_promise();
        self.csb = csb;
    }

    /// Ends the promise to look at the ring unasked: the guest must kick again.
    fn withdraw_promise(&mut self) {
        if let Some(csb) = &self.csb {
            csb.store(Field::HostNeedTxkick, 1);
        }
        self.pacing = Pacing::default();
        self.missing_kick = None;
    }

    /// Counters so far.
    pub fn counters(&self) -> TxCounters {
        self.counters
    }

    /// TDT was written. `received` counts the frames that this NIC has received so far: traffic
    /// that answers itself must not be taken for a stream.
    pub fn kick(&mut self, now: u64, received: u64) -> TxOutcome {
        let mut outcome = TxOutcome { may_delay: true, ..TxOutcome::default() };
        match self.active_csb() {
            None => {
                self.withdraw_promise();
                self.run(self.ring.tail, None, &mut outcome);
                outcome.interrupt = outcome.reported;
            }
            Some(csb) => {
                self.settle_missing_kick(self.ring.tail);
                csb.store(Field::HostNeedTxkick, 0);
                fence(Ordering::SeqCst);
                self.run(csb.load(Field::GuestTdt), Some(&csb), &mut outcome);
                if !self.pacing.kicked(now, received) && !self.ask_for_kick(&csb, &mut outcome) {
                    self.pacing.stay_awake(now);
                }
                self.announce(&csb, &mut outcome);
                outcome.deadline = self.pacing.deadline();
            }
        }
        outcome
    }

    /// Looks after a ring whose guest was not asked for kicks, or may have missed being asked.
    pub fn on_timer(&mut self, now: u64) -> TxOutcome {
        let mut outcome = TxOutcome { may_delay: true, ..TxOutcome::default() };
        let Some(csb) = self.active_csb() else {
            self.withdraw_promise();
            return outcome;
        };
        if self.pacing.due(now) {
            self.counters.timer_scans += 1;
            let tail = csb.load(Field::GuestTdt);
            if self.missing_kick != Some(tail) {
                self.settle_missing_kick(tail);
            }
            let found = self.run(tail, Some(&csb), &mut outcome);
            match self.pacing.scanned(now, found) {
                Step::Again => {}
                Step::AskForKick => {
                    if !self.ask_for_kick(&csb, &mut outcome) {
                        self.pacing.stay_awake(now);
                    }
                }
                Step::KickIsMissing => {
                    self.missing_kick = Some(tail);
                    csb.store(Field::HostNeedTxkick, 0);
                }
                Step::Sleep => {}
            }
            self.announce(&csb, &mut outcome);
        }
        outcome.deadline = self.pacing.deadline();
        outcome
    }

    /// The guest went on, to `tail`. A missing kick whose tail that is was only late: nothing can
    /// come between publishing a tail and writing it. With any other tail it is lost.
    fn settle_missing_kick(&mut self, tail: u32) {
        let lost = self.missing_kick.take().is_some_and(|missing| missing != tail);
        self.counters.lost_kicks += u64::from(lost);
    }

    fn active_csb(&self) -> Option<Csb> {
        self.csb.as_ref().filter(|csb| csb.on()).cloned()
    }

    /// Asks the guest for a kick, then looks once more, since it may have published frames before
    /// it could see the request. False if it keeps publishing.
    fn ask_for_kick(&mut self, csb: &Csb, outcome: &mut TxOutcome) -> bool {
        for _ in 0..LOOKS_BEFORE_SLEEP {
            csb.store(Field::HostNeedTxkick, 1);
            fence(Ordering::SeqCst);
            if self.run(csb.load(Field::GuestTdt), Some(csb), outcome) == 0 {
                return true;
            }
        }
        csb.store(Field::HostNeedTxkick, 0);
        false
    }

    /// Decides on a transmit interrupt; the fence orders host_tdh before the guest's request.
    fn announce(&mut self, csb: &Csb, outcome: &mut TxOutcome) {
        fence(Ordering::SeqCst);
        self.unannounced |= outcome.reported;
        if self.unannounced && csb.load(Field::GuestNeedTxkick) & 1 != 0 {
            self.unannounced = false;
            outcome.reported = true;
            outcome.interrupt = true;
            outcome.may_delay = false;
        }
    }

    /// Sends what lies between head and `tail`; returns the number of descriptors consumed, at
    /// most one ring.
    fn run(&mut self, tail: u32, csb: Option<&Csb>, outcome: &mut TxOutcome) -> u32 {
        if self.tctl & tctl::EN == 0 || !self.bus_master {
            return 0;
        }
        let ram = self.ram.clone();
        let Some(ring) = self.ring.view(&ram) else {
            return 0;
        };
        let mut batch = std::mem::take(&mut self.batch).recycle();
        let mut left = self.ring.owned(tail);
        let mut total = 0;
        loop {
            let consumed = self.gather(&ram, &ring, left, &mut batch);
            if consumed == 0 {
                break;
            }
            self.hand_over(&batch);
            self.write_back(&ring, consumed, outcome);
            if let Some(csb) = csb {
                csb.store(Field::HostTdh, self.ring.head);
            }
            left -= consumed;
            total += consumed;
            batch = batch.recycle();
        }
        self.batch = batch.recycle();
        total
    }

    /// Collects whole frames from at most `left` descriptors. A frame whose end is not in the ring
    /// yet stays there, unless the guest could never finish it.
    fn gather<'r>(
        &mut self,
        ram: &'r GuestRam,
        ring: &VolatileArrayRef<'r, Descriptor>,
        left: u32,
        batch: &mut FrameBatch<'r>,
    ) -> u32 {
        let mut index = self.ring.head;
        let mut whole = 0;
        for seen in 1..=left {
            let [address, fields] = ring.load(index as usize);
            index = self.ring.next(index);
            let length = fields as u16;
            let command = (fields >> 24) as u8;
            if command & txd_cmd::DEXT != 0 {
                self.fault.get_or_insert(Fault::Unsupported);
            } else if self.fault.is_none() && length != 0 {
                match ram.slice(address, usize::from(length)) {
                    Some(span) => batch.push_span(span),
                    None => self.fault = Some(Fault::BadAddress),
                }
            }
            let end = command & txd_cmd::EOP != 0;
            let endless = !end && seen - whole + 1 == self.ring.size();
            if batch.open_len() > MAX_FRAME || batch.open_spans() > MAX_SPANS || endless {
                self.fault.get_or_insert(Fault::Oversize);
            }
            if self.fault.is_some() {
                batch.abort_frame();
                whole = seen;
            }
            if end {
                self.end_frame(batch);
                whole = seen;
                if batch.len() == BATCH {
                    break;
                }
            }
        }
        batch.abort_frame();
        whole
    }

    fn end_frame(&mut self, batch: &mut FrameBatch<'_>) {
        let dropped = &mut self.counters.dropped;
        match self.fault.take() {
            Some(Fault::BadAddress) => dropped.bad_address += 1,
            Some(Fault::Oversize) => dropped.oversize += 1,
            Some(Fault::Unsupported) => dropped.unsupported += 1,
            None if batch.open_len() < ETH_HEADER_LEN => {
                batch.abort_frame();
                dropped.runt += 1;
            }
            None => batch.end_frame(),
        }
    }

    fn hand_over(&mut self, batch: &FrameBatch<'_>) {
        if batch.is_empty() {
            return;
        }
        let frames = batch.len() as u64;
        if !self.link {
            self.counters.dropped.link_down += frames;
            return;
        }
        self.counters.frames += frames;
        self.counters.bytes += batch.total_bytes();
        self.counters.batches += 1;
        self.backend.transmit(batch);
    }

    /// Sets DD where the driver asked for it, after the frames have left their buffers.
    fn write_back(
        &mut self,
        ring: &VolatileArrayRef<'_, Descriptor>,
        consumed: u32,
        outcome: &mut TxOutcome,
    ) {
        const STATUS_OFFSET: usize = 12;
        let bytes = ring.to_slice();
        fence(Ordering::Release);
        for _ in 0..consumed {
            let index = self.ring.head as usize;
            let command = (ring.load(index)[1] >> 24) as u8;
            if command & txd_cmd::RS != 0 {
                outcome.reported = true;
                outcome.may_delay &= command & txd_cmd::IDE != 0;
                let at = index * DESCRIPTOR_BYTES as usize + STATUS_OFFSET;
                if let Ok(status) = bytes.get_ref::<u8>(at) {
                    status.store(STATUS_DD);
                }
            }
            self.ring.head = self.ring.next(self.ring.head);
        }
        self.counters.descriptors += u64::from(consumed);
    }
}
