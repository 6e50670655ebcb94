//! The receive side: filters frames, copies them into the guest's buffers, writes back.

use std::sync::atomic::{Ordering, fence};

use serde::Serialize;
use vm_memory::{VolatileArrayRef, VolatileMemory, VolatileSlice};

use super::checksum::Sum;
use super::csb::{Csb, Field};
use super::filter::{Filter, Match};
use super::inspect;
use super::medium::{Medium, VlanMode};
use super::regs::{cause, rctl, rxcsum, rxd};
use super::ring::{DESCRIPTOR_BYTES, Descriptor, Ring};
use super::traffic::{FCS_LEN, MIN_FRAME, Traffic};
use crate::backend::{Frame, FrameBatch, Mac};
use crate::memory::GuestRam;

/// Longest frame without RCTL.LPE, without its check sequence: 1518 bytes and a VLAN tag.
const MAX_STANDARD_FRAME: usize = 1518;
/// Longest frame with RCTL.LPE (manual 13.4.22).
const MAX_LONG_FRAME: usize = 16384 - FCS_LEN;
/// Where a VLAN tag stands in a frame, and its length.
const TAG_AT: usize = 12;
const TAG_LEN: usize = 4;
/// Most descriptors of one frame: 64 buffers of 256 bytes, and some without a buffer in between. A
/// receiver must not make its neighbours search a long ring.
const MAX_SPAN: u32 = 256;
/// Frames whose buffers are fetched ahead of the copy.
const LOOKAHEAD: u32 = 16;
/// Bytes of a cache line.
const CACHE_LINE: usize = 64;
/// How long after an unannounced frame the host looks again whether the guest sleeps, in
/// nanoseconds: drivers without a fence can go to sleep unseen.
const RECHECK_AFTER: u64 = 1_000_000;

/// What the receive side has done since it was made.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct RxCounters {
    /// Frames written to the guest.
    pub frames: u64,
    /// Their bytes, without padding and check sequence.
    pub bytes: u64,
    /// The same frames, as the statistics registers sort them.
    pub traffic: Traffic,
    /// Bytes on the wire of the frames that were turned away while reception was on.
    pub refused_octets: u64,
    /// Batches with at least one frame for this guest.
    pub batches: u64,
    /// Frames not received, by cause.
    pub dropped: RxDrops,
    /// Interrupts that the CSB's late second look had to send.
    pub lost_notifications: u64,
}

/// Frames that the receive side turned away, by cause.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct RxDrops {
    /// RCTL.EN or bus mastering was off.
    pub disabled: u64,
    /// The link was down.
    pub link_down: u64,
    /// Not for this address or VLAN.
    pub filtered: u64,
    /// Longer than the guest accepts.
    pub oversize: u64,
    /// The guest had no free descriptor.
    pub no_buffer: u64,
    /// The guest's ring or buffer lies outside its RAM.
    pub bad_address: u64,
}

impl RxDrops {
    /// All causes together.
    pub fn total(&self) -> u64 {
        self.disabled
            + self.link_down
            + self.filtered
            + self.oversize
            + self.no_buffer
            + self.bad_address
    }
}

/// A frame that passed the filters.
struct Arrival {
    /// Where it goes, for the statistics.
    destination: Mac,
    /// Bytes of VLAN tag that the guest does not get.
    stripped: usize,
    /// Everything of the descriptor's second word but length, DD, EOP and RXE.
    fields: u64,
}

/// What a batch did, for the interrupt block and the timer.
#[derive(Clone, Copy, Debug, Default)]
pub struct RxOutcome {
    /// Frames that the guest got.
    pub delivered: usize,
    /// RXDMT0, RXO and SRPD, if the batch brought them about.
    pub causes: u32,
    /// Causes of which the guest said through the CSB that it does not want to hear.
    pub quiet_causes: u32,
    /// The guest wants to hear of received frames.
    pub interrupt: bool,
    /// When [`ReceiveUnit::on_timer`] must run.
    pub deadline: Option<u64>,
}

