//! Times, sizes, rates and shares.

use std::{borrow::Cow, marker::PhantomData, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Scalar, ScalarVisitor, deserialize_scalar, number_or_text};

deserialize_scalar! {
    [const MIN_US: u64, const MAX_US: u64] Time<MIN_US, MAX_US>,
    [const MIN_MIB: u64, const MAX_MIB: u64] Memory<MIN_MIB, MAX_MIB>,
    [] Rate,
    [] Share,
    [] BitRate,
}

/// A time written with its unit (`125us`, `500ms`, `2s`, `5min`, `1h`; `0` needs none), in
/// `MIN_US..=MAX_US` microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Time<const MIN_US: u64, const MAX_US: u64>(Duration);

impl<const MIN_US: u64, const MAX_US: u64> Time<MIN_US, MAX_US> {
    /// The time.
    pub fn get(self) -> Duration {
        self.0
    }
}

/// Units of time and their length in microseconds, longest first.
const TIME_UNITS: [(&str, u64); 5] =
    [("h", 3_600_000_000), ("min", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

/// Reads a time as the lab file writes it, such as `10s` or `500ms`.
///
/// # Errors
/// What was expected instead.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let us = with_unit(text, &TIME_UNITS).filter(|us| *us > 0);
    us.map(Duration::from_micros).ok_or_else(|| "expected a time such as 10s or 500ms".to_owned())
}

impl<const MIN_US: u64, const MAX_US: u64> Scalar for Time<MIN_US, MAX_US> {
    fn parse(text: &str) -> Option<Self> {
        let us = with_unit(text, &TIME_UNITS)?;
        (MIN_US..=MAX_US).contains(&us).then(|| Self(Duration::from_micros(us)))
    }

    fn expected() -> String {
        let [min, max] = [MIN_US, MAX_US].map(|us| human_time(Duration::from_micros(us)));
        format!("a time from {min} to {max} with its unit: us, ms, s, min or h")
    }

    fn schema() -> Value {
        with_unit_schema(&TIME_UNITS, MIN_US == 0)
    }
}

/// Writes a time the way the lab file does, in the longest unit that needs at most 3 decimals.
pub fn human_time(time: Duration) -> String {
    let us = time.as_micros();
    // Nobody reads 3.5min faster than 210s; seconds and below divide by a thousand.
    let parts = |unit: u64| if unit > 1_000_000 { 1 } else { 1000 };
    let exact =
        |unit: u64| us >= u128::from(unit) && (us * parts(unit)).is_multiple_of(unit.into());
    match TIME_UNITS.iter().find(|(_, length)| exact(*length)) {
        Some((unit, length)) => format!("{}{unit}", us as f64 / *length as f64),
        None => "0".to_owned(),
    }
}

/// Units of memory and their size in MiB.
const MEMORY_UNITS: [(&str, u64); 2] = [("GiB", 1024), ("MiB", 1)];

/// A guest's memory in whole MiB, written with its unit (`64MiB`, `1GiB`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory<const MIN_MIB: u64, const MAX_MIB: u64>(u32);

impl<const MIN_MIB: u64, const MAX_MIB: u64> Memory<MIN_MIB, MAX_MIB> {
    /// The size in MiB.
    pub fn mib(self) -> u32 {
        self.0
    }
}

impl<const MIN_MIB: u64, const MAX_MIB: u64> Scalar for Memory<MIN_MIB, MAX_MIB> {
    fn parse(text: &str) -> Option<Self> {
        let mib = with_unit(text, &MEMORY_UNITS)?;
        (MIN_MIB..=MAX_MIB).contains(&mib).then_some(())?;
        Some(Self(u32::try_from(mib).ok()?))
    }

    fn expected() -> String {
        let [min, max] = [MIN_MIB, MAX_MIB].map(human_memory);
        format!("a size from {min} to {max} with its unit: MiB or GiB")
    }

    fn schema() -> Value {
        with_unit_schema(&MEMORY_UNITS, MIN_MIB == 0)
    }
}

/// Writes a size in MiB the way the lab file does.
pub fn human_memory(mib: u64) -> String {
    if mib > 0 && mib.is_multiple_of(1024) {
        format!("{}GiB", mib / 1024)
    } else {
        format!("{mib}MiB")
    }
}

/// Units of packet rates.
const RATE_UNITS: [(&str, u64); 3] = [("Mpps", 1_000_000), ("kpps", 1_000), ("pps", 1)];

/// Packets per second; 0 is unlimited.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(pub u64);

impl Scalar for Rate {
    fn parse(text: &str) -> Option<Self> {
        with_unit(text, &RATE_UNITS).filter(|rate| *rate <= 1_000_000_000).map(Self)
    }

    fn expected() -> String {
        "0 for unlimited, or a rate up to 1000Mpps with its unit: pps, kpps or Mpps".to_owned()
    }

    fn schema() -> Value {
        with_unit_schema(&RATE_UNITS, true)
    }
}

/// A share of all frames, written in percent (`0.1%`; `0` needs no sign).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(f64);

impl Share {
    /// The share, 0 to 1.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Scalar for Share {
    fn parse(text: &str) -> Option<Self> {
        let percent: f64 = match text.strip_suffix('%') {
            // f64's own parser would take a sign and an exponent.
            Some(number) if number.bytes().all(|b| b.is_ascii_digit() || b == b'.') => number,
            Some(_) => return None,
            None => (text == "0").then_some(text)?,
        }
        .parse()
        .ok()?;
        (percent <= 100.0).then_some(Self(percent / 100.0))
    }

    fn expected() -> String {
        "a share from 0% to 100%, such as 0.5%".to_owned()
    }

    fn schema() -> Value {
        number_or_text("^(100(\\.0*)?|[0-9]{1,2}(\\.[0-9]*)?|\\.[0-9]+)%$|^0$", true)
    }
}

/// Units of bit rates.
const BIT_RATE_UNITS: [(&str, u64); 3] =
    [("Gbit", 1_000_000_000), ("Mbit", 1_000_000), ("kbit", 1_000)];

/// Bits per second; 0 is unlimited.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BitRate(pub u64);

impl Scalar for BitRate {
    fn parse(text: &str) -> Option<Self> {
        with_unit(text, &BIT_RATE_UNITS).filter(|rate| *rate <= 1_000_000_000_000).map(Self)
    }

    fn expected() -> String {
        "0 for unlimited, or a rate up to 1000Gbit with its unit: kbit, Mbit or Gbit".to_owned()
    }

    fn schema() -> Value {
        with_unit_schema(&BIT_RATE_UNITS, true)
    }
}

/// Reads `1.5ms`-like text as a count of the smallest unit; only zero needs no unit.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    let scale = match unit.trim_start() {
        "" if number == 0.0 => 0,
        unit => units.iter().find(|(name, _)| *name == unit)?.1,
    };
    let count = number * scale as f64;
    // A fraction of the smallest unit means nothing to the machine: refuse, never round.
    let whole = (count - count.round()).abs() < 1e-6 && count < 1e18;
    whole.then_some(count.round() as u64)
}

