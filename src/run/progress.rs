//! Numbers of a run while it runs, for a live line.

use crate::base::PerOp;

/// The whole run at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Workers that run now.
    pub workers_running: u32,
    /// Workers of all stages.
    pub workers_total: u32,
    /// Share of the current stage that is done, 0 to 1, where time or amount tell.
    pub fraction_done: Option<f64>,
    /// Seconds until the current stage ends, where time or amount tell.
    pub eta_s: Option<u64>,
    /// I/Os a second since the call before.
    pub iops: PerOp<f64>,
    /// Bytes a second since the call before.
    pub bandwidth: PerOp<f64>,
    /// Largest 99th percentile of `clat` among the workers, in nanoseconds; 0 if none is known yet.
    pub p99_ns: u64,
    /// I/Os that failed so far.
    pub errors: u64,
    /// Whether all running workers are still in their ramp.
    pub ramping: bool,
}
