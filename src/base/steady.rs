//! The words of steady state: what is watched, by which rule, over which window.

use super::units::SECOND_NS;

/// Length of a round where the job does not say (fio's `ss_interval`).
pub const DEFAULT_INTERVAL_NS: u64 = SECOND_NS;
/// The same for the rule of SNIA, whose rounds are a minute long.
pub const SNIA_INTERVAL_NS: u64 = 60 * SECOND_NS;
/// Rounds in the measurement window of SNIA.
pub const SNIA_ROUNDS: usize = 5;
/// SNIA: how far the highest round may lie above the lowest, in percent of the mean.
pub const SNIA_RANGE_PERCENT: f64 = 20.0;
/// SNIA: how far the fitted line may rise or fall from the first round to the last, in percent of the mean.
pub const SNIA_SLOPE_PERCENT: f64 = 10.0;

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// I/Os a second, of all commands together.
    Iops,
    /// Bytes a second, of all commands together.
    Bandwidth,
    /// Mean completion latency, in nanoseconds.
    Latency,
}

impl Measure {
    /// fio's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Measure::Iops => "iops",
            Measure::Bandwidth => "bw",
            Measure::Latency => "lat",
        }
    }
}

/// A bound of a rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// In the unit of the measure.
    Absolute(f64),
    /// In percent of the mean of the window.
    Percent(f64),
}

/// What makes a window steady.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// No round is as far from the mean as the limit (fio's `iops`, `bw`, `lat`).
    Deviation(Limit),
    /// The least squares line rises or falls less than the limit from round to round (fio's `_slope`).
    Slope(Limit),
    /// SNIA's: range and slope of five rounds.
    Snia,
}

/// `steadystate` and its like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SteadySpec {
    /// `steadystate`: what is watched.
    pub measure: Measure,
    /// `steadystate`: by which rule.
    pub rule: Rule,
    /// `ss_dur` in nanoseconds: the rolling window; 0 watches nothing, but for SNIA's rule.
    pub window_ns: u64,
    /// `ss_ramp` in nanoseconds: how long nothing is looked at.
    pub ramp_ns: u64,
    /// `ss_interval` in nanoseconds: the length of a round, where it was set.
    pub round_ns: Option<u64>,
}

impl Default for SteadySpec {
    /// fio's: watches nothing.
    fn default() -> SteadySpec {
        SteadySpec {
            measure: Measure::Iops,
            rule: Rule::Slope(Limit::Percent(0.01)),
            window_ns: 0,
            ramp_ns: 0,
            round_ns: None,
        }
    }
}

impl SteadySpec {
    /// Whether anything is watched.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.rule == Rule::Snia || self.window_ns > 0
    }

    /// Length of a round in nanoseconds.
    #[must_use]
    pub fn interval_ns(&self) -> u64 {
        self.round_ns.unwrap_or(if self.rule == Rule::Snia { SNIA_INTERVAL_NS } else { DEFAULT_INTERVAL_NS })
    }

    /// Rounds in the window.
    #[must_use]
    pub fn rounds(&self) -> usize {
        if self.rule == Rule::Snia {
            return SNIA_ROUNDS;
        }
        usize::try_from(self.window_ns / self.interval_ns().max(1)).unwrap_or(usize::MAX)
    }

    /// Length of the window in nanoseconds.
    #[must_use]
    pub fn duration_ns(&self) -> u64 {
        self.interval_ns().saturating_mul(self.rounds() as u64)
    }

    /// fio's name of measure and rule: `iops_slope`.
    #[must_use]
    pub fn criterion(&self) -> String {
        let measure = self.measure.name();
        match self.rule {
            Rule::Deviation(_) => measure.to_owned(),
            Rule::Slope(_) => format!("{measure}_slope"),
            Rule::Snia => format!("snia_{measure}"),
        }
    }

    /// The limit of fio's rules.
    #[must_use]
    pub fn limit(&self) -> Option<Limit> {
        match self.rule {
            Rule::Deviation(limit) | Rule::Slope(limit) => Some(limit),
            Rule::Snia => None,
        }
    }
}
