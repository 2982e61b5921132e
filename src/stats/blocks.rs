//! How often blocks were trimmed until they failed (fio's `block_error_percentiles`).

use std::collections::BTreeMap;

/// What became of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockState {
    /// No trim of it ended well, and nothing failed.
    Untouched,
    /// It was trimmed, and nothing failed.
    Trimmed,
    /// A trim was the first that failed.
    TrimFailed,
    /// A write was.
    WriteFailed,
}

/// One block: its state, and the trims that ended well before anything failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockLife(u32);

impl BlockLife {
    const SHIFT: u32 = 30;
    const MOST_TRIMS: u32 = (1 << BlockLife::SHIFT) - 1;

    /// What became of it so far.
    #[must_use]
    pub fn state(self) -> BlockState {
        match self.0 >> BlockLife::SHIFT {
            0 => BlockState::Untouched,
            1 => BlockState::Trimmed,
            2 => BlockState::TrimFailed,
            _ => BlockState::WriteFailed,
        }
    }

    /// How many trims ended well, up to 2^30 - 1.
    #[must_use]
    pub fn trims(self) -> u32 {
        self.0 & BlockLife::MOST_TRIMS
    }

    fn has_failed(self) -> bool {
        self.state() >= BlockState::TrimFailed
    }

    /// A trim ended well. What has failed once stays as it was then.
    pub fn trim(&mut self) {
        if !self.has_failed() {
            self.0 = 1 << BlockLife::SHIFT | (self.trims() + 1).min(BlockLife::MOST_TRIMS);
        }
    }

    /// A trim failed, or else a write.
    pub fn fail(&mut self, by_trim: bool) {
        if !self.has_failed() {
            self.0 = (if by_trim { 2 } else { 3 }) << BlockLife::SHIFT | self.trims();
        }
    }
}

/// How many blocks came to which end after how many trims.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockCounts {
    /// In fio's order: untouched blocks, good ones, failed ones; each by their trims.
    by_end: BTreeMap<(End, u32, BlockState), u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Untouched,
    Good,
    Failed,
}

fn end(state: BlockState) -> End {
    match state {
        BlockState::Untouched => End::Untouched,
        BlockState::Trimmed => End::Good,
        BlockState::TrimFailed | BlockState::WriteFailed => End::Failed,
    }
}

impl BlockCounts {
    /// The counts of these blocks.
    #[must_use]
    pub fn of(lives: &[BlockLife]) -> BlockCounts {
        let mut counts = BlockCounts::default();
        // Neighbours are mostly alike.
        for alike in lives.chunk_by(PartialEq::eq) {
            let key = (end(alike[0].state()), alike[0].trims(), alike[0].state());
            *counts.by_end.entry(key).or_default() += alike.len() as u64;
        }
        counts
    }

    /// The counts of these: state, trims, blocks. Those of one state and number of trims are added up.
    ///
    /// # Errors
    /// If a block had more trims than are counted, or there are more than 2^64 blocks.
    pub fn from_entries(
        entries: impl IntoIterator<Item = (BlockState, u32, u64)>,
    ) -> Result<BlockCounts, String> {
        let (mut counts, mut all) = (BlockCounts::default(), 0_u64);
        for (state, trims, blocks) in entries {
            if trims > BlockLife::MOST_TRIMS {
                return Err(format!("a block with {trims} trims: {} are counted", BlockLife::MOST_TRIMS));
            }
            all = all.checked_add(blocks).ok_or("more than 2^64 blocks")?;
            *counts.by_end.entry((end(state), trims, state)).or_default() += blocks;
        }
        Ok(counts)
    }

    /// All counts: state, trims, blocks.
    pub fn entries(&self) -> impl Iterator<Item = (BlockState, u32, u64)> {
        self.by_end.iter().map(|((_, trims, state), blocks)| (*state, *trims, *blocks))
    }

    /// Adds the blocks of another worker.
    pub fn merge(&mut self, other: &BlockCounts) {
        for (key, blocks) in &other.by_end {
            *self.by_end.entry(*key).or_default() += blocks;
        }
    }

