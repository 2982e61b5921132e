//! Random positions with repeats: the k-th draw is a pure function of a key and k.

use std::convert::Infallible;

use rand_core::TryRng;
use rand_distr::Distribution as _;

use crate::base::permutation::Permutation;
use crate::base::random;
use crate::base::shape::{Distribution, Zone};

/// How many uniform numbers fio adds up for one normal one (lib/gauss.c).
const NORMAL_TERMS: u64 = 12;

/// Draws numbers of `0..n`.
#[derive(Clone, Debug)]
pub struct Draw {
    key: u64,
    n: u64,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Uniform,
    Zipf { zipf: rand_distr::Zipf<f64>, scatter: Permutation },
    Pareto { exponent: f64, scatter: Permutation },
    Normal { spread: u64 },
    Zoned(Box<[ZoneRange]>),
    Sequence { blocks: Box<[u64]>, groups: u64 },
    EachOnce,
}

#[derive(Clone, Copy, Debug)]
struct ZoneRange {
    /// Accesses up to and with this zone, as a fraction of 2^32.
    access_end: u64,
    first: u64,
    len: u64,
}

impl Draw {
    /// Draws from `0..n` by `distribution`; `n` must not be 0. A number stands for `unit` bytes. Popular ranks of zipf and pareto are
    /// scattered over the whole range by a permutation, as fio scatters them by a hash.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "the shape needs no more than 53 bits of n")]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a percentage of n")]
    pub fn new(distribution: &Distribution, n: u64, unit: u64, key: u64) -> Draw {
        let scatter = || Permutation::new(random::derive(key, 1), n);
        let kind = match distribution {
            Distribution::Random => Kind::Uniform,
            Distribution::Zipf(theta) => match rand_distr::Zipf::new(n as f64, *theta) {
                Ok(zipf) => Kind::Zipf { zipf, scatter: scatter() },
                Err(_) => Kind::Uniform,
            },
            Distribution::Pareto(h) => Kind::Pareto { exponent: h.ln() / (1.0 - h).ln(), scatter: scatter() },
            Distribution::Normal(deviation) => {
                Kind::Normal { spread: ((n as f64 * deviation / 100.0).ceil() as u64).min(n / 2) }
            }
            Distribution::Zoned(zones) => Kind::Zoned(zone_ranges(zones, n)),
            Distribution::ZonedAbs(zones) => {
                let share = |bytes: u64| (bytes / unit) as f64 / n as f64 * 100.0;
                let zones = zones.iter().map(|zone| Zone {
                    access_percent: zone.access_percent,
                    range_percent: share(zone.bytes),
                });
                Kind::Zoned(zone_ranges(&zones.collect::<Vec<_>>(), n))
            }
            Distribution::Sequence { blocks, strides } => {
                let highest = blocks.iter().max().map_or(1, |&block| block + 1);
                // Only whole groups inside the range, and then again from the first.
                let further =
                    if *strides { n.saturating_sub(highest) / blocks.len().max(1) as u64 } else { 0 };
                Kind::Sequence { blocks: blocks.clone().into(), groups: further + 1 }
            }
        };
        Draw { key, n, kind }
    }

    /// Gives each of `0..n` once, in an order that looks random, then each again in another.
    #[must_use]
    pub fn each_once(n: u64, key: u64) -> Draw {
        Draw { key, n, kind: Kind::EachOnce }
    }

    /// Whether it was made by [`Draw::each_once`].
    #[must_use]
    pub fn is_each_once(&self) -> bool {
        matches!(self.kind, Kind::EachOnce)
    }

    /// The k-th draw.
    #[inline]
    #[must_use]
    pub fn at(&self, k: u64) -> u64 {
        let bits = random::at(self.key, k);
        match &self.kind {
            Kind::Uniform => random::below(bits, self.n),
            _ => self.shaped(k, bits),
        }
    }

