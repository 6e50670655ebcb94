//! Transmission by a thread of its own: kicks only wake it.
//!
//! A kick that reaches the device leaves its tail in `posted`, not in the ring: the thread has the
//! transmitter's lock while it copies, and the vCPU must not wait for that. With the CSB the tail is in
//! guest memory. TDT is then wired to the doorbell inside KVM, and a kick costs no exit to us.

use std::sync::atomic::Ordering;

use super::general::General;
use super::registers::offset::TDT;
use super::{E1000, NOTHING_POSTED, OwnReceiver, TxOutcome};
use crate::doorbell::{Doorbell, Served};

impl E1000 {
    /// PCI: BAR 0 decodes from `base` on, or not at all.
    pub fn set_window(&self, base: Option<u64>) {
        let mut general = self.general.lock();
        general.window = base;
        self.wire(&general);
    }

    pub(super) fn post(&self, tail: Option<u32>, doorbell: &dyn Doorbell) {
        if let Some(tail) = tail {
            self.posted.0.store(tail.into(), Ordering::Release);
        }
        doorbell.ring();
    }

    /// The tail that the thread has not taken yet. Asked with the transmitter locked.
    pub(super) fn posted_tail(&self) -> Option<u32> {
        u32::try_from(self.posted.0.load(Ordering::Acquire)).ok()
    }

    /// CTRL.RST: the ring starts anew, without the tail that was meant for the old one.
    pub(super) fn reset_transmitter(&self, general: &General) {
        let mut tx = self.tx.0.lock();
        self.posted.0.store(NOTHING_POSTED, Ordering::Release);
        tx.reset();
        self.note_stream(&tx);
        drop(tx);
        self.wire(general);
    }

    /// Wires the doorbell to TDT as long as nobody needs what is written there. A driver that turns
    /// the CSB off without telling the device loses the value of the first kick that follows; all that
    /// are known tell it, by a reset.
    pub(super) fn wire(&self, general: &General) {
        let Some(doorbell) = &self.doorbell else { return };
        let unneeded = self.tx.0.lock().uses_csb();
        let register = general.window.filter(|_| unneeded).map(|base| base + u64::from(TDT));
        doorbell.wire(register);
        self.wired.store(unneeded, Ordering::Relaxed);
    }
}

impl Served for E1000 {
    fn serve(&self, rung: bool) -> bool {
        let Some(doorbell) = &self.doorbell else { return false };
        if rung {
            self.answer(&**doorbell);
        }
        let (mut found, mut uses_csb) = (false, false);
        self.with_transmitter(|tx| {
            if let Ok(tail) = u32::try_from(self.posted.0.swap(NOTHING_POSTED, Ordering::AcqRel)) {
                tx.ring.tail = tail;
            }
            let rang = || self.answer(&**doorbell);
            let outcome;
            (outcome, found) = tx.serve(rung, rang, &mut OwnReceiver(self));
            uses_csb = tx.uses_csb();
            outcome
        });
        // The guest turns the CSB on and off in memory, which nobody is told of.
        if self.wired.load(Ordering::Relaxed) != uses_csb {
            self.wire(&self.general.lock());
        }
        found
    }

    fn rest(&self) -> bool {
        let mut rests = true;
        self.with_transmitter(|tx| {
            let outcome: TxOutcome;
            (outcome, rests) = tx.rest(&mut OwnReceiver(self));
            outcome
        });
        rests
    }
}

impl E1000 {
    /// Whether the doorbell has rung.
    fn answer(&self, doorbell: &dyn Doorbell) -> bool {
        let (rung, unseen) = doorbell.answer();
        self.accesses.0.tdt_writes.add(unseen);
        rung
    }
}
