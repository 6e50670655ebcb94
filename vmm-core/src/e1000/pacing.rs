//! When the host stops asking the guest for transmit kicks.
//!
//! A kick costs an exit, and the vCPU thread that made it does the work: right for a lone packet,
//! dear for a stream of them. So once several kicks have come close together with nothing received
//! in between (a request waits for its answer, a stream does not), the host leaves
//! `host_need_txkick` clear and promises to look at the ring itself. The sender then exits only
//! when its ring is full; a timer picks up the rest, and after a few looks that find little the host asks for
//! kicks again.

/// Kicks further apart than this do not make a stream, in nanoseconds.
const STREAM_GAP: u64 = 100_000;
/// Kicks in a row that make a stream.
const STREAM_KICKS: u32 = 4;
/// How long the tail of a stream may wait for the host, in nanoseconds. A timer that fires takes a
/// CPU from a guest: ten thousand times a second cost a tenth of the throughput.
pub const LOOK_AFTER: u64 = 500_000;
/// A look that finds fewer descriptors than this finds no stream.
const BUSY_LOOK: u32 = 8;
/// Looks in a row without a stream before the host asks for kicks again.
const IDLE_LOOKS: u32 = 2;
/// When to look once more after asking: drivers without a fence can miss the request. Nanoseconds.
const RECHECK_AFTER: u64 = 1_000_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The guest kicks; nothing to do until then.
    #[default]
    Asleep,
    /// The guest does not kick; the host looks at `at`.
    Awake { at: u64, idle: u32 },
    /// The guest was asked for a kick; one more look at `at`.
    Recheck { at: u64 },
}

/// What to do after a look at the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Look again at the new deadline.
    Again,
    /// Ask the guest for a kick.
    AskForKick,
    /// The guest had been asked and has published frames without a kick so far.
    KickIsMissing,
    /// All is quiet.
    Sleep,
}

/// Tells streams from lone packets and keeps the time of the next look.
#[derive(Debug, Default)]
pub struct Pacing {
    state: State,
    last_kick: u64,
    last_received: u64,
    run_length: u32,
}

impl Pacing {
    /// A kick came at `now`, when `received` frames had been received. True: the guest need not
    /// kick, the host will look by itself.
    pub fn kicked(&mut self, now: u64, received: u64) -> bool {
        let joined =
            now.saturating_sub(self.last_kick) < STREAM_GAP && self.last_received == received;
        self.run_length = if joined { self.run_length.saturating_add(1) } else { 0 };
        self.last_kick = now;
        self.last_received = received;
        let streaming =
            matches!(self.state, State::Awake { .. }) || self.run_length >= STREAM_KICKS;
        self.state = State::Asleep;
        if streaming {
            self.stay_awake(now);
        }
        streaming
    }

    /// Whether the guest does not kick.
    pub fn is_awake(&self) -> bool {
        matches!(self.state, State::Awake { .. })
    }

    /// The host goes on looking.
    pub fn stay_awake(&mut self, now: u64) {
        self.state = State::Awake { at: now + LOOK_AFTER, idle: 0 };
    }

    /// When to look next.
    pub fn deadline(&self) -> Option<u64> {
        match self.state {
            State::Asleep => None,
            State::Awake { at, .. } | State::Recheck { at } => Some(at),
        }
    }

    /// Whether it is time to look.
    pub fn due(&self, now: u64) -> bool {
        self.deadline().is_some_and(|at| at <= now)
    }

    /// A look has been made and `found` descriptors were there.
    pub fn scanned(&mut self, now: u64, found: u32) -> Step {
        match self.state {
            State::Awake { .. } if found >= BUSY_LOOK => {
                self.stay_awake(now);
                Step::Again
            }
            State::Awake { idle, .. } if idle + 1 < IDLE_LOOKS => {
                self.state = State::Awake { at: now + LOOK_AFTER, idle: idle + 1 };
                Step::Again
            }
            State::Awake { .. } => {
                self.run_length = 0;
                self.state = State::Recheck { at: now + RECHECK_AFTER };
                Step::AskForKick
            }
            State::Recheck { .. } if found > 0 => {
                self.stay_awake(now);
                Step::KickIsMissing
            }
            State::Recheck { .. } | State::Asleep => {
                self.state = State::Asleep;
                Step::Sleep
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_waiting_for_its_answer_is_no_stream() {
        let mut pacing = Pacing::default();
        for i in 0..100 {
            assert!(!pacing.kicked(1_000_000 + i * 50_000, i));
        }
        assert_eq!(pacing.deadline(), None);
    }

    #[test]
    fn spaced_kicks_are_no_stream() {
        let mut pacing = Pacing::default();
        assert!((0..100).all(|i| !pacing.kicked(1_000_000 + i * STREAM_GAP, 0)));
    }

    #[test]
    fn a_stream_stops_the_kicks_until_the_ring_stays_empty() {
        let mut pacing = Pacing::default();
        let kicks: Vec<bool> = (0..6).map(|i| pacing.kicked(1_000_000 + i * 10_000, 0)).collect();
        assert_eq!(kicks, [false, false, false, false, true, true]);
        let mut now = 1_050_000 + LOOK_AFTER;
        assert!(pacing.due(now));
        assert_eq!(pacing.scanned(now, BUSY_LOOK), Step::Again);
        for _ in 1..IDLE_LOOKS {
            now += LOOK_AFTER;
            assert_eq!(pacing.scanned(now, BUSY_LOOK - 1), Step::Again);
        }
        now += LOOK_AFTER;
        assert_eq!(pacing.scanned(now, 0), Step::AskForKick);
        assert_eq!(pacing.deadline(), Some(now + RECHECK_AFTER));
        assert_eq!(pacing.scanned(now + RECHECK_AFTER, 0), Step::Sleep);
        assert_eq!(pacing.deadline(), None);
    }

    #[test]
    fn a_kick_postpones_the_look() {
        let mut pacing = Pacing::default();
        pacing.stay_awake(1_000_000);
        assert!(pacing.kicked(1_090_000, 0));
        assert!(!pacing.due(1_000_000 + LOOK_AFTER));
        assert_eq!(pacing.deadline(), Some(1_090_000 + LOOK_AFTER));
    }

    #[test]
    fn a_lost_kick_is_noticed() {
        let mut pacing = Pacing { state: State::Recheck { at: 5 }, ..Pacing::default() };
        assert_eq!(pacing.scanned(5, 1), Step::KickIsMissing);
        assert!(pacing.deadline().is_some());
    }
}
