//! The `bench` section: what is measured, in which cells, and what must come out.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_yaml::Value;

use super::{
    Budget, Burst, FrameSize, LinkSpec, Named, NicModelSpec, Pairs, Ring, Rounds, Seed, Spin,
    Toggles, TrialTime, VmmSpec, said,
};
use crate::policy::Choice;
use crate::protocol::Protocol;
use crate::units::Rate;

/// An experiment: which cells, which trials, how long.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a benchmark with `throughput`, `rr` or both")]
pub struct BenchSpec {
    /// From keys of the file, such as `optimizations.csb`, to the values they take in turn; all
    /// combinations are cells.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Vec<Scalar>>")]
    pub matrix: Named<Vec<Option<Scalar>>>,
    /// Cells of their own, by name: the lab with some changes.
    #[serde(default)]
    pub cells: Named<CellSpec>,
    /// Steps, each with the changes of those before and its own: keys of the file and their values, and
    /// perhaps a `name`.
    #[serde(default)]
    #[schemars(with = "Vec<BTreeMap<String, Scalar>>")]
    pub ladder: Vec<Option<StepSpec>>,
    /// The cell that the others are compared with.
    pub reference: Option<String>,
    /// How many packets arrive.
    pub throughput: Option<ThroughputSpec>,
    /// How long until an answer is back, one request at a time.
    pub rr: Option<RrSpec>,
    /// How often each cell is measured, at most.
    pub rounds: Option<Rounds>,
    /// Time for the whole benchmark; it ends early rather than late.
    pub budget: Option<Budget>,
    /// Decides the order of trials, which is a new one each time without it.
    pub seed: Option<Seed>,
    /// What `labctl bench --quick` does instead.
    #[serde(default)]
    pub quick: QuickSpec,
    /// What the results must fulfil, such as `loss = 0`; else `labctl bench` exits with code 1.
    #[serde(default)]
    #[schemars(with = "Vec<AssertSpec>")]
    pub assert: Vec<Option<AssertSpec>>,
}

/// Keys of the file and the values they get.
pub type Changes = Named<Option<Scalar>>;

/// A step of the ladder: changes beside those of the steps before, and perhaps a `name`.
pub type StepSpec = Changes;

/// The value of a key that is not looked into yet: the key says what it may be.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar(pub Value);

/// A cell of its own, beside those of the matrix: the lab with these changes.
///
/// `cells.rs` takes them from the tree, as it does for keys of any kind; here they get their types.
#[expect(dead_code, reason = "declared for their types")]
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping of changes to the lab, such as { vmm: qemu }")]
pub struct CellSpec {
    /// What runs the guests.
    pub vmm: Option<VmmSpec>,
    /// With `vmm: qemu`: the model of all NICs.
    pub nic: Option<NicModelSpec>,
    /// With `vmm: qemu`: what connects its NICs.
    pub link: Option<LinkSpec>,
    /// Which threads of labctl move the frames.
    pub policy: Option<Choice>,
    /// The optimizations of the lab that are other ones in this cell.
    #[serde(default)]
    pub optimizations: Toggles,
    /// The ring of every guest.
    pub ring: Option<Ring>,
    /// How long every guest polls before it halts.
    pub spin: Option<Spin>,
    /// Changes to `bench.throughput`.
    #[serde(default)]
    pub throughput: CellThroughputSpec,
    /// Changes to `bench.rr`.
    #[serde(default)]
    pub rr: CellRrSpec,
    /// Any other keys of the file, such as `guests.left.memory`, and their values.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Scalar>")]
    pub set: Changes,
    /// The only kind of trial for this cell.
    pub only: Option<TrialName>,
}

/// What a cell changes of `bench.throughput`.
#[expect(dead_code, reason = "declared for their types")]
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "changes to `bench.throughput`, such as { frame: 1514 }")]
pub struct CellThroughputSpec {
    /// What is sent.
    pub protocol: Option<Protocol>,
    /// Bytes in a frame without its CRC, 60 to 1514; with TCP, 82 to 1514.
    pub frame: Option<FrameSize>,
    /// Packets handed to the driver at once, 1 to 512 and at most the ring.
    pub burst: Option<Burst>,
    /// How many of the pairs take part; the guests of the others are not started.
    pub pairs: Option<Pairs>,
}

/// What a cell changes of `bench.rr`.
#[expect(dead_code, reason = "declared for their types")]
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "changes to `bench.rr`, such as { frame: 1514 }")]
pub struct CellRrSpec {
    /// Bytes in a frame without its CRC, 60 to 1514.
    pub frame: Option<FrameSize>,
}

