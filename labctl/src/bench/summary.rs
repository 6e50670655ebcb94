//! From the trials of a cell to its figures.

use std::collections::BTreeMap;

use super::stats;
use crate::results::{Cell, CellId, Drop, Metrics, RoundTrip, Sample, TrialKind, Vmm};

/// A cell and its figures over all valid samples.
pub fn cell(id: CellId, samples: Vec<Sample>) -> Cell {
    let conserved = !samples.is_empty() && samples.iter().all(|s| s.conserved);
    let metrics = match id.platform.vmm {
        Vmm::Labctl => metrics(&samples),
        // Its exits and system calls are its own affair: not none, but unknown.
        Vmm::Qemu => Metrics {
            exits_per_packet: None,
            tap_syscalls_per_packet: None,
            rr_exits_per_transaction: None,
            ..metrics(&samples)
        },
    };
    Cell { id, policy: None, skipped: None, metrics, to_reference: None, conserved, samples }
}

/// A cell that was not measured.
pub fn skipped(id: CellId, reason: String) -> Cell {
    Cell { skipped: Some(reason), ..cell(id, Vec::new()) }
}

fn metrics(samples: &[Sample]) -> Metrics {
    let valid = |kind| -> Vec<&Sample> {
        samples.iter().filter(|s| s.kind == kind && s.is_valid()).collect()
    };
    let (load, rr) = (valid(TrialKind::Throughput), valid(TrialKind::Rr));

    let packets = total(&load, |s| s.received);
    let seconds = total(&load, |s| s.elapsed_ns) as f64 / 1e9;
    let interrupts = total(&load, |s| s.counters.interrupts);
    let drops_by_cause = merge_drops(&load);
    let drops = drops_by_cause.iter().map(|d| d.frames).sum();
    let lost = total(&load, |s| s.lost);
    let per_packet = |count: fn(&Sample) -> u64| over(total(&load, count), packets as f64);

    let transactions = total(&rr, |s| s.received) as f64;

    Metrics {
        throughput_mpps: stats::estimate(&load.iter().filter_map(|s| s.mpps()).collect::<Vec<_>>()),
        goodput_gbps: stats::estimate(
            &load.iter().filter_map(|s| s.goodput_gbps()).collect::<Vec<_>>(),
        ),
        jain: stats::median(&load.iter().filter_map(|s| s.jain()).collect::<Vec<_>>()),
        rr_us: round_trip(&rr),
        exits_per_packet: per_packet(|s| s.counters.total_exits()),
        exits_per_packet_by_kind: exits_by_kind(&load, packets),
        interrupts_per_s: over(interrupts, seconds),
        interrupts_per_packet: per_packet(|s| s.counters.interrupts),
        mean_batch: over(
            total(&load, |s| s.counters.batch_frames),
            total(&load, |s| s.counters.batches) as f64,
        ),
        drops,
        drop_ratio: over(drops, total(&load, |s| s.sent) as f64),
        lost,
        lost_ratio: over(lost, total(&load, |s| s.sent) as f64).filter(|ratio| *ratio > 0.0),
        drops_by_cause,
        tdt_writes_per_packet: per_packet(|s| s.counters.tdt_writes),
        kicks_per_packet: per_packet(|s| s.counters.kicks),
        tap_syscalls_per_packet: per_packet(|s| s.counters.tap_syscalls),
        cpu_us_per_packet: per_packet(|s| s.counters.cpu_ns).map(|ns| ns / 1e3),
        rr_exits_per_transaction: over(total(&rr, |s| s.counters.total_exits()), transactions),
        rr_interrupts_per_transaction: over(total(&rr, |s| s.counters.interrupts), transactions),
    }
}

fn total(samples: &[&Sample], count: impl Fn(&Sample) -> u64) -> u64 {
    samples.iter().map(|s| count(s)).sum()
}

/// `None` rather than a division by zero.
fn over(count: u64, divisor: f64) -> Option<f64> {
    (divisor > 0.0).then(|| count as f64 / divisor)
}

fn round_trip(samples: &[&Sample]) -> Option<RoundTrip> {
    let latencies: Vec<_> = samples.iter().filter_map(|s| s.latency).collect();
    let us = |ns: u64| ns as f64 / 1e3;
    let medians: Vec<_> = latencies.iter().map(|l| us(l.p50_ns)).collect();
    let p99s: Vec<_> = latencies.iter().map(|l| us(l.p99_ns)).collect();
    let of_medians = stats::estimate(&medians)?;
    Some(RoundTrip {
        median: of_medians.median,
        p99: stats::median(&p99s)?,
        low: of_medians.low,
        high: of_medians.high,
        samples: of_medians.samples,
        coverage: of_medians.coverage,
    })
}

fn exits_by_kind(samples: &[&Sample], packets: u64) -> BTreeMap<String, f64> {
    let mut by_kind = BTreeMap::<String, u64>::new();
    for (kind, count) in samples.iter().flat_map(|s| &s.counters.exits) {
        *by_kind.entry(kind.clone()).or_default() += count;
    }
    by_kind
        .into_iter()
        .filter_map(|(kind, count)| Some((kind, over(count, packets as f64)?)))
        .collect()
}

