//! The receive side: which batches it takes, and when the guest hears of it.
//!
//! [`admit`] filters frames; [`place`] copies them into the guest's buffers and writes back.

mod admit;
mod place;

use std::sync::atomic::{Ordering, fence};

use super::csb::{Csb, Field, RXKICK_NONE};
use super::filter::Filter;
use super::medium::{Medium, VlanMode};
use super::regs::{cause, rctl};
use super::ring::Ring;
use super::traffic::Traffic;
use crate::backend::{Flow, FrameBatch};
use crate::memory::GuestRam;
use serde::Serialize;

/// How long after an unannounced frame the host looks again whether the guest sleeps, in
/// nanoseconds: drivers without a fence can go to sleep unseen.
const RECHECK_AFTER: u64 = 1_000_000;

/// How long frames wait for a guest that returns no buffer before it is taken for dead and they are
/// dropped, in nanoseconds: some time slices of the host's, for where there are more guests than CPUs.
pub(super) const PATIENCE: u64 = 20_000_000;

/// What the receive side has done since it was made.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct RxCounters {
    /// Frames written to the guest.
    pub frames: u64,
    /// Their bytes, without padding and check sequence.
    pub bytes: u64,
    /// The same frames, as the statistics registers sort them.
    pub traffic: Traffic,
    /// Bytes on the wire of the frames that were turned away while reception was on.
    pub refused_octets: u64,
    /// Batches with at least one frame for this guest.
    pub batches: u64,
    /// Frames not received, by cause.
    pub dropped: RxDrops,
    /// Interrupts that the CSB's late second look had to send.
    pub lost_notifications: u64,
}

/// Frames that the receive side turned away, by cause.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct RxDrops {
    /// RCTL.EN or bus mastering was off.
    pub disabled: u64,
    /// The link was down.
    pub link_down: u64,
    /// Not for this address or VLAN.
    pub filtered: u64,
    /// Longer than the guest accepts.
    pub oversize: u64,
    /// The guest had no free descriptor.
    pub no_buffer: u64,
    /// The guest's ring or buffer lies outside its RAM.
    pub bad_address: u64,
}

impl RxDrops {
    /// All causes together.
    pub fn total(&self) -> u64 {
        self.disabled
            + self.link_down
            + self.filtered
            + self.oversize
            + self.no_buffer
            + self.bad_address
    }
}

/// What a batch did, for the interrupt block and the timer.
#[derive(Clone, Copy, Debug, Default)]
pub struct RxOutcome {
    /// Frames that the guest got.
    pub delivered: usize,
    /// RXDMT0, RXO and SRPD, if the batch brought them about.
    pub causes: u32,
    /// Causes of which the guest said through the CSB that it does not want to hear.
    pub quiet_causes: u32,
    /// The guest wants to hear of received frames.
    pub interrupt: bool,
    /// When [`ReceiveUnit::on_timer`] must run.
    pub deadline: Option<u64>,
}

/// Receive registers and state.
#[derive(Debug)]
pub struct ReceiveUnit {
    ram: GuestRam,
    /// RDBAL, RDBAH, RDLEN, RDH, RDT.
    pub ring: Ring,
    /// RCTL.
    pub rctl: u32,
    /// RXCSUM.
    pub rxcsum: u32,
    /// RSRPD: frames of at most so many bytes raise SRPD.
    pub rsrpd: u32,
    /// Address and VLAN filter.
    pub filter: Filter,
    /// CTRL.VME and VET.
    pub vlan: VlanMode,
    /// PCI Command.BME.
    pub bus_master: bool,
    /// Where frames come from.
    pub medium: Medium,
    csb: Option<Csb>,
    recheck_at: Option<u64>,
    /// The guest was asked for a kick when it has used up its frames: who sent them has more.
    fed: bool,
    /// The tail at which it had no room, and since when.
    full: Option<(u32, u64)>,
    counters: RxCounters,
}

impl ReceiveUnit {
    /// A receive unit after power-on.
    pub fn new(ram: GuestRam, mac: [u8; 6]) -> Self {
        Self {
            ram,
            ring: Ring::default(),
            rctl: 0,
            rxcsum: 0,
            rsrpd: 0,
            filter: Filter::new(mac),
            vlan: VlanMode::default(),
            bus_master: false,
            medium: Medium::default(),
            csb: None,
            recheck_at: None,
            fed: false,
            full: None,
            counters: RxCounters::default(),
        }
    }

    /// CTRL.RST: registers go to their defaults; the CSB stays mapped, as its drivers expect.
    pub fn reset(&mut self, mac: [u8; 6]) {
        self.ring = Ring::default();
        self.rctl = 0;
        self.rxcsum = 0;
        self.rsrpd = 0;
        self.filter = Filter::new(mac);
        self.vlan = VlanMode::default();
        self.recheck_at = None;
        self.fed = false;
        self.full = None;
        if let Some(csb) = &self.csb {
            csb.store(Field::HostRxkickAt, RXKICK_NONE);
            csb.store(Field::HostRdh, 0);
        }
    }

    /// CSBAL: maps or releases the block.
    pub fn set_csb(&mut self, csb: Option<Csb>) {
        self.csb = csb;
        self.recheck_at = None;
        self.fed = false;
        self.full = None;
    }

    /// Counters so far.
    pub fn counters(&self) -> RxCounters {
        self.counters
    }

    fn active_csb(&self) -> Option<&Csb> {
        self.csb.as_ref().filter(|csb| csb.on())
    }

