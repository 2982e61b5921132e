//! What verification found: counts of verdicts, coverage, examples.

use std::collections::BTreeMap;

use crate::base::verify::{Finding, Verdict};

/// Examples kept of each verdict.
pub const EXAMPLES: usize = 8;

/// Why the result of one or more workers is inconclusive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doubt {
    /// How many workers.
    pub workers: u64,
    /// The first of them by name; empty where no name was given.
    pub first: String,
}

/// The result of verifying, of one worker or of several together.
///
/// Two sums hold at any time: `promised` is `checked` and all of `not_checked`; and it is the sum of
/// `counts`. Results merge in any order and grouping to the same result but for the choice of examples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VerifyTally {
    /// Blocks that should be judged.
    pub promised: u64,
    /// Those of the checked blocks in which some write had to be found: nothing older, and nothing
    /// that was there before the run, was allowed.
    pub demanded: u64,
    /// Blocks that were judged.
    pub checked: u64,
    /// Those that were not, by reason.
    pub not_checked: BTreeMap<String, u64>,
    /// Blocks judged on the way, by `verify_backlog`; they are judged again at the end.
    pub checked_early: u64,
    /// How often each verdict was given, in the order of [`Verdict::ALL`].
    pub counts: [u64; Verdict::ALL.len()],
    /// Violations that a re-read did not confirm.
    pub transient: u64,
    /// Torn blocks that break AWUPF, and nothing that is promised more firmly: Linux stopped to rely on
    /// it, because drives misreport it.
    pub torn_awupf: u64,
    /// The first findings of each verdict.
    pub examples: Vec<Finding>,
    /// How many writes before the last one the oldest write lost among `allowed_loss` was.
    pub oldest_loss_writes: u64,
    /// Bytes read to judge, and how long that took in nanoseconds.
    pub read_bytes: u64,
    /// See `read_bytes`.
    pub read_ns: u64,
    /// Workers whose result is inconclusive, by reason. Kept by worker, so that one that checked nothing
    /// does not hide behind another when results are merged.
    pub doubts: BTreeMap<String, Doubt>,
}

impl VerifyTally {
    /// Counts blocks that were judged, of which `demanded` had to hold some write.
    #[inline]
    pub fn judged(&mut self, verdict: Verdict, blocks: u64, demanded: u64) {
        self.promised += blocks;
        self.checked += blocks;
        self.demanded += demanded;
        self.counts[verdict as usize] += blocks;
    }

    /// Takes back up to `blocks` blocks that [`VerifyTally::judged`] counted, all of them demanded.
    pub fn retract(&mut self, verdict: Verdict, blocks: u64) {
        let taken = blocks.min(self.of(verdict));
        self.counts[verdict as usize] -= taken;
        self.promised -= taken;
        self.checked -= taken;
        self.demanded = self.demanded.saturating_sub(taken);
    }

    /// How often `verdict` was given.
    #[must_use]
    pub fn of(&self, verdict: Verdict) -> u64 {
        self.counts[verdict as usize]
    }

    /// Takes back that the block of `finding` was counted as `was`, and as demanded or not: it will be counted
    /// as something else.
    pub fn take_back(&mut self, was: Verdict, demanded: bool, finding: &Finding) {
        let taken = self.of(was).min(1);
        self.counts[was as usize] -= taken;
        self.promised -= taken;
        self.checked -= taken;
        self.demanded = self.demanded.saturating_sub(if demanded { taken } else { 0 });
        self.examples.retain(|known| {
            known.verdict != was || (known.target, known.offset) != (finding.target, finding.offset)
        });
    }

    /// Keeps `finding` if it is among the first of its verdict.
    pub fn keep(&mut self, finding: &Finding) {
        let same = self.examples.iter().filter(|known| known.verdict == finding.verdict).count();
        if same < EXAMPLES {
            self.examples.push(finding.clone());
        }
    }

