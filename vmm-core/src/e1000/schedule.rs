//! One host timer for all of a device's deadlines.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::clock::Timer;

/// What can be due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The transmit side looks at its ring.
    Transmit,
    /// The receive side looks whether the guest sleeps.
    Receive,
    /// A moderated interrupt may rise.
    Interrupt,
}

const EVENTS: usize = 3;

/// Events taken from the schedule.
#[derive(Clone, Copy, Debug)]
pub struct Due([bool; EVENTS]);

impl Due {
    /// Whether `event` is among them.
    pub fn contains(self, event: Event) -> bool {
        self.0[event as usize]
    }
}

#[derive(Debug)]
struct State {
    deadlines: [u64; EVENTS],
    /// What the timer was last armed for.
    armed: u64,
}

/// Deadlines in nanoseconds of the device's clock.
pub struct Schedule {
    timer: Arc<dyn Timer>,
    state: Mutex<State>,
}

impl Schedule {
    /// An empty schedule.
    pub fn new(timer: Arc<dyn Timer>) -> Self {
        let state = State { deadlines: [u64::MAX; EVENTS], armed: u64::MAX };
        Self { timer, state: Mutex::new(state) }
    }

    /// Sets or cancels an event. A cancelled or postponed event leaves the timer armed: an early
    /// call costs less than re-arming at every kick.
    pub fn set(&self, event: Event, deadline: Option<u64>) {
        let deadline = deadline.unwrap_or(u64::MAX);
        let mut state = self.state.lock();
        state.deadlines[event as usize] = deadline;
        if deadline < state.armed {
            state.armed = deadline;
            self.timer.arm(deadline);
        }
    }

    /// Takes out the events that are due at `now`.
    pub fn take_due(&self, now: u64) -> Due {
        let mut state = self.state.lock();
        state.armed = u64::MAX;
        Due(std::array::from_fn(|event| {
            let due = state.deadlines[event] <= now;
            if due {
                state.deadlines[event] = u64::MAX;
            }
            due
        }))
    }

    /// Arms the timer for the events that remain.
    pub fn rearm(&self) {
        let mut state = self.state.lock();
        let next = state.deadlines.into_iter().min().unwrap_or(u64::MAX);
        if next < state.armed {
            state.armed = next;
            self.timer.arm(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Armed(Mutex<Vec<u64>>);

    impl Timer for Armed {
        fn arm(&self, deadline: u64) {
            self.0.lock().push(deadline);
        }
    }

    #[test]
    fn arms_for_the_earliest_only() {
        let timer = Arc::new(Armed::default());
        let schedule = Schedule::new(timer.clone());
        schedule.set(Event::Transmit, Some(100));
        schedule.set(Event::Receive, Some(200));
        schedule.set(Event::Interrupt, Some(50));
        schedule.set(Event::Interrupt, Some(70));
        assert_eq!(*timer.0.lock(), [100, 50]);
        let due = schedule.take_due(70);
        assert!(due.contains(Event::Interrupt) && !due.contains(Event::Transmit));
        schedule.rearm();
        assert_eq!(*timer.0.lock(), [100, 50, 100]);
    }

    #[test]
    fn a_cancelled_event_is_never_due() {
        let schedule = Schedule::new(Arc::new(Armed::default()));
        schedule.set(Event::Transmit, Some(100));
        schedule.set(Event::Transmit, None);
        assert!(!schedule.take_due(1_000).contains(Event::Transmit));
    }
}
