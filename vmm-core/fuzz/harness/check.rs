//! What must hold whatever a guest does, looked at before and after every step.

use std::ops::Range;
use std::sync::atomic::Ordering;

use vmm_core::clock::Clock;
use vmm_core::e1000::registers::offset as reg;
use vmm_core::e1000::{TxCounters, regs};

use super::guest::{Guest, RAM};

/// Command: bus mastering and Interrupt Disable.
const BUS_MASTER: u16 = 1 << 2;
const INTX_DISABLE: u16 = 1 << 10;
/// Bytes of the CSB that are the host's to write.
const CSB_BYTES: u64 = 0x68;
/// How often one access looks at the ring: with the CSB the device looks again before it sleeps.
const MAX_LOOKS: u64 = 6;
/// Descriptors, frames and bytes of one look, with those of the packet that goes beyond them.
const MAX_DESCRIPTORS: u64 = 4096;
const MAX_FRAMES: u64 = 16384 + 4096;
const MAX_BYTES: u64 = (32 << 20) + (2 << 20);
/// Longest that moderation may hold an interrupt: ITR of 65535 units of 256 ns.
const MAX_HOLD_NS: u64 = 65535 * 256;

/// A guest as it was before a step.
pub struct Before {
    targets: Option<Vec<Range<u64>>>,
    bus_master: bool,
    ring: u64,
    tx: TxCounters,
    sent: u64,
    rises: u64,
}

impl Before {
    /// Looks at `guest`.
    pub fn of(guest: &mut Guest) -> Self {
        Self {
            targets: dma_targets(guest),
            bus_master: guest.command() & BUS_MASTER != 0,
            ring: ring_size(guest),
            tx: guest.nic.counters().tx,
            sent: guest.wire.sent[0].load(Ordering::SeqCst),
            rises: guest.line.rises(),
        }
    }

    /// Compares with `guest` after a step in which the timer fired `alarms` times. `respaced` says
    /// that it may have changed ITR.
    pub fn check(self, guest: &mut Guest, itr: bool, csb: bool, alarms: u64, respaced: bool) {
        self.check_dma(guest);
        self.check_work(guest, alarms);
        check_counters(guest);
        check_interrupt(guest, itr, csb);
        if respaced {
            guest.line.require_spacing(0);
        } else if guest.line.rises() != self.rises {
            let units = if itr { guest.get(reg::ITR) & 0xffff } else { 0 };
            guest.line.require_spacing(u64::from(units) * 256);
        }
    }

    /// DMA goes where the guest asked for it, and nowhere without bus mastering.
    fn check_dma(&self, guest: &mut Guest) {
        let all = guest.ram.slice(0, RAM as usize).expect("all of RAM is RAM");
        all.copy_to(&mut guest.spare);
        if guest.spare == guest.expected {
            return;
        }
        let off = !self.bus_master && guest.command() & BUS_MASTER == 0;
        let targets = match (off, &self.targets, dma_targets(guest)) {
            (true, ..) => Some(Vec::new()),
            (false, Some(before), Some(after)) => Some(merged([&before[..], &after[..]].concat())),
            (false, ..) => None,
        };
        if let Some(targets) = targets {
            let starts = std::iter::once(0).chain(targets.iter().map(|t| t.end as usize));
            let ends = targets.iter().map(|t| t.start as usize).chain([RAM as usize]);
            for gap in starts.zip(ends).map(|(start, end)| start..end) {
                let stray = guest.spare[gap.clone()] != guest.expected[gap.clone()];
                assert!(!stray, "DMA somewhere in {gap:x?}, which the guest gave nobody");
            }
        }
        std::mem::swap(&mut guest.spare, &mut guest.expected);
    }

