//! One worker: its queue, its workload, its buffers and its counts.
//!
//! Invariants: every buffer of the area is in exactly one place (`free`, `batch`, or in the queue);
//! `in_flight` counts those that are not in `free`; an I/O is counted when it comes back, once.

mod blocks;
mod checker;
mod checkers;
mod gathering;
mod issue;
mod judging;
mod later;
mod logging;
mod pace;
mod parts;
mod reap;
mod recording;
mod replaying;
mod sweep;
mod verify;
mod whole_writes;
mod written;

use std::sync::Arc;

use crate::base::clock::Clock;
use crate::base::errno_set::ListedErrors;
use crate::base::ioprio::CommandPriorities;
use crate::base::replay::Recorder;
use crate::base::{Op, Status};
use crate::engine::{Buffer, BufferArea, Completion, Io, Queue, QueueError, Wait};
use crate::stats::{
    ByPriority, DEPTH_LEVELS, LatencyStats, Unwritten, VerifyTally, WorkerStats, depth_level,
};
use crate::workload::{Content, Step, Workload};

use super::live::{Live, Tap, WorkerState};
use super::log::LogTap;
use super::{FailedIo, Gate, Turn, Turning};
use blocks::Blocks;
pub use blocks::blocks_in;
pub use later::{LaterWorker, LaterWriter};
use logging::Logging;
pub use pace::{
    FloorConfig, FlowConfig, FlowGroup, Missed, PaceConfig, RateConfig, SearchConfig, ThinkConfig,
};
pub use parts::{Measures, WorkerConfig, WorkerOutcome, WorkerParts};
use replaying::Replaying;
pub use replaying::{ReplayParts, ReplayTally};
pub use verify::{Found, VerifyParts};
use verify::{Purpose, Verification};
use written::Written;

/// How long the engine may sleep at most when there is nothing to do but wait: requests to stop
/// and to publish are looked at in between.
const MAX_WAIT_NS: u64 = 5_000_000;
/// The same where a trigger may ask for the ledger.
const MAX_WAIT_WITH_LEDGER_NS: u64 = 1_000_000;
/// How long a worker waits for its last I/Os when its queue has died.
const STOP_WAIT_NS: u64 = 100_000_000;
/// A thread that has not looked up for longer than this did not run: it was stopped, or had no CPU. It is no
/// silence of the device.
const LONGEST_GAP_NS: u64 = 200_000_000;
/// Housekeepings between two looks at the 99th percentile.
const P99_EVERY: u32 = 250;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Ramp,
    Run,
    /// Nothing more is issued.
    Drain,
    /// The last flushes are in flight.
    EndFlush,
    /// What was promised is read back.
    Judge,
    Done,
}

/// I/Os of one command that were submitted at one moment and come back at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    submit_ns: u64,
    slat_ns: u64,
    ios: u64,
    bytes: u64,
}

