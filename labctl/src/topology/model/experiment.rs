//! What is measured: cells, trials, and how a cell changes the lab.

use std::{fmt, time::Duration};

use serde::Serialize;

use super::{Guest, Lab, Qemu, Role, time_as_text};
use crate::optimizations::Optimizations;
use crate::policy::Choice;
use crate::protocol::Protocol;
use crate::results::{Setting, TrialKind};

/// An experiment over the lab: a factorial one, cells of their own, or both.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bench {
    /// Axes; cells are all combinations of their values. No axes mean one cell, unless there are
    /// named ones.
    pub matrix: Vec<Axis>,
    /// Cells of their own, in the file's order.
    pub cells: Vec<NamedCell>,
    /// The one of them that the others are compared with; an index.
    pub reference: Option<usize>,
    /// How throughput is measured, if it is; this or `rr` is present.
    pub throughput: Option<TrialSpec>,
    /// How request/response latency is measured, if it is.
    pub rr: Option<TrialSpec>,
    /// How often each cell is measured, at most.
    pub rounds: u32,
    /// Time for the whole benchmark; it ends early rather than late.
    #[serde(serialize_with = "time_as_text")]
    pub budget: Duration,
    /// What `--quick` does instead.
    pub quick: Quick,
}

/// The short form of an experiment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quick {
    /// Replaces [`Bench::rounds`].
    pub rounds: u32,
    /// Replaces [`Bench::budget`].
    #[serde(serialize_with = "time_as_text")]
    pub budget: Duration,
    /// Replaces every trial's duration.
    #[serde(serialize_with = "time_as_text")]
    pub duration: Duration,
}

/// One axis of the matrix.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Axis {
    /// What is varied.
    pub key: AxisKey,
    /// The values it takes, at least one, all different and of the key's type.
    pub values: Vec<AxisValue>,
}

/// A cell of its own: the lab with these changes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NamedCell {
    /// Name, `[a-z0-9-]{1,32}`.
    pub name: String,
    /// How QEMU runs the guests, if it does.
    pub qemu: Option<Qemu>,
    /// The optimizations that are on.
    pub optimizations: Optimizations,
    /// Replaces the lab's policy.
    pub policy: Option<Choice>,
    /// Replaces every guest's ring.
    pub ring: Option<u16>,
    /// Replaces every guest's time to poll before it halts, in microseconds.
    pub spin_us: Option<u32>,
    /// Replaces the protocol of `throughput`.
    pub throughput_protocol: Option<Protocol>,
    /// Replaces the frame length of `throughput`.
    pub throughput_frame: Option<u16>,
    /// Replaces the burst of `throughput`.
    pub throughput_burst: Option<u16>,
    /// How many of the pairs of `throughput` there are; the guests of the others are not.
    pub throughput_pairs: Option<u16>,
    /// Replaces the frame length of `rr`.
    pub rr_frame: Option<u16>,
    /// The only kind of trial to run, if not all.
    pub only: Option<TrialKind>,
}

/// What an axis can vary, named as in the file.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[allow(missing_docs)]
pub enum AxisKey {
    #[serde(rename = "optimizations.itr")]
    Itr,
    #[serde(rename = "optimizations.sc")]
    Sc,
    #[serde(rename = "optimizations.csb")]
    Csb,
    #[serde(rename = "optimizations.vale")]
    Vale,
    #[serde(rename = "policy")]
    Policy,
    /// Every guest's ring.
    #[serde(rename = "ring")]
    Ring,
    #[serde(rename = "throughput.frame")]
    ThroughputFrame,
    #[serde(rename = "throughput.burst")]
    ThroughputBurst,
}

/// One value of an axis: a toggle, a number or a word, as the key demands.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(untagged)]
#[allow(missing_docs)]
pub enum AxisValue {
    Toggle(bool),
    Number(u16),
    Policy(Choice),
}

/// Two guests of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// The guest that sends or asks; an index into [`Lab::guests`].
    pub from: usize,
    /// The guest that receives or answers; another guest on a common switch.
    pub to: usize,
}

/// One kind of trial between two guests, or several pairs of them at once.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrialSpec {
    /// The guests.
    #[serde(flatten)]
    pub pair: Pair,
    /// Further pairs that do the same at the same time; no guest is in two. None for `rr`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Pair>,
    /// What is sent; raw frames for `rr`.
    pub protocol: Protocol,
    /// Bytes in a frame without its CRC, 60 to 1514; with TCP, 82 to 1514.
    pub frame: u16,
    /// Packets handed to the driver per call, 1 to 512 and at most the sender's ring; 1 for `rr`.
    pub burst: u16,
    /// Offered packets per second, 0 for as fast as possible.
    pub rate: u64,
    /// Length of the trial.
    #[serde(serialize_with = "time_as_text")]
    pub duration: Duration,
}

impl TrialSpec {
    /// All pairs, at least one.
    pub fn pairs(&self) -> impl Iterator<Item = Pair> {
        [self.pair].into_iter().chain(self.also.iter().copied())
    }
}

impl Pair {
    /// Its two guests.
    pub fn guests(self) -> [usize; 2] {
        [self.from, self.to]
    }
}

impl Bench {
    /// Whether there are cells from the matrix: without axes that is the lab itself, unless all
    /// cells have names.
    pub fn has_matrix(&self) -> bool {
        !self.matrix.is_empty() || self.cells.is_empty()
    }

    /// How many cells there are.
    pub fn cells(&self) -> usize {
        let combinations: usize = self.matrix.iter().map(|axis| axis.values.len()).product();
        self.cells.len() + if self.has_matrix() { combinations } else { 0 }
    }
}

