//! Are the lab file's assertions true of what was measured?
//!
//! A figure is a median with its interval. Intervals are carried through an expression by the distances
//! of their ends from the median, as root of the sum of squares (G. Zou, A. Donner: "Construction of
//! confidence limits about effect measures", Statistics in Medicine 27, 2008): for sums as they are, for
//! products on logarithms. A comparison holds if its whole interval lies on one side, and if there were
//! trials enough for an interval that means something.

use super::stats::{self, LEAST_COVERAGE};
use crate::results::{Assertion, Cell, Check, Estimate, Figure, Latency, TrialKind, Verdict};
use crate::topology::{self, Dimension, Metric, Operator, Relation, Subject, Term};

/// Judges all assertions by the cells, which are in the order of the plan.
pub fn judge(assertions: &[topology::Assertion], cells: &[Cell]) -> Vec<Assertion> {
    assertions.iter().map(|assertion| judge_one(assertion, cells)).collect()
}

fn judge_one(assertion: &topology::Assertion, cells: &[Cell]) -> Assertion {
    let checks: Vec<_> = match &assertion.each {
        Some(each) => each
            .iter()
            .filter_map(|cell| cells.get(*cell))
            .map(|cell| {
                let name = Some(cell.id.to_string());
                Check { cell: name, ..check(assertion, cells, Some(cell)) }
            })
            .collect(),
        None => vec![check(assertion, cells, None)],
    };
    Assertion {
        that: assertion.that.clone(),
        name: assertion.name.clone(),
        position: assertion.position,
        verdict: checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Inconclusive),
        checks,
    }
}

/// Why there is no verdict from figures, and which it is then.
struct Missing(Verdict, String);

fn check(assertion: &topology::Assertion, cells: &[Cell], each: Option<&Cell>) -> Check {
    let context = Context { cells, each };
    let (left, right) = (context.term(&assertion.left), context.term(&assertion.right));
    let figure = |value: &Result<Value, Missing>| {
        value.as_ref().ok().map(|value| value.figure(assertion.unit))
    };
    let figures = (figure(&left), figure(&right));
    let (verdict, reason) = match (left, right) {
        (Ok(left), Ok(right)) if left.coverage.min(right.coverage) < LEAST_COVERAGE => {
            (Verdict::Inconclusive, Some("one or two trials have no spread to judge by".to_owned()))
        }
        (Ok(left), Ok(right)) => (left.compared(assertion.relation, right), None),
        (Err(Missing(verdict, reason)), _) | (_, Err(Missing(verdict, reason))) => {
            (verdict, Some(reason))
        }
    };
    Check { cell: None, left: figures.0, right: figures.1, verdict, reason }
}

/// A number and the interval it is believed to lie in.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Value {
    median: f64,
    low: f64,
    high: f64,
    /// How probably it lies there, by the trials with the fewest.
    coverage: f64,
}

impl Value {
    fn exact(number: f64) -> Self {
        Self { median: number, low: number, high: number, coverage: 1.0 }
    }

    fn is_exact(self) -> bool {
        self.low == self.high
    }

    fn map(self, f: impl Fn(f64) -> f64) -> Self {
        let (a, b) = (f(self.low), f(self.high));
        Self { median: f(self.median), low: a.min(b), high: a.max(b), ..self }
    }

    fn figure(self, unit: Dimension) -> Figure {
        let Self { median, low, high, .. } = self;
        Figure { median, low, high, unit: unit.unit().to_owned() }
    }

    fn plus(self, other: Self) -> Self {
        let median = self.median + other.median;
        let below = (self.median - self.low).hypot(other.median - other.low);
        let above = (self.high - self.median).hypot(other.high - other.median);
        let coverage = self.coverage.min(other.coverage);
        Self { median, low: median - below, high: median + above, coverage }
    }

    fn minus(self, other: Self) -> Self {
        self.plus(other.map(|x| -x))
    }

