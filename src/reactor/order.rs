//! When a worker begins, what it says of its end, and whether its thread still moves: looked at and
//! said in housekeeping and on rare paths, never once an I/O.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use crossbeam_channel::Sender;

use crate::base::{Op, Status};

/// Whether a worker may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It may.
    Open,
    /// At this time (`base::clock`); `u64::MAX` until somebody says when.
    Until(u64),
}

/// An I/O that failed, for whoever tells it while the run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedIo {
    /// The worker's place in its stage.
    pub worker: u32,
    /// What it was.
    pub op: Op,
    /// How it ended.
    pub status: Status,
    /// Which target of the job.
    pub target: u16,
    /// Where, in bytes.
    pub offset: u64,
    /// How long, in bytes.
    pub len: u32,
    /// The worker goes on.
    pub goes_on: bool,
}

/// Where failed I/Os are told; what does not fit is only counted.
#[derive(Debug)]
pub struct FailureSink {
    /// The worker's place in its stage.
    pub worker: u32,
    /// To whoever tells.
    pub sender: Sender<FailedIo>,
    /// Those that did not fit.
    pub untold: Arc<AtomicU64>,
}

/// fio's `ramp_size`: bytes until counting begins, together with the other workers of the group if
/// it reports as one.
#[derive(Clone, Debug)]
pub struct RampShare {
    /// Bytes that end the ramp.
    pub goal_bytes: u64,
    /// Bytes that all who share have done.
    pub pot: Arc<AtomicU64>,
}

/// The part of [`Live`](super::Live) that has to do with begin and end.
#[derive(Debug, Default)]
pub struct OrderLive {
    /// It may not begin before (`base::clock`).
    start_at_ns: AtomicU64,
    /// When it began; 0 if it has not.
    begun_ns: AtomicU64,
    /// The time of its last housekeeping.
    beat_ns: AtomicU64,
    /// Its thread's id of the kernel.
    thread: AtomicI32,
    failed: AtomicBool,
    /// Ends the ramp by bytes.
    pub ramp: Option<RampShare>,
    /// Tells failed I/Os.
    pub failures: Option<FailureSink>,
    /// Failed I/Os that do not end the worker are told too.
    pub tells_all: bool,
}

impl OrderLive {
    /// Holds the worker back until [`start_at`](OrderLive::start_at) says when. Before its thread starts.
    pub fn hold(&self) {
        self.start_at_ns.store(u64::MAX, Ordering::Release);
    }

    /// Lets the worker begin, not before `at_ns` (`base::clock`).
    pub fn start_at(&self, at_ns: u64) {
        self.start_at_ns.store(at_ns, Ordering::Release);
    }

    /// Whether it may begin.
    #[must_use]
    pub fn gate(&self, now_ns: u64) -> Gate {
        match self.start_at_ns.load(Ordering::Acquire) {
            at_ns if at_ns <= now_ns => Gate::Open,
            at_ns => Gate::Until(at_ns),
        }
    }

    /// When it began (`base::clock`); `None` if it has not.
    #[must_use]
    pub fn begun_ns(&self) -> Option<u64> {
        Some(self.begun_ns.load(Ordering::Acquire)).filter(|&ns| ns > 0)
    }

    /// When it last looked up from its queue (`base::clock`); 0 if it has not begun.
    #[must_use]
    pub fn beat_ns(&self) -> u64 {
        self.beat_ns.load(Ordering::Relaxed)
    }

    /// The thread that drives it; `None` before it begins.
    #[must_use]
    pub fn thread(&self) -> Option<i32> {
        Some(self.thread.load(Ordering::Acquire)).filter(|&thread| thread > 0)
    }

    /// Whether an error, or a broken promise, was its end.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    pub(super) fn begin(&self, now_ns: u64) {
        self.beat_ns.store(now_ns, Ordering::Relaxed);
        self.thread.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::Release);
        self.begun_ns.store(now_ns.max(1), Ordering::Release);
    }

    pub(super) fn beat(&self, now_ns: u64) {
        self.beat_ns.store(now_ns, Ordering::Relaxed);
    }

    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    /// Tells a failed I/O, if anybody wants to hear of it.
    #[cold]
    pub(super) fn tell(&self, failed: FailedIo) {
        let Some(sink) = self.failures.as_ref().filter(|_| self.tells_all || !failed.goes_on) else { return };
        if sink.sender.try_send(FailedIo { worker: sink.worker, ..failed }).is_err() {
            sink.untold.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl RampShare {
    /// Adds what was done since the last call, `total` in all; true if the ramp is over.
    pub(super) fn add(&self, total: u64, told: &mut u64) -> bool {
        let new = total.saturating_sub(*told);
        *told = total;
        self.pot.fetch_add(new, Ordering::AcqRel) + new >= self.goal_bytes
    }
}
