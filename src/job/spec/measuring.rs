//! What is measured, when that is enough, and how it is told.

use crate::base::steady::SteadySpec;

/// What is measured, when that is enough, and how it is told.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasuringSpec {
    /// `steadystate` and its like: the job ends when it is steady.
    pub steady: SteadySpec,
    /// `percentile_list`, rising; `None` for the usual ones.
    pub percentiles: Option<Vec<f64>>,
    /// `clat_percentiles`: report those of completion latencies.
    pub clat_percentiles: bool,
    /// `lat_percentiles`: those of total latencies.
    pub lat_percentiles: bool,
    /// `slat_percentiles`: those of submission latencies.
    pub slat_percentiles: bool,
    /// `gtod_reduce`: all of the `disable_` below.
    pub gtod_reduce: bool,
    /// `disable_lat`.
    pub disable_lat: bool,
    /// `disable_clat`.
    pub disable_clat: bool,
    /// `disable_slat`.
    pub disable_slat: bool,
    /// `disable_bw_measurement`.
    pub disable_bw: bool,
    /// `unified_rw_reporting`.
    pub unified: Unified,
    /// `stats`: whether the job is in the report.
    pub stats: bool,
    /// `disk_util`.
    pub disk_util: bool,
    /// `significant_figures`.
    pub figures: u8,
    /// `unit_base`: 1 for bits.
    pub bits: bool,
}

/// fio's `unified_rw_reporting`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unified {
    /// Reads, writes and trims apart.
    #[default]
    None,
    /// All together, in their place.
    Mixed,
    /// Apart, and all together after them.
    Both,
}

impl Default for MeasuringSpec {
    fn default() -> MeasuringSpec {
        MeasuringSpec {
            steady: SteadySpec::default(),
            percentiles: None,
            clat_percentiles: true,
            lat_percentiles: true,
            slat_percentiles: true,
            gtod_reduce: false,
            disable_lat: false,
            disable_clat: false,
            disable_slat: false,
            disable_bw: false,
            unified: Unified::None,
            stats: true,
            disk_util: true,
            figures: 4,
            bits: false,
        }
    }
}

impl MeasuringSpec {
    /// Whether total latencies are measured.
    #[must_use]
    pub fn measures_lat(&self) -> bool {
        !(self.disable_lat || self.gtod_reduce)
    }

    /// Whether completion latencies are.
    #[must_use]
    pub fn measures_clat(&self) -> bool {
        !(self.disable_clat || self.gtod_reduce)
    }

    /// Whether submission latencies are.
    #[must_use]
    pub fn measures_slat(&self) -> bool {
        !(self.disable_slat || self.gtod_reduce)
    }

    /// Whether the bandwidth of intervals is.
    #[must_use]
    pub fn measures_bandwidth(&self) -> bool {
        !(self.disable_bw || self.gtod_reduce)
    }
}
