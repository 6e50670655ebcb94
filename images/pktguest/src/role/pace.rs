//! Sending at a rate.

use super::Session;
use crate::time;

/// How far a paced sender may fall behind and still catch up.
const MAX_LAG_US: u64 = 10_000;

/// When the next frames are due.
pub struct Pace {
    /// TSC ticks between two frames, in 2^-16ths; 0: as fast as possible.
    step: u64,
    /// In 2^-16ths of a TSC tick since `base`.
    offset: u64,
    base: u64,
    max_lag: u64,
}

impl Pace {
    /// As fast as the session is configured to send, from now on.
    pub fn new(session: &Session<'_>) -> Self {
        let step = match session.config.rate {
            0 => 0,
            rate => ((u128::from(session.clock.khz()) * 1000) << 16) / u128::from(rate),
        };
        let max_lag = session.clock.ticks(MAX_LAG_US);
        Self { step: step as u64, offset: 0, base: time::now(), max_lag }
    }

    /// The TSC time the next frame is due at, seen at time `now`.
    pub fn due(&mut self, now: u64) -> u64 {
        if self.step == 0 {
            return 0;
        }
        // Whole ticks move into the base, so the fraction never overflows.
        self.base += self.offset >> 16;
        self.offset &= 0xffff;
        self.base = self.base.max(now.saturating_sub(self.max_lag));
        self.base
    }

    /// `frames` more were sent.
    pub fn advance(&mut self, frames: u64) {
        self.offset += self.step * frames;
    }
}
