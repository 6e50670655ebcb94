//! Where we differ from QEMU 7.2 on purpose.

use crate::transcript::{Mismatch, matches};

/// A difference for which the manual is on our side. In patterns `*` stands for any text.
#[derive(Debug)]
pub struct Difference {
    /// The script.
    pub script: &'static str,
    /// Pattern of the steps.
    pub at: &'static str,
    /// Pattern of what we show.
    pub ours: &'static str,
    /// Pattern of what QEMU shows.
    pub qemu: &'static str,
    /// The section of the manual, and what it says.
    pub because: &'static str,
}

impl Difference {
    /// Whether this is the difference that was found.
    pub fn explains(&self, found: &Mismatch) -> bool {
        matches(self.at, &found.at)
            && matches(self.ours, &found.ours)
            && matches(self.qemu, &found.qemu)
    }
}

/// All of them, by script.
pub const DIFFERENCES: &[Difference] = &[];
