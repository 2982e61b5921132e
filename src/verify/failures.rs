//! Which writes (trims) of one worker failed: exact for up to [`MOST_RUNS`] separate runs of numbers.
//!
//! Runs are kept in chunks that copies share, so that a copy for other threads costs a few kilobytes after
//! each failure, however many there have been.

use std::sync::Arc;

/// Separate runs of failed numbers that are told apart. What fails beyond that is kept as one range in which
/// any number may have failed.
pub const MOST_RUNS: usize = 1 << 16;
/// Runs of a chunk at most.
const CHUNK: usize = 512;

/// First and last number of a run.
type Run = (u64, u64);

/// Numbers that failed, as runs of neighbours: a device that fails everything takes one entry.
#[derive(Clone, Debug, Default)]
pub struct Failures {
    /// Runs, rising, with gaps between them; no chunk is empty.
    chunks: Vec<Arc<Vec<Run>>>,
    /// Runs in all chunks.
    len: usize,
    /// Of the numbers from the first to the last, those outside of all runs may have failed too.
    coarse: Option<Run>,
}

impl PartialEq for Failures {
    fn eq(&self, other: &Failures) -> bool {
        self.coarse == other.coarse && self.runs().eq(other.runs())
    }
}

impl Eq for Failures {}

impl Failures {
    /// From runs (first and last of each) and the range in which any number may have failed.
    ///
    /// # Errors
    /// If runs do not rise with gaps between them, or the range is reversed.
    pub fn from_runs(runs: &[Run], coarse: Option<Run>) -> Result<Failures, &'static str> {
        let is_run = |run: &Run| run.0 <= run.1;
        let rises = |pair: &[Run]| pair[0].1.checked_add(1).is_some_and(|next| next < pair[1].0);
        if !runs.iter().chain(&coarse).all(is_run) || !runs.windows(2).all(rises) {
            return Err("runs of failed numbers do not rise");
        }
        let chunks = runs.chunks(CHUNK).map(|chunk| Arc::new(chunk.to_vec())).collect();
        Ok(Failures { chunks, len: runs.len(), coarse })
    }

    /// First and last of each run, rising.
    pub fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        self.chunks.iter().flat_map(|chunk| chunk.iter().copied())
    }

    /// How many runs there are.
    #[must_use]
    pub fn run_count(&self) -> usize {
        self.len
    }

    /// Of the numbers in this range (first and last), those outside of all runs may have failed too.
    #[must_use]
    pub fn coarse(&self) -> Option<Run> {
        self.coarse
    }

    /// Whether nothing failed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0 && self.coarse.is_none()
    }

    /// Whether `number` failed for certain.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        let (chunk, at) = self.at_or_behind(number);
        self.run(chunk, at).is_some_and(|(first, _)| first <= number)
    }

    /// Whether `number` may have failed, or not: more failed than was kept apart.
    #[must_use]
    pub fn is_unknown(&self, number: u64) -> bool {
        self.coarse.is_some_and(|(first, last)| (first..=last).contains(&number)) && !self.contains(number)
    }

    /// How many failed for certain.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.runs().map(|(first, last)| last - first + 1).sum()
    }

    /// Everything that failed, or may have, rising.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        let (first, end) = self.coarse.map_or((0, 0), |(first, last)| (first, last.saturating_add(1)));
        let unknown = (first..end).filter(|&number| !self.contains(number));
        merged(self.runs().flat_map(|(first, last)| first..=last), unknown)
    }

    /// The same of the numbers below `end`.
    pub(super) fn below(&self, end: u64) -> Failures {
        let is_all = |(_, last): Run| last < end;
        let newest = self.chunks.last().and_then(|chunk| chunk.last()).copied();
        if newest.is_none_or(is_all) && self.coarse.is_none_or(is_all) {
            return self.clone();
        }
        let cut = |(first, last): Run| (first < end).then(|| (first, last.min(end - 1)));
        let runs: Vec<Run> = self.runs().map_while(cut).collect();
        Failures::from_runs(&runs, self.coarse.and_then(cut)).unwrap_or_default()
    }

    /// `number` failed.
    pub(super) fn insert(&mut self, number: u64) {
        self.insert_limited(number, MOST_RUNS);
    }

    fn insert_limited(&mut self, number: u64, most: usize) {
        let (chunk, at) = self.at_or_behind(number);
        let next = self.run(chunk, at);
        if next.is_some_and(|(first, _)| first <= number) {
            return;
        }
        let before = if at > 0 {
            Some((chunk, at - 1))
        } else {
            chunk.checked_sub(1).map(|before| (before, self.chunks[before].len() - 1))
        };
        let before = before.filter(|&(chunk, at)| self.chunks[chunk][at].1 + 1 == number);
        let joins_next = next.is_some_and(|(first, _)| number.checked_add(1) == Some(first));
        match (before, joins_next) {
            (Some((own, place)), true) => {
                let (_, last) = self.remove(chunk, at);
                Arc::make_mut(&mut self.chunks[own])[place].1 = last;
            }
            (Some((own, place)), false) => Arc::make_mut(&mut self.chunks[own])[place].1 = number,
            (None, true) => Arc::make_mut(&mut self.chunks[chunk])[at].0 = number,
            (None, false) if self.len < most => self.add(chunk, at, number),
            (None, false) => {
                let (first, last) = self.coarse.unwrap_or((number, number));
                self.coarse = Some((first.min(number), last.max(number)));
            }
        }
    }

    /// All of `runs` failed, in whatever order they come.
    pub(super) fn insert_runs(&mut self, runs: impl IntoIterator<Item = Run>) {
        let mut all: Vec<Run> = self.runs().chain(runs).collect();
        all.sort_unstable();
        let mut joined: Vec<Run> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match joined.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => joined.push((first, last)),
            }
        }
        let beyond = joined.split_off(joined.len().min(MOST_RUNS));
        let range = beyond.first().zip(beyond.last()).map(|(first, last)| (first.0, last.1));
        let coarse = [self.coarse, range].into_iter().flatten();
        let coarse = coarse.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)));
        *self = Failures::from_runs(&joined, coarse).unwrap_or_default();
    }

    fn run(&self, chunk: usize, at: usize) -> Option<Run> {
        self.chunks.get(chunk)?.get(at).copied()
    }

    /// The first run that does not end before `number`, by its chunk and its place there.
    fn at_or_behind(&self, number: u64) -> (usize, usize) {
        let ends_before = |run: &Run| run.1 < number;
        let chunk = self.chunks.partition_point(|chunk| chunk.last().is_some_and(ends_before));
        (chunk, self.chunks.get(chunk).map_or(0, |runs| runs.partition_point(ends_before)))
    }

    /// Adds a run of one before the run at this place.
    fn add(&mut self, chunk: usize, at: usize, number: u64) {
        self.len += 1;
        let is_end = chunk == self.chunks.len();
        match self.chunks.last_mut().filter(|last| is_end && last.len() < CHUNK) {
            Some(last) => return Arc::make_mut(last).push((number, number)),
            None if is_end => return self.chunks.push(Arc::new(vec![(number, number)])),
            None => {}
        }
        let runs = Arc::make_mut(&mut self.chunks[chunk]);
        runs.insert(at, (number, number));
        if runs.len() > CHUNK {
            let rest = runs.split_off(CHUNK / 2);
            self.chunks.insert(chunk + 1, Arc::new(rest));
        }
    }

    fn remove(&mut self, chunk: usize, at: usize) -> Run {
        self.len -= 1;
        let run = Arc::make_mut(&mut self.chunks[chunk]).remove(at);
        if self.chunks[chunk].is_empty() {
            self.chunks.remove(chunk);
        }
        run
    }
}

