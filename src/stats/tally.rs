//! What verification found: counts of verdicts, coverage, examples.

use std::collections::BTreeMap;

use crate::base::verify::{Finding, Verdict};

/// Examples kept of each verdict.
pub const EXAMPLES: usize = 8;

/// The result of verifying, of one worker or of several together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VerifyTally {
    /// Blocks that the run had promised something about and that should be judged.
    pub promised: u64,
    /// Those of them that were judged.
    pub checked: u64,
    /// Those that were not, by reason.
    pub not_checked: BTreeMap<String, u64>,
    /// Blocks judged on the way, by `verify_backlog`; they are judged again at the end.
    pub checked_early: u64,
    /// How often each verdict was given, in the order of [`Verdict::ALL`].
    pub counts: [u64; Verdict::ALL.len()],
    /// Violations that a re-read did not confirm.
    pub transient: u64,
    /// The first findings of each verdict.
    pub examples: Vec<Finding>,
    /// How many writes before the last one the oldest write lost among `allowed_loss` was.
    pub oldest_loss_writes: u64,
    /// Bytes read to judge, and how long that took in nanoseconds.
    pub read_bytes: u64,
    /// See `read_bytes`.
    pub read_ns: u64,
}

impl VerifyTally {
    /// Counts one verdict.
    #[inline]
    pub fn count(&mut self, verdict: Verdict, blocks: u64) {
        self.counts[verdict as usize] += blocks;
    }

    /// How often `verdict` was given.
    #[must_use]
    pub fn of(&self, verdict: Verdict) -> u64 {
        self.counts[verdict as usize]
    }

    /// Keeps `finding` if it is among the first of its verdict.
    pub fn keep(&mut self, finding: &Finding) {
        let same = self.examples.iter().filter(|known| known.verdict == finding.verdict).count();
        if same < EXAMPLES {
            self.examples.push(finding.clone());
        }
    }

    /// Counts blocks that were promised and not read.
    pub fn skip(&mut self, why: &str, blocks: u64) {
        if blocks == 0 {
            return;
        }
        self.count(Verdict::NotChecked, blocks);
        match self.not_checked.get_mut(why) {
            Some(count) => *count += blocks,
            None => {
                self.not_checked.insert(why.to_owned(), blocks);
            }
        }
    }

    /// Broken promises.
    #[must_use]
    pub fn violations(&self) -> u64 {
        Verdict::ALL.iter().filter(|verdict| verdict.is_violation()).map(|verdict| self.of(*verdict)).sum()
    }

    /// Whether nothing, or less than asked, was verified.
    #[must_use]
    pub fn is_inconclusive(&self) -> bool {
        self.checked == 0 || self.of(Verdict::NotChecked) > 0
    }

    /// Adds another worker's result.
    pub fn merge(&mut self, other: &VerifyTally) {
        self.promised += other.promised;
        self.checked += other.checked;
        self.checked_early += other.checked_early;
        self.transient += other.transient;
        self.read_bytes += other.read_bytes;
        self.read_ns = self.read_ns.max(other.read_ns);
        self.oldest_loss_writes = self.oldest_loss_writes.max(other.oldest_loss_writes);
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
        for (why, count) in &other.not_checked {
            *self.not_checked.entry(why.clone()).or_default() += count;
        }
        other.examples.iter().for_each(|finding| self.keep(finding));
    }
}
