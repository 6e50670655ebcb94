//! The result document: what `labctl bench` measured, on which host, and what follows from it.
//!
//! `results.json` is canonical. Every table, chart and comparison is rendered from this document
//! alone, so what is not in here cannot be reported. Times are nanoseconds or microseconds as the
//! names say; rates are per second; a frame's length excludes the CRC.

mod assertions;
mod file;
mod host;
mod layout;
mod timestamp;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use vmm_core::policy::Policy;

pub use crate::optimizations::{Optimization, Optimizations};
pub use crate::platform::{Link, NicModel, Platform, Vmm};
pub use crate::protocol::Protocol;
pub use assertions::{Assertion, Check, Figure, Verdict};
pub use file::ReadError;
pub use host::Host;
pub use layout::to_json;
pub use timestamp::{rfc3339, rfc3339_ms};

/// Version of the document's shape. It grows when a key changes its meaning or goes away;
/// new keys alone do not change it.
pub const SCHEMA_VERSION: u32 = 1;

/// The coverage that intervals aim at.
pub const CONFIDENCE: f64 = 0.95;

/// A whole benchmark run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// [`SCHEMA_VERSION`] of the writer.
    pub schema_version: u32,
    /// The program that measured, `labctl`; each cell says what ran its guests.
    pub vmm: String,
    /// What was measured.
    pub lab: Lab,
    /// Where it was measured.
    pub host: Host,
    /// Seed of the order in which trials ran; below 2^53, so that every JSON reader keeps it.
    pub seed: u64,
    /// Start of the run, RFC 3339, UTC.
    pub started: String,
    /// Wall-clock length of the run in seconds.
    pub duration_s: f64,
    /// False if the run was interrupted and the figures rest on fewer rounds than planned.
    pub complete: bool,
    /// The parameters of the trials.
    pub settings: Settings,
    /// One entry per cell: the combinations of the matrix, then the cells with names.
    pub cells: Vec<Cell>,
    /// Name of the cell that those with names are compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// What each optimization, and each pair of them, changes.
    pub effects: Vec<Effect>,
    /// The lab file's ladder, or the paper's: one more optimization on every rung.
    pub ladder: Vec<Rung>,
    /// What the lab file asserts, and what came of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assertions: Vec<Assertion>,
}

/// The lab file that was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lab {
    /// The lab's name.
    pub name: String,
    /// The file's path as the user gave it; `-` for standard input.
    pub file: String,
    /// The file's length in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// How trials were run. What an axis of the matrix varies is given as the lab file has it outside
/// the matrix; each cell's `parameters` say what it was there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Descriptors in each transmit and receive ring of the guest that sends.
    pub ring: u16,
    /// Throughput trials, if there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput: Option<TrialSettings>,
    /// Request/response trials, if there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rr: Option<TrialSettings>,
    /// Time the run was allowed to take, in seconds.
    pub budget_s: f64,
    /// Measured rounds that were completed. In a round every cell is tried once.
    pub rounds: u32,
    /// Trials that ran first, to warm the host up, and whose results were dropped.
    pub warm_up_trials: usize,
    /// [`CONFIDENCE`]; each interval also says which coverage it reached.
    pub confidence: f64,
}

impl Settings {
    /// Frame length in a cell's trials of a kind, in bytes without CRC; `None` without such trials.
    pub fn frame(&self, kind: TrialKind, cell: &CellId) -> Option<u64> {
        let trial = match kind {
            TrialKind::Throughput => self.throughput.as_ref(),
            TrialKind::Rr => self.rr.as_ref(),
        };
        let own = cell.parameters.get(&format!("{kind}.frame"));
        let own = own.and_then(|setting| setting.number());
        trial.map(|trial| own.unwrap_or_else(|| trial.frame.into()))
    }
}