    /// `None` if neither is exact and one may be 0 or less: that has no logarithm.
    fn times(self, other: Self) -> Option<Self> {
        if other.is_exact() {
            return Some(self.map(|x| x * other.median));
        }
        if self.is_exact() {
            return Some(other.map(|x| x * self.median));
        }
        let logarithms =
            (self.low > 0.0 && other.low > 0.0).then(|| self.map(f64::ln).plus(other.map(f64::ln)));
        logarithms.map(|sum| sum.map(f64::exp))
    }

    /// `None` if it may be 0.
    fn inverse(self) -> Option<Self> {
        (self.low > 0.0 || self.high < 0.0).then(|| self.map(|x| 1.0 / x))
    }

    fn compared(self, relation: Relation, other: Self) -> Verdict {
        let Self { low, high, .. } = self.minus(other);
        let (always, never) = match relation {
            Relation::Less => (high < 0.0, low >= 0.0),
            Relation::LessOrEqual => (high <= 0.0, low > 0.0),
            Relation::Equal => (low == 0.0 && high == 0.0, low > 0.0 || high < 0.0),
            Relation::GreaterOrEqual => (low >= 0.0, high < 0.0),
            Relation::Greater => (low > 0.0, high <= 0.0),
        };
        match (always, never) {
            (true, _) => Verdict::Pass,
            (_, true) => Verdict::Fail,
            _ => Verdict::Inconclusive,
        }
    }
}

impl From<Estimate> for Value {
    fn from(Estimate { median, low, high, coverage, .. }: Estimate) -> Self {
        Self { median, low, high, coverage }
    }
}

struct Context<'a> {
    cells: &'a [Cell],
    each: Option<&'a Cell>,
}

impl Context<'_> {
    fn term(&self, term: &Term) -> Result<Value, Missing> {
        match term {
            Term::Number(number) => Ok(Value::exact(*number)),
            Term::Figure(subject, metric) => {
                let cell = match subject {
                    Subject::Each => self.each,
                    Subject::Cell(cell) => self.cells.get(*cell),
                };
                cell.map_or_else(
                    || Err(Missing(Verdict::Inconclusive, "no such cell".to_owned())),
                    |cell| figure(cell, *metric),
                )
            }
            Term::Operation(left, operator, right) => {
                let (left, right) = (self.term(left)?, self.term(right)?);
                let value = match operator {
                    Operator::Add => Some(left.plus(right)),
                    Operator::Subtract => Some(left.minus(right)),
                    Operator::Multiply => left.times(right),
                    Operator::Divide => right.inverse().and_then(|right| left.times(right)),
                };
                value.ok_or_else(|| {
                    let reason = "the interval of a factor or divisor reaches 0";
                    Missing(Verdict::Inconclusive, reason.to_owned())
                })
            }
        }
    }
}

/// A cell's figure in basic units.
fn figure(cell: &Cell, metric: Metric) -> Result<Value, Missing> {
    value(cell, metric).ok_or_else(|| {
        let id = &cell.id;
        if let Some(reason) = &cell.skipped {
            return Missing(Verdict::Inconclusive, format!("{id} was skipped: {reason}"));
        }
        let kind = metric.trial();
        match cell.samples.iter().find(|sample| sample.kind == kind) {
            None => Missing(Verdict::Inconclusive, format!("{id} has no trial of {kind}")),
            Some(sample) => {
                let reason = sample.void_reason.as_deref().unwrap_or("nothing to count");
                Missing(Verdict::Fail, format!("{id} has no such figure: {reason}"))
            }
        }
    })
}

