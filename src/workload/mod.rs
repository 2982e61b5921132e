//! What comes next: the k-th I/O of a worker is a function of the job's options, the seed and k,
//! and of nothing else: no clock, no device, no history of completions.
//!
//! Reads, writes and trims are streams of their own; a third rule interleaves them. Random offsets
//! without repeats come from a keyed permutation of the region's blocks, one key a pass, so they
//! take no memory and a region of any size starts at once. Knows neither buffers nor engines.

mod content;
mod distribution;
mod files;
mod history;
mod pieces;
mod stream;
mod trim;
mod walk;

use std::fmt;

use crate::base::permutation::Permutation;
use crate::base::replay::{Log, Logged};
use crate::base::shape::{BlockSizes, Distribution, FileService, Mix, Places};
use crate::base::{Op, PerOp, random};

pub use content::{Content, ContentShape};
pub use history::{Ahead, History, Issued, Mutation, Mutations, Touched};
pub use pieces::Pieces;
use stream::{Place, Stream, StreamSpec};
use trim::{TrimPlan, Trimmer};

/// I/Os over which a mix keeps its percentage exactly.
const MIX_GROUP: u64 = 100;

/// The bytes of one target that a worker owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Which of the worker's targets.
    pub target: u16,
    /// Byte offset of the region on the target.
    pub start: u64,
    /// Its length.
    pub bytes: u64,
}

/// All that a workload depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadSpec {
    /// Where.
    pub regions: Vec<Region>,
    /// Which of several regions is next. Reads, writes and trims each take their own turns.
    pub service: FileService,
    /// Which commands.
    pub mix: Mix,
    /// Percent of reads in [`Mix::ReadWrite`].
    pub read_percent: u32,
    /// Random offsets, or one after the other.
    pub random: bool,
    /// With random offsets, each block once a pass.
    pub coverage: bool,
    /// With sequential offsets the bytes skipped after each I/O; with random ones the number of
    /// neighbours visited for each offset drawn.
    pub modifier: Option<u64>,
    /// Lengths.
    pub sizes: PerOp<BlockSizes>,
    /// Random offsets are multiples of this; 0 for the smallest length.
    pub align: PerOp<u32>,
    /// Shape of random offsets.
    pub distribution: PerOp<Distribution>,
    /// Percent of the I/Os of a random workload that jump; the others follow the one before.
    pub percentage_random: PerOp<u32>,
    /// Where they go beyond that.
    pub places: Places,
    /// Trims of what was written, with [`Mix::Write`] and [`Mix::ReadWrite`].
    pub trim: Option<TrimRule>,
    /// The seed.
    pub seed: u64,
    /// When it ends.
    pub limit: Limit,
    /// What is done stands here, and nothing is generated.
    pub log: Option<Log>,
}

/// Which writes are trimmed some time after, and when. These trims count for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrimRule {
    /// How many of every hundred writes.
    pub percent: u32,
    /// Writes issued, from the first of a group on, before the group is trimmed. A group that is
    /// longer is trimmed when it is complete.
    pub backlog: u64,
    /// Writes of a group; 0 for `backlog`. If that is 0 too, each trim follows its write.
    pub batch: u64,
}

impl WorkloadSpec {
    /// When which writes are trimmed, if they are.
    fn trim_plan(&self) -> Option<TrimPlan> {
        let rule = self.trim.filter(|rule| rule.percent > 0)?;
        let writes = matches!(self.mix, Mix::Write | Mix::ReadWrite);
        writes.then(|| TrimPlan::new(&rule, random::derive(self.seed, 9)))
    }

    /// The places of `op`, if it has a stream of its own: a write that follows a trim has none.
    fn stream(&self, op: Op) -> Result<Option<Stream>, WorkloadError> {
        let generated = self.log.is_none();
        let wanted = generated && self.mix.issues(op) && !(self.mix == Mix::TrimWrite && op == Op::Write);
        if !wanted {
            return Ok(None);
        }
        // A trim that precedes a write has the write's shape.
        let shape = if self.mix == Mix::TrimWrite { Op::Write } else { op };
        Stream::new(&StreamSpec {
            regions: &self.regions,
            service: &self.service,
            random: self.random,
            coverage: self.coverage,
            modifier: self.modifier,
            sizes: self.sizes.get(shape),
            align: *self.align.get(shape),
            distribution: self.distribution.get(shape),
            percentage_random: *self.percentage_random.get(shape),
            places: &self.places,
            key: random::derive(self.seed, op as u64),
            max_passes: self.limit.passes,
        })
        .map(Some)
    }
}