    /// One access does a bounded amount of work, and nothing leaves without bus mastering.
    fn check_work(&self, guest: &mut Guest, alarms: u64) {
        let tx = guest.nic.counters().tx;
        let consumed = tx.descriptors - self.tx.descriptors;
        let ring = self.ring.max(ring_size(guest)).min(MAX_DESCRIPTORS);
        let looks = MAX_LOOKS * (1 + alarms);
        assert!(consumed <= ring * looks, "{consumed} descriptors of {ring}");
        let (frames, bytes) = (tx.frames - self.tx.frames, tx.bytes - self.tx.bytes);
        assert!(frames <= MAX_FRAMES * looks && bytes <= MAX_BYTES * looks, "{frames}, {bytes}");
        if !self.bus_master && guest.command() & BUS_MASTER == 0 {
            assert_eq!(guest.wire.sent[0].load(Ordering::SeqCst), self.sent, "frames left");
        }
    }
}

/// What the device says it did is what was seen.
fn check_counters(guest: &Guest) {
    let counters = guest.nic.counters();
    let seen = |which: usize| guest.wire.sent[which].load(Ordering::SeqCst);
    assert!(counters.tx.frames >= seen(0) && counters.tx.bytes >= seen(1));
    let looped = counters.tx.frames - seen(0);
    let offered = guest.wire.offered.load(Ordering::SeqCst);
    assert_eq!(counters.rx.frames + counters.rx.dropped.total(), offered + looped);
    assert_eq!(counters.interrupts, guest.line.rises());
}

/// The line is high for an unmasked cause only, and low despite one only for a while.
fn check_interrupt(guest: &mut Guest, itr: bool, csb: bool) {
    let pending = guest.get(reg::ICS) & guest.get(reg::IMS);
    let high = guest.line.high();
    assert!(!high || pending != 0, "the line is high for nothing");
    // With the CSB the guest may have asked not to be told.
    if pending != 0 && !high && !csb {
        assert!(itr, "causes {pending:#x} and no interrupt");
        let deadline = guest.alarm.deadline().expect("a held interrupt has its time");
        assert!(deadline <= guest.clock.now() + MAX_HOLD_NS);
    }
    let disabled = guest.command() & INTX_DISABLE != 0;
    assert_eq!(guest.pin.high(), high && !disabled);
}

fn ring_size(guest: &Guest) -> u64 {
    u64::from(guest.get(reg::TDLEN)) / 16
}

fn in_ram(start: u64, len: u64) -> Option<Range<u64>> {
    let end = start.checked_add(len)?;
    (len > 0 && end <= RAM).then_some(start..end)
}

/// All memory that the guest has given its NIC to write to. `None` if something in there may
/// change which memory that is.
fn dma_targets(guest: &Guest) -> Option<Vec<Range<u64>>> {
    let ring = |low, high, len| {
        let base = u64::from(guest.get(high)) << 32 | u64::from(guest.get(low) & !0xf);
        in_ram(base, u64::from(guest.get(len)))
    };
    let mut targets: Vec<_> = ring(reg::TDBAL, reg::TDBAH, reg::TDLEN).into_iter().collect();
    if guest.csb.unknown {
        return None;
    }
    if guest.csb.base != 0 {
        targets.extend(in_ram(guest.csb.base, CSB_BYTES));
    }
    let Some(receive) = ring(reg::RDBAL, reg::RDBAH, reg::RDLEN) else {
        return Some(targets);
    };
    let size = buffer_size(guest.get(reg::RCTL));
    for descriptor in receive.clone().step_by(16) {
        let start = u64::from_le_bytes(guest.load(descriptor));
        // A short frame fits where the whole buffer would not.
        targets.extend(in_ram(start, size.min(RAM.saturating_sub(start))));
    }
    let rewrites = |t: &Range<u64>| t.start < receive.end && receive.start < t.end;
    if targets.iter().any(rewrites) {
        return None;
    }
    targets.push(receive);
    Some(targets)
}

/// RCTL.BSIZE and BSEX (manual 13.4.22).
fn buffer_size(rctl: u32) -> u64 {
    let size = 2048 >> (rctl >> 16 & 3);
    if rctl & regs::rctl::BSEX != 0 && size != 2048 { size * 16 } else { size }
}

/// The same memory in disjoint ranges.
fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}
