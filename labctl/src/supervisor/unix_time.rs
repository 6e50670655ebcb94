//! Wall-clock time as the control protocol has it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds of Unix time, now.
pub fn now_ms() -> u64 {
    ms(SystemTime::now())
}

/// Milliseconds of Unix time.
pub fn ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
