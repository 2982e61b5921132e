//! The I/Os of one command: where the k-th goes and how long it is, over one or more regions.

use crate::base::permutation::Permutation;
use crate::base::random;
use crate::base::shape::{BlockSizes, Distribution, FileService, Places};

use super::distribution::Draw;
use super::files::Turns;
use super::pieces::Pieces;
use super::walk::Walk;
use super::{Region, WorkloadError};

/// How often a draw that does not fit is repeated before the last place that fits is taken.
const REDRAWS: u64 = 16;

/// What a stream needs to know of the job.
#[derive(Clone)]
pub(super) struct StreamSpec<'a> {
    pub regions: &'a [Region],
    pub service: &'a FileService,
    pub random: bool,
    /// Each block once a pass.
    pub coverage: bool,
    pub modifier: Option<u64>,
    pub sizes: &'a BlockSizes,
    pub align: u32,
    pub distribution: &'a Distribution,
    pub percentage_random: u32,
    pub places: &'a Places,
    pub key: u64,
    pub max_passes: Option<u64>,
}

/// One I/O's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub target: u16,
    pub offset: u64,
    pub len: u32,
}

/// Places in the order in which they are visited: the regions take turns, pass after pass.
/// A region that has finished its pass waits for the others.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) regions: Box<[RegionStream]>,
    pub(super) turns: Turns,
    pass: u64,
    max_passes: Option<u64>,
}

/// The part of one region.
#[derive(Clone, Debug)]
pub(super) struct RegionStream {
    target: u16,
    pub(super) start: u64,
    bytes: u64,
    key: u64,
    pub(super) pieces: Pieces,
    /// Pieces of this pass.
    pub(super) count: u64,
    index: u64,
    pub(super) order: Order,
}

/// In which order the pieces of a region come.
#[derive(Clone, Debug)]
pub(super) enum Order {
    Sequential,
    /// Groups of `run` neighbours in permuted order.
    Permuted {
        groups: Permutation,
        run: u64,
    },
    Drawn(Box<Drawn>),
    /// In windows, or in the order that prepares a device.
    Walked(Box<Walk>),
}

impl Order {
    /// Whether a place may come again within a pass.
    pub(super) fn may_repeat(&self) -> bool {
        matches!(self, Order::Drawn(_) | Order::Walked(_))
    }
}

/// Positions with repeats.
#[derive(Clone, Debug)]
pub(super) struct Drawn {
    draw: Draw,
    unit: u64,
    /// Lengths of what does not jump, where they are others.
    sequential: Option<Pieces>,
    /// A run stays where it is.
    identical: bool,
    /// Jumps so far.
    jumps: u64,
    size_key: u64,
    jump_key: u64,
    percentage_random: u32,
    run: u64,
    left_in_run: u64,
    next_offset: u64,
    /// As nothing says when every block was visited, a pass is as many bytes as the region has, if
    /// passes are counted at all.
    pass_bytes: Option<u64>,
    left_in_pass: u64,
}

impl Stream {
    pub(super) fn new(spec: &StreamSpec<'_>) -> Result<Stream, WorkloadError> {
        let mut regions = Vec::with_capacity(spec.regions.len());
        for (number, region) in spec.regions.iter().enumerate() {
            regions.push(RegionStream::new(spec, region, random::derive(spec.key, number as u64))?);
        }
        if regions.is_empty() {
            return Err(WorkloadError("there is no target".to_owned()));
        }
        let turns = Turns::new(spec.service, regions.len(), random::derive(spec.key, u64::MAX));
        Ok(Stream { regions: regions.into_boxed_slice(), turns, pass: 0, max_passes: spec.max_passes })
    }

    /// Which pass it is in, from 0.
    #[inline]
    pub(super) fn pass(&self) -> u64 {
        self.pass
    }

    /// Whether where its I/Os came can only be told by going through them.
    pub(super) fn is_drawn(&self) -> bool {
        self.regions[0].order.may_repeat() || self.regions.len() > 1 && self.turns.run().is_none()
    }

