//! From frames to descriptors: one batch into the ring.

use std::sync::atomic::{Ordering, fence};

use vm_memory::{VolatileArrayRef, VolatileMemory, VolatileSlice};

use super::admit::{Arrival, Precedent};
use super::{ReceiveUnit, RxOutcome};
use crate::backend::{Frame, FrameBatch};
use crate::e1000::regs::{cause, rctl, rxd};
use crate::e1000::ring::{self, DESCRIPTOR_BYTES, DESCRIPTORS_PER_LINE, Descriptor};
use crate::e1000::traffic::{FCS_LEN, MIN_FRAME, Row};
use crate::memory::{CACHE_LINE, GuestRam, copy_piece, piece, prefetch_for_write};

/// Where a VLAN tag stands in a frame, and its length.
pub const TAG_AT: usize = 12;
pub const TAG_LEN: usize = 4;
/// Most descriptors of one frame: 64 buffers of 256 bytes, and some without a buffer in between. A
/// receiver must not make its neighbours search a long ring.
const MAX_SPAN: u32 = 256;
/// Frames whose buffers are fetched ahead of the copy.
const LOOKAHEAD: u32 = 48;

/// What a batch is placed with: the guest's memory, and what holds for all of its frames.
pub struct Work<'r> {
    ram: VolatileSlice<'r>,
    ring: VolatileArrayRef<'r, Descriptor>,
    /// Descriptors that are the device's.
    pub free: u32,
    buffer_size: usize,
    fcs_len: usize,
    longest_frame: usize,
    /// The longest that goes into one buffer with nothing added; 0 if something always is.
    longest_whole_frame: usize,
    row: Row,
    pub outcome: RxOutcome,
}

