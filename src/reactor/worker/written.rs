//! What was written since the last sync_file_range(2), file by file, and the calls that are due.

use super::*;

/// Ranges of one worker's files.
#[derive(Debug)]
pub(super) struct Written {
    /// A call after this many writes.
    every: u32,
    writes: u32,
    first_target: u16,
    /// By target: first byte and the byte behind the last; empty where the end is 0.
    ranges: Box<[(u64, u64)]>,
    /// The next of the targets whose call is due.
    due: Option<u16>,
}

impl Written {
    pub(super) fn of(config: &WorkerConfig) -> Option<Box<Written>> {
        if config.sync_range == 0 {
            return None;
        }
        let ranges = vec![(u64::MAX, 0); usize::from(config.targets)].into();
        let (every, first_target) = (config.sync_range, config.first_target);
        Some(Box::new(Written { every, writes: 0, first_target, ranges, due: None }))
    }

    /// A write that is about to be issued; true if calls are due behind it.
    pub(super) fn add(&mut self, step: &Step) -> bool {
        if let Some(range) = self.ranges.get_mut(usize::from(step.target - self.first_target)) {
            *range = (range.0.min(step.offset), range.1.max(step.offset + u64::from(step.len)));
        }
        self.writes += 1;
        if self.writes < self.every {
            return false;
        }
        self.writes = 0;
        self.due = Some(0);
        true
    }

    /// Target, offset and length of the next call that is due.
    fn next(&mut self) -> Option<(u16, u64, u32)> {
        let mut at = self.due?;
        while let Some(range) = self.ranges.get_mut(usize::from(at)) {
            at += 1;
            let (from, to) = std::mem::replace(range, (u64::MAX, 0));
            if from < to {
                self.due = Some(at);
                return Some((
                    self.first_target + at - 1,
                    from,
                    u32::try_from(to - from).unwrap_or(u32::MAX),
                ));
            }
        }
        self.due = None;
        None
    }
}

impl<Q: Queue> Worker<Q> {
    /// Whether calls are due.
    #[inline]
    pub(super) fn has_ranges_due(&self) -> bool {
        self.written.as_ref().is_some_and(|written| written.due.is_some())
    }

    /// Adds the calls that are due to the batch, as far as there are buffers.
    #[cold]
    pub(super) fn prepare_ranges(&mut self) {
        let Some(written) = &mut self.written else { return };
        while !self.free.is_empty() {
            let Some((target, offset, len)) = written.next() else { return };
            let Some(buffer) = self.free.pop() else { return };
            self.in_flight += 1;
            let (op, data_only) = (Op::Flush, true);
            let io = Io { buffer, offset, sequence: 0, submit_ns: 0, len, moved: 0, target, op, data_only };
            self.batch.push(io);
        }
    }
}
