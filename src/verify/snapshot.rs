//! A snapshot: what all workers of a run had been promised at one moment, with all that is needed to
//! judge by it later, on another machine if need be.

mod codec;

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

use crate::base::premises::Premises;
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
    /// What later stages may have written over without verifying: there, jobs of earlier stages have been
    /// promised nothing. Only what lies in the region of one of them.
    pub unverified: Vec<WrittenRange>,
}

impl Snapshot {
    /// Whether this one was taken later in the same run than `other`. By how far the workers of both had come;
    /// only where that is the same, or none is in both, by the clock, which may have been set.
    #[must_use]
    pub fn is_ahead_of(&self, other: &Snapshot) -> bool {
        if self.run != other.run {
            return false;
        }
        match self.counts_against(other) {
            Some(order) => order.is_gt(),
            None => self.taken_unix_ns > other.taken_unix_ns,
        }
    }

    /// Whether this one holds promises of the same run that `other` does not: its workers had come
    /// further, or it has a later stage. The clock does not count.
    #[must_use]
    pub fn holds_more_than(&self, other: &Snapshot) -> bool {
        self.run == other.run && self.counts_against(other).is_some_and(Ordering::is_gt)
    }

    /// By how far the workers of both had come; `None` if that is the same.
    fn counts_against(&self, other: &Snapshot) -> Option<Ordering> {
        let stage = |snapshot: &Snapshot| {
            let jobs = snapshot.jobs.iter().map(|job| job.stage);
            jobs.chain(snapshot.unverified.iter().map(|range| range.stage)).max()
        };
        // Rises in each worker: what is in flight only sinks where nothing was issued.
        let come = |it: &Promises| {
            let in_flight = Reverse(it.writes.in_flight.len() + it.trims.in_flight.len());
            (it.writes.issued.saturating_add(it.trims.issued), it.flush_epoch, in_flight)
        };
        let come = |snapshot: &Snapshot| -> BTreeMap<u16, _> {
            let workers = snapshot.jobs.iter().flat_map(|job| &job.workers);
            workers.map(|worker| (worker.number, come(&worker.promises))).collect()
        };
        let (own, others) = (come(self), come(other));
        let both = own.iter().filter_map(|(number, own)| Some((*own, *others.get(number)?)));
        let workers = both.map(|(own, other)| own.cmp(&other)).find(|order| order.is_ne());
        workers.or_else(|| Some(stage(self).cmp(&stage(other))).filter(|order| order.is_ne()))
    }

    /// Writes and trims that the workers had issued, all together.
    #[must_use]
    pub fn issued(&self) -> u64 {
        let workers = self.jobs.iter().flat_map(|job| &job.workers);
        let issued =
            workers.map(|worker| worker.promises.writes.issued.saturating_add(worker.promises.trims.issued));
        issued.fold(0, u64::saturating_add)
    }
}

/// Bytes of a target that were written, by whom and what is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WrittenRange {
    /// The identity of the target.
    pub identity: u64,
    /// The stage that wrote, from 0.
    pub stage: u32,
    /// The first byte.
    pub start: u64,
    /// Length in bytes.
    pub bytes: u64,
}

/// One job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobState {
    /// Its name.
    pub name: String,
    /// The stage that it ran in, from 0: what a later one wrote counts above what an earlier one did.
    pub stage: u32,
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
    /// What a verdict on what was written to it rests on.
    pub premises: Premises,
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

impl JobState {
    /// What its workers owned: the identity of the target, first byte and length in bytes.
    pub fn owned(&self) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
        let regions = self.workers.iter().flat_map(|worker| &worker.regions);
        regions.filter_map(|region| {
            let target = self.targets.get(usize::from(region.target))?;
            Some((target.identity, region.start, region.bytes))
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(taken_unix_ns: u64, issued: &[(u16, u64)]) -> Snapshot {
        let worker = |&(number, issued): &(u16, u64)| WorkerState {
            number,
            regions: Vec::new(),
            promises: Promises::finished(issued, 0),
        };
        let job = JobState {
            name: "j".to_owned(),
            stage: 0,
            options: Vec::new(),
            seed: 1,
            writes_are_durable: false,
            targets: Vec::new(),
            workers: issued.iter().map(worker).collect(),
        };
        let (run, cause, tool) = (RunId(7), Cause::Checkpoint, String::new());
        Snapshot { run, taken_unix_ns, cause, tool, jobs: vec![job], unverified: Vec::new() }
    }

    #[test]
    fn what_was_issued_says_which_is_later_and_the_clock_only_where_that_does_not() {
        let (early, late) = (taken(9, &[(1, 5), (2, 5)]), taken(3, &[(1, 5), (2, 6)]));
        assert!(late.is_ahead_of(&early) && !early.is_ahead_of(&late));
        assert!(!early.is_ahead_of(&early));
        assert!(taken(4, &[(1, 5)]).is_ahead_of(&taken(3, &[(1, 5)])));
        let mut flushed = early.clone();
        flushed.taken_unix_ns = 1;
        flushed.jobs[0].workers[1].promises.flush_epoch = 1;
        assert!(flushed.is_ahead_of(&early) && !early.is_ahead_of(&flushed));
        // A later stage, with other workers.
        assert!(taken(4, &[(3, 1)]).is_ahead_of(&taken(3, &[(1, 5)])));
        let mut written_over = early.clone();
        written_over.unverified = vec![WrittenRange { identity: 1, stage: 1, start: 0, bytes: 512 }];
        written_over.taken_unix_ns = 1;
        assert!(written_over.is_ahead_of(&early) && !early.is_ahead_of(&written_over));
        let other = Snapshot { run: RunId(8), ..taken(1, &[(1, 1)]) };
        assert!(!late.is_ahead_of(&other) && !other.is_ahead_of(&late));
        // A clock that was set back makes no promise smaller.
        assert!(late.holds_more_than(&early) && !early.holds_more_than(&late));
        assert!(!taken(4, &[(1, 5)]).holds_more_than(&taken(3, &[(1, 5)])));
        assert!(!late.holds_more_than(&other) && !other.holds_more_than(&late));
        assert_eq!(late.issued(), 11);
    }
}
