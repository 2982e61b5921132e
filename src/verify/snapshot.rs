//! A snapshot: what all workers of a run had been promised at one moment, with all that is needed to
//! judge by it later, on another machine if need be.

mod codec;

use crate::base::verify::RunId;

use super::promises::Promises;
pub use codec::SnapshotError;

/// Why a snapshot was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The writing ended.
    Ended,
    /// A trigger fired.
    Trigger,
    /// `state_checkpoint`: the run goes on.
    Checkpoint,
}

/// What all workers of a run had been promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The run, as in the tags of its blocks.
    pub run: RunId,
    /// When it was taken, nanoseconds since 1970.
    pub taken_unix_ns: u64,
    /// Why.
    pub cause: Cause,
    /// The version of the tool that took it.
    pub tool: String,
    /// The jobs that write and verify, in the order of the job file.
    pub jobs: Vec<JobState>,
}

/// One job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobState {
    /// Its name.
    pub name: String,
    /// Options that shape what is written where, as they were resolved: name and value. A job with
    /// others generates another workload.
    pub options: Vec<(String, String)>,
    /// The seed that its offsets and data come from.
    pub seed: u64,
    /// A write that completed was durable (FUA, `sync`).
    pub writes_are_durable: bool,
    /// What it wrote to.
    pub targets: Vec<TargetState>,
    /// Its clones.
    pub workers: Vec<WorkerState>,
}

/// One target, as it was when it was written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetState {
    /// Its name then.
    pub path: String,
    /// What identifies it, whatever its name is now: as in the tags of blocks.
    pub identity: u64,
    /// Serial number and namespace, or what else a person knows it by; may be empty.
    pub known_as: String,
    /// Its size.
    pub size_bytes: u64,
    /// Its logical block.
    pub lba_bytes: u32,
    /// What it writes whole or not at all; 0 for one logical block.
    pub atomic_bytes: u32,
    /// Whether it had a volatile write cache that was on; `None` if nobody knows.
    pub volatile_cache: Option<bool>,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerState {
    /// Its number in the headers of its blocks, from 1.
    pub number: u16,
    /// The bytes it owned.
    pub regions: Vec<RegionState>,
    /// What it had been promised.
    pub promises: Promises,
}

/// A part of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionState {
    /// Which of the job's targets.
    pub target: u16,
    /// Its first byte.
    pub start: u64,
    /// Its length.
    pub bytes: u64,
}
