//! The audit of a trial of our own: at every place on their way all frames are found again that left the
//! one before, and every packet that was sent has arrived, or was dropped at a place and for a cause
//! that is counted.

use vmm_core::cable::CableCounters;

use crate::lab::{FabricCounters, Final, LabCounters};
use crate::results::{Protocol, Sample, TrialKind};
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
    let nics = || counters.guests.iter().flat_map(|(_, nics)| nics);
    check(
        "frames that drivers sent and devices took",
        reports.iter().map(|report| report.tx_frames).sum(),
        nics().map(|nic| nic.tx.frames + nic.tx.dropped.total()).sum(),
    )?;
    fabric_books(
        &counters.fabric,
        nics().map(|nic| nic.tx.frames).sum(),
        nics().map(|nic| nic.rx.frames + nic.rx.dropped.total()).sum(),
    )?;
    check(
        "frames that devices delivered and drivers got",
        nics().map(|nic| nic.rx.frames).sum(),
        reports.iter().map(|report| report.rx_frames).sum(),
    )?;
    match (sample.kind, spec.protocol) {
        (TrialKind::Throughput, Protocol::Tcp) => record_books(sample, ends)?,
        (TrialKind::Throughput, Protocol::Raw | Protocol::Udp) => packet_books(sample, ends)?,
        (TrialKind::Rr, _) => request_books(sample)?,
    }
    let reordered = |receiver: &Final| if in_order { receiver.reordered } else { 0 };
    check("frames out of order", ends.iter().map(|(_, receiver)| reordered(receiver)).sum(), 0)?;
    check(
        "frames that came again and no cable doubled",
        sample.repeated.saturating_sub(sample.duplicated),
        0,
    )
}

fn check(what: &str, left: u64, right: u64) -> Result<(), String> {
    (left == right).then_some(()).ok_or_else(|| format!("{what}: {left} is not {right}"))
}

/// From devices, which `sent` so many frames, through cables, switches and TAPs to devices, which were
/// `offered` so many.
fn fabric_books(fabric: &FabricCounters, sent: u64, offered: u64) -> Result<(), String> {
    let FabricCounters { switches, taps, cables } = fabric;
    let sum = |lanes: &[CableCounters], count: fn(&CableCounters) -> u64| -> u64 {
        lanes.iter().map(count).sum()
    };
    let guests = || cables.iter().filter(|cable| cable.guest.is_some());
    let links = || cables.iter().filter(|cable| cable.guest.is_none());
    let from_guests: Vec<_> = guests().map(|cable| cable.forth).collect();
    let to_guests: Vec<_> = guests().map(|cable| cable.back).collect();
    let between: Vec<_> = links().flat_map(|cable| [cable.forth, cable.back]).collect();
    let frames = |lane: &CableCounters| lane.frames;
    let delivered = |lane: &CableCounters| lane.delivered + lane.refused;

    check("frames that devices sent, and cables took", sent, sum(&from_guests, frames))?;
    let lanes = [&from_guests[..], &to_guests, &between].concat();
    check(
        "frames that cables took or doubled, and delivered, dropped or hold",
        sum(&lanes, |lane| lane.frames + lane.duplicated),
        sum(&lanes, |lane| lane.delivered + lane.refused + lane.dropped.total() + lane.held),
    )?;
    let ports = || switches.iter().flat_map(|(_, ports)| ports).map(|(_, port)| port);
    let ours = || taps.iter().filter_map(|tap| Some((tap.ours?, &tap.kernel)));
    check(
        "frames that cables delivered, and switches and TAPs took",
        sum(&from_guests, delivered) + sum(&between, delivered),
        ports().map(|port| port.frames_in).sum::<u64>()
            + ours().map(|(ours, _)| ours.tx_frames + ours.tx_dropped.total()).sum::<u64>(),
    )?;
    check(
        "copies that switches made, and delivered, refused or dropped",
        ports().map(|port| port.frames_in + port.flood_copies).sum(),
        ports().map(|port| port.delivered + port.refused + port.dropped.total()).sum(),
    )?;
    if links().next().is_none()
        && let Some((written, gone)) = fabric.between_taps()
    {
        check("frames written to TAPs, and read or dropped", written, gone)?;
    }
    check(
        "frames that switches and TAPs delivered, and cables took",
        ports().map(|port| port.delivered + port.refused).sum::<u64>()
            + ours().map(|(ours, _)| ours.rx_delivered + ours.rx_refused).sum::<u64>(),
        sum(&to_guests, frames) + sum(&between, frames),
    )?;
    check(
        "frames that cables delivered, and devices were offered",
        sum(&to_guests, delivered),
        offered,
    )
}

/// TCP repairs what is lost on the way: nothing is missing in the end.
fn record_books(sample: &Sample, ends: &[(&Final, &Final)]) -> Result<(), String> {
    check("records written, and read", sample.sent, sample.received)?;
    for (sender, receiver) in ends {
        check("bytes written, and read", sender.bytes, receiver.bytes)?;
        let broken = sender.unsent + receiver.damaged;
        check("records not acknowledged, and damaged", broken, 0)?;
    }
    Ok(())
}

fn packet_books(sample: &Sample, ends: &[(&Final, &Final)]) -> Result<(), String> {
    check(
        "packets sent or doubled, and received or dropped",
        sample.sent + sample.duplicated,
        sample.received + sample.repeated + sample.dropped,
    )?;
    for (sender, receiver) in ends {
        // The end of the stream leaves no gap; what came last tells where it broke off.
        let missing = receiver.lost + sender.packets.saturating_sub(receiver.next);
        let fewer = sender.packets.saturating_sub(receiver.unique_packets());
        check("packets not received, and missing in sequence", fewer, missing)?;
    }
    Ok(())
}

/// A lost request or answer is a dropped frame; either may have been lost.
fn request_books(sample: &Sample) -> Result<(), String> {
    let unanswered = sample.sent - sample.received;
    match sample.duplicated {
        0 => check("requests unanswered, and frames dropped", unanswered, sample.dropped),
        // Of a doubled frame one copy may be dropped, and the other do.
        _ => check(
            "requests unanswered beyond frames dropped",
            unanswered.saturating_sub(sample.dropped),
            0,
        ),
    }
}
