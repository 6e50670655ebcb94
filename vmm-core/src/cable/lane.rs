//! One direction of a cable.
//!
//! Frames go through at once as long as nothing keeps them; else they are copied and wait for the
//! [courier](super::Courier). While any wait, or are being handed on, those that come later wait
//! behind them.
//!
//! Lock order: a lane's state, then the agenda or a recorder, which call nothing. Nothing is handed
//! over with any of them locked.

use std::collections::VecDeque;
use std::iter::repeat_n;
use std::mem;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};
use vm_memory::VolatileSlice;

use super::capture::{Direction, Observers};
use super::counters::CableCounters;
use super::courier::Agenda;
use super::ends::Exit;
use super::impair::{Due, Impairments, Model};
use crate::backend::{Frame, FrameBatch};
use crate::switch::nesting::{self, Level, MAX_HOPS};

/// Most bytes that wait in a lane, with what it takes to keep them, whatever its limit: a lab has
/// many lanes.
const MAX_HELD_BYTES: usize = 16 << 20;

/// Somebody watches the frames.
const WATCHED: u8 = 1;
/// Frames are kept or lost, or may be.
const MANAGED: u8 = 2;

/// One direction of a cable.
pub(super) struct Lane {
    /// What is asked of it: [`WATCHED`] and [`MANAGED`].
    asked: AtomicU8,
    /// Frames that passed it by while nothing was.
    passed: AtomicU64,
    /// How many of those the NIC at its end turned away.
    turned_away: AtomicU64,
    agenda: Arc<Agenda>,
    this: Weak<Lane>,
    state: Mutex<State>,
}

struct State {
    plugged: bool,
    model: Model,
    observers: Observers,
    /// Where the courier hands frames over.
    exit: Option<Weak<dyn Exit>>,
    /// In the order in which they are due.
    held: VecDeque<Held>,
    /// What those in `held` cost.
    held_bytes: usize,
    /// Copies of those in `held`.
    waiting: u64,
    /// Copies that are being handed over.
    leaving: u64,
    /// The courier is at it.
    handing_on: bool,
    /// The look that the agenda is to remind of; others that it knows of do not count any more.
    look_at: Option<u64>,
    counters: CableCounters,
    /// Picks of an earlier batch, for their memory.
    spare: Vec<u32>,
}

/// A frame that waits.
struct Held {
    due: u64,
    copies: u32,
    /// Cables between switches that it had crossed when it came.
    hops: u32,
    bytes: Vec<u8>,
}

impl Lane {
    pub fn new(agenda: Arc<Agenda>, seed: u64) -> Arc<Self> {
        let state = State {
            plugged: true,
            model: Model::new(seed),
            observers: Observers::default(),
            exit: None,
            held: VecDeque::new(),
            held_bytes: 0,
            waiting: 0,
            leaving: 0,
            handing_on: false,
            look_at: None,
            counters: CableCounters::default(),
            spare: Vec::new(),
        };
        Arc::new_cyclic(|this| Self {
            asked: AtomicU8::new(0),
            passed: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
            agenda,
            this: this.clone(),
            state: Mutex::new(state),
        })
    }

