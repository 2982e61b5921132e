//! How a region is cut into pieces: each piece is one I/O of a pass.
//!
//! A region is a row of equal *cells*. With one block size a cell is one piece. With several, a
//! cell holds every length as often as its share says, in a shuffled order that is the same for all
//! cells of a pass: so shares are exact, nothing is cut short, and both "where is piece i" and
//! "which piece holds this byte" need no memory that grows with the region. What is left at the end
//! and holds no whole cell takes pieces of the same row as far as they fit, then the smallest ones.

use crate::base::permutation::Permutation;
use crate::base::shape::BlockSizes;

/// Most pieces a cell may have: ranges with more lengths than this use evenly spaced ones.
const CELL_PIECES: u32 = 4096;

/// The pieces of one region.
#[derive(Clone, Debug)]
pub struct Pieces {
    region_bytes: u64,
    /// Lengths of a cell's pieces, in order of the job's sizes.
    sizes: Box<[u32]>,
    /// The same, in this pass's order.
    row: Box<[u32]>,
    /// Where each piece of the row begins in its cell; one more entry with the length of the cell.
    starts: Box<[u64]>,
    smallest: u32,
    /// Where all pieces are alike, the distance from one to the next; else 0.
    only_stride: u64,
    align: u64,
    hole: u64,
    cells: u64,
    tail_row: u64,
    tail_small: u64,
}

impl Pieces {
    /// Cuts `region_bytes` into pieces of `sizes`. Each begins at a multiple of `align` (0 or 1 for
    /// none) and is followed by at least `hole` bytes that belong to no piece. `key` shuffles.
    #[must_use]
    pub fn new(region_bytes: u64, sizes: &BlockSizes, align: u64, hole: u64, key: u64) -> Pieces {
        let sizes = cell_sizes(sizes).into_boxed_slice();
        let smallest = sizes.iter().copied().min().unwrap_or(1);
        let mut pieces = Pieces {
            region_bytes,
            row: sizes.clone(),
            starts: vec![0; sizes.len() + 1].into_boxed_slice(),
            sizes,
            smallest,
            only_stride: 0,
            align: align.max(1),
            hole,
            cells: 0,
            tail_row: 0,
            tail_small: 0,
        };
        pieces.shuffle(key);
        if pieces.row.len() == 1 {
            pieces.only_stride = pieces.starts[1];
        }
        pieces
    }

    /// Puts the lengths into the order that `key` names: a new pass. Allocates nothing.
    pub fn shuffle(&mut self, key: u64) {
        let order = Permutation::new(key, self.sizes.len() as u64);
        let mut start = 0;
        for index in 0..self.sizes.len() {
            let size = self.sizes[to_index(order.at(index as u64))];
            self.row[index] = size;
            self.starts[index] = start;
            start = start.saturating_add(self.stride(size));
        }
        self.starts[self.sizes.len()] = start;
        self.cells = self.region_bytes / start;
        let left = self.region_bytes - self.cells * start;
        let fits = |index: &usize| self.starts[*index].saturating_add(u64::from(self.row[*index])) <= left;
        let tail_row = (0..self.row.len()).take_while(fits).count();
        let left = left.saturating_sub(self.starts[tail_row]);
        self.tail_row = tail_row as u64;
        self.tail_small = if left < u64::from(self.smallest) {
            0
        } else {
            (left - u64::from(self.smallest)) / self.stride(self.smallest) + 1
        };
    }