/// A number with one of `units`; zero needs none. What its range is, a pattern cannot tell.
fn with_unit_schema(units: &[(&str, u64)], or_zero: bool) -> Value {
    let units: Vec<_> = units.iter().map(|(unit, _)| *unit).collect();
    let zero = if or_zero { "|^0$" } else { "" };
    let number = "([0-9]+(\\.[0-9]*)?|\\.[0-9]+)";
    number_or_text(&format!("^{number} *({})${zero}", units.join("|")), or_zero)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        type Any = Time<0, { u64::MAX }>;
        for (text, us, written) in [
            ("125us", 125, "125us"),
            ("0", 0, "0"),
            ("0ms", 0, "0"),
            ("500 ms", 500_000, "500ms"),
            ("16.776ms", 16_776, "16.776ms"),
            ("230s", 230_000_000, "230s"),
            ("90s", 90_000_000, "90s"),
            ("24h", 86_400_000_000, "24h"),
        ] {
            let time = Any::parse(text).map(Time::get);
            assert_eq!(time, Some(Duration::from_micros(us)), "{text}");
            assert_eq!(time.map(human_time).as_deref(), Some(written));
        }
        for text in ["", "5", "ms", "1.5.2s", "-1s", "0.5us", "1d", "inf", "1e3s", "5MS"] {
            assert_eq!(Any::parse(text), None, "{text}");
        }
        assert_eq!(Time::<10, 20>::parse("9us"), None);
        assert_eq!(Time::<10, 20>::parse("21us"), None);
    }

    #[test]
    fn sizes_and_rates_are_read() {
        assert_eq!(Memory::<48, 2048>::parse("1.5GiB").map(Memory::mib), Some(1536));
        for text in ["64", "64MB", "47MiB", "2049MiB", "64.5MiB", "3GiB"] {
            assert_eq!(Memory::<48, 2048>::parse(text), None, "{text}");
        }
        assert_eq!(Rate::parse("1.5Mpps"), Some(Rate(1_500_000)));
        assert_eq!(Rate::parse("0"), Some(Rate(0)));
        assert_eq!(Rate::parse("100"), None);
        assert_eq!(Rate::parse("1001Mpps"), None);
    }

    #[test]
    fn shares_and_bit_rates_are_read() {
        assert_eq!(Share::parse("0.1%").map(Share::get), Some(0.001));
        assert_eq!(Share::parse("0").map(Share::get), Some(0.0));
        assert_eq!(Share::parse("100%").map(Share::get), Some(1.0));
        for text in ["", "%", "0.1", "100.1%", "-1%", "1e1%", "inf%", "1 %", "1.2.3%"] {
            assert_eq!(Share::parse(text), None, "{text}");
        }
        assert_eq!(BitRate::parse("2.5Gbit"), Some(BitRate(2_500_000_000)));
        assert_eq!(BitRate::parse("0.5kbit"), Some(BitRate(500)));
        for text in ["10", "10mbit", "10Mbps", "1001Gbit", "10kpps"] {
            assert_eq!(BitRate::parse(text), None, "{text}");
        }
    }
}
