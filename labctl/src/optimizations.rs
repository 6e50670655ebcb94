//! The four optimizations and their combinations.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which of the four optimizations are on.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Optimizations {
    /// Interrupt moderation, honoured by the device.
    pub itr: bool,
    /// Send combining, done by the guest's driver.
    pub sc: bool,
    /// Communication Status Block: the paravirtual extension of driver and device.
    pub csb: bool,
    /// The VALE switch as backend; off means TAP and the kernel's bridge.
    pub vale: bool,
}

/// One of the four optimizations, in the order of the paper's ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimization {
    /// Interrupt moderation.
    Itr,
    /// Send combining.
    Sc,
    /// The paravirtual extension.
    Csb,
    /// The VALE backend.
    Vale,
}

impl Optimization {
    /// All four, in the order of the ladder.
    pub const ALL: [Optimization; 4] = [Self::Itr, Self::Sc, Self::Csb, Self::Vale];

    /// The key used in lab files and result documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Itr => "itr",
            Self::Sc => "sc",
            Self::Csb => "csb",
            Self::Vale => "vale",
        }
    }
}

impl fmt::Display for Optimization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Optimizations {
    /// All four off.
    pub const NONE: Optimizations =
        Optimizations { itr: false, sc: false, csb: false, vale: false };

    /// All four on.
    pub const ALL: Optimizations = Optimizations { itr: true, sc: true, csb: true, vale: true };

    /// Is this one on?
    pub fn get(self, which: Optimization) -> bool {
        match which {
            Optimization::Itr => self.itr,
            Optimization::Sc => self.sc,
            Optimization::Csb => self.csb,
            Optimization::Vale => self.vale,
        }
    }

    /// The same combination with one of them set.
    pub fn with(mut self, which: Optimization, on: bool) -> Optimizations {
        match which {
            Optimization::Itr => self.itr = on,
            Optimization::Sc => self.sc = on,
            Optimization::Csb => self.csb = on,
            Optimization::Vale => self.vale = on,
        }
        self
    }

    /// Position among the 16 combinations when `itr` counts fastest. The rungs of the ladder
    /// are 0, 1, 3, 7 and 15: a table in this order climbs it.
    pub fn index(self) -> usize {
        Optimization::ALL.iter().rev().fold(0, |n, &o| n << 1 | usize::from(self.get(o)))
    }
}

/// `none`, or the names of those that are on, as in `itr+csb`.
impl fmt::Display for Optimizations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on: Vec<_> =
            Optimization::ALL.iter().filter(|&&o| self.get(o)).map(|o| o.name()).collect();
        f.pad(&if on.is_empty() { "none".to_owned() } else { on.join("+") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_climbs_in_table_order() {
        let mut on = Optimizations::NONE;
        let mut indices = vec![on.index()];
        for which in Optimization::ALL {
            on = on.with(which, true);
            assert!(on.get(which));
            indices.push(on.index());
        }
        assert_eq!(indices, [0, 1, 3, 7, 15]);
        assert_eq!(on, Optimizations::ALL);
    }

    #[test]
    fn a_combination_is_named_by_what_is_on() {
        assert_eq!(Optimizations::NONE.to_string(), "none");
        let on = Optimizations { itr: true, csb: true, ..Optimizations::NONE };
        assert_eq!(on.to_string(), "itr+csb");
    }
}
