//! What the stages before were promised, and what was written over since.

use crate::verify::snapshot::{JobState, WrittenRange};

/// The stages before.
#[derive(Debug, Default)]
pub struct Past {
    /// Their jobs that write and verify.
    pub jobs: Vec<JobState>,
    /// What jobs of later stages that do not verify may have written over, in order and without overlaps.
    pub unverified: Vec<WrittenRange>,
}

impl Past {
    /// A stage begins that may write to `ranges` without verifying. Whether that takes away a promise.
    ///
    /// What it writes where is not followed, so all of a range counts as written. Ranges that touch no earlier
    /// job's region are left out.
    pub fn write_over(&mut self, ranges: &[WrittenRange]) -> bool {
        let before = self.unverified.len();
        for range in ranges {
            let end = range.start.saturating_add(range.bytes);
            for (identity, start, bytes) in self.jobs.iter().flat_map(JobState::owned) {
                let first = start.max(range.start);
                let last = start.saturating_add(bytes).min(end);
                if identity == range.identity && first < last {
                    self.unverified.push(WrittenRange { start: first, bytes: last - first, ..*range });
                }
            }
        }
        let is_more = self.unverified.len() > before;
        if is_more {
            self.join();
        }
        is_more
    }

    /// Ranges of one stage that touch become one.
    fn join(&mut self) {
        self.unverified.sort_unstable();
        self.unverified.dedup_by(|next, before| {
            let touches = next.identity == before.identity
                && next.stage == before.stage
                && next.start <= before.start + before.bytes;
            if touches {
                let end = (before.start + before.bytes).max(next.start + next.bytes);
                before.bytes = end - before.start;
            }
            touches
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::promises::Promises;
    use crate::verify::snapshot::{RegionState, TargetState, WorkerState};

    fn job(identity: u64, start: u64, bytes: u64) -> JobState {
        let target = TargetState {
            path: String::new(),
            identity,
            known_as: String::new(),
            size_bytes: 1 << 20,
            lba_bytes: 512,
            premises: crate::base::premises::Premises::default(),
        };
        let regions = vec![RegionState { target: 0, start, bytes }];
        let worker = WorkerState { number: 1, regions, promises: Promises::default() };
        JobState {
            name: "a".to_owned(),
            stage: 0,
            options: Vec::new(),
            seed: 1,
            writes_are_durable: false,
            targets: vec![target],
            workers: vec![worker],
        }
    }

    #[test]
    fn only_what_an_earlier_job_owned_is_written_over_and_neighbours_are_joined() {
        let mut past = Past { jobs: vec![job(7, 1000, 500), job(8, 0, 100)], unverified: Vec::new() };
        let range = |identity, start, bytes| WrittenRange { identity, stage: 1, start, bytes };
        assert!(!past.write_over(&[range(7, 0, 1000), range(9, 0, 4000), range(8, 100, 100)]));
        assert!(past.write_over(&[range(7, 1200, 100), range(7, 1100, 100), range(7, 1400, 4000)]));
        assert_eq!(past.unverified, [range(7, 1100, 200), range(7, 1400, 100)]);
        assert!(past.write_over(&[range(8, 0, 1 << 20), range(7, 1250, 10)]));
        assert_eq!(past.unverified, [range(7, 1100, 200), range(7, 1400, 100), range(8, 0, 100)]);
    }
}
