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
/// How long to measure, in PIT ticks: 10 ms.
const CALIBRATION: u16 = (PIT_HZ / 100) as u16;
/// TSC ticks that must suffice for that, however fast the TSC.
const PATIENCE: u64 = 1_000_000_000;
/// Measurements to try.
const ATTEMPTS: u32 = 10;
/// Measurements agree if they differ by less than this part.
const AGREEMENT: u64 = 200;
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

/// The TSC's frequency in kHz, once two measurements in a row agree: the counter comes round every
/// 55 ms, so a busy host that stops us for that long falsifies one unnoticed.
fn calibrate() -> Option<u64> {
    let mut last = measure_khz();
    (0..ATTEMPTS).find_map(|_| {
        let before = core::mem::replace(&mut last, measure_khz());
        last.filter(|khz| before.is_some_and(|before| khz.abs_diff(before) < khz / AGREEMENT))
    })
}

/// One measurement; `None` if the PIT does not count, or was seen to have come round.
fn measure_khz() -> Option<u64> {
    port::write8(PIT_COMMAND, PIT_ONE_SHOT);
    port::write8(PIT_COUNTER, 0xff);
    port::write8(PIT_COUNTER, 0xff);
    let (first, start) = sample(pit_count);
    let goal = first.checked_sub(CALIBRATION)?;
    while pit_count() > goal {
        if now() - start > PATIENCE {
            return None;
        }
    }
    let (last, stop) = sample(pit_count);
    let ticks = first.checked_sub(last).filter(|ticks| *ticks >= CALIBRATION)?;
    Some((stop - start) * PIT_HZ / u64::from(ticks) / 1000)
}