/// One worker on its reactor.
pub struct Worker<Q: Queue> {
    config: WorkerConfig,
    queue: Q,
    area: BufferArea,
    workload: Workload,
    content: Content,
    live: Arc<Live>,
    tap: Tap,
    clock: Clock,
    now_ns: u64,
    phase: Phase,
    phase_end_ns: u64,
    /// The ramp is over.
    counting: bool,
    stats: Box<WorkerStats>,
    error: Option<(Op, Status)>,
    free: Vec<Buffer>,
    in_flight: u32,
    draining_to_low: bool,
    exhausted: bool,
    /// What the next doorbell is for: new I/Os, short ones that go on, and those for which the
    /// queue had no room.
    batch: Vec<Io>,
    /// A step that waits for an I/O to the same bytes.
    held: Option<Step>,
    done: Vec<Completion>,
    runs: [Run; 3],
    /// They are still to be counted, as of the last reap.
    runs_wait: bool,
    reaped_ns: u64,
    batch_ids: Vec<u32>,
    /// By buffer: from before `submit` to after the doorbell.
    slat_ns: Box<[u64]>,
    /// Something is kept by buffer: which reads went through it, or which bytes are in flight.
    tracks_buffers: bool,
    /// By buffer: a read has gone through it, so that it must be filled again before a write. Empty
    /// where nothing is written.
    dirty: Box<[bool]>,
    /// Whether `ranges` are kept.
    tracks_ranges: bool,
    /// By buffer: the bytes in flight, kept only to serialize and to verify.
    ranges: Box<[Option<(u16, u64, u64)>]>,
    verification: Option<Box<Verification>>,
    logging: Option<Box<Logging>>,
    /// Every I/O is logged, or its blocks are watched.
    sees_each: bool,
    /// The largest latency of a window is.
    logs_maxima: bool,
    priorities: Option<Box<CommandPriorities>>,
    replay: Option<Box<Replaying>>,
    recorder: Option<Box<Recorder>>,
    /// By buffer: given up, because the device did not answer.
    lost: Box<[bool]>,
    /// How many are.
    lost_count: u32,
    /// When something was last known to move, and how many busy turns there had been then.
    heard_ns: u64,
    heard_turns: u64,
    /// The last housekeeping.
    looked_ns: u64,
    /// How many pauses of the process the schedules have been moved for.
    pauses_known: usize,
    writes_since_fsync: u32,
    writes_since_fdatasync: u32,
    flush_due: Option<FlushDue>,
    /// When I/Os may go, if anything but room says so.
    pace: Option<Box<pace::Pace>>,
    /// What was written since the last sync_file_range(2), if there are any.
    written: Option<Box<Written>>,
    /// What becomes of each block, where that is watched.
    blocks: Option<Box<Blocks>>,
    looks: u32,
    /// Bytes of the ramp that the others of the group know of.
    ramp_told: u64,
    /// Every latency goes into its histogram.
    measures_all: bool,
}

/// A flush of every target, one after the other.
#[derive(Clone, Copy, Debug)]
struct FlushDue {
    next_target: u16,
    data_only: bool,
    /// In the ledger, once the first of them is submitted.
    ticket: Option<u64>,
}

/// Takes `count` buffers, filled if there is something to fill them with.
fn taken(buffers: &mut BufferArea, count: u32, mut content: Option<&mut Content>) -> Vec<Buffer> {
    let take = || {
        let mut buffer = buffers.take().expect("a buffer for every I/O in flight");
        if let Some(content) = &mut content {
            content.prepare(&mut buffer);
        }
        buffer
    };
    std::iter::repeat_with(take).take(count as usize).collect()
}

impl FlushDue {
    fn new(next_target: u16, data_only: bool) -> FlushDue {
        FlushDue { next_target, data_only, ticket: None }
    }
}

