//! When the next I/O of a rate is due.

use crate::base::random;
use crate::base::units::SECOND_NS;

/// A rate that I/Os are issued at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateConfig {
    /// Bytes a second, at least 1.
    pub bytes_per_s: u64,
    /// The smallest I/O in bytes, at least 1: what a random process draws its gaps for.
    pub block: u32,
    /// Exponential gaps (`rate_process = "poisson"`), drawn from this key.
    pub poisson: Option<u64>,
}

/// The schedule of one direction. It runs on whatever the device does: who is late catches up.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    config: RateConfig,
    epoch_ns: u64,
    issued_bytes: u64,
    /// Gaps drawn so far.
    drawn: u64,
    due_ns: u64,
    /// What whole nanoseconds leave of the sum of the gaps.
    fraction: f64,
}

impl Schedule {
    pub(super) fn new(config: RateConfig) -> Schedule {
        Schedule { config, epoch_ns: 0, issued_bytes: 0, drawn: 0, due_ns: 0, fraction: 0.0 }
    }

    /// Begins at `now_ns`, with nothing issued.
    pub(super) fn begin(&mut self, now_ns: u64) {
        (self.epoch_ns, self.issued_bytes, self.due_ns, self.fraction) = (now_ns, 0, now_ns, 0.0);
        if self.config.poisson.is_some() {
            // The first event of such a process has waited for as long as any other.
            self.step_at_random();
        }
    }

    /// When the next I/O is due.
    #[inline]
    pub(super) fn due_ns(&self) -> u64 {
        self.due_ns
    }

    /// An I/O of `len` bytes goes now.
    #[inline]
    pub(super) fn issued(&mut self, len: u32) {
        if self.config.poisson.is_some() {
            self.step_at_random();
            return;
        }
        self.issued_bytes += u64::from(len);
        let ns = u128::from(self.issued_bytes) * u128::from(SECOND_NS) / u128::from(self.config.bytes_per_s);
        self.due_ns = self.epoch_ns.saturating_add(u64::try_from(ns).unwrap_or(u64::MAX));
    }

    /// Leaves out `ns`: what would have been due then is not caught up.
    pub(super) fn skip(&mut self, ns: u64) {
        self.epoch_ns = self.epoch_ns.saturating_add(ns);
        self.due_ns = self.due_ns.saturating_add(ns);
    }

    #[expect(clippy::cast_precision_loss, reason = "gaps of more than 2^53 ns are not waited for")]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "never negative, and saturates"
    )]
    fn step_at_random(&mut self) {
        let Some(key) = self.config.poisson else { return };
        let mean_ns = f64::from(self.config.block) * SECOND_NS as f64 / self.config.bytes_per_s as f64;
        // `unit` never gives 1, so that the logarithm is of more than 0.
        let gap = -(1.0 - random::unit(random::at(key, self.drawn))).ln() * mean_ns + self.fraction;
        self.drawn += 1;
        self.fraction = gap.fract();
        self.due_ns = self.due_ns.saturating_add(gap as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn schedule(bytes_per_s: u64, block: u32, poisson: Option<u64>) -> Schedule {
        let mut schedule = Schedule::new(RateConfig { bytes_per_s, block, poisson });
        schedule.begin(1000);
        schedule
    }

    proptest! {
        #[test]
        fn no_more_bytes_are_due_than_the_rate_allows(
            rate in 1_u64..1 << 40,
            lens in prop::collection::vec(1_u32..1 << 20, 1..200),
        ) {
            let mut schedule = schedule(rate, 1, None);
            let mut bytes = 0_u128;
            for len in lens {
                // All that went before has its time behind it, to within a nanosecond.
                let time_ns = u128::from(schedule.due_ns() - 1000);
                prop_assert!(bytes * 1_000_000_000 >= time_ns * u128::from(rate));
                prop_assert!(bytes * 1_000_000_000 < (time_ns + 1) * u128::from(rate));
                schedule.issued(len);
                bytes += u128::from(len);
            }
        }

        #[test]
        fn gaps_at_random_are_exponential_whatever_the_seed(seed: u64, iops in 100_u64..1_000_000) {
            let mut schedule = schedule(iops * 4096, 4096, Some(seed));
            let mean = 1e9 / iops as f64;
            let mut gaps = Vec::new();
            for _ in 0..20_000 {
                let before = schedule.due_ns();
                schedule.issued(4096);
                gaps.push((schedule.due_ns() - before) as f64 / mean);
            }
            let count = gaps.len() as f64;
            let sum: f64 = gaps.iter().sum();
            let squares: f64 = gaps.iter().map(|gap| gap * gap).sum();
            // Mean 1, second moment 2, and e^-1 of the gaps longer than the mean: each to six deviations.
            prop_assert!((sum / count - 1.0).abs() < 0.043, "mean {}", sum / count);
            prop_assert!((squares / count - 2.0).abs() < 0.19, "second moment {}", squares / count);
            let long = gaps.iter().filter(|&&gap| gap > 1.0).count() as f64 / count;
            prop_assert!((long - (-1.0_f64).exp()).abs() < 0.021, "longer than the mean: {long}");
        }
    }

    #[test]
    fn what_is_skipped_is_not_caught_up() {
        let mut schedule = schedule(1_000_000, 1, None);
        schedule.issued(1000);
        schedule.skip(5_000_000);
        assert_eq!(schedule.due_ns(), 1000 + 1_000_000 + 5_000_000);
        schedule.issued(1000);
        assert_eq!(schedule.due_ns(), 1000 + 2_000_000 + 5_000_000);
    }
}