/// One entry per place and cause, most frequent first.
fn merge_drops(samples: &[&Sample]) -> Vec<Drop> {
    let mut merged = BTreeMap::<(&str, &str), u64>::new();
    for drop in samples.iter().flat_map(|s| &s.drops) {
        *merged.entry((&drop.place, &drop.cause)).or_default() += drop.frames;
    }
    let mut drops: Vec<_> = merged
        .into_iter()
        .filter(|&(_, frames)| frames > 0)
        .map(|((place, cause), frames)| Drop { place: place.into(), cause: cause.into(), frames })
        .collect();
    drops.sort_by_key(|d| std::cmp::Reverse(d.frames));
    drops
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Counters, Latency};

    fn load(received: u64, dropped: u64) -> Sample {
        Sample {
            elapsed_ns: 500_000_000,
            sent: received + dropped,
            received,
            dropped,
            drops: vec![
                Drop { place: "sw0:1".into(), cause: "ring full".into(), frames: dropped },
                Drop { place: "sw0:1".into(), cause: "too short".into(), frames: 0 },
            ],
            conserved: true,
            counters: Counters {
                exits: [("mmio_write".into(), received / 2), ("pio_in".into(), 3)].into(),
                tdt_writes: received / 4,
                interrupts: 100,
                batches: received / 8,
                batch_frames: received,
                cpu_ns: received * 50,
                ..Counters::default()
            },
            ..Sample::new(TrialKind::Throughput, 1, 0)
        }
    }

    fn rr(p50_ns: u64, p99_ns: u64) -> Sample {
        Sample {
            kind: TrialKind::Rr,
            latency: Some(Latency { p50_ns, p99_ns, ..Latency::default() }),
            ..load(1000, 0)
        }
    }

    #[test]
    fn figures_are_ratios_of_sums_and_medians_of_trials() {
        let samples = vec![load(1000, 100), load(3000, 300), load(8000, 0), rr(20_000, 90_000)];
        let cell = cell(CellId::default(), samples);
        assert!(cell.conserved);
        let m = &cell.metrics;
        assert_eq!(m.throughput_mpps.unwrap().median, 0.006);
        assert_eq!((m.rr_us.unwrap().median, m.rr_us.unwrap().p99), (20.0, 90.0));
        assert_eq!(m.exits_per_packet, Some((6000.0 + 9.0) / 12_000.0));
        assert_eq!(m.exits_per_packet_by_kind["mmio_write"], 0.5);
        assert_eq!(m.interrupts_per_s, Some(200.0));
        assert_eq!(m.mean_batch, Some(8.0));
        assert_eq!(m.tdt_writes_per_packet, Some(0.25));
        assert_eq!(m.cpu_us_per_packet, Some(0.05));
        assert_eq!((m.drops, m.drop_ratio), (400, Some(400.0 / 12_400.0)));
        assert_eq!(m.drops_by_cause.len(), 1, "one place and cause, no empty entry");
        assert_eq!(m.rr_exits_per_transaction, Some(0.503));
    }

    #[test]
    fn a_void_trial_counts_for_nothing_but_stays_on_record() {
        let mut void = load(1_000_000, 7);
        void.conserved = false;
        void.void_reason = Some("7 packets unaccounted for".into());
        let samples = vec![load(1000, 0), void.clone(), load(1000, 0)];
        let some = cell(CellId::default(), samples);
        assert_eq!(some.void_reason(), None, "two trials remain");
        assert_eq!(some.samples.len(), 3);
        assert_eq!(some.metrics.throughput_mpps.unwrap().samples, 2);
        assert_eq!(some.metrics.drops, 0);
        assert!(!some.conserved);

        let samples = vec![void, rr(20_000, 90_000)];
        let none = cell(CellId::default(), samples);
        assert_eq!(none.void_reason(), Some("7 packets unaccounted for"));
        assert!(none.metrics.throughput_mpps.is_none() && none.metrics.rr_us.is_some());
    }

    #[test]
    fn what_a_peer_hides_is_unknown_and_what_it_loses_is_not_dropped() {
        let mut sample = load(900, 40);
        (sample.sent, sample.lost, sample.conserved) = (1000, 60, false);
        sample.counters.exits.clear();
        let mut id = CellId::default();
        id.platform.vmm = Vmm::Qemu;
        let cell = cell(id, vec![sample]);
        let m = &cell.metrics;
        assert_eq!((m.exits_per_packet, m.tap_syscalls_per_packet), (None, None));
        assert_eq!((m.drops, m.drop_ratio), (40, Some(0.04)));
        assert_eq!((m.lost, m.lost_ratio), (60, Some(0.06)));
        assert!(m.throughput_mpps.is_some() && !cell.conserved);
    }

    #[test]
    fn a_skipped_cell_has_neither_figures_nor_failed() {
        let cell = skipped(CellId::default(), "no QEMU".into());
        assert_eq!((cell.void_reason(), cell.skipped.as_deref()), (None, Some("no QEMU")));
        assert_eq!(cell.metrics, Metrics::default());
    }

    #[test]
    fn a_cell_without_trials_has_no_figures() {
        let cell = cell(CellId::default(), vec![]);
        assert!(!cell.conserved);
        assert_eq!(cell.metrics, Metrics::default());
        assert_eq!(cell.void_reason(), Some("no trial was completed"));
    }
}
