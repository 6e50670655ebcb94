//! Time, injected: devices never ask the host for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Nanoseconds since an arbitrary start, never going back.
pub trait Clock: Send + Sync {
    /// The present time in nanoseconds.
    fn now(&self) -> u64;
}

/// Calls a device back when a deadline has passed.
pub trait Timer: Send + Sync {
    /// Asks for a call at `deadline` (nanoseconds of the device's [`Clock`]), replacing any earlier
    /// request. A late call is allowed, an early one is harmless.
    fn arm(&self, deadline: u64);
}

/// The host's monotonic clock.
#[derive(Debug)]
pub struct MonotonicClock {
    start: Instant,
}

impl MonotonicClock {
    /// A clock that starts at 1 s, so that "long ago" is never below zero.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for MonotonicClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for MonotonicClock {
    #[inline]
    fn now(&self) -> u64 {
        1_000_000_000 + self.start.elapsed().as_nanos() as u64
    }
}

/// A clock that only moves when told to: for tests and for deterministic replay.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that stands at `ns`.
    pub fn at(ns: u64) -> Self {
        Self(AtomicU64::new(ns))
    }

    /// Moves the clock forward by `ns`.
    pub fn advance(&self, ns: u64) {
        self.0.fetch_add(ns, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}