/// Parameters of one kind of trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialSettings {
    /// The guest that sends or asks.
    pub from: String,
    /// The guest that receives or answers.
    pub to: String,
    /// How many such pairs there are; all do the same at the same time. A cell may have fewer.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub pairs: usize,
    /// What was sent.
    #[serde(default, skip_serializing_if = "Protocol::is_raw")]
    pub protocol: Protocol,
    /// Frame length in bytes, without CRC.
    pub frame: u16,
    /// Packets the workload hands to its driver per call.
    pub burst: u16,
    /// Offered packets per second, 0 for as fast as possible.
    pub rate: u64,
    /// Length of a trial in milliseconds.
    pub duration_ms: u64,
}

fn one() -> usize {
    1
}

fn is_one(count: &usize) -> bool {
    *count == 1
}

/// Values of a matrix's axes other than the optimizations, by key, as in `ring`.
pub type Parameters = BTreeMap<String, Setting>;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Setting {
    /// On or off.
    Toggle(bool),
    /// A number.
    Number(u64),
    /// Anything else, as the lab file has it.
    Text(String),
}

impl Setting {
    /// The number, if it is one.
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Toggle(_) | Self::Text(_) => None,
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Toggle(on) => f.pad(if *on { "on" } else { "off" }),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.pad(text),
        }
    }
}

/// What tells a cell from the others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CellId {
    /// Its name, if the lab file gives it one; those of the matrix have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What its guests ran on.
    #[serde(flatten)]
    pub platform: Platform,
    /// The optimizations that were on.
    pub optimizations: Optimizations,
    /// What its throughput trials sent.
    #[serde(default, skip_serializing_if = "Protocol::is_raw")]
    pub protocol: Protocol,
    /// The other settings that are its own, if any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: Parameters,
}

/// The name, or optimizations and parameters, as in `itr+csb, ring 256`.
impl fmt::Display for CellId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => {
                write!(f, "{}", self.optimizations)?;
                self.parameters.iter().try_for_each(|(key, value)| write!(f, ", {key} {value}"))
            }
        }
    }
}

/// One cell and all that was measured of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// What tells it from the others.
    #[serde(flatten)]
    pub id: CellId,
    /// Which threads of labctl moved its frames; absent if another VMM's did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// Why it was not measured on this host, if so. That is no failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// Figures over all valid trials.
    pub metrics: Metrics,
    /// How it compares with the reference, if there is one and it is not this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_reference: Option<ToReference>,
    /// True if every trial accounted for every packet.
    pub conserved: bool,
    /// Every trial, in the order they ran, void ones included.
    pub samples: Vec<Sample>,
}

/// A cell's figures over those of the reference. In every round both were measured once; the ratio is
/// the median over rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToReference {
    /// Of packets per second; absent if the packets differ in length or protocol.
    pub throughput: Option<Ratio>,
    /// Of the median request/response times; below 1 is faster.
    pub rr: Option<Ratio>,
}

impl Cell {
    /// Why this cell lacks a figure: the reason of the first void trial of a kind that has no
    /// valid one.
    pub fn void_reason(&self) -> Option<&str> {
        let of = |kind| self.samples.iter().filter(move |s| s.kind == kind);
        let void = |&kind: &TrialKind| of(kind).all(|s| !s.is_valid());
        let reason = |kind| of(kind).find_map(|s| s.void_reason.as_deref());
        if self.skipped.is_some() {
            return None;
        }
        if self.samples.is_empty() {
            return Some("no trial was completed");
        }
        TrialKind::ALL.into_iter().filter(void).find_map(reason)
    }

    /// Whether it is one of the matrix, whose cells differ in the axes' values alone.
    pub fn is_factorial(&self) -> bool {
        self.id.name.is_none()
    }
}

