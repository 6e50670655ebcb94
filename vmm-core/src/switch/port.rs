//! A port: what a NIC transmits into, and its counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::Shared;
use super::forward::Forwarder;
use crate::backend::{Backend, FrameBatch};

/// Frames that a port's counters account for.
///
/// For every port `frames_in + flood_copies == delivered + refused + drops`, where the right side
/// counts what became of the frames that came *in* here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PortCounters {
    /// Frames that the NIC handed in.
    pub frames_in: u64,
    /// Hand-overs that brought them.
    pub batches_in: u64,
    /// Copies beyond the first that flooding made of them.
    pub flood_copies: u64,
    /// Copies that the receiving NICs took.
    pub delivered: u64,
    /// Copies that a receiving NIC turned away; it counts the cause.
    pub refused: u64,
    /// Frames that were dropped in the switch, by cause.
    pub dropped: PortDrops,
}

/// Frames that the switch itself dropped, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PortDrops {
    /// Shorter than an Ethernet header.
    pub runt: u64,
    /// The destination is behind the port that the frame came from.
    pub same_port: u64,
    /// To be flooded, and no other port is there.
    pub no_destination: u64,
    /// The destination port has no NIC.
    pub disconnected: u64,
}

impl PortDrops {
    /// All causes together.
    pub fn total(&self) -> u64 {
        self.runt + self.same_port + self.no_destination + self.disconnected
    }
}

/// [`PortCounters`], live: written by the port's sender alone, once a batch.
#[derive(Debug, Default)]
pub(super) struct LivePortCounters([AtomicU64; 9]);

impl LivePortCounters {
    pub(super) fn snapshot(&self) -> PortCounters {
        let [frames_in, batches_in, flood_copies, delivered, refused, runt, same_port, none, off] =
            self.0.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        let dropped = PortDrops { runt, same_port, no_destination: none, disconnected: off };
        PortCounters { frames_in, batches_in, flood_copies, delivered, refused, dropped }
    }

    fn add(&self, batch: &PortCounters) {
        let drops = &batch.dropped;
        let added = [
            batch.frames_in,
            batch.batches_in,
            batch.flood_copies,
            batch.delivered,
            batch.refused,
            drops.runt,
            drops.same_port,
            drops.no_destination,
            drops.disconnected,
        ];
        for (counter, count) in self.0.iter().zip(added) {
            if count != 0 {
                counter.store(counter.load(Ordering::Relaxed) + count, Ordering::Relaxed);
            }
        }
    }
}

/// A switch port as its NIC sees it.
pub struct Port {
    shared: Arc<Shared>,
    index: u8,
    counters: Arc<LivePortCounters>,
    forwarder: Forwarder,
}

impl Port {
    pub(super) fn new(shared: Arc<Shared>, index: u8, counters: Arc<LivePortCounters>) -> Self {
        Self { shared, index, counters, forwarder: Forwarder::default() }
    }

    /// The port's number, for [`connect`](super::Switch::connect).
    pub fn index(&self) -> u8 {
        self.index
    }
}

impl Backend for Port {
    fn transmit(&mut self, batch: &FrameBatch<'_>) {
        let done = self.forwarder.forward(&self.shared, self.index, batch);
        self.counters.add(&done);
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.shared.detach(self.index);
    }
}
