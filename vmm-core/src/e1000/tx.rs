//! The transmit side: when it looks at its ring, by itself or because the guest kicked. What it then
//! does is in [`gather`].

mod gather;

use std::sync::atomic::{Ordering, fence};

use serde::Serialize;

use super::csb::{Csb, Field};
use super::descriptor::Context;
use super::medium::{Medium, VlanMode};
use super::pacing::{Pacing, Step};
use super::ring::Ring;
use super::traffic::Traffic;
use crate::backend::{Backend, Flow, FrameBatch};
use crate::memory::GuestRam;
use gather::{Fault, SCRATCH_LEN};

/// How often a kick looks again after it has asked for the next one.
const LOOKS_BEFORE_SLEEP: u32 = 4;

/// What the transmit side has done since it was made.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct TxCounters {
    /// Frames handed to the backend.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The same frames, as the statistics registers sort them.
    pub traffic: Traffic,
    /// Hand-overs.
    pub batches: u64,
    /// Descriptors consumed.
    pub descriptors: u64,
    /// Packets that were cut into segments.
    pub segmented: u64,
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
    /// Longer than the part sends, or in more than 256 descriptors.
    pub oversize: u64,
    /// Shorter than an Ethernet header.
    pub runt: u64,
    /// A descriptor type that the manual reserves.
    pub unsupported: u64,
    /// A segmentation context that makes no sense for the packet.
    pub segmentation: u64,
    /// The link was down.
    pub link_down: u64,
}

impl TxDrops {
    /// All causes together.
    pub fn total(&self) -> u64 {
        self.bad_address
            + self.oversize
            + self.runt
            + self.unsupported
            + self.segmentation
            + self.link_down
    }
}

/// What a kick did, for the interrupt block and the timer.
#[derive(Clone, Copy, Debug, Default)]
pub struct TxOutcome {
    /// A descriptor asked for a report (RS) and was written back.
    pub reported: bool,
    /// All that asked also allowed a delay (IDE).
    pub may_delay: bool,
    /// The guest said through the CSB that it does not want to hear of it.
    pub silent: bool,
    /// TXQE and TXD_LOW, if the ring has run empty or low.
    pub causes: u32,
    /// When [`Transmitter::on_timer`] must run.
    pub deadline: Option<u64>,
}

impl TxOutcome {
    /// Before the first descriptor: nobody has refused a delay.
    fn nothing_yet() -> Self {
        Self { may_delay: true, ..Self::default() }
    }
}

/// Transmit registers and state.
pub struct Transmitter {
    ram: GuestRam,
    backend: Box<dyn Backend>,
    batch: FrameBatch<'static>,
    /// Device memory for headers and padding.
    scratch: Vec<u8>,
    /// TDBAL, TDBAH, TDLEN, TDH, TDT.
    pub ring: Ring,
    /// TCTL.
    pub tctl: u32,
    /// TXDCTL.
    pub txdctl: u32,
    /// CTRL.VME and VET.
    pub vlan: VlanMode,
    /// PCI Command.BME.
    pub bus_master: bool,
    /// Where frames go.
    pub medium: Medium,
    /// What the last context descriptors said: for plain packets, and for packets to be cut. The
    /// part keeps them apart (manual 3.3.5), so that one kind cannot spoil the other.
    contexts: [Context; 2],
    csb: Option<Csb>,
    pacing: Pacing,
    /// The tail up to which frames were found that should have come with a kick.
    missing_kick: Option<u32>,
    /// The guest was asked for a kick by a thread that has gone to rest.
    resting: bool,
    /// The frame at the head is being skipped up to its end.
    fault: Option<Fault>,
    /// A report was written back and the guest was not told.
    unannounced: bool,
    /// The last run ended before the ring did.
    backlog: bool,
    /// Receivers may take a stream's frames as they have room.
    pull: bool,
    /// The last run ended at a frame that nobody had room for.
    waiting: bool,
    counters: TxCounters,
}

