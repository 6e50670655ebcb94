//! What the lab file asserts of the results, and what came of it.

use serde::{Deserialize, Serialize};

/// What is concluded from figures with intervals, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is so, whatever the true figures are within their intervals.
    Pass,
    /// The intervals allow both, or there is no figure.
    Inconclusive,
    /// It is not so, or a figure that was to be measured is missing.
    Fail,
}

impl Verdict {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Inconclusive => "inconclusive",
            Self::Fail => "fail",
        }
    }
}

/// One assertion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assertion {
    /// As the lab file has it.
    pub that: String,
    /// What the lab file calls it, if it has a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where the lab file has it: line and column, from 1.
    pub position: (usize, usize),
    /// The worst verdict of its checks.
    pub verdict: Verdict,
    /// One for each cell it is about in turn; one if it names its cells.
    pub checks: Vec<Check>,
}

/// An assertion of one cell, or of those it names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// The cell whose turn it is, if the assertion is about several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cell: Option<String>,
    /// What is compared.
    pub left: Option<Figure>,
    /// With what.
    pub right: Option<Figure>,
    /// Is it so?
    pub verdict: Verdict,
    /// Why there is a figure missing, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One side of a comparison; without an interval all three are the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// As it follows from the medians.
    pub median: f64,
    /// Lower end of its interval.
    pub low: f64,
    /// Upper end of its interval.
    pub high: f64,
    /// `pps`, `s`, `bit/s`, or empty.
    pub unit: String,
}

impl Assertion {
    /// Its name, or else what it says.
    pub fn title(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.that)
    }
}
