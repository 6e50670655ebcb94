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
        (waiting || self.is_between_taps(), moved)
    }

    /// Whether frames wait in a TAP's queue, which the kernel does not show. Between two guests on a
    /// bridge it follows: what one TAP was given comes out of the other, or was dropped there.
    fn is_between_taps(&self) -> bool {
        let of_guest = |tap: &TapCount| tap.guest.as_ref().and(tap.ours).map(|ours| ours.rx_frames);
        let read: Option<Vec<u64>> = self.taps.iter().map(of_guest).collect();
        let Some(read) = read.filter(|read| read.len() == 2) else { return false };
        let kernel = || self.taps.iter().map(|tap| &tap.kernel);
        let written: u64 = kernel().map(|count| count.written).sum();
        let dropped: u64 = kernel().map(|count| count.queue_full + count.qdisc_dropped).sum();
        written > read.iter().sum::<u64>() + dropped
    }
}
