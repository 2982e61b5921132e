//! Which I/O touched a block last, where offsets repeat: the workload is gone through once, into eight
//! bytes a block; where few blocks of many are touched, into a map of those alone. What may not have happened does not overwrite: it is put aside,
//! with a mark at the block.

use std::collections::BTreeMap;

use crate::base::Op;

use super::super::{Region, Step};
use super::{Ahead, Mutation, Mutations, Touched, region_of};

/// Marks an entry above which something was put aside.
const MARK: u64 = 2;

/// Bytes of a block's entry in a map, with what the map takes for itself.
const MAP_BYTES: u64 = 32;

/// The entries of a region's blocks; 0 where there is none.
#[derive(Clone, Debug)]
enum Entries {
    All(Box<[u64]>),
    Few { map: BTreeMap<u64, u64>, blocks: u64 },
}

impl Entries {
    /// Of `blocks` blocks, that are touched at most `touches` times in all.
    fn new(blocks: u64, touches: u64) -> Option<Entries> {
        if touches.saturating_mul(MAP_BYTES) < blocks.saturating_mul(8) {
            return Some(Entries::Few { map: BTreeMap::new(), blocks });
        }
        Some(Entries::All(vec![0; usize::try_from(blocks).ok()?].into_boxed_slice()))
    }

    fn blocks(&self) -> u64 {
        match self {
            Entries::All(all) => all.len() as u64,
            Entries::Few { blocks, .. } => *blocks,
        }
    }

    /// The entry of a block of the region, to be changed.
    fn entry(&mut self, block: u64) -> Option<&mut u64> {
        match self {
            Entries::All(all) => usize::try_from(block).ok().and_then(|at| all.get_mut(at)),
            Entries::Few { map, blocks } => (block < *blocks).then(|| map.entry(block).or_insert(0)),
        }
    }

    fn get(&self, block: u64) -> u64 {
        let entry = match self {
            Entries::All(all) => usize::try_from(block).ok().and_then(|at| all.get(at)),
            Entries::Few { map, .. } => map.get(&block),
        };
        entry.copied().unwrap_or(0)
    }

    /// The first block with an entry, from `from` on and before `end`.
    fn next(&self, from: u64, end: u64) -> Option<u64> {
        let end = end.min(self.blocks());
        let from = from.min(end);
        match self {
            Entries::All(all) => {
                let at = |block: u64| usize::try_from(block).unwrap_or(all.len());
                let found = all[at(from)..at(end)].iter().position(|&entry| entry != 0)?;
                Some(from + found as u64)
            }
            Entries::Few { map, .. } => map.range(from..end).next().map(|(&block, _)| block),
        }
    }
}

/// The newest settled mutation of every block.
#[derive(Clone, Debug)]
pub(super) struct Replay {
    mutations: Mutations,
    regions: Box<[Region]>,
    block_bytes: u64,
    packing: Packing,
    entries: Box<[Entries]>,
    /// Those that may not have happened, by command, rising; each as far as it was reached.
    unsettled: [Sorted; 2],
    aside: Vec<Aside>,
    ready: bool,
    /// Why the mutations ended too soon.
    trouble: Option<String>,
}

/// One block of a mutation that may not have happened.
#[derive(Clone, Copy, Debug)]
struct Aside {
    region: usize,
    block: u64,
    packed: u64,
    /// Nothing below it was put aside since the block's entry was written.
    lowest: bool,
}

#[derive(Clone, Debug, Default)]
struct Sorted {
    sequences: Vec<u64>,
    reached: usize,
}

impl Sorted {
    /// Whether `sequence`, which never falls from call to call, is in the list.
    fn holds(&mut self, sequence: u64) -> bool {
        while self.sequences.get(self.reached).is_some_and(|&at| at < sequence) {
            self.reached += 1;
        }
        self.sequences.get(self.reached) == Some(&sequence)
    }
}

/// A mutation in eight bytes: command, mark, which block of the I/O this is, which of the job's
/// lengths, and one more than the sequence, so that 0 is a block that nothing touched.
#[derive(Clone, Debug)]
struct Packing {
    lengths: Box<[u32]>,
    length_shift: u32,
    sequence_shift: u32,
}

impl Packing {
    fn new(lengths: Box<[u32]>, block_bytes: u64) -> Packing {
        let bits = |values: u64| 64 - values.saturating_sub(1).leading_zeros();
        let longest = u64::from(lengths.iter().copied().max().unwrap_or(0));
        let length_shift = 2 + bits(longest.div_ceil(block_bytes));
        let sequence_shift = length_shift + bits(lengths.len() as u64);
        Packing { lengths, length_shift, sequence_shift }
    }

    fn pack(&self, step: &Step) -> u64 {
        let length = self.lengths.partition_point(|&len| len < step.len) as u64;
        let op = u64::from(step.op == Op::Deallocate);
        ((step.sequence + 1) << self.sequence_shift) | (length << self.length_shift) | op
    }

    /// `packed` for the block of the same I/O that is `blocks` further on.
    fn further(packed: u64, blocks: u64) -> u64 {
        packed + (blocks << 2)
    }

