//! The short way for the commonest job: writes of one length in one region, each place once a pass.
//! A judge that reads a drive back asks once a block, millions of times a second.

use crate::base::Op;
use crate::base::permutation::Inverse;

use super::super::Region;
use super::Mutation;

/// The two newest passes over one region of equal pieces without holes.
#[derive(Clone, Debug)]
pub(super) struct Single {
    pub region: Region,
    pub len: u32,
    pub count: u64,
    /// Order and first write of the newest pass, and how many of its writes were issued.
    pub newest: Inverse,
    pub base: u64,
    pub of_newest: u64,
    /// The pass before, if there was one.
    pub second: Option<Inverse>,
}

impl Single {
    /// The newest write of byte `offset` of the region.
    #[inline]
    pub(super) fn newest(&self, offset: u64) -> Option<Mutation> {
        let len = u64::from(self.len);
        // A shift where it can be: a division takes as long as the rest.
        let piece = if len.is_power_of_two() { offset >> len.trailing_zeros() } else { offset / len };
        if piece >= self.count {
            return None;
        }
        let turn = self.newest.at(piece);
        let sequence = if turn < self.of_newest {
            self.base + turn
        } else {
            let second = self.second.as_ref()?;
            self.base - self.count + second.at(piece)
        };
        let offset = self.region.start + piece * len;
        Some(Mutation { op: Op::Write, sequence, offset, len: self.len })
    }

    /// Given that `offset` begins a piece: the first byte at or behind it, below `end`, that begins
    /// a piece that was written. While the first pass lasts most pieces may not have been.
    pub(super) fn next_written(&self, offset: u64, end: u64) -> Option<u64> {
        let len = u64::from(self.len);
        let pieces = offset.div_ceil(len)..end.div_ceil(len).min(self.count);
        let mut written =
            pieces.filter(|&piece| self.second.is_some() || self.newest.at(piece) < self.of_newest);
        written.next().map(|piece| piece * len)
    }
}
