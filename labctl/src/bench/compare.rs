//! Did it get worse? Two result documents, cell by cell.
//!
//! A verdict needs the whole interval of the change to lie on one side of a practical threshold,
//! so noise alone rarely fails a comparison, and a comparison too noisy to tell says so.

use serde::Serialize;

use super::stats::{self, LEAST_COVERAGE};
pub use crate::results::Verdict;
use crate::results::{Cell, CellId, Estimate, Ratio, Results};

/// Two documents compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Worsening that is tolerated, as a fraction.
    pub threshold: f64,
    /// The worst verdict of all cells.
    pub verdict: Verdict,
    /// What makes the comparison itself doubtful.
    pub warnings: Vec<String>,
    /// Cells in both documents, in the new one's order.
    pub cells: Vec<CellChange>,
    /// Names of cells that only the old document has.
    pub only_in_old: Vec<String>,
    /// Names of cells that only the new document has.
    pub only_in_new: Vec<String>,
}

/// One cell's change.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CellChange {
    /// The cell.
    #[serde(flatten)]
    pub id: CellId,
    /// The worse of both verdicts.
    pub verdict: Verdict,
    /// Throughput in Mpps; it is worse below 1. Absent if neither document has it.
    pub throughput: Option<Change>,
    /// Request/response time in microseconds; it is worse above 1.
    pub rr: Option<Change>,
}

/// One figure's change.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Before.
    pub old: Option<Estimate>,
    /// After.
    pub new: Option<Estimate>,
    /// After over before.
    pub ratio: Option<Ratio>,
    /// Is it worse?
    pub verdict: Verdict,
}

#[derive(Clone, Copy)]
enum Better {
    Higher,
    Lower,
}

/// Compares two documents; `threshold` is the fraction by which a figure may get worse.
pub fn compare(old: &Results, new: &Results, threshold: f64) -> Comparison {
    let same = |a: &Cell, b: &Cell| a.id == b.id;
    let missing_in = |those: &[Cell], from: &[Cell]| -> Vec<String> {
        let missing = measured(from).filter(|cell| !measured(those).any(|other| same(cell, other)));
        missing.map(|cell| cell.id.to_string()).collect()
    };
    let cells: Vec<_> = measured(&new.cells)
        .filter_map(|cell| {
            let before = measured(&old.cells).find(|other| same(cell, other))?;
            Some(compare_cell(before, cell, threshold))
        })
        .collect();
    Comparison {
        threshold,
        verdict: cells.iter().map(|cell| cell.verdict).max().unwrap_or(Verdict::Inconclusive),
        warnings: warnings(old, new),
        cells,
        only_in_old: missing_in(&new.cells, &old.cells),
        only_in_new: missing_in(&old.cells, &new.cells),
    }
}

/// A cell that was skipped on one host is as absent as if its file had no such cell.
fn measured(cells: &[Cell]) -> impl Iterator<Item = &Cell> {
    cells.iter().filter(|cell| cell.skipped.is_none())
}

fn compare_cell(old: &Cell, new: &Cell, threshold: f64) -> CellChange {
    let rr = |cell: &Cell| cell.metrics.rr_us.map(|rr| rr.estimate());
    let loads = (old.metrics.throughput_mpps, new.metrics.throughput_mpps);
    let throughput = change(loads.0, loads.1, Better::Higher, threshold);
    let rr = change(rr(old), rr(new), Better::Lower, threshold);
    let verdicts = [&throughput, &rr].into_iter().flatten().map(|change| change.verdict);
    CellChange {
        id: new.id.clone(),
        verdict: verdicts.max().unwrap_or(Verdict::Inconclusive),
        throughput,
        rr,
    }
}

fn change(
    old: Option<Estimate>,
    new: Option<Estimate>,
    better: Better,
    threshold: f64,
) -> Option<Change> {
    let ratio = old.zip(new).and_then(|(old, new)| stats::change(old, new));
    let verdict = match (old, new, ratio) {
        (None, None, _) => return None,
        (Some(_), None, _) => Verdict::Fail,
        (_, _, Some(ratio)) => judge(ratio, better, threshold),
        _ => Verdict::Inconclusive,
    };
    Some(Change { old, new, ratio, verdict })
}

fn judge(ratio: Ratio, better: Better, threshold: f64) -> Verdict {
    // How much worse, as a fraction, at either end of the interval.
    let (at_best, at_worst) = match better {
        Better::Higher => (1.0 - ratio.high, 1.0 - ratio.low),
        Better::Lower => (ratio.low - 1.0, ratio.high - 1.0),
    };
    if ratio.coverage < LEAST_COVERAGE {
        // One or two trials have no spread to judge by.
        Verdict::Inconclusive
    } else if at_best > threshold {
        Verdict::Fail
    } else if at_worst <= threshold {
        Verdict::Pass
    } else {
        Verdict::Inconclusive
    }
}

