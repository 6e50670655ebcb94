//! What a cable does to the frames on it, as lab files, the control socket and `labctl link` say it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::human_time;

/// Impairments of one cable, in both directions alike. The default is none. Names and meanings are
/// those of netem (tc-netem(8)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Impairments {
    /// Time on the way, in microseconds.
    pub delay_us: u64,
    /// How far that varies, up and down, in microseconds; at most the delay.
    pub jitter_us: u64,
    /// Share of frames that are lost, 0 to 1.
    pub loss: f64,
    /// Share of frames that arrive twice, 0 to 1.
    pub duplicate: f64,
    /// Share of frames that overtake those before them, 0 to 1; needs a delay.
    pub reorder: f64,
    /// Bits per second of frame bytes, 0 for no limit.
    pub rate_bps: u64,
}

impl Impairments {
    /// Whether frames pass as if there was nothing.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Impairments of which some are to change; those that are not said stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImpairmentChanges {
    /// Takes all away first.
    pub clear: bool,
    /// As [`Impairments::delay_us`].
    pub delay_us: Option<u64>,
    /// As [`Impairments::jitter_us`].
    pub jitter_us: Option<u64>,
    /// As [`Impairments::loss`].
    pub loss: Option<f64>,
    /// As [`Impairments::duplicate`].
    pub duplicate: Option<f64>,
    /// As [`Impairments::reorder`].
    pub reorder: Option<f64>,
    /// As [`Impairments::rate_bps`].
    pub rate_bps: Option<u64>,
}

impl ImpairmentChanges {
    /// What `before` becomes; `None` if that is the same.
    pub fn of(&self, before: Impairments) -> Option<Impairments> {
        let old = if self.clear { Impairments::default() } else { before };
        let new = Impairments {
            delay_us: self.delay_us.unwrap_or(old.delay_us),
            jitter_us: self.jitter_us.unwrap_or(old.jitter_us),
            loss: self.loss.unwrap_or(old.loss),
            duplicate: self.duplicate.unwrap_or(old.duplicate),
            reorder: self.reorder.unwrap_or(old.reorder),
            rate_bps: self.rate_bps.unwrap_or(old.rate_bps),
        };
        (new != before).then_some(new)
    }
}

/// As in `delay 1ms, loss 0.5%`, or `none`.
impl fmt::Display for Impairments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |us| human_time(Duration::from_micros(us));
        let share = |share: f64| format!("{}%", (share * 1e6).round() / 1e4);
        let rate = |bps: u64| match bps {
            bps if bps.is_multiple_of(1_000_000_000) => format!("{}Gbit", bps / 1_000_000_000),
            bps if bps.is_multiple_of(1_000_000) => format!("{}Mbit", bps / 1_000_000),
            bps if bps.is_multiple_of(1000) => format!("{}kbit", bps / 1000),
            bps => format!("{bps}bit"),
        };
        let words = [
            (self.delay_us > 0).then(|| format!("delay {}", time(self.delay_us))),
            (self.jitter_us > 0).then(|| format!("jitter {}", time(self.jitter_us))),
            (self.loss > 0.0).then(|| format!("loss {}", share(self.loss))),
            (self.duplicate > 0.0).then(|| format!("duplicate {}", share(self.duplicate))),
            (self.reorder > 0.0).then(|| format!("reorder {}", share(self.reorder))),
            (self.rate_bps > 0).then(|| format!("rate {}", rate(self.rate_bps))),
        ];
        let words: Vec<_> = words.into_iter().flatten().collect();
        f.pad(&if words.is_empty() { "none".to_owned() } else { words.join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_stays() {
        let before = Impairments { delay_us: 1000, loss: 0.01, ..Impairments::default() };
        let change = ImpairmentChanges { delay_us: Some(2000), ..ImpairmentChanges::default() };
        assert_eq!(change.of(before), Some(Impairments { delay_us: 2000, ..before }));
        let change = ImpairmentChanges { clear: true, loss: Some(0.5), ..change };
        let only = Impairments { delay_us: 2000, loss: 0.5, ..Impairments::default() };
        assert_eq!(change.of(before), Some(only));
        let change = ImpairmentChanges { delay_us: Some(1000), ..ImpairmentChanges::default() };
        assert_eq!(change.of(before), None, "it has that delay already");
    }

    #[test]
    fn impairments_are_written_as_in_the_file() {
        let some = Impairments {
            delay_us: 1500,
            loss: 0.005,
            rate_bps: 10_000_000,
            ..Impairments::default()
        };
        assert_eq!(some.to_string(), "delay 1.5ms, loss 0.5%, rate 10Mbit");
        assert_eq!(Impairments::default().to_string(), "none");
    }
}