    /// How many pieces there are in this pass.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.cells * self.row.len() as u64 + self.tail_row + self.tail_small
    }

    /// Offset in the region and length of piece `index`, which must be below `count()`.
    #[inline(always)]
    #[must_use]
    pub fn at(&self, index: u64) -> (u64, u32) {
        if self.only_stride > 0 { (index * self.only_stride, self.smallest) } else { self.at_mixed(index) }
    }

    #[inline(never)]
    fn at_mixed(&self, index: u64) -> (u64, u32) {
        let width = self.row.len() as u64;
        let (cell, place) = (index / width, index % width);
        let cell_start = cell * self.starts[self.row.len()];
        if cell < self.cells || (cell == self.cells && place < self.tail_row) {
            let place = to_index(place);
            return (cell_start + self.starts[place], self.row[place]);
        }
        let small = index - self.cells * width - self.tail_row;
        let tail = self.cells * self.starts[self.row.len()] + self.starts[to_index(self.tail_row)];
        (tail + small * self.stride(self.smallest), self.smallest)
    }

    /// The piece that holds byte `offset` of the region; `None` in holes and behind the last piece.
    #[must_use]
    pub fn holding(&self, offset: u64) -> Option<u64> {
        if let Some(index) = offset.checked_div(self.only_stride) {
            let inside = offset - index * self.only_stride < u64::from(self.smallest);
            return (inside && index < self.count()).then_some(index);
        }
        let width = self.row.len() as u64;
        let cell_bytes = self.starts[self.row.len()];
        let cell = offset / cell_bytes;
        let within = offset % cell_bytes;
        let place = self.starts.partition_point(|&start| start <= within) as u64 - 1;
        let index = if cell < self.cells || place < self.tail_row {
            cell * width + place
        } else {
            let tail = self.starts[to_index(self.tail_row)];
            self.cells * width + self.tail_row + (within - tail) / self.stride(self.smallest)
        };
        if index >= self.count() {
            return None;
        }
        let (start, len) = self.at(index);
        (offset - start < u64::from(len)).then_some(index)
    }

    /// Where the piece that holds `offset` ends, with what belongs to no piece behind it as far as it
    /// is easily known.
    #[must_use]
    pub fn end_of(&self, offset: u64) -> u64 {
        if let Some(index) = offset.checked_div(self.only_stride) {
            return (index + 1).saturating_mul(self.only_stride);
        }
        self.holding(offset).map_or(offset + 1, |index| {
            let (start, len) = self.at(index);
            start + u64::from(len)
        })
    }

    /// Whether all pieces have one length: then they are the same in every pass.
    #[must_use]
    pub fn is_uniform(&self) -> bool {
        self.only_stride > 0
    }

    /// The length of all pieces, if it is one and they follow each other without a gap.
    #[must_use]
    pub fn only_length(&self) -> Option<u32> {
        (self.only_stride == u64::from(self.smallest)).then_some(self.smallest)
    }

    /// The lengths that there are, each once, rising.
    #[must_use]
    pub fn lengths(&self) -> Box<[u32]> {
        let mut lengths = self.sizes.to_vec();
        lengths.sort_unstable();
        lengths.dedup();
        lengths.into_boxed_slice()
    }

    /// The length that random bits choose, by share.
    #[inline]
    #[must_use]
    pub fn draw_size(&self, bits: u64) -> u32 {
        self.sizes[to_index(crate::base::random::below(bits, self.sizes.len() as u64))]
    }

    fn stride(&self, size: u32) -> u64 {
        (u64::from(size).div_ceil(self.align) * self.align).saturating_add(self.hole)
    }
}