/// Receive registers and state.
#[derive(Debug)]
pub struct ReceiveUnit {
    ram: GuestRam,
    /// RDBAL, RDBAH, RDLEN, RDH, RDT.
    pub ring: Ring,
    /// RCTL.
    pub rctl: u32,
    /// RXCSUM.
    pub rxcsum: u32,
    /// RSRPD: frames of at most so many bytes raise SRPD.
    pub rsrpd: u32,
    /// Address and VLAN filter.
    pub filter: Filter,
    /// CTRL.VME and VET.
    pub vlan: VlanMode,
    /// PCI Command.BME.
    pub bus_master: bool,
    /// Where frames come from.
    pub medium: Medium,
    csb: Option<Csb>,
    recheck_at: Option<u64>,
    counters: RxCounters,
}

impl ReceiveUnit {
    /// A receive unit after power-on.
    pub fn new(ram: GuestRam, mac: [u8; 6]) -> Self {
        Self {
            ram,
            ring: Ring::default(),
            rctl: 0,
            rxcsum: 0,
            rsrpd: 0,
            filter: Filter::new(mac),
            vlan: VlanMode::default(),
            bus_master: false,
            medium: Medium::default(),
            csb: None,
            recheck_at: None,
            counters: RxCounters::default(),
        }
    }

    /// CTRL.RST: registers go to their defaults; the CSB stays mapped, as its drivers expect.
    pub fn reset(&mut self, mac: [u8; 6]) {
        self.ring = Ring::default();
        self.rctl = 0;
        self.rxcsum = 0;
        self.rsrpd = 0;
        self.filter = Filter::new(mac);
        self.vlan = VlanMode::default();
        self.recheck_at = None;
        if let Some(csb) = &self.csb {
            csb.store(Field::HostRdh, 0);
        }
    }

    /// CSBAL: maps or releases the block.
    pub fn set_csb(&mut self, csb: Option<Csb>) {
        self.csb = csb;
        self.recheck_at = None;
    }

    /// Counters so far.
    pub fn counters(&self) -> RxCounters {
        self.counters
    }

    /// Receives the picked frames, which come over `medium`.
    pub fn receive(
        &mut self,
        medium: Medium,
        batch: &FrameBatch<'_>,
        picks: &[u32],
        now: u64,
    ) -> RxOutcome {
        let mut outcome = RxOutcome { deadline: self.recheck_at, ..RxOutcome::default() };
        let dropped = &mut self.counters.dropped;
        let all = picks.len() as u64;
        if self.medium != medium {
            dropped.link_down += all;
            return outcome;
        }
        if self.rctl & rctl::EN == 0 || !self.bus_master {
            dropped.disabled += all;
            return outcome;
        }
        let ram = self.ram.clone();
        let Some(ring) = self.ring.view(&ram) else {
            dropped.bad_address += all;
            return outcome;
        };
        let csb = self.csb.as_ref().filter(|csb| csb.on()).cloned();
        if let Some(csb) = &csb {
            self.ring.tail = csb.load(Field::GuestRdt);
        }

        let free_before = self.ring.owned(self.ring.tail);
        let mut free = free_before;
        self.fetch_ahead(&ram, &ring, 0, free);
        for chunk in picks.chunks(LOOKAHEAD as usize) {
            self.fetch_ahead(&ram, &ring, chunk.len() as u32, free);
            for &pick in chunk {
                free -= self.place(&batch.frame(pick as usize), &ram, &ring, free, &mut outcome);
            }
        }

        if self.crossed_low_mark(free_before, free) {
            outcome.causes |= cause::RXDMT0;
        }
        if outcome.delivered > 0 {
            self.counters.frames += outcome.delivered as u64;
            self.counters.batches += 1;
        }
        match csb {
            None => outcome.interrupt = outcome.delivered > 0,
            Some(csb) => self.announce(&csb, now, &mut outcome),
        }
        outcome
    }

