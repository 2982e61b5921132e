//! The shape of a workload as a job describes it: sizes, amounts and distributions. Plain data
//! that `job` fills in and `workload` obeys.

/// A number of bytes, said absolutely or as a share of the target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// Bytes.
    Bytes(u64),
    /// Percent of the target's size, 0 to 100.
    Percent(f64),
}

impl Amount {
    /// The bytes meant, for a target of `whole` bytes.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100 percent of a u64")]
    #[expect(clippy::cast_precision_loss, reason = "a share of a size is rounded to blocks afterwards")]
    pub fn of(self, whole: u64) -> u64 {
        match self {
            Amount::Bytes(bytes) => bytes,
            Amount::Percent(100.0) => whole,
            Amount::Percent(percent) => (whole as f64 * percent / 100.0) as u64,
        }
    }
}

/// The lengths of I/Os in one direction (fio: `bs`, `bsrange`, `bssplit`), in bytes, never 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockSizes {
    /// All alike.
    Fixed(u32),
    /// Every multiple of `min` up to `max`, equally often.
    Range {
        /// Smallest length and step.
        min: u32,
        /// Largest length.
        max: u32,
    },
    /// Each length with its share in percent; the shares sum to 100.
    Split(Vec<(u32, u32)>),
}

impl BlockSizes {
    /// Smallest length.
    #[must_use]
    pub fn min(&self) -> u32 {
        match self {
            BlockSizes::Fixed(size) => *size,
            BlockSizes::Range { min, .. } => *min,
            BlockSizes::Split(list) => list.iter().map(|(size, _)| *size).min().unwrap_or(0),
        }
    }

    /// Largest length.
    #[must_use]
    pub fn max(&self) -> u32 {
        match self {
            BlockSizes::Fixed(size) => *size,
            BlockSizes::Range { max, .. } => *max,
            BlockSizes::Split(list) => list.iter().map(|(size, _)| *size).max().unwrap_or(0),
        }
    }
}

/// Where random I/Os go (fio: `random_distribution`).
#[derive(Clone, Debug, PartialEq)]
pub enum Distribution {
    /// Every block alike.
    Random,
    /// Zipf: the r-th most popular block with a weight of 1 / r^theta.
    Zipf(f64),
    /// Pareto with fio's exponent log(h) / log(1 - h).
    Pareto(f64),
    /// Bell-shaped around the middle of the region; the deviation in percent, as fio uses it.
    Normal(f64),
    /// Consecutive zones, each with its share of accesses and of the region.
    Zoned(Vec<Zone>),
}

/// One zone of [`Distribution::Zoned`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Zone {
    /// Share of the accesses, percent.
    pub access_percent: f64,
    /// Share of the region, percent.
    pub range_percent: f64,
}

/// What a job does (fio: `rw`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// Reads only.
    Read,
    /// Writes only.
    Write,
    /// Trims only.
    Trim,
    /// Reads and writes.
    ReadWrite,
    /// Every block trimmed, then written.
    TrimWrite,
    /// What a log holds.
    Replayed {
        /// It reads.
        reads: bool,
        /// It writes.
        writes: bool,
        /// It trims.
        trims: bool,
    },
}

impl Mix {
    /// Whether jobs of this kind issue `op`.
    #[must_use]
    pub const fn issues(self, op: super::Op) -> bool {
        use super::Op;
        match self {
            Mix::Read => matches!(op, Op::Read),
            Mix::Write => matches!(op, Op::Write),
            Mix::Trim => matches!(op, Op::Deallocate),
            Mix::ReadWrite => matches!(op, Op::Read | Op::Write),
            Mix::TrimWrite => matches!(op, Op::Write | Op::Deallocate),
            Mix::Replayed { reads, writes, trims } => match op {
                Op::Read => reads,
                Op::Write => writes,
                Op::Deallocate => trims,
                Op::Flush => false,
            },
        }
    }

    /// Whether jobs of this kind change the device.
    #[must_use]
    pub const fn modifies(self) -> bool {
        !matches!(self, Mix::Read | Mix::Replayed { writes: false, trims: false, .. })
    }
}