    /// Whether nothing is asked of it: frames may pass it by.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.asked.load(Relaxed) == 0
    }

    /// Notes frames that passed it by, and how many of them were taken.
    #[inline]
    pub fn pass(&self, frames: usize, taken: usize) {
        self.passed.fetch_add(frames as u64, Relaxed);
        if taken < frames {
            self.turned_away.fetch_add((frames - taken) as u64, Relaxed);
        }
    }

    /// Whether it keeps or loses frames, or may.
    pub fn is_managed(&self) -> bool {
        self.asked.load(Relaxed) & MANAGED != 0
    }

    /// Where held frames come out from now on.
    pub fn set_exit(&self, exit: Weak<dyn Exit>) {
        self.state.lock().exit = Some(exit);
    }

    pub fn impairments(&self) -> Impairments {
        self.state.lock().model.impairments()
    }

    /// Takes `impairments`, which must make sense.
    pub fn impair(&self, impairments: Impairments) {
        let now = self.agenda.now();
        self.change(|state| {
            let latest = state.model.set(impairments, now);
            state.held.iter_mut().for_each(|held| held.due = held.due.min(latest));
        });
    }

    /// Frames on their way are lost with the cable.
    pub fn set_plugged(&self, plugged: bool) {
        self.change(|state| {
            state.plugged = plugged;
            if !plugged {
                state.counters.dropped.unplugged += mem::take(&mut state.waiting);
                state.held_bytes = 0;
                state.held.clear();
            }
        });
    }

    pub fn observe(&self, change: impl FnOnce(&mut Observers)) {
        self.change(|state| change(&mut state.observers));
    }

    pub fn counters(&self) -> CableCounters {
        let state = self.state.lock();
        let counted = state.counters;
        // Of a batch that passes right now either may be seen first.
        let turned_away = self.turned_away.load(Relaxed);
        let passed = self.passed.load(Relaxed).max(turned_away);
        CableCounters {
            frames: counted.frames + passed,
            delivered: counted.delivered + passed - turned_away,
            refused: counted.refused + turned_away,
            held: state.waiting + state.leaving,
            ..counted
        }
    }

    /// Takes the picked frames in, those that nothing keeps right through to `exit`; returns how
    /// many are on their way or out.
    pub fn carry(&self, batch: &FrameBatch<'_>, picks: &[u32], exit: &dyn Exit) -> usize {
        let now = self.agenda.now();
        let mut state = self.state.lock();
        let timestamp = state.observers.timestamp();
        state.observers.see(Direction::Outbound, timestamp, batch, picks);
        let mut through = mem::take(&mut state.spare);
        let (kept, passing) = state.admit(batch, picks, now, &mut through);
        if through.is_empty() {
            state.spare = through;
            self.conclude(state);
            return kept;
        }
        self.conclude(state);

        let may_wait = nesting::hops() == 0;
        let taken = exit.deliver(batch, &through, may_wait);

        let mut state = self.state.lock();
        if taken.is_some() {
            state.left(through.len(), taken);
            state.observers.see(Direction::Inbound, timestamp, batch, &through);
        }
        let taken = taken.unwrap_or_else(|| state.postpone(batch, &through, now));
        through.clear();
        state.spare = through;
        self.conclude(state);
        kept + taken.min(passing)
    }

    /// Notes frames that passed by themselves because it is only watched.
    pub fn watch(&self, batch: &FrameBatch<'_>, frames: usize, timestamp: u64) {
        let mut state = self.state.lock();
        let mut all = mem::take(&mut state.spare);
        all.extend(0..frames as u32);
        for direction in [Direction::Outbound, Direction::Inbound] {
            state.observers.see(direction, timestamp, batch, &all);
        }
        all.clear();
        state.spare = all;
        drop(state);
        self.pass(frames, frames);
    }

    pub fn timestamp(&self) -> u64 {
        self.state.lock().observers.timestamp()
    }

    /// The courier's part, when it is `at`: hands on what is due, at most so many frames; returns
    /// how many.
    pub fn hand_on(&self, at: u64, most: usize) -> usize {
        let now = self.agenda.now();
        let mut state = self.state.lock();
        if state.look_at != Some(at) {
            // An earlier look took its place.
            return 0;
        }
        state.look_at = None;
        let mut due = state.take_due(now, most);
        if due.is_empty() {
            self.conclude(state);
            return 0;
        }
        state.handing_on = true;
        // May be the last to hold it: let go of at the end, with nothing locked.
        let exit = state.exit.as_ref().and_then(Weak::upgrade);
        let timestamp = state.observers.timestamp();
        drop(state);

        let (mut batch, mut picks) = (FrameBatch::new(), Vec::with_capacity(due.len()));
        let hops = due.iter().map(|held| held.hops).max().unwrap_or(0);
        for (index, held) in (0..).zip(&mut due) {
            batch.push_frame(VolatileSlice::from(&mut held.bytes[..]));
            picks.extend(repeat_n(index, held.copies as usize));
        }
        let delivered = exit.as_ref().and_then(|exit| {
            let _level = Level::with_hops(hops);
            exit.deliver(&batch, &picks, true)
        });

        let mut state = self.state.lock();
        state.left(picks.len(), delivered);
        state.observers.see(Direction::Inbound, timestamp, &batch, &picks);
        state.handing_on = false;
        self.conclude(state);
        batch.len()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        self.conclude(state);
    }

    /// To be called after every change of what is held or asked.
    fn conclude(&self, mut state: MutexGuard<'_, State>) {
        if let Some(first) = state.held.front()
            && state.look_at.is_none_or(|at| first.due < at)
        {
            let due = first.due;
            state.look_at = Some(due);
            self.agenda.add(due, self.this.clone());
        }
        self.asked.store(state.asked(), Relaxed);
    }
}

