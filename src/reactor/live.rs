//! Where a reactor meets the threads that may block.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::base::PerOp;
use crate::stats::WorkerStats;

use super::order::OrderLive;

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum WorkerState {
    /// Not started.
    Waiting = 0,
    /// Running, not counted yet.
    Ramping = 1,
    /// Running.
    Running = 2,
    /// Waiting for the last I/Os.
    Draining = 3,
    /// Reading back what was promised.
    Judging = 4,
    /// Ended.
    Done = 5,
}

/// Numbers of one worker that change while it runs. Written by its reactor every millisecond, read
/// by anyone; each number is right by itself, they are not a consistent set.
#[derive(Debug, Default)]
pub struct Live {
    /// I/Os that ended well since counting began.
    pub ios: PerOp<AtomicU64>,
    /// Their bytes.
    pub bytes: PerOp<AtomicU64>,
    /// 99th percentile of `clat` so far, over the command with the most I/Os, in nanoseconds.
    pub p99_ns: AtomicU64,
    /// I/Os that failed.
    pub errors: AtomicU64,
    /// When counting began.
    pub start_ns: AtomicU64,
    /// Begin and end.
    pub order: OrderLive,
    state: AtomicU8,
    stop: AtomicBool,
    judging_allowed: AtomicBool,
}

impl Live {
    /// What the worker is doing.
    #[must_use]
    pub fn state(&self) -> WorkerState {
        match self.state.load(Ordering::Acquire) {
            0 => WorkerState::Waiting,
            1 => WorkerState::Ramping,
            2 => WorkerState::Running,
            3 => WorkerState::Draining,
            4 => WorkerState::Judging,
            _ => WorkerState::Done,
        }
    }

    pub(super) fn set_state(&self, state: WorkerState) {
        self.state.store(state as u8, Ordering::Release);
    }

    /// Lets the worker read back what it wrote: what the kernel had cached of it is gone.
    pub fn allow_judging(&self) {
        self.judging_allowed.store(true, Ordering::Release);
    }

    /// Whether it may.
    #[must_use]
    pub fn may_judge(&self) -> bool {
        self.judging_allowed.load(Ordering::Acquire)
    }

    /// Asks the worker to issue no more and to end when its last I/O is back.
    pub fn request_stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Whether it was asked to.
    #[must_use]
    pub fn stop_requested(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(super) fn publish(&self, stats: &WorkerStats) {
        for (op, counts) in stats.ops.iter() {
            self.ios.get(op).store(counts.ios, Ordering::Relaxed);
            self.bytes.get(op).store(counts.bytes, Ordering::Relaxed);
        }
        self.errors.store(stats.errors().map(|error| error.count).sum(), Ordering::Relaxed);
        self.start_ns.store(stats.start_ns, Ordering::Relaxed);
    }
}

/// The reactor's end of a tap: copies of a worker's full statistics, made on request into memory
/// that the asker brings along.
#[derive(Debug)]
pub struct Tap {
    requests: Receiver<Box<WorkerStats>>,
    answers: Sender<Box<WorkerStats>>,
}

/// The asker's end of a [`Tap`].
#[derive(Debug)]
pub struct TapHandle {
    requests: Sender<Box<WorkerStats>>,
    answers: Receiver<Box<WorkerStats>>,
}

/// A connected pair.
#[must_use]
pub fn tap() -> (Tap, TapHandle) {
    let (requests, incoming) = bounded(1);
    let (outgoing, answers) = bounded(1);
    (Tap { requests: incoming, answers: outgoing }, TapHandle { requests, answers })
}

impl Tap {
    pub(super) fn serve(&self, stats: &WorkerStats) {
        if let Ok(mut copy) = self.requests.try_recv() {
            copy.copy_from(stats);
            // The asker holds one request at a time, so there is room, or it has gone away.
            let _ = self.answers.try_send(copy);
        }
    }
}

impl TapHandle {
    /// Asks for a copy; the answer comes from [`TapHandle::answer`].
    pub fn ask(&self) {
        // An answer that came too late is not the one to this question.
        let _ = self.answers.try_recv();
        let _ = self.requests.try_send(Box::default());
    }

    /// The copy asked for; `None` if the worker does not answer in time (it is stuck in its device,
    /// or has ended).
    #[must_use]
    pub fn answer(&self, timeout: std::time::Duration) -> Option<Box<WorkerStats>> {
        self.answers.recv_timeout(timeout).ok()
    }
}
