//! The two passes of a batch through the switch.

use std::ops::Range;
use std::sync::Arc;

use super::counters::PortCounters;
use super::nesting::Level;
use super::table::MacTable;
use super::{MAX_PORTS, Shared, Slot};
use crate::backend::{Flow, FrameBatch, Mac, Receiver};

/// Where a frame goes: to a port, or to one of these. A frame to the port that it came from goes
/// nowhere.
type Destination = u8;
const ALL_OTHERS: Destination = MAX_PORTS as u8;
const RUNTS: Destination = ALL_OTHERS + 1;

/// A port's scratch space, kept from batch to batch.
///
/// Frames are sorted by counting, into one array for all destinations: a batch for many ports costs
/// little more than one for a single port.
pub struct Forwarder {
    /// Each frame's destination.
    destinations: Vec<Destination>,
    /// Each destination's part of `picks`.
    lists: Box<[List; RUNTS as usize + 1]>,
    /// Destinations with a list that is not empty, in the order of their first frames.
    touched: Vec<Destination>,
    /// Frame indices by destination, ascending for each.
    picks: Vec<u32>,
    /// One port's frames, its own and flooded ones, in order.
    merged: Vec<u32>,
    /// NICs that were asked for room or got frames of this batch. If one of them is gone by the end of it, dropping it
    /// here frees its port, which takes the lock that the batch held.
    receivers: Vec<Arc<dyn Receiver>>,
}

/// A range of `picks`, filled from its start.
#[derive(Clone, Copy, Default)]
struct List {
    end: u32,
    len: u32,
}

impl List {
    fn range(self) -> Range<usize> {
        (self.end - self.len) as usize..self.end as usize
    }
}

impl Default for Forwarder {
    fn default() -> Self {
        Self {
            destinations: Vec::new(),
            lists: Box::new([List::default(); RUNTS as usize + 1]),
            touched: Vec::new(),
            picks: Vec::new(),
            merged: Vec::new(),
            receivers: Vec::new(),
        }
    }
}

impl Forwarder {
    /// Forwards what came in on port `from`: all of it, or only the first frames `while_room`, up to
    /// one for whose unicast receiver there is none.
    pub fn forward(
        &mut self,
        shared: &Shared,
        from: u8,
        batch: &FrameBatch<'_>,
        while_room: bool,
    ) -> PortCounters {
        let level = Level::enter();
        let slots = match level.is_outermost() {
            true => shared.slots.read(),
            false => shared.slots.read_recursive(),
        };
        learn(shared, from, batch);
        self.look_up(&shared.table, slots.len(), batch);
        if while_room {
            self.keep_what_has_room(&slots, from, batch.flow());
        }
        self.sort();
        let frames_in = self.destinations.len() as u64;
        let batches_in = u64::from(frames_in > 0);
        let mut done = PortCounters { frames_in, batches_in, ..Default::default() };
        self.deliver(&slots, from, batch, &mut done);
        drop(slots);
        level.let_go(&mut self.receivers);
        for destination in self.touched.drain(..) {
            self.lists[usize::from(destination)] = List::default();
        }
        done
    }

    /// First pass. Neighbouring frames often share their destination, so the last one is kept.
    fn look_up(&mut self, table: &MacTable, ports: usize, batch: &FrameBatch<'_>) {
        let find = |target: Mac| match table.lookup(target) {
            Some(port) if usize::from(port) < ports => port,
            _ => ALL_OTHERS,
        };
        let mut last = (Mac::BROADCAST, ALL_OTHERS);
        self.destinations.clear();
        self.destinations.extend(batch.addresses().map(|addresses| match addresses {
            None => RUNTS,
            Some((target, _)) => {
                if target != last.0 {
                    last = (target, find(target));
                }
                last.1
            }
        }));
    }

    /// Cuts the batch before the first frame that its receiver has no room for. What other senders
    /// deliver meanwhile may still use the room up: then the receiver turns frames away, and counts.
    fn keep_what_has_room(&mut self, slots: &[Slot], from: u8, flow: Flow) {
        let Self { destinations, lists, touched, receivers, .. } = self;
        let mut kept = destinations.len();
        for (index, destination) in destinations.iter().enumerate() {
            // Here a list's `end` is the room behind its port; frames that go nowhere need none.
            let list = &mut lists[usize::from(*destination)];
            if list.len == 0 {
                touched.push(*destination);
                let slot = slots.get(usize::from(*destination)).filter(|_| *destination != from);
                list.end = slot.and_then(Slot::receiver).map_or(u32::MAX, |receiver| {
                    let room = receiver.room(flow).try_into().unwrap_or(u32::MAX);
                    receivers.push(receiver);
                    room
                });
            }
            if list.len == list.end {
                kept = index;
                break;
            }
            list.len += 1;
        }
        for destination in touched.drain(..) {
            lists[usize::from(destination)] = List::default();
        }
        destinations.truncate(kept);
    }