    fn unpack(&self, packed: u64, block_at: u64, block_bytes: u64) -> Option<Mutation> {
        let sequence = (packed >> self.sequence_shift).checked_sub(1)?;
        let field = |from: u32, to: u32| (packed >> from) & ((1 << (to - from)) - 1);
        let length = usize::try_from(field(self.length_shift, self.sequence_shift)).unwrap_or(0);
        Some(Mutation {
            op: if packed & 1 == 1 { Op::Deallocate } else { Op::Write },
            sequence,
            offset: block_at - field(2, self.length_shift) * block_bytes,
            len: self.lengths[length],
        })
    }
}

impl Replay {
    /// `None` if an entry has no room for the sequences of so many I/Os.
    pub(super) fn new(
        mutations: Mutations,
        regions: &[Region],
        lengths: Box<[u32]>,
        block_bytes: u64,
        unsettled: &[(Op, u64)],
    ) -> Option<Replay> {
        let packing = Packing::new(lengths, block_bytes);
        let most = mutations.issued().writes.max(mutations.issued().trims);
        if most >= u64::MAX >> packing.sequence_shift {
            return None;
        }
        let of = |op: Op| {
            let mut sequences: Vec<u64> =
                unsettled.iter().filter(|(which, _)| *which == op).map(|(_, sequence)| *sequence).collect();
            sequences.sort_unstable();
            Sorted { sequences, reached: 0 }
        };
        let issued = mutations.issued().writes.saturating_add(mutations.issued().trims);
        let longest = u64::from(packing.lengths.iter().copied().max().unwrap_or(0)).div_ceil(block_bytes);
        let touches = issued.saturating_mul(longest);
        let entries = regions.iter().map(|region| Entries::new(region.bytes.div_ceil(block_bytes), touches));
        let entries = entries.collect::<Option<Vec<Entries>>>()?;
        Some(Replay {
            mutations,
            regions: regions.into(),
            block_bytes,
            packing,
            entries: entries.into(),
            unsettled: [of(Op::Write), of(Op::Deallocate)],
            aside: Vec::new(),
            ready: false,
            trouble: None,
        })
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Goes on; a step is an I/O, or eight blocks of a long one.
    pub(super) fn prepare(&mut self, budget: u64) -> bool {
        let mut left = budget;
        let mut hint = 0;
        while !self.ready && left > 0 {
            let step = match self.mutations.look() {
                Ahead::Step(step) => step,
                Ahead::Later => break,
                ended => {
                    self.aside.sort_by_key(|aside| (aside.region, aside.block));
                    self.ready = true;
                    if let Ahead::Failed(why) = ended {
                        self.trouble = Some(why);
                    }
                    break;
                }
            };
            hint = (hint + 1) % self.regions.len();
            if let Some(region) = region_of(&self.regions, hint, step.target, step.offset) {
                hint = region;
                self.apply(region, &step);
            }
            left = left.saturating_sub(1 + u64::from(step.len) / (8 * self.block_bytes));
        }
        self.ready
    }

    fn apply(&mut self, region: usize, step: &Step) {
        let unsettled = self.unsettled[usize::from(step.op == Op::Deallocate)].holds(step.sequence);
        let first = (step.offset - self.regions[region].start) / self.block_bytes;
        let count = u64::from(step.len).div_ceil(self.block_bytes);
        let packed = self.packing.pack(step);
        let entries = &mut self.entries[region];
        for further in 0..count {
            let block = first + further;
            let Some(entry) = entries.entry(block) else { return };
            let packed = Packing::further(packed, further);
            if unsettled {
                let lowest = *entry & MARK == 0;
                self.aside.push(Aside { region, block, packed, lowest });
                *entry |= MARK;
            } else {
                *entry = packed;
            }
        }
    }

    /// What touched the block, newest first: what may not have happened, then what has.
    fn chain(&self, region: usize, block: u64) -> impl Iterator<Item = Mutation> + '_ {
        let entry = self.entries[region].get(block);
        let end = if entry & MARK == 0 {
            0
        } else {
            self.aside.partition_point(|aside| (aside.region, aside.block) <= (region, block))
        };
        let mut open = true;
        let aside = self.aside[..end].iter().rev().take_while(move |aside| {
            let was = open;
            open = open && !aside.lowest;
            was
        });
        let at = self.regions[region].start + block * self.block_bytes;
        aside
            .map(|aside| aside.packed)
            .chain([entry])
            .filter_map(move |packed| self.packing.unpack(packed, at, self.block_bytes))
    }

    pub(super) fn newest(&self, region: usize, offset: u64) -> Option<Mutation> {
        self.all(region, offset).next()
    }

    /// All that touched a block, newest first, down to the newest that has happened for sure.
    pub(super) fn all(&self, region: usize, offset: u64) -> impl Iterator<Item = Mutation> + '_ {
        self.chain(region, offset / self.block_bytes)
    }

    pub(super) fn older(&self, region: usize, offset: u64, than: &Mutation) -> Option<Mutation> {
        let mut chain = self.chain(region, offset / self.block_bytes);
        chain.find(|mutation| (mutation.op, mutation.sequence) == (than.op, than.sequence))?;
        chain.next()
    }

    /// The first touched block of the region that begins at `from` or behind it and before `end`.
    pub(super) fn next_touched(&self, region: usize, from: u64, end: u64) -> Option<Touched> {
        let block = |offset: u64| offset.div_ceil(self.block_bytes);
        let offset = self.entries[region].next(block(from), block(end))? * self.block_bytes;
        let newest = self.newest(region, offset)?;
        Some(Touched { offset: self.regions[region].start + offset, newest })
    }
}
