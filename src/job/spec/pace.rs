//! When I/Os are issued: pauses, rates, and what follows from latencies.

use crate::base::PerOp;
use crate::base::units::SECOND_NS;

/// When I/Os are issued: pauses, rates, and what follows from latencies.
#[derive(Clone, Debug, PartialEq)]
pub struct PaceSpec {
    /// `thinktime` in nanoseconds; 0 for none.
    pub thinktime_ns: u64,
    /// `thinktime_spin` in nanoseconds.
    pub thinktime_spin_ns: u64,
    /// `thinktime_blocks`: I/Os between two pauses, at least 1.
    pub thinktime_blocks: Option<u32>,
    /// `thinktime_blocks_type = "issue"`.
    pub thinktime_at_issue: bool,
    /// `thinktime_iotime` in nanoseconds.
    pub thinktime_iotime_ns: Option<u64>,
    /// `thinkcycles`: ticks of the time stamp counter before each I/O.
    pub thinkcycles: u64,
    /// `rate` in bytes a second; 0 for none.
    pub rate: PerOp<u64>,
    /// `rate_iops` in I/Os of the smallest block a second; 0 for none.
    pub rate_iops: PerOp<u32>,
    /// `rate_min` in bytes a second; 0 for none.
    pub rate_min: PerOp<u64>,
    /// `rate_iops_min` in I/Os a second; 0 for none.
    pub rate_iops_min: PerOp<u32>,
    /// `rate_cycle` in nanoseconds.
    pub rate_cycle_ns: u64,
    /// `rate_process = "poisson"`.
    pub poisson: bool,
    /// `rate_ignore_thinktime`: a pause is not caught up.
    pub rate_ignore_thinktime: bool,
    /// `flow`: the job's weight; 0 for none.
    pub flow: u32,
    /// `flow_id`: among which jobs.
    pub flow_id: u32,
    /// `flow_sleep` in nanoseconds.
    pub flow_sleep_ns: u64,
    /// `latency_target` in nanoseconds; 0 for none.
    pub latency_target_ns: u64,
    /// `latency_window` in nanoseconds.
    pub latency_window_ns: u64,
    /// `latency_percentile`.
    pub latency_percentile: f64,
    /// `latency_run`: go on, and keep to the target.
    pub latency_run: bool,
    /// `max_latency` in nanoseconds; 0 for none.
    pub max_latency_ns: PerOp<u64>,
}

impl Default for PaceSpec {
    fn default() -> PaceSpec {
        PaceSpec {
            thinktime_ns: 0,
            thinktime_spin_ns: 0,
            thinktime_blocks: None,
            thinktime_at_issue: false,
            thinktime_iotime_ns: None,
            thinkcycles: 0,
            rate: PerOp::default(),
            rate_iops: PerOp::default(),
            rate_min: PerOp::default(),
            rate_iops_min: PerOp::default(),
            rate_cycle_ns: SECOND_NS,
            poisson: false,
            rate_ignore_thinktime: false,
            flow: 0,
            flow_id: 0,
            flow_sleep_ns: 0,
            latency_target_ns: 0,
            latency_window_ns: SECOND_NS,
            latency_percentile: 100.0,
            latency_run: false,
            max_latency_ns: PerOp::default(),
        }
    }
}
