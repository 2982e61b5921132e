//! Histograms as plain numbers, as they come over the network: nearly all of them are accepted, and from one
//! that was accepted every figure can be had; merged with others too.

use fio_spdk::stats::{Histogram, HistogramParts};

use super::draw::Draw;

const PERCENTS: [f64; 8] = [0.0, 0.001, 1.0, 50.0, 99.0, 99.99, 99.9999, 100.0];

/// Numbers of a histogram that recorded something, with some of them changed.
fn parts(draw: &mut Draw<'_>) -> HistogramParts {
    let mut made = Histogram::default();
    for _ in 0..draw.below(32) {
        let value = draw.number();
        made.record_n(value, 1 + draw.number() % (1 << 40));
    }
    let mut parts = made.to_parts();
    for _ in 0..draw.below(8).saturating_sub(5) {
        let at = draw.byte() as usize % parts.buckets.len().max(1);
        match draw.below(8) {
            0 => parts.min_ns = draw.number(),
            1 => parts.max_ns = draw.number(),
            2 => parts.sum_ns = u128::from(draw.number()) << draw.below(65),
            3 => parts.sum_of_squares = f64::from_bits(draw.number()),
            4 => parts.buckets.iter_mut().skip(at).take(1).for_each(|(_, count)| *count = draw.number()),
            5 => parts
                .buckets
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|(bucket, _)| *bucket = draw.number() as u32),
            6 => parts.buckets.truncate(at),
            _ => parts.sum_ns = parts.sum_ns.wrapping_add(u128::from(draw.number())),
        }
    }
    parts
}

/// Everything that a report asks of a histogram.
fn look_at(histogram: &Histogram) {
    let percentiles = PERCENTS.map(|percent| histogram.percentile(percent));
    assert!(percentiles.is_sorted());
    let counted: u64 = histogram.buckets().map(|bucket| bucket.count).sum();
    assert_eq!(counted, histogram.count());
    if histogram.count() > 0 {
        let ends = histogram.min()..=histogram.max();
        assert!(percentiles.iter().all(|value| ends.contains(value)));
        // To within what a float can say.
        let (mean, min, max) = (histogram.mean(), histogram.min() as f64, histogram.max() as f64);
        assert!(mean >= min * (1.0 - 1e-9) && mean <= max * (1.0 + 1e-9), "{min} {mean} {max}");
    }
    assert!(histogram.stddev().is_finite());
    let mut before = Histogram::no_counts();
    let mut bins = vec![0; Histogram::FIO_BINS];
    histogram.take_bins(&mut before, &mut bins);
    assert_eq!(bins.iter().sum::<u64>(), histogram.count());
}

/// Builds an input from `bytes`, and holds what becomes of it to what is promised; false if it was refused.
pub fn check(bytes: &[u8]) -> bool {
    let mut draw = Draw::new(bytes);
    let (mut all, mut accepted) = (Histogram::default(), false);
    for _ in 0..=draw.below(4) {
        let parts = parts(&mut draw);
        let Ok(read) = Histogram::from_parts(&parts) else { continue };
        assert_eq!(read.to_parts(), parts);
        look_at(&read);
        accepted = true;
        // Who merges sees to it that no sum is larger than what a counter holds: remote::wire does.
        if all.count().checked_add(read.count()).is_some() {
            all.merge(&read);
            look_at(&all);
        }
    }
    assert_eq!(Histogram::from_parts(&all.to_parts()).as_ref(), Ok(&all));
    accepted
}
