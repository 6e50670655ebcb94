//! One trial: a lab is started, measured once, and stopped.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use vmm_core::e1000::NicCounters;
use vmm_core::kvm::Hypervisor;

use super::{audit, drops, peer};
use crate::error::Error;
use crate::lab::{Final, LabCounters, RunningLab};
use crate::results::{Counters, Drop, Latency, Protocol, Sample, TrialKind, Vmm};
use crate::topology::{Lab, Pair, Role, TrialSpec};

/// How much longer than asked a guest may take to finish: what is queued must drain.
const GRACE: Duration = Duration::from_secs(5);
/// The same for TCP, which sends again what bad cables lose, a second later each time.
const TCP_GRACE: Duration = Duration::from_secs(60);

/// Where a trial stands in the run.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// The round, from 1; 0 is the warm-up.
    pub round: u32,
    /// Position in the run, from 0.
    pub order: u32,
}

/// Runs one trial of `spec` in `lab`, whose optimizations are already those of the cell.
///
/// # Errors
/// If the host cannot run the lab, or a guest fails. A trial that ran but proves nothing is no
/// error: it comes back void, with the reason.
pub async fn run(
    hypervisor: &Hypervisor,
    lab: &Lab,
    kind: TrialKind,
    spec: &TrialSpec,
    turn: Turn,
) -> Result<Sample, Error> {
    let mut running = RunningLab::start(hypervisor, &assigned(lab, kind, spec)).await?;
    let outcome = measure(&mut running, lab, kind, spec, turn).await;
    running.stop();
    outcome
}

/// The lab with the trial's roles given to its pairs of guests, and all others idle.
fn assigned(lab: &Lab, kind: TrialKind, spec: &TrialSpec) -> Lab {
    let mut lab = lab.clone();
    for (index, guest) in lab.guests.iter_mut().enumerate() {
        // A lab with an experiment has no others.
        let Some(pktguest) = guest.pktguest_mut() else { continue };
        let work = &mut pktguest.workload;
        let pair = spec.pairs().find(|pair| pair.guests().contains(&index));
        let starts = pair.is_some_and(|pair| index == pair.from);
        work.role = match (kind, pair) {
            (TrialKind::Throughput, Some(Pair { to, .. })) if starts => {
                Role::sender(spec.protocol, to)
            }
            (TrialKind::Throughput, Some(_)) => Role::receiver(spec.protocol),
            (TrialKind::Rr, Some(Pair { to, .. })) if starts => Role::Ping { to },
            (TrialKind::Rr, Some(_)) => Role::Pong,
            // Frames may have to pass through it.
            (_, None) if work.role == Role::Forward => Role::Forward,
            (_, None) => Role::Idle,
        };
        work.frame = spec.frame;
        work.burst = spec.burst;
        work.rate = spec.rate;
        work.count = 0;
        work.duration_ms = if starts { spec.duration.as_millis() as u64 } else { 0 };
        work.until_unplugged = true;
    }
    lab
}

async fn measure(
    running: &mut RunningLab,
    lab: &Lab,
    kind: TrialKind,
    spec: &TrialSpec,
    turn: Turn,
) -> Result<Sample, Error> {
    running.ready().await?;
    running.plug_in_listeners().await?;
    let before = running.counters().await?;
    let cpu_before = cpu_time() + running.cpu_time_elsewhere();
    running.set_links(true);

    let plugged_in = Instant::now();
    let grace = if spec.protocol == Protocol::Tcp { TCP_GRACE } else { GRACE };
    for Pair { from, .. } in spec.pairs() {
        running.finished(from, plugged_in + spec.duration + grace).await?;
    }
    let window = plugged_in.elapsed();
    let cpu_after = cpu_time() + running.cpu_time_elsewhere();
    let cpu_ns = cpu_after.saturating_sub(cpu_before).as_nanos() as u64;
    running.settle().await?;
    let reports = last_words(running, spec).await?;
    let after = running.counters().await?;

    let drops = match spec.protocol {
        Protocol::Raw | Protocol::Udp => {
            let [earlier, all] = [&before, &after].map(|then| drops::drops(lab, spec, then));
            [drops::since(&earlier, all), drops::in_guests(lab, spec, &reports)].concat()
        }
        // A frame that is dropped is sent again: no part of the stream is.
        Protocol::Tcp => Vec::new(),
    };
    let [earlier, duplicated] = [&before, &after].map(|then| drops::duplicated(lab, spec, then));
    let counters = counted(&before, &after, cpu_ns);
    if let Some(silent) = reports.iter().position(Option::is_none) {
        let reason = format!("guest `{}` did not finish in time", running.name(silent));
        return Ok(void(kind, turn, drops, counters, reason));
    }
    let reports: Vec<_> = reports.iter().flatten().collect();
    let ends: Vec<_> = spec.pairs().map(|pair| (reports[pair.from], reports[pair.to])).collect();
    let sender = Final::total(ends.iter().map(|(sender, _)| *sender));
    let receiver = Final::total(ends.iter().map(|(_, receiver)| *receiver));
    let (sent, received) = match kind {
        TrialKind::Throughput => (sender.packets, receiver.unique_packets()),
        TrialKind::Rr => (sender.sent, sender.packets),
    };
    // Frames that drain after the sender has stopped take time, too.
    let (elapsed_ns, per_pair_mpps) = match &ends[..] {
        [(sender, receiver)] => (sender.elapsed_ns.max(receiver.elapsed_ns), Vec::new()),
        // They begin when they get a CPU, so that no guest's own time covers all.
        pairs => (window.as_nanos() as u64, pairs.iter().map(|(s, r)| mpps(s, r)).collect()),
    };
    let dropped = drops.iter().map(|drop| drop.frames).sum();
    let vmm = lab.platform().vmm;
    let counters = match vmm {
        Vmm::Labctl => Counters { halts: sender.halts + receiver.halts, ..counters },
        Vmm::Qemu => peer::counted(&reports, cpu_ns),
    };
    let mut sample = Sample {
        elapsed_ns,
        sent,
        received,
        per_pair_mpps,
        payload_bytes: (!spec.protocol.is_raw()).then_some(receiver.bytes),
        duplicated: duplicated - earlier,
        repeated: receiver.duplicates,
        dropped,
        drops,
        latency: (kind == TrialKind::Rr && sender.packets > 0).then(|| latency(ends[0].0)),
        counters,
        ..Sample::new(kind, turn.round, turn.order)
    };
    let cables = || lab.cables().map(|cable| lab.impairments(cable));
    let in_order = !cables().any(|cable| cable.reorder > 0.0 || cable.jitter_us > 0);
    sample.void_reason = match vmm {
        Vmm::Labctl => audit::books(&sample, spec, in_order, &reports, &ends, &after).err(),
        Vmm::Qemu => {
            sample.lost = peer::lost(&sample);
            peer::books(&sample, spec.protocol, &receiver, &after.fabric).err()
        }
    };
    sample.conserved = sample.void_reason.is_none() && sample.lost == 0;
    if sample.void_reason.is_none() && received == 0 {
        sample.void_reason = Some("no packet arrived".to_owned());
    }
    Ok(sample)
}

