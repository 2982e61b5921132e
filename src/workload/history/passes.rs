//! Which visit of a stream without repeats held a byte: computed backwards, not remembered.
//!
//! A pass is a numbering of the pieces of every region. To find the visits of a byte, newest first,
//! ask each pass from the newest down which piece holds the byte and when that piece came. What is
//! kept of a pass is its keys and one row of pieces a region, for three passes: the two newest,
//! where nearly every question ends, and the one below them that was asked for last.

use crate::base::permutation::Inverse;

use super::super::Region;
use super::super::stream::{Order, RegionStream, Stream};

use super::single::Single;

/// One visit of a byte: the `index`-th I/O of the stream, as it lies on the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Visit {
    pub index: u64,
    pub offset: u64,
    pub len: u32,
}

/// The first `issued` I/Os of a stream without repeats.
#[derive(Clone, Debug)]
pub(super) struct Passes {
    issued: u64,
    /// One length: all passes have the same pieces, so any pass is found by a division.
    uniform: bool,
    ready: bool,
    newest: Pass,
    second: Pass,
    deep: Pass,
}

/// One pass over all regions.
#[derive(Clone, Debug)]
struct Pass {
    number: u64,
    /// I/Os of all passes before.
    base: u64,
    total: u64,
    /// All regions have as many pieces: they take turns to the end.
    even: bool,
    /// I/Os of a turn.
    run: u64,
    regions: Box<[RegionPass]>,
}

#[derive(Clone, Debug)]
struct RegionPass {
    stream: RegionStream,
    order: Back,
}

/// When a piece comes, counted in I/Os of its region.
#[derive(Clone, Debug)]
enum Back {
    Same,
    Single(Inverse),
    Groups { inverse: Inverse, run: u64, short_at: u64, missing: u64 },
}

impl Passes {
    /// `stream` must be at its beginning and without repeats.
    pub(super) fn new(stream: Stream, issued: u64) -> Passes {
        let run = stream.turns.run().unwrap_or(1);
        let regions = stream.regions.into_iter().map(|stream| RegionPass { stream, order: Back::Same });
        let mut first = Pass {
            number: 0,
            base: 0,
            total: 0,
            even: false,
            run,
            regions: regions.collect::<Vec<_>>().into(),
        };
        first.load(0, 0);
        let uniform = first.regions.iter().all(|region| region.stream.pieces.is_uniform());
        Passes {
            issued,
            uniform,
            ready: issued == 0,
            second: first.clone(),
            deep: first.clone(),
            newest: first,
        }
    }

    /// Looks for the newest pass. With one length it is found at once; else the passes differ in
    /// how many pieces they have, and are counted one by one: one step each.
    pub(super) fn prepare(&mut self, budget: u64) -> bool {
        if self.ready {
            return true;
        }
        if self.uniform {
            let total = self.newest.total;
            let number = (self.issued - 1) / total;
            self.newest.load(number, number * total);
            if number > 0 {
                self.second.load(number - 1, (number - 1) * total);
            }
            self.ready = true;
            return true;
        }
        for _ in 0..budget {
            let Pass { number, base, total, .. } = self.newest;
            if self.issued - base <= total {
                self.ready = true;
                return true;
            }
            std::mem::swap(&mut self.newest, &mut self.second);
            self.newest.load(number + 1, base + total);
        }
        false
    }

