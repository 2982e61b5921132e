//! When jobs begin and end, and what ends them.

use crate::base::errno_set::ListedErrors;
use crate::base::units::SECOND_NS;

/// When jobs begin and end, and what ends them.
#[derive(Clone, Debug, PartialEq)]
pub struct OrderSpec {
    /// `start_delay` in nanoseconds since the start of the run: each worker draws from this window.
    pub start_delay_ns: (u64, u64),
    /// `wait_for`: starts when all workers of the jobs of this name have ended.
    pub wait_for: Option<String>,
    /// `start_timeout` in nanoseconds: how long opening and preparing the targets may take.
    pub start_timeout_ns: u64,
    /// `exitall`: the first worker of the job that ends takes others along.
    pub exitall: bool,
    /// `exitall_on_error`: the same, if it has failed.
    pub exitall_on_error: bool,
    /// `exit_what`: which others.
    pub exit_what: ExitWhat,
    /// `ramp_size` in bytes: run, but do not count, until so much is done; 0 for none.
    pub ramp_size: u64,
    /// `ignore_error`.
    pub ignore_error: ListedErrors,
    /// `error_dump`: failed I/Os that do not end the job are told as they come.
    pub error_dump: bool,
    /// `block_error_percentiles`: each block's trims and its first failure are kept.
    pub block_error_percentiles: bool,
    /// `job_start_clock_id`: which clock `job_start` in JSON is read from.
    pub job_start_clock_id: u32,
}

impl Default for OrderSpec {
    fn default() -> OrderSpec {
        OrderSpec {
            start_delay_ns: (0, 0),
            wait_for: None,
            start_timeout_ns: 120 * SECOND_NS,
            exitall: false,
            exitall_on_error: false,
            exit_what: ExitWhat::Group,
            ramp_size: 0,
            ignore_error: ListedErrors::default(),
            error_dump: true,
            block_error_percentiles: false,
            job_start_clock_id: 0,
        }
    }
}

/// fio's `exit_what`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitWhat {
    /// Workers of the same reporting group.
    Group,
    /// All workers, and no later stage begins.
    All,
    /// All workers up to the next `stonewall`.
    Stonewall,
}
