//! Medians and their intervals, free of assumptions on how trials are distributed.
//!
//! Benchmarks on a shared host have outliers and skew, so the median stands for a cell, and its
//! interval runs between two order statistics (H. A. David, "Order Statistics", 2003, section
//! 7.1): the number of trials below the true median is binomial with p = 1/2, whatever their
//! distribution. Ratios and effects combine these intervals, so that every figure follows from
//! those printed in the table.

use std::f64::consts::LN_2;

use crate::results::{CONFIDENCE, Estimate, Ratio};

/// An interval that holds the truth less often than this supports no verdict: that of one or two trials.
pub const LEAST_COVERAGE: f64 = 0.7;

/// The value below which a fraction `q` of the values lie, interpolated linearly between
/// neighbours. `None` if there are no values. Values must not be NaN.
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let sorted = sorted(values);
    let last = sorted.len().checked_sub(1)?;
    let position = q.clamp(0.0, 1.0) * last as f64;
    let (below, fraction) = (position as usize, position.fract());
    let above = (below + 1).min(last);
    Some(sorted[below] + (sorted[above] - sorted[below]) * fraction)
}

/// The middle value, or the mean of the two middle ones. `None` if there are no values.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The median with its confidence interval: the innermost pair of order statistics that covers
/// it with probability [`CONFIDENCE`]. Fewer than six trials cannot reach that; they get their
/// full range, and `coverage` says what it is worth. `None` if there are no values.
pub fn estimate(values: &[f64]) -> Option<Estimate> {
    let sorted = sorted(values);
    let median = median(&sorted)?;
    let n = sorted.len();
    let (rank, coverage) = innermost_interval(n);
    Some(Estimate { median, low: sorted[rank], high: sorted[n - 1 - rank], samples: n, coverage })
}

/// How many of `n` sorted values may be left out on either side, and the probability that the
/// true median lies between the rest: 1 - 2 P(Binomial(n, 1/2) <= rank).
fn innermost_interval(n: usize) -> (usize, f64) {
    // Logarithms, because 2^-n underflows for n beyond a thousand.
    let mut log_probability = -(n as f64) * LN_2;
    let mut tail = log_probability.exp();
    let mut innermost = (0, 1.0 - 2.0 * tail);
    for rank in 1..n.div_ceil(2) {
        log_probability += ((n - rank + 1) as f64 / rank as f64).ln();
        tail += log_probability.exp();
        let coverage = 1.0 - 2.0 * tail;
        if coverage < CONFIDENCE {
            break;
        }
        innermost = (rank, coverage);
    }
    innermost
}

/// The product of `estimate^weight` over all terms, as a ratio with its interval. Weights 1 and
/// -1 give the ratio of two medians; fractions give geometric means.
///
/// The interval is built on logarithms by the method of variance estimates recovery (Zou, Huang
/// and Zhang, "A note on confidence interval estimation for a linear function of binomial
/// proportions", 2009): each term's distance from its interval's end is squared and summed. It
/// keeps the asymmetry of the terms' intervals and needs no resampling.
///
/// `None` without terms, or if a median or an interval's end is not positive.
pub fn ratio(terms: &[(f64, Estimate)]) -> Option<Ratio> {
    let (mut log, mut below, mut above, mut coverage) = (0.0, 0.0, 0.0, 1.0f64);
    for &(weight, estimate) in terms {
        let Estimate { median, low, high, .. } = estimate;
        if !(low > 0.0 && low <= median && median <= high && high.is_finite()) {
            return None;
        }
        let (mut down, mut up) = ((median / low).ln(), (high / median).ln());
        if weight < 0.0 {
            std::mem::swap(&mut down, &mut up);
        }
        log += weight * median.ln();
        below += (weight * down).powi(2);
        above += (weight * up).powi(2);
        coverage = coverage.min(estimate.coverage);
    }
    (!terms.is_empty()).then(|| Ratio {
        ratio: log.exp(),
        low: (log - below.sqrt()).exp(),
        high: (log + above.sqrt()).exp(),
        coverage,
    })
}