    /// The next place; `None` when all passes are done.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<Place> {
        if let [only] = &mut *self.regions
            && let Some(place) = only.next()
        {
            return Some(place);
        }
        self.next_of_several()
    }

    /// The next place where regions take turns, or where the only one has finished its pass.
    #[inline(never)]
    fn next_of_several(&mut self) -> Option<Place> {
        loop {
            if let Some(place) = self.turns.next(&mut self.regions) {
                return Some(place);
            }
            self.begin_next_pass()?;
        }
    }

    #[cold]
    fn begin_next_pass(&mut self) -> Option<()> {
        self.pass += 1;
        if self.max_passes.is_some_and(|max| self.pass >= max) {
            self.pass -= 1;
            return None;
        }
        self.turns.begin_pass();
        for region in &mut self.regions {
            region.begin_pass(self.pass);
        }
        Some(())
    }
}

impl RegionStream {
    pub(super) fn new(
        spec: &StreamSpec<'_>,
        region: &Region,
        key: u64,
    ) -> Result<RegionStream, WorkloadError> {
        let (align, hole) = if spec.random { (spec.align, 0) } else { (0, spec.modifier.unwrap_or(0)) };
        let once = spec.coverage
            && *spec.distribution == Distribution::Random
            && spec.percentage_random == 100
            && (align == 0 || align >= spec.sizes.min());
        // Where the I/Os between jumps are others than their neighbours, the order is no row of pieces.
        let runs = spec.modifier.is_some_and(|run| run > 1);
        let identical = spec.places.identical && runs;
        let covered = once && !identical && !(runs && spec.places.sequential_sizes.is_some());
        let pieces = Pieces::new(region.bytes, spec.sizes, u64::from(align), hole, random::derive(key, 0));
        let count = pieces.count();
        let longest = spec.places.sequential_sizes.as_ref().map_or(0, BlockSizes::max).max(spec.sizes.max());
        let needed = if spec.random && !covered { longest } else { spec.sizes.min() };
        if count == 0 || region.bytes < u64::from(needed) {
            return Err(WorkloadError(format!(
                "a region of {} bytes holds no block of {needed} bytes",
                region.bytes
            )));
        }
        let run = spec.modifier.unwrap_or(1).max(1);
        let walk = Walk::of(spec, region, key)?;
        let order = if let Some(walk) = walk {
            Order::Walked(Box::new(walk))
        } else if !spec.random {
            Order::Sequential
        } else if covered {
            Order::Permuted { groups: Permutation::new(key, count.div_ceil(run)), run }
        } else {
            let unit = u64::from(if align == 0 { spec.sizes.min() } else { align });
            let places = (region.bytes - u64::from(spec.sizes.min())) / unit + 1;
            let draw_key = random::derive(key, 1);
            let draw = if once && identical {
                Draw::each_once(places, draw_key)
            } else {
                Draw::new(spec.distribution, places, unit, draw_key)
            };
            let sequential = spec.places.sequential_sizes.as_ref();
            Order::Drawn(Box::new(Drawn {
                draw,
                unit,
                sequential: sequential.map(|sizes| Pieces::new(region.bytes, sizes, 0, 0, 0)),
                identical,
                jumps: 0,
                size_key: random::derive(key, 2),
                jump_key: random::derive(key, 3),
                percentage_random: spec.percentage_random,
                run,
                left_in_run: 0,
                next_offset: 0,
                pass_bytes: spec.max_passes.map(|_| region.bytes),
                left_in_pass: 0,
            }))
        };
        let mut stream = RegionStream {
            target: region.target,
            start: region.start,
            bytes: region.bytes,
            key,
            pieces,
            count,
            index: 0,
            order,
        };
        stream.begin_pass(0);
        Ok(stream)
    }