    /// How many blocks are in this state.
    #[must_use]
    pub fn in_state(&self, state: BlockState) -> u64 {
        self.by_end.iter().filter(|((_, _, is), _)| *is == state).map(|(_, blocks)| blocks).sum()
    }

    /// How many were trimmed or have failed.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.by_end.values().sum::<u64>() - self.in_state(BlockState::Untouched)
    }

    /// The trims of the block below which `percent` of the used ones lie, the failed ones last, as
    /// in fio; `None` if no block was used.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "fio's arithmetic; counts of blocks are far below 2^53"
    )]
    pub fn percentile(&self, percent: f64) -> Option<u32> {
        let last = self.used().checked_sub(1)?;
        self.nth(End::Good, ((percent * self.used() as f64 / 100.0) as u64).min(last))
    }

    /// Fewest, median and most trims of the blocks that have failed, if any have.
    #[must_use]
    pub fn failed_after(&self) -> Option<(u32, u32, u32)> {
        let failed = self.in_state(BlockState::TrimFailed) + self.in_state(BlockState::WriteFailed);
        let last = failed.checked_sub(1)?;
        Some((self.nth(End::Failed, 0)?, self.nth(End::Failed, last / 2)?, self.nth(End::Failed, last)?))
    }

    /// The trims of the block with this number among those that came to `from` or a later end.
    fn nth(&self, from: End, mut number: u64) -> Option<u32> {
        for ((_, trims, _), &blocks) in self.by_end.iter().filter(|((end, _, _), _)| *end >= from) {
            if number < blocks {
                return Some(*trims);
            }
            number -= blocks;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(trims: u32, failed_by_trim: Option<bool>) -> BlockLife {
        let mut life = BlockLife::default();
        (0..trims).for_each(|_| life.trim());
        failed_by_trim.into_iter().for_each(|by_trim| life.fail(by_trim));
        life
    }

    #[test]
    fn what_has_failed_once_stays_as_it_was_then() {
        let mut block = life(3, Some(false));
        block.trim();
        block.fail(true);
        assert_eq!((block.state(), block.trims()), (BlockState::WriteFailed, 3));
        let block = life(0, Some(true));
        assert_eq!((block.state(), block.trims()), (BlockState::TrimFailed, 0));
        let mut most = BlockLife(1 << BlockLife::SHIFT | BlockLife::MOST_TRIMS);
        most.trim();
        assert_eq!((most.state(), most.trims()), (BlockState::Trimmed, BlockLife::MOST_TRIMS));
    }

    #[test]
    fn percentiles_are_of_used_blocks_with_the_failed_ones_last() {
        // Ten used blocks: 8 good ones with 1 to 8 trims, two failed ones after 0 and 2.
        let mut lives: Vec<BlockLife> = (1..=8).map(|trims| life(trims, None)).collect();
        lives.extend([life(2, Some(false)), life(0, Some(true)), life(0, None), life(0, None)]);
        let counts = BlockCounts::of(&lives);
        assert_eq!(counts.used(), 10);
        assert_eq!(counts.in_state(BlockState::Untouched), 2);
        let trims = [0.0, 1.0, 10.0, 79.9, 80.0, 90.0, 100.0].map(|percent| counts.percentile(percent));
        assert_eq!(trims, [1, 1, 2, 8, 0, 2, 2].map(Some));
        assert_eq!(counts.failed_after(), Some((0, 0, 2)));
    }

    #[test]
    fn blocks_of_several_workers_add_up_and_unused_ones_have_no_percentiles() {
        let mut counts = BlockCounts::of(&[BlockLife::default(); 3]);
        assert_eq!((counts.percentile(50.0), counts.failed_after()), (None, None));
        counts.merge(&BlockCounts::of(&[life(4, None), life(4, Some(true))]));
        assert_eq!((counts.used(), counts.percentile(50.0)), (2, Some(4)));
        assert_eq!(counts.failed_after(), Some((4, 4, 4)));
    }
}
