//! What a switch counts, per port.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

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

/// [`PortCounters`], live: written by the port's sender alone, once a batch, and in cache lines that
/// no other port's sender writes to.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct LivePortCounters([AtomicU64; 9]);

impl LivePortCounters {
    pub(super) fn snapshot(&self) -> PortCounters {
        let [frames_in, batches_in, flood_copies, delivered, refused, runt, same_port, none, off] =
            self.0.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        let dropped = PortDrops { runt, same_port, no_destination: none, disconnected: off };
        PortCounters { frames_in, batches_in, flood_copies, delivered, refused, dropped }
    }

    pub(super) fn add(&self, batch: &PortCounters) {
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
