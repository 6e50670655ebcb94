//! A cable of a running lab: what it connects, and what it does to frames.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use vmm_core::backend::{Backend, Receiver};
use vmm_core::cable::{
    self, Cable, CableCounters, Capture, CaptureLimits, Courier, End, ImpairmentError,
};

use super::Plug;
use super::counters::CableCount;
use crate::impairments::Impairments;
use crate::topology::{CableId, Lab, LinkEnd};

/// A cable of a running lab.
pub struct RunningCable {
    cable: Cable,
    /// The guest whose it is, if it is one's.
    guest: Option<String>,
    /// What people call its ends: `guest:nic`, a switch, or a TAP of the host.
    ends: [String; 2],
    /// Which of them are switches.
    on_switch: [bool; 2],
    /// The port at each end; none at a NIC.
    ports: [String; 2],
    impairments: Impairments,
    plugged: bool,
}

impl RunningCable {
    /// The cable `id` of `lab`, impaired as its file says.
    ///
    /// # Errors
    /// If that makes no sense.
    pub(super) fn new(lab: &Lab, id: CableId, courier: &Courier) -> Result<Self, ImpairmentError> {
        let name = lab.cable_name(id);
        let (guest, ends, on_switch) = match id {
            CableId::Nic { guest, .. } => {
                let guest = lab.guests.get(guest).map(|guest| guest.name.clone());
                (guest, [name.clone(), String::new()], [false, true])
            }
            CableId::Link(link) => {
                let ends = lab.links.get(link).map(|link| link.ends.each_ref());
                let is_switch = |end: &LinkEnd| matches!(end, LinkEnd::Switch(_));
                let on_switch = ends.map(|ends| ends.map(is_switch)).unwrap_or_default();
                let name_of = |end: &LinkEnd| lab.end_name(end);
                (None, ends.map(|ends| ends.map(name_of)).unwrap_or_default(), on_switch)
            }
        };
        // Chance is the same on every run of a lab.
        let mut hasher = DefaultHasher::new();
        (&lab.name, &name).hash(&mut hasher);
        let cable = Cable::new(&name, courier, hasher.finish());
        let (ports, impairments) = (Default::default(), Impairments::default());
        let mut running = Self { cable, guest, ends, on_switch, ports, impairments, plugged: true };
        running.impair(lab.impairments(id))?;
        Ok(running)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.cable.name()
    }

    pub(super) fn set_switch(&mut self, switch: &str) {
        self.ends[1] = switch.to_owned();
    }

    pub(super) fn set_port(&mut self, plug: &Plug) {
        self.ports[1] = plug.port();
    }

    pub(super) fn set_ports(&mut self, plugs: &[Plug; 2]) {
        self.ports = plugs.each_ref().map(Plug::port);
    }

    pub(super) fn behind_nic(&self, backend: Box<dyn Backend>) -> Box<dyn Backend> {
        self.cable.from_nic(backend)
    }

    pub(super) fn before_nic(&self, nic: Arc<dyn Receiver>) -> Arc<dyn Receiver> {
        self.cable.to_nic(nic)
    }

    pub(super) fn patch(
        &self,
        a: Box<dyn Backend>,
        b: Box<dyn Backend>,
    ) -> (Arc<dyn Receiver>, Arc<dyn Receiver>) {
        self.cable.patch(a, b)
    }

    /// What it does to frames.
    pub fn impairments(&self) -> Impairments {
        self.impairments
    }

    /// Whether nobody has unplugged it.
    pub fn is_plugged(&self) -> bool {
        self.plugged
    }

    /// Plugs it in or out. What a NIC knows of it is the guest's business.
    pub fn set_plugged(&mut self, plugged: bool) {
        self.plugged = plugged;
        self.cable.set_plugged(plugged);
    }

    /// Does this to frames from now on, in both directions.
    ///
    /// # Errors
    /// If it makes no sense; nothing has changed then.
    pub fn impair(&mut self, impairments: Impairments) -> Result<(), ImpairmentError> {
        let wanted = cable::Impairments {
            delay: Duration::from_micros(impairments.delay_us),
            jitter: Duration::from_micros(impairments.jitter_us),
            loss: impairments.loss,
            duplicate: impairments.duplicate,
            reorder: impairments.reorder,
            rate_bps: impairments.rate_bps,
            ..cable::Impairments::default()
        };
        self.cable.impair(End::A, wanted)?;
        self.cable.impair(End::B, wanted)?;
        self.impairments = impairments;
        Ok(())
    }

    /// Captures at the end that `place` means: its own name the first, `SWITCH:PORT` that port.
    ///
    /// # Errors
    /// If the kernel gives no descriptor.
    pub fn capture(&self, end: End, limits: CaptureLimits) -> io::Result<Capture> {
        self.cable.capture(end, limits)
    }

    /// The end that `place` means, if it means one of this cable: the first by the cable's name, or
    /// either by `SWITCH:PORT`, or as the file calls a TAP.
    pub fn end_at(&self, place: &str) -> Option<End> {
        if place == self.name() || self.guest.as_deref() == Some(place) {
            return Some(End::A);
        }
        let at = |side: usize| match self.on_switch[side] {
            true => place == format!("{}:{}", self.ends[side], self.ports[side]),
            false => place == self.ends[side],
        };
        match (at(0), at(1)) {
            (true, _) => Some(End::A),
            (_, true) => Some(End::B),
            _ => None,
        }
    }

    /// The port at the end that is a switch's.
    pub fn port_on(&self, switch: &str) -> Option<&str> {
        let mut sides = self.ends.iter().zip(self.on_switch).zip(&self.ports);
        sides.find_map(|((end, on_switch), port)| (on_switch && end == switch).then_some(&port[..]))
    }

    /// What people call its ends.
    pub fn ends(&self) -> &[String; 2] {
        &self.ends
    }

    /// Its port on a switch: that at its second end if there is one, else that at its first.
    pub fn port(&self) -> &str {
        let side = if self.on_switch[1] { 1 } else { 0 };
        &self.ports[side]
    }

    /// What became of frames that went in at an end.
    pub fn counters(&self, from: End) -> CableCounters {
        self.cable.counters(from)
    }

    /// What it has counted.
    pub(super) fn count(&self) -> CableCount {
        let [forth, back] = [End::A, End::B].map(|end| self.cable.counters(end));
        CableCount { cable: self.name().to_owned(), guest: self.guest.clone(), forth, back }
    }

    /// Whether frames may be on their way in it.
    pub(super) fn may_hold(&self) -> bool {
        let held = |end| self.cable.counters(end).held > 0;
        !self.impairments.is_none() || held(End::A) || held(End::B)
    }
}
