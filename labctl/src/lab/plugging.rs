//! Cables of a running lab that are plugged in and out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vmm_core::e1000::E1000;

use super::{RunningGuest, RunningLab};
use crate::error::Error;

/// How long guests that listen may take to announce themselves before others begin.
const ANNOUNCE_TIME: Duration = Duration::from_millis(200);

impl RunningLab {
    /// Plugs all cables in, or out, at one instant. QEMUs are told one by one, and to plug in those
    /// first whose guests listen.
    pub fn set_links(&mut self, up: bool) {
        self.plug_nics(|_| true, up);
        for starts in [!up, up] {
            let guests = self.guests.values_mut().filter(|guest| guest.starts() == starts);
            guests.filter_map(RunningGuest::qemu_mut).for_each(|qemu| qemu.set_link(up));
        }
    }

    /// Plugs the cables of those guests in that do not begin to send by themselves, and waits until
    /// they have announced themselves: switches then know where they are, and flood no stream to those
    /// whom it does not concern. QEMUs are left to [`set_links`](Self::set_links).
    ///
    /// # Errors
    /// If the kernel does not tell its counters.
    pub async fn plug_in_listeners(&mut self) -> Result<(), Error> {
        let nics = self.plug_nics(|guest| !guest.starts(), true);
        let deadline = Instant::now() + ANNOUNCE_TIME;
        while nics.iter().any(|nic| nic.counters().tx.frames == 0) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if nics.is_empty() { Ok(()) } else { self.settle().await }
    }

    /// Plugs the cables of guest `number` in, or out.
    pub fn set_link(&mut self, number: usize, up: bool) {
        let name = self.name(number).to_owned();
        self.plug_nics(|guest| guest.name() == name, up);
        let Some(guest) = self.guests.get_mut(&number) else { return };
        guest.qemu_mut().into_iter().for_each(|qemu| qemu.set_link(up));
    }

    /// Plugs the cables of some guests in, or out, at one instant; returns the NICs.
    pub(super) fn plug_nics(
        &mut self,
        which: impl Fn(&RunningGuest) -> bool,
        up: bool,
    ) -> Vec<Arc<E1000>> {
        let mut nics = Vec::new();
        for guest in self.guests.values_mut().filter(|guest| which(guest)) {
            guest.let_go(up);
            // What somebody has unplugged stays so.
            let plugged = guest.cabled().filter(|(name, _)| !up || self.fabric.is_plugged(name));
            nics.extend(plugged.map(|(_, device)| device.clone()));
        }
        E1000::set_links(&nics, up);
        nics
    }

    /// Plugs the cable of that name in, or out.
    pub fn plug_cable(&mut self, name: &str, up: bool) {
        if let Some(cable) = self.fabric.cable_mut(name) {
            cable.set_plugged(up);
        }
        for guest in self.guests.values().filter(|guest| guest.is_let_go()) {
            if let Some((_, device)) = guest.cabled().find(|(cable, _)| cable == name) {
                E1000::set_links(std::slice::from_ref(device), up);
            }
        }
    }
}