/// The ratio of two medians.
pub fn change(from: Estimate, to: Estimate) -> Option<Ratio> {
    ratio(&[(1.0, to), (-1.0, from)])
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    #[test]
    fn quantiles_of_few_values() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(quantile(&[0.0, 10.0, 20.0], 0.75), Some(15.0));
        assert_eq!(quantile(&[3.0, 1.0], 1.0), Some(3.0));
    }

    #[test]
    fn ranks_and_coverage_are_those_of_published_tables() {
        // W. J. Conover, "Practical Nonparametric Statistics", 1999, table A3, p = 1/2.
        for (n, rank, percent) in [
            (1, 0, 0.0),
            (3, 0, 75.0),
            (4, 0, 87.5),
            (5, 0, 93.75),
            (6, 0, 96.875),
            (8, 0, 99.22),
            (9, 1, 96.09),
            (10, 1, 97.85),
            (12, 2, 96.14),
            (20, 5, 95.86),
        ] {
            let (found, coverage) = innermost_interval(n);
            assert_eq!(found, rank, "n = {n}");
            assert!((coverage * 100.0 - percent).abs() < 0.01, "n = {n}: {coverage}");
        }
    }

    #[test]
    fn thousands_of_values_do_not_underflow() {
        let (rank, coverage) = innermost_interval(10_000);
        // Normal approximation: 5000 - 1.96 * 50 values are left out on either side.
        assert!((4900..4903).contains(&rank), "{rank}");
        assert!((0.95..0.952).contains(&coverage), "{coverage}");
    }

    #[test]
    fn the_interval_of_ten_values_leaves_out_one_on_either_side() {
        let values: Vec<_> = (0..10).map(f64::from).collect();
        let found = estimate(&values).unwrap();
        assert_eq!((found.low, found.median, found.high, found.samples), (1.0, 4.5, 8.0, 10));
    }

    #[test]
    fn a_ratio_combines_the_distances_of_both_intervals() {
        let from = Estimate { median: 1.0, low: 0.5, high: 2.0, samples: 8, coverage: 0.99 };
        let to = Estimate { median: 8.0, low: 8.0, high: 16.0, samples: 6, coverage: 0.96 };
        let found = change(from, to).unwrap();
        assert_eq!(found.coverage, 0.96);
        let close = |actual: f64, expected: f64| (actual / expected - 1.0).abs() < 1e-9;
        assert!(close(found.ratio, 8.0), "{found:?}");
        assert!(close(found.low, 4.0), "only the upper half of `from` counts: {found:?}");
        assert!(close(found.high, 8.0 * (2f64.sqrt() * LN_2).exp()), "{found:?}");
    }

    #[test]
    fn what_has_no_logarithm_has_no_ratio() {
        let zero = Estimate { median: 1.0, low: 0.0, high: 2.0, samples: 8, coverage: 0.99 };
        assert_eq!(ratio(&[(1.0, zero)]), None);
        assert_eq!(ratio(&[(1.0, Estimate { low: f64::NAN, ..zero })]), None);
        assert_eq!(ratio(&[]), None);
    }

    /// A trial's throughput as it is on a shared host: skewed, and one in ten is disturbed.
    fn noisy(rng: &mut SmallRng, median: f64) -> f64 {
        let exponential = -rng.random::<f64>().max(f64::MIN_POSITIVE).ln() / LN_2; // median 1
        let disturbed = if rng.random_bool(0.1) { 0.6 } else { 1.0 };
        median * exponential.powf(0.1) * disturbed
    }

    fn trials(rng: &mut SmallRng, n: usize, median: f64) -> Estimate {
        let values: Vec<_> = (0..n).map(|_| noisy(rng, median)).collect();
        estimate(&values).unwrap()
    }

    /// How often, in 4000 repetitions, something holds.
    fn frequency(mut holds: impl FnMut(&mut SmallRng) -> bool) -> f64 {
        let mut rng = SmallRng::seed_from_u64(1);
        (0..4000).filter(|_| holds(&mut rng)).count() as f64 / 4000.0
    }

    fn contains(ratio: Ratio, truth: f64) -> bool {
        (ratio.low..=ratio.high).contains(&truth)
    }

    #[test]
    fn intervals_cover_the_true_median_as_often_as_they_say() {
        // The disturbance moves the median; it is found once, from many values.
        let mut rng = SmallRng::seed_from_u64(2);
        let truth = trials(&mut rng, 200_000, 1.0).median;
        for n in [3, 4, 6, 9, 12] {
            let nominal = innermost_interval(n).1;
            let actual = frequency(|rng| {
                let found = trials(rng, n, 1.0);
                (found.low..=found.high).contains(&truth)
            });
            // Four standard errors.
            let tolerance = 4.0 * (nominal * (1.0 - nominal) / 4000.0).sqrt();
            assert!((actual - nominal).abs() < tolerance, "n = {n}: {actual} is not {nominal}");
        }
    }

    #[test]
    fn a_run_against_itself_shows_no_change_and_a_real_change_is_found() {
        for n in [4, 6, 10] {
            let same = frequency(|rng| {
                contains(change(trials(rng, n, 1.0), trials(rng, n, 1.0)).unwrap(), 1.0)
            });
            assert!(same > 0.9 + 0.05 * f64::from(n >= 6), "n = {n}: {same}");
            let halved = frequency(|rng| {
                let found = change(trials(rng, n, 1.0), trials(rng, n, 0.5)).unwrap();
                contains(found, 0.5) && found.high < 1.0
            });
            assert!(halved > 0.7, "n = {n}: {halved}");
        }
    }

    #[test]
    fn an_effect_over_sixteen_cells_is_covered_and_narrower_than_one_ratio() {
        let effect = |rng: &mut SmallRng| {
            let terms: Vec<_> = (0..16)
                .map(|cell| {
                    let (on, others) = (cell % 2 == 1, f64::from(cell / 2 + 1));
                    let median = others * if on { 1.5 } else { 1.0 };
                    (if on { 0.125 } else { -0.125 }, trials(rng, 6, median))
                })
                .collect();
            ratio(&terms).unwrap()
        };
        assert!(frequency(|rng| contains(effect(rng), 1.5)) > 0.95);
        let narrower = frequency(|rng| {
            let (all, one) = (effect(rng), change(trials(rng, 6, 1.0), trials(rng, 6, 1.5)));
            all.high / all.low < one.unwrap().high / one.unwrap().low
        });
        assert!(narrower > 0.9, "{narrower}");
    }

    fn samples() -> impl Strategy<Value = Vec<f64>> {
        proptest::collection::vec(1e-3f64..1e3, 1..40)
    }

    proptest! {
        #[test]
        fn an_interval_holds_its_median_and_lies_within_the_data(values in samples()) {
            let found = estimate(&values).unwrap();
            prop_assert!(found.low <= found.median && found.median <= found.high);
            prop_assert!(values.contains(&found.low) && values.contains(&found.high));
            prop_assert!(found.coverage >= CONFIDENCE || values.len() < 6);
        }

        #[test]
        fn order_is_irrelevant_and_units_carry_over(values in samples()) {
            let found = estimate(&values).unwrap();
            let reversed: Vec<_> = values.iter().rev().copied().collect();
            prop_assert_eq!(estimate(&reversed).unwrap(), found);
            // A power of two scales without rounding.
            let scaled: Vec<_> = values.iter().map(|v| v * 1024.0).collect();
            let scaled = estimate(&scaled).unwrap();
            prop_assert_eq!(scaled.median, found.median * 1024.0);
            prop_assert_eq!(scaled.low, found.low * 1024.0);
        }

        #[test]
        fn looking_back_inverts_a_change(a in samples(), b in samples()) {
            let (a, b) = (estimate(&a).unwrap(), estimate(&b).unwrap());
            let (there, back) = (change(a, b).unwrap(), change(b, a).unwrap());
            for (x, y) in
                [(there.ratio, back.ratio), (there.low, back.high), (there.high, back.low)]
            {
                prop_assert!((x * y - 1.0).abs() < 1e-9, "{x} and {y}");
            }
            prop_assert!(there.low <= there.ratio && there.ratio <= there.high);
        }
    }
}
