//! What a cable does to frames on purpose: when each comes out, how many times, or not at all.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Impairments of one direction. Names and meanings are those of netem (tc-netem(8)), with one
/// exception: jitter does not let frames overtake each other. It does in netem because its queue
/// sorts by time; a path whose latency varies does not, and TCP would tell the two apart. Who
/// wants frames out of order asks for [`reorder`](Self::reorder).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Impairments {
    /// Time on the way.
    pub delay: Duration,
    /// How far that varies up and down, evenly spread; at most the delay.
    pub jitter: Duration,
    /// Share of frames that are lost, 0 to 1.
    pub loss: f64,
    /// Share of frames that come out twice, 0 to 1.
    pub duplicate: f64,
    /// Share of frames that go at once, past those that are delayed, 0 to 1; needs a delay.
    pub reorder: f64,
    /// Bits per second of frame bytes, without preamble and check sequence; 0 for no limit.
    pub rate_bps: u64,
    /// Most frames in the cable, at least 1; those that come to a full one are dropped.
    pub limit: u32,
}

/// None, and netem's limit.
impl Default for Impairments {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            rate_bps: 0,
            limit: 1000,
        }
    }
}

/// Why impairments make no sense.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum ImpairmentError {
    /// A share is not between 0 and 1.
    #[error("{what} of {share}: a share is a number from 0 to 1")]
    Share {
        /// Which one.
        what: &'static str,
        /// Its value.
        share: f64,
    },
    /// Frames can overtake only frames that wait.
    #[error("frames are reordered only if others are delayed: a reorder share needs a delay")]
    ReorderWithoutDelay,
    /// Frames would have to come out before they go in.
    #[error("a jitter of {jitter:?} is more than the delay of {delay:?}")]
    JitterAboveDelay {
        /// Requested.
        jitter: Duration,
        /// Requested.
        delay: Duration,
    },
    /// Nothing could ever pass.
    #[error("a limit of 0 frames lets nothing pass")]
    NoLimit,
}

impl Impairments {
    /// Whether frames pass as if there was nothing.
    pub fn is_none(&self) -> bool {
        *self == Self { limit: self.limit, ..Self::default() }
    }

    /// Says what is wrong with them, if anything is.
    pub fn check(&self) -> Result<(), ImpairmentError> {
        let shares =
            [("loss", self.loss), ("duplicate", self.duplicate), ("reorder", self.reorder)];
        for (what, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                return Err(ImpairmentError::Share { what, share });
            }
        }
        let Self { delay, jitter, .. } = *self;
        if jitter > delay {
            return Err(ImpairmentError::JitterAboveDelay { jitter, delay });
        }
        if self.reorder > 0.0 && delay.is_zero() {
            return Err(ImpairmentError::ReorderWithoutDelay);
        }
        if self.limit == 0 {
            return Err(ImpairmentError::NoLimit);
        }
        Ok(())
    }

    /// The longest that a frame is on its way, not counting those before it, in nanoseconds.
    fn longest_delay(&self) -> u64 {
        nanos(self.delay).saturating_add(nanos(self.jitter))
    }
}

/// What the dice say of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copies {
    pub lost: bool,
    pub duplicated: bool,
}

impl Copies {
    pub fn count(self) -> u32 {
        1 + u32::from(self.duplicated) - u32::from(self.lost)
    }
}

/// When a frame comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Now, past those that wait.
    Ahead,
    /// At this time, never before an earlier frame.
    At(u64),
}

/// Impairments at work: the same seed, frames and times have the same outcome. Times are
/// nanoseconds of the cable's clock.
pub(super) struct Model {
    impairments: Impairments,
    random: SmallRng,
    /// When the last frame is on the wire in full, at the rate.
    busy_until: u64,
    /// When the last frame that was not sent ahead comes out.
    last_due: u64,
}

impl Model {
    pub fn new(seed: u64) -> Self {
        let random = SmallRng::seed_from_u64(seed);
        Self { impairments: Impairments::default(), random, busy_until: 0, last_due: 0 }
    }

    pub fn impairments(&self) -> Impairments {
        self.impairments
    }

    /// Changes the impairments of frames that come from `now` on. Returns by when those on their
    /// way must be out: what comes next must neither wait for them longer than they for it, nor
    /// overtake them.
    pub fn set(&mut self, impairments: Impairments, now: u64) -> u64 {
        self.impairments = impairments;
        self.busy_until = now;
        let latest = now.saturating_add(impairments.longest_delay());
        self.last_due = self.last_due.min(latest);
        latest
    }

    /// Rolls the dice for a frame. As in netem, a frame that is both duplicated and lost arrives once.
    pub fn roll(&mut self) -> Copies {
        let Impairments { loss, duplicate, .. } = self.impairments;
        Copies { duplicated: self.happens(duplicate), lost: self.happens(loss) }
    }

    /// Puts `bytes` that come at `now` on the wire.
    pub fn send(&mut self, now: u64, bytes: u64) -> Due {
        let Impairments { delay, jitter, reorder, rate_bps, .. } = self.impairments;
        if self.happens(reorder) {
            return Due::Ahead;
        }
        let sent = match rate_bps {
            0 => now,
            rate => {
                let time = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(rate);
                let time = time.try_into().unwrap_or(u64::MAX);
                self.busy_until = self.busy_until.max(now).saturating_add(time);
                self.busy_until
            }
        };
        let (delay, jitter) = (nanos(delay), nanos(jitter));
        let latency = match jitter {
            0 => delay,
            _ => self.random.random_range(delay - jitter..=delay.saturating_add(jitter)),
        };
        Due::At(self.behind_all(sent.saturating_add(latency)))
    }

