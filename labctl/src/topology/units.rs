//! Scalars of the lab file: numbers with a range, times, sizes, rates and MAC addresses.
//!
//! Each type states its range in its parameters, so the file format and its limits are declared
//! in one place (`file.rs`) and every violation is reported at the scalar itself.

use std::{borrow::Cow, fmt, marker::PhantomData, net::Ipv4Addr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Unexpected, Visitor},
};
use serde_json::{Value, json};

/// A scalar with a written form, for instance `64MiB`.
pub trait Scalar: Sized {
    /// Reads the written form; `None` if it is malformed or out of range.
    fn parse(text: &str) -> Option<Self>;
    /// What a correct value looks like, to complete "expected ...".
    fn expected() -> String;
    /// The keywords of JSON Schema that tell it, as far as they can.
    fn schema() -> Value;
}

/// Reads a scalar as the lab file has it.
///
/// # Errors
/// What was expected instead.
pub fn parse_scalar<T: Scalar>(text: &str) -> Result<T, String> {
    T::parse(text).ok_or_else(|| format!("expected {}", T::expected()))
}

/// Accepts a [`Scalar`] written as a string or as a plain number.
struct ScalarVisitor<T>(PhantomData<T>);

impl<T: Scalar> Visitor<'_> for ScalarVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&T::expected())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        T::parse(&number.to_string())
            .ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        T::parse(&number.to_string())
            .ok_or_else(|| E::invalid_value(Unexpected::Float(number), &self))
    }
}

macro_rules! deserialize_scalar {
    ($([$($parameters:tt)*] $type:ty),+ $(,)?) => {$(
        impl<'de, $($parameters)*> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(ScalarVisitor(PhantomData))
            }
        }

        impl<$($parameters)*> JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let mut schema = Schema::try_from(Self::schema()).unwrap_or_default();
                // What the YAML language server shows beside the pattern.
                let message = format!("expected {}", Self::expected());
                schema.insert("patternErrorMessage".to_owned(), message.into());
                schema
            }
        }
    )+};
}

deserialize_scalar! {
    [const MIN: u64, const MAX: u64, const STEP: u64] Int<MIN, MAX, STEP>,
    [const MIN_US: u64, const MAX_US: u64] Time<MIN_US, MAX_US>,
    [const MIN_MIB: u64, const MAX_MIB: u64] Memory<MIN_MIB, MAX_MIB>,
    [] Rate,
    [] Share,
    [] BitRate,
    [] Mac,
    [] End,
    [] Ends,
    [] Network,
    [const MAX: usize] Line<MAX>,
}

/// A whole number in `MIN..=MAX` that is a multiple of `STEP`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Int<const MIN: u64, const MAX: u64, const STEP: u64 = 1>(u64);

impl<const MIN: u64, const MAX: u64, const STEP: u64> Int<MIN, MAX, STEP> {
    /// The number; a range whose `MAX` does not fit `T` is a mistake in the format's declaration.
    pub fn get<T: TryFrom<u64> + Default>(self) -> T {
        T::try_from(self.0).unwrap_or_default()
    }
}

impl<const MIN: u64, const MAX: u64, const STEP: u64> Scalar for Int<MIN, MAX, STEP> {
    fn parse(text: &str) -> Option<Self> {
        let number = text.parse().ok()?;
        ((MIN..=MAX).contains(&number) && number.is_multiple_of(STEP)).then_some(Self(number))
    }

    fn expected() -> String {
        let range = format!("a whole number from {MIN} to {MAX}");
        if STEP == 1 { range } else { format!("{range} that is a multiple of {STEP}") }
    }

