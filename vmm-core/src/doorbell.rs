//! What wakes a thread that moves a NIC's frames.

/// A guest's kicks, on their way to a thread that serves them.
pub trait Doorbell: Send + Sync {
    /// Wakes the thread.
    fn ring(&self);

    /// Whether it has rung since the last answer, and how many of the kicks came in past the device.
    fn answer(&self) -> (bool, u64);

    /// Has guest writes to the register at `address` ring it and do nothing else: the device sees
    /// neither them nor their value. `None`: no longer.
    fn wire(&self, address: Option<u64>);
}

/// A transmit side that a thread serves.
pub trait Served: Send + Sync {
    /// Sends what waits. `rung`: because of the doorbell. False if nothing waited; without a ring
    /// nothing has changed then, and otherwise the guest rings no more until [`rest`](Self::rest).
    fn serve(&self, rung: bool) -> bool;

    /// Has the guest ring the doorbell for what it sends from now on. False if it has sent meanwhile.
    fn rest(&self) -> bool;
}
