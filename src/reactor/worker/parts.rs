//! What a worker is made of, and what it leaves behind.

use super::*;

/// The options of one worker's loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerConfig {
    /// I/Os in flight at most.
    pub depth: u32,
    /// I/Os a doorbell at most.
    pub batch_submit: u32,
    /// Completions to wait for when nothing can be issued; 0 polls.
    pub batch_complete_min: u32,
    /// Completions taken at once at most.
    pub batch_complete_max: u32,
    /// Once full, drain to this depth before issuing again.
    pub depth_low: u32,
    /// Flush after this many writes; 0 never.
    pub fsync: u32,
    /// The same, data only; 0 never.
    pub fdatasync: u32,
    /// sync_file_range(2) of what was written, after this many writes; 0 never.
    pub sync_range: u32,
    /// Flush at the end.
    pub end_fsync: bool,
    /// The first of the targets to flush.
    pub first_target: u16,
    /// How many targets there are to flush.
    pub targets: u16,
    /// Run, but do not count, for this long.
    pub ramp_ns: u64,
    /// Then issue for this long.
    pub runtime_ns: Option<u64>,
    /// Failed reads do not end the worker.
    pub continue_on_read: bool,
    /// Failed writes, deallocates and flushes do not end the worker.
    pub continue_on_write: bool,
    /// Of failed I/Os with these numbers, and no others, the worker goes on; where a set is empty, the
    /// two above hold.
    pub listed_errors: ListedErrors,
    /// A full target ends the worker without an error.
    pub fill_device: bool,
    /// Hold an I/O back while another to the same bytes is in flight.
    pub serialize: bool,
    /// How long the device may answer nothing at all before what is in flight is given up.
    pub reap_timeout_ns: u64,
    /// Ranges of one deallocate; with 2 or more, the workload must be of nothing but deallocates, and they
    /// neither verified, serialized nor written down.
    pub trim_ranges: u32,
    /// Which latencies go into the histograms.
    pub measures: Measures,
}

/// Which latencies a worker measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measures {
    /// Submission.
    pub slat: bool,
    /// Completion.
    pub clat: bool,
    /// Both together.
    pub lat: bool,
}

impl Measures {
    /// All of them.
    pub const ALL: Measures = Measures { slat: true, clat: true, lat: true };
}

/// What a worker is made of.
pub struct WorkerParts<Q> {
    /// Options.
    pub config: WorkerConfig,
    /// The queue, made on this thread.
    pub queue: Q,
    /// The memory: at least `config.depth` buffers of the largest length.
    pub buffers: BufferArea,
    /// What to do.
    pub workload: Workload,
    /// What to write.
    pub content: Content,
    /// Whether it writes at all.
    pub writes: bool,
    /// Numbers that others read meanwhile.
    pub live: Arc<Live>,
    /// Requests for full statistics.
    pub tap: Tap,
    /// What it takes to verify, if it does.
    pub verify: Option<VerifyParts>,
    /// Where what it logs goes, if it logs.
    pub log: Option<LogTap>,
    /// Which commands carry which priority, if any: latencies are told for each.
    pub priorities: Option<CommandPriorities>,
    /// The log that it takes its I/Os from, instead of the workload.
    pub replay: Option<ReplayParts>,
    /// Where its I/Os are written down.
    pub recorder: Option<Recorder>,
}

/// What a worker leaves behind.
#[derive(Debug)]
pub struct WorkerOutcome {
    /// Its counts.
    pub stats: Box<WorkerStats>,
    /// The error that ended it, if one did.
    pub error: Option<(Op, Status)>,
    /// The demand that it did not meet, which ended it.
    pub missed: Option<Missed>,
    /// What verification found, if it was asked for.
    pub verify: Option<Box<VerifyTally>>,
    /// Of an audit: what was not written. It is in no count of `verify`: whether it is a violation depends on
    /// the other workers of the job.
    pub unwritten: Option<Box<Unwritten>>,
    /// How a replay kept to its times.
    pub replay: Option<ReplayTally>,
}
