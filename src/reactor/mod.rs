//! The poll loop of one thread: it joins workload, engine and statistics, and owns every decision
//! of one I/O.
//!
//! A reactor turns its workers round: *reap, steer, issue*, and every millisecond *housekeep*. After
//! the start it allocates nothing, takes no lock, and makes no system call but the engine's own
//! (`tests/zero_alloc.rs`), save for sleeping where the job has nothing due. Whatever may block lives on other threads and meets the reactor in
//! [`Live`] (atomics) and [`Tap`] (channels), both looked at in housekeeping only.

mod live;
mod worker;

pub use live::{Live, Tap, TapHandle, WorkerState, tap};
pub use worker::{
    FloorConfig, FlowConfig, FlowGroup, Found, Missed, PaceConfig, RateConfig, ReplayParts, ReplayTally,
    SearchConfig, ThinkConfig, VerifyParts, Worker, WorkerConfig, WorkerOutcome, WorkerParts,
};

/// How often a reactor looks up from its queues.
const HOUSEKEEP_NS: u64 = 1_000_000;
/// Turns of a worker that has its reactor to itself between two looks at the time.
const BURST: u32 = 1024;

/// What one turn of a worker did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It moved at least one I/O.
    Busy,
    /// It found nothing to do.
    Idle,
    /// The worker has ended.
    Done,
}

/// A worker of any engine: dispatched once a burst of turns, never once an I/O.
pub trait Turning {
    /// Reaps, steers and issues up to `count` times, until it is `until_ns` (`base::clock`).
    /// `may_wait`: the engine may sleep until something completes, because no other worker needs
    /// this thread. The answer is that of the last turn.
    fn turns(&mut self, count: u32, until_ns: u64, may_wait: bool) -> Turn;
    /// Publishes numbers and looks for requests.
    fn housekeep(&mut self);
    /// The time of the last turn (`base::clock`).
    fn now_ns(&self) -> u64;
    /// Begins: from here on time counts.
    fn start(&mut self);
    /// Ends: gives the counts back.
    fn finish(self: Box<Self>) -> WorkerOutcome;
}

/// Drives `workers` until all have ended; the outcomes are in their order.
pub fn drive(mut workers: Vec<Box<dyn Turning>>) -> Vec<WorkerOutcome> {
    let mut running: Vec<bool> = workers.iter().map(|_| true).collect();
    for worker in &mut workers {
        worker.start();
    }
    let mut left = workers.len();
    let mut next_look_ns = 0;
    while left > 0 {
        let alone = left == 1;
        let mut now_ns = 0;
        for (worker, running) in workers.iter_mut().zip(&mut running) {
            if !*running {
                continue;
            }
            let burst = if alone { BURST } else { 1 };
            if worker.turns(burst, next_look_ns, alone) == Turn::Done {
                *running = false;
                left -= 1;
                worker.housekeep();
            }
            now_ns = worker.now_ns();
        }
        if now_ns >= next_look_ns {
            next_look_ns = now_ns + HOUSEKEEP_NS;
            workers
                .iter_mut()
                .zip(&running)
                .filter(|(_, running)| **running)
                .for_each(|(w, _)| w.housekeep());
        }
    }
    workers.into_iter().map(|worker| worker.finish()).collect()
}
