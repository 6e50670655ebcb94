//! Time from the TSC, which is native at CPL3 (about 10 ns a read; a device's clock is an exit).

use crate::port;

/// Frequency of the 8254's counters in Hz.
const PIT_HZ: u64 = 1_193_182;
const PIT_COUNTER: u16 = 0x40;
const PIT_COMMAND: u16 = 0x43;
/// Counter 0, both bytes, mode 0, binary.
const PIT_ONE_SHOT: u8 = 0x30;
/// Counter 0, latch the count.
const PIT_LATCH: u8 = 0x00;
/// How long to calibrate, in PIT ticks: 20 ms.
const CALIBRATION: u16 = (PIT_HZ / 50) as u16;
/// Reads of a counter that does not move before it is taken for absent.
const PATIENCE: u32 = 10_000;

/// TSC ticks since reset.
#[inline]
pub fn now() -> u64 {
    // SAFETY: RDTSC reads no memory; CR4.TSD is clear.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Conversions between TSC ticks and time.
#[derive(Clone, Copy)]
pub struct Clock {
    khz: u64,
}

impl Clock {
    /// A clock of `khz` kHz, or, if `None`, of the frequency that counter 0 of the PIT tells: its
    /// gate is always open, whereas counter 2's needs port 0x61, which a small platform may lack.
    /// `None` if there is no PIT.
    pub fn new(khz: Option<u64>) -> Option<Self> {
        khz.or_else(calibrate).map(|khz| Self { khz })
    }

    /// TSC frequency in kHz.
    pub fn khz(&self) -> u64 {
        self.khz
    }

    /// Ticks in `us` microseconds.
    pub fn ticks(&self, us: u64) -> u64 {
        (u128::from(us) * u128::from(self.khz) / 1000) as u64
    }

    /// Nanoseconds in `ticks`.
    pub fn ns(&self, ticks: u64) -> u64 {
        (u128::from(ticks) * 1_000_000 / u128::from(self.khz)) as u64
    }
}

/// Latches the PIT's counter; returns it and the TSC at that moment.
fn pit_sample() -> (u16, u64) {
    port::write8(PIT_COMMAND, PIT_LATCH);
    let tsc = now();
    let low = port::read8(PIT_COUNTER);
    (u16::from_le_bytes([low, port::read8(PIT_COUNTER)]), tsc)
}

fn calibrate() -> Option<u64> {
    port::write8(PIT_COMMAND, PIT_ONE_SHOT);
    port::write8(PIT_COUNTER, 0xff);
    port::write8(PIT_COUNTER, 0xff);
    let (mut count, mut tsc) = pit_sample();
    // The first count after loading may predate it: start where the counter is seen to move.
    let mut patience = PATIENCE;
    let start = loop {
        let sample = pit_sample();
        if sample.0 < count {
            break sample;
        }
        (count, tsc) = sample;
        patience = patience.checked_sub(1)?;
    };
    while start.0.wrapping_sub(count) < CALIBRATION || count > start.0 {
        (count, tsc) = pit_sample();
    }
    let elapsed = u64::from(start.0 - count);
    Some((tsc - start.1) * PIT_HZ / elapsed / 1000)
}
