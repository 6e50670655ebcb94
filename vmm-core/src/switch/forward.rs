//! The two passes of a batch through the switch.

use std::sync::Arc;

use super::counters::PortCounters;
use super::{Shared, Slot};
use crate::backend::{FrameBatch, Mac, Receiver};

/// Where a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Destination {
    Port(u8),
    AllOthers,
    SamePort,
}

/// A port's scratch space: lists of frame indices, kept from batch to batch.
#[derive(Default)]
pub struct Forwarder {
    /// Frames for one port each, by port.
    unicast: Vec<Vec<u32>>,
    /// Ports with a list that is not empty.
    touched: Vec<u8>,
    /// Frames for all other ports.
    flooded: Vec<u32>,
    /// One port's frames of both kinds, in order.
    merged: Vec<u32>,
    /// NICs that got frames of this batch. If one of them is gone by the end of it, dropping it
    /// here frees its port, which takes the lock that the batch held.
    receivers: Vec<Arc<dyn Receiver>>,
}

impl Forwarder {
    /// Forwards what came in on port `from`.
    pub fn forward(&mut self, shared: &Shared, from: u8, batch: &FrameBatch<'_>) -> PortCounters {
        let mut done =
            PortCounters { frames_in: batch.len() as u64, batches_in: 1, ..Default::default() };
        let slots = shared.slots.read();
        self.unicast.resize_with(slots.len(), Vec::new);
        self.sort(shared, from, batch, &mut done);
        self.deliver(&slots, from, batch, &mut done);
        drop(slots);
        self.receivers.clear();
        done
    }

    /// First pass. Neighbouring frames mostly share their addresses, so the last look-up is kept.
    fn sort(&mut self, shared: &Shared, from: u8, batch: &FrameBatch<'_>, done: &mut PortCounters) {
        let tick = shared.age();
        let mut last_source = None;
        let mut last_lookup = None;
        for (index, frame) in batch.iter().enumerate() {
            let Some((target, source)) = frame.addresses() else {
                done.dropped.runt += 1;
                continue;
            };
            if last_source != Some(source) {
                shared.table.learn(source, from, tick);
                last_source = Some(source);
            }
            let destination = match last_lookup {
                Some((mac, destination)) if mac == target => destination,
                _ => self.look_up(shared, from, target),
            };
            last_lookup = Some((target, destination));
            match destination {
                Destination::Port(port) => {
                    let list = &mut self.unicast[usize::from(port)];
                    if list.is_empty() {
                        self.touched.push(port);
                    }
                    list.push(index as u32);
                }
                Destination::AllOthers => self.flooded.push(index as u32),
                Destination::SamePort => done.dropped.same_port += 1,
            }
        }
    }

    fn look_up(&self, shared: &Shared, from: u8, target: Mac) -> Destination {
        if target.is_group() {
            return Destination::AllOthers;
        }
        match shared.table.lookup(target) {
            Some(port) if port == from => Destination::SamePort,
            Some(port) if usize::from(port) < self.unicast.len() => Destination::Port(port),
            _ => Destination::AllOthers,
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
        if self.flooded.is_empty() {
            for port in self.touched.drain(..) {
                let list = &mut self.unicast[usize::from(port)];
                hand_over(&slots[usize::from(port)], batch, list, &mut self.receivers, done);
                list.clear();
            }
            return;
        }
        let mut others = 0;
        for (port, slot) in slots.iter().enumerate() {
            let floods = slot.attached && port != usize::from(from);
            others += u64::from(floods);
            let list = &mut self.unicast[port];
            let flooded: &[u32] = if floods { &self.flooded } else { &[] };
            merge(list, flooded, &mut self.merged);
            hand_over(slot, batch, &self.merged, &mut self.receivers, done);
            list.clear();
        }
        let frames = self.flooded.len() as u64;
        if others == 0 {
            done.dropped.no_destination += frames;
        } else {
            done.flood_copies += frames * (others - 1);
        }
        self.touched.clear();
        self.flooded.clear();
    }
}

/// Gives a port its frames.
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
    let Some(receiver) = slot.receiver.as_ref().and_then(|weak| weak.upgrade()) else {
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