/// A cell's figures. Those per packet, per second and per batch come from throughput trials, as
/// the ratio of sums over all valid ones; they are absent if there was none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Millions of packets per second that arrived, over trials.
    pub throughput_mpps: Option<Estimate>,
    /// Gigabits of payload per second that sockets delivered, over trials; absent without sockets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goodput_gbps: Option<Estimate>,
    /// Jain's index of fairness between pairs, median over trials: 1 if all got the same, 1/n if one
    /// of n got everything; absent with a single pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jain: Option<f64>,
    /// Request/response time in microseconds.
    pub rr_us: Option<RoundTrip>,
    /// VM exits of all guests per packet received; absent if another VMM does not tell.
    pub exits_per_packet: Option<f64>,
    /// The same by kind of exit.
    pub exits_per_packet_by_kind: BTreeMap<String, f64>,
    /// Interrupts all guests took, per second.
    pub interrupts_per_s: Option<f64>,
    /// Interrupts all guests took, per packet received.
    pub interrupts_per_packet: Option<f64>,
    /// Packets per batch that reached a receiver.
    pub mean_batch: Option<f64>,
    /// Packets dropped in all valid throughput trials.
    pub drops: u64,
    /// Dropped packets as a fraction of those sent, 0 to 1.
    pub drop_ratio: Option<f64>,
    /// Packets lost where nobody counts, in all valid throughput trials: inside another VMM.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
    /// Lost packets as a fraction of those sent, 0 to 1; absent if none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_ratio: Option<f64>,
    /// The dropped packets by place and cause, most frequent first.
    pub drops_by_cause: Vec<Drop>,
    /// TDT register writes per packet received.
    pub tdt_writes_per_packet: Option<f64>,
    /// Doorbell writes of both rings, TDT and RDT, per packet received.
    pub kicks_per_packet: Option<f64>,
    /// TAP system calls per packet received.
    pub tap_syscalls_per_packet: Option<f64>,
    /// CPU time of the whole process per packet received, in microseconds.
    pub cpu_us_per_packet: Option<f64>,
    /// VM exits of all guests per request/response transaction.
    pub rr_exits_per_transaction: Option<f64>,
    /// Interrupts all guests took per request/response transaction.
    pub rr_interrupts_per_transaction: Option<f64>,
}

/// A median with its confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Median over trials.
    pub median: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Number of trials.
    pub samples: usize,
    /// Probability that such an interval contains the true median, 0 to 1.
    pub coverage: f64,
}

/// Request/response times in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundTrip {
    /// Median over trials of each trial's median.
    pub median: f64,
    /// Median over trials of each trial's 99th percentile.
    pub p99: f64,
    /// Lower end of the median's interval.
    pub low: f64,
    /// Upper end of the median's interval.
    pub high: f64,
    /// Number of trials.
    pub samples: usize,
    /// Probability that such an interval contains the true median, 0 to 1.
    pub coverage: f64,
}

impl RoundTrip {
    /// The median and its interval.
    pub fn estimate(&self) -> Estimate {
        let RoundTrip { median, low, high, samples, coverage, .. } = *self;
        Estimate { median, low, high, samples, coverage }
    }
}

/// What a trial measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrialKind {
    /// Unlimited load; packets that arrive are counted.
    Throughput,
    /// One request at a time; the time until its response is measured.
    Rr,
}

impl TrialKind {
    /// Both kinds.
    pub const ALL: [TrialKind; 2] = [Self::Throughput, Self::Rr];
}

impl fmt::Display for TrialKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Throughput => "throughput",
            Self::Rr => "rr",
        })
    }
}

