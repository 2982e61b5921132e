//! Whether a window of rounds is steady: pure functions of what was measured.

use crate::base::steady::{Limit, Measure, Rule, SNIA_RANGE_PERCENT, SNIA_SLOPE_PERCENT, SteadySpec};

/// What was measured in one round.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Round {
    /// When the round ended, in nanoseconds since counting began.
    pub at_ns: u64,
    /// How long it was.
    pub length_ns: u64,
    /// I/Os a second, of all commands.
    pub iops: f64,
    /// Bytes a second.
    pub bandwidth: f64,
    /// Mean completion latency in nanoseconds; 0 if nothing completed, or latencies are not measured.
    pub latency_ns: f64,
}

impl Round {
    /// The number that is watched.
    #[must_use]
    pub fn of(&self, measure: Measure) -> f64 {
        match measure {
            Measure::Iops => self.iops,
            Measure::Bandwidth => self.bandwidth,
            Measure::Latency => self.latency_ns,
        }
    }
}

/// What a window of rounds shows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Finding {
    /// Mean of the rounds.
    pub mean: f64,
    /// How far the round farthest from the mean is from it.
    pub max_deviation: f64,
    /// Slope of the least squares line, a round.
    pub slope: f64,
    /// The highest round less the lowest.
    pub range: f64,
    /// How far the line rises or falls from the first round to the last; never negative.
    pub excursion: f64,
    /// Whether the rule holds.
    pub is_steady: bool,
}

impl Finding {
    /// `value` in percent of the mean; infinite where nothing was done.
    #[must_use]
    pub fn percent(&self, value: f64) -> f64 {
        if self.mean == 0.0 { f64::INFINITY } else { 100.0 * value / self.mean }
    }

    /// What a rule of fio compares with its limit, in the limit's unit; of SNIA's, the range in percent.
    #[must_use]
    pub fn criterion(&self, rule: Rule) -> f64 {
        match rule {
            Rule::Deviation(Limit::Absolute(_)) => self.max_deviation,
            Rule::Deviation(Limit::Percent(_)) => self.percent(self.max_deviation),
            Rule::Slope(Limit::Absolute(_)) => self.slope,
            Rule::Slope(Limit::Percent(_)) => self.percent(self.slope),
            Rule::Snia => self.percent(self.range),
        }
    }
}

/// Judges the last rounds, as many as the window has; `None` while there are fewer. Where nothing is
/// done at all nothing is steady: a device that has stopped is no result.
#[must_use]
pub fn judge(spec: &SteadySpec, rounds: &[Round]) -> Option<Finding> {
    let wanted = spec.rounds();
    if wanted < 2 || rounds.len() < wanted {
        return None;
    }
    let values: Vec<f64> =
        rounds[rounds.len() - wanted..].iter().map(|round| round.of(spec.measure)).collect();
    let mut finding = describe(&values);
    finding.is_steady = finding.mean > 0.0 && holds(spec.rule, &finding);
    Some(finding)
}

fn holds(rule: Rule, finding: &Finding) -> bool {
    match rule {
        Rule::Deviation(Limit::Absolute(limit) | Limit::Percent(limit))
        | Rule::Slope(Limit::Absolute(limit) | Limit::Percent(limit)) => {
            finding.criterion(rule).abs() < limit
        }
        Rule::Snia => {
            finding.percent(finding.range) <= SNIA_RANGE_PERCENT
                && finding.percent(finding.excursion) <= SNIA_SLOPE_PERCENT
        }
    }
}

