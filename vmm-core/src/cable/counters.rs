//! What a cable counts, per direction.

use serde::Serialize;

/// Frames that went into one end of a cable and what became of them.
///
/// At any time `frames + duplicated == delivered + refused + dropped + held`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CableCounters {
    /// Frames that went in.
    pub frames: u64,
    /// Copies made on purpose.
    pub duplicated: u64,
    /// Taken at the other end. A switch or a TAP takes all, and counts what becomes of them.
    pub delivered: u64,
    /// Turned away by the NIC at the other end, which counts them by cause.
    pub refused: u64,
    /// Lost on the way, by cause.
    pub dropped: CableDrops,
    /// Of all these, how many were sent past others that waited.
    pub reordered: u64,
    /// Still on their way.
    pub held: u64,
}

/// Frames that a cable dropped, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CableDrops {
    /// Lost on purpose.
    pub loss: u64,
    /// As many were waiting as the limit or the memory for them allows.
    pub queue_full: u64,
    /// The cable was unplugged.
    pub unplugged: u64,
    /// Nobody is at the other end any more.
    pub disconnected: u64,
    /// They have crossed so many cables between switches that these must form a loop.
    pub looped: u64,
}

impl CableDrops {
    /// All causes together.
    pub fn total(&self) -> u64 {
        self.loss + self.queue_full + self.unplugged + self.disconnected + self.looped
    }
}
