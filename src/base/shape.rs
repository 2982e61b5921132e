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
    /// Any number of bytes from `min` to `max`, equally often.
    Unaligned {
        /// Smallest length.
        min: u32,
        /// Largest length.
        max: u32,
    },
}

impl BlockSizes {
    /// Smallest length.
    #[must_use]
    pub fn min(&self) -> u32 {
        match self {
            BlockSizes::Fixed(size) => *size,
            BlockSizes::Range { min, .. } | BlockSizes::Unaligned { min, .. } => *min,
            BlockSizes::Split(list) => list.iter().map(|(size, _)| *size).min().unwrap_or(0),
        }
    }

    /// Largest length.
    #[must_use]
    pub fn max(&self) -> u32 {
        match self {
            BlockSizes::Fixed(size) => *size,
            BlockSizes::Range { max, .. } | BlockSizes::Unaligned { max, .. } => *max,
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
    /// The same, the zones being so many bytes long; what lies behind them is left alone.
    ZonedAbs(Vec<ZoneOfBytes>),
    /// These blocks in this order, over and over.
    Sequence {
        /// Numbers of blocks.
        blocks: Vec<u64>,
        /// Each time the sequence is over, go on behind it by as many blocks as it has entries.
        strides: bool,
    },
}

/// One zone of [`Distribution::Zoned`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Zone {
    /// Share of the accesses, percent.
    pub access_percent: f64,
    /// Share of the region, percent.
    pub range_percent: f64,
}

/// One zone of [`Distribution::ZonedAbs`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ZoneOfBytes {
    /// Share of the accesses, percent.
    pub access_percent: f64,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Where I/Os go beyond pattern, size and distribution. The default changes nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Places {
    /// One window of a region after the other (fio: `zonemode=strided`).
    pub strides: Option<Strides>,
    /// A random workload that goes on for several I/Os does so at the same offset
    /// (fio: `rw_sequencer=identical`).
    pub identical: bool,
    /// Lengths of those I/Os of a random workload that do not jump (fio: `bs_is_seq_rand`).
    pub sequential_sizes: Option<BlockSizes>,
    /// One pass of random writes that leaves a device as a long time of them would (fio: `sprandom`).
    pub sprandom: Option<SpRandom>,
}

/// Windows of a region, all in bytes and above 0 but for `skip`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strides {
    /// How much is transferred before the next window's turn comes.
    pub amount: u64,
    /// The length of a window.
    pub range: u64,
    /// What is left alone between two windows.
    pub skip: u64,
}

impl Strides {
    /// From the beginning of one window to that of the next.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.range.saturating_add(self.skip)
    }
}

/// The device that [`Places::sprandom`] prepares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpRandom {
    /// Its over-provisioning, as a share of what it can store: between 0 and 1.
    pub over_provisioning: f64,
    /// In how many parts it is written, at least 1.
    pub parts: u32,
    /// Bytes of its cache: where there is one, a part is only overwritten behind the next one.
    pub cache_bytes: u64,
}

/// Which of several files serves the next I/O (fio: `file_service_type`).
#[derive(Clone, Debug, PartialEq)]
pub enum FileService {
    /// One after the other, so many I/Os each.
    RoundRobin {
        /// I/Os before the next file; at least 1.
        ios: u64,
    },
    /// A file to its end, then the next.
    Sequential,
    /// Any, all alike, so many I/Os each.
    Random {
        /// I/Os before the next file; at least 1.
        ios: u64,
    },
    /// Any, some more often than others: by [`Distribution::Zipf`], [`Distribution::Pareto`] or
    /// [`Distribution::Normal`] over the files in their order.
    Shaped(Distribution),
}

impl Default for FileService {
    fn default() -> FileService {
        FileService::RoundRobin { ios: 1 }
    }
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
