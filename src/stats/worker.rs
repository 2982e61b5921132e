//! Everything that is counted about one worker.

use crate::base::{Op, PerOp, Status};

use super::{BlockCounts, ByPriority, Histogram};

/// Levels of the depth distributions, as in fio: 1, 2-3, 4-7, 8-15, 16-31, 32-63, 64 and more.
pub const DEPTH_LEVELS: usize = 7;

/// How many different (command, status) pairs are counted apart; more go into the last one.
const ERROR_KINDS: usize = 32;

/// The level of fio's depth distributions that `depth` (at least 1) belongs to.
#[inline]
#[must_use]
pub fn depth_level(depth: u32) -> usize {
    (31 - depth.max(1).leading_zeros()).min(DEPTH_LEVELS as u32 - 1) as usize
}

/// Levels of [`BatchCounts`]: 1, 2, 3-4, 5-8, 9-16, 17-32, 33-64, more.
pub const BATCH_LEVELS: usize = 8;

/// How often a batch had how many I/Os. The levels end at powers of two (those of the depth begin
/// there), because fio's tables do and because batches of just 4 or 16 are what jobs ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchCounts([u64; BATCH_LEVELS]);

impl BatchCounts {
    /// Counts a batch of `ios`, at least 1.
    #[inline]
    pub fn record(&mut self, ios: u32) {
        let level = 32 - (ios.max(1) - 1).leading_zeros();
        self.0[level.min(BATCH_LEVELS as u32 - 1) as usize] += 1;
    }

    /// The counts, by level.
    #[must_use]
    pub fn levels(&self) -> &[u64; BATCH_LEVELS] {
        &self.0
    }

    /// What has these counts, by level.
    #[must_use]
    pub fn from_levels(levels: [u64; BATCH_LEVELS]) -> BatchCounts {
        BatchCounts(levels)
    }

    /// Adds what `other` has counted.
    pub fn merge(&mut self, other: &BatchCounts) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine += theirs;
        }
    }
}

/// The three latencies of fio: submission, completion, both.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LatencyStats {
    /// From before `submit` to after the doorbell. Empty for engines without a doorbell to ring.
    pub slat: Histogram,
    /// From the doorbell to the reap.
    pub clat: Histogram,
    /// Both together.
    pub lat: Histogram,
    /// From the moment at which a rate made it due to the reap. Empty without a rate.
    pub response: Histogram,
}

/// One command's counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OpStats {
    /// I/Os that ended well.
    pub ios: u64,
    /// Bytes that they moved (or, for trims, covered).
    pub bytes: u64,
    /// I/Os that ended with an error.
    pub failed: u64,
    /// Transfers that came back short and were continued.
    pub short_ios: u64,
    /// Of `ios` those that were in flight while the process did not run (`base::pause`): no latency of theirs
    /// is counted.
    pub unmeasured: u64,
    /// Latencies of the I/Os that ended well.
    pub latency: LatencyStats,
}

/// How often one command ended with one error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCount {
    /// The command.
    pub op: Op,
    /// What came back.
    pub status: Status,
    /// How often.
    pub count: u64,
    /// Byte offset of the first one.
    pub first_offset: u64,
}

/// The depth that a latency allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DepthFound {
    /// How many I/Os in flight.
    pub depth: u32,
    /// The search has ended; otherwise it is the largest depth so far that was good.
    pub is_settled: bool,
}

/// The counts of one worker, or of several merged.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerStats {
    /// Reads, writes, trims.
    pub ops: PerOp<OpStats>,
    /// Latencies of flushes that ended well.
    pub flush: Histogram,
    /// I/Os in flight when an I/O was submitted, by [`depth_level`].
    pub depth_at_submit: [u64; DEPTH_LEVELS],
    /// I/Os a doorbell.
    pub batch_submit: BatchCounts,
    /// Completions a reap that found any.
    pub batch_complete: BatchCounts,
    /// Turns of the loop that moved an I/O.
    pub busy_turns: u64,
    /// Turns that found nothing to do.
    pub idle_turns: u64,
    /// When counting began (`base::clock`), 0 if it never did.
    pub start_ns: u64,
    /// When the last I/O came back.
    pub end_ns: u64,
    /// How long the process did not run in between, in nanoseconds.
    pub paused_ns: u64,
    /// The depth that a latency allows, if that is sought; of several workers the smallest.
    pub depth_found: Option<DepthFound>,
    /// Completion latencies by the priority that commands carried, where any did.
    pub by_priority: Option<Box<ByPriority>>,
    /// What became of each block, where that is watched: once the worker has ended.
    pub blocks: Option<Box<BlockCounts>>,
    errors: [Option<ErrorCount>; ERROR_KINDS],
}

