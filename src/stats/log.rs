//! What a worker hands out for its logs: plain records of fixed size, in the order of completion.

use crate::base::ioprio::IoPriority;
use crate::base::{Op, PerOp};

use super::{Histogram, OpStats, WorkerStats};

/// One I/O that ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggedIo {
    /// When it ended, in nanoseconds since counting began.
    pub time_ns: u64,
    /// Its submission latency in nanoseconds; 0 for engines that have none.
    pub slat_ns: u64,
    /// Both latencies together, in nanoseconds.
    pub lat_ns: u64,
    /// Its byte offset.
    pub offset: u64,
    /// Its bytes.
    pub len: u32,
    /// The command.
    pub op: Op,
    /// The priority that it carried; 0 for that of its worker's thread.
    pub priority: IoPriority,
    /// The engine has a doorbell to ring, so that there is a submission latency.
    pub has_slat: bool,
}

impl LoggedIo {
    /// The completion latency in nanoseconds.
    #[must_use]
    pub fn clat_ns(&self) -> u64 {
        self.lat_ns.saturating_sub(self.slat_ns)
    }
}

/// The values of one latency in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// How many.
    pub count: u64,
    /// Their sum in nanoseconds.
    pub sum: u128,
    /// The largest, in nanoseconds; 0 where nobody asked for it.
    pub max: u64,
}

impl Span {
    /// The mean, rounded.
    #[must_use]
    pub fn mean(&self) -> u64 {
        let count = u128::from(self.count.max(1));
        u64::try_from((self.sum + count / 2) / count).unwrap_or(u64::MAX)
    }

    fn total(histogram: &Histogram) -> Span {
        Span { count: histogram.count(), sum: histogram.sum(), max: 0 }
    }

    fn since(&self, before: &Span) -> Span {
        Span { count: self.count - before.count, sum: self.sum - before.sum, max: self.max }
    }
}

/// Counts of one command: all so far, or those of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// I/Os that ended well.
    pub ios: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Submission latency.
    pub slat: Span,
    /// Completion latency.
    pub clat: Span,
    /// Both.
    pub lat: Span,
}

impl Sums {
    fn total(stats: &OpStats) -> Sums {
        let latency = &stats.latency;
        Sums {
            ios: stats.ios,
            bytes: stats.bytes,
            slat: Span::total(&latency.slat),
            clat: Span::total(&latency.clat),
            lat: Span::total(&latency.lat),
        }
    }

    /// What was added since `before`.
    #[must_use]
    pub fn since(&self, before: &Sums) -> Sums {
        Sums {
            ios: self.ios - before.ios,
            bytes: self.bytes - before.bytes,
            slat: self.slat.since(&before.slat),
            clat: self.clat.since(&before.clat),
            lat: self.lat.since(&before.lat),
        }
    }

    /// Everything that `stats` has counted.
    #[must_use]
    pub fn of(stats: &WorkerStats) -> PerOp<Sums> {
        PerOp::from_fn(|op| Sums::total(stats.ops.get(op)))
    }
}

/// Which logs a window is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogKinds {
    /// The three logs of latencies.
    pub latency: bool,
    /// That of bandwidth.
    pub bandwidth: bool,
    /// That of IOPS.
    pub iops: bool,
}

/// What happened between two moments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedWindow {
    /// The logs that it belongs to.
    pub kinds: LogKinds,
    /// When it began, in nanoseconds since counting began.
    pub begin_ns: u64,
    /// When it ended.
    pub end_ns: u64,
    /// What ended in it, by command.
    pub sums: PerOp<Sums>,
}

/// How the completion latencies of one command in a window are distributed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedHistogram {
    /// When the window ended, in nanoseconds since counting began.
    pub time_ns: u64,
    /// The command.
    pub op: Op,
    /// How many fell into each bin: fio's bins, as many of them together as was asked for.
    pub bins: Box<[u64]>,
}

impl LoggedHistogram {
    /// An empty one. `coarseness`: 2 to the power of this many of fio's bins are one.
    #[must_use]
    pub fn empty(coarseness: u32) -> LoggedHistogram {
        let bins = vec![0; Histogram::FIO_BINS >> coarseness].into_boxed_slice();
        LoggedHistogram { time_ns: 0, op: Op::Read, bins }
    }
}
