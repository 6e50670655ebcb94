//! The audit of a trial of our own: every frame that was sent has arrived, or was dropped at a place and
//! for a cause that is counted.

use vmm_core::backend::TapCounters;
use vmm_core::cable::CableCounters;
use vmm_core::e1000::NicCounters;
use vmm_core::switch::PortCounters;

use crate::lab::network::PortStats;
use crate::lab::{FabricCounters, Final, LabCounters, RunningLab};
use crate::results::{Drop, Protocol, Sample, TrialKind};
use crate::topology::TrialSpec;

/// Audits a trial: every frame must be found again at every stage of its way and, unless cables
/// reorder them, in order.
///
/// # Errors
/// What does not add up.
pub fn books(
    sample: &Sample,
    spec: &TrialSpec,
    in_order: bool,
    reports: &[&Final],
    ends: &[(&Final, &Final)],
    counters: &LabCounters,
) -> Result<(), String> {
    let check = |what: &str, left: u64, right: u64| {
        (left == right).then_some(()).ok_or_else(|| format!("{what}: {left} is not {right}"))
    };
    let nics = || counters.guests.iter().flat_map(|(_, nics)| nics);
    check(
        "frames that drivers sent and devices took",
        reports.iter().map(|report| report.tx_frames).sum(),
        nics().map(|nic| nic.tx.frames + nic.tx.dropped.total()).sum(),
    )?;
    check(
        "frames that devices delivered and drivers got",
        nics().map(|nic| nic.rx.frames).sum(),
        reports.iter().map(|report| report.rx_frames).sum(),
    )?;
    fabric_books(counters, &check)?;
    match (sample.kind, spec.protocol) {
        (TrialKind::Throughput, Protocol::Tcp) => {
            check("records written, and read", sample.sent, sample.received)?;
            for (sender, receiver) in ends {
                check("bytes written, and read", sender.bytes, receiver.bytes)?;
                let broken = sender.unsent + receiver.damaged;
                check("records not acknowledged, and damaged", broken, 0)?;
            }
        }
        (TrialKind::Throughput, Protocol::Raw | Protocol::Udp) => {
            check(
                "packets sent, and received or dropped",
                sample.sent,
                sample.received + sample.dropped,
            )?;
            for (sender, receiver) in ends {
                // The end of the stream leaves no gap; what came last tells where it broke off.
                let missing = receiver.lost + sender.packets.saturating_sub(receiver.next);
                let fewer = sender.packets.saturating_sub(receiver.packets);
                check("packets not received, and missing in sequence", fewer, missing)?;
            }
        }
        // A lost request or answer is a dropped frame; either may have been lost.
        (TrialKind::Rr, _) => check(
            "requests unanswered, and frames dropped",
            sample.sent - sample.received,
            sample.dropped,
        )?,
    }
    let reordered = |receiver: &Final| if in_order { receiver.reordered } else { 0 };
    let disorder = ends.iter().map(|(_, receiver)| reordered(receiver) + receiver.duplicates).sum();
    check("frames out of order or doubled", disorder, 0)
}

fn fabric_books(
    counters: &LabCounters,
    check: &impl Fn(&str, u64, u64) -> Result<(), String>,
) -> Result<(), String> {
    let taken: u64 =
        counters.guests.iter().flat_map(|(_, nics)| nics).map(|nic| nic.tx.frames).sum();
    let FabricCounters { switches, taps, cables, links } = &counters.fabric;
    let ports = || switches.iter().flat_map(|(_, ports)| ports).map(|(_, port)| port);
    let ours = || taps.iter().filter_map(|tap| Some((tap.ours?, &tap.kernel)));
    let by_switches: u64 = ports().map(|port| port.frames_in).sum();
    let by_taps = ours().map(|(ours, _)| ours.tx_frames + ours.tx_dropped.total()).sum::<u64>();
    // What another VMM's devices took is audited in `peer.rs`; frames between switches are taken
    // more than once.
    if taps.iter().all(|tap| tap.ours.is_some()) && *links == 0 {
        let forth = || cables.iter().map(|cable| cable.forth);
        check(
            "frames that devices sent or cables doubled, and that switches and TAPs took or cables lost",
            taken + forth().map(|lane| lane.duplicated).sum::<u64>(),
            by_switches
                + by_taps
                + forth().map(|lane| lane.dropped.total() + lane.held).sum::<u64>(),
        )?;
    }
    check(
        "copies made, and delivered, refused or dropped",
        ports().map(|port| port.frames_in + port.flood_copies).sum(),
        ports().map(|port| port.delivered + port.refused + port.dropped.total()).sum(),
    )?;
    // With two guests a bridge makes one copy of every frame.
    if ours().count() == 2 && *links == 0 {
        check(
            "frames written to TAPs, and read or dropped",
            ours().map(|(_, kernel)| kernel.written).sum(),
            ours()
                .map(|(ours, kernel)| ours.rx_frames + kernel.queue_full + kernel.qdisc_dropped)
                .sum(),
        )?;
    }
    Ok(())
}

/// Every frame that was dropped between the trial's guests, with place and cause. Copies that a switch
/// floods to bystanders, or to other pairs, are turned away there, and are no part of the stream.
pub fn drops(running: &RunningLab, spec: &TrialSpec, counters: &LabCounters) -> Vec<Drop> {
    let mut drops = Vec::new();
    let mut add = |place: &str, cause: &str, frames: u64| {
        if frames > 0 {
            drops.push(Drop { place: place.to_owned(), cause: cause.to_owned(), frames });
        }
    };
    let takes_part = |guest: usize| spec.pairs().any(|pair| pair.guests().contains(&guest));
    for (guest, (_, nics)) in counters.guests.iter().enumerate().filter(|(g, _)| takes_part(*g)) {
        for (number, nic) in nics.iter().enumerate() {
            let mut nic = *nic;
            if !spec.also.is_empty() {
                nic.rx.dropped.filtered = 0;
            }
            nic_drops(&format!("{}.nic{number}", running.name(guest)), &nic, &mut add);
        }
    }
    for (switch, ports) in &counters.fabric.switches {
        for (port, counters) in ports {
            port_drops(&format!("{switch}:{port}"), counters, &mut add);
        }
    }
    // TAPs are in the order of guests and their NICs; QEMU, which tells nothing of its NIC, has one.
    let nics = counters.guests.iter().map(|(_, nics)| nics.len().max(1)).enumerate();
    let owners = nics.flat_map(|(guest, nics)| std::iter::repeat_n(guest, nics));
    for (tap, _) in counters.fabric.taps.iter().zip(owners).filter(|(_, g)| takes_part(*g)) {
        tap_drops(&tap.interface, &tap.ours.unwrap_or_default(), &tap.kernel, &mut add);
    }
    for cable in &counters.fabric.cables {
        cable_drops(&cable.cable, &cable.forth, &mut add);
        cable_drops(&cable.cable, &cable.back, &mut add);
    }
    drops
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
    add(place, "not for this address", rx.filtered);
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

fn cable_drops(cable: &str, lane: &CableCounters, add: &mut impl FnMut(&str, &str, u64)) {
    let place = format!("cable {cable}");
    add(&place, "link loss", lane.dropped.loss);
    add(&place, "link queue full", lane.dropped.queue_full);
    add(&place, "link unplugged", lane.dropped.unplugged);
    add(&place, "link end gone", lane.dropped.disconnected);
    add(&place, "link loop", lane.dropped.looped);
}