/// The lengths of one cell, each as often as its share of the whole.
fn cell_sizes(sizes: &BlockSizes) -> Vec<u32> {
    match sizes {
        BlockSizes::Fixed(size) => vec![*size],
        BlockSizes::Unaligned { min, max } => {
            let lengths = u64::from(max - min) + 1;
            let picked = lengths.min(u64::from(CELL_PIECES));
            (0..picked)
                .map(|index| {
                    let spread = index * (lengths - 1) / (picked - 1).max(1);
                    min + u32::try_from(spread).unwrap_or(0)
                })
                .collect()
        }
        BlockSizes::Range { min, max } => {
            let lengths = max / min;
            let picked = lengths.min(CELL_PIECES);
            (0..u64::from(picked))
                .map(|index| {
                    let spread = index * u64::from(lengths - 1) / u64::from((picked - 1).max(1));
                    min * (1 + u32::try_from(spread).unwrap_or(0))
                })
                .collect()
        }
        BlockSizes::Split(list) => {
            let shares = list.iter().map(|&(_, share)| share).filter(|&share| share > 0);
            let common = shares.fold(0, gcd).max(1);
            list.iter().flat_map(|&(size, share)| vec![size; (share / common) as usize]).collect()
        }
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "indices into a cell of at most CELL_PIECES pieces")]
fn to_index(value: u64) -> usize {
    value as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_sizes() -> impl Strategy<Value = BlockSizes> {
        prop_oneof![
            (1_u32..5000).prop_map(BlockSizes::Fixed),
            (1_u32..600, 1_u32..40).prop_map(|(min, n)| BlockSizes::Range { min, max: min * n }),
            (1_u32..4000, 1_u32..4000, 1_u32..99)
                .prop_map(|(a, b, share)| BlockSizes::Split(vec![(a, share), (b, 100 - share)])),
        ]
    }

    proptest! {
        #[test]
        fn pieces_follow_each_other_without_overlap_and_leave_no_room_for_another(
            region in 0_u64..1_000_000, sizes in any_sizes(), key: u64,
        ) {
            let pieces = Pieces::new(region, &sizes, 0, 0, key);
            let mut end = 0;
            for index in 0..pieces.count() {
                let (offset, len) = pieces.at(index);
                prop_assert_eq!(offset, end);
                end = offset + u64::from(len);
            }
            prop_assert!(end <= region && region - end < u64::from(sizes.min()));
        }

        #[test]
        fn holes_and_alignment_are_kept(
            region in 0_u64..300_000, sizes in any_sizes(), align in 1_u64..5000, hole in 0_u64..5000, key: u64,
        ) {
            let pieces = Pieces::new(region, &sizes, align, hole, key);
            let mut least = 0;
            for index in 0..pieces.count() {
                let (offset, len) = pieces.at(index);
                prop_assert!(offset >= least && offset + u64::from(len) <= region);
                if hole == 0 {
                    prop_assert_eq!(offset % align, 0);
                }
                least = offset + u64::from(len) + hole;
            }
        }

        #[test]
        fn the_piece_that_holds_a_byte_is_found(
            region in 1_u64..300_000, sizes in any_sizes(), align in 1_u64..3000, hole in 0_u64..3000,
            key: u64, byte: u64,
        ) {
            let pieces = Pieces::new(region, &sizes, align, hole, key);
            let byte = byte % region;
            let naive = (0..pieces.count()).find(|&index| {
                let (offset, len) = pieces.at(index);
                (offset..offset + u64::from(len)).contains(&byte)
            });
            prop_assert_eq!(pieces.holding(byte), naive);
        }
    }

    #[test]
    fn shares_of_a_split_are_exact() {
        let sizes = BlockSizes::Split(vec![(512, 10), (4096, 60), (65536, 30)]);
        let pieces = Pieces::new(1 << 30, &sizes, 0, 0, 7);
        let mut seen = [0_u64; 3];
        for index in 0..pieces.cells * 10 {
            seen[match pieces.at(index).1 {
                512 => 0,
                4096 => 1,
                _ => 2,
            }] += 1;
        }
        assert_eq!(seen[1], 6 * seen[0]);
        assert_eq!(seen[2], 3 * seen[0]);
    }

    #[test]
    fn a_range_has_every_multiple_of_its_minimum() {
        let pieces = Pieces::new(1 << 20, &BlockSizes::Range { min: 1024, max: 4096 }, 0, 0, 1);
        let mut row: Vec<u32> = (0..4).map(|index| pieces.at(index).1).collect();
        row.sort_unstable();
        assert_eq!(row, [1024, 2048, 3072, 4096]);
    }

    #[test]
    fn a_region_of_more_than_2_to_the_32_blocks_ends_where_it_should() {
        let pieces = Pieces::new(100 << 40, &BlockSizes::Fixed(512), 0, 0, 1);
        assert_eq!(pieces.count(), (100 << 40) / 512);
        assert_eq!(pieces.at(pieces.count() - 1), ((100 << 40) - 512, 512));
    }
}
