//! Frames that were dropped between the guests of a trial, and copies that were made of them.

use vmm_core::backend::TapCounters;
use vmm_core::cable::CableDrops;
use vmm_core::e1000::NicCounters;
use vmm_core::switch::PortCounters;

use crate::lab::network::PortStats;
use crate::lab::{CableCount, Final, LabCounters, TapCount};
use crate::results::Drop;
use crate::topology::{Lab, LinkEnd, TrialSpec};

/// Every frame that was dropped between the trial's guests, with place and cause. Copies that a switch
/// floods to bystanders, or to other pairs, are turned away there, and are no part of the stream.
pub fn drops(lab: &Lab, spec: &TrialSpec, counters: &LabCounters) -> Vec<Drop> {
    let way = Way::new(lab, spec);
    let mut drops = Vec::new();
    let mut add = |place: &str, cause: &str, frames: u64| {
        if frames > 0 {
            drops.push(Drop { place: place.to_owned(), cause: cause.to_owned(), frames });
        }
    };
    let guests = lab.guests.iter().zip(&counters.guests);
    for (guest, (_, nics)) in guests.filter(|(guest, _)| way.has(&guest.name)) {
        for (number, nic) in nics.iter().enumerate() {
            nic_drops(&format!("{}.nic{number}", guest.name), nic, &mut add);
        }
    }
    for (switch, ports) in &counters.fabric.switches {
        for (port, counters) in ports {
            port_drops(&format!("{switch}:{port}"), counters, &mut add);
        }
    }
    for tap in counters.fabric.taps.iter().filter(|tap| way.has_tap(tap)) {
        tap_drops(&tap.interface, &tap.ours.unwrap_or_default(), &tap.kernel, &mut add);
    }
    for cable in counters.fabric.cables.iter().filter(|cable| way.has_cable(cable)) {
        cable_drops(cable, &mut add);
    }
    drops
}

/// Frames that guests in the middle could not pass on.
pub fn in_guests(lab: &Lab, spec: &TrialSpec, reports: &[Option<Final>]) -> Vec<Drop> {
    let way = Way::new(lab, spec);
    let guests = lab.guests.iter().zip(reports).filter(|(guest, _)| way.has(&guest.name));
    let dropped = guests.filter_map(|(guest, report)| {
        let frames = report.as_ref().map_or(0, |report| report.drops_forth + report.drops_back);
        let (place, cause) = (guest.name.clone(), "not forwarded".to_owned());
        (frames > 0).then_some(Drop { place, cause, frames })
    });
    dropped.collect()
}

/// Copies that cables have made of frames between the trial's guests.
pub fn duplicated(lab: &Lab, spec: &TrialSpec, counters: &LabCounters) -> u64 {
    let way = Way::new(lab, spec);
    let cables = counters.fabric.cables.iter().filter(|cable| way.has_cable(cable));
    cables.map(|cable| cable.forth.duplicated + cable.back.duplicated).sum()
}

/// What lies between a trial's guests.
struct Way<'a> {
    lab: &'a Lab,
    /// The names of those guests, and of the ones that frames pass through.
    guests: Vec<&'a str>,
}

impl<'a> Way<'a> {
    fn new(lab: &'a Lab, spec: &TrialSpec) -> Self {
        let pairs = spec.pairs();
        let on_it =
            pairs.flat_map(|pair| [pair.guests().to_vec(), lab.between(pair.from, pair.to)]);
        let guests = on_it.flatten().filter_map(|guest| lab.guests.get(guest));
        Self { lab, guests: guests.map(|guest| guest.name.as_str()).collect() }
    }

    fn has(&self, guest: &str) -> bool {
        self.guests.contains(&guest)
    }

    /// Whether the guest of that name is on it, or it is nobody's.
    fn has_owner(&self, owner: Option<&String>) -> bool {
        owner.is_none_or(|guest| self.has(guest))
    }

    fn has_cable(&self, cable: &CableCount) -> bool {
        self.has_owner(cable.guest.as_ref())
    }

    /// The host is a bystander.
    fn has_tap(&self, tap: &TapCount) -> bool {
        let ends = self.lab.links.iter().flat_map(|link| &link.ends);
        let mut hosts = ends.filter_map(|end| match end {
            LinkEnd::Host(host) => Some(&host.name),
            LinkEnd::Switch(_) => None,
        });
        self.has_owner(tap.guest.as_ref()) && !hosts.any(|name| *name == tap.interface)
    }
}

/// What was dropped later: without `before`.
pub fn since(before: &[Drop], mut drops: Vec<Drop>) -> Vec<Drop> {
    for drop in &mut drops {
        let same = |other: &&Drop| other.place == drop.place && other.cause == drop.cause;
        drop.frames -= before.iter().find(same).map_or(0, |drop| drop.frames);
    }
    drops.retain(|drop| drop.frames > 0);
    drops
}

/// But for frames to other addresses: those were flooded, or come from the host.
fn nic_drops(place: &str, nic: &NicCounters, add: &mut impl FnMut(&str, &str, u64)) {
    let (tx, rx) = (&nic.tx.dropped, &nic.rx.dropped);
    add(place, "transmit buffer outside memory", tx.bad_address);
    add(place, "transmit oversize", tx.oversize);
    add(place, "transmit runt", tx.runt);
    add(place, "transmit descriptor unsupported", tx.unsupported);
    add(place, "transmit segmentation impossible", tx.segmentation);
    add(place, "transmit link down", tx.link_down);
    add(place, "receive disabled", rx.disabled);
    add(place, "receive link down", rx.link_down);
    add(place, "receive oversize", rx.oversize);
    add(place, "receive ring full", rx.no_buffer);
    add(place, "receive buffer outside memory", rx.bad_address);
}

fn port_drops(place: &str, port: &PortCounters, add: &mut impl FnMut(&str, &str, u64)) {
    add(place, "runt", port.dropped.runt);
    add(place, "destination on the same port", port.dropped.same_port);
    add(place, "no destination", port.dropped.no_destination);
    add(place, "destination disconnected", port.dropped.disconnected);
}

fn tap_drops(
    place: &str,
    ours: &TapCounters,
    kernel: &PortStats,
    add: &mut impl FnMut(&str, &str, u64),
) {
    add(place, "TAP refused", ours.tx_dropped.total());
    add(place, "TAP frame unusable", ours.rx_dropped.total());
    add(place, "TAP queue full", kernel.queue_full);
    add(place, "qdisc", kernel.qdisc_dropped);
}

/// Both ways together: a place and a cause have one count.
fn cable_drops(cable: &CableCount, add: &mut impl FnMut(&str, &str, u64)) {
    let place = format!("cable {}", cable.cable);
    let sum =
        |count: fn(&CableDrops) -> u64| count(&cable.forth.dropped) + count(&cable.back.dropped);
    add(&place, "link loss", sum(|dropped| dropped.loss));
    add(&place, "link queue full", sum(|dropped| dropped.queue_full));
    add(&place, "link unplugged", sum(|dropped| dropped.unplugged));
    add(&place, "link end gone", sum(|dropped| dropped.disconnected));
    add(&place, "link loop", sum(|dropped| dropped.looped));
}