/// One trial's raw figures, summed over its guests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// What was measured.
    pub kind: TrialKind,
    /// The round it belongs to, from 1.
    pub round: u32,
    /// Its position in the run, from 0; warm-up trials hold the first positions.
    pub order: u32,
    /// Length of the measured window in nanoseconds: first to last packet or transaction; with
    /// several pairs from plugging in to the last sender's report.
    pub elapsed_ns: u64,
    /// Packets sent; in an `rr` trial, requests; with TCP, records of one segment's length.
    pub sent: u64,
    /// Packets received by the workload, each counted once; in an `rr` trial, answered requests.
    pub received: u64,
    /// Copies that impaired cables made of packets.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub duplicated: u64,
    /// Packets that the workload received again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub repeated: u64,
    /// Millions of packets received per second by each pair, in its own time and the file's order;
    /// empty with a single pair.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub per_pair_mpps: Vec<f64>,
    /// Bytes that the workload got from its socket; absent if it uses none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_bytes: Option<u64>,
    /// Packets dropped: the sum over `drops`. TCP sends what was dropped again: it drops none.
    pub dropped: u64,
    /// Where and why packets were dropped.
    pub drops: Vec<Drop>,
    /// Packets that are missing in sequence and that nobody counted: another VMM keeps to itself
    /// what it drops.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
    /// True if `sent + duplicated = received + repeated + dropped`.
    pub conserved: bool,
    /// Why this trial does not count, if so. One in which nothing arrived is void too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub void_reason: Option<String>,
    /// Transaction times of an `rr` trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// What guests, devices and backends counted.
    pub counters: Counters,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Sample {
    /// A trial in which nothing has been counted yet.
    pub fn new(kind: TrialKind, round: u32, order: u32) -> Self {
        Self {
            kind,
            round,
            order,
            elapsed_ns: 0,
            sent: 0,
            received: 0,
            duplicated: 0,
            repeated: 0,
            per_pair_mpps: Vec::new(),
            payload_bytes: None,
            dropped: 0,
            drops: Vec::new(),
            lost: 0,
            conserved: false,
            void_reason: None,
            latency: None,
            counters: Counters::default(),
        }
    }

    /// Does it count?
    pub fn is_valid(&self) -> bool {
        self.void_reason.is_none()
    }

    /// Is every packet accounted for?
    pub fn adds_up(&self) -> bool {
        let known: u64 = self.drops.iter().map(|d| d.frames).sum();
        let sum =
            |counts: &[u64]| counts.iter().try_fold(0, |sum: u64, count| sum.checked_add(*count));
        let arrived = sum(&[self.received, self.repeated, self.dropped]);
        known == self.dropped && arrived.is_some() && arrived == sum(&[self.sent, self.duplicated])
    }

    /// Gigabits of payload received per second; `None` if nothing arrived, or not through sockets.
    pub fn goodput_gbps(&self) -> Option<f64> {
        let bytes = self.payload_bytes.filter(|bytes| *bytes > 0 && self.elapsed_ns > 0)?;
        Some(bytes as f64 * 8.0 / self.elapsed_ns as f64)
    }

    /// Jain's index of fairness between pairs: (sum of x)² / (n · sum of x²) of what they received;
    /// `None` with a single pair, or if nothing arrived.
    ///
    /// R. Jain, D. Chiu, W. Hawe: "A quantitative measure of fairness", DEC-TR-301, 1984.
    pub fn jain(&self) -> Option<f64> {
        let sum: f64 = self.per_pair_mpps.iter().sum();
        let squares: f64 = self.per_pair_mpps.iter().map(|mpps| mpps * mpps).sum();
        (squares > 0.0).then(|| sum * sum / (self.per_pair_mpps.len() as f64 * squares))
    }

    /// Millions of packets received per second; `None` if nothing arrived.
    pub fn mpps(&self) -> Option<f64> {
        (self.received > 0 && self.elapsed_ns > 0)
            .then(|| self.received as f64 * 1e3 / self.elapsed_ns as f64)
    }
}

/// Frames dropped at one place for one cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drop {
    /// A NIC, switch port or queue, as in `sw0:1` or `rx.nic0`.
    pub place: String,
    /// The cause, as in `ring full`.
    pub cause: String,
    /// How many.
    pub frames: u64,
}

/// Times of one trial's transactions in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it all")]
pub struct Latency {
    pub min_ns: u64,
    pub mean_ns: u64,
    pub p50_ns: u64,
    pub p90_ns: u64,
    pub p99_ns: u64,
    pub p999_ns: u64,
    pub max_ns: u64,
}

/// Counters over one whole trial, read outside the measured window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// VM exits by kind, as in `mmio_write`.
    pub exits: BTreeMap<String, u64>,
    /// Writes to TDT.
    pub tdt_writes: u64,
    /// Writes to RDT.
    pub rdt_writes: u64,
    /// Interrupts the guests took.
    pub interrupts: u64,
    /// Doorbell writes of both rings, TDT and RDT.
    pub kicks: u64,
    /// Times a guest went to sleep.
    pub halts: u64,
    /// Batches of frames that reached a receiver.
    pub batches: u64,
    /// Frames in those batches.
    pub batch_frames: u64,
    /// Reads and writes of TAP devices.
    pub tap_syscalls: u64,
    /// CPU time of the whole process in nanoseconds.
    pub cpu_ns: u64,
}

