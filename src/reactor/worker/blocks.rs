//! What becomes of each block that is trimmed (`block_error_percentiles`).

use super::reap::is_usual;
use super::*;
use crate::base::host::allocation::naming;
use crate::stats::{BlockCounts, BlockLife};
use crate::workload::Region;

/// The blocks of one worker's regions.
#[derive(Debug)]
pub(super) struct Blocks {
    block_bytes: u64,
    /// One after the other, as the targets are numbered: the region, and the first of its blocks.
    regions: Box<[(Region, usize)]>,
    lives: Box<[BlockLife]>,
}

/// How many blocks there are in a region, with the last one that may be cut short.
#[must_use]
pub fn blocks_in(region: &Region, block_bytes: u64) -> u64 {
    region.bytes.div_ceil(block_bytes.max(1))
}

impl Blocks {
    fn new(block_bytes: u64, regions: &[Region]) -> Blocks {
        let mut all = 0;
        let regions = regions.iter().map(|region| {
            let first = all;
            all += usize::try_from(blocks_in(region, block_bytes)).unwrap_or(usize::MAX);
            (*region, first)
        });
        let regions = regions.collect();
        let lives =
            naming("to watch blocks (block_error_percentiles)", || vec![BlockLife::default(); all].into());
        Blocks { block_bytes: block_bytes.max(1), regions, lives }
    }

    /// The blocks that these bytes touch.
    fn touched(&mut self, target: u16, offset: u64, len: u32) -> &mut [BlockLife] {
        let number = |(first, _): &(Region, usize)| usize::from(target.wrapping_sub(first.target));
        let found = self.regions.first().map(number).and_then(|number| self.regions.get(number));
        let Some((region, first)) = found.filter(|(region, _)| offset >= region.start && len > 0) else {
            return &mut [];
        };
        let block =
            |byte: u64| usize::try_from((byte - region.start) / self.block_bytes).unwrap_or(usize::MAX);
        let (from, to) = (first + block(offset), first + block(offset + u64::from(len) - 1));
        self.lives.get_mut(from..=to).unwrap_or_default()
    }

    /// What became of them.
    pub(super) fn counts(&self) -> Box<BlockCounts> {
        Box::new(BlockCounts::of(&self.lives))
    }
}

impl<Q: Queue> Worker<Q> {
    /// Watches what becomes of each block of `block_bytes` in the worker's regions: how often it is
    /// trimmed, and whether a trim or a write of it fails.
    pub fn watch_blocks(&mut self, block_bytes: u64, regions: &[Region]) {
        self.blocks = Some(Box::new(Blocks::new(block_bytes, regions)));
        self.sees_each = true;
    }

    /// Counts the trims that ended well. As in fio, those of the ramp are left out.
    #[cold]
    pub(super) fn count_trims(&mut self, done: &[Completion]) {
        let Some(blocks) = self.blocks.as_mut().filter(|_| self.counting) else { return };
        for completion in done.iter().filter(|completion| is_usual(completion)) {
            let Io { op, target, offset, len, ref buffer, .. } = completion.io;
            if op == Op::Deallocate && !self.lost[buffer.id() as usize] {
                blocks.touched(target, offset, len).iter_mut().for_each(BlockLife::trim);
            }
        }
    }

    /// A trim or a write has failed.
    #[cold]
    pub(super) fn block_failed(&mut self, (op, target, offset, len): (Op, u16, u64, u32)) {
        let Some(blocks) = &mut self.blocks else { return };
        if matches!(op, Op::Write | Op::Deallocate) {
            let touched = blocks.touched(target, offset, len).iter_mut();
            touched.for_each(|block| block.fail(op == Op::Deallocate));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::BlockState;

    #[test]
    fn ios_touch_the_blocks_of_their_own_region_and_no_others() {
        let region = |target, start, bytes| Region { target, start, bytes };
        let mut blocks = Blocks::new(4096, &[region(3, 8192, 10_000), region(4, 0, 8192)]);
        assert_eq!(blocks.lives.len(), 3 + 2);
        blocks.touched(3, 8192, 4096).iter_mut().for_each(BlockLife::trim);
        blocks.touched(3, 8192 + 4095, 2).iter_mut().for_each(|block| block.fail(false));
        blocks.touched(4, 4096, 4096).iter_mut().for_each(BlockLife::trim);
        let states: Vec<BlockState> = blocks.lives.iter().map(|life| life.state()).collect();
        use BlockState::{Trimmed, Untouched, WriteFailed};
        assert_eq!(states, [WriteFailed, WriteFailed, Untouched, Untouched, Trimmed]);
        for (target, offset, len) in [(3, 4096, 4096), (4, 8192, 1), (2, 0, 1), (5, 0, 1), (4, 0, 0)] {
            assert!(blocks.touched(target, offset, len).is_empty(), "{target} {offset} {len}");
        }
        assert_eq!(blocks.counts().used(), 3);
    }
}