impl<Q: Queue> Worker<Q> {
    /// Puts the parts together and fills the buffers.
    ///
    /// # Panics
    /// If there are fewer buffers than `config.depth`.
    #[must_use]
    pub fn new(parts: WorkerParts<Q>) -> Worker<Q> {
        let WorkerParts {
            config,
            queue,
            mut buffers,
            workload,
            mut content,
            writes,
            live,
            tap,
            verify,
            priorities,
            log,
            replay,
            recorder,
        } = parts;
        let logging = log.map(|tap| Box::new(Logging::new(tap)));
        let mut stats = Box::<WorkerStats>::default();
        stats.by_priority = priorities.as_ref().map(|rule| Box::new(ByPriority::of(rule)));
        let depth = config.depth as usize;
        let verifies = verify.is_some();
        let fills = (writes && !verifies).then_some(&mut content);
        let free = taken(&mut buffers, config.depth, fills);
        Worker {
            config,
            queue,
            area: buffers,
            workload,
            content,
            live,
            tap,
            clock: Clock::get(),
            now_ns: 0,
            phase: Phase::Ramp,
            phase_end_ns: 0,
            counting: false,
            stats,
            error: None,
            free,
            in_flight: 0,
            draining_to_low: false,
            exhausted: false,
            batch: Vec::with_capacity(depth),
            held: None,
            done: Vec::with_capacity(depth),
            runs: [Run::default(); 3],
            runs_wait: false,
            reaped_ns: 0,
            batch_ids: Vec::with_capacity(depth),
            slat_ns: vec![0; depth].into(),
            tracks_buffers: writes || config.serialize || verifies || replay.is_some(),
            // With verification every write fills its buffer from one end to the other.
            dirty: if writes && !verifies { vec![false; depth].into() } else { Box::default() },
            tracks_ranges: config.serialize || verifies && writes,
            ranges: if config.serialize || verifies { vec![None; depth].into() } else { Box::default() },
            verification: verify.map(|parts| Box::new(Verification::new(parts, config.depth))),
            sees_each: logging.as_ref().is_some_and(|logging| logging.logs_each()),
            logs_maxima: logging.as_ref().is_some_and(|logging| logging.logs_maxima()),
            logging,
            priorities: priorities.map(Box::new),
            replay: replay.map(|parts| Box::new(Replaying::new(parts))),
            recorder: recorder.map(Box::new),
            lost: vec![false; depth].into(),
            lost_count: 0,
            heard_ns: 0,
            heard_turns: 0,
            looked_ns: 0,
            pauses_known: 0,
            writes_since_fsync: 0,
            writes_since_fdatasync: 0,
            flush_due: None,
            pace: None,
            written: Written::of(&config),
            blocks: None,
            looks: 0,
            ramp_told: 0,
            measures_all: config.measures == Measures::ALL,
        }
    }

    /// Moves from phase to phase.
    #[inline]
    fn steer(&mut self) {
        if self.verification.as_ref().is_some_and(|verification| verification.must_freeze()) {
            self.freeze();
        }
        match self.phase {
            Phase::Ramp | Phase::Run => {
                if self.now_ns >= self.phase_end_ns {
                    if self.phase == Phase::Ramp {
                        self.begin_counting();
                    } else {
                        self.enter(Phase::Drain);
                    }
                }
                if self.exhausted {
                    self.enter(Phase::Drain);
                }
            }
            Phase::Drain | Phase::EndFlush => {
                if self.in_flight == 0 && !self.must_stay() {
                    self.advance_end();
                }
            }
            Phase::Judge => {
                if self.in_flight == 0 && self.batch.is_empty() && self.is_judged() {
                    self.enter(Phase::Done);
                }
            }
            Phase::Done => {}
        }
    }

    /// A trigger has fired: nothing more is issued.
    #[cold]
    fn freeze(&mut self) {
        if matches!(self.phase, Phase::Ramp | Phase::Run) {
            self.exhausted = true;
        }
        self.flush_due = None;
        self.config.end_fsync = false;
        if let Some(verification) = &mut self.verification {
            verification.freeze_ledger();
        }
    }

    /// The command of which there were the most.
    fn busiest(&self) -> Op {
        let busiest = self.stats.ops.iter().max_by_key(|(_, op)| op.ios).filter(|(_, op)| op.ios > 0);
        busiest.map_or_else(|| self.workload.usual_op(), |(op, _)| op)
    }

    /// Ends the ramp where that goes by bytes.
    #[cold]
    fn look_at_ramp(&mut self) {
        let Some(ramp) = &self.live.order.ramp else { return };
        let done = self.stats.ops.iter().map(|(_, op)| op.bytes).sum();
        if ramp.add(done, &mut self.ramp_told) {
            self.begin_counting();
        }
    }

    fn must_stay(&self) -> bool {
        self.verification.as_ref().is_some_and(|verification| verification.must_stay())
    }

    #[cold]
    fn begin_counting(&mut self) {
        self.count_runs();
        self.counting = true;
        self.stats.restart(self.now_ns);
        // Before it is said to run: what the ramp did is no part of its first interval.
        self.live.publish(&self.stats, self.now_ns);
        self.pace.iter_mut().for_each(|pace| pace.begin_counting(self.now_ns));
        if let Some(logging) = &mut self.logging {
            logging.begin(self.now_ns);
        }
        self.phase_end_ns = self.config.runtime_ns.map_or(u64::MAX, |ns| self.now_ns.saturating_add(ns));
        self.enter(Phase::Run);
    }