    pub(super) fn begin_pass(&mut self, pass: u64) {
        if let Order::Walked(walk) = &mut self.order {
            walk.begin_pass(pass);
            return;
        }
        if let Order::Drawn(drawn) = &mut self.order {
            // The draws go on: those of a pass are none of another's.
            drawn.left_in_pass = drawn.pass_bytes.unwrap_or(u64::MAX);
            return;
        }
        self.index = 0;
        self.pieces.shuffle(random::derive(self.key, 2 * pass + 100));
        self.count = self.pieces.count();
        if let Order::Permuted { groups, run } = &mut self.order {
            *groups = Permutation::new(random::derive(self.key, 2 * pass + 101), self.count.div_ceil(*run));
        }
    }

    /// The lengths that there are, each once, rising.
    pub(super) fn lengths(&self) -> Box<[u32]> {
        let mut lengths = self.pieces.lengths().into_vec();
        if let Order::Drawn(drawn) = &self.order
            && let Some(sequential) = &drawn.sequential
        {
            lengths.extend(sequential.lengths());
            lengths.sort_unstable();
            lengths.dedup();
        }
        lengths.into_boxed_slice()
    }

    /// What comes next is the first of its kind, wherever the one before was.
    pub(super) fn forget_neighbour(&mut self) {
        if let Order::Drawn(drawn) = &mut self.order {
            (drawn.next_offset, drawn.left_in_run) = (0, 0);
        }
    }

    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<Place> {
        let (offset, len) = match &mut self.order {
            Order::Sequential => {
                if self.index == self.count {
                    return None;
                }
                self.index += 1;
                self.pieces.at(self.index - 1)
            }
            Order::Permuted { groups, run: 1 } => {
                if self.index == self.count {
                    return None;
                }
                self.index += 1;
                self.pieces.at(groups.at(self.index - 1))
            }
            Order::Permuted { groups, run } => loop {
                let (group, within) = (self.index / *run, self.index % *run);
                if group >= groups.len() {
                    return None;
                }
                self.index += 1;
                let piece = groups.at(group) * *run + within;
                // Only the group at the end of the region can be short.
                if piece < self.count {
                    break self.pieces.at(piece);
                }
                self.index = (group + 1).saturating_mul(*run);
            },
            Order::Drawn(drawn) => {
                if drawn.left_in_pass == 0 {
                    return None;
                }
                self.index += 1;
                let (offset, len) = drawn.place(self.index - 1, &self.pieces, self.bytes);
                if drawn.pass_bytes.is_some() {
                    drawn.left_in_pass = drawn.left_in_pass.saturating_sub(u64::from(len));
                }
                (offset, len)
            }
            Order::Walked(walk) => walk.next()?,
        };
        Some(Place { target: self.target, offset: self.start + offset, len })
    }
}

impl Drawn {
    #[inline(never)]
    fn place(&mut self, k: u64, pieces: &Pieces, bytes: u64) -> (u64, u32) {
        let jump = if self.run > 1 {
            self.left_in_run == 0
        } else {
            self.percentage_random >= 100
                || random::below(random::at(self.jump_key, k), 100) < u64::from(self.percentage_random)
        };
        let sizes = self.sequential.as_ref().filter(|_| !jump).unwrap_or(pieces);
        let len = sizes.draw_size(random::at(self.size_key, k));
        let room = bytes - u64::from(len);
        let offset = if jump {
            self.left_in_run = self.run;
            self.jumps += 1;
            let k = if self.draw.is_each_once() { self.jumps - 1 } else { k };
            self.draw(k, room)
        } else if self.next_offset <= room {
            self.next_offset
        } else {
            0
        };
        self.left_in_run = self.left_in_run.saturating_sub(1);
        self.next_offset = if self.identical { offset } else { offset + u64::from(len) };
        (offset, len)
    }

    #[inline]
    fn draw(&self, k: u64, room: u64) -> u64 {
        for attempt in 0..REDRAWS {
            let offset = self.draw.at(k ^ (attempt << 59)) * self.unit;
            if offset <= room {
                return offset;
            }
        }
        room / self.unit * self.unit
    }
}