    fn schema() -> Value {
        let mut schema = json!({ "type": "integer", "minimum": MIN, "maximum": MAX });
        if STEP > 1 {
            schema["multipleOf"] = STEP.into();
        }
        schema
    }
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

/// An end of a cable, as a pattern.
const END: &str = "([A-Za-z0-9_.-]+(:[0-9]{1,3})?|host:[A-Za-z0-9_.-]{1,15}\
                   |netns:[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]{1,15})";

/// One end of a cable, as `links` has it.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// `sw0`: a port of the switch.
    Switch(String),
    /// `left:0`: a NIC of the guest.
    Nic { guest: String, nic: usize },
    /// `host:tap0`: a TAP in the user's network namespace; `netns:red/tap0`: in a named one.
    Host { netns: Option<String>, tap: String },
}

impl Scalar for End {
    fn parse(text: &str) -> Option<Self> {
        let name = |text: &str| {
            let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            let dots = text.bytes().all(|b| b == b'.');
            (!dots && text.bytes().all(good)).then(|| text.to_owned())
        };
        Some(match text.split_once(':') {
            Some(("host", text)) => Self::Host { netns: None, tap: name(text)? },
            Some(("netns", text)) => {
                let (netns, text) = text.split_once('/')?;
                Self::Host { netns: Some(name(netns)?), tap: name(text)? }
            }
            Some((guest, nic)) => {
                let nic = Int::<0, 255>::parse(nic)?.get();
                Self::Nic { guest: name(guest)?, nic }
            }
            None => Self::Switch(name(text)?),
        })
    }

    fn expected() -> String {
        "an end such as sw0, left:0, host:tap0 or netns:red/tap0".to_owned()
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": format!("^{END}$") })
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Switch(name) => f.write_str(name),
            Self::Nic { guest, nic } => write!(f, "{guest}:{nic}"),
            Self::Host { netns: None, tap } => write!(f, "host:{tap}"),
            Self::Host { netns: Some(netns), tap } => write!(f, "netns:{netns}/{tap}"),
        }
    }
}

/// The two ends of a cable in their short form, `left:0 -- sw0`.
#[derive(Clone, Debug, PartialEq)]
pub struct Ends(pub [End; 2]);

impl Scalar for Ends {
    fn parse(text: &str) -> Option<Self> {
        let (one, other) = text.split_once(" -- ")?;
        Some(Self([End::parse(one.trim())?, End::parse(other.trim())?]))
    }

    fn expected() -> String {
        "a cable such as \"left:0 -- sw0\", \"sw0 -- sw1\" or \"sw0 -- host:tap0\"".to_owned()
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": format!("^ *{END} +-- +{END} *$") })
    }
}

/// A line of at most `MAX` printable ASCII characters; white space around it does not count, so that
/// it can be folded (`>`).
#[derive(Clone, Debug, PartialEq)]
pub struct Line<const MAX: usize>(pub String);

impl<const MAX: usize> Scalar for Line<MAX> {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        (printable && text.len() <= MAX).then(|| Self(text.to_owned()))
    }

    fn expected() -> String {
        format!("one line of at most {MAX} printable ASCII characters")
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^\\s*[ -~]*\\s*$", "maxLength": MAX })
    }
}

/// A unicast MAC address, `aa:bb:cc:dd:ee:ff`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mac(pub [u8; 6]);

impl Scalar for Mac {
    fn parse(text: &str) -> Option<Self> {
        let mut mac = [0; 6];
        let mut digits = text.split(':');
        for byte in &mut mac {
            let pair = digits.next()?;
            // from_str_radix would take a sign.
            (pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit())).then_some(())?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        let unicast = mac[0] & 1 == 0 && mac != [0; 6];
        (digits.next().is_none() && unicast).then_some(Self(mac))
    }

    fn expected() -> String {
        "a unicast MAC address, such as 02:00:00:00:00:01".to_owned()
    }

    fn schema() -> Value {
        let byte = "[0-9A-Fa-f]{2}";
        let pattern = format!("^[0-9A-Fa-f][02468ACEace](:{byte}){{5}}$");
        json!({ "type": "string", "pattern": pattern })
    }
}

/// Writes a MAC address in the usual notation.
pub fn human_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// An interface's IPv4 address and its network, `10.0.0.1/24`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Network {
    /// The address: one that a host may have.
    pub address: Ipv4Addr,
    /// Bits in the network's prefix, 1 to 30.
    pub prefix: u8,
}

