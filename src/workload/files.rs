//! Which of a worker's regions, which are its files, serves the next I/O (`file_service_type`): a
//! function of the seed and of how many I/Os came before, like everything else of a workload.
//!
//! Rotations are arithmetic, so they can be told backwards; what chance chooses must be gone through.

use crate::base::random;
use crate::base::shape::{Distribution, FileService};

use super::distribution::Draw;
use super::stream::{Place, RegionStream};

/// Numbers that a file has in a draw by popularity, as a power of two: so small files differ too, and
/// neighbours are alike (fio draws the same way).
const SHARES_SHIFT: u32 = 10;

/// How often a file that has finished its pass is drawn again before one that has not is taken.
const REDRAWS: u64 = 16;

/// Whose turn it is.
#[derive(Clone, Debug)]
pub(super) enum Turns {
    /// One region after the other, `run` I/Os each.
    Rotation { run: u64, turn: usize, left: u64 },
    /// Drawn.
    Chance(Box<Chance>),
}

/// Regions by chance.
#[derive(Clone, Debug)]
pub(super) struct Chance {
    /// `None` where all are alike.
    popularity: Option<Popularity>,
    key: u64,
    draws: u64,
    run: u64,
    turn: usize,
    left: u64,
    /// All regions; those that have not finished their pass come first.
    order: Box<[usize]>,
    open: usize,
    /// Where in `order` each region stands.
    stands: Box<[usize]>,
}

/// Files of which some are wanted more than others.
#[derive(Clone, Debug)]
struct Popularity {
    draw: Draw,
    numbers: u64,
    /// The number of the most popular rank.
    first: u64,
}

impl Turns {
    /// The turns of `regions` regions.
    pub(super) fn new(service: &FileService, regions: usize, key: u64) -> Turns {
        let (run, distribution) = match service {
            FileService::RoundRobin { ios } => return Turns::rotation(*ios),
            FileService::Sequential => return Turns::rotation(u64::MAX),
            FileService::Random { ios } => (*ios, None),
            FileService::Shaped(distribution) => (1, Some(distribution)),
        };
        let popularity = distribution.map(|shape| Popularity::new(shape, regions as u64, key));
        Turns::Chance(Box::new(Chance {
            popularity,
            key: random::derive(key, 1),
            draws: 0,
            run: run.max(1),
            turn: 0,
            left: 0,
            order: (0..regions).collect(),
            open: regions,
            stands: (0..regions).collect(),
        }))
    }

    fn rotation(run: u64) -> Turns {
        let run = run.max(1);
        Turns::Rotation { run, turn: 0, left: run }
    }

    /// How many I/Os a region is served in its turn; `None` if the turns are drawn.
    pub(super) fn run(&self) -> Option<u64> {
        match self {
            Turns::Rotation { run, .. } => Some(*run),
            Turns::Chance(_) => None,
        }
    }

    /// All regions are open again.
    pub(super) fn begin_pass(&mut self) {
        match self {
            Turns::Rotation { run, turn, left } => (*turn, *left) = (0, *run),
            Turns::Chance(chance) => {
                chance.open = chance.order.len();
                chance.left = 0;
            }
        }
    }

    /// The next place; `None` if all regions have finished the pass.
    #[inline]
    pub(super) fn next(&mut self, regions: &mut [RegionStream]) -> Option<Place> {
        let (run, turn, left) = match self {
            Turns::Rotation { run, turn, left } => (*run, turn, left),
            Turns::Chance(chance) => return chance.next(regions),
        };
        for _ in 0..=regions.len() {
            if *left > 0
                && let Some(place) = regions[*turn].next()
            {
                *left -= 1;
                return Some(place);
            }
            *turn = if *turn + 1 == regions.len() { 0 } else { *turn + 1 };
            *left = run;
        }
        None
    }
}

impl Chance {
    fn next(&mut self, regions: &mut [RegionStream]) -> Option<Place> {
        loop {
            if self.left > 0 {
                if let Some(place) = regions[self.turn].next() {
                    self.left -= 1;
                    return Some(place);
                }
                self.close(self.turn);
            }
            if self.open == 0 {
                self.left = 0;
                return None;
            }
            self.turn = self.pick();
            self.left = self.run;
        }
    }

    /// `region` has finished its pass.
    fn close(&mut self, region: usize) {
        let (at, last) = (self.stands[region], self.open - 1);
        let moved = self.order[last];
        self.order.swap(at, last);
        (self.stands[moved], self.stands[region]) = (at, last);
        self.open = last;
    }

    /// An open region.
    fn pick(&mut self) -> usize {
        self.draws += 1;
        if let Some(popularity) = &self.popularity {
            for attempt in 0..REDRAWS {
                let region = popularity.file(self.draws ^ (attempt << 59));
                if self.stands[region] < self.open {
                    return region;
                }
            }
        }
        let at = random::below(random::at(self.key, self.draws), self.open as u64);
        self.order[usize::try_from(at).unwrap_or(0)]
    }
}

impl Popularity {
    fn new(shape: &Distribution, files: u64, key: u64) -> Popularity {
        let numbers = files << SHARES_SHIFT;
        // A bell has its middle in the middle; other shapes begin anywhere.
        let first = match shape {
            Distribution::Normal(_) => 0,
            _ => random::below(random::at(key, 0), numbers),
        };
        Popularity { draw: Draw::new(shape, numbers, 1, random::derive(key, 2)), numbers, first }
    }

    fn file(&self, k: u64) -> usize {
        let number = (self.draw.rank_at(k) + self.first) % self.numbers;
        usize::try_from(number >> SHARES_SHIFT).unwrap_or(0)
    }
}