    /// The k-th draw with the popular numbers of zipf and pareto side by side, the most popular first.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "the shape needs no more than 53 bits of n")]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range")]
    pub fn rank_at(&self, k: u64) -> u64 {
        let bits = random::at(self.key, k);
        match &self.kind {
            Kind::Zipf { zipf, .. } => {
                let rank = zipf.sample(&mut Bits { key: bits, drawn: 0 }) as u64;
                rank.clamp(1, self.n) - 1
            }
            Kind::Pareto { exponent, .. } => {
                let rank = ((self.n - 1) as f64 * random::unit(bits).powf(*exponent)) as u64;
                rank.min(self.n - 1)
            }
            _ => self.at(k),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "the shape needs no more than 53 bits of n")]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range")]
    fn shaped(&self, k: u64, bits: u64) -> u64 {
        match &self.kind {
            Kind::Uniform => random::below(bits, self.n),
            Kind::EachOnce => Permutation::new(random::derive(self.key, k / self.n), self.n).at(k % self.n),
            Kind::Sequence { blocks, groups } => {
                let len = blocks.len() as u64;
                let within = usize::try_from(k % len).unwrap_or(0);
                (k / len % groups * len + blocks[within]).min(self.n - 1)
            }
            Kind::Zipf { zipf, scatter } => {
                let rank = zipf.sample(&mut Bits { key: bits, drawn: 0 }) as u64;
                scatter.at(rank.clamp(1, self.n) - 1)
            }
            Kind::Pareto { exponent, scatter } => {
                let rank = ((self.n - 1) as f64 * random::unit(bits).powf(*exponent)) as u64;
                scatter.at(rank.min(self.n - 1))
            }
            Kind::Normal { spread } => {
                let terms =
                    (0..NORMAL_TERMS).map(|term| u128::from(random::below(random::at(bits, term), self.n)));
                let middle = (terms.sum::<u128>() / u128::from(NORMAL_TERMS)) as u64;
                let off = random::below(random::at(bits, NORMAL_TERMS), spread + 1);
                (middle + off).saturating_sub(spread / 2).min(self.n - 1)
            }
            Kind::Zoned(zones) => {
                let access = bits >> 32;
                let index = zones.partition_point(|zone| zone.access_end <= access).min(zones.len() - 1);
                let zone = zones[index];
                zone.first + random::below(random::at(bits, 0), zone.len)
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share of a size")]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "shares are 0 to 100 percent")]
fn zone_ranges(zones: &[Zone], n: u64) -> Box<[ZoneRange]> {
    let (mut access, mut range) = (0.0, 0.0);
    let mut first = 0;
    let mut ranges = Vec::with_capacity(zones.len());
    for zone in zones {
        access += zone.access_percent;
        range += zone.range_percent;
        let end = ((n as f64 * range / 100.0).round() as u64).min(n);
        let access_end = (access / 100.0 * 4_294_967_296.0).round() as u64;
        if end > first && zone.access_percent > 0.0 {
            ranges.push(ZoneRange { access_end, first, len: end - first });
        }
        first = end;
    }
    if ranges.is_empty() {
        ranges.push(ZoneRange { access_end: 1 << 32, first: 0, len: n });
    }
    ranges.into_boxed_slice()
}

/// The generator that a rejection sampler draws from: as many values as it wants, all a function
/// of one key.
struct Bits {
    key: u64,
    drawn: u64,
}

impl TryRng for Bits {
    type Error = Infallible;

    #[expect(clippy::cast_possible_truncation, reason = "half of the bits are asked for")]
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|bits| bits as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.drawn += 1;
        Ok(random::at(self.key, self.drawn))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            let word = self.try_next_u64()?.to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn histogram(distribution: &Distribution, n: u64, draws: u64) -> Vec<f64> {
        let draw = Draw::new(distribution, n, 1, 42);
        let mut seen = vec![0.0; usize::try_from(n).unwrap()];
        (0..draws).for_each(|k| seen[usize::try_from(draw.at(k)).unwrap()] += 1.0 / draws as f64);
        seen
    }

    fn sorted(mut shares: Vec<f64>) -> Vec<f64> {
        shares.sort_by(|a, b| b.total_cmp(a));
        shares
    }

    #[test]
    fn zipf_gives_rank_r_a_share_of_one_over_r_to_the_theta() {
        for theta in [0.8, 1.0, 1.2, 2.0] {
            let shares = sorted(histogram(&Distribution::Zipf(theta), 1000, 400_000));
            let total: f64 = (1..=1000).map(|rank| f64::from(rank).powf(-theta)).sum();
            for rank in [1, 2, 3, 10, 30] {
                let wanted = f64::from(rank).powf(-theta) / total;
                let got = shares[usize::try_from(rank - 1).unwrap()];
                assert!((got / wanted - 1.0).abs() < 0.12, "theta {theta}, rank {rank}: {got} for {wanted}");
            }
        }
    }

    /// `pareto:h` means that a share 1 - h of the accesses goes to a share h of the blocks.
    #[test]
    fn pareto_concentrates_as_its_parameter_says() {
        for h in [0.1, 0.2, 0.3] {
            let shares = sorted(histogram(&Distribution::Pareto(h), 1000, 400_000));
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 1000")]
            let hot: f64 = shares[..(h * 1000.0) as usize].iter().sum();
            assert!((hot - (1.0 - h)).abs() < 0.02, "pareto {h}: {hot} of the accesses");
        }
    }

    #[test]
    fn normal_is_centred_with_the_deviation_of_twelve_uniform_terms() {
        for deviation in [0.0, 20.0, 60.0] {
            let shares = histogram(&Distribution::Normal(deviation), 10_000, 200_000);
            let mean: f64 = shares.iter().enumerate().map(|(at, share)| at as f64 * share).sum();
            let variance: f64 =
                shares.iter().enumerate().map(|(at, share)| (at as f64 - mean).powi(2) * share).sum();
            let spread = (10_000.0 * deviation / 100.0_f64).min(5000.0);
            let wanted = ((10_000.0_f64 / 12.0).powi(2) + spread.powi(2) / 12.0).sqrt();
            assert!((mean - 5000.0).abs() < 30.0, "{mean}");
            assert!((variance.sqrt() / wanted - 1.0).abs() < 0.02, "{} for {wanted}", variance.sqrt());
        }
    }

    #[test]
    fn zones_get_their_shares_of_accesses_in_their_shares_of_the_region() {
        let zones = [(60.0, 10.0), (30.0, 20.0), (8.0, 30.0), (2.0, 40.0)]
            .map(|(access_percent, range_percent)| Zone { access_percent, range_percent });
        let shares = histogram(&Distribution::Zoned(zones.to_vec()), 1000, 200_000);
        for (range, wanted) in [(0..100, 0.6), (100..300, 0.3), (300..600, 0.08), (600..1000, 0.02)] {
            let got: f64 = shares[range].iter().sum();
            assert!((got - wanted).abs() < 0.005, "{got} for {wanted}");
        }
    }

    proptest! {
        #[test]
        fn draws_stay_inside_for_any_range_and_shape(n in 1_u64.., k: u64, key: u64, which in 0..6) {
            let distribution = match which {
                0 => Distribution::Random,
                1 => Distribution::Zipf(1.1),
                2 => Distribution::Zipf(0.0),
                3 => Distribution::Pareto(0.2),
                4 => Distribution::Normal(30.0),
                _ => Distribution::Zoned(vec![Zone { access_percent: 90.0, range_percent: 1.0 },
                                              Zone { access_percent: 10.0, range_percent: 99.0 }]),
            };
            let draw = Draw::new(&distribution, n, 1, key);
            prop_assert!(draw.at(k) < n);
            prop_assert_eq!(draw.at(k), Draw::new(&distribution, n, 1, key).at(k));
        }
    }
}