impl Counters {
    /// VM exits of all kinds.
    pub fn total_exits(&self) -> u64 {
        self.exits.values().sum()
    }
}

/// A ratio with its confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// The ratio; 1 means no change.
    pub ratio: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Coverage of the weakest interval it was derived from, 0 to 1.
    pub coverage: f64,
}

impl Ratio {
    /// Does the interval leave out 1?
    pub fn is_significant(&self) -> bool {
        self.low > 1.0 || self.high < 1.0
    }
}

/// What one optimization changes, or by how much two of them change each other's effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// One optimization: its main effect. Two: their interaction.
    pub of: Vec<Optimization>,
    /// The other axes' values to which it applies, if the matrix has such axes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: Parameters,
    /// Throughput with it over throughput without, as geometric mean over all settings of the
    /// other optimizations. For two: the first one's ratio with the second on, over its ratio
    /// with the second off.
    pub throughput: Option<Ratio>,
    /// The same of the median request/response time; below 1 is faster.
    pub rr: Option<Ratio>,
    /// Throughput ratio when every other optimization is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alone: Option<Ratio>,
    /// Throughput ratio when every other optimization is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Ratio>,
}

/// One rung of the ladder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rung {
    /// `none`, then `+itr`, `+sc`, `+csb`, `+vale`; in the lab file's ladder what it says.
    pub step: String,
    /// Name of the cell, if it is a step of the lab file's ladder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cell: Option<String>,
    /// All that is on here.
    pub optimizations: Optimizations,
    /// The other axes' values to which it applies, if the matrix has such axes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: Parameters,
    /// Throughput in Mpps.
    pub throughput_mpps: Option<Estimate>,
    /// Request/response time in microseconds.
    pub rr_us: Option<RoundTrip>,
    /// Throughput over that of the rung before.
    pub to_previous: Option<Ratio>,
    /// Throughput over that of the lowest rung.
    pub to_first: Option<Ratio>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Sample {
        Sample {
            elapsed_ns: 1_000_000,
            sent: 100,
            received: 90,
            dropped: 10,
            drops: vec![Drop { place: "sw0:1".into(), cause: "ring full".into(), frames: 10 }],
            conserved: true,
            ..Sample::new(TrialKind::Throughput, 1, 0)
        }
    }

    #[test]
    fn fairness_is_between_one_nth_and_one() {
        let jain = |per_pair_mpps: &[f64]| {
            Sample { per_pair_mpps: per_pair_mpps.to_vec(), ..sample() }.jain()
        };
        assert_eq!(jain(&[3.0, 3.0, 3.0, 3.0]), Some(1.0));
        assert_eq!(jain(&[3.0, 0.0, 0.0, 0.0]), Some(0.25));
        assert_eq!(jain(&[1.0, 3.0]), Some(0.8));
        assert_eq!((jain(&[]), jain(&[0.0, 0.0])), (None, None));
    }

    #[test]
    fn a_trial_adds_up_only_with_every_drop_explained() {
        let mut sample = sample();
        assert!(sample.adds_up());
        assert_eq!(sample.mpps(), Some(0.09));
        sample.drops[0].frames = 9;
        assert!(!sample.adds_up(), "a drop without a cause");
        sample.drops[0].frames = 10;
        sample.received = 91;
        assert!(!sample.adds_up(), "a packet out of nowhere");
        (sample.received, sample.repeated, sample.duplicated) = (90, 1, 2);
        assert!(!sample.adds_up(), "a copy that has vanished");
        sample.duplicated = 1;
        assert!(sample.adds_up());
        sample.received = u64::MAX;
        assert!(!sample.adds_up(), "must not overflow");
    }
}
