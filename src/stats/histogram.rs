//! A log-linear histogram of nanoseconds with fio's buckets: 64 to every power of two, so that a
//! value is known to within 1/128 of itself (fio: stat.h, `FIO_IO_U_PLAT_BITS` 6).

/// Sub-buckets of a power of two, as a power of two.
const SUB_BITS: u32 = 6;
const SUB_BUCKETS: usize = 1 << SUB_BITS;
/// Values below `2 * SUB_BUCKETS` have a bucket each; every further power of two adds a group.
const GROUPS: usize = 64 - SUB_BITS as usize;
const BUCKETS: usize = GROUPS * SUB_BUCKETS + SUB_BUCKETS;

/// How often each duration was seen. Recording allocates nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    counts: Box<[u64]>,
    count: u64,
    min: u64,
    max: u64,
    sum: u128,
    sum_of_squares: f64,
}

/// A bucket that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The value that stands for the bucket: its middle.
    pub value_ns: u64,
    /// How many values fell into it.
    pub count: u64,
}

/// A histogram as plain numbers, for who sends or stores it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramParts {
    /// The buckets that are not empty: number and count, rising.
    pub buckets: Vec<(u32, u64)>,
    /// The smallest value; 0 if there is none.
    pub min_ns: u64,
    /// The largest value; 0 if there is none.
    pub max_ns: u64,
    /// The sum of all values.
    pub sum_ns: u128,
    /// The sum of their squares.
    pub sum_of_squares: f64,
}

impl Histogram {
    /// Bytes of memory of its buckets.
    pub(super) const BYTES: usize = BUCKETS * size_of::<u64>();
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            counts: vec![0; BUCKETS].into_boxed_slice(),
            count: 0,
            min: u64::MAX,
            max: 0,
            sum: 0,
            sum_of_squares: 0.0,
        }
    }
}

impl Histogram {
    /// How many bins fio's histograms have: those of here, ended by one for everything larger (17
    /// seconds and more; fio: stat.h, `FIO_IO_U_PLAT_NR`).
    pub const FIO_BINS: usize = 29 * SUB_BUCKETS;

    /// The histogram as plain numbers.
    #[must_use]
    pub fn to_parts(&self) -> HistogramParts {
        let used = self.counts.iter().enumerate().filter(|&(_, &count)| count > 0);
        HistogramParts {
            buckets: used.filter_map(|(index, &count)| Some((u32::try_from(index).ok()?, count))).collect(),
            min_ns: self.min(),
            max_ns: self.max,
            sum_ns: self.sum,
            sum_of_squares: self.sum_of_squares,
        }
    }

    /// A histogram of plain numbers that nobody has checked.
    ///
    /// # Errors
    /// In what they contradict each other, or what no histogram has.
    pub fn from_parts(parts: &HistogramParts) -> Result<Histogram, String> {
        let mut made = Histogram::default();
        let (mut least, mut most, mut next) = (0_u128, 0_u128, 0);
        for &(bucket, count) in &parts.buckets {
            let index = bucket as usize;
            if index < next {
                return Err(format!("bucket {bucket} of a histogram stands behind a later one"));
            }
            let Some(slot) = made.counts.get_mut(index) else {
                return Err(format!("a histogram has a bucket {bucket}, the last one is {}", BUCKETS - 1));
            };
            if count == 0 {
                return Err(format!("bucket {bucket} of a histogram is empty"));
            }
            *slot = count;
            let sum = made.count.checked_add(count);
            made.count = sum.ok_or("a histogram counts more than 2^64 values")?;
            // Below 2^64 values of 64 bits: 128 are enough.
            // No value is outside of smallest and largest, so that the mean is not, either.
            least += u128::from(count) * u128::from(first_of(index).max(parts.min_ns));
            most += u128::from(count) * u128::from(last_of(index).min(parts.max_ns));
            next = index + 1;
        }
        let ends = parts.buckets.first().zip(parts.buckets.last());
        let fits = match ends {
            Some((first, last)) => {
                index_of(parts.min_ns) == first.0 as usize && index_of(parts.max_ns) == last.0 as usize
            }
            None => (parts.min_ns, parts.max_ns) == (0, 0),
        };
        if !fits || parts.min_ns > parts.max_ns {
            return Err(
                "smallest and largest value of a histogram are not in its first and last bucket".into()
            );
        }
        if !(least..=most).contains(&parts.sum_ns) {
            return Err("the sum of a histogram is not that of its buckets".into());
        }
        if !parts.sum_of_squares.is_finite() || parts.sum_of_squares < 0.0 {
            return Err("the sum of squares of a histogram is none".into());
        }
        if made.count > 0 {
            (made.min, made.max) = (parts.min_ns, parts.max_ns);
        }
        (made.sum, made.sum_of_squares) = (parts.sum_ns, parts.sum_of_squares);
        Ok(made)
    }