/// When a workload ends, if time does not end it before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// After this many bytes, all commands together (a trim that precedes a write counts too, a trim
    /// by [`TrimRule`] does not).
    pub bytes: Option<u64>,
    /// After this many I/Os.
    pub ios: Option<u64>,
    /// After this many passes over the regions.
    pub passes: Option<u64>,
}

/// One I/O to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Byte offset on the target.
    pub offset: u64,
    /// Which write (read, trim) of the worker this is, from 0.
    pub sequence: u64,
    /// Length in bytes.
    pub len: u32,
    /// Which of the worker's targets.
    pub target: u16,
    /// The command.
    pub op: Op,
}

impl From<&Logged> for Step {
    fn from(io: &Logged) -> Step {
        Step { offset: io.offset, sequence: io.sequence, len: io.len, target: io.target, op: io.op }
    }
}

/// Why a workload cannot be made, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadError(pub(crate) String);

impl fmt::Display for WorkloadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for WorkloadError {}

/// The sequence of a worker's I/Os.
#[derive(Clone, Debug)]
pub struct Workload {
    reads: Option<Stream>,
    writes: Option<Stream>,
    trims: Option<Stream>,
    trimmer: Option<Box<Trimmer>>,
    chooser: Chooser,
    next_sequence: PerOp<u64>,
    bytes_left: u64,
    ios_left: u64,
}

#[derive(Clone, Debug)]
enum Chooser {
    Only(Op),
    /// Writes, and trims by a [`TrimRule`].
    WriteAndTrim,
    Mixed(MixRule),
    /// A trim, then a write of the same place.
    TrimThenWrite {
        trimmed: Option<Place>,
    },
}

impl Workload {
    /// The workload that `spec` describes, at its beginning.
    ///
    /// # Errors
    /// If a region holds no block.
    pub fn new(spec: &WorkloadSpec) -> Result<Workload, WorkloadError> {
        let writes = spec.stream(Op::Write)?;
        let trimmer = match (spec.trim_plan(), &writes) {
            (Some(plan), Some(places)) => Some(Box::new(Trimmer::new(plan, places.clone()))),
            _ => None,
        };
        let chooser = match spec.mix {
            Mix::Write if trimmer.is_some() => Chooser::WriteAndTrim,
            // What a log holds has no part here: it is taken from there.
            Mix::Read | Mix::Replayed { .. } => Chooser::Only(Op::Read),
            Mix::Write => Chooser::Only(Op::Write),
            Mix::Trim => Chooser::Only(Op::Deallocate),
            Mix::ReadWrite => Chooser::Mixed(MixRule::of(spec)),
            Mix::TrimWrite => Chooser::TrimThenWrite { trimmed: None },
        };
        Ok(Workload {
            reads: spec.stream(Op::Read)?,
            writes,
            trims: spec.stream(Op::Deallocate)?,
            trimmer,
            chooser,
            next_sequence: PerOp::default(),
            bytes_left: spec.limit.bytes.unwrap_or(u64::MAX),
            ios_left: if spec.log.is_some() { 0 } else { spec.limit.ios.unwrap_or(u64::MAX) },
        })
    }

    /// Goes on behind the first `count` writes and trims, without doing them.
    pub fn skip_mutations(&mut self, count: u64) {
        let mut left = count;
        while left > 0 {
            let Some(step) = self.next() else { return };
            left -= u64::from(step.op.modifies());
        }
    }

    /// The next I/O; `None` when the workload has ended, and ever after.
    #[inline(always)]
    #[expect(clippy::should_implement_trait, reason = "an iterator's adapters have no place in the loop")]
    pub fn next(&mut self) -> Option<Step> {
        if self.bytes_left == 0 || self.ios_left == 0 {
            return self.due_trim();
        }
        let (op, place) = match &mut self.chooser {
            Chooser::Only(op) => {
                let op = *op;
                (op, self.stream(op)?.next()?)
            }
            _ => {
                if self.trimmer.is_some()
                    && let Some(trim) = self.due_trim()
                {
                    return Some(trim);
                }
                self.choose()?
            }
        };
        self.bytes_left = self.bytes_left.saturating_sub(u64::from(place.len));
        self.ios_left -= 1;
        let next = self.next_sequence.get_mut(op);
        *next += 1;
        let sequence = *next - 1;
        Some(Step { offset: place.offset, sequence, len: place.len, target: place.target, op })
    }