/// Mean, spread and least squares line of `values`, the first at x = 0, the next at x = 1.
#[expect(clippy::cast_precision_loss, reason = "a count of rounds")]
fn describe(values: &[f64]) -> Finding {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let middle = (count - 1.0) / 2.0;
    let (mut above, mut below) = (0.0, 0.0);
    for (x, y) in values.iter().enumerate() {
        let dx = x as f64 - middle;
        above += dx * (y - mean);
        below += dx * dx;
    }
    let slope = above / below;
    let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
    Finding {
        mean,
        max_deviation: (highest - mean).max(mean - lowest),
        slope,
        range: highest - lowest,
        excursion: slope.abs() * (count - 1.0),
        is_steady: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::units::SECOND_NS;
    use proptest::prelude::*;

    fn rounds(values: &[f64]) -> Vec<Round> {
        values.iter().map(|&iops| Round { iops, latency_ns: 1.0, ..Round::default() }).collect()
    }

    fn spec(rule: Rule, window: usize) -> SteadySpec {
        SteadySpec { rule, window_ns: window as u64 * SECOND_NS, ..SteadySpec::default() }
    }

    fn found(rule: Rule, values: &[f64]) -> Finding {
        judge(&spec(rule, values.len()), &rounds(values)).unwrap()
    }

    const SNIA: Rule = Rule::Snia;

    #[test]
    fn deviation_is_that_of_the_farthest_round_and_must_stay_below_the_limit() {
        let values = [100.0, 102.0, 99.0, 95.0, 104.0];
        let finding = found(Rule::Deviation(Limit::Absolute(5.1)), &values);
        assert_eq!((finding.mean, finding.max_deviation, finding.range), (100.0, 5.0, 9.0));
        assert!(finding.is_steady);
        assert!(!found(Rule::Deviation(Limit::Absolute(5.0)), &values).is_steady);
        assert!(found(Rule::Deviation(Limit::Percent(5.1)), &values).is_steady);
        assert!(!found(Rule::Deviation(Limit::Percent(5.0)), &values).is_steady);
    }

    #[test]
    fn slope_is_a_round_and_has_a_sign() {
        let finding = found(Rule::Slope(Limit::Percent(2.1)), &[104.0, 102.0, 100.0, 98.0, 96.0]);
        assert_eq!((finding.slope, finding.excursion), (-2.0, 8.0));
        assert_eq!(finding.criterion(Rule::Slope(Limit::Percent(2.1))), -2.0);
        assert!(finding.is_steady);
        assert!(!found(Rule::Slope(Limit::Absolute(2.0)), &[96.0, 98.0, 100.0, 102.0, 104.0]).is_steady);
    }

    /// Range 20 % of the mean and fitted line 10 % of it are still steady (PTS 2.0, "no more than", "within").
    #[test]
    fn snia_bounds_the_range_and_what_the_fitted_line_rises_over_the_window() {
        // A line of 2.5 a round: 10 % from the first to the last.
        let line = [95.0, 97.5, 100.0, 102.5, 105.0];
        assert!(found(SNIA, &line).is_steady);
        assert!(!found(SNIA, &[94.9, 97.5, 100.0, 102.5, 105.1]).is_steady, "the line rises more than 10 %");
        assert!(found(SNIA, &[100.0, 90.0, 100.0, 110.0, 100.0]).is_steady, "20 % of range, 8 % of line");
        assert!(!found(SNIA, &[100.0, 89.0, 101.0, 110.0, 100.0]).is_steady, "21 % of range");
        assert_eq!(SteadySpec { rule: SNIA, ..SteadySpec::default() }.rounds(), 5);
    }

    #[test]
    fn only_the_last_rounds_count_and_only_when_there_are_enough() {
        let spec = spec(Rule::Deviation(Limit::Percent(1.0)), 3);
        assert_eq!(judge(&spec, &rounds(&[100.0, 100.0])), None);
        assert!(judge(&spec, &rounds(&[5.0, 900.0, 100.0, 100.0, 100.0])).unwrap().is_steady);
    }

    #[test]
    fn what_stands_still_is_not_steady() {
        for rule in [Rule::Deviation(Limit::Absolute(9.0)), Rule::Slope(Limit::Absolute(9.0)), SNIA] {
            assert!(!found(rule, &[0.0; 5]).is_steady, "{rule:?}");
        }
    }

    proptest! {
        #[test]
        fn a_line_is_its_own_fit(count in 2_usize..50, base in 1.0_f64..1e6, rise in -100.0_f64..100.0) {
            let values: Vec<f64> = (0..count).map(|x| 1e4 + base + rise * x as f64).collect();
            let finding = describe(&values);
            prop_assert!((finding.slope - rise).abs() < 1e-6);
            prop_assert!((finding.excursion - finding.range).abs() < 1e-4);
        }

        #[test]
        fn a_percentage_does_not_depend_on_the_unit(
            values in prop::collection::vec(1.0_f64..1e6, 2..30), scale in 0.001_f64..1e6,
        ) {
            let scaled: Vec<f64> = values.iter().map(|value| value * scale).collect();
            let (one, other) = (describe(&values), describe(&scaled));
            for rule in [Rule::Deviation(Limit::Percent(1.0)), Rule::Slope(Limit::Percent(1.0)), SNIA] {
                prop_assert!((one.criterion(rule) - other.criterion(rule)).abs() < 1e-6);
            }
        }

        #[test]
        fn the_order_of_rounds_changes_the_slope_only(mut values in prop::collection::vec(1.0_f64..1e6, 2..30)) {
            let one = describe(&values);
            values.reverse();
            let other = describe(&values);
            prop_assert!((one.slope + other.slope).abs() < 1e-3);
            prop_assert!((one.max_deviation - other.max_deviation).abs() < 1e-3);
            prop_assert_eq!(one.range, other.range);
            prop_assert!(one.max_deviation <= one.range && one.range <= 2.0 * one.max_deviation + 1e-6);
        }
    }
}