    /// Puts into `bins` how many values of each of fio's bins came since `before` was counted, and takes
    /// the counts over into `before`. `bins` has [`Histogram::FIO_BINS`], or
    /// that by a power of two, and each of it then stands for so many bins. Allocates nothing.
    ///
    /// # Panics
    /// If `before` is not as long as the counts ([`Histogram::no_counts`]).
    pub fn take_bins(&self, before: &mut [u64], bins: &mut [u64]) {
        let each = Self::FIO_BINS / bins.len();
        bins.fill(0);
        for (index, (now, before)) in self.counts.iter().zip(&mut before[..BUCKETS]).enumerate() {
            let new = now - *before;
            *before = *now;
            if new > 0 {
                bins[index.min(Self::FIO_BINS - 1) / each] += new;
            }
        }
    }

    /// The counts of an empty histogram, for [`Histogram::take_bins`].
    #[must_use]
    pub fn no_counts() -> Box<[u64]> {
        vec![0; BUCKETS].into_boxed_slice()
    }

    /// Counts `value_ns` once.
    #[inline]
    pub fn record(&mut self, value_ns: u64) {
        self.record_n(value_ns, 1);
    }

    /// Counts `value_ns` `n` times.
    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "the deviation needs no more than 53 bits")]
    pub fn record_n(&mut self, value_ns: u64, n: u64) {
        self.counts[index_of(value_ns)] += n;
        self.count += n;
        self.min = self.min.min(value_ns);
        self.max = self.max.max(value_ns);
        self.sum += u128::from(value_ns) * u128::from(n);
        let value = value_ns as f64;
        self.sum_of_squares += value * value * n as f64;
    }

    /// Adds what `other` has counted.
    pub fn merge(&mut self, other: &Histogram) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum += other.sum;
        self.sum_of_squares += other.sum_of_squares;
    }

    /// Takes over what `other` has counted, without allocating.
    pub fn copy_from(&mut self, other: &Histogram) {
        self.counts.copy_from_slice(&other.counts);
        self.count = other.count;
        self.min = other.min;
        self.max = other.max;
        self.sum = other.sum;
        self.sum_of_squares = other.sum_of_squares;
    }

    /// Forgets everything, without allocating.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        self.count = 0;
        self.min = u64::MAX;
        self.max = 0;
        self.sum = 0;
        self.sum_of_squares = 0.0;
    }

    /// How many values were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The smallest value, exact; 0 if there is none.
    #[must_use]
    pub fn min(&self) -> u64 {
        if self.count == 0 { 0 } else { self.min }
    }

    /// The largest value, exact.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The sum of all values, exact.
    #[must_use]
    pub fn sum(&self) -> u128 {
        self.sum
    }

    /// The mean of the exact values; 0 if there is none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a mean for people")]
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 }
    }

    /// The standard deviation of the exact values, of a sample (divided by n - 1, as in fio).
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a deviation for people")]
    pub fn stddev(&self) -> f64 {
        if self.count < 2 {
            return 0.0;
        }
        let n = self.count as f64;
        let mean = self.mean();
        ((self.sum_of_squares - n * mean * mean).max(0.0) / (n - 1.0)).sqrt()
    }

    /// The value of rank ceil(percent / 100 * count), to within 1/128; 0 if there is none.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> u64 {
        #[expect(clippy::cast_precision_loss, reason = "ranks above 2^53 are not reached in a lifetime")]
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 1..=count")]
        let rank = ((percent / 100.0 * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (index, &count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return middle_of(index).clamp(self.min(), self.max);
            }
        }
        0
    }

    /// The buckets that are not empty, in rising order.
    pub fn buckets(&self) -> impl Iterator<Item = Bucket> + '_ {
        self.counts
            .iter()
            .enumerate()
            .filter(|&(_, &count)| count > 0)
            .map(|(index, &count)| Bucket { value_ns: middle_of(index), count })
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "an index below BUCKETS")]
const fn index_of(value: u64) -> usize {
    let msb = 63 - (value | 1).leading_zeros();
    if msb <= SUB_BITS {
        return value as usize;
    }
    let error_bits = msb - SUB_BITS;
    let group = error_bits as usize + 1;
    group * SUB_BUCKETS + ((value >> error_bits) as usize & (SUB_BUCKETS - 1))
}