impl Transmitter {
    /// A transmitter after power-on.
    pub fn new(ram: GuestRam, backend: Box<dyn Backend>, pull: bool) -> Self {
        Self {
            ram,
            backend,
            batch: FrameBatch::new(),
            scratch: vec![0; SCRATCH_LEN],
            ring: Ring::default(),
            tctl: 0,
            txdctl: 0,
            vlan: VlanMode::default(),
            bus_master: false,
            medium: Medium::default(),
            contexts: Default::default(),
            csb: None,
            pacing: Pacing::default(),
            missing_kick: None,
            resting: false,
            fault: None,
            unannounced: false,
            backlog: false,
            pull,
            waiting: false,
            counters: TxCounters::default(),
        }
    }

    /// CTRL.RST: registers go to their defaults; the CSB stays mapped, as its drivers expect.
    pub fn reset(&mut self) {
        self.ring = Ring::default();
        self.tctl = 0;
        self.txdctl = 0;
        self.vlan = VlanMode::default();
        self.contexts = Default::default();
        self.fault = None;
        self.unannounced = false;
        self.backlog = false;
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
        self.resting = false;
    }

    /// Counters so far.
    pub fn counters(&self) -> TxCounters {
        self.counters
    }

    /// TDT was written. `received` counts the frames that this NIC has received so far: traffic
    /// that answers itself must not be taken for a stream. In loopback `own` receives.
    pub fn kick(&mut self, now: u64, received: u64, own: &mut dyn Backend) -> TxOutcome {
        let mut outcome = TxOutcome::nothing_yet();
        match self.active_csb() {
            None => {
                self.withdraw_promise();
                self.run(self.ring.tail, u32::MAX, None, own, &mut outcome);
            }
            Some(csb) => {
                self.settle_missing_kick(self.ring.tail);
                csb.store(Field::HostNeedTxkick, 0);
                fence(Ordering::SeqCst);
                self.run_csb(Flow::Brought, u32::MAX, &csb, own, &mut outcome);
                let kicked = self.pacing.kicked(now, received);
                if !kicked && !self.ask_for_kick(&csb, own, &mut outcome) {
                    self.pacing.stay_awake(now);
                }
                self.announce(&csb, &mut outcome);
            }
        }
        outcome.deadline = self.next_look(now);
        outcome
    }

    /// Looks after a ring with work left over, or whose guest was not asked for kicks, or may have
    /// missed being asked.
    pub fn on_timer(&mut self, now: u64, own: &mut dyn Backend) -> TxOutcome {
        let mut outcome = TxOutcome::nothing_yet();
        match self.active_csb() {
            None => {
                self.withdraw_promise();
                if self.backlog {
                    self.run(self.ring.tail, u32::MAX, None, own, &mut outcome);
                }
            }
            Some(csb) if self.pacing.due(now) => self.look(now, &csb, own, &mut outcome),
            Some(csb) if self.backlog => {
                self.run_csb(Flow::Brought, u32::MAX, &csb, own, &mut outcome);
                self.announce(&csb, &mut outcome);
            }
            Some(_) => {}
        }
        outcome.deadline = self.next_look(now);
        outcome
    }

    /// Sends up to about `most` frames because a receiver asks for them, if there is a stream;
    /// returns how many descriptors that took.
    pub fn pulled(&mut self, now: u64, most: u32, own: &mut dyn Backend) -> (TxOutcome, u32) {
        let mut outcome = TxOutcome::nothing_yet();
        let mut found = 0;
        if let Some(csb) = self.active_csb().filter(|_| self.streams()) {
            found = self.run_csb(Flow::Fetched, most, &csb, own, &mut outcome);
            if found > 0 {
                self.pacing.stay_awake(now);
            }
            self.announce(&csb, &mut outcome);
        }
        outcome.deadline = self.next_look(now);
        (outcome, found)
    }