    /// Whether [`next_of`](Self::next_of) can say what comes next: a mix whose order is nobody's concern.
    #[must_use]
    pub fn can_choose(&self) -> bool {
        matches!(self.chooser, Chooser::Mixed(_)) && self.trimmer.is_none()
    }

    /// The next I/O of `op`, whatever the shares of the mix would bring next; it counts for the limits
    /// as any other.
    pub fn next_of(&mut self, op: Op) -> Option<Step> {
        if self.bytes_left == 0 || self.ios_left == 0 {
            return None;
        }
        let place = self.stream(op)?.next()?;
        self.bytes_left = self.bytes_left.saturating_sub(u64::from(place.len));
        self.ios_left -= 1;
        let next = self.next_sequence.get_mut(op);
        *next += 1;
        Some(Step { offset: place.offset, sequence: *next - 1, len: place.len, target: place.target, op })
    }

    /// The trim that must come before the next write, if one is left. It counts for no limit.
    #[inline(never)]
    fn due_trim(&mut self) -> Option<Step> {
        let place = self.trimmer.as_mut()?.next(self.next_sequence.write)?;
        let sequence = self.next_sequence.trim;
        self.next_sequence.trim += 1;
        Some(Step {
            offset: place.offset,
            sequence,
            len: place.len,
            target: place.target,
            op: Op::Deallocate,
        })
    }

    /// What it issues, where nothing has been counted yet that could tell.
    #[must_use]
    pub fn usual_op(&self) -> Op {
        match self.chooser {
            Chooser::Only(op) => op,
            Chooser::Mixed(_) => Op::Read,
            Chooser::WriteAndTrim | Chooser::TrimThenWrite { .. } => Op::Write,
        }
    }

    /// Which pass over the regions the stream of `op` is in, from 0.
    #[inline]
    #[must_use]
    pub fn pass(&self, op: Op) -> u64 {
        let stream = match op {
            Op::Read => &self.reads,
            Op::Write | Op::Flush => &self.writes,
            Op::Deallocate => &self.trims,
        };
        stream.as_ref().map_or(0, Stream::pass)
    }

    #[inline(always)]
    fn stream(&mut self, op: Op) -> Option<&mut Stream> {
        match op {
            Op::Read => self.reads.as_mut(),
            Op::Write | Op::Flush => self.writes.as_mut(),
            Op::Deallocate => self.trims.as_mut(),
        }
    }

    /// The command and place of a workload with several commands.
    #[inline(never)]
    fn choose(&mut self) -> Option<(Op, Place)> {
        let op = match &mut self.chooser {
            Chooser::Only(op) => *op,
            Chooser::WriteAndTrim => Op::Write,
            Chooser::Mixed(rule) => rule.next(),
            Chooser::TrimThenWrite { trimmed } => match trimmed.take() {
                Some(place) => return Some((Op::Write, place)),
                None => Op::Deallocate,
            },
        };
        let place = self.stream(op)?.next()?;
        if let Chooser::TrimThenWrite { trimmed } = &mut self.chooser {
            *trimmed = Some(place);
        }
        Some((op, place))
    }
}

/// Which of a mixed workload's I/Os are reads: in every hundred exactly as many as the percentage
/// says, in an order that differs from hundred to hundred.
#[derive(Clone, Debug)]
struct MixRule {
    read_percent: u64,
    key: u64,
    index: u64,
    order: Permutation,
}

impl MixRule {
    fn of(spec: &WorkloadSpec) -> MixRule {
        MixRule::new(u64::from(spec.read_percent), random::derive(spec.seed, 8))
    }

    /// How many of the first `steps` are writes. `self` must be at its beginning.
    fn writes_of_first(mut self, steps: u64) -> u64 {
        let hundreds = steps / MIX_GROUP;
        self.index = hundreds * MIX_GROUP;
        let rest = (0..steps % MIX_GROUP).filter(|_| self.next() == Op::Write).count() as u64;
        hundreds * (MIX_GROUP - self.read_percent.min(MIX_GROUP)) + rest
    }

    fn new(read_percent: u64, key: u64) -> MixRule {
        MixRule { read_percent, key, index: 0, order: Permutation::new(random::derive(key, 0), MIX_GROUP) }
    }

    #[inline]
    fn next(&mut self) -> Op {
        let place = self.index % MIX_GROUP;
        if place == 0 {
            self.order = Permutation::new(random::derive(self.key, self.index / MIX_GROUP), MIX_GROUP);
        }
        self.index += 1;
        if self.order.at(place) < self.read_percent { Op::Read } else { Op::Write }
    }
}

#[cfg(test)]
mod tests;