impl WorkerStats {
    /// Bytes of memory with all histograms, but those by priority.
    pub const BYTES: u64 = {
        let histograms = Op::ADDRESSED.len() * (size_of::<LatencyStats>() / size_of::<Histogram>()) + 1;
        (size_of::<WorkerStats>() + histograms * Histogram::BYTES) as u64
    };
}

impl Default for WorkerStats {
    fn default() -> Self {
        WorkerStats {
            ops: PerOp::from_fn(|_| OpStats::default()),
            flush: Histogram::default(),
            depth_at_submit: [0; DEPTH_LEVELS],
            batch_submit: BatchCounts::default(),
            batch_complete: BatchCounts::default(),
            busy_turns: 0,
            idle_turns: 0,
            start_ns: 0,
            end_ns: 0,
            paused_ns: 0,
            depth_found: None,
            by_priority: None,
            blocks: None,
            errors: [None; ERROR_KINDS],
        }
    }
}

impl WorkerStats {
    /// Counts an error.
    #[cold]
    pub fn record_error(&mut self, op: Op, status: Status, offset: u64) {
        if op != Op::Flush {
            self.ops.get_mut(op).failed += 1;
        }
        self.count_error(ErrorCount { op, status, count: 1, first_offset: offset });
    }

    fn count_error(&mut self, new: ErrorCount) {
        let last = ERROR_KINDS - 1;
        for (index, slot) in self.errors.iter_mut().enumerate() {
            match slot {
                Some(known) if (known.op == new.op && known.status == new.status) || index == last => {
                    known.count += new.count;
                    return;
                }
                Some(_) => {}
                None => {
                    *slot = Some(new);
                    return;
                }
            }
        }
    }

    /// The errors, in the order in which each kind was first seen.
    pub fn errors(&self) -> impl Iterator<Item = &ErrorCount> {
        self.errors.iter().flatten()
    }

    /// Puts these errors in place of those counted: what came over a wire. The counts of failed I/Os
    /// stay as they are.
    ///
    /// # Errors
    /// If there are more kinds than are counted apart.
    pub fn set_errors(&mut self, errors: &[ErrorCount]) -> Result<(), String> {
        if errors.len() > ERROR_KINDS {
            return Err(format!("{} kinds of errors: there are {ERROR_KINDS} at most", errors.len()));
        }
        self.errors = [None; ERROR_KINDS];
        for (slot, error) in self.errors.iter_mut().zip(errors) {
            *slot = Some(*error);
        }
        Ok(())
    }

    /// The first error, if there was one.
    #[must_use]
    pub fn first_error(&self) -> Option<&ErrorCount> {
        self.errors[0].as_ref()
    }

    /// I/Os that ended well, of all commands but flush.
    #[must_use]
    pub fn total_ios(&self) -> u64 {
        self.ops.iter().map(|(_, op)| op.ios).sum()
    }