impl Network {
    /// No address yet.
    pub const UNASSIGNED: Self = Self { address: Ipv4Addr::UNSPECIFIED, prefix: 1 };

    /// Whether `address` is in the network.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        let host_bits = 32 - u32::from(self.prefix);
        (self.address.to_bits() ^ address.to_bits()) >> host_bits == 0
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Scalar for Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let address: Ipv4Addr = address.parse().ok()?;
        let prefix = prefix.parse().ok().filter(|prefix| (1..=30).contains(prefix))?;
        let host = u32::MAX >> prefix;
        // All zeros and all ones stand for the network and everyone in it.
        let in_range = (1..host).contains(&(address.to_bits() & host));
        let unicast = !address.is_multicast() && !address.is_loopback() && address.octets()[0] != 0;
        (in_range && unicast).then_some(Self { address, prefix })
    }

    fn expected() -> String {
        "a host's IPv4 address with its network's prefix, such as 10.0.0.1/24".to_owned()
    }

    fn schema() -> Value {
        let pattern = "^[0-9]{1,3}(\\.[0-9]{1,3}){3}/([1-9]|[12][0-9]|30)$";
        json!({ "type": "string", "pattern": pattern })
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

/// A text of which YAML takes the zero for a number.
fn number_or_text(pattern: &str, or_zero: bool) -> Value {
    match or_zero {
        true => {
            json!({ "type": ["string", "integer"], "pattern": pattern, "minimum": 0, "maximum": 0 })
        }
        false => json!({ "type": "string", "pattern": pattern }),
    }
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
    fn numbers_keep_their_range_and_step() {
        type Ring = Int<80, 4096, 8>;
        assert_eq!(Ring::parse("80").map(|n| n.get::<u16>()), Some(80));
        for text in ["79", "81", "4104", "-8", "0x50", ""] {
            assert_eq!(Ring::parse(text), None, "{text}");
        }
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

    #[test]
    fn ends_of_cables_are_read_and_written() {
        for text in ["sw0", "left:0", "host:tap0", "netns:red/tap0"] {
            assert_eq!(End::parse(text).map(|end| end.to_string()).as_deref(), Some(text));
        }
        for text in
            ["", "left:", "left:x", "left:-1", "host:", "host:..", "netns:red", "a b", "a/b"]
        {
            assert_eq!(End::parse(text), None, "{text}");
        }
        assert!(Ends::parse("left:0  --  sw0").is_some());
        for text in ["left:0", "left:0--sw0", "a -- b -- c", " -- "] {
            assert_eq!(Ends::parse(text), None, "{text}");
        }
    }

    #[test]
    fn only_addresses_of_hosts_are_taken() {
        let network = Network::parse("10.0.1.7/23").unwrap();
        assert_eq!(network.to_string(), "10.0.1.7/23");
        assert!(network.contains(Ipv4Addr::new(10, 0, 0, 255)));
        assert!(!network.contains(Ipv4Addr::new(10, 0, 2, 0)));
        for text in ["10.0.0.1", "10.0.0.1/0", "10.0.0.1/31", "10.0.0.0/24", "10.0.0.255/24"] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
        for text in ["224.0.0.1/24", "127.0.0.1/8", "0.0.0.1/8", "10.0.0/24", "a.b.c.d/24"] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }

    #[test]
    fn only_unicast_macs_are_taken() {
        let mac = Mac::parse("52:54:00:aB:00:01").map(|mac| human_mac(mac.0));
        assert_eq!(mac.as_deref(), Some("52:54:00:ab:00:01"));
        for text in ["01:00:00:00:00:00", "00:00:00:00:00:00", "2:0:0:0:0:1", "+2:00:00:00:00:01"] {
            assert_eq!(Mac::parse(text), None, "{text}");
        }
        assert_eq!(Mac::parse("02:00:00:00:00:01:02"), None);
    }
}
