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
/// Reads of the counter in which that time must have passed; the fastest takes 0.3 us.
const PATIENCE: u32 = 1_000_000;
/// Calibrations to try.
const ATTEMPTS: u32 = 5;
/// Tries of one sample.
const SAMPLES: u32 = 8;

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

/// Samples `read` with the TSC: of several tries the one least disturbed by whatever else the host
/// has to do. Returns what it read and the TSC in the middle of that.
pub fn sample<T>(mut read: impl FnMut() -> T) -> (T, u64) {
    let mut attempt = || {
        let start = now();
        let value = read();
        (now() - start, value, start)
    };
    let mut best = attempt();
    for _ in 1..SAMPLES {
        let next = attempt();
        if next.0 < best.0 {
            best = next;
        }
    }
    let (duration, value, start) = best;
    (value, start + duration / 2)
}

fn pit_count() -> u16 {
    port::write8(PIT_COMMAND, PIT_LATCH);
    let low = port::read8(PIT_COUNTER);
    u16::from_le_bytes([low, port::read8(PIT_COUNTER)])
}

fn calibrate() -> Option<u64> {
    (0..ATTEMPTS).find_map(|_| measure_khz())
}

/// The TSC's frequency; `None` if the PIT does not count, or counted through zero meanwhile.
fn measure_khz() -> Option<u64> {
    port::write8(PIT_COMMAND, PIT_ONE_SHOT);
    port::write8(PIT_COUNTER, 0xff);
    port::write8(PIT_COUNTER, 0xff);
    let (first, start) = sample(pit_count);
    let goal = first.checked_sub(CALIBRATION)?;
    (0..PATIENCE).find(|_| pit_count() <= goal)?;
    let (last, stop) = sample(pit_count);
    let ticks = first.checked_sub(last).filter(|ticks| *ticks >= CALIBRATION)?;
    Some((stop - start) * PIT_HZ / u64::from(ticks) / 1000)
}