    /// The late second look for guests that went to sleep unseen.
    pub fn on_timer(&mut self, now: u64) -> RxOutcome {
        let mut outcome = RxOutcome::default();
        if self.recheck_at.is_some_and(|at| at <= now) {
            self.recheck_at = None;
            // Asleep, and without having returned every buffer: it may not know of a frame.
            let overslept = |csb: &Csb| {
                csb.on()
                    && csb.load(Field::GuestNeedRxkick) != 0
                    && self.ring.owned(csb.load(Field::GuestRdt)) + 1 < self.ring.size()
            };
            if self.csb.as_ref().is_some_and(overslept) {
                self.counters.lost_notifications += 1;
                outcome.interrupt = true;
            }
        }
        outcome.deadline = self.recheck_at;
        outcome
    }

    /// Tells the guest, if it listens; the fence orders the frames before its request.
    fn announce(&mut self, csb: &Csb, now: u64, outcome: &mut RxOutcome) {
        csb.store(Field::HostRdh, self.ring.head);
        fence(Ordering::SeqCst);
        let wanted = csb.load(Field::GuestNeedRxkick) != 0;
        let delivered = outcome.delivered > 0;
        if wanted {
            outcome.interrupt = delivered;
        } else {
            // An overrun is told in any case.
            let received = if delivered { cause::RXT0 } else { 0 };
            outcome.quiet_causes = outcome.causes & !cause::RXO | received;
            outcome.causes &= cause::RXO;
        }
        if delivered {
            // Counted from the latest frame: that is the one it may have missed.
            self.recheck_at = (!wanted).then_some(now + RECHECK_AFTER);
        }
        outcome.deadline = self.recheck_at;
    }

    /// Asks the cache for the buffers behind the next descriptors but `skip`, and for the descriptors
    /// that follow: the receiving guest's core was the last to touch either.
    #[inline]
    fn fetch_ahead(
        &self,
        ram: &GuestRam,
        ring: &VolatileArrayRef<'_, Descriptor>,
        skip: u32,
        free: u32,
    ) {
        let size = self.ring.size();
        let at = |ahead: u32| {
            let index = self.ring.head + ahead;
            (if index >= size { index - size } else { index }) as usize
        };
        for ahead in skip..free.min(skip + LOOKAHEAD) {
            if let Some(buffer) = ram.slice(ring.load(at(ahead))[0], CACHE_LINE) {
                prefetch_for_write(buffer);
            }
        }
        let descriptors = skip + LOOKAHEAD..free.min(skip + 2 * LOOKAHEAD);
        for ahead in descriptors.step_by(CACHE_LINE / DESCRIPTOR_BYTES as usize) {
            let offset = at(ahead) * DESCRIPTOR_BYTES as usize;
            if let Ok(line) = ring.to_slice().subslice(offset, DESCRIPTOR_BYTES as usize) {
                prefetch_for_write(line);
            }
        }
    }