/// A kind of trial.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum TrialName {
    /// How many packets arrive.
    Throughput,
    /// How long until an answer is back.
    Rr,
}

/// One guest sends, another counts; `also` others.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a trial, such as { from: left, to: right }")]
pub struct ThroughputSpec {
    /// The guest that sends.
    #[serde(default, deserialize_with = "said")]
    #[schemars(!default, with = "String")]
    pub from: Option<String>,
    /// The guest that counts what arrives.
    #[serde(default, deserialize_with = "said")]
    #[schemars(!default, with = "String")]
    pub to: Option<String>,
    /// Further pairs that do the same at the same time; no guest is in two.
    #[serde(default)]
    #[schemars(with = "Vec<PairSpec>")]
    pub also: Vec<Option<PairSpec>>,
    /// How many of the pairs take part; the guests of the others are not started.
    pub pairs: Option<Pairs>,
    /// What is sent.
    pub protocol: Option<Protocol>,
    /// Bytes in a frame without its CRC, 60 to 1514; with TCP, 82 to 1514.
    pub frame: Option<FrameSize>,
    /// Packets handed to the driver at once, 1 to 512 and at most the ring.
    pub burst: Option<Burst>,
    /// Packets per second, such as 100kpps; 0 is as fast as it goes.
    pub rate: Option<Rate>,
    /// Length of a trial.
    pub duration: Option<TrialTime>,
}

/// Two more guests that do what a trial says.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "two guests, such as { from: left, to: right }")]
pub struct PairSpec {
    /// The guest that sends.
    #[serde(default, deserialize_with = "said")]
    #[schemars(!default, with = "String")]
    pub from: Option<String>,
    /// The guest that counts what arrives.
    #[serde(default, deserialize_with = "said")]
    #[schemars(!default, with = "String")]
    pub to: Option<String>,
}

/// One guest asks, another answers, one request at a time.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a trial, such as { from: left, to: right }")]
pub struct RrSpec {
    /// The guest that asks.
    #[serde(default, deserialize_with = "said")]
    #[schemars(!default, with = "String")]
    pub from: Option<String>,
    /// The guest that answers.
    #[serde(default, deserialize_with = "said")]
    #[schemars(!default, with = "String")]
    pub to: Option<String>,
    /// Bytes in a frame without its CRC, 60 to 1514.
    pub frame: Option<FrameSize>,
    /// Length of a trial.
    pub duration: Option<TrialTime>,
}

/// What `bench --quick` does instead.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `rounds`, `duration` and `budget`")]
pub struct QuickSpec {
    /// How often each cell is measured, at most.
    pub rounds: Option<Rounds>,
    /// Length of every trial.
    pub duration: Option<TrialTime>,
    /// Time for the whole benchmark.
    pub budget: Option<Budget>,
}

/// What the results must fulfil: a comparison, alone or with a name.
#[derive(Debug)]
pub struct AssertSpec {
    pub that: String,
    pub name: Option<String>,
    /// Whether the comparison is the item itself, not its key `that`.
    pub bare: bool,
}

/// An assertion in its long form.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AssertKeys {
    /// The comparison.
    that: String,
    /// What it is called in reports.
    name: Option<String>,
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor).map(Scalar)
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a single value: a number, a word, true or false")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
}

impl<'de> Deserialize<'de> for AssertSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AssertVisitor)
    }
}

struct AssertVisitor;

impl<'de> Visitor<'de> for AssertVisitor {
    type Value = AssertSpec;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an assertion, such as loss = 0 or { that: loss = 0, name: lossless }")
    }

    fn visit_str<E: Error>(self, that: &str) -> Result<AssertSpec, E> {
        Ok(AssertSpec { that: that.to_owned(), name: None, bare: true })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AssertSpec, A::Error> {
        let AssertKeys { that, name } = AssertKeys::deserialize(MapAccessDeserializer::new(map))?;
        Ok(AssertSpec { that, name, bare: false })
    }
}

impl JsonSchema for Scalar {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Value".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"] })
    }
}

impl JsonSchema for AssertSpec {
    fn schema_name() -> Cow<'static, str> {
        "AssertSpec".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A comparison, such as `loss = 0`, or a mapping.",
            "anyOf": [{ "type": "string" }, generator.subschema_for::<AssertKeys>()],
        })
    }
}