    /// Frames that it is ready to take at `now`, or no limit if its guest cannot be asked for a kick
    /// when there is more, or has not returned a buffer for long: others must not wait for the dead.
    pub fn room(&mut self, flow: Flow, now: u64) -> usize {
        let ready = self.rctl & rctl::EN != 0 && self.bus_master && self.medium != Medium::Nothing;
        let Some(csb) = self.active_csb().filter(|_| ready).cloned() else {
            return usize::MAX;
        };
        let tail = csb.load(Field::GuestRdt);
        self.note_life(tail);
        // Awake, and not through with its frames: it will kick, and come for more itself.
        let awake = csb.load(Field::GuestNeedRxkick) == 0;
        let will_come = flow == Flow::Brought && self.fed && awake && tail != self.last_filled();
        let room = if will_come { 0 } else { self.ring.owned(tail) as usize };
        if room > 0 {
            return room;
        }
        let (_, since) = *self.full.get_or_insert((tail, now));
        if now.saturating_sub(since) < PATIENCE { 0 } else { usize::MAX }
    }

    /// A guest that has moved its tail is alive. Noted at every look, for the tail comes round again.
    fn note_life(&mut self, tail: u32) {
        self.full = self.full.filter(|(at, _)| *at == tail);
    }

    /// The descriptor before the head. Only for a ring that has any.
    fn last_filled(&self) -> u32 {
        self.ring.head.checked_sub(1).unwrap_or(self.ring.size().saturating_sub(1))
    }

    /// RDT was written. Room for frames, if the guest was asked for this kick: it wants more.
    pub fn kick(&mut self, tail: u32, now: u64) -> Option<usize> {
        self.ring.tail = tail;
        let asked = self.fed && self.active_csb().is_some();
        asked.then(|| self.room(Flow::Fetched, now))
    }

    /// Receives the picked frames, which come over `medium`.
    pub fn receive(
        &mut self,
        medium: Medium,
        batch: &FrameBatch<'_>,
        picks: &[u32],
        now: u64,
    ) -> RxOutcome {
        let mut outcome = RxOutcome { deadline: self.recheck_at, ..RxOutcome::default() };
        let dropped = &mut self.counters.dropped;
        let all = picks.len() as u64;
        if self.medium != medium {
            dropped.link_down += all;
            return outcome;
        }
        if self.rctl & rctl::EN == 0 || !self.bus_master {
            dropped.disabled += all;
            return outcome;
        }
        let csb = self.active_csb().cloned();
        if let Some(csb) = &csb {
            self.ring.tail = csb.load(Field::GuestRdt);
            self.note_life(self.ring.tail);
        }
        let free = self.ring.owned(self.ring.tail);
        let ram = self.ram.clone();
        let Some(work) = self.place_all(&ram, batch, picks, free) else {
            self.counters.dropped.bad_address += all;
            return outcome;
        };
        outcome = RxOutcome { deadline: self.recheck_at, ..work.outcome };
        if self.crossed_low_mark(free, work.free) {
            outcome.causes |= cause::RXDMT0;
        }
        if outcome.delivered > 0 {
            self.counters.frames += outcome.delivered as u64;
            self.counters.batches += 1;
        }
        match csb {
            None => outcome.interrupt = outcome.delivered > 0,
            Some(csb) => {
                self.ask_for_kick(&csb, batch.flow().is_stream());
                self.announce(&csb, now, &mut outcome);
            }
        }
        outcome
    }

    /// The late second look for guests that went to sleep unseen.
    pub fn on_timer(&mut self, now: u64) -> RxOutcome {
        let mut outcome = RxOutcome::default();
        if self.recheck_at.is_some_and(|at| at <= now) {
            self.recheck_at = None;
            // Asleep, and without having returned every buffer: it may not know of a frame.
            let overslept = |csb: &Csb| {
                csb.on()
                    && csb.load(Field::GuestNeedRxkick) != 0
                    && self.ring.owned(csb.load(Field::GuestRdt)) + 1 < self.ring.size()
            };
            if self.csb.as_ref().is_some_and(overslept) {
                self.counters.lost_notifications += 1;
                outcome.interrupt = true;
            }
        }
        outcome.deadline = self.recheck_at;
        outcome
    }

    /// Asks for a kick when the guest has used up all frames, or for none. Before the frames are
    /// announced: a guest that is quicker than we are would pass the place unasked.
    fn ask_for_kick(&mut self, csb: &Csb, wanted: bool) {
        if wanted {
            csb.store(Field::HostRxkickAt, self.last_filled());
        } else if self.fed {
            csb.store(Field::HostRxkickAt, RXKICK_NONE);
        }
        self.fed = wanted;
    }

    /// Tells the guest, if it listens; the fence orders the frames before its request.
    fn announce(&mut self, csb: &Csb, now: u64, outcome: &mut RxOutcome) {
        csb.store(Field::HostRdh, self.ring.head);
        fence(Ordering::SeqCst);
        let wanted = csb.load(Field::GuestNeedRxkick) != 0;
        let delivered = outcome.delivered > 0;
        if wanted {
            outcome.interrupt = delivered;
        } else {
            // An overrun is told in any case.
            let received = if delivered { cause::RXT0 } else { 0 };
            outcome.quiet_causes = outcome.causes & !cause::RXO | received;
            outcome.causes &= cause::RXO;
        }
        if delivered {
            // Counted from the latest frame: that is the one it may have missed.
            self.recheck_at = (!wanted).then_some(now + RECHECK_AFTER);
        }
        outcome.deadline = self.recheck_at;
    }

    /// RCTL.RDMTS: the free descriptors fell to a half, a quarter or an eighth of the ring.
    fn crossed_low_mark(&self, before: u32, after: u32) -> bool {
        let mark = self.ring.size() >> (1 + ((self.rctl >> rctl::RDMTS_SHIFT) & 0b11).min(2));
        before > mark && after <= mark
    }
}