/// The smallest value of a bucket.
const fn first_of(index: usize) -> u64 {
    if index < 2 * SUB_BUCKETS {
        return index as u64;
    }
    let error_bits = (index / SUB_BUCKETS - 1) as u32;
    ((SUB_BUCKETS + index % SUB_BUCKETS) as u64) << error_bits
}

/// The largest one.
const fn last_of(index: usize) -> u64 {
    if index + 1 < BUCKETS { first_of(index + 1) - 1 } else { u64::MAX }
}

const fn middle_of(index: usize) -> u64 {
    if index < 2 * SUB_BUCKETS {
        return index as u64;
    }
    let error_bits = (index / SUB_BUCKETS - 1) as u32;
    let base = 1_u64 << (error_bits + SUB_BITS);
    let sub = (index % SUB_BUCKETS) as u64;
    base + (sub << error_bits) + (1 << (error_bits - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bucket_tells_a_value_to_one_part_in_128(value: u64) {
            let told = middle_of(index_of(value));
            prop_assert!(told.abs_diff(value) <= value / 128, "{value} told as {told}");
        }

        #[test]
        fn percentiles_are_the_ranked_raw_values_to_one_part_in_128(
            mut values in prop::collection::vec(0_u64..10_000_000_000, 1..400),
            percent in 0.0_f64..=100.0,
        ) {
            let mut histogram = Histogram::default();
            values.iter().for_each(|&value| histogram.record(value));
            values.sort_unstable();
            let rank = ((percent / 100.0 * values.len() as f64).ceil() as usize).max(1);
            let raw = values[rank - 1];
            prop_assert!(histogram.percentile(percent).abs_diff(raw) <= raw / 128);
        }

        #[test]
        fn merging_is_the_same_as_recording_together(
            left in prop::collection::vec(0_u64..1_000_000, 0..50),
            right in prop::collection::vec(0_u64..1_000_000, 0..50),
        ) {
            let (mut a, mut b, mut both) = (Histogram::default(), Histogram::default(), Histogram::default());
            left.iter().for_each(|&value| { a.record(value); both.record(value); });
            right.iter().for_each(|&value| { b.record(value); both.record(value); });
            a.merge(&b);
            prop_assert_eq!((a.count(), a.min(), a.max(), a.sum()), (both.count(), both.min(), both.max(), both.sum()));
            prop_assert!((a.stddev() - both.stddev()).abs() < 1e-3);
            prop_assert!(a.buckets().eq(both.buckets()));
        }
    }

    #[test]
    fn a_bucket_begins_where_the_one_before_it_ends() {
        for index in 0..BUCKETS {
            assert_eq!((index_of(first_of(index)), index_of(last_of(index))), (index, index));
            assert!((first_of(index)..=last_of(index)).contains(&middle_of(index)));
        }
    }

    #[test]
    fn parts_make_the_histogram_again_unless_they_contradict_each_other() {
        type Spoil = fn(&mut HistogramParts);
        let mut histogram = Histogram::default();
        assert_eq!(Histogram::from_parts(&histogram.to_parts()), Ok(histogram.clone()));
        [0, 5, 300, 301, 88_000, u64::MAX].into_iter().for_each(|value| histogram.record_n(value, 7));
        let parts = histogram.to_parts();
        assert_eq!(Histogram::from_parts(&parts), Ok(histogram));
        let spoils: [(Spoil, &str); 9] = [
            (|parts| parts.buckets[0].0 = 9, "stands behind"),
            (|parts| parts.buckets[4].0 = 3776, "the last one is 3775"),
            (|parts| parts.buckets[1].1 = 0, "is empty"),
            (|parts| parts.buckets[1].1 = u64::MAX, "2^64"),
            (|parts| parts.min_ns = 1, "smallest and largest"),
            (|parts| parts.max_ns = 88_000, "smallest and largest"),
            (|parts| parts.sum_ns = 1, "the sum of"),
            (|parts| parts.sum_of_squares = f64::NAN, "sum of squares"),
            (|parts| parts.buckets.clear(), "smallest and largest"),
        ];
        for (spoil, why) in spoils {
            let mut spoilt = parts.clone();
            spoil(&mut spoilt);
            let said = Histogram::from_parts(&spoilt).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn parts_whose_mean_is_beyond_their_largest_value_are_refused() {
        let mut histogram = Histogram::default();
        histogram.record_n(3_331_044_479, 7);
        let parts = histogram.to_parts();
        // Within what the bucket allows: its values differ by 2^25.
        for sum_ns in [parts.sum_ns + 1, parts.sum_ns - 1] {
            let spoilt = HistogramParts { sum_ns, ..parts.clone() };
            assert!(Histogram::from_parts(&spoilt).unwrap_err().contains("the sum of"), "{sum_ns}");
        }
    }

    #[test]
    fn bins_are_those_of_fio_and_what_is_longer_is_in_the_last() {
        // By fio's formula: 64 bins a power of two, from the exponent and the six bits below it.
        let bin = |value: u64| match value {
            0..128 => value as usize,
            _ => {
                let shift = value.ilog2() - 6;
                ((shift as usize + 1) * 64 + (value >> shift) as usize % 64).min(1855)
            }
        };
        let mut histogram = Histogram::default();
        let (mut before, mut bins) = (Histogram::no_counts(), [0; Histogram::FIO_BINS]);
        for value in [0, 1, 127, 128, 129, 255, 1000, 123_456, 17_000_000_000, 18_000_000_000, u64::MAX] {
            histogram.record_n(value, 3);
            histogram.take_bins(&mut before, &mut bins);
            assert_eq!((bins[bin(value)], bins.iter().sum::<u64>()), (3, 3), "only what is new: {value}");
            histogram.record(value);
            let mut coarse = [0; Histogram::FIO_BINS >> 6];
            histogram.take_bins(&mut before, &mut coarse);
            assert_eq!(coarse[bin(value) / 64], 1, "{value}");
        }
    }

    #[test]
    fn the_largest_value_has_a_bucket() {
        let mut histogram = Histogram::default();
        histogram.record(u64::MAX);
        assert_eq!(histogram.percentile(100.0), histogram.max());
    }

    #[test]
    fn deviation_is_that_of_a_sample() {
        let mut histogram = Histogram::default();
        [2, 4, 4, 4, 5, 5, 7, 9].into_iter().for_each(|value| histogram.record(value));
        assert!((histogram.stddev() - 2.138).abs() < 0.001);
        assert!((histogram.mean() - 5.0).abs() < 1e-9);
    }
}
