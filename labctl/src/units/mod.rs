//! Scalars of the lab file: here numbers with a range, in `quantities` times, sizes and rates, in
//! `addresses` MAC and IP addresses and the ends of cables.
//!
//! Each type states its range in its parameters, so the file format and its limits are declared
//! in one place (`file.rs`) and every violation is reported at the scalar itself.

mod addresses;
mod quantities;

use std::{borrow::Cow, fmt, marker::PhantomData};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};
use serde_json::{Value, json};

pub use addresses::{End, Ends, Line, Mac, Network, human_mac};
pub use quantities::{BitRate, Memory, Rate, Share, Time, human_memory, human_time, parse_time};

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
use deserialize_scalar;

deserialize_scalar! {
    [const MIN: u64, const MAX: u64, const STEP: u64] Int<MIN, MAX, STEP>,
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
    fn numbers_keep_their_range_and_step() {
        type Ring = Int<80, 4096, 8>;
        assert_eq!(Ring::parse("80").map(|n| n.get::<u16>()), Some(80));
        for text in ["79", "81", "4104", "-8", "0x50", ""] {
            assert_eq!(Ring::parse(text), None, "{text}");
        }
    }
}