/// Two rising lists as one.
fn merged(one: impl Iterator<Item = u64>, other: impl Iterator<Item = u64>) -> impl Iterator<Item = u64> {
    let (mut one, mut other) = (one.peekable(), other.peekable());
    std::iter::from_fn(move || match (one.peek(), other.peek()) {
        (Some(first), Some(second)) if second < first => other.next(),
        (None, Some(_)) => other.next(),
        _ => one.next(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// The same by a set of numbers.
    fn check(failures: &Failures, failed: &BTreeSet<u64>) {
        let runs: Vec<Run> = failures.runs().collect();
        assert_eq!(runs.len(), failures.run_count());
        assert!(failures.chunks.iter().all(|chunk| (1..=CHUNK).contains(&chunk.len())));
        assert_eq!(Failures::from_runs(&runs, failures.coarse()), Ok(failures.clone()), "runs rise");
        let end = failed.last().map_or(0, |last| last + 3);
        for number in 0..end {
            let (failed, unknown) = (failed.contains(&number), failures.is_unknown(number));
            assert!(!failures.contains(number) || failed, "{number} is told to have failed");
            assert!(failures.contains(number) || unknown || !failed, "{number} failed, and is not told");
            assert!(!unknown || failures.coarse().is_some());
        }
        let numbers: Vec<u64> = failures.numbers().collect();
        assert!(numbers.is_sorted());
        let all = |number: &u64| failures.contains(*number) || failures.is_unknown(*number);
        assert_eq!(numbers, (0..end).filter(all).collect::<Vec<_>>());
        let half = failures.below(end / 2);
        let same = |number: u64| {
            half.contains(number) == failures.contains(number)
                && half.is_unknown(number) == failures.is_unknown(number)
        };
        assert!((0..end / 2).all(same));
        assert!((end / 2..end).all(|number| !half.contains(number) && !half.is_unknown(number)));
    }

    proptest! {
        #[test]
        fn it_knows_what_a_set_of_numbers_knows(
            numbers in prop::collection::vec(0_u64..3000, 0..2000), more in prop::collection::vec((0_u64..3000, 0_u64..9), 0..9),
        ) {
            let (mut failures, mut failed) = (Failures::default(), BTreeSet::new());
            for number in numbers {
                failures.insert(number);
                failed.insert(number);
            }
            check(&failures, &failed);
            prop_assert_eq!((failures.count(), failures.coarse()), (failed.len() as u64, None));
            failures.insert_runs(more.iter().map(|&(first, len)| (first, first + len)));
            failed.extend(more.iter().flat_map(|&(first, len)| first..=first + len));
            check(&failures, &failed);
            prop_assert_eq!((failures.count(), failures.coarse()), (failed.len() as u64, None));
        }

        #[test]
        fn beyond_the_limit_nothing_that_failed_is_told_to_have_completed(
            numbers in prop::collection::vec(0_u64..400, 0..300), most in 1_usize..40,
        ) {
            let (mut failures, mut failed) = (Failures::default(), BTreeSet::new());
            for number in numbers {
                failures.insert_limited(number, most);
                failed.insert(number);
            }
            check(&failures, &failed);
            prop_assert!(failures.run_count() <= most);
        }
    }

    #[test]
    fn many_separate_failures_are_exact_and_cost_a_copy_little() {
        let mut failures = Failures::default();
        let mut copies = Vec::new();
        for number in 0..MOST_RUNS as u64 {
            failures.insert(number * 3);
            // As others get it after each failure; the last few are still in somebody's hands.
            copies.push(failures.clone());
            if copies.len() > 4 {
                copies.remove(0);
            }
        }
        assert_eq!((failures.run_count(), failures.coarse()), (MOST_RUNS, None));
        assert_eq!(failures.chunks.len(), MOST_RUNS / CHUNK);
        let (one, other) = (&copies[0].chunks, &failures.chunks);
        let shared = one.iter().zip(other).filter(|(one, other)| Arc::ptr_eq(one, other)).count();
        assert!(shared + 1 >= one.len(), "{shared} of {}", one.len());
        failures.insert(u64::MAX - 7);
        assert_eq!(failures.coarse(), Some((u64::MAX - 7, u64::MAX - 7)));
        failures.insert_runs([(u64::MAX - 3, u64::MAX - 3)]);
        assert_eq!(failures.coarse(), Some((u64::MAX - 7, u64::MAX - 3)));
    }
}
