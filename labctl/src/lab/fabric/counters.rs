//! What was counted between the NICs.

use serde::Serialize;
use vmm_core::backend::TapCounters;
use vmm_core::cable::CableCounters;
use vmm_core::switch::PortCounters;

use crate::lab::network::PortStats;

/// What switches, TAPs and cables have counted.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FabricCounters {
    /// Per VALE switch its name and its counters by port.
    pub switches: Vec<(String, Vec<(u8, PortCounters)>)>,
    /// In the order of guests and NICs, then those of other cables.
    pub taps: Vec<TapCount>,
    /// Of all cables, by name.
    pub cables: Vec<CableCount>,
}

/// What was counted at a TAP.
#[derive(Clone, Debug, Serialize)]
pub struct TapCount {
    /// Its interface.
    pub interface: String,
    /// The guest that is on it, if one is.
    pub guest: Option<String>,
    /// By us; `None` if another VMM holds it.
    pub ours: Option<TapCounters>,
    /// By the kernel.
    pub kernel: PortStats,
}

/// What was counted in a cable.
#[derive(Clone, Debug, Serialize)]
pub struct CableCount {
    /// Its name.
    pub cable: String,
    /// The guest whose it is, if it is one's.
    pub guest: Option<String>,
    /// From its first end: from the guest.
    pub forth: CableCounters,
    /// From its second end: to the guest.
    pub back: CableCounters,
}

impl FabricCounters {
    /// Whether frames are known to wait somewhere, and how many have moved so far.
    pub(super) fn in_motion(&self) -> (bool, u64) {
        let unread = |tap: &TapCount| {
            let unread = tap.ours.is_some_and(|ours| ours.rx_frames < tap.kernel.read);
            unread || tap.kernel.qdisc_queued > 0
        };
        let held = |cable: &CableCount| cable.forth.held + cable.back.held > 0;
        let through_tap = |tap: &TapCount| match tap.ours {
            Some(ours) => ours.rx_frames + ours.tx_frames,
            None => tap.kernel.read + tap.kernel.written,
        };
        let through_cable = |cable: &CableCount| cable.forth.frames + cable.back.frames;
        let moved = self.taps.iter().map(through_tap).sum::<u64>()
            + self.cables.iter().map(through_cable).sum::<u64>();
        let waiting = self.taps.iter().any(unread) || self.cables.iter().any(held);
        // The kernel does not show what waits in a TAP's queue.
        let between_taps = self.between_taps().is_some_and(|(written, gone)| written > gone);
        (waiting || between_taps, moved)
    }

    /// Where all TAPs are those of two guests, and ours: frames written to them, and frames read from
    /// them or dropped there. With two guests a bridge makes one copy of every frame.
    pub fn between_taps(&self) -> Option<(u64, u64)> {
        let [one, other] = &self.taps[..] else { return None };
        let count = |tap: &TapCount| {
            let read = tap.guest.as_ref().and(tap.ours)?.rx_frames;
            let kernel = &tap.kernel;
            Some((kernel.written, read + kernel.queue_full + kernel.qdisc_dropped))
        };
        let ((written, gone), (also_written, also_gone)) = (count(one)?, count(other)?);
        Some((written + also_written, gone + also_gone))
    }
}