    #[cold]
    fn advance_end(&mut self) {
        if self.phase == Phase::Drain && self.config.end_fsync && self.flush_due.is_none() {
            self.flush_due = Some(FlushDue::new(self.config.first_target, false));
            self.enter(Phase::EndFlush);
        } else if self.flush_due.is_none() {
            let judges = self.begin_judging();
            self.enter(if judges { Phase::Judge } else { Phase::Done });
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.count_runs();
        if self.phase == Phase::Run {
            self.stats.end_ns = self.now_ns;
        }
        if matches!(phase, Phase::Judge | Phase::Done) {
            self.end_logs();
        }
        if self.phase == Phase::Judge {
            self.end_judging();
        }
        self.phase = phase;
        if matches!(phase, Phase::Drain) {
            self.flush_due = None;
            self.held = None;
        }
        if matches!(phase, Phase::Drain | Phase::Done) {
            self.pace.iter_mut().for_each(|pace| pace.end());
        }
        if phase == Phase::Judge {
            // What is read back is no part of what the job did, nor is the wait for a trigger.
            if !self.verification.as_ref().is_some_and(|verification| verification.is_frozen()) {
                self.stats.end_ns = self.now_ns;
            }
            if let Some(verification) = self.verification.as_mut().filter(|v| !v.audits()) {
                let mut stats = Box::<WorkerStats>::default();
                stats.restart(self.now_ns);
                verification.written = Some(std::mem::replace(&mut self.stats, stats));
            }
        }
        if matches!(phase, Phase::Judge | Phase::Done)
            && let Some(verification) = &mut self.verification
        {
            verification.freeze_ledger();
        }
        if phase == Phase::Done {
            let has_missed = self.pace.as_ref().is_some_and(|pace| pace.missed.is_some());
            let has_broken = || self.verification.as_ref().is_some_and(|v| v.has_broken());
            if self.error.is_some() || has_missed || has_broken() {
                self.live.order.fail();
            }
            if self.verification.is_none() {
                self.stats.end_ns = self.now_ns;
            }
            if !self.counting {
                // Ended within the ramp: what it did, to its last I/O, is no result.
                self.stats.restart(self.now_ns);
            }
        }
        self.live.set_state(match phase {
            Phase::Ramp => WorkerState::Ramping,
            Phase::Run => WorkerState::Running,
            Phase::Drain | Phase::EndFlush => WorkerState::Draining,
            Phase::Judge => WorkerState::Judging,
            Phase::Done => WorkerState::Done,
        });
    }
}

impl<Q: Queue> Worker<Q> {
    #[inline]
    fn turn(&mut self, may_wait: bool) -> Turn {
        if self.phase == Phase::Done {
            // A dead queue may hold I/Os for ever: it is not asked again.
            return Turn::Done;
        }
        let reaped = self.reap(may_wait);
        self.steer();
        let issued = match self.phase {
            Phase::Ramp | Phase::Run => self.issue(),
            Phase::Drain | Phase::EndFlush => self.submit(),
            Phase::Judge => self.issue_judging(),
            Phase::Done => return Turn::Done,
        };
        self.count_runs();
        if reaped || issued {
            self.stats.busy_turns += 1;
            Turn::Busy
        } else {
            self.stats.idle_turns += 1;
            Turn::Idle
        }
    }
}

impl<Q: Queue> Turning for Worker<Q> {
    fn turns(&mut self, count: u32, until_ns: u64, may_wait: bool) -> Turn {
        let mut last = Turn::Idle;
        for _ in 0..count {
            last = self.turn(may_wait);
            if last == Turn::Done || self.now_ns >= until_ns {
                break;
            }
        }
        last
    }