impl ReceiveUnit {
    /// Places the picked frames; `None` if the guest's ring is not in its RAM.
    pub(super) fn place_all<'r>(
        &mut self,
        ram: &'r GuestRam,
        batch: &FrameBatch<'_>,
        picks: &[u32],
        free: u32,
    ) -> Option<Work<'r>> {
        let (buffer_size, longest_frame) = (self.buffer_size(), self.longest_frame());
        let fcs_len = if self.rctl & rctl::SECRC != 0 { 0 } else { FCS_LEN };
        let mut work = Work {
            ram: ram.all(),
            ring: self.ring.view(ram)?,
            free,
            buffer_size,
            fcs_len,
            longest_frame,
            longest_whole_frame: if fcs_len == 0 { buffer_size.min(longest_frame) } else { 0 },
            row: Row::default(),
            outcome: RxOutcome::default(),
        };
        let mut precedent = Precedent::default();
        self.fetch_ahead(&work, 0);
        for chunk in picks.chunks(LOOKAHEAD as usize) {
            self.fetch_ahead(&work, chunk.len() as u32);
            let mut rest = chunk;
            while let Some((&pick, others)) = rest.split_first() {
                match self.place_row(batch, rest, &precedent, &mut work) {
                    0 => {
                        self.place(&batch.frame(pick as usize), &mut precedent, &mut work);
                        rest = others;
                    }
                    placed => rest = &rest[placed..],
                }
            }
        }
        work.row.end(&mut self.counters.traffic);
        Some(work)
    }

    /// Asks the cache for the buffers behind the next descriptors but `skip`, and for the descriptors
    /// that follow: the receiving guest's core was the last to touch either.
    #[inline]
    fn fetch_ahead(&self, work: &Work<'_>, skip: u32) {
        let at = |ahead| self.ring.after(self.ring.head, ahead);
        for ahead in skip..work.free.min(skip + LOOKAHEAD) {
            let [address, _] = work.ring.load(at(ahead) as usize);
            if let Some(buffer) = piece(&work.ram, address, CACHE_LINE) {
                prefetch_for_write(buffer);
            }
        }
        let descriptors = skip + LOOKAHEAD..work.free.min(skip + 2 * LOOKAHEAD);
        for ahead in descriptors.step_by(DESCRIPTORS_PER_LINE as usize) {
            if let Some(line) = ring::bytes(&work.ring, at(ahead)) {
                prefetch_for_write(line);
            }
        }
    }

    /// The common case: frames that fare like the one before, each in one piece and as it is into
    /// the next descriptor. Returns how many of the first picked frames were such.
    #[inline]
    fn place_row(
        &mut self,
        batch: &FrameBatch<'_>,
        picks: &[u32],
        precedent: &Precedent,
        work: &mut Work<'_>,
    ) -> usize {
        let Some(arrival) = precedent.for_all_alike() else { return 0 };
        let lengths = MIN_FRAME.max(self.rsrpd as usize + 1)..=work.longest_whole_frame;
        let (mut head, mut bytes, mut placed) = (self.ring.head, 0, 0);
        for &pick in picks.iter().take(work.free as usize) {
            let frame = batch.frame(pick as usize);
            let [whole] = frame.spans() else { break };
            let len = frame.len();
            if !precedent.applies_to(&frame) || !lengths.contains(&len) {
                break;
            }
            let [address, fields] = work.ring.load(head as usize);
            if address == 0 {
                break;
            }
            let Some(buffer) = piece(&work.ram, address, len) else { break };
            copy_piece(whole, &buffer);
            let filled = len as u64 | rxd::DD | rxd::EOP | arrival.fields;
            // With the CSB drivers need not clear what the head tells them. Then it often says this
            // already, and its cache line can stay with both cores.
            if fields != filled {
                write_back(&work.ring, head, filled);
            }
            work.row.add(len, arrival.destination, &mut self.counters.traffic);
            head = self.ring.next(head);
            bytes += len as u64;
            placed += 1;
        }
        self.ring.head = head;
        self.counters.bytes += bytes;
        work.free -= placed;
        work.outcome.delivered += placed as usize;
        placed as usize
    }

    /// Filters any frame and writes it into as many descriptors as it needs.
    fn place(&mut self, frame: &Frame<'_>, precedent: &mut Precedent, work: &mut Work<'_>) {
        match self.admit(frame, work.longest_frame, precedent) {
            Some(arrival) => self.place_in_parts(frame, arrival, work),
            None => self.refuse(frame),
        }
    }

    fn refuse(&mut self, frame: &Frame<'_>) {
        self.counters.refused_octets += (frame.len().max(MIN_FRAME) + FCS_LEN) as u64;
    }

    fn place_in_parts(&mut self, frame: &Frame<'_>, arrival: &Arrival, work: &mut Work<'_>) {
        let padded = frame.len().max(MIN_FRAME);
        let total = padded - arrival.stripped + work.fcs_len;
        work.free -= self.pass_null_descriptors(&work.ring, work.free);
        let needed = total.div_ceil(work.buffer_size) as u32;
        let Some(span) = self.span(&work.ring, work.free, needed) else {
            self.counters.dropped.no_buffer += 1;
            work.outcome.causes |= cause::RXO;
            return self.refuse(frame);
        };
        work.free -= span;
        if total <= self.rsrpd as usize {
            work.outcome.causes |= cause::SRPD;
        }

        let own_len = frame.len() - arrival.stripped;
        let mut offset = 0;
        let mut good = true;
        for _ in 0..span {
            if self.pass_null_descriptors(&work.ring, 1) == 1 {
                continue;
            }
            let count = work.buffer_size.min(total - offset);
            let address = work.ring.load(self.ring.head as usize)[0];
            match piece(&work.ram, address, count) {
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
            write_back(&work.ring, self.ring.head, fields);
            self.ring.head = self.ring.next(self.ring.head);
        }
        if good {
            work.outcome.delivered += 1;
            self.counters.bytes += frame.len() as u64;
            work.row.add(padded, arrival.destination, &mut self.counters.traffic);
        } else {
            self.counters.dropped.bad_address += 1;
            self.refuse(frame);
        }
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

    /// RCTL.BSIZE and BSEX (manual 13.4.22).
    #[inline]
    fn buffer_size(&self) -> usize {
        let size = 2048usize >> ((self.rctl >> rctl::BSIZE_SHIFT) & 0b11);
        if self.rctl & rctl::BSEX != 0 && size != 2048 { size * 16 } else { size }
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
