//! NICs, links, and what happens to them.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};

use super::{Delay, EventTime, Items, Toggles};
use crate::topology::units::{BitRate, End, Ends, Mac, Network, Scalar, Share};

/// Declares a mapping that has impairments among its keys. (`flatten` would ruin the places of
/// errors.)
macro_rules! with_impairments {
    ($(#[$attribute:meta])* pub struct $name:ident { $($own:tt)* }) => {
        $(#[$attribute])*
        pub struct $name {
            $($own)*
            pub delay: Option<Delay>,
            pub jitter: Option<Delay>,
            pub loss: Option<Share>,
            pub duplicate: Option<Share>,
            pub reorder: Option<Share>,
            pub rate: Option<BitRate>,
        }

        impl $name {
            /// What it says of impairments.
            pub fn impairments(&self) -> ImpairmentsSpec {
                let Self { delay, jitter, loss, duplicate, reorder, rate, .. } = *self;
                ImpairmentsSpec { delay, jitter, loss, duplicate, reorder, rate }
            }
        }
    };
}

/// What a cable does to frames.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping of impairments, such as { loss: 1% }")]
pub struct ImpairmentsSpec {
    pub delay: Option<Delay>,
    pub jitter: Option<Delay>,
    pub loss: Option<Share>,
    pub duplicate: Option<Share>,
    pub reorder: Option<Share>,
    pub rate: Option<BitRate>,
}

with_impairments! {
    /// A network card and the switch its cable leads to.
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct NicKeys {
        pub switch: String,
        pub mac: Option<Mac>,
        #[serde(default)]
        pub optimizations: Toggles,
    }
}

with_impairments! {
    /// A cable.
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct CableKeys {
        pub ends: Items<End>,
        pub name: Option<String>,
        pub address: Option<Network>,
        pub mac: Option<Mac>,
    }
}

/// A network card: its switch, or a mapping.
#[derive(Debug)]
pub enum NicSpec {
    Short(String),
    Long(NicKeys),
}

/// A cable: its ends, or a mapping.
#[derive(Debug)]
pub enum CableSpec {
    Short(Ends),
    Long(CableKeys),
}

/// Something that happens by itself.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an event, such as { at: 5s, restart: left }")]
pub struct EventSpec {
    pub at: EventTime,
    pub link: Option<String>,
    pub set: Option<ImpairmentsSpec>,
    pub up: Option<bool>,
    pub restart: Option<String>,
}

/// Something with a short form, a string, and a long one, a mapping.
trait ShortOrLong: Sized {
    type Long: for<'de> Deserialize<'de>;
    /// To complete "expected ...".
    fn expected() -> String;
    fn short(text: &str) -> Option<Self>;
    fn long(keys: Self::Long) -> Self;
}

impl ShortOrLong for NicSpec {
    type Long = NicKeys;

    fn expected() -> String {
        "a NIC, such as sw0 or { switch: sw0 }".to_owned()
    }

    fn short(text: &str) -> Option<Self> {
        Some(Self::Short(text.to_owned()))
    }

    fn long(keys: NicKeys) -> Self {
        Self::Long(keys)
    }
}

impl ShortOrLong for CableSpec {
    type Long = CableKeys;

    fn expected() -> String {
        Ends::expected()
    }

    fn short(text: &str) -> Option<Self> {
        Ends::parse(text).map(Self::Short)
    }

    fn long(keys: CableKeys) -> Self {
        Self::Long(keys)
    }
}

struct ShortOrLongVisitor<T>(PhantomData<T>);

impl<'de, T: ShortOrLong> Visitor<'de> for ShortOrLongVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&T::expected())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::short(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::Long::deserialize(MapAccessDeserializer::new(map)).map(T::long)
    }
}

impl<'de> Deserialize<'de> for NicSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShortOrLongVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for CableSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShortOrLongVisitor(PhantomData))
    }
}
