//! The poll loop of one thread: it joins workload, engine and statistics, and owns every decision
//! of one I/O.
//!
//! A reactor turns its workers round: *reap, steer, issue*, and every millisecond *housekeep*. After
//! the start it allocates nothing, takes no lock, and makes no system call but the engine's own
//! (`tests/zero_alloc.rs`), save for sleeping where the job has nothing due. Whatever may block lives on other threads and meets the reactor in
//! [`Live`] (atomics) and [`Tap`] (channels), both looked at in housekeeping only.

mod live;
mod log;
mod order;
mod worker;

pub use live::{Live, Tap, TapHandle, Totals, WorkerState, tap};
pub use log::{LogShape, LogSource, LogTap, log_pipe};
pub use worker::{
    FloorConfig, FlowConfig, FlowGroup, Found, LaterWorker, LaterWriter, Measures, Missed, PaceConfig,
    RateConfig, ReplayParts, ReplayTally, SearchConfig, ThinkConfig, VerifyParts, Worker, WorkerConfig,
    WorkerOutcome, WorkerParts, blocks_in,
};

pub use order::{FailedIo, FailureSink, Gate, OrderLive, RampShare};
use std::time::Duration;

use crate::base::clock::Clock;

/// How often a reactor looks up from its queues.
const HOUSEKEEP_NS: u64 = 1_000_000;
/// How long a thread rests at most while all its workers wait for their start.
const LONGEST_REST_NS: u64 = 5_000_000;
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
    /// Whether it may begin.
    fn gate(&self, now_ns: u64) -> Gate;
    /// Begins: from here on time counts.
    fn start(&mut self);
    /// Ends: gives the counts back.
    fn finish(self: Box<Self>) -> WorkerOutcome;
}

/// Where a worker is on its reactor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seat {
    Waiting,
    Running,
    Done,
}

/// Drives `workers` until all have ended; the outcomes are in their order. Those that may not begin yet
/// cost the others nothing but a look every millisecond; while there are no others, the thread rests by
/// `rest`.
pub fn drive(mut workers: Vec<Box<dyn Turning>>, rest: fn(Duration)) -> Vec<WorkerOutcome> {
    let clock = Clock::get();
    let mut seats: Vec<Seat> = workers.iter().map(|_| Seat::Waiting).collect();
    let (mut waiting, mut running) = (workers.len(), 0);
    let mut next_look_ns = 0;
    let mut due_ns = admit(&mut workers, &mut seats, clock.now_ns());
    loop {
        if waiting > 0 {
            (waiting, running) = (count(&seats, Seat::Waiting), count(&seats, Seat::Running));
        }
        if running == 0 {
            if waiting == 0 {
                break;
            }
            let left_ns = due_ns.saturating_sub(clock.now_ns());
            rest(Duration::from_nanos(left_ns.min(LONGEST_REST_NS)));
            due_ns = admit(&mut workers, &mut seats, clock.now_ns());
            continue;
        }
        let alone = running == 1;
        let mut now_ns = 0;
        for (worker, seat) in workers.iter_mut().zip(&mut seats) {
            if *seat != Seat::Running {
                continue;
            }
            let burst = if alone { BURST } else { 1 };
            if worker.turns(burst, next_look_ns, alone) == Turn::Done {
                *seat = Seat::Done;
                running -= 1;
                worker.housekeep();
            }
            now_ns = worker.now_ns();
        }
        if now_ns >= next_look_ns {
            next_look_ns = now_ns + HOUSEKEEP_NS;
            workers
                .iter_mut()
                .zip(&seats)
                .filter(|(_, seat)| **seat == Seat::Running)
                .for_each(|(w, _)| w.housekeep());
            if waiting > 0 {
                due_ns = admit(&mut workers, &mut seats, now_ns);
            }
        }
    }
    workers.into_iter().map(|worker| worker.finish()).collect()
}

fn count(seats: &[Seat], wanted: Seat) -> usize {
    seats.iter().filter(|seat| **seat == wanted).count()
}

/// Starts those that may begin; when the next of the others may.
#[cold]
fn admit(workers: &mut [Box<dyn Turning>], seats: &mut [Seat], now_ns: u64) -> u64 {
    let mut due_ns = u64::MAX;
    for (worker, seat) in workers.iter_mut().zip(seats).filter(|(_, seat)| **seat == Seat::Waiting) {
        match worker.gate(now_ns) {
            Gate::Open => {
                *seat = Seat::Running;
                worker.start();
            }
            Gate::Until(at_ns) => due_ns = due_ns.min(at_ns),
        }
    }
    due_ns
}
