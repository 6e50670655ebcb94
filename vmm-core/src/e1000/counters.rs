//! What a NIC counts.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::{RxCounters, TxCounters};

/// A snapshot of one NIC's counters.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct NicCounters {
    /// Guest to network.
    pub tx: TxCounters,
    /// Network to guest.
    pub rx: RxCounters,
    /// Rising edges of the interrupt line.
    pub interrupts: u64,
    /// Register accesses; each is an exit to userspace.
    pub registers: RegisterCounters,
}

/// Register accesses by the guest.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct RegisterCounters {
    /// All reads.
    pub reads: u64,
    /// All writes.
    pub writes: u64,
    /// Writes to TDT: transmit doorbells.
    pub tdt_writes: u64,
    /// Writes to RDT: receive buffers returned.
    pub rdt_writes: u64,
    /// Reads of ICR: interrupts acknowledged.
    pub icr_reads: u64,
}

/// A counter that several threads may add to.
#[derive(Debug, Default)]
pub(super) struct Tally(AtomicU64);

impl Tally {
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// [`RegisterCounters`], live.
#[derive(Debug, Default)]
pub(super) struct AccessCounters {
    pub(super) reads: Tally,
    pub(super) writes: Tally,
    pub(super) tdt_writes: Tally,
    pub(super) rdt_writes: Tally,
    pub(super) icr_reads: Tally,
}

impl AccessCounters {
    pub(super) fn snapshot(&self) -> RegisterCounters {
        RegisterCounters {
            reads: self.reads.get(),
            writes: self.writes.get(),
            tdt_writes: self.tdt_writes.get(),
            rdt_writes: self.rdt_writes.get(),
            icr_reads: self.icr_reads.get(),
        }
    }
}