    /// Fills the lists: counts, then places.
    fn sort(&mut self) {
        let Self { destinations, touched, picks, .. } = self;
        let lists = &mut *self.lists;
        let Some(&first) = destinations.first() else { return };
        let frames = destinations.len() as u32;
        if destinations.iter().all(|destination| *destination == first) {
            touched.push(first);
            lists[usize::from(first)] = List { end: frames, len: frames };
            picks.clear();
            picks.extend(0..frames);
            return;
        }
        for destination in &*destinations {
            let list = &mut lists[usize::from(*destination)];
            if list.len == 0 {
                touched.push(*destination);
            }
            list.len += 1;
        }
        let mut start = 0;
        for destination in &*touched {
            let list = &mut lists[usize::from(*destination)];
            list.end = start;
            start += list.len;
        }
        picks.resize(destinations.len(), 0);
        let picks = &mut picks[..];
        for (index, destination) in (0..).zip(&*destinations) {
            let list = &mut lists[usize::from(*destination)];
            picks[list.end as usize] = index;
            list.end += 1;
        }
    }

    /// Second pass.
    fn deliver(
        &mut self,
        slots: &[Slot],
        from: u8,
        batch: &FrameBatch<'_>,
        done: &mut PortCounters,
    ) {
        let list = |destination: u8| &self.picks[self.lists[usize::from(destination)].range()];
        done.dropped.runt = list(RUNTS).len() as u64;
        done.dropped.same_port = list(from).len() as u64;
        let flooded = list(ALL_OTHERS);
        if flooded.is_empty() {
            for port in self.touched.iter().filter(|d| ![RUNTS, from].contains(d)) {
                let slot = &slots[usize::from(*port)];
                slot.fed_by.add(from);
                hand_over(slot, batch, list(*port), &mut self.receivers, done);
            }
            return;
        }
        let mut others = 0;
        for (port, slot) in (0..).zip(slots).filter(|(port, _)| *port != from) {
            others += u64::from(slot.attached);
            let picks = match (slot.attached, list(port)) {
                (false, own) => own,
                (true, []) => flooded,
                (true, own) => {
                    merge(own, flooded, &mut self.merged);
                    &self.merged
                }
            };
            hand_over(slot, batch, picks, &mut self.receivers, done);
        }
        if others == 0 {
            done.dropped.no_destination = flooded.len() as u64;
        } else {
            done.flood_copies = flooded.len() as u64 * (others - 1);
        }
    }
}

/// Notes where the batch's frames come from: all from one address, mostly.
fn learn(shared: &Shared, from: u8, batch: &FrameBatch<'_>) {
    let tick = shared.age();
    let mut last = Mac::BROADCAST;
    for (_, source) in batch.addresses().flatten() {
        if source != last {
            shared.table.learn(source, from, tick);
            last = source;
        }
    }
}

/// Gives a port its frames.
#[inline]
fn hand_over(
    slot: &Slot,
    batch: &FrameBatch<'_>,
    picks: &[u32],
    receivers: &mut Vec<Arc<dyn Receiver>>,
    done: &mut PortCounters,
) {
    if picks.is_empty() {
        return;
    }
    let Some(receiver) = slot.receiver() else {
        done.dropped.disconnected += picks.len() as u64;
        return;
    };
    let taken = receiver.receive(batch, picks);
    done.delivered += taken as u64;
    done.refused += (picks.len() - taken) as u64;
    receivers.push(receiver);
}

/// Merges two ascending lists, so that a receiver sees frames in the order they were sent.
fn merge(mut a: &[u32], mut b: &[u32], out: &mut Vec<u32>) {
    out.clear();
    while let (Some((x, rest_a)), Some((y, rest_b))) = (a.split_first(), b.split_first()) {
        if x < y {
            out.push(*x);
            a = rest_a;
        } else {
            out.push(*y);
            b = rest_b;
        }
    }
    out.extend_from_slice(a);
    out.extend_from_slice(b);
}
