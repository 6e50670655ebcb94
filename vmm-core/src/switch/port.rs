//! A port: what a NIC transmits into.

use std::sync::Arc;

use super::Shared;
use super::counters::LivePortCounters;
use super::forward::Forwarder;
use crate::backend::{Backend, FrameBatch};

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