    /// From the first counted moment to the last completion, in nanoseconds, without the time in which the
    /// process did not run.
    #[must_use]
    pub fn runtime_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns).saturating_sub(self.paused_ns)
    }

    /// I/Os whose latency is not counted, of all commands but flush.
    #[must_use]
    pub fn total_unmeasured(&self) -> u64 {
        self.ops.iter().map(|(_, op)| op.unmeasured).sum()
    }

    /// Adds what another worker has counted; the time spans from the first start to the last end.
    pub fn merge(&mut self, other: &WorkerStats) {
        for (op, mine) in self.ops.iter_mut() {
            let theirs = other.ops.get(op);
            mine.ios += theirs.ios;
            mine.bytes += theirs.bytes;
            mine.failed += theirs.failed;
            mine.short_ios += theirs.short_ios;
            mine.unmeasured += theirs.unmeasured;
            mine.latency.slat.merge(&theirs.latency.slat);
            mine.latency.clat.merge(&theirs.latency.clat);
            mine.latency.lat.merge(&theirs.latency.lat);
            mine.latency.response.merge(&theirs.latency.response);
        }
        self.flush.merge(&other.flush);
        for level in 0..DEPTH_LEVELS {
            self.depth_at_submit[level] += other.depth_at_submit[level];
        }
        self.batch_submit.merge(&other.batch_submit);
        self.batch_complete.merge(&other.batch_complete);
        self.busy_turns += other.busy_turns;
        self.idle_turns += other.idle_turns;
        if other.start_ns != 0 {
            self.start_ns =
                if self.start_ns == 0 { other.start_ns } else { self.start_ns.min(other.start_ns) };
        }
        self.end_ns = self.end_ns.max(other.end_ns);
        // A pause is one of all workers.
        self.paused_ns = self.paused_ns.max(other.paused_ns);
        self.depth_found = match (self.depth_found, other.depth_found) {
            (Some(mine), Some(theirs)) => Some(DepthFound {
                depth: mine.depth.min(theirs.depth),
                is_settled: mine.is_settled && theirs.is_settled,
            }),
            (mine, theirs) => mine.or(theirs),
        };
        match (&mut self.by_priority, &other.by_priority) {
            (Some(mine), Some(theirs)) => mine.merge(theirs),
            (mine @ None, Some(theirs)) => *mine = Some(theirs.clone()),
            (_, None) => {}
        }
        if let Some(theirs) = &other.blocks {
            self.blocks.get_or_insert_default().merge(theirs);
        }
        for error in other.errors() {
            self.count_error(*error);
        }
    }

    /// Takes over what `other` has counted, without allocating: how a reactor hands out its
    /// numbers in the middle of a run.
    pub fn copy_from(&mut self, other: &WorkerStats) {
        for (op, mine) in self.ops.iter_mut() {
            let theirs = other.ops.get(op);
            mine.ios = theirs.ios;
            mine.bytes = theirs.bytes;
            mine.failed = theirs.failed;
            mine.short_ios = theirs.short_ios;
            mine.unmeasured = theirs.unmeasured;
            mine.latency.slat.copy_from(&theirs.latency.slat);
            mine.latency.clat.copy_from(&theirs.latency.clat);
            mine.latency.lat.copy_from(&theirs.latency.lat);
            mine.latency.response.copy_from(&theirs.latency.response);
        }
        self.flush.copy_from(&other.flush);
        self.depth_at_submit = other.depth_at_submit;
        self.batch_submit = other.batch_submit;
        self.batch_complete = other.batch_complete;
        self.busy_turns = other.busy_turns;
        self.idle_turns = other.idle_turns;
        self.start_ns = other.start_ns;
        self.end_ns = other.end_ns;
        self.paused_ns = other.paused_ns;
        self.depth_found = other.depth_found;
        // What is handed out in the middle of a run goes without them where there is no room made.
        if let (Some(mine), Some(theirs)) = (&mut self.by_priority, &other.by_priority) {
            mine.copy_from(theirs);
        }
        self.errors = other.errors;
    }

    /// Forgets everything counted so far and begins anew at `now_ns`: the end of a ramp. Errors
    /// are kept: they decide the exit code whenever they happened.
    pub fn restart(&mut self, now_ns: u64) {
        for (_, op) in self.ops.iter_mut() {
            op.ios = 0;
            op.bytes = 0;
            op.short_ios = 0;
            op.unmeasured = 0;
            op.latency.slat.clear();
            op.latency.clat.clear();
            op.latency.lat.clear();
            op.latency.response.clear();
        }
        self.flush.clear();
        if let Some(by_priority) = &mut self.by_priority {
            by_priority.clear();
        }
        self.depth_at_submit = [0; DEPTH_LEVELS];
        self.batch_submit = BatchCounts::default();
        self.batch_complete = BatchCounts::default();
        self.busy_turns = 0;
        self.idle_turns = 0;
        self.start_ns = now_ns;
        self.end_ns = now_ns;
        self.paused_ns = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_a_power_of_two_end_their_level() {
        let mut batches = BatchCounts::default();
        [1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 64, 65, 1000].into_iter().for_each(|ios| batches.record(ios));
        assert_eq!(batches.levels(), &[1, 1, 2, 2, 2, 2, 2, 2]);
    }

    #[test]
    fn depth_levels_are_those_of_fio() {
        let levels = [1, 2, 3, 4, 7, 8, 16, 32, 63, 64, 1000].map(depth_level);
        assert_eq!(levels, [0, 1, 1, 2, 2, 3, 4, 5, 5, 6, 6]);
    }

    #[test]
    fn errors_are_counted_by_command_and_status_and_survive_a_ramp() {
        let mut stats = WorkerStats::default();
        let eio = Status::from_errno(5);
        stats.record_error(Op::Read, eio, 4096);
        stats.record_error(Op::Read, eio, 8192);
        stats.record_error(Op::Write, eio, 0);
        stats.restart(10);
        let counts: Vec<_> = stats.errors().map(|e| (e.op, e.count, e.first_offset)).collect();
        assert_eq!(counts, [(Op::Read, 2, 4096), (Op::Write, 1, 0)]);
    }

    #[test]
    fn a_copy_equals_its_source() {
        let mut source = WorkerStats::default();
        source.ops.read.ios = 3;
        source.ops.read.latency.lat.record(500);
        source.record_error(Op::Flush, Status::from_errno(5), 0);
        source.end_ns = 7;
        let mut copy = WorkerStats::default();
        copy.copy_from(&source);
        assert_eq!(copy, source);
    }
}