impl State {
    fn asked(&self) -> u8 {
        let watched = if self.observers.is_empty() { 0 } else { WATCHED };
        let managed = !self.plugged || self.keeps_frames() || !self.model.impairments().is_none();
        watched | if managed { MANAGED } else { 0 }
    }

    /// Whether frames that come must wait behind others.
    fn keeps_frames(&self) -> bool {
        self.handing_on || !self.held.is_empty()
    }

    /// Decides what becomes of each frame: it is dropped, held or put into `through`. Returns how
    /// many are held and how many are in `through`, not counting further copies.
    fn admit(
        &mut self,
        batch: &FrameBatch<'_>,
        picks: &[u32],
        now: u64,
        through: &mut Vec<u32>,
    ) -> (usize, usize) {
        let (mut kept, mut passing) = (0, 0);
        for pick in picks {
            let frame = batch.frame(*pick as usize);
            self.counters.frames += 1;
            let Some(copies) = self.let_in() else { continue };
            match self.model.send(now, frame.len() as u64 * u64::from(copies)) {
                Due::At(due) if due > now || self.keeps_frames() => {
                    kept += usize::from(self.hold(&frame, copies, due));
                }
                due => {
                    self.counters.reordered += u64::from(due == Due::Ahead && self.keeps_frames());
                    self.leaving += u64::from(copies);
                    through.extend(repeat_n(*pick, copies as usize));
                    passing += 1;
                }
            }
        }
        (kept, passing)
    }

    /// How many copies of the next frame there will be; `None` if it is dropped.
    fn let_in(&mut self) -> Option<u32> {
        let limit = u64::from(self.model.impairments().limit);
        let dropped = &mut self.counters.dropped;
        if !self.plugged {
            dropped.unplugged += 1;
            return None;
        }
        if nesting::hops() >= MAX_HOPS {
            dropped.looped += 1;
            return None;
        }
        let copies = self.model.roll();
        self.counters.duplicated += u64::from(copies.duplicated);
        dropped.loss += u64::from(copies.lost);
        let count = copies.count();
        if count > 0 && self.waiting + u64::from(count) > limit {
            dropped.queue_full += u64::from(count);
            return None;
        }
        (count > 0).then_some(count)
    }

    /// Keeps a copy of `frame`; false if there is no room for it.
    fn hold(&mut self, frame: &Frame<'_>, copies: u32, due: u64) -> bool {
        let cost = frame.len() + size_of::<Held>();
        if self.held_bytes + cost > MAX_HELD_BYTES {
            self.counters.dropped.queue_full += u64::from(copies);
            return false;
        }
        let mut bytes = vec![0; frame.len()];
        frame.copy_out(0, &mut bytes);
        self.held_bytes += cost;
        self.waiting += u64::from(copies);
        self.held.push_back(Held { due, copies, hops: nesting::hops(), bytes });
        true
    }

    /// Leaves to the courier what cannot be handed over now; returns how many copies.
    fn postpone(&mut self, batch: &FrameBatch<'_>, picks: &[u32], now: u64) -> usize {
        self.leaving -= picks.len() as u64;
        let due = self.model.behind_all(now);
        picks.iter().filter(|pick| self.hold(&batch.frame(**pick as usize), 1, due)).count()
    }

    fn take_due(&mut self, now: u64, most: usize) -> Vec<Held> {
        let due = self.held.iter().take(most).take_while(|held| held.due <= now).count();
        let due: Vec<_> = self.held.drain(..due).collect();
        let copies: u64 = due.iter().map(|held| u64::from(held.copies)).sum();
        self.held_bytes -=
            due.iter().map(|held| held.bytes.len() + size_of::<Held>()).sum::<usize>();
        self.waiting -= copies;
        self.leaving += copies;
        due
    }

    /// So many copies have been handed over, and so many of them were `taken`; `None` if nobody is
    /// there.
    fn left(&mut self, copies: usize, taken: Option<usize>) {
        let copies = copies as u64;
        self.leaving -= copies;
        match taken {
            Some(taken) => {
                self.counters.delivered += taken as u64;
                self.counters.refused += copies - taken as u64;
            }
            None => self.counters.dropped.disconnected += copies,
        }
    }
}
