//! What a run found, as plain data. The formats turn it into text.

use super::premises::PremisesReport;
use super::steady::SteadyReport;
use super::trigger::TriggerReport;
use crate::base::PerOp;
use crate::base::host::DeviceSummary;
use crate::base::host::cpu_time::Idleness;
use crate::base::host::disk_util::DiskUse;
use crate::base::nvme::DeviceFacts;
use crate::job::JobSpec;
use crate::stats::{VerifyTally, WorkerStats};

/// The result of a run, or of a run so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Milliseconds since 1970 when the report was made.
    pub time_unix_ms: u64,
    /// Milliseconds since 1970 when the run began.
    pub started_unix_ms: u64,
    /// Whether the run is still going on (`--status-interval`, SIGUSR1).
    pub unfinished: bool,
    /// The signal that ended the run, if one did.
    pub ended_by_signal: Option<i32>,
    /// What the reader should know before believing a number: fallbacks, roundings, refusals.
    pub notes: Vec<String>,
    /// One entry for each job, clone or group, in the order of the job file.
    pub jobs: Vec<JobReport>,
    /// One entry for each thread that drove I/O.
    pub reactors: Vec<ReactorReport>,
    /// The targets.
    pub targets: Vec<TargetReport>,
    /// All resolved jobs as a job file, so that the result can be run again.
    pub job_toml: Option<String>,
    /// The trigger that ended the run, if one did.
    pub trigger: Option<TriggerReport>,
    /// What the machine did meanwhile.
    pub machine: MachineReport,
}

/// What the machine did during the run, beside what jobs count.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MachineReport {
    /// Block devices below the targets, where a job asks for them.
    pub disks: Vec<DiskUse>,
    /// How idle the CPUs were, where it was asked for.
    pub idleness: Option<Idleness>,
    /// Also those of each CPU.
    pub each_cpu: bool,
}

impl Report {
    /// Blocks that break a promise, of all jobs.
    #[must_use]
    pub fn violations(&self) -> u64 {
        self.jobs.iter().filter_map(|job| job.verify.as_ref()).map(VerifyTally::violations).sum()
    }

    /// Whether a job verified nothing, or less than it should have.
    #[must_use]
    pub fn inconclusive(&self) -> bool {
        self.jobs.iter().filter_map(|job| job.verify.as_ref()).any(VerifyTally::is_inconclusive)
    }
}

/// One line of the result: a worker, or with `group_reporting` all workers of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct JobReport {
    /// Name of the (first) job.
    pub name: String,
    /// Reporting group, from 0.
    pub group: u32,
    /// How many workers are merged here.
    pub workers: u32,
    /// The resolved job (of the first worker).
    pub spec: JobSpec,
    /// Milliseconds since 1970 when the job's first worker began.
    pub started_unix_ms: u64,
    /// Merged counts.
    pub stats: WorkerStats,
    /// Bytes and I/Os a second over intervals.
    pub intervals: PerOp<IntervalSummary>,
    /// The same of all directions together.
    pub mixed_intervals: IntervalSummary,
    /// What the search for steady state has found, if the job looks for it.
    pub steady: Option<SteadyReport>,
    /// Processor time of the threads that drove these workers, by share.
    pub cpu: CpuUse,
    /// Why the job ended early, if it did: an error that no `continue_on_error` covers.
    pub error: Option<JobError>,
    /// What verification found, if the job verifies.
    pub verify: Option<VerifyTally>,
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobError {
    /// fio's `error`: an errno.
    pub errno: i32,
    /// In words.
    pub message: String,
    /// All I/O went well, but a demanded performance was missed.
    pub is_missed: bool,
}

/// Rates measured over the intervals of a run (`bwavgtime` and `iopsavgtime`, 500 ms). All zero if the run was
/// shorter than an interval; `samples` says so.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IntervalSummary {
    /// Bytes a second.
    pub bandwidth: RateSummary,
    /// I/Os a second.
    pub iops: RateSummary,
    /// How many intervals of bandwidth.
    pub bandwidth_samples: u64,
    /// How many of IOPS.
    pub samples: u64,
}

/// Minimum, maximum, mean and deviation of a rate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RateSummary {
    /// Slowest interval.
    pub min: f64,
    /// Fastest interval.
    pub max: f64,
    /// Mean of the intervals.
    pub mean: f64,
    /// Standard deviation of the intervals (of a sample).
    pub stddev: f64,
}

impl RateSummary {
    /// The summary of `rates`.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a count of intervals")]
    pub fn of(rates: &[f64]) -> RateSummary {
        if rates.is_empty() {
            return RateSummary::default();
        }
        let mean = rates.iter().sum::<f64>() / rates.len() as f64;
        let squares: f64 = rates.iter().map(|rate| (rate - mean).powi(2)).sum();
        RateSummary {
            min: rates.iter().copied().fold(f64::INFINITY, f64::min),
            max: rates.iter().copied().fold(0.0, f64::max),
            mean,
            stddev: if rates.len() < 2 { 0.0 } else { (squares / (rates.len() - 1) as f64).sqrt() },
        }
    }
}

/// Processor time and switches of threads (getrusage).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuUse {
    /// User time in nanoseconds.
    pub user_ns: u64,
    /// System time in nanoseconds.
    pub system_ns: u64,
    /// Elapsed time in nanoseconds of the threads measured.
    pub elapsed_ns: u64,
    /// Context switches, wanted and unwanted.
    pub context_switches: u64,
    /// Page faults with I/O.
    pub major_faults: u64,
    /// Page faults without I/O.
    pub minor_faults: u64,
    /// Time in nanoseconds in which a thread could have run, but others had its CPU.
    pub waiting_ns: u64,
}

/// One thread of the run.
#[derive(Clone, Debug, PartialEq)]
pub struct ReactorReport {
    /// The CPU it was pinned to; `None` if it could use several.
    pub cpu: Option<u32>,
    /// The workers it drove, as `name.number`.
    pub workers: Vec<String>,
    /// Turns that moved an I/O.
    pub busy_turns: u64,
    /// Turns that found nothing to do.
    pub idle_turns: u64,
    /// Processor time.
    pub cpu_use: CpuUse,
    /// How long it could run elsewhere than the job says, in nanoseconds: its CPUs were offline, or its affinity
    /// was changed.
    pub unpinned_ns: u64,
}

/// One target of the run.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetReport {
    /// As the job file names it.
    pub path: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// The device behind it, where one is known.
    pub device: Option<DeviceSummary>,
    /// What it says of itself, if it is an NVMe device that could be asked.
    pub nvme: Option<DeviceFacts>,
    /// What verdicts on it rest on, if a job verifies there.
    pub premises: Option<PremisesReport>,
}