    /// The time `at`, or later if an earlier frame comes out later.
    pub fn behind_all(&mut self, at: u64) -> u64 {
        self.last_due = self.last_due.max(at);
        self.last_due
    }

    fn happens(&mut self, share: f64) -> bool {
        share > 0.0 && self.random.random_bool(share)
    }
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn model(impairments: Impairments) -> Model {
        impairments.check().unwrap();
        let mut model = Model::new(1);
        model.set(impairments, 0);
        model
    }

    fn none() -> Impairments {
        Impairments::default()
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let ms = Duration::from_millis;
        for (wrong, message) in [
            (Impairments { loss: 1.1, ..none() }, "loss of 1.1: a share is a number from 0 to 1"),
            (
                Impairments { duplicate: -0.5, ..none() },
                "duplicate of -0.5: a share is a number from 0 to 1",
            ),
            (
                Impairments { loss: f64::NAN, ..none() },
                "loss of NaN: a share is a number from 0 to 1",
            ),
            (
                Impairments { jitter: ms(2), delay: ms(1), ..none() },
                "a jitter of 2ms is more than the delay of 1ms",
            ),
            (
                Impairments { reorder: 0.1, ..none() },
                "frames are reordered only if others are delayed: a reorder share needs a delay",
            ),
            (Impairments { limit: 0, ..none() }, "a limit of 0 frames lets nothing pass"),
        ] {
            assert_eq!(wrong.check().unwrap_err().to_string(), message);
        }
        let extreme =
            Impairments { delay: Duration::MAX, jitter: Duration::MAX, rate_bps: 1, ..none() };
        assert!(matches!(model(extreme).send(5, u64::MAX), Due::At(_)), "and does not overflow");
    }

    #[test]
    fn nothing_asked_is_nothing_done() {
        let mut model = model(none());
        assert!(none().is_none() && !Impairments { loss: 0.1, ..none() }.is_none());
        for now in 0..100 {
            assert_eq!(model.roll().count(), 1);
            assert_eq!(model.send(now, 1500), Due::At(now));
        }
    }

    #[test]
    fn shares_are_met_and_certainty_is_certain() {
        let count = |impairments, which: fn(Copies) -> bool| {
            let mut model = model(impairments);
            (0..100_000).filter(|_| which(model.roll())).count()
        };
        let lost = count(Impairments { loss: 0.1, ..none() }, |copies| copies.lost);
        assert!((9_500..10_500).contains(&lost), "{lost}");
        let doubled = count(Impairments { duplicate: 0.02, ..none() }, |copies| copies.duplicated);
        assert!((1_800..2_200).contains(&doubled), "{doubled}");
        let both = Impairments { loss: 1.0, duplicate: 1.0, ..none() };
        assert_eq!(count(both, |copies| copies.count() == 1), 100_000);
    }

    #[test]
    fn the_same_seed_has_the_same_outcome() {
        let wild = Impairments {
            delay: Duration::from_millis(5),
            jitter: Duration::from_millis(5),
            loss: 0.3,
            duplicate: 0.3,
            reorder: 0.3,
            ..none()
        };
        let outcome = |seed| {
            let mut model = Model::new(seed);
            model.set(wild, 0);
            (0..100).map(|now| (model.roll(), model.send(now, 60))).collect::<Vec<_>>()
        };
        assert_eq!(outcome(7), outcome(7));
        assert_ne!(outcome(7), outcome(8));
    }

    #[test]
    fn jitter_spreads_both_ways_and_keeps_the_order() {
        let (delay, jitter) = (Duration::from_millis(10), Duration::from_millis(4));
        let mut model = model(Impairments { delay, jitter, ..none() });
        let mut last = 0;
        let mut latencies = Vec::new();
        for n in 0..1_000 {
            // Far apart: the order costs nothing.
            let now = n * 100 * MS;
            let Due::At(at) = model.send(now, 60) else { panic!() };
            assert!(at > last);
            last = at;
            latencies.push(at - now);
        }
        let (min, max) = (latencies.iter().min().unwrap(), latencies.iter().max().unwrap());
        assert!((6 * MS..6_100_000).contains(min) && (13_900_000..=14 * MS).contains(max));
        let start = last;
        for now in start..start + 1_000 {
            let Due::At(at) = model.send(now, 60) else { panic!() };
            assert!(at >= last, "close together");
            last = at;
        }
    }

    #[test]
    fn a_rate_spaces_frames_and_the_delay_comes_on_top() {
        let delay = Duration::from_millis(3);
        let mut model = model(Impairments { rate_bps: 12_000_000, delay, ..none() });
        // 1500 bytes take 1 ms.
        assert_eq!(
            [0, 0, 0].map(|now| model.send(now, 1500)),
            [4, 5, 6].map(|ms| Due::At(ms * MS))
        );
        assert_eq!(model.send(10 * MS, 750), Due::At(13_500_000), "an idle wire");
    }

    #[test]
    fn new_impairments_do_not_wait_for_the_old() {
        let mut model = model(Impairments { delay: Duration::from_secs(10), ..none() });
        assert_eq!(model.send(0, 60), Due::At(10_000 * MS));
        let latest = model.set(Impairments { delay: Duration::from_millis(1), ..none() }, MS);
        assert_eq!(latest, 2 * MS);
        assert_eq!(model.send(MS, 60), Due::At(2 * MS));
    }
}
