//! A log-linear histogram: 64 buckets per octave, so a bucket is at most 1.6 % wide.

const SUB_BITS: u32 = 6;
const SUB_BUCKETS: usize = 1 << SUB_BITS;
/// Values from 2^36 ns (69 s) on share the last bucket.
const MAX_BITS: u32 = 36;
const BUCKETS: usize = SUB_BUCKETS * (MAX_BITS - SUB_BITS + 1) as usize;

/// Counts of values in nanoseconds.
#[derive(Debug)]
pub struct Histogram {
    buckets: [u64; BUCKETS],
    count: u64,
    sum: u64,
    min: u64,
    max: u64,
}

impl Histogram {
    /// An empty histogram.
    pub const fn new() -> Self {
        Self { buckets: [0; BUCKETS], count: 0, sum: 0, min: u64::MAX, max: 0 }
    }

    /// Adds a value.
    pub fn record(&mut self, value: u64) {
        self.buckets[bucket(value)] += 1;
        self.count += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Values added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Smallest value; 0 if there is none.
    pub fn min(&self) -> u64 {
        if self.count == 0 { 0 } else { self.min }
    }

    /// Largest value; 0 if there is none.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// Mean value; 0 if there is none.
    pub fn mean(&self) -> u64 {
        self.sum.checked_div(self.count).unwrap_or(0)
    }

    /// The value that `per_mille` thousandths of all values do not exceed, to half a bucket
    /// (nearest-rank definition); 0 if there is none.
    pub fn quantile(&self, per_mille: u64) -> u64 {
        let rank = (self.count * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (i, &count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                let middle = lower(i).midpoint(lower(i + 1) - 1);
                return middle.clamp(self.min, self.max);
            }
        }
        0
    }

    /// Buckets in use: lower bound and count.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let used = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        used.map(|(i, &count)| (lower(i), count))
    }
}

/// The bucket of a value: linear below 64, then 64 to each power of two.
fn bucket(value: u64) -> usize {
    if value < SUB_BUCKETS as u64 {
        return value as usize;
    }
    let shift = value.ilog2() - SUB_BITS;
    let octave = SUB_BUCKETS * (shift as usize + 1);
    (octave + (value >> shift) as usize - SUB_BUCKETS).min(BUCKETS - 1)
}

/// The smallest value of a bucket.
fn lower(bucket: usize) -> u64 {
    if bucket < SUB_BUCKETS {
        return bucket as u64;
    }
    let shift = bucket / SUB_BUCKETS - 1;
    ((bucket % SUB_BUCKETS + SUB_BUCKETS) as u64) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_value_within_two_percent() {
        let mut value = 1u64;
        while value < 1 << MAX_BITS {
            for v in [value - 1, value, value + 1] {
                let (low, high) = (lower(bucket(v)), lower(bucket(v) + 1));
                assert!(low <= v && v < high, "{v} in [{low}, {high})");
                assert!((high - low - 1) * 50 <= v, "{v} in [{low}, {high})");
            }
            value += 1 + value / 97;
        }
    }

    #[test]
    fn quantiles_are_within_a_bucket_of_the_truth() {
        let mut histogram = Histogram::new();
        (1..=10_000).for_each(|n| histogram.record(n * 100));
        for (per_mille, truth) in [(500, 500_000), (900, 900_000), (990, 990_000), (999, 999_000)] {
            let error = histogram.quantile(per_mille).abs_diff(truth);
            assert!(error * 100 <= truth, "{per_mille}: off by {error}");
        }
        assert_eq!((histogram.min(), histogram.max(), histogram.count()), (100, 1_000_000, 10_000));
        assert_eq!(histogram.mean(), 500_050);
        assert_eq!(histogram.quantile(1000), 1_000_000);
    }

    #[test]
    fn one_value_is_all_quantiles() {
        let mut histogram = Histogram::new();
        histogram.record(12_345);
        assert_eq!([0, 500, 999, 1000].map(|q| histogram.quantile(q)), [12_345; 4]);
        assert_eq!(histogram.buckets().collect::<Vec<_>>(), [(lower(bucket(12_345)), 1)]);
    }

    #[test]
    fn an_empty_histogram_is_all_zero() {
        let histogram = Histogram::new();
        assert_eq!((histogram.min(), histogram.max(), histogram.mean()), (0, 0, 0));
        assert_eq!(histogram.quantile(500), 0);
    }

    #[test]
    fn overlong_values_share_the_last_bucket() {
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket(1 << MAX_BITS), BUCKETS - 1);
    }
}
