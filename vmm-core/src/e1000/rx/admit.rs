//! Which frames the guest gets, and what their descriptors say of them.

use super::ReceiveUnit;
use super::place::{TAG_AT, TAG_LEN};
use crate::backend::{Frame, Mac};
use crate::e1000::checksum::Sum;
use crate::e1000::filter::Match;
use crate::e1000::inspect;
use crate::e1000::regs::{rctl, rxcsum, rxd};
use crate::e1000::traffic::FCS_LEN;

/// Longest frame without RCTL.LPE, without its check sequence: 1518 bytes and a VLAN tag.
const MAX_STANDARD_FRAME: usize = 1518;
/// Longest frame with RCTL.LPE (manual 13.4.22).
const MAX_LONG_FRAME: usize = 16384 - FCS_LEN;

/// A frame that passed the filters.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Where it goes, for the statistics.
    pub destination: Mac,
    /// Bytes of VLAN tag that the guest does not get.
    pub stripped: usize,
    /// Everything of the descriptor's second word but length, DD, EOP and RXE.
    pub fields: u64,
}

/// How the last frame fared. Neighbours mostly share their addresses, and where nothing but these
/// decides they fare alike.
#[derive(Clone, Copy, Debug, Default)]
pub struct Precedent {
    /// Whose verdict this is; `None` if frames must be judged one by one.
    addresses: Option<(Mac, Mac)>,
    verdict: Option<Arrival>,
}

impl Precedent {
    /// What becomes of all frames that it applies to, if they pass.
    #[inline]
    pub fn for_all_alike(&self) -> Option<&Arrival> {
        self.verdict.as_ref().filter(|_| self.addresses.is_some())
    }

    /// Whether `frame` fares alike.
    #[inline]
    pub fn applies_to(&self, frame: &Frame<'_>) -> bool {
        self.addresses.is_some() && self.addresses == frame.addresses()
    }
}

impl ReceiveUnit {
    /// RCTL.LPE and SBP: the longest frame that the guest accepts.
    pub(super) fn longest_frame(&self) -> usize {
        let bad_allowed = self.rctl & (rctl::LPE | rctl::SBP) != 0;
        if bad_allowed { MAX_LONG_FRAME } else { MAX_STANDARD_FRAME }
    }

    /// Applies the filters; `None` if the frame is turned away.
    pub(super) fn admit<'p>(
        &mut self,
        frame: &Frame<'_>,
        longest: usize,
        precedent: &'p mut Precedent,
    ) -> Option<&'p Arrival> {
        if !precedent.applies_to(frame) {
            *precedent = self.judge(frame);
        }
        if precedent.verdict.is_none() {
            self.counters.dropped.filtered += 1;
        } else if frame.len() > longest {
            self.counters.dropped.oversize += 1;
            return None;
        }
        precedent.verdict.as_ref()
    }

    /// What the filters make of a frame.
    fn judge(&self, frame: &Frame<'_>) -> Precedent {
        let addresses = frame.addresses();
        let mut verdict = addresses.and_then(|addresses| self.match_addresses(addresses));
        if self.looks_at_tags() || self.rxcsum != 0 {
            verdict = verdict.and_then(|arrival| self.judge_contents(frame, arrival));
            return Precedent { addresses: None, verdict };
        }
        if let Some(arrival) = &mut verdict {
            arrival.fields |= rxd::IXSM;
        }
        Precedent { addresses, verdict }
    }

    /// The address filter.
    fn match_addresses(&self, (destination, source): (Mac, Mac)) -> Option<Arrival> {
        let matched = self.filter.accepts(destination, source, self.rctl)?;
        // BPRC does not count what another filter let pass (manual 13.7.28).
        let unasked = destination == Mac::BROADCAST && self.rctl & rctl::BAM == 0;
        let destination = if unasked { Mac::default() } else { destination };
        let fields = if matched == Match::Hash { rxd::PIF } else { 0 };
        Some(Arrival { destination, stripped: 0, fields })
    }

    fn looks_at_tags(&self) -> bool {
        self.vlan.enabled || self.rctl & rctl::VFE != 0
    }

    /// The VLAN filter, the tag's way from the frame to the descriptor, and the checksums.
    #[cold]
    fn judge_contents(&self, frame: &Frame<'_>, mut arrival: Arrival) -> Option<Arrival> {
        if self.looks_at_tags() && !self.admit_vlan(frame, &mut arrival) {
            return None;
        }
        if self.rxcsum == 0 {
            arrival.fields |= rxd::IXSM;
        } else if frame.len() <= self.longest_frame() {
            self.check(frame, &mut arrival);
        }
        Some(arrival)
    }

    /// False: turned away.
    fn admit_vlan(&self, frame: &Frame<'_>, arrival: &mut Arrival) -> bool {
        let mut bytes = [0; TAG_LEN];
        let complete = frame.copy_out(TAG_AT, &mut bytes) == TAG_LEN;
        let Some(control) = self.vlan.control(bytes).filter(|_| complete) else {
            return true;
        };
        if self.vlan.enabled {
            arrival.stripped = TAG_LEN;
            arrival.fields |= rxd::VP | u64::from(control) << rxd::SPECIAL_SHIFT;
        }
        self.filter.accepts_vlan(control, self.rctl)
    }

    /// Computes the checksums that RXCSUM asks for.
    ///
    /// The part also fills in the packet checksum when RXCSUM is zero, from the first byte on; no
    /// driver reads it then, and it would cost every other one a pass over the frame.
    fn check(&self, frame: &Frame<'_>, arrival: &mut Arrival) {
        arrival.fields |= inspect::checksums(frame, arrival.stripped, self.rxcsum);
        let start = (self.rxcsum & rxcsum::PCSS) as usize;
        let mut sum = Sum::default();
        if start < TAG_AT {
            sum.add_frame(frame, start, TAG_AT);
        }
        sum.add_frame(frame, start.max(TAG_AT) + arrival.stripped, frame.len());
        let checksum = u16::from_be_bytes(sum.checksum());
        arrival.fields |= u64::from(checksum) << rxd::CHECKSUM_SHIFT;
    }
}
