//! The wire between a device and the guest's interrupt controller.

/// A level-triggered interrupt line, such as PCI INTx.
pub trait InterruptLine: Send + Sync {
    /// Drives the line. Called only when the level changes.
    fn set_level(&self, high: bool);
}
