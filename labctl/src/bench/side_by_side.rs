//! Cells with names against the one that the file calls the reference.
//!
//! Every round measures both, minutes of drift lie between rounds and not within them, so the ratio
//! is taken round by round and its median is reported, with the same interval between order
//! statistics as for every other median.

use std::collections::BTreeMap;

use super::stats;
use crate::results::{Cell, Protocol, Ratio, Sample, Settings, ToReference, TrialKind};

/// Notes in every cell with a name how it compares with the one called `reference`.
pub fn compare(cells: &mut [Cell], reference: &str, settings: &Settings) {
    let is_reference = |cell: &&Cell| cell.id.name.as_deref() == Some(reference);
    let Some(reference) = cells.iter().find(is_reference).cloned() else {
        return;
    };
    for cell in cells.iter_mut().filter(|cell| !cell.is_factorial() && cell.id != reference.id) {
        let ratio = |kind: TrialKind, figure: fn(&Sample) -> Option<f64>| {
            let packets = |cell: &Cell| match kind {
                TrialKind::Throughput => (settings.frame(kind, &cell.id), cell.id.protocol),
                TrialKind::Rr => (settings.frame(kind, &cell.id), Protocol::Raw),
            };
            (packets(cell) == packets(&reference)).then(|| ratio(cell, &reference, kind, figure))?
        };
        let throughput = ratio(TrialKind::Throughput, Sample::mpps);
        let rr = ratio(TrialKind::Rr, |sample| Some(sample.latency?.p50_ns as f64));
        if throughput.is_some() || rr.is_some() {
            cell.to_reference = Some(ToReference { throughput, rr });
        }
    }
}

/// The median over the rounds that both have.
fn ratio(
    cell: &Cell,
    reference: &Cell,
    kind: TrialKind,
    figure: fn(&Sample) -> Option<f64>,
) -> Option<Ratio> {
    let by_round = |cell: &Cell| -> BTreeMap<u32, f64> {
        let valid = cell.samples.iter().filter(|s| s.kind == kind && s.is_valid());
        let figures = valid.filter_map(|sample| Some((sample.round, figure(sample)?)));
        figures.filter(|(_, figure)| *figure > 0.0).collect()
    };
    let (ours, theirs) = (by_round(cell), by_round(reference));
    let ratios: Vec<_> =
        ours.iter().filter_map(|(round, ours)| Some(ours / theirs.get(round)?)).collect();
    let estimate = stats::estimate(&ratios)?;
    let (ratio, low, high) = (estimate.median, estimate.low, estimate.high);
    Some(Ratio { ratio, low, high, coverage: estimate.coverage })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::summary;
    use crate::results::{CellId, Latency, Setting, TrialSettings};

    fn sample(kind: TrialKind, round: u32, figure: u64) -> Sample {
        Sample {
            elapsed_ns: 1_000_000,
            sent: figure,
            received: figure,
            conserved: true,
            latency: Some(Latency { p50_ns: figure, ..Latency::default() }),
            ..Sample::new(kind, round, 0)
        }
    }

    fn cell(name: &str, figures: &[u64]) -> Cell {
        let kinds = |(round, &figure)| TrialKind::ALL.map(|kind| sample(kind, round, figure));
        let samples = (1..).zip(figures).flat_map(kinds).collect();
        summary::cell(CellId { name: Some(name.into()), ..CellId::default() }, samples)
    }

    fn settings() -> Settings {
        let (from, to) = ("a".to_owned(), "b".to_owned());
        let protocol = Protocol::Raw;
        let trial = TrialSettings {
            from,
            to,
            pairs: 1,
            protocol,
            frame: 60,
            burst: 1,
            rate: 0,
            duration_ms: 1,
        };
        Settings {
            ring: 80,
            throughput: Some(trial.clone()),
            rr: Some(trial),
            budget_s: 1.0,
            rounds: 6,
            warm_up_trials: 0,
            confidence: 0.95,
        }
    }

    #[test]
    fn rounds_are_paired_so_that_drift_cancels() {
        // The host slows down tenfold; the cell is always twice as fast.
        let drift = [1000, 700, 500, 300, 200, 100];
        let twice = drift.map(|figure| 2 * figure);
        let mut cells = [cell("fast", &twice), cell("base", &drift)];
        compare(&mut cells, "base", &settings());
        let found = cells[0].to_reference.unwrap();
        for ratio in [found.throughput.unwrap(), found.rr.unwrap()] {
            assert_eq!((ratio.ratio, ratio.low, ratio.high), (2.0, 2.0, 2.0));
            assert!(ratio.coverage > 0.95);
        }
        assert_eq!(cells[1].to_reference, None, "not with itself");
    }

    #[test]
    fn only_rounds_that_both_have_count() {
        let mut cells = [cell("a", &[10, 20, 30]), cell("base", &[10, 10, 10])];
        cells[0].samples[0].void_reason = Some("void".into());
        cells[1].samples.retain(|sample| sample.round != 2);
        compare(&mut cells, "base", &settings());
        let found = cells[0].to_reference.unwrap();
        assert_eq!(found.throughput.unwrap().ratio, 3.0);
        assert_eq!(found.rr.unwrap().ratio, 2.0, "rounds 1 and 3");
    }

    #[test]
    fn other_packets_and_skipped_references_are_not_compared() {
        let mut cells = [cell("large", &[10]), cell("base", &[10])];
        cells[0].id.parameters.insert("throughput.frame".into(), Setting::Number(1514));
        compare(&mut cells, "base", &settings());
        let found = cells[0].to_reference.unwrap();
        assert!(found.throughput.is_none() && found.rr.is_some());
        cells[0].id.parameters.clear();
        cells[0].id.protocol = Protocol::Udp;
        cells[0].to_reference = None;
        compare(&mut cells, "base", &settings());
        let found = cells[0].to_reference.unwrap();
        assert!(found.throughput.is_none() && found.rr.is_some(), "datagrams and raw frames");
        let skipped = summary::skipped(cells[1].id.clone(), "no QEMU".into());
        let mut cells = [cell("a", &[10]), skipped];
        compare(&mut cells, "base", &settings());
        assert_eq!(cells[0].to_reference, None);
    }
}
