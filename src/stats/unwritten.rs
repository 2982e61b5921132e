//! Blocks of an audit that nobody known has written, as merged ranges of offsets: whether they are
//! violations is known only when all of the job's region was read.

use std::collections::BTreeMap;

/// Ranges kept; blocks beyond are counted without a place.
const MOST_RANGES: usize = 4096;

/// What is stored in a block that was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filled {
    /// Bytes of 0.
    Zeros,
    /// Bytes of 0xff.
    Ones,
    /// Anything else.
    Other,
}

impl Filled {
    /// All of them, in the order of [`Unwritten::counts`].
    pub const ALL: [Filled; 3] = [Filled::Zeros, Filled::Ones, Filled::Other];
}

/// Neighbouring blocks with the same filling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnwrittenRange {
    /// Which of the worker's targets.
    pub target: u16,
    /// Byte offset of the first block on the target.
    pub start: u64,
    /// Byte offset behind the last block.
    pub end: u64,
    /// What is stored there.
    pub filled: Filled,
}

/// The blocks of one worker's audit that were not written. Memory is bounded; the counts are exact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unwritten {
    /// By target and start: end and filling.
    ranges: BTreeMap<(u16, u64), (u64, Filled)>,
    /// Blocks by filling, in the order of [`Filled::ALL`].
    pub counts: [u64; 3],
}

impl Unwritten {
    /// Adds `blocks` blocks, all those of a range.
    pub fn add(&mut self, range: UnwrittenRange, blocks: u64) {
        let UnwrittenRange { target, mut start, mut end, filled } = range;
        self.counts[filled as usize] += blocks;
        if let Some(&(behind, what)) = self.ranges.get(&(target, end))
            && what == filled
        {
            self.ranges.remove(&(target, end));
            end = behind;
        }
        if let Some((&(of, from), &(to, what))) = self.ranges.range(..=(target, start)).next_back()
            && of == target
            && what == filled
            && to >= start
        {
            (start, end) = (from, end.max(to));
        }
        if self.ranges.len() < MOST_RANGES || self.ranges.contains_key(&(target, start)) {
            self.ranges.insert((target, start), (end, filled));
        }
    }

    /// How many blocks there were.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The ranges that were kept, by target and offset.
    pub fn ranges(&self) -> impl Iterator<Item = UnwrittenRange> + '_ {
        self.ranges.iter().map(|(&(target, start), &(end, filled))| UnwrittenRange {
            target,
            start,
            end,
            filled,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BLOCK: u64 = 4096;

    fn block(number: u64, filled: Filled) -> UnwrittenRange {
        UnwrittenRange { target: 0, start: number * BLOCK, end: (number + 1) * BLOCK, filled }
    }

    proptest! {
        #[test]
        fn blocks_in_any_order_become_the_fewest_ranges(fillings in prop::collection::vec(0_usize..4, 1..60)) {
            let mut order: Vec<usize> = (0..fillings.len()).collect();
            order.sort_by_key(|at| at * 37 % 61);
            let mut unwritten = Unwritten::default();
            for at in order.into_iter().filter(|&at| fillings[at] < 3) {
                unwritten.add(block(at as u64, Filled::ALL[fillings[at]]), 1);
            }
            let mut expected: Vec<UnwrittenRange> = Vec::new();
            for (at, &filled) in fillings.iter().enumerate().filter(|(_, filled)| **filled < 3) {
                let one = block(at as u64, Filled::ALL[filled]);
                match expected.last_mut().filter(|last| last.end == one.start && last.filled == one.filled) {
                    Some(last) => last.end = one.end,
                    None => expected.push(one),
                }
            }
            prop_assert_eq!(unwritten.ranges().collect::<Vec<_>>(), expected);
            let written = fillings.iter().filter(|filled| **filled == 3).count();
            prop_assert_eq!(unwritten.blocks(), (fillings.len() - written) as u64);
        }
    }

    #[test]
    fn memory_is_bounded_and_counts_are_exact() {
        let mut unwritten = Unwritten::default();
        for number in 0..100_000 {
            unwritten.add(block(number * 2, Filled::Zeros), 1);
        }
        assert_eq!((unwritten.ranges().count(), unwritten.blocks()), (MOST_RANGES, 100_000));
    }
}