    /// Writes one frame into as many of the `free` descriptors as it needs; returns that number.
    #[inline]
    fn place(
        &mut self,
        frame: &Frame<'_>,
        ram: &GuestRam,
        ring: &VolatileArrayRef<'_, Descriptor>,
        free: u32,
        outcome: &mut RxOutcome,
    ) -> u32 {
        let buffer_size = self.buffer_size();
        let Some(arrival) = self.admit(frame) else {
            self.counters.refused_octets += (frame.len().max(MIN_FRAME) + FCS_LEN) as u64;
            return 0;
        };
        let padded = frame.len().max(MIN_FRAME);
        let fcs_len = if self.rctl & rctl::SECRC != 0 { 0 } else { FCS_LEN };
        let total = padded - arrival.stripped + fcs_len;
        let skipped = self.pass_null_descriptors(ring, free);
        let needed = total.div_ceil(buffer_size) as u32;
        let Some(span) = self.span(ring, free - skipped, needed) else {
            self.counters.dropped.no_buffer += 1;
            self.counters.refused_octets += (padded + FCS_LEN) as u64;
            outcome.causes |= cause::RXO;
            return skipped;
        };
        if total <= self.rsrpd as usize {
            outcome.causes |= cause::SRPD;
        }

        let own_len = frame.len() - arrival.stripped;
        let mut offset = 0;
        let mut good = true;
        for _ in 0..span {
            if self.pass_null_descriptors(ring, 1) == 1 {
                continue;
            }
            let count = buffer_size.min(total - offset);
            let address = ring.load(self.ring.head as usize)[0];
            match ram.slice(address, count) {
                Some(buffer) => {
                    let copied = copy(frame, arrival.stripped, offset, buffer);
                    if let (true, Ok(rest)) = (copied < count, buffer.offset(copied)) {
                        write_trailer(frame, padded, offset + copied - own_len, rest);
                    }
                }
                None => good = false,
            }
            offset += count;
            let last = if offset == total { rxd::EOP } else { 0 };
            let error = if good { 0 } else { rxd::RXE };
            let fields = count as u64 | rxd::DD | last | error | arrival.fields;
            write_back(ring, self.ring.head, fields);
            self.ring.head = self.ring.next(self.ring.head);
        }
        if good {
            outcome.delivered += 1;
            self.counters.bytes += frame.len() as u64;
            self.counters.traffic.count(padded, arrival.destination);
        } else {
            self.counters.dropped.bad_address += 1;
            self.counters.refused_octets += (padded + FCS_LEN) as u64;
        }
        skipped + span
    }

    /// Writes back descriptors without a buffer, at most `limit` and up to the first with one: they
    /// take no data, and only DD changes (manual 3.2.5.2). Returns their number.
    #[inline]
    fn pass_null_descriptors(
        &mut self,
        ring: &VolatileArrayRef<'_, Descriptor>,
        limit: u32,
    ) -> u32 {
        let mut passed = 0;
        while passed < limit {
            let [address, fields] = ring.load(self.ring.head as usize);
            if address != 0 {
                break;
            }
            write_back(ring, self.ring.head, fields | rxd::DD);
            self.ring.head = self.ring.next(self.ring.head);
            passed += 1;
        }
        passed
    }

    /// How many of the next `free` descriptors hold `needed` buffers; `None` if all do not.
    #[inline]
    fn span(&self, ring: &VolatileArrayRef<'_, Descriptor>, free: u32, needed: u32) -> Option<u32> {
        let mut index = self.ring.head;
        let mut buffers = 0;
        for span in 1..=free.min(MAX_SPAN) {
            buffers += u32::from(ring.load(index as usize)[0] != 0);
            if buffers == needed {
                return Some(span);
            }
            index = self.ring.next(index);
        }
        None
    }

    /// Applies the filters; `None` if the frame is turned away.
    #[inline]
    fn admit(&mut self, frame: &Frame<'_>) -> Option<Arrival> {
        let passed = frame.addresses().and_then(|(destination, source)| {
            Some((destination, self.filter.accepts(destination, source, self.rctl)?))
        });
        let Some((destination, matched)) = passed else {
            self.counters.dropped.filtered += 1;
            return None;
        };
        // BPRC does not count what another filter let pass (manual 13.7.28).
        let unasked = destination == Mac::BROADCAST && self.rctl & rctl::BAM == 0;
        let destination = if unasked { Mac::default() } else { destination };
        let mut arrival = Arrival { destination, stripped: 0, fields: rxd::IXSM };
        if matched == Match::Hash {
            arrival.fields |= rxd::PIF;
        }
        if (self.vlan.enabled || self.rctl & rctl::VFE != 0)
            && !self.admit_vlan(frame, &mut arrival)
        {
            self.counters.dropped.filtered += 1;
            return None;
        }
        let bad_allowed = self.rctl & (rctl::LPE | rctl::SBP) != 0;
        if frame.len() > if bad_allowed { MAX_LONG_FRAME } else { MAX_STANDARD_FRAME } {
            self.counters.dropped.oversize += 1;
            return None;
        }
        if self.rxcsum != 0 {
            self.check(frame, &mut arrival);
        }
        Some(arrival)
    }

