//! Where a reactor meets the threads that may block.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::base::PerOp;
use crate::base::pause::Pauses;
use crate::base::seqlock::SeqLock;
use crate::stats::WorkerStats;

use super::order::OrderLive;

/// What a worker had done at one moment, of all commands but flush.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// The moment (`base::clock`).
    pub at_ns: u64,
    /// I/Os that ended well since counting began.
    pub ios: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Sum of their completion latencies in nanoseconds; wraps.
    pub latency_ns: u64,
}

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
/// by anyone; each number is right by itself, and [`Live::totals`] gives some that belong together.
#[derive(Debug)]
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
    /// When the process did not run.
    pub pauses: Arc<Pauses>,
    /// [`Totals`], of one moment.
    totals: SeqLock,
    state: AtomicU8,
    stop: AtomicBool,
    enough: AtomicBool,
    judging_allowed: AtomicBool,
}

impl Default for Live {
    fn default() -> Live {
        Live {
            ios: PerOp::default(),
            bytes: PerOp::default(),
            p99_ns: AtomicU64::default(),
            errors: AtomicU64::default(),
            start_ns: AtomicU64::default(),
            order: OrderLive::default(),
            pauses: Arc::default(),
            totals: SeqLock::new(4),
            state: AtomicU8::default(),
            stop: AtomicBool::default(),
            enough: AtomicBool::default(),
            judging_allowed: AtomicBool::default(),
        }
    }
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

    /// Tells the worker that it has done enough: it issues no more, and ends as it does when its work
    /// is done, with all that follows.
    pub fn say_enough(&self) {
        self.enough.store(true, Ordering::Release);
    }

    /// Whether it was told so.
    pub(super) fn is_enough(&self) -> bool {
        self.enough.load(Ordering::Acquire)
    }

    /// Numbers of one moment: what rates are made of. `None` if the worker is publishing new ones all the
    /// time.
    #[must_use]
    pub fn totals(&self) -> Option<Totals> {
        let numbers = self.totals.read()?;
        let [at_ns, ios, bytes, latency_ns] = numbers[..] else { return Some(Totals::default()) };
        Some(Totals { at_ns, ios, bytes, latency_ns })
    }

    pub(super) fn publish(&self, stats: &WorkerStats, now_ns: u64) {
        let (mut ios, mut bytes, mut latency) = (0, 0, 0_u128);
        for (op, counts) in stats.ops.iter() {
            self.ios.get(op).store(counts.ios, Ordering::Relaxed);
            self.bytes.get(op).store(counts.bytes, Ordering::Relaxed);
            (ios, bytes) = (ios + counts.ios, bytes + counts.bytes);
            latency = latency.wrapping_add(counts.latency.clat.sum());
        }
        #[expect(clippy::cast_possible_truncation, reason = "wraps, and is read by its differences")]
        self.totals.write([now_ns, ios, bytes, latency as u64]);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Op;

    #[test]
    fn totals_are_of_one_moment() {
        let live = Arc::new(Live::default());
        let writer = Arc::clone(&live);
        let thread = std::thread::spawn(move || {
            let mut stats = Box::<WorkerStats>::default();
            for moment in 1..=20_000 {
                for op in Op::ADDRESSED {
                    let counts = stats.ops.get_mut(op);
                    (counts.ios, counts.bytes) = (moment, moment * 4096);
                }
                writer.publish(&stats, moment);
            }
        });
        while !thread.is_finished() {
            let Some(totals) = live.totals() else { continue };
            assert_eq!((totals.ios, totals.bytes), (3 * totals.at_ns, 3 * 4096 * totals.at_ns));
        }
        thread.join().unwrap();
        assert_eq!(live.totals().unwrap().ios, 60_000);
    }
}
