//! Where I/Os go beyond offset, size and distribution.

use super::JobSpec;
use crate::base::shape::{BlockSizes, Places, SpRandom, Strides};
use crate::base::verify::lengths;
use crate::base::{Op, PerOp};

/// Where I/Os go beyond offset, size and distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct PlacesSpec {
    /// `zonemode = "strided"`: one window of the region after the other.
    pub strided: bool,
    /// `zonesize`: bytes transferred before the next window's turn; 0 where it is not set.
    pub zonesize: u64,
    /// `zonerange`: bytes of a window; 0 for `zonesize`.
    pub zonerange: u64,
    /// `zoneskip`: bytes left alone between windows.
    pub zoneskip: u64,
    /// `random_generator`.
    pub generator: Generator,
    /// `random_sequence_stride`: a sequence of blocks moves on when it is over.
    pub sequence_stride: bool,
    /// `bs_unaligned`: lengths of a range are any number of bytes.
    pub bs_unaligned: bool,
    /// `bs_is_seq_rand`: sequential I/Os have the lengths of reads, random ones those of writes.
    pub bs_is_seq_rand: bool,
    /// `offset_align`: offsets that are shares of the target are rounded up to it, in bytes; 0 not.
    pub offset_align: u64,
    /// `rw_sequencer = "identical"`: a run of I/Os stays at its offset.
    pub identical: bool,
    /// `sprandom`: one pass that leaves a device as a long time of random writes would.
    pub sprandom: bool,
    /// `spr_op`: the device's over-provisioning, between 0 and 1.
    pub spr_op: f64,
    /// `spr_num_regions`: in how many parts it is written.
    pub spr_num_regions: u32,
    /// `spr_cs`: bytes of the device's cache.
    pub spr_cs: u64,
    /// `dedupe_mode`.
    pub dedupe_mode: DedupeMode,
    /// `dedupe_working_set_percentage`: percent of the region.
    pub dedupe_working_set: u32,
}

impl Default for PlacesSpec {
    fn default() -> PlacesSpec {
        PlacesSpec {
            strided: false,
            zonesize: 0,
            zonerange: 0,
            zoneskip: 0,
            generator: Generator::Tausworthe,
            sequence_stride: false,
            bs_unaligned: false,
            bs_is_seq_rand: false,
            offset_align: 0,
            identical: false,
            sprandom: false,
            spr_op: 0.15,
            spr_num_regions: 100,
            spr_cs: 0,
            dedupe_mode: DedupeMode::Repeat,
            dedupe_working_set: 5,
        }
    }
}

/// fio's `random_generator`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generator {
    /// `tausworthe`.
    Tausworthe,
    /// `tausworthe64`.
    Tausworthe64,
    /// `lfsr`: each block once, with or without a map.
    Lfsr,
}

/// fio's `dedupe_mode`: which earlier block a duplicate repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DedupeMode {
    /// The newest that was no duplicate.
    Repeat,
    /// Any of the first ones.
    WorkingSet,
}

impl PlacesSpec {
    /// The windows, if there are some.
    #[must_use]
    pub fn strides(&self) -> Option<Strides> {
        let range = if self.zonerange == 0 { self.zonesize } else { self.zonerange };
        let strides = Strides { amount: self.zonesize, range, skip: self.zoneskip };
        (self.strided && strides.amount > 0).then_some(strides)
    }
}

impl JobSpec {
    /// Where I/Os go beyond pattern, size and distribution.
    #[must_use]
    pub fn places(&self) -> Places {
        let places = &self.places;
        let rule = SpRandom {
            over_provisioning: places.spr_op,
            parts: places.spr_num_regions,
            cache_bytes: places.spr_cs,
        };
        Places {
            strides: places.strides(),
            identical: places.identical,
            sequential_sizes: self.mixes_orders().then(|| self.bs.read.clone()),
            sprandom: places.sprandom.then_some(rule),
        }
    }

    /// Whether `bs_is_seq_rand` has both kinds of I/Os to tell apart. Where there is only one kind, `bs`
    /// is that kind's already.
    fn mixes_orders(&self) -> bool {
        let jumps = self.percentage_random.iter().all(|(_, &percent)| percent == 100);
        let runs = self.rw_modifier.is_some_and(|run| run > 1);
        self.places.bs_is_seq_rand && self.random && (!jumps || runs)
    }

    /// The lengths of the I/Os of `op`; with `bs_is_seq_rand`, of those that jump.
    #[must_use]
    pub fn sizes_of(&self, op: Op) -> &BlockSizes {
        if self.mixes_orders() { &self.bs.write } else { self.bs.get(op) }
    }

    /// All lengths that I/Os of `op` may have.
    pub fn all_sizes_of(&self, op: Op) -> impl Iterator<Item = &BlockSizes> {
        let sequential = self.mixes_orders().then_some(&self.bs.read);
        std::iter::once(self.sizes_of(op)).chain(sequential)
    }

    /// Whether each block comes once a pass where offsets are random and nothing else is said.
    #[must_use]
    pub fn covers(&self) -> bool {
        !self.norandommap || self.places.generator == Generator::Lfsr
    }

    /// What blocks of the verification must divide.
    #[must_use]
    pub fn lengths(&self) -> Vec<u64> {
        let sizes = PerOp::from_fn(|op| self.sizes_of(op).clone());
        let mut all = lengths(self.mix, self.random, &sizes, &self.blockalign, self.rw_modifier);
        if self.mixes_orders() {
            all.extend(lengths(self.mix, false, &PerOp::all(self.bs.read.clone()), &self.blockalign, None));
        }
        all.extend(self.places.strides().map(|strides| strides.step()));
        all
    }

    /// Fills in what follows from other options: which lengths I/Os have, how a sequence goes on.
    pub(crate) fn finish_places(&mut self) {
        use crate::base::shape::Distribution;
        if self.places.bs_unaligned {
            for (_, sizes) in self.bs.iter_mut() {
                if let BlockSizes::Range { min, max } = *sizes {
                    *sizes = BlockSizes::Unaligned { min, max };
                }
            }
        }
        if self.places.bs_is_seq_rand && !self.mixes_orders() {
            let only = if self.random { &self.bs.write } else { &self.bs.read };
            self.bs = PerOp::all(only.clone());
        }
        for (_, distribution) in self.random_distribution.iter_mut() {
            if let Distribution::Sequence { strides, .. } = distribution {
                *strides = self.places.sequence_stride;
            }
        }
    }
}