fn value(cell: &Cell, metric: Metric) -> Option<Value> {
    let m = &cell.metrics;
    let scaled =
        |estimate: Option<Estimate>, scale: f64| Some(Value::from(estimate?).map(|x| x * scale));
    let count = |count: u64| m.drop_ratio.is_some().then(|| Value::exact(count as f64));
    let plain = |figure: Option<f64>| figure.map(Value::exact);
    match metric {
        Metric::Throughput => scaled(m.throughput_mpps, 1e6),
        Metric::Goodput => scaled(m.goodput_gbps, 1e9),
        Metric::Jain => plain(m.jain),
        Metric::Loss => plain(m.drop_ratio.map(|drops| drops + m.lost_ratio.unwrap_or(0.0))),
        Metric::Drops => count(m.drops),
        Metric::Lost => count(m.lost),
        Metric::Rr | Metric::RrP50 => latency(cell, |l| l.p50_ns),
        Metric::RrMin => latency(cell, |l| l.min_ns),
        Metric::RrMean => latency(cell, |l| l.mean_ns),
        Metric::RrP90 => latency(cell, |l| l.p90_ns),
        Metric::RrP99 => latency(cell, |l| l.p99_ns),
        Metric::RrP999 => latency(cell, |l| l.p999_ns),
        Metric::RrMax => latency(cell, |l| l.max_ns),
        Metric::ExitsPerPacket => plain(m.exits_per_packet),
        Metric::InterruptsPerSecond => plain(m.interrupts_per_s),
        Metric::InterruptsPerPacket => plain(m.interrupts_per_packet),
        Metric::MeanBatch => plain(m.mean_batch),
        Metric::TdtWritesPerPacket => plain(m.tdt_writes_per_packet),
        Metric::KicksPerPacket => plain(m.kicks_per_packet),
        Metric::TapSyscallsPerPacket => plain(m.tap_syscalls_per_packet),
        Metric::CpuPerPacket => plain(m.cpu_us_per_packet.map(|us| us / 1e6)),
        Metric::RrExitsPerTransaction => plain(m.rr_exits_per_transaction),
        Metric::RrInterruptsPerTransaction => plain(m.rr_interrupts_per_transaction),
    }
}