/// Differences that a change of figures may come from, rather than from a change of the code.
fn warnings(old: &Results, new: &Results) -> Vec<String> {
    let mut warnings = vec![];
    let mut differ = |what: &str, old: String, new: String| {
        if old != new {
            warnings.push(format!("{what} differs: {old} then, {new} now"));
        }
    };
    // Cells are told apart by what was varied, which labs with nothing else in common may share.
    differ("lab", old.lab.name.clone(), new.lab.name.clone());
    differ("CPU", old.host.cpu.clone(), new.host.cpu.clone());
    differ("number of cores", old.host.cores.to_string(), new.host.cores.to_string());
    differ("KVM", old.host.kvm.clone(), new.host.kvm.clone());
    differ("kernel", old.host.kernel.clone(), new.host.kernel.clone());
    differ("virtual machine monitor", old.vmm.clone(), new.vmm.clone());
    if let (Some(old), Some(new)) = (&old.host.qemu, &new.host.qemu) {
        differ("QEMU", old.clone(), new.clone());
    }
    differ("ring", old.settings.ring.to_string(), new.settings.ring.to_string());
    for (kind, old, new) in [
        ("throughput", &old.settings.throughput, &new.settings.throughput),
        ("rr", &old.settings.rr, &new.settings.rr),
    ] {
        if let (Some(old), Some(new)) = (old, new) {
            differ(&format!("{kind} protocol"), old.protocol.to_string(), new.protocol.to_string());
            differ(&format!("{kind} frame"), old.frame.to_string(), new.frame.to_string());
            differ(&format!("{kind} burst"), old.burst.to_string(), new.burst.to_string());
            differ(&format!("{kind} rate"), old.rate.to_string(), new.rate.to_string());
        }
    }
    for (name, results) in [("old", old), ("new", new)] {
        if !results.complete {
            warnings.push(format!("the {name} run was interrupted"));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    fn ratio(low: f64, high: f64) -> Ratio {
        Ratio { ratio: (low * high).sqrt(), low, high, coverage: 0.95 }
    }

    fn estimate(median: f64) -> Option<Estimate> {
        let (low, high) = (median * 0.99, median * 1.01);
        Some(Estimate { median, low, high, samples: 8, coverage: 0.99 })
    }

    #[test]
    fn the_whole_interval_must_be_beyond_the_threshold() {
        use Verdict::{Fail, Inconclusive, Pass};
        for (low, high, verdict) in [
            (0.97, 1.02, Pass),         // a little noise
            (1.50, 2.00, Pass),         // faster
            (0.951, 0.97, Pass),        // slower, but tolerably so
            (0.80, 0.94, Fail),         // slower
            (0.80, 0.96, Inconclusive), // perhaps
            (0.50, 2.00, Inconclusive), // nobody knows
        ] {
            assert_eq!(judge(ratio(low, high), Better::Higher, 0.05), verdict, "{low} to {high}");
        }
        assert_eq!(judge(ratio(1.06, 1.2), Better::Lower, 0.05), Fail);
        assert_eq!(judge(ratio(1.04, 1.2), Better::Lower, 0.05), Inconclusive);
        assert_eq!(judge(ratio(0.5, 1.04), Better::Lower, 0.05), Pass);
        assert_eq!(judge(ratio(1.06, 1.2), Better::Lower, 0.25), Pass);
    }

    #[test]
    fn a_figure_that_is_gone_fails_and_one_that_is_new_proves_nothing() {
        let verdict = |old, new| change(old, new, Better::Higher, 0.05).map(|c| c.verdict);
        assert_eq!(verdict(estimate(1.0), None), Some(Verdict::Fail));
        assert_eq!(verdict(None, estimate(1.0)), Some(Verdict::Inconclusive));
        assert_eq!(verdict(None, None), None);
        assert_eq!(verdict(estimate(1.0), estimate(1.0)), Some(Verdict::Pass));
        assert_eq!(verdict(estimate(1.0), estimate(0.5)), Some(Verdict::Fail));
    }

    #[test]
    fn noise_alone_fails_few_comparisons_of_a_whole_matrix() {
        // 16 cells with two figures each, six trials, 10 % noise.
        let mut rng = SmallRng::seed_from_u64(3);
        let mut figure = || {
            let values: Vec<f64> = (0..6)
                .map(|_| (0..12).map(|_| rng.random::<f64>() - 0.5).sum::<f64>())
                .map(|normal| (0.1 * normal).exp())
                .collect();
            stats::estimate(&values)
        };
        let mut fails =
            || change(figure(), figure(), Better::Higher, 0.05).unwrap().verdict == Verdict::Fail;
        let failed = (0..500).filter(|_| (0..32).filter(|_| fails()).count() > 0).count();
        assert!(failed < 25, "{failed} of 500");
    }
}
