//! What is plugged into a cable: whoever sends holds one of these, whoever delivers another.
//!
//! As long as nothing is asked of their lane, both are one load away from what they stand for, and add
//! to a counter once a batch.

use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;

use super::lane::Lane;
use crate::backend::{Backend, Feed, Flow, FrameBatch, Receiver};
use crate::switch::nesting::{Level, MAX_HOPS, hops};

/// Where a lane's frames come out.
pub(super) trait Exit: Send + Sync {
    /// Hands over the picked frames; how many were taken. `None` if nobody is there, or if somebody
    /// else is handing over and the caller may not wait for that.
    fn deliver(&self, batch: &FrameBatch<'_>, picks: &[u32], may_wait: bool) -> Option<usize>;
}

/// A backend that several threads send into.
pub(super) struct Gate(Mutex<Behind>);

struct Behind {
    /// None while its NIC sends past the cable.
    backend: Option<Box<dyn Backend>>,
    spare: FrameBatch<'static>,
}

impl Gate {
    pub fn new(backend: Option<Box<dyn Backend>>) -> Self {
        Self(Mutex::new(Behind { backend, spare: FrameBatch::new() }))
    }
}

impl Exit for Gate {
    fn deliver(&self, batch: &FrameBatch<'_>, picks: &[u32], may_wait: bool) -> Option<usize> {
        // Outlives the lock: at its end NICs may end.
        let _level = Level::with_hops(hops() + 1);
        let mut behind = if may_wait { self.0.lock() } else { self.0.try_lock()? };
        let Behind { backend, spare } = &mut *behind;
        let backend = backend.as_mut()?;
        let mut picked = mem::take(spare).recycle();
        // Announced, whatever they were: nobody can come through here for what follows.
        picked.extend_picked(batch, picks);
        backend.transmit(&picked);
        *spare = picked.recycle();
        Some(picks.len())
    }
}

/// The cable as a NIC sends into it. Its backend is its own, and lent to the lane's gate while the
/// courier may have to send, too.
pub(super) struct FromNic {
    lane: Arc<Lane>,
    own: Option<Box<dyn Backend>>,
    gate: Arc<Gate>,
    /// 0, 1, 2 and so on, as far as a batch has needed it.
    all: Vec<u32>,
}

impl FromNic {
    pub fn new(lane: Arc<Lane>, backend: Box<dyn Backend>) -> Self {
        let gate = Arc::new(Gate::new(None));
        let exit: Arc<dyn Exit> = gate.clone();
        lane.set_exit(Arc::downgrade(&exit));
        Self { lane, own: Some(backend), gate, all: Vec::new() }
    }

    /// The backend, if frames may pass the lane by.
    #[inline]
    fn direct(&mut self) -> Option<&mut dyn Backend> {
        if self.lane.is_idle() {
            if self.own.is_none() {
                self.own = self.gate.0.lock().backend.take();
            }
        } else {
            self.lend();
        }
        // Through `match`: a mapped reference to a box would outlive it.
        match &mut self.own {
            Some(backend) => Some(&mut **backend),
            None => None,
        }
    }

    #[cold]
    fn lend(&mut self) {
        if let Some(backend) = self.own.take() {
            self.gate.0.lock().backend = Some(backend);
        }
    }

    fn carry(&mut self, batch: &FrameBatch<'_>) {
        self.all.extend(self.all.len() as u32..batch.len() as u32);
        self.lane.carry(batch, &self.all[..batch.len()], &*self.gate);
    }
}

impl Backend for FromNic {
    fn transmit(&mut self, batch: &FrameBatch<'_>) {
        match self.direct() {
            Some(backend) => backend.transmit(batch),
            None => return self.carry(batch),
        }
        self.lane.pass(batch.len(), batch.len());
    }

    fn transmit_while_room(&mut self, batch: &FrameBatch<'_>) -> usize {
        if let Some(backend) = self.direct() {
            let sent = backend.transmit_while_room(batch);
            self.lane.pass(sent, sent);
            return sent;
        }
        if self.lane.is_managed() {
            // What is full drops, as a queue does; a sender that waited would not be called back.
            self.carry(batch);
            return batch.len();
        }
        let timestamp = self.lane.timestamp();
        let sent = {
            let _level = Level::with_hops(hops() + 1);
            let mut behind = self.gate.0.lock();
            behind.backend.as_mut().map_or(0, |backend| backend.transmit_while_room(batch))
        };
        self.lane.watch(batch, sent, timestamp);
        sent
    }

    fn feed(&self) -> Option<Box<dyn Feed>> {
        match &self.own {
            Some(backend) => backend.feed(),
            None => self.gate.0.lock().backend.as_ref().and_then(|backend| backend.feed()),
        }
    }
}

/// The cable as a switch or a TAP delivers into it, with a NIC at the other end.
pub(super) struct ToNic {
    lane: Arc<Lane>,
    nic: Arc<dyn Receiver>,
}

impl ToNic {
    pub fn new(lane: Arc<Lane>, nic: Arc<dyn Receiver>) -> Arc<Self> {
        let end = Arc::new(Self { lane, nic });
        let exit: Arc<dyn Exit> = end.clone();
        end.lane.set_exit(Arc::downgrade(&exit));
        end
    }
}

impl Exit for ToNic {
    fn deliver(&self, batch: &FrameBatch<'_>, picks: &[u32], _may_wait: bool) -> Option<usize> {
        Some(self.nic.receive(batch, picks))
    }
}

impl Receiver for ToNic {
    fn receive(&self, batch: &FrameBatch<'_>, picks: &[u32]) -> usize {
        if self.lane.is_idle() {
            let taken = self.nic.receive(batch, picks);
            self.lane.pass(picks.len(), taken);
            return taken;
        }
        self.lane.carry(batch, picks, self)
    }

    fn room(&self, flow: Flow) -> usize {
        if self.lane.is_managed() { usize::MAX } else { self.nic.room(flow) }
    }

    fn send_waiting(&self, most: usize) -> usize {
        self.nic.send_waiting(most)
    }
}

/// The cable as a switch or a TAP delivers into it, with another of these at the other end.
pub(super) struct ToBackend {
    lane: Arc<Lane>,
    gate: Gate,
}

impl ToBackend {
    pub fn new(lane: Arc<Lane>, backend: Box<dyn Backend>) -> Arc<Self> {
        let end = Arc::new(Self { lane, gate: Gate::new(Some(backend)) });
        let exit: Arc<dyn Exit> = end.clone();
        end.lane.set_exit(Arc::downgrade(&exit));
        end
    }
}

impl Exit for ToBackend {
    fn deliver(&self, batch: &FrameBatch<'_>, picks: &[u32], may_wait: bool) -> Option<usize> {
        self.gate.deliver(batch, picks, may_wait)
    }
}

impl Receiver for ToBackend {
    fn receive(&self, batch: &FrameBatch<'_>, picks: &[u32]) -> usize {
        let hops = hops();
        if self.lane.is_idle()
            && hops < MAX_HOPS
            && let Some(taken) = self.gate.deliver(batch, picks, hops == 0)
        {
            self.lane.pass(picks.len(), taken);
            return taken;
        }
        self.lane.carry(batch, picks, self)
    }
}
