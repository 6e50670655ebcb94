//! From descriptors to frames: one run through the ring.

use std::sync::atomic::{Ordering, fence};

use vm_memory::{VolatileArrayRef, VolatileMemory, VolatileSlice};

use super::{Transmitter, TxOutcome};
use crate::backend::{Backend, ETH_HEADER_LEN, FrameBatch};
use crate::e1000::csb::{Csb, Field};
use crate::e1000::descriptor::{Checksum, Format, STATUS_DD, TxDescriptor, command, option};
use crate::e1000::medium::Medium;
use crate::e1000::offload::{HEADER_MAX, Request, Segmentation};
use crate::e1000::regs::{cause, tctl, txdctl};
use crate::e1000::ring::{self, DESCRIPTOR_BYTES, DESCRIPTORS_PER_LINE, Descriptor};
use crate::e1000::traffic::{MIN_FRAME, Row};
use crate::memory::{CACHE_LINE, piece, prefetch};

/// Frames handed over at once: enough to amortise a hand-over, few enough that the receiving core
/// starts while the sending one still gathers.
const BATCH: usize = 256;

/// Longest packet that the part sends (manual 3.3.3).
const MAX_FRAME: usize = 16288;

/// Longest packet that it cuts into segments: what PAYLEN can say (manual 3.3.6).
const MAX_PACKET: usize = 1 << 20;

/// Most descriptors of one packet.
const MAX_CHAIN: u32 = 256;

/// Work of one run: a full ring of any driver there is. A guest that has more (rings can be made of
/// 65,528 descriptors, packets of 4096 segments) gets the rest done by the timer, so that no
/// register write holds its vCPU for long.
const DESCRIPTORS_PER_RUN: u32 = 4096;
/// The same in frames, of which segmentation makes many.
const FRAMES_PER_RUN: u64 = 16384;
/// The same in bytes.
const BYTES_PER_RUN: u64 = 32 << 20;

/// Buffers to fetch ahead of their frame, and descriptors: further still, for a buffer's address is
/// read from its descriptor.
const BUFFERS_AHEAD: u32 = 24;
const DESCRIPTORS_AHEAD: u32 = 48;

/// Bytes of device memory that a run needs: a header for every frame of a batch, then zeroes.
pub const SCRATCH_LEN: usize = ZEROES + MIN_FRAME;
const ZEROES: usize = BATCH * HEADER_MAX;

/// Why the device could not send a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    BadAddress,
    Oversize,
    Unsupported,
}

/// What a run works with: guest memory, and the device's own for headers and padding.
struct Assembly<'r> {
    ram: VolatileSlice<'r>,
    scratch: VolatileSlice<'r>,
    batch: FrameBatch<'r>,
    /// The pieces of a packet that is being edited.
    packet: Vec<VolatileSlice<'r>>,
    /// Every descriptor of the batch is a frame.
    plain: bool,
    /// One of them asks for a report (RS).
    reports: bool,
}

impl<'r> Assembly<'r> {
    /// Pads the open frame with zeroes to the shortest length on a wire.
    fn pad(&mut self) {
        let missing = MIN_FRAME.saturating_sub(self.batch.open_len());
        if let (true, Ok(zeroes)) = (missing > 0, self.scratch.subslice(ZEROES, missing)) {
            self.batch.push_span(zeroes);
        }
    }

    /// Puts a header in front of the next frame.
    fn push_header(&mut self, header: &[u8]) {
        if let Ok(slot) = self.scratch.subslice(self.batch.len() * HEADER_MAX, header.len()) {
            slot.copy_from(header);
            self.batch.push_span(slot);
        }
    }
}

impl Transmitter {
    /// Sends what lies between head and `tail`, about `most` frames of it and within the limits of
    /// one run; returns the number of descriptors consumed.
    pub(super) fn run(
        &mut self,
        tail: u32,
        most: u32,
        csb: Option<&Csb>,
        own: &mut dyn Backend,
        outcome: &mut TxOutcome,
    ) -> u32 {
        self.backlog = false;
        self.waiting = false;
        if self.tctl & tctl::EN == 0 || !self.bus_master {
            return 0;
        }
        let ram = self.ram.clone();
        let Some(ring) = self.ring.view(&ram) else {
            return 0;
        };
        let flow = self.batch.flow();
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut work = Assembly {
            ram: ram.all(),
            scratch: VolatileSlice::from(&mut scratch[..]),
            batch: std::mem::take(&mut self.batch).recycle(),
            packet: Vec::new(),
            plain: true,
            reports: false,
        };
        work.batch.set_flow(flow);
        let owned = self.ring.owned(tail);
        let before = self.counters;
        let mut total = 0;
        let mut complete = true;
        while complete
            && total < owned.min(DESCRIPTORS_PER_RUN).min(most)
            && self.counters.frames - before.frames < FRAMES_PER_RUN
            && self.counters.bytes - before.bytes < BYTES_PER_RUN
        {
            let gathered = self.gather(&ring, owned - total, &mut work, own);
            let left = self.hand_over(&mut work, own);
            let consumed = gathered - left;
            self.waiting = left > 0;
            complete = gathered > 0 && left == 0;
            if work.reports {
                self.write_back(&ring, consumed, outcome);
            }
            self.ring.head = self.ring.after(self.ring.head, consumed);
            self.counters.descriptors += u64::from(consumed);
            if let Some(csb) = csb {
                csb.store(Field::HostTdh, self.ring.head);
                // The guest asks by a flag, whether or not its descriptors ask for reports.
                outcome.reported |= consumed > 0;
            }
            total += consumed;
        }
        self.backlog = complete && total < owned;
        outcome.causes |= self.levels_crossed(owned, owned - total);
        self.batch = work.batch.recycle();
        self.scratch = scratch;
        total
    }

