//! What is measured: cells, trials, and what must come out.

use std::time::Duration;

use serde::Serialize;

use super::{Action, Assertion, CableId, Guest, Lab, Role, time_as_text};
use crate::protocol::Protocol;
use crate::results::{CellId, Setting, TrialKind};

/// An experiment over the lab.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bench {
    /// Axes; all combinations of their values are cells.
    pub matrix: Vec<Axis>,
    /// The matrix's cells in table order, the ladder's, and those of their own; at least one.
    pub cells: Vec<Cell>,
    /// The steps of the file's ladder, if it has one.
    pub ladder: Vec<Step>,
    /// Name of the cell that the others are compared with.
    pub reference: Option<String>,
    /// How throughput is measured, if it is; this or `rr` is present.
    pub throughput: Option<TrialSpec>,
    /// How request/response latency is measured, if it is.
    pub rr: Option<TrialSpec>,
    /// How often each cell is measured, at most.
    pub rounds: u32,
    /// Time for the whole benchmark; it ends early rather than late.
    #[serde(serialize_with = "time_as_text")]
    pub budget: Duration,
    /// Decides the order of trials; a random one does if there is none.
    pub seed: Option<u32>,
    /// What `--quick` does instead.
    pub quick: Quick,
    /// What the results must fulfil.
    pub assertions: Vec<Assertion>,
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
    /// The key it varies, as the file has it.
    pub key: String,
    /// The values it takes, at least one, all different.
    pub values: Vec<Setting>,
}

/// One cell of an experiment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// What tells it from the others.
    #[serde(flatten)]
    pub id: CellId,
    /// The only kind of trial to run, if not all.
    pub only: Option<TrialKind>,
    /// The lab with the cell's values, its trials included; the experiment's cells are not repeated.
    #[serde(skip)]
    pub lab: Lab,
}

/// One step of a ladder.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// What it adds, or its name if it has one.
    pub label: String,
    /// Its cell; an index into [`Bench::cells`].
    pub cell: usize,
}

/// Two guests of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// The guest that sends or asks; an index into [`Lab::guests`](super::Lab::guests).
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
    /// The trial of a kind, if there is one.
    pub fn trial(&self, kind: TrialKind) -> Option<&TrialSpec> {
        match kind {
            TrialKind::Throughput => self.throughput.as_ref(),
            TrialKind::Rr => self.rr.as_ref(),
        }
    }
}

impl Cell {
    /// The cell's trial of a kind, if it has one.
    pub fn trial(&self, kind: TrialKind) -> Option<&TrialSpec> {
        let wanted = self.only.is_none_or(|only| only == kind);
        self.lab.bench.as_ref().filter(|_| wanted).and_then(|bench| bench.trial(kind))
    }
}

impl Lab {
    /// Keeps the first `count` pairs of the throughput trial, and takes the guests of the others out.
    pub fn keep_pairs(&mut self, count: usize) {
        let Some(bench) = &mut self.bench else { return };
        let Some(trial) = &mut bench.throughput else { return };
        let left_out: Vec<_> = trial.pairs().skip(count).flat_map(Pair::guests).collect();
        if left_out.is_empty() {
            return;
        }
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
        self.events.retain_mut(|event| match &mut event.action {
            Action::Restart { guest }
            | Action::Plug { cable: CableId::Nic { guest, .. }, .. }
            | Action::Impair { cable: CableId::Nic { guest, .. }, .. } => {
                let is_there = stays.contains(guest);
                now(guest);
                is_there
            }
            Action::Plug { .. } | Action::Impair { .. } => true,
        });
        // What they do outside of trials may be about guests that are gone.
        let pktguests = self.guests.iter_mut().filter_map(Guest::pktguest_mut);
        pktguests.for_each(|guest| guest.workload.role = Role::Idle);
    }
}