/// The median over trials, in seconds.
fn latency(cell: &Cell, ns: fn(&Latency) -> u64) -> Option<Value> {
    let valid = cell.samples.iter().filter(|s| s.kind == TrialKind::Rr && s.is_valid());
    let seconds: Vec<_> =
        valid.filter_map(|sample| Some(ns(sample.latency.as_ref()?) as f64 / 1e9)).collect();
    stats::estimate(&seconds).map(Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::summary;
    use crate::results::{CellId, Sample};
    use std::path::Path;

    const LAB: &str = "
name: t
switches: { sw0: {} }
defaults: { nics: [{ switch: sw0 }] }
guests: { left: {}, right: {} }
bench:
  throughput: { from: left, to: right }
  rr: { from: left, to: right }
  cells: { fast: {}, slow: {}, quiet: { only: rr } }
  assert:
";

    /// A trial of half a second and one of transactions.
    fn samples(received: u64, dropped: u64, p50_us: u64) -> [Sample; 2] {
        let load = Sample {
            elapsed_ns: 500_000_000,
            sent: received + dropped,
            received,
            dropped,
            drops: vec![crate::results::Drop {
                place: "p".into(),
                cause: "c".into(),
                frames: dropped,
            }],
            conserved: true,
            ..Sample::new(TrialKind::Throughput, 1, 0)
        };
        let ns = p50_us * 1000;
        let latency = Some(Latency { p50_ns: ns, p99_ns: 3 * ns, ..Latency::default() });
        [load.clone(), Sample { kind: TrialKind::Rr, latency, ..load }]
    }

    fn cells() -> Vec<Cell> {
        let cell = |name: &str, trials: &[(u64, u64, u64)]| {
            let id = CellId { name: Some(name.into()), ..CellId::default() };
            summary::cell(id, trials.iter().flat_map(|t| samples(t.0, t.1, t.2)).collect())
        };
        let mut quiet = cell("quiet", &[(1, 0, 90), (1, 0, 100), (1, 0, 110)]);
        quiet.samples.retain(|sample| sample.kind == TrialKind::Rr);
        let quiet = summary::cell(quiet.id, quiet.samples);
        vec![
            cell("fast", &[(900_000, 0, 10), (1_000_000, 0, 11), (1_100_000, 0, 12)]),
            cell("slow", &[(90_000, 10, 80), (100_000, 0, 90), (110_000, 0, 100)]),
            quiet,
        ]
    }

    fn judged(that: &str, cells: &[Cell]) -> Assertion {
        let text = format!("{LAB}    - \"{that}\"\n");
        let lab = topology::Lab::parse(Path::new("t.lab.yaml"), &text)
            .unwrap_or_else(|error| panic!("{}", error.render(false, None)));
        judge(&lab.bench.unwrap().assertions, cells).remove(0)
    }

    #[test]
    fn a_comparison_needs_its_whole_interval_on_one_side() {
        use Verdict::{Fail, Inconclusive, Pass};
        for (that, verdict) in [
            ("fast.throughput >= 1.8Mpps", Pass),
            ("fast.throughput >= 2Mpps", Inconclusive),
            ("fast.throughput >= 2.3Mpps", Fail),
            ("fast.throughput < 1Mpps", Fail),
            ("fast.throughput >= 8 * slow.throughput", Pass),
            ("fast.throughput >= 10 * slow.throughput", Inconclusive),
            ("fast.throughput / slow.throughput > 13", Fail),
            ("fast.rr.p99 <= 36us", Pass),
            ("fast.rr < slow.rr", Pass),
            ("fast.rr + slow.rr <= 101us", Inconclusive),
            ("fast.rr + slow.rr <= 112us", Pass),
            ("slow.rr - fast.rr > 60us", Pass),
            ("fast.loss = 0", Pass),
            ("slow.loss = 0", Fail),
            ("slow.loss <= 0.01%", Pass),
            ("slow.drops = 10", Pass),
            ("fast.throughput = 2Mpps", Inconclusive),
            ("fast.loss * slow.rr <= 0", Pass),
            ("fast.rr / slow.loss > 0us", Pass),
            ("slow.rr / fast.loss > 0us", Inconclusive),
        ] {
            assert_eq!(judged(that, &cells()).verdict, verdict, "{that}");
        }
    }

    #[test]
    fn two_trials_prove_nothing_that_has_an_interval() {
        let mut cells = cells();
        for cell in &mut cells {
            cell.samples.truncate(4);
            *cell = summary::cell(cell.id.clone(), cell.samples.clone());
        }
        let found = judged("fast.throughput >= slow.throughput", &cells);
        assert_eq!(found.verdict, Verdict::Inconclusive);
        assert!(found.checks[0].reason.as_deref().unwrap().contains("no spread"), "{found:?}");
        assert_eq!(judged("fast.loss = 0", &cells).verdict, Verdict::Pass, "it was counted");
    }

    #[test]
    fn without_a_cell_it_is_about_each_that_has_the_figure() {
        let found = judged("loss = 0", &cells());
        let checks: Vec<_> = found.checks.iter().map(|c| (c.cell.as_deref(), c.verdict)).collect();
        assert_eq!(checks, [(Some("fast"), Verdict::Pass), (Some("slow"), Verdict::Fail)]);
        assert_eq!(found.verdict, Verdict::Fail);
        assert_eq!(judged("rr <= 110us", &cells()).checks.len(), 3);
        let found = judged("10 * rr >= quiet.rr", &cells());
        assert_eq!(found.verdict, Verdict::Inconclusive);
        let right = found.checks[0].right.as_ref().unwrap();
        assert_eq!((right.median, right.unit.as_str()), (1e-4, "s"));
    }

    #[test]
    fn what_is_missing_fails_unless_it_was_not_to_be_measured() {
        let mut cells = cells();
        cells[0].samples[0].void_reason = Some("a bad day".into());
        cells[0].samples.truncate(2);
        let void = summary::cell(cells[0].id.clone(), cells[0].samples.clone());
        cells[1] = summary::skipped(cells[1].id.clone(), "no QEMU".into());
        cells[0] = void;
        let found = judged("fast.loss = 0", &cells);
        assert_eq!(found.verdict, Verdict::Fail);
        assert_eq!(found.checks[0].reason.as_deref(), Some("fast has no such figure: a bad day"));
        let found = judged("slow.loss = 0", &cells);
        assert_eq!(found.verdict, Verdict::Inconclusive);
        assert_eq!(found.checks[0].reason.as_deref(), Some("slow was skipped: no QEMU"));
    }
}
