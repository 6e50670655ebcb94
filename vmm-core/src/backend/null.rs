//! A backend that swallows everything: a NIC with no cable, or a transmit-only benchmark.

use super::{Backend, FrameBatch};

/// Discards every frame.
#[derive(Debug, Default)]
pub struct NullBackend;

impl Backend for NullBackend {
    fn transmit(&mut self, _batch: &FrameBatch<'_>) {}
}
