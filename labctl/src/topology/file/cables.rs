//! NICs, links, and what happens to them.

use std::{borrow::Cow, fmt, marker::PhantomData};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};

use super::{Delay, EventTime, Items, Toggles, said};
use crate::units::{BitRate, End, Ends, Mac, Network, Scalar, Share};

/// Declares a mapping that has impairments among its keys. (`flatten` would ruin the places of
/// errors.)
macro_rules! with_impairments {
    ($(#[$attribute:meta])* pub struct $name:ident { $($own:tt)* }) => {
        $(#[$attribute])*
        pub struct $name {
            $($own)*
            /// Time on the way, up to 10s.
            pub delay: Option<Delay>,
            /// How far the delay varies, up and down; at most the delay.
            pub jitter: Option<Delay>,
            /// Share of frames that are lost, such as 0.5%.
            pub loss: Option<Share>,
            /// Share of frames that arrive twice.
            pub duplicate: Option<Share>,
            /// Share of frames that are not delayed, and so overtake others; needs a delay.
            pub reorder: Option<Share>,
            /// Bits of frames per second, such as 10Mbit; 0 is no limit.
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
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping of impairments, such as { loss: 1% }")]
pub struct ImpairmentsSpec {
    /// Time on the way, up to 10s.
    pub delay: Option<Delay>,
    /// How far the delay varies, up and down; at most the delay.
    pub jitter: Option<Delay>,
    /// Share of frames that are lost, such as 0.5%.
    pub loss: Option<Share>,
    /// Share of frames that arrive twice.
    pub duplicate: Option<Share>,
    /// Share of frames that are not delayed, and so overtake others; needs a delay.
    pub reorder: Option<Share>,
    /// Bits of frames per second, such as 10Mbit; 0 is no limit.
    pub rate: Option<BitRate>,
}

with_impairments! {
    /// A network card and the switch its cable leads to.
    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    pub struct NicKeys {
        /// The switch its cable leads to.
        pub switch: String,
        /// Its unicast address, such as 02:00:00:00:00:01. Without it a stable one is generated.
        pub mac: Option<Mac>,
        /// What this NIC has or lacks of its guest's optimizations: `itr` and `csb`.
        #[serde(default)]
        pub optimizations: Toggles,
    }
}

with_impairments! {
    /// A cable.
    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    pub struct CableKeys {
        /// Its two ends.
        pub ends: Items<End>,
        /// What people call it. Without it that is its ends, as sw0--sw1; a NIC's cable is always called by its
        /// guest and number, left:0.
        pub name: Option<String>,
        /// The address that labctl gives the host's end.
        pub address: Option<Network>,
        /// The unicast address of the NIC that is one of the ends.
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
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an event, such as { at: 5s, restart: left }")]
#[schemars(extend("oneOf" = [
    { "required": ["link", "set"] },
    { "required": ["link", "up"] },
    { "required": ["restart"] },
]))]
pub struct EventSpec {
    /// When, from when all guests are ready.
    #[serde(default, deserialize_with = "said")]
    #[schemars(!default, with = "EventTime")]
    pub at: Option<EventTime>,
    /// The cable that it is about: left:0, sw0--sw1 or a name.
    pub link: Option<String>,
    /// What the cable does to frames from then on; what is not said here is none.
    pub set: Option<ImpairmentsSpec>,
    /// Whether the cable is plugged in from then on.
    pub up: Option<bool>,
    /// The guest that starts anew.
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

impl JsonSchema for NicSpec {
    fn schema_name() -> Cow<'static, str> {
        "NicSpec".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A network card: the switch its cable leads to, or a mapping.",
            "anyOf": [{ "type": "string" }, generator.subschema_for::<NicKeys>()],
        })
    }
}

impl JsonSchema for CableSpec {
    fn schema_name() -> Cow<'static, str> {
        "CableSpec".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A cable: its ends, such as \"left:0 -- sw0\", or a mapping.",
            "anyOf": [generator.subschema_for::<Ends>(), generator.subschema_for::<CableKeys>()],
        })
    }
}
