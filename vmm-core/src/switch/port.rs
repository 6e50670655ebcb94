//! A port: what a NIC transmits into.

use std::sync::Arc;

use super::Shared;
use super::counters::LivePortCounters;
use super::forward::Forwarder;
use crate::backend::{Backend, Feed, FrameBatch};

/// Frames in a round of a pull after which one more is made.
const WORTH_ANOTHER_ROUND: usize = 64;
/// Most frames of one pull: with senders that never stop, no kick may hold its vCPU for long.
const MOST_AT_ONCE: usize = 4096;

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

    /// Returns how many frames the switch took.
    fn forward(&mut self, batch: &FrameBatch<'_>, while_room: bool) -> usize {
        let done = self.forwarder.forward(&self.shared, self.index, batch, while_room);
        self.counters.add(&done);
        done.frames_in as usize
    }
}

impl Backend for Port {
    fn transmit(&mut self, batch: &FrameBatch<'_>) {
        self.forward(batch, false);
    }

    fn transmit_while_room(&mut self, batch: &FrameBatch<'_>) -> usize {
        self.forward(batch, true)
    }

    fn feed(&self) -> Option<Box<dyn Feed>> {
        Some(Box::new(Feeding { shared: self.shared.clone(), index: self.index }))
    }
}

/// The ports that feed a port: those that have sent to it. Others' streams are for others to fetch,
/// who may have the CPU cache for it. A stream begins with frames that its guest announces, so every
/// feeder is known by then.
struct Feeding {
    shared: Arc<Shared>,
    index: u8,
}

impl Feed for Feeding {
    fn pull(&self, most: usize) {
        // They take this lock again, and one of them may be the last to hold its NIC.
        let feeders: Vec<_> = {
            let slots = self.shared.slots.read();
            let Some(own) = slots.get(usize::from(self.index)) else { return };
            // The next port comes first, so that no sender is always served before the others.
            let ports = (0..slots.len() as u8).cycle().skip(usize::from(self.index) + 1);
            let fed = ports.take(slots.len() - 1).filter(|port| own.fed_by.contains(*port));
            fed.filter_map(|port| slots[usize::from(port)].receiver()).collect()
        };
        let mut left = most.min(MOST_AT_ONCE);
        loop {
            let before = left;
            for feeder in &feeders {
                left = left.saturating_sub(feeder.send_waiting(left));
            }
            // Senders go on meanwhile. To fetch that too is cheaper than the next kick.
            if left == 0 || before - left < WORTH_ANOTHER_ROUND {
                break;
            }
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.shared.detach(self.index);
    }
}