    /// The VLAN filter, and the tag's way from the frame to the descriptor. False: turned away.
    #[cold]
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
    #[cold]
    fn check(&self, frame: &Frame<'_>, arrival: &mut Arrival) {
        arrival.fields &= !rxd::IXSM;
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

    /// RCTL.BSIZE and BSEX (manual 13.4.22).
    #[inline]
    fn buffer_size(&self) -> usize {
        let size = 2048usize >> ((self.rctl >> rctl::BSIZE_SHIFT) & 0b11);
        if self.rctl & rctl::BSEX != 0 && size != 2048 { size * 16 } else { size }
    }

    /// RCTL.RDMTS: the free descriptors fell to a half, a quarter or an eighth of the ring.
    fn crossed_low_mark(&self, before: u32, after: u32) -> bool {
        let mark = self.ring.size() >> (1 + ((self.rctl >> rctl::RDMTS_SHIFT) & 0b11).min(2));
        before > mark && after <= mark
    }
}

/// Copies what the guest gets of `frame`, from `offset` on, into `buffer`; returns the bytes copied.
/// `stripped` bytes behind the addresses are left out.
#[inline]
fn copy(frame: &Frame<'_>, stripped: usize, offset: usize, buffer: VolatileSlice<'_>) -> usize {
    let split = TAG_AT.saturating_sub(offset).min(buffer.len());
    match (stripped, buffer.split_at(split)) {
        (0, _) | (_, Err(_)) => frame.copy_to_guest(offset, buffer),
        (_, Ok((before, behind))) => {
            let copied = frame.copy_to_guest(offset, before);
            copied + frame.copy_to_guest(offset + split + stripped, behind)
        }
    }
}

/// Fills `rest` with what follows a frame's own bytes, `skip` bytes into it: zeroes up to `padded`,
/// then the check sequence, as far as `rest` has room.
#[cold]
fn write_trailer(frame: &Frame<'_>, padded: usize, skip: usize, rest: VolatileSlice<'_>) {
    let padding = padded - frame.len();
    let mut trailer = [0; MIN_FRAME + FCS_LEN];
    let fcs = frame_check_sequence(frame, &trailer[..padding]);
    trailer[padding..padding + FCS_LEN].copy_from_slice(&fcs);
    rest.copy_from(&trailer[skip..padding + FCS_LEN]);
}

/// CRC-32 of IEEE 802.3, in wire order.
fn frame_check_sequence(frame: &Frame<'_>, padding: &[u8]) -> [u8; FCS_LEN] {
    let mut crc = crc32fast::Hasher::new();
    let mut chunk = [0; 256];
    let mut offset = 0;
    loop {
        let count = frame.copy_out(offset, &mut chunk);
        if count == 0 {
            break;
        }
        crc.update(&chunk[..count]);
        offset += count;
    }
    crc.update(padding);
    crc.finalize().to_le_bytes()
}

/// Writes length, checksum, status, errors and tag in one store, after the payload (manual 3.2.3).
#[inline]
fn write_back(ring: &VolatileArrayRef<'_, Descriptor>, index: u32, fields: u64) {
    const FIELDS_OFFSET: usize = 8;
    let at = index as usize * DESCRIPTOR_BYTES as usize + FIELDS_OFFSET;
    fence(Ordering::Release);
    if let Ok(target) = ring.to_slice().get_ref::<u64>(at) {
        target.store(fields);
    }
}

/// Starts fetching the first cache line of `slice` in exclusive state.
#[inline]
fn prefetch_for_write(slice: VolatileSlice<'_>) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        // SAFETY: a prefetch never faults and changes no memory.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(slice.ptr_guard().as_ptr().cast()) };
    }
}
