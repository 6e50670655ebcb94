//! The `bench` section: what is measured, in which cells, and what must come out.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_yaml::Value;

use super::{
    Budget, Burst, FrameSize, LinkSpec, Named, NicModelSpec, Pairs, Ring, Rounds, Seed, Spin,
    Toggles, TrialTime, VmmSpec,
};
use crate::policy::Choice;
use crate::protocol::Protocol;
use crate::topology::units::Rate;

/// An experiment: which cells, which trials, how long.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a benchmark with `throughput`, `rr` or both")]
pub struct BenchSpec {
    /// From keys of the file to the values they take in turn; all combinations are cells.
    #[serde(default)]
    pub matrix: Named<Vec<Option<Scalar>>>,
    #[serde(default)]
    pub cells: Named<CellSpec>,
    /// `None` items are those that decoding set aside.
    #[serde(default)]
    pub ladder: Vec<Option<StepSpec>>,
    pub reference: Option<String>,
    pub throughput: Option<ThroughputSpec>,
    pub rr: Option<RrSpec>,
    pub rounds: Option<Rounds>,
    pub budget: Option<Budget>,
    pub seed: Option<Seed>,
    #[serde(default)]
    pub quick: QuickSpec,
    #[serde(default)]
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
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping of changes to the lab, such as { vmm: qemu }")]
pub struct CellSpec {
    pub vmm: Option<VmmSpec>,
    pub nic: Option<NicModelSpec>,
    pub link: Option<LinkSpec>,
    pub policy: Option<Choice>,
    #[serde(default)]
    pub optimizations: Toggles,
    pub ring: Option<Ring>,
    pub spin: Option<Spin>,
    #[serde(default)]
    pub throughput: CellThroughputSpec,
    #[serde(default)]
    pub rr: CellRrSpec,
    /// Any other key.
    #[serde(default)]
    pub set: Changes,
    pub only: Option<TrialName>,
}

/// What a cell changes of `bench.throughput`.
#[expect(dead_code, reason = "declared for their types")]
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "changes to `bench.throughput`, such as { frame: 1514 }")]
pub struct CellThroughputSpec {
    pub protocol: Option<Protocol>,
    pub frame: Option<FrameSize>,
    pub burst: Option<Burst>,
    pub pairs: Option<Pairs>,
}

/// What a cell changes of `bench.rr`.
#[expect(dead_code, reason = "declared for their types")]
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "changes to `bench.rr`, such as { frame: 1514 }")]
pub struct CellRrSpec {
    pub frame: Option<FrameSize>,
}

/// A kind of trial.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum TrialName {
    Throughput,
    Rr,
}

/// One guest sends, another counts; `also` others.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a trial, such as { from: left, to: right }")]
pub struct ThroughputSpec {
    pub from: String,
    pub to: String,
    /// `None` items are those that decoding set aside.
    #[serde(default)]
    pub also: Vec<Option<PairSpec>>,
    /// How many of the pairs take part; the guests of the others are not started.
    pub pairs: Option<Pairs>,
    pub protocol: Option<Protocol>,
    pub frame: Option<FrameSize>,
    pub burst: Option<Burst>,
    pub rate: Option<Rate>,
    pub duration: Option<TrialTime>,
}

/// Two more guests that do what a trial says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "two guests, such as { from: left, to: right }")]
pub struct PairSpec {
    pub from: String,
    pub to: String,
}

/// One guest asks, another answers, one request at a time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a trial, such as { from: left, to: right }")]
pub struct RrSpec {
    pub from: String,
    pub to: String,
    pub frame: Option<FrameSize>,
    pub duration: Option<TrialTime>,
}

/// What `bench --quick` does instead.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with `rounds`, `duration` and `budget`")]
pub struct QuickSpec {
    pub rounds: Option<Rounds>,
    pub duration: Option<TrialTime>,
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
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Keys {
            that: String,
            name: Option<String>,
        }
        let Keys { that, name } = Keys::deserialize(MapAccessDeserializer::new(map))?;
        Ok(AssertSpec { that, name, bare: false })
    }
}