impl NamedCell {
    /// What it changes besides the optimizations and the protocol, by key.
    pub fn settings(&self) -> impl Iterator<Item = (&'static str, Setting)> {
        let numbers = [
            ("ring", self.ring.map(u64::from)),
            ("spin_us", self.spin_us.map(u64::from)),
            (AxisKey::ThroughputFrame.as_str(), self.throughput_frame.map(u64::from)),
            (AxisKey::ThroughputBurst.as_str(), self.throughput_burst.map(u64::from)),
            ("throughput.pairs", self.throughput_pairs.map(u64::from)),
            ("rr.frame", self.rr_frame.map(u64::from)),
        ];
        let numbers = numbers.map(|(key, number)| (key, number.map(Setting::Number)));
        let policy = (AxisKey::Policy.as_str(), self.policy.map(Setting::Policy));
        [policy].into_iter().chain(numbers).filter_map(|(key, setting)| Some((key, setting?)))
    }
}

impl AxisKey {
    /// The key as written in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Itr => "optimizations.itr",
            Self::Sc => "optimizations.sc",
            Self::Csb => "optimizations.csb",
            Self::Vale => "optimizations.vale",
            Self::Policy => "policy",
            Self::Ring => "ring",
            Self::ThroughputFrame => "throughput.frame",
            Self::ThroughputBurst => "throughput.burst",
        }
    }
}

impl fmt::Display for AxisKey {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for AxisValue {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Toggle(on) => f.pad(if *on { "on" } else { "off" }),
            Self::Number(number) => number.fmt(f),
            Self::Policy(policy) => policy.fmt(f),
        }
    }
}

impl Lab {
    /// Applies all that a cell of its own changes.
    pub fn apply(&mut self, cell: &NamedCell) {
        self.qemu = cell.qemu;
        self.optimizations = cell.optimizations;
        self.policy = cell.policy.unwrap_or(self.policy);
        for pktguest in self.guests.iter_mut().filter_map(Guest::pktguest_mut) {
            pktguest.ring = cell.ring.unwrap_or(pktguest.ring);
            pktguest.spin_us = cell.spin_us.unwrap_or(pktguest.spin_us);
        }
        let Some(bench) = &mut self.bench else { return };
        if let Some(trial) = &mut bench.throughput {
            trial.protocol = cell.throughput_protocol.unwrap_or(trial.protocol);
            trial.frame = cell.throughput_frame.unwrap_or(trial.frame);
            trial.burst = cell.throughput_burst.unwrap_or(trial.burst);
        }
        if let Some(trial) = &mut bench.rr {
            trial.frame = cell.rr_frame.unwrap_or(trial.frame);
        }
        if let Some(pairs) = cell.throughput_pairs {
            self.keep_pairs(pairs.into());
        }
    }

    /// Keeps the first `count` pairs of the throughput trial, and takes the guests of the others out.
    fn keep_pairs(&mut self, count: usize) {
        let Some(bench) = &mut self.bench else { return };
        let Some(trial) = &mut bench.throughput else { return };
        let left_out: Vec<_> = trial.pairs().skip(count).flat_map(Pair::guests).collect();
        trial.also.truncate(count.saturating_sub(1));
        let asked: Vec<_> = bench.rr.iter().flat_map(|trial| trial.pair.guests()).collect();
        let stays: Vec<_> = (0..self.guests.len())
            .filter(|guest| !left_out.contains(guest) || asked.contains(guest))
            .collect();
        let now = |before: &mut usize| {
            *before = stays.iter().position(|guest| guest == before).unwrap_or_default();
        };
        for trial in [&mut bench.throughput, &mut bench.rr].into_iter().flatten() {
            for pair in [&mut trial.pair].into_iter().chain(&mut trial.also) {
                now(&mut pair.from);
                now(&mut pair.to);
            }
        }
        let guests = std::mem::take(&mut self.guests).into_iter().enumerate();
        self.guests =
            guests.filter(|(guest, _)| stays.contains(guest)).map(|(_, guest)| guest).collect();
        // What they do outside of trials may be about guests that are gone.
        let pktguests = self.guests.iter_mut().filter_map(Guest::pktguest_mut);
        pktguests.for_each(|guest| guest.workload.role = Role::Idle);
    }

    /// Applies one coordinate of a cell. A value of the wrong type cannot come out of a checked
    /// file and changes nothing.
    pub fn set(&mut self, key: AxisKey, value: AxisValue) {
        let throughput = self.bench.as_mut().and_then(|bench| bench.throughput.as_mut());
        match (key, value) {
            (AxisKey::Itr, AxisValue::Toggle(on)) => self.optimizations.itr = on,
            (AxisKey::Sc, AxisValue::Toggle(on)) => self.optimizations.sc = on,
            (AxisKey::Csb, AxisValue::Toggle(on)) => self.optimizations.csb = on,
            (AxisKey::Vale, AxisValue::Toggle(on)) => self.optimizations.vale = on,
            (AxisKey::Policy, AxisValue::Policy(policy)) => self.policy = policy,
            (AxisKey::Ring, AxisValue::Number(ring)) => {
                let pktguests = self.guests.iter_mut().filter_map(Guest::pktguest_mut);
                pktguests.for_each(|guest| guest.ring = ring);
            }
            (AxisKey::ThroughputFrame, AxisValue::Number(frame)) => {
                throughput.into_iter().for_each(|trial| trial.frame = frame);
            }
            (AxisKey::ThroughputBurst, AxisValue::Number(burst)) => {
                throughput.into_iter().for_each(|trial| trial.burst = burst);
            }
            _ => {}
        }
    }
}