    fn housekeep(&mut self) {
        let stats = self.verification.as_ref().and_then(|v| v.written.as_ref()).unwrap_or(&self.stats);
        self.live.publish(stats, self.now_ns);
        self.tap.serve(stats);
        self.live.order.beat(self.now_ns);
        if self.phase == Phase::Ramp {
            self.look_at_ramp();
        }
        self.look_at_logs();
        if self.live.stop_requested() {
            self.stop_requested();
        }
        if self.phase == Phase::Run && self.live.is_enough() {
            self.exhausted = true;
        }
        if self.live.pauses.count() != self.pauses_known {
            self.forgive_pauses();
        }
        self.pace_housekeep();
        let gap_ns = self.now_ns.saturating_sub(std::mem::replace(&mut self.looked_ns, self.now_ns));
        if gap_ns > LONGEST_GAP_NS {
            self.heard_ns = self.heard_ns.saturating_add(gap_ns);
        }
        if self.stats.busy_turns != self.heard_turns || self.in_flight == 0 {
            (self.heard_turns, self.heard_ns) = (self.stats.busy_turns, self.now_ns);
        } else if self.now_ns.saturating_sub(self.heard_ns) > self.config.reap_timeout_ns {
            self.give_up();
        }
        self.looks += 1;
        if self.looks >= P99_EVERY {
            self.looks = 0;
            let latency = &self.stats.ops.get(self.busiest()).latency;
            let known = if self.config.measures.clat { &latency.clat } else { &latency.lat };
            self.live.p99_ns.store(known.percentile(99.0), std::sync::atomic::Ordering::Relaxed);
            self.recorder.iter_mut().for_each(|recorder| {
                recorder.hand_over();
            });
        }
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn gate(&self, now_ns: u64) -> Gate {
        // Who is to end begins for that.
        if self.live.stop_requested() { Gate::Open } else { self.live.order.gate(now_ns) }
    }

    fn start(&mut self) {
        self.now_ns = self.clock.now_ns();
        self.heard_ns = self.now_ns;
        self.looked_ns = self.now_ns;
        self.pauses_known = self.live.pauses.count();
        self.stats.start_ns = self.now_ns;
        self.pace.iter_mut().for_each(|pace| pace.start(self.now_ns));
        let ramps = self.config.ramp_ns > 0 || self.live.order.ramp.is_some();
        self.phase_end_ns = match self.config.ramp_ns {
            0 => u64::MAX,
            ns => self.now_ns.saturating_add(ns),
        };
        self.enter(Phase::Ramp);
        if self.live.stop_requested() {
            // Ended before it began: nothing is issued, not even a flush.
            self.config.end_fsync = false;
            self.stop_requested();
            return;
        }
        self.live.order.begin(self.now_ns);
        if !ramps {
            self.begin_counting();
        }
        if self.verification.as_ref().is_some_and(|verification| verification.only_judges()) {
            self.begin_counting();
            self.exhausted = true;
        }
    }

    fn finish(self: Box<Self>) -> WorkerOutcome {
        let Worker {
            free,
            mut area,
            mut stats,
            error,
            verification,
            pace,
            logging,
            replay,
            blocks,
            live,
            ..
        } = *self;
        stats.paused_ns = live.pauses.within(stats.start_ns, stats.end_ns);
        if let Some(logging) = logging {
            logging.finish();
        }
        for buffer in free {
            area.give_back(buffer);
        }
        let missed = pace.as_ref().and_then(|pace| pace.missed);
        stats.blocks = blocks.map(|blocks| blocks.counts());
        // Where nothing was issued, none was sought.
        stats.depth_found = pace.filter(|_| stats.total_ios() > 0).and_then(|pace| pace.depth_found());
        let verify = verification.and_then(|verification| verification.finish());
        let (verify, unwritten) = verify.map_or((None, None), |(tally, unwritten)| (Some(tally), unwritten));
        let replay = replay.map(|replay| replay.finish());
        WorkerOutcome { stats, error, missed, verify, unwritten, replay }
    }
}
