//! A cable between two ends, which can be impaired, captured and unplugged while frames flow.
//!
//! End A of a NIC's cable is the NIC, end B the switch port or TAP. A [patch](Cable::patch) connects
//! two ports, a port and a TAP, or two TAPs. Each direction is a lane of its own:
//!
//! ```text
//! A -> entry -> capture at A -> plugged? -> impairments -> capture at B -> exit -> B
//!                                              holds copies, which the Courier hands on
//! ```
//!
//! As long as nothing is asked of a cable, a batch passes it for a load, an addition and a call. While
//! something is, receivers cannot ask through it for frames that wait (policy `pull`): who sends is
//! told that there is room, and what does not fit is dropped and counted. A capture alone changes
//! nothing of that.

mod capture;
mod counters;
mod courier;
mod ends;
mod impair;
mod lane;
mod pcapng;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use crate::backend::{Backend, Receiver};

use capture::Recorder;
pub use capture::{Capture, CaptureLimits, Captured, CapturedFrame, Direction};
pub use counters::{CableCounters, CableDrops};
use courier::Agenda;
pub use courier::Courier;
use ends::{FromNic, ToBackend, ToNic};
pub use impair::{ImpairmentError, Impairments};
use lane::Lane;
pub use pcapng::PcapngWriter;

/// An end of a cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The NIC's, or the first of a patch.
    A,
    /// The port's or TAP's, or the second of a patch.
    B,
}

impl End {
    /// The opposite end.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// A cable. Clones are handles to the same one.
///
/// It outlives what is plugged into it: a guest's next NIC finds the impairments, captures and
/// counters of the one before.
#[derive(Clone)]
pub struct Cable {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    /// By the end where frames go in.
    lanes: [Arc<Lane>; 2],
}

impl Cable {
    /// A plugged cable that does nothing to frames. `seed` decides what chance does to them later:
    /// the same frames at the same times meet the same fate.
    pub fn new(name: &str, courier: &Courier, seed: u64) -> Self {
        Self::with_agenda(name, courier.agenda(), seed)
    }

    fn with_agenda(name: &str, agenda: &Arc<Agenda>, seed: u64) -> Self {
        // Two directions with the same luck would be none.
        let lanes = [seed, !seed].map(|seed| Lane::new(agenda.clone(), seed));
        Self { shared: Arc::new(Shared { name: name.to_owned(), lanes }) }
    }

    /// The name given to [`new`](Self::new).
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    fn lane(&self, from: End) -> &Arc<Lane> {
        &self.shared.lanes[from as usize]
    }

    /// What a NIC at end A is to send into, so that its frames come out in `backend` at end B.
    pub fn from_nic(&self, backend: Box<dyn Backend>) -> Box<dyn Backend> {
        Box::new(FromNic::new(self.lane(End::A).clone(), backend))
    }

    /// What end B is to deliver to, so that its frames come out in `nic` at end A. It keeps the NIC
    /// alive; who delivers should hold it weakly, and the caller as long as the NIC is to receive.
    pub fn to_nic(&self, nic: Arc<dyn Receiver>) -> Arc<dyn Receiver> {
        ToNic::new(self.lane(End::B).clone(), nic)
    }

    /// Connects two backends: what the devices behind end A and end B are to deliver to. What A
    /// delivers to the first of the two is sent into `b`, what B delivers to the second into `a`.
    /// Each keeps its target alive, and ends it when dropped.
    pub fn patch(
        &self,
        a: Box<dyn Backend>,
        b: Box<dyn Backend>,
    ) -> (Arc<dyn Receiver>, Arc<dyn Receiver>) {
        let from_a = ToBackend::new(self.lane(End::A).clone(), b);
        let from_b = ToBackend::new(self.lane(End::B).clone(), a);
        (from_a, from_b)
    }

    /// What happens to frames that go in at `from`.
    pub fn impairments(&self, from: End) -> Impairments {
        self.lane(from).impairments()
    }

    /// Changes what happens to frames that go in at `from`, from now on. What is on its way comes
    /// out as planned, or when the last of the new frames would if that is sooner.
    pub fn impair(&self, from: End, impairments: Impairments) -> Result<(), ImpairmentError> {
        impairments.check()?;
        self.lane(from).impair(impairments);
        Ok(())
    }

    /// Plugs it in or out. While it is out, frames are dropped in both directions, those on their
    /// way included. What the ends know of it is their own business
    /// ([`E1000::set_links`](crate::e1000::E1000::set_links)).
    pub fn set_plugged(&self, plugged: bool) {
        for lane in &self.shared.lanes {
            lane.set_plugged(plugged);
        }
    }

    /// What became of frames that went in at `from`.
    pub fn counters(&self, from: End) -> CableCounters {
        self.lane(from).counters()
    }

    /// Captures the frames that the interface at `end` sends into the cable and gets out of it,
    /// until the returned value is dropped. Fails if the kernel gives no eventfd.
    pub fn capture(&self, end: End, limits: CaptureLimits) -> io::Result<Capture> {
        let capture = Capture::new(self.clone(), limits)?;
        let recorder = capture.recorder();
        let add = |from, direction| {
            self.lane(from).observe(|observers| observers.add(direction, recorder.clone()));
        };
        add(end, Direction::Outbound);
        add(end.other(), Direction::Inbound);
        Ok(capture)
    }

    fn end_capture(&self, recorder: &Arc<Recorder>) {
        for lane in &self.shared.lanes {
            lane.observe(|observers| observers.remove(recorder));
        }
    }
}