    /// Sends what there is, for a thread that looks until it comes to [`rest`](Self::rest). `rung`: the
    /// guest has kicked; `rang` asks whether it has by now. True if there was anything.
    pub fn serve(
        &mut self,
        rung: bool,
        rang: impl FnOnce() -> bool,
        own: &mut dyn Backend,
    ) -> (TxOutcome, bool) {
        let mut outcome = TxOutcome::nothing_yet();
        let Some(csb) = self.active_csb() else {
            self.withdraw_promise();
            let found = self.run(self.ring.tail, u32::MAX, None, own, &mut outcome);
            return (outcome, found > 0);
        };
        let tail = csb.load(Field::GuestTdt);
        if rung {
            self.missing_kick = None;
        } else if self.missing_kick.is_some_and(|missing| missing != tail) {
            // It kicks before it goes on; asked after it was seen to have.
            self.missing_kick = None;
            self.counters.lost_kicks += u64::from(!rang());
        }
        if rung {
            self.resting = false;
            csb.store(Field::HostNeedTxkick, 0);
            fence(Ordering::SeqCst);
        }
        self.ring.tail = csb.load(Field::GuestTdt);
        let found = self.run(self.ring.tail, u32::MAX, Some(&csb), own, &mut outcome);
        if found > 0 {
            if self.resting {
                // It was asked for a kick, which is late or lost.
                self.resting = false;
                self.missing_kick = Some(self.ring.tail);
                csb.store(Field::HostNeedTxkick, 0);
            }
            self.announce(&csb, &mut outcome);
        }
        (outcome, found > 0)
    }

    /// Asks the guest for a kick. False if it keeps publishing.
    pub fn rest(&mut self, own: &mut dyn Backend) -> (TxOutcome, bool) {
        let mut outcome = TxOutcome::nothing_yet();
        self.resting = true;
        if let Some(csb) = self.active_csb() {
            self.resting = self.ask_for_kick(&csb, own, &mut outcome);
            self.announce(&csb, &mut outcome);
        }
        (outcome, self.resting)
    }

    /// Whether the guest says in the CSB what it sends: the value of a kick does not matter.
    pub fn uses_csb(&self) -> bool {
        self.active_csb().is_some()
    }

    /// Whether the guest does not kick and receivers may take its frames as they have room.
    pub fn streams(&self) -> bool {
        self.pull && self.pacing.is_awake()
    }

    /// Sends what the guest has published in the CSB; as part of a `stream` if it is one.
    fn run_csb(
        &mut self,
        stream: Flow,
        most: u32,
        csb: &Csb,
        own: &mut dyn Backend,
        outcome: &mut TxOutcome,
    ) -> u32 {
        let streaming = self.streams();
        self.batch.set_flow(if streaming { stream } else { Flow::Announced });
        let tail = csb.load(Field::GuestTdt);
        let found = self.run(tail, most, Some(csb), own, outcome);
        self.batch.set_flow(Flow::Announced);
        // Whoever takes a stream's frames comes again; else the next look is soon enough.
        self.backlog &= !streaming;
        found
    }

    /// Looks at the ring because no kick will come.
    fn look(&mut self, now: u64, csb: &Csb, own: &mut dyn Backend, outcome: &mut TxOutcome) {
        self.counters.timer_scans += 1;
        let tail = csb.load(Field::GuestTdt);
        if self.missing_kick != Some(tail) {
            self.settle_missing_kick(tail);
        }
        let found = self.run_csb(Flow::Brought, u32::MAX, csb, own, outcome);
        if self.waiting {
            // What waits for room is a stream, too; to ask for a kick would be to drop it.
            self.pacing.stay_awake(now);
            return self.announce(csb, outcome);
        }
        match self.pacing.scanned(now, found) {
            Step::AskForKick => {
                if !self.ask_for_kick(csb, own, outcome) {
                    self.pacing.stay_awake(now);
                }
            }
            Step::KickIsMissing => {
                self.missing_kick = Some(tail);
                csb.store(Field::HostNeedTxkick, 0);
            }
            Step::Again | Step::Sleep => {}
        }
        self.announce(csb, outcome);
    }

    fn next_look(&self, now: u64) -> Option<u64> {
        if self.backlog { Some(now) } else { self.pacing.deadline() }
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
    fn ask_for_kick(&mut self, csb: &Csb, own: &mut dyn Backend, outcome: &mut TxOutcome) -> bool {
        for _ in 0..LOOKS_BEFORE_SLEEP {
            csb.store(Field::HostNeedTxkick, 1);
            fence(Ordering::SeqCst);
            if self.run(csb.load(Field::GuestTdt), u32::MAX, Some(csb), own, outcome) == 0 {
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
        outcome.silent = true;
        if self.unannounced && csb.load(Field::GuestNeedTxkick) & 1 != 0 {
            self.unannounced = false;
            outcome.reported = true;
            outcome.silent = false;
            outcome.may_delay = false;
        }
    }
}