    /// Counts blocks that should be judged and were not.
    pub fn skip(&mut self, why: &str, blocks: u64) {
        if blocks == 0 {
            return;
        }
        self.promised += blocks;
        self.counts[Verdict::NotChecked as usize] += blocks;
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

    /// Whether nothing was verified, nothing was demanded, or less was verified than should be; of
    /// all together or of any worker.
    #[must_use]
    pub fn is_inconclusive(&self) -> bool {
        self.demanded == 0 || self.of(Verdict::NotChecked) > 0 || !self.doubts.is_empty()
    }

    /// Notes that one worker's result is inconclusive.
    pub fn doubt(&mut self, worker: &str, why: &str) {
        let doubt = Doubt { workers: 1, first: worker.to_owned() };
        self.add_doubt(why, &doubt);
    }

    /// Names the worker whose result this is in its doubts.
    pub fn sign(&mut self, worker: &str) {
        self.doubts.values_mut().for_each(|doubt| worker.clone_into(&mut doubt.first));
    }

    fn add_doubt(&mut self, why: &str, other: &Doubt) {
        match self.doubts.get_mut(why) {
            Some(doubt) => {
                doubt.workers += other.workers;
                if other.first < doubt.first {
                    doubt.first.clone_from(&other.first);
                }
            }
            None => {
                self.doubts.insert(why.to_owned(), other.clone());
            }
        }
    }

    /// Adds another worker's result.
    pub fn merge(&mut self, other: &VerifyTally) {
        self.promised += other.promised;
        self.demanded += other.demanded;
        self.checked += other.checked;
        self.checked_early += other.checked_early;
        self.transient += other.transient;
        self.torn_awupf += other.torn_awupf;
        self.read_bytes += other.read_bytes;
        self.read_ns = self.read_ns.max(other.read_ns);
        self.oldest_loss_writes = self.oldest_loss_writes.max(other.oldest_loss_writes);
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
        for (why, count) in &other.not_checked {
            *self.not_checked.entry(why.clone()).or_default() += count;
        }
        other.doubts.iter().for_each(|(why, doubt)| self.add_doubt(why, doubt));
        other.examples.iter().for_each(|finding| self.keep(finding));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A worker's result: what was judged and demanded, what was not checked, and its doubt if it has one.
    fn any_worker() -> impl Strategy<Value = VerifyTally> {
        let judged = prop::collection::vec((0_usize..14, 0_u64..1 << 40, 0_u64..1 << 20), 0..4);
        let skipped = prop::collection::vec((0_usize..3, 0_u64..1 << 40), 0..3);
        (judged, skipped, 0_u32..9).prop_map(|(judged, skipped, name)| {
            let mut tally = VerifyTally::default();
            for (verdict, blocks, spare) in judged {
                tally.judged(Verdict::ALL[verdict], blocks, blocks.saturating_sub(spare));
            }
            skipped.iter().for_each(|&(why, blocks)| tally.skip(["a", "b", "c"][why], blocks));
            if tally.is_inconclusive() {
                tally.doubt(&format!("j.{name}"), "not every block was checked");
            }
            tally
        })
    }

    fn adds_up(tally: &VerifyTally) -> bool {
        let not_checked: u64 = tally.not_checked.values().sum();
        tally.promised == tally.checked + not_checked
            && tally.promised == tally.counts.iter().sum::<u64>()
            && tally.of(Verdict::NotChecked) == not_checked
            && tally.demanded <= tally.checked
    }

    fn merged<'a>(tallies: impl IntoIterator<Item = &'a VerifyTally>) -> VerifyTally {
        let mut sum = VerifyTally::default();
        tallies.into_iter().for_each(|tally| sum.merge(tally));
        sum
    }

    proptest! {
        #[test]
        fn results_merge_to_the_same_sums_and_answer_in_any_grouping(
            workers in prop::collection::vec((any_worker(), 0_usize..4), 1..12), turn in 0_usize..12,
        ) {
            let lines: Vec<&VerifyTally> = workers.iter().map(|(tally, _)| tally).collect();
            let all = merged(lines.iter().copied());
            let groups: Vec<VerifyTally> = (0..4)
                .map(|group| merged(workers.iter().filter(|(_, of)| *of == group).map(|(tally, _)| tally)))
                .filter(|sum| *sum != VerifyTally::default())
                .collect();
            let mut turned = lines.clone();
            turned.rotate_left(turn % lines.len());
            for other in [merged(&groups), merged(turned)] {
                prop_assert_eq!(&other, &all);
                prop_assert!(adds_up(&other));
            }
            let any = |tallies: &[&VerifyTally]| tallies.iter().any(|tally| tally.is_inconclusive());
            prop_assert_eq!(any(&lines), all.is_inconclusive());
            let worker_count = lines.iter().filter(|tally| tally.is_inconclusive()).count() as u64;
            prop_assert_eq!(all.doubts.values().map(|doubt| doubt.workers).sum::<u64>(), worker_count);
        }

        #[test]
        fn a_block_that_gets_another_verdict_changes_no_sum(
            worker in any_worker(), from in 0_usize..14, to in 0_usize..14,
        ) {
            let (from, to) = (Verdict::ALL[from], Verdict::ALL[to]);
            let mut changed = worker.clone();
            changed.judged(from, 1, 1);
            changed.retract(from, 1);
            prop_assert_eq!(&changed, &worker);
            changed.judged(to, 1, 1);
            prop_assert!(adds_up(&changed));
        }
    }

    #[test]
    fn a_worker_that_demanded_nothing_does_not_hide_behind_another() {
        let mut well = VerifyTally::default();
        well.judged(Verdict::Ok, 1000, 1000);
        let mut nothing = VerifyTally::default();
        nothing.judged(Verdict::AllowedLoss, 1000, 0);
        nothing.doubt("", "nothing was demanded");
        nothing.sign("j.1");
        well.merge(&nothing);
        assert!(well.is_inconclusive() && well.demanded > 0);
        assert_eq!(well.doubts["nothing was demanded"], Doubt { workers: 1, first: "j.1".to_owned() });
    }
}