    /// The short way to the same answers, where there is one. Must be ready.
    pub(super) fn single(&self, region: Region) -> Option<Single> {
        let [only] = &*self.newest.regions else { return None };
        let len = only.stream.pieces.only_length()?;
        let (Back::Single(newest), true) = (&only.order, self.issued > 0) else { return None };
        let second = match &self.second.regions[0].order {
            Back::Single(inverse) if self.newest.number > 0 => Some(inverse.clone()),
            _ => None,
        };
        Some(Single {
            region,
            len,
            count: only.stream.count,
            newest: newest.clone(),
            base: self.newest.base,
            of_newest: self.issued - self.newest.base,
            second,
        })
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    /// The newest visit of byte `offset` of region `region` among the first `bound` I/Os.
    #[inline]
    pub(super) fn before(&mut self, region: usize, offset: u64, bound: u64) -> Option<Visit> {
        let bound = bound.min(self.issued);
        if bound > self.newest.base {
            match self.newest.visit(region, offset) {
                Some(visit) if visit.index < bound => return Some(visit),
                None if self.uniform => return None,
                _ => {}
            }
        }
        if self.newest.number == 0 {
            return None;
        }
        if bound > self.second.base {
            match self.second.visit(region, offset) {
                Some(visit) if visit.index < bound => return Some(visit),
                None if self.uniform => return None,
                _ => {}
            }
        }
        self.far_below(region, offset, bound)
    }

    #[inline(never)]
    fn far_below(&mut self, region: usize, offset: u64, bound: u64) -> Option<Visit> {
        let mut number = self.second.number;
        if bound == 0 {
            return None;
        }
        if self.uniform {
            // The pass that holds the I/O before the bound is the first that can answer.
            number = number.min((bound - 1) / self.second.total + 1);
        }
        while number > 0 {
            number -= 1;
            self.load_deep(number);
            if self.deep.base < bound {
                match self.deep.visit(region, offset) {
                    Some(visit) if visit.index < bound => return Some(visit),
                    None if self.uniform => return None,
                    _ => {}
                }
            }
        }
        None
    }

    fn load_deep(&mut self, number: u64) {
        if self.deep.number == number && self.deep.base < self.second.base {
            return;
        }
        if self.uniform {
            self.deep.load(number, number * self.second.total);
            return;
        }
        // Bases are known from above: a pass ends where the next one begins.
        let known = self.deep.number > number && self.deep.number < self.second.number;
        let from = if known { &self.deep } else { &self.second };
        let (mut at, mut base) = (from.number, from.base);
        while at > number {
            at -= 1;
            self.deep.load(at, 0);
            base -= self.deep.total;
            self.deep.base = base;
        }
    }

    /// Given that byte `offset` was never visited, the next one of the region that may have been.
    pub(super) fn behind(&self, region: usize, offset: u64) -> u64 {
        let once = self.uniform || self.newest.number == 0;
        let pieces = &self.newest.regions[region].stream.pieces;
        if once { pieces.end_of(offset) } else { offset + 1 }
    }
}

impl Pass {
    /// Becomes pass `number`, before which `base` I/Os came. Allocates nothing.
    fn load(&mut self, number: u64, base: u64) {
        for region in &mut self.regions {
            region.stream.begin_pass(number);
            region.order = match &region.stream.order {
                Order::Permuted { groups, run: 1 } => Back::Single(groups.inverse()),
                Order::Permuted { groups, run } => {
                    let last = groups.len() - 1;
                    let inverse = groups.inverse();
                    // Only the group at the end of the region can be short.
                    let missing = *run - (region.stream.count - last * *run);
                    Back::Groups { short_at: inverse.at(last), inverse, run: *run, missing }
                }
                Order::Sequential | Order::Drawn(_) | Order::Walked(_) => Back::Same,
            };
        }
        let count = |region: &RegionPass| region.stream.count;
        self.number = number;
        self.base = base;
        self.total = self.regions.iter().map(count).sum();
        self.even = self.regions.iter().all(|region| count(region) == count(&self.regions[0]));
    }

    /// The visit of byte `offset` of `region` in this pass.
    #[inline]
    fn visit(&self, region: usize, offset: u64) -> Option<Visit> {
        let RegionPass { stream, order } = &self.regions[region];
        let piece = stream.pieces.holding(offset)?;
        let turn = match order {
            Back::Same => piece,
            Back::Single(inverse) => inverse.at(piece),
            Back::Groups { inverse, run, short_at, missing } => {
                let position = inverse.at(piece / run);
                position * run + piece % run - if position > *short_at { *missing } else { 0 }
            }
        };
        let (offset, len) = stream.pieces.at(piece);
        Some(Visit { index: self.base + self.rank(region, turn), offset: stream.start + offset, len })
    }

    /// When I/O `turn` of `region` comes: in each round `run` I/Os of every region that has so many left.
    #[inline]
    fn rank(&self, region: usize, turn: u64) -> u64 {
        let count = |pass: &RegionPass| pass.stream.count;
        let (begin, within) =
            if self.run == 1 { (turn, 0) } else { (turn - turn % self.run, turn % self.run) };
        if self.even {
            let of_round = self.run.min(count(&self.regions[0]) - begin);
            return begin * self.regions.len() as u64 + region as u64 * of_round + within;
        }
        let end = begin.saturating_add(self.run);
        let before = self.regions.iter().enumerate().map(|(other, pass)| match other.cmp(&region) {
            std::cmp::Ordering::Less => count(pass).min(end),
            std::cmp::Ordering::Equal => turn,
            std::cmp::Ordering::Greater => count(pass).min(begin),
        });
        before.sum()
    }
}
