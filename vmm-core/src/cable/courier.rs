//! The thread that hands on what cables hold, when it is due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::lane::Lane;
use crate::clock::{Clock, Timer};
use crate::kvm::{DeviceTimer, OnTimer, TimerThread};

/// How long the courier rests between two turns, in nanoseconds, so how late a frame may be in a
/// dense stream: a wake-up for each would take a CPU from the guests.
const REST: u64 = 100_000;
/// Most frames handed on in a turn, after which the thread looks whether it is to stop.
const FRAMES_PER_TURN: usize = 4096;
/// Most frames of one lane before the next has its turn.
const FRAMES_AT_ONCE: usize = 256;

/// One thread for all cables of a lab: it sleeps until the first frame that a cable holds is due.
///
/// Dropping it stops and joins the thread; what cables hold then stays there.
pub struct Courier {
    agenda: Arc<Agenda>,
    _thread: TimerThread,
}

impl Courier {
    /// Starts the thread `courier`, for delays by `clock`.
    pub fn spawn(clock: Arc<dyn Clock>) -> io::Result<Self> {
        let timer = Arc::new(DeviceTimer::new(clock.clone())?);
        let agenda = Arc::new(Agenda::new(clock, timer.clone()));
        let turn: OnTimer = Box::new({
            let agenda = agenda.clone();
            move || agenda.turn()
        });
        let thread = TimerThread::spawn("courier".to_owned(), vec![(timer, turn)])?;
        Ok(Self { agenda, _thread: thread })
    }

    pub(super) fn agenda(&self) -> &Arc<Agenda> {
        &self.agenda
    }
}

/// Which lane has something due, and when.
pub(super) struct Agenda {
    clock: Arc<dyn Clock>,
    timer: Arc<dyn Timer>,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    /// The earliest first. A lane may be there more than once, and knows which one counts.
    heap: BinaryHeap<Reverse<Entry>>,
    /// What the timer was last armed for; nothing is earlier than the turn that is being made.
    armed: Option<u64>,
}

/// Lanes are held weakly: one that is gone has lost its frames, as a cable that is pulled out.
struct Entry {
    at: u64,
    lane: Weak<Lane>,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Entry {}

impl Agenda {
    pub fn new(clock: Arc<dyn Clock>, timer: Arc<dyn Timer>) -> Self {
        Self { clock, timer, entries: Mutex::default() }
    }

    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Has `lane` looked after at `at`.
    pub fn add(&self, at: u64, lane: Weak<Lane>) {
        let mut entries = self.entries.lock();
        entries.heap.push(Reverse(Entry { at, lane }));
        self.arm(&mut entries, at);
    }

    fn arm(&self, entries: &mut Entries, at: u64) {
        if entries.armed.is_none_or(|armed| at < armed) {
            entries.armed = Some(at);
            self.timer.arm(at);
        }
    }

    /// Hands on what is due, the earliest first, and no more than is good for one turn.
    pub fn turn(&self) {
        let start = self.now();
        self.entries.lock().armed = Some(0);
        let mut left = FRAMES_PER_TURN;
        while left > 0 {
            let Some(entry) = self.take_due(start) else { break };
            // Here may end its last NIC: nothing is locked.
            if let Some(lane) = entry.lane.upgrade() {
                left = left.saturating_sub(lane.hand_on(entry.at, FRAMES_AT_ONCE).max(1));
            }
        }
        let mut entries = self.entries.lock();
        entries.armed = None;
        if let Some(Reverse(next)) = entries.heap.peek() {
            let at = if left == 0 { start } else { next.at.max(start + REST) };
            self.arm(&mut entries, at);
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.lock().heap.len()
    }

    fn take_due(&self, now: u64) -> Option<Entry> {
        let mut entries = self.entries.lock();
        let due = entries.heap.peek().is_some_and(|Reverse(entry)| entry.at <= now);
        if due { entries.heap.pop().map(|Reverse(entry)| entry) } else { None }
    }
}
