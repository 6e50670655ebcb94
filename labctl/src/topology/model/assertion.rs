//! What the results of an experiment must fulfil.

use serde::Serialize;

use crate::results::TrialKind;

/// A comparison that must hold.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Assertion {
    /// As the file has it.
    pub that: String,
    /// What the file calls it, if it has a name.
    pub name: Option<String>,
    /// Where the file has it: line and column, from 1.
    pub position: (usize, usize),
    /// The cells it holds for in turn, as indices into [`Bench::cells`](super::Bench::cells); `None`
    /// if it names all cells it is about.
    pub each: Option<Vec<usize>>,
    /// What is compared.
    #[serde(skip)]
    pub left: Term,
    /// How.
    #[serde(skip)]
    pub relation: Relation,
    /// With what.
    #[serde(skip)]
    pub right: Term,
    /// The unit of both.
    #[serde(skip)]
    pub unit: Dimension,
}

/// One side of a comparison, or a part of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Term {
    /// A number in basic units: packets per second, seconds, bits per second.
    Number(f64),
    /// A cell's figure.
    Figure(Subject, Metric),
    /// Two terms and what becomes of them.
    Operation(Box<Term>, Operator, Box<Term>),
}

/// Whose figure it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Subject {
    /// That of each cell in turn.
    Each,
    /// Index into [`Bench::cells`](super::Bench::cells).
    Cell(usize),
}

/// What is done with two terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// How two terms are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Relation {
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
}

/// What a number counts: exponents of packets per second, of seconds and of bits per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dimension {
    /// Packets per second.
    pub packets: i8,
    /// Seconds.
    pub time: i8,
    /// Bits per second.
    pub bits: i8,
}

/// A figure of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Metric {
    Throughput,
    Goodput,
    Jain,
    Loss,
    Drops,
    Lost,
    Rr,
    RrMin,
    RrMean,
    RrP50,
    RrP90,
    RrP99,
    RrP999,
    RrMax,
    ExitsPerPacket,
    InterruptsPerSecond,
    InterruptsPerPacket,
    MeanBatch,
    TdtWritesPerPacket,
    KicksPerPacket,
    TapSyscallsPerPacket,
    CpuPerPacket,
    RrExitsPerTransaction,
    RrInterruptsPerTransaction,
}

impl Relation {
    /// As assertions have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Equal => "=",
            Self::GreaterOrEqual => ">=",
            Self::Greater => ">",
        }
    }
}

impl Dimension {
    /// A plain number.
    pub const NONE: Self = Self { packets: 0, time: 0, bits: 0 };
    /// Packets per second.
    pub const PACKETS: Self = Self { packets: 1, ..Self::NONE };
    /// Seconds.
    pub const TIME: Self = Self { time: 1, ..Self::NONE };
    /// Bits per second.
    pub const BITS: Self = Self { bits: 1, ..Self::NONE };

    /// In words.
    pub fn describe(self) -> &'static str {
        match self {
            Self::NONE => "a plain number",
            Self::PACKETS => "packets per second",
            Self::TIME => "a time",
            Self::BITS => "bits per second",
            _ => "a mixture of units",
        }
    }

    /// The basic unit, as result documents have it; empty if it has no name.
    pub fn unit(self) -> &'static str {
        match self {
            Self::PACKETS => "pps",
            Self::TIME => "s",
            Self::BITS => "bit/s",
            _ => "",
        }
    }

    /// That of a product, or of a quotient if `sign` is -1.
    pub fn times(self, other: Self, sign: i8) -> Self {
        let sum = |a: i8, b: i8| a.saturating_add(b.saturating_mul(sign));
        Self {
            packets: sum(self.packets, other.packets),
            time: sum(self.time, other.time),
            bits: sum(self.bits, other.bits),
        }
    }
}

impl Metric {
    /// All of them, with the names that assertions have for them: those of the result document without
    /// units.
    pub const NAMES: [(&'static str, Self); 24] = [
        ("throughput", Self::Throughput),
        ("goodput", Self::Goodput),
        ("jain", Self::Jain),
        ("loss", Self::Loss),
        ("drops", Self::Drops),
        ("lost", Self::Lost),
        ("rr", Self::Rr),
        ("rr.min", Self::RrMin),
        ("rr.mean", Self::RrMean),
        ("rr.p50", Self::RrP50),
        ("rr.p90", Self::RrP90),
        ("rr.p99", Self::RrP99),
        ("rr.p999", Self::RrP999),
        ("rr.max", Self::RrMax),
        ("exits_per_packet", Self::ExitsPerPacket),
        ("interrupts_per_s", Self::InterruptsPerSecond),
        ("interrupts_per_packet", Self::InterruptsPerPacket),
        ("mean_batch", Self::MeanBatch),
        ("tdt_writes_per_packet", Self::TdtWritesPerPacket),
        ("kicks_per_packet", Self::KicksPerPacket),
        ("tap_syscalls_per_packet", Self::TapSyscallsPerPacket),
        ("cpu_per_packet", Self::CpuPerPacket),
        ("rr_exits_per_transaction", Self::RrExitsPerTransaction),
        ("rr_interrupts_per_transaction", Self::RrInterruptsPerTransaction),
    ];

    /// The one that has this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, metric)| metric)
    }

    /// What it counts.
    pub fn dimension(self) -> Dimension {
        match self {
            Self::Throughput => Dimension::PACKETS,
            Self::Goodput => Dimension::BITS,
            Self::Rr
            | Self::RrMin
            | Self::RrMean
            | Self::RrP50
            | Self::RrP90
            | Self::RrP99
            | Self::RrP999
            | Self::RrMax
            | Self::CpuPerPacket => Dimension::TIME,
            _ => Dimension::NONE,
        }
    }

    /// The kind of trial it comes from.
    pub fn trial(self) -> TrialKind {
        match self {
            Self::Rr
            | Self::RrMin
            | Self::RrMean
            | Self::RrP50
            | Self::RrP90
            | Self::RrP99
            | Self::RrP999
            | Self::RrMax
            | Self::RrExitsPerTransaction
            | Self::RrInterruptsPerTransaction => TrialKind::Rr,
            _ => TrialKind::Throughput,
        }
    }
}