/// What a pair got done, by the longer of its two guests' times.
fn mpps(sender: &Final, receiver: &Final) -> f64 {
    receiver.packets as f64 * 1e3 / sender.elapsed_ns.max(receiver.elapsed_ns).max(1) as f64
}

/// Ends all guests by unplugging them, the senders last, and collects their final reports, in the
/// guests' order.
async fn last_words(
    running: &mut RunningLab,
    spec: &TrialSpec,
) -> Result<Vec<Option<Final>>, Error> {
    let sends = |guest: &usize| spec.pairs().any(|pair| pair.from == *guest);
    let (senders, others): (Vec<_>, Vec<_>) = (0..running.guests()).partition(sends);
    others.into_iter().chain(senders).for_each(|guest| running.set_link(guest, false));
    let mut reports = Vec::new();
    for guest in 0..running.guests() {
        reports.push(running.finished(guest, Instant::now() + GRACE).await?);
    }
    Ok(reports)
}

/// What was counted between two moments.
fn counted(before: &LabCounters, after: &LabCounters, cpu_ns: u64) -> Counters {
    let nics = |of: &LabCounters, count: fn(&NicCounters) -> u64| -> u64 {
        of.guests.iter().flat_map(|(_, nics)| nics).map(count).sum()
    };
    let between = |count: fn(&NicCounters) -> u64| nics(after, count) - nics(before, count);
    // Port exits are the guests' reports on the serial line, not packet work.
    let exits = |of: &LabCounters| -> [u64; 3] {
        of.guests.iter().fold([0; 3], |[r, w, o], (vcpu, _)| {
            [r + vcpu.mmio_read, w + vcpu.mmio_write, o + vcpu.other]
        })
    };
    let kinds = ["mmio_read", "mmio_write", "other"].into_iter();
    let exits: BTreeMap<String, u64> = kinds
        .zip(exits(after).into_iter().zip(exits(before)))
        .map(|(kind, (after, before))| (kind.to_owned(), after - before))
        .collect();
    let tap_syscalls = |of: &LabCounters| {
        let ours = of.fabric.taps.iter().filter_map(|tap| tap.ours);
        ours.map(|ours| ours.tx_syscalls + ours.rx_syscalls).sum::<u64>()
    };
    Counters {
        exits,
        tdt_writes: between(|nic| nic.registers.tdt_writes),
        rdt_writes: between(|nic| nic.registers.rdt_writes),
        interrupts: between(|nic| nic.interrupts),
        kicks: between(|nic| nic.registers.tdt_writes + nic.registers.rdt_writes),
        halts: 0,
        batches: between(|nic| nic.rx.batches),
        batch_frames: between(|nic| nic.rx.frames),
        tap_syscalls: tap_syscalls(after) - tap_syscalls(before),
        cpu_ns,
    }
}

/// A trial that does not count, and why.
pub fn void(
    kind: TrialKind,
    turn: Turn,
    drops: Vec<Drop>,
    counters: Counters,
    reason: String,
) -> Sample {
    Sample {
        dropped: drops.iter().map(|drop| drop.frames).sum(),
        drops,
        void_reason: Some(reason),
        counters,
        ..Sample::new(kind, turn.round, turn.order)
    }
}

fn latency(report: &Final) -> Latency {
    Latency {
        min_ns: report.min_ns,
        mean_ns: report.mean_ns,
        p50_ns: report.p50_ns,
        p90_ns: report.p90_ns,
        p99_ns: report.p99_ns,
        p999_ns: report.p999_ns,
        max_ns: report.max_ns,
    }
}

/// CPU time that this process has used, all threads together.
pub fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec, to the one given.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