    /// TXQE when the ring has run empty, TXD_LOW when it has fallen to the mark (manual 13.4.43).
    fn levels_crossed(&self, before: u32, after: u32) -> u32 {
        let mark = 8 * (self.txdctl >> txdctl::LWTHRESH_SHIFT);
        let emptied = if before > 0 && after == 0 { cause::TXQE } else { 0 };
        let low = if before > mark && after <= mark { cause::TXD_LOW } else { 0 };
        emptied | low
    }

    /// Collects whole packets from at most `left` descriptors. A packet whose end is not in the
    /// ring yet stays there, unless the guest could never finish it.
    fn gather<'r>(
        &mut self,
        ring: &VolatileArrayRef<'r, Descriptor>,
        left: u32,
        work: &mut Assembly<'r>,
        own: &mut dyn Backend,
    ) -> u32 {
        let mut index = self.ring.head;
        work.plain = true;
        work.reports = false;
        let mut whole = 0;
        let mut first = None;
        let frames_before = self.counters.frames;
        for seen in 1..=left.min(DESCRIPTORS_PER_RUN) {
            self.fetch_ahead(ring, index, left - seen, &work.ram);
            let descriptor = TxDescriptor(ring.load(index as usize));
            index = self.ring.next(index);
            work.reports |= descriptor.commands(command::RS);
            if first.is_none()
                && let Some(len) = descriptor.plain_frame()
                && self.take_plain(descriptor.address(), len, work)
            {
                whole = seen;
                if work.batch.len() == BATCH {
                    break;
                }
                continue;
            }
            work.plain = false;
            match descriptor.format() {
                Format::Context => {
                    let kind = usize::from(descriptor.commands(command::TSE));
                    self.contexts[kind] = descriptor.into();
                    if first.is_none() {
                        whole = seen;
                        continue;
                    }
                }
                Format::Reserved => _ = self.fault.get_or_insert(Fault::Unsupported),
                Format::Legacy | Format::Data => self.add_buffer(descriptor, work),
            }
            let first_of_packet = *first.get_or_insert(descriptor);
            let chain = seen - whole;
            let end = descriptor.ends_packet();
            let endless = !end && (chain + 1 >= self.ring.size() || chain >= MAX_CHAIN);
            let longest = if first_of_packet.is_cut() { MAX_PACKET } else { MAX_FRAME };
            if endless || work.batch.open_len() > longest {
                self.fault.get_or_insert(Fault::Oversize);
            }
            if self.fault.is_some() {
                work.batch.abort_frame();
                whole = seen;
            }
            if end {
                self.end_packet(first_of_packet, descriptor, work, own);
                first = None;
                whole = seen;
                let handed_over = self.counters.frames != frames_before;
                if work.batch.len() == BATCH || handed_over {
                    break;
                }
            }
        }
        work.batch.abort_frame();
        whole
    }

    /// Asks the cache for what comes after descriptor `index`, of which `more` follow: the guest's
    /// core was the last to touch it, and that need not be ours.
    #[inline]
    fn fetch_ahead(
        &self,
        ring: &VolatileArrayRef<'_, Descriptor>,
        index: u32,
        more: u32,
        ram: &VolatileSlice<'_>,
    ) {
        if more > BUFFERS_AHEAD {
            let [address, _] = ring.load(self.ring.after(index, BUFFERS_AHEAD) as usize);
            if let Some(start) = piece(ram, address, CACHE_LINE) {
                prefetch(start);
            }
        }
        if more > DESCRIPTORS_AHEAD
            && index.is_multiple_of(DESCRIPTORS_PER_LINE)
            && let Some(line) = ring::bytes(ring, self.ring.after(index, DESCRIPTORS_AHEAD))
        {
            prefetch(line);
        }
    }

    /// The common case: a frame in one buffer, as it is. False if it is not one.
    #[inline]
    fn take_plain(&self, address: u64, len: usize, work: &mut Assembly<'_>) -> bool {
        let sent_as_it_is = (MIN_FRAME..=MAX_FRAME).contains(&len) && self.fault.is_none();
        if !sent_as_it_is || self.medium == Medium::Nothing {
            return false;
        }
        let Some(buffer) = piece(&work.ram, address, len) else {
            return false;
        };
        work.batch.push_frame(buffer);
        true
    }

    fn add_buffer(&mut self, descriptor: TxDescriptor, work: &mut Assembly<'_>) {
        let length = descriptor.length();
        if self.fault.is_none() && length != 0 {
            match piece(&work.ram, descriptor.address(), length) {
                Some(span) => work.batch.push_span(span),
                None => self.fault = Some(Fault::BadAddress),
            }
        }
    }

    /// Makes frames of the packet whose pieces the batch holds open.
    fn end_packet(
        &mut self,
        first: TxDescriptor,
        last: TxDescriptor,
        work: &mut Assembly<'_>,
        own: &mut dyn Backend,
    ) {
        let dropped = &mut self.counters.dropped;
        match self.fault.take() {
            Some(Fault::BadAddress) => return dropped.bad_address += 1,
            Some(Fault::Oversize) => return dropped.oversize += 1,
            Some(Fault::Unsupported) => return dropped.unsupported += 1,
            None => {}
        }
        let len = work.batch.open_len();
        if len < ETH_HEADER_LEN {
            work.batch.abort_frame();
            return self.counters.dropped.runt += 1;
        }
        if self.medium == Medium::Nothing {
            work.batch.abort_frame();
            return self.counters.dropped.link_down += 1;
        }
        let request = self.request(first, last);
        if request.is_plain() {
            return self.end_frame(work);
        }
        if request.segmentation.is_some_and(|cut| !cut.fits(len, MAX_FRAME)) {
            work.batch.abort_frame();
            return self.counters.dropped.segmentation += 1;
        }
        self.counters.segmented += u64::from(request.segmentation.is_some());
        let mut packet = std::mem::take(&mut work.packet);
        work.batch.take_open(&mut packet);
        request.build(&packet, |header, payload, count| {
            if work.batch.len() == BATCH {
                self.hand_over(work, own);
            }
            work.push_header(header);
            payload.take(count, |piece| work.batch.push_span(piece));
            self.end_frame(work);
        });
        packet.clear();
        work.packet = packet;
    }

    /// Closes the open frame. TCTL.PSP pads it (manual 13.4.33).
    fn end_frame(&self, work: &mut Assembly<'_>) {
        if self.tctl & tctl::PSP != 0 {
            work.pad();
        }
        work.batch.end_frame();
    }

    /// What a packet's descriptors ask for. Options and segmentation stand in its first descriptor;
    /// the VLAN tag in its last, or in the first if it is cut (manual 3.3.7.1).
    #[inline]
    fn request(&self, first: TxDescriptor, last: TxDescriptor) -> Request {
        let cut = first.is_cut();
        let tagged = if cut { first } else { last };
        let mut request = Request::default();
        if self.vlan.enabled && tagged.commands(command::VLE) {
            request.vlan = Some(self.vlan.tag(tagged.special()));
        }
        if first.format() == Format::Data {
            let context = self.contexts[usize::from(cut)];
            let asked = |bit| first.options() & bit != 0;
            request.ip = asked(option::IXSM).then_some(context.ip);
            request.transport = asked(option::TXSM).then_some(context.transport);
            request.never_zero = !context.tcp;
            request.segmentation = cut.then(|| Segmentation::from(context));
        } else if last.format() == Format::Legacy && last.commands(command::IC) {
            request.transport = Some(Checksum {
                start: first.checksum_start().into(),
                at: last.checksum_offset().into(),
                end: None,
            });
        }
        request
    }

    /// Hands the batch over and empties it; returns how many of its frames nobody had room for, and
    /// with them their descriptors stay in the ring.
    fn hand_over(&mut self, work: &mut Assembly<'_>, own: &mut dyn Backend) -> u32 {
        let batch = &mut work.batch;
        if batch.is_empty() {
            return 0;
        }
        let backend = if self.medium == Medium::Itself { own } else { &mut *self.backend };
        let taken = if batch.flow().is_stream() && work.plain {
            backend.transmit_while_room(batch)
        } else {
            backend.transmit(batch);
            batch.len()
        };
        let mut row = Row::default();
        for frame in batch.iter().take(taken) {
            self.counters.bytes += frame.len() as u64;
            if let Some((destination, _)) = frame.addresses() {
                row.add(frame.len(), destination, &mut self.counters.traffic);
            }
        }
        row.end(&mut self.counters.traffic);
        self.counters.frames += taken as u64;
        self.counters.batches += u64::from(taken > 0);
        let left = batch.len() - taken;
        batch.clear();
        left as u32
    }

    /// Sets DD where the driver asked for it, after the frames have left their buffers.
    fn write_back(
        &mut self,
        ring: &VolatileArrayRef<'_, Descriptor>,
        consumed: u32,
        outcome: &mut TxOutcome,
    ) {
        const STATUS_OFFSET: usize = 12;
        let bytes = ring.to_slice();
        fence(Ordering::Release);
        for ahead in 0..consumed {
            let index = self.ring.after(self.ring.head, ahead) as usize;
            let descriptor = TxDescriptor(ring.load(index));
            if descriptor.commands(command::RS) {
                outcome.reported = true;
                outcome.may_delay &= descriptor.commands(command::IDE);
                let at = index * DESCRIPTOR_BYTES as usize + STATUS_OFFSET;
                if let Ok(status) = bytes.get_ref::<u8>(at) {
                    status.store(STATUS_DD);
                }
            }
        }
    }
}
