//! One worker: its queue, its workload, its buffers and its counts.
//!
//! Invariants: every buffer of the area is in exactly one place (`free`, `retry`, or in the queue);
//! `in_flight` counts those that are not in `free`; an I/O is counted when it comes back, once.

use std::sync::Arc;

use crate::base::clock::Clock;
use crate::base::{Op, Status};
use crate::engine::{Buffer, BufferArea, Completion, Io, Queue, QueueError, Wait};
use crate::stats::{DEPTH_LEVELS, WorkerStats, depth_level};
use crate::workload::{Content, Step, Workload};

use super::live::{Live, Tap, WorkerState};
use super::{Turn, Turning};

/// How long the engine may sleep at most when there is nothing to do but wait: requests to stop
/// and to publish are looked at in between.
const MAX_WAIT_NS: u64 = 5_000_000;
/// How long a worker waits for its last I/Os when its queue has died.
const STOP_WAIT_NS: u64 = 100_000_000;
/// Housekeepings between two looks at the 99th percentile.
const P99_EVERY: u32 = 250;

/// The options of one worker's loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerConfig {
    /// I/Os in flight at most.
    pub depth: u32,
    /// I/Os a doorbell at most.
    pub batch_submit: u32,
    /// Completions to wait for when nothing can be issued; 0 polls.
    pub batch_complete_min: u32,
    /// Completions taken at once at most.
    pub batch_complete_max: u32,
    /// Once full, drain to this depth before issuing again.
    pub depth_low: u32,
    /// Flush after this many writes; 0 never.
    pub fsync: u32,
    /// The same, data only; 0 never.
    pub fdatasync: u32,
    /// Flush at the end.
    pub end_fsync: bool,
    /// How many targets there are to flush.
    pub targets: u16,
    /// Run, but do not count, for this long.
    pub ramp_ns: u64,
    /// Then issue for this long.
    pub runtime_ns: Option<u64>,
    /// Failed reads do not end the worker.
    pub continue_on_read: bool,
    /// Failed writes, deallocates and flushes do not end the worker.
    pub continue_on_write: bool,
    /// A full target ends the worker without an error.
    pub fill_device: bool,
    /// Hold an I/O back while another to the same bytes is in flight.
    pub serialize: bool,
}

/// What a worker is made of.
pub struct WorkerParts<Q> {
    /// Options.
    pub config: WorkerConfig,
    /// The queue, made on this thread.
    pub queue: Q,
    /// The memory: at least `config.depth` buffers of the largest length.
    pub buffers: BufferArea,
    /// What to do.
    pub workload: Workload,
    /// What to write.
    pub content: Content,
    /// Whether it writes at all.
    pub writes: bool,
    /// Numbers that others read meanwhile.
    pub live: Arc<Live>,
    /// Requests for full statistics.
    pub tap: Tap,
}

/// What a worker leaves behind.
#[derive(Debug)]
pub struct WorkerOutcome {
    /// Its counts.
    pub stats: Box<WorkerStats>,
    /// The error that ended it, if one did.
    pub error: Option<(Op, Status)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Ramp,
    Run,
    /// Nothing more is issued.
    Drain,
    /// The last flushes are in flight.
    EndFlush,
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
    stats: Box<WorkerStats>,
    error: Option<(Op, Status)>,
    free: Vec<Buffer>,
    in_flight: u32,
    draining_to_low: bool,
    exhausted: bool,
    /// The batch being prepared.
    steps: Vec<Step>,
    /// A step that waits for an I/O to the same bytes.
    held: Option<Step>,
    /// I/Os to submit again: short ones, and those for which the queue had no room.
    retry: Vec<Io>,
    done: Vec<Completion>,
    runs: [Run; 3],
    batch_ids: Vec<u32>,
    /// By buffer: from before `submit` to after the doorbell.
    slat_ns: Box<[u64]>,
    /// By buffer: a read has gone through it, so that it must be filled again before a write.
    dirty: Box<[bool]>,
    /// By buffer: the bytes in flight, kept only to serialize.
    ranges: Box<[Option<(u16, u64, u64)>]>,
    writes_since_fsync: u32,
    writes_since_fdatasync: u32,
    flush_due: Option<FlushDue>,
    looks: u32,
}

/// A flush of every target, one after the other.
#[derive(Clone, Copy, Debug)]
struct FlushDue {
    next_target: u16,
    data_only: bool,
}

impl<Q: Queue> Worker<Q> {
    /// Puts the parts together and fills the buffers.
    ///
    /// # Panics
    /// If there are fewer buffers than `config.depth`.
    #[must_use]
    pub fn new(parts: WorkerParts<Q>) -> Worker<Q> {
        let WorkerParts { config, queue, mut buffers, workload, mut content, writes, live, tap } = parts;
        let depth = config.depth as usize;
        let mut free = Vec::with_capacity(depth);
        for id in 0..config.depth {
            let mut buffer = buffers.take().expect("a buffer for every I/O in flight");
            if writes {
                content.prepare(&mut buffer, u64::from(id));
            }
            free.push(buffer);
        }
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
            stats: Box::default(),
            error: None,
            free,
            in_flight: 0,
            draining_to_low: false,
            exhausted: false,
            steps: Vec::with_capacity(depth),
            held: None,
            retry: Vec::with_capacity(depth),
            done: Vec::with_capacity(depth),
            runs: [Run::default(); 3],
            batch_ids: Vec::with_capacity(depth),
            slat_ns: vec![0; depth].into(),
            dirty: vec![false; depth].into(),
            ranges: if config.serialize { vec![None; depth].into() } else { Box::default() },
            writes_since_fsync: 0,
            writes_since_fdatasync: 0,
            flush_due: None,
            looks: 0,
        }
    }

    /// Takes what has completed; true if there was anything.
    #[inline]
    fn reap(&mut self, may_wait: bool) -> bool {
        if self.in_flight == 0 {
            self.now_ns = self.clock.now_ns();
            return false;
        }
        let wait = if may_wait && !Q::BLOCKING { self.wait() } else { Wait::default() };
        let mut done = std::mem::take(&mut self.done);
        let polled = self.queue.poll(wait, self.config.batch_complete_max as usize, &mut done);
        if !Q::BLOCKING {
            self.now_ns = self.clock.now_ns();
        }
        let count = done.len() as u32;
        for completion in done.drain(..) {
            self.take_back(completion);
        }
        self.done = done;
        for op in Op::ADDRESSED {
            self.count_run(op);
        }
        if count > 0 {
            self.stats.batch_complete[depth_level(count)] += 1;
        }
        if let Err(error) = polled {
            self.queue_died(error);
        }
        count > 0
    }

    /// How long the engine may sleep: not at all while something can be issued.
    #[inline]
    fn wait(&self) -> Wait {
        let can_issue = matches!(self.phase, Phase::Ramp | Phase::Run)
            && !self.exhausted
            && self.in_flight < self.config.depth
            && !self.draining_to_low
            && self.held.is_none();
        if can_issue || self.config.batch_complete_min == 0 {
            return Wait::default();
        }
        let min = self.config.batch_complete_min.min(self.in_flight) as usize;
        let left_ns = match self.phase {
            Phase::Ramp | Phase::Run => self.phase_end_ns.saturating_sub(self.now_ns).max(1000),
            _ => MAX_WAIT_NS,
        };
        Wait { min, timeout_ns: left_ns.min(MAX_WAIT_NS) }
    }

    #[inline]
    fn take_back(&mut self, completion: Completion) {
        let io = &completion.io;
        let whole = completion.bytes == io.len - io.moved;
        if !(completion.status.is_ok() && whole && io.op != Op::Flush) {
            self.take_back_unusual(completion);
            return;
        }
        if Q::BLOCKING {
            self.now_ns = completion.done_ns;
            let op = self.stats.ops.get_mut(io.op);
            let ns = completion.done_ns - io.submit_ns;
            op.latency.clat.record(ns);
            op.latency.lat.record(ns);
            op.ios += 1;
            op.bytes += u64::from(io.len);
        } else {
            let run = &mut self.runs[io.op as usize];
            if run.submit_ns != io.submit_ns {
                let op = io.op;
                self.count_run(op);
                let io = &completion.io;
                let slat_ns = self.slat_ns[io.buffer.id() as usize];
                self.runs[op as usize] = Run { submit_ns: io.submit_ns, slat_ns, ios: 0, bytes: 0 };
            }
            let run = &mut self.runs[completion.io.op as usize];
            run.ios += 1;
            run.bytes += u64::from(completion.io.len);
        }
        self.free_buffer(completion.io);
    }

    /// Counts what has come back together: one entry in the histograms for all of it.
    #[inline]
    fn count_run(&mut self, op: Op) {
        let run = &mut self.runs[op as usize];
        if run.ios == 0 {
            return;
        }
        let lat_ns = self.now_ns.saturating_sub(run.submit_ns);
        let slat_ns = run.slat_ns.min(lat_ns);
        let counts = self.stats.ops.get_mut(op);
        counts.ios += run.ios;
        counts.bytes += run.bytes;
        counts.latency.slat.record_n(slat_ns, run.ios);
        counts.latency.clat.record_n(lat_ns - slat_ns, run.ios);
        counts.latency.lat.record_n(lat_ns, run.ios);
        *run = Run::default();
    }

    #[inline]
    fn free_buffer(&mut self, io: Io) {
        let id = io.buffer.id() as usize;
        if io.op == Op::Read {
            self.dirty[id] = true;
        }
        if self.config.serialize {
            self.ranges[id] = None;
        }
        self.free.push(io.buffer);
        self.in_flight -= 1;
    }

    /// Errors, short transfers and flushes.
    #[cold]
    fn take_back_unusual(&mut self, completion: Completion) {
        let Completion { mut io, status, bytes, done_ns } = completion;
        if Q::BLOCKING {
            self.now_ns = done_ns;
        }
        if status.is_ok() && io.op == Op::Flush {
            self.stats.flush.record(self.now_ns.saturating_sub(io.submit_ns));
            self.free_buffer(io);
            return;
        }
        if status.is_ok() && bytes > 0 {
            io.moved += bytes;
            self.stats.ops.get_mut(io.op).short_ios += 1;
            self.retry.push(io);
            return;
        }
        let status = match (status.is_ok(), io.op) {
            (false, _) => status,
            (true, Op::Read) => Status::from_errno(rustix::io::Errno::NODATA.raw_os_error()),
            (true, _) => Status::from_errno(rustix::io::Errno::IO.raw_os_error()),
        };
        let full = [rustix::io::Errno::NOSPC, rustix::io::Errno::DQUOT].map(|e| e.raw_os_error());
        if self.config.fill_device && io.op == Op::Write && full.contains(&status.errno()) {
            self.exhausted = true;
        } else {
            self.stats.record_error(io.op, status, io.offset);
            let goes_on =
                if io.op == Op::Read { self.config.continue_on_read } else { self.config.continue_on_write };
            if !goes_on {
                self.fail(io.op, status);
            }
        }
        self.free_buffer(io);
    }

    #[cold]
    fn fail(&mut self, op: Op, status: Status) {
        self.error.get_or_insert((op, status));
        self.exhausted = true;
        self.config.end_fsync = false;
    }

    #[cold]
    fn queue_died(&mut self, error: QueueError) {
        self.stats.record_error(Op::Flush, error.status, 0);
        self.fail(Op::Flush, error.status);
        let mut done = std::mem::take(&mut self.done);
        self.queue.stop(STOP_WAIT_NS, &mut done);
        for completion in done.drain(..) {
            self.free_buffer(completion.io);
        }
        self.done = done;
        while let Some(io) = self.retry.pop() {
            self.free_buffer(io);
        }
        // What did not come back stays with the device: its memory is never freed.
        self.enter(Phase::Done);
    }

    /// Moves from phase to phase.
    #[inline]
    fn steer(&mut self) {
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
                    if self.phase == Phase::Ramp {
                        // Nothing was counted yet: what the ramp did is no result.
                        self.stats.restart(self.now_ns);
                    }
                    self.enter(Phase::Drain);
                }
            }
            Phase::Drain | Phase::EndFlush => {
                if self.in_flight == 0 {
                    self.advance_end();
                }
            }
            Phase::Done => {}
        }
    }

    #[cold]
    fn begin_counting(&mut self) {
        self.stats.restart(self.now_ns);
        self.phase_end_ns = self.config.runtime_ns.map_or(u64::MAX, |ns| self.now_ns.saturating_add(ns));
        self.enter(Phase::Run);
    }

    #[cold]
    fn advance_end(&mut self) {
        if self.phase == Phase::Drain && self.config.end_fsync && self.flush_due.is_none() {
            self.flush_due = Some(FlushDue { next_target: 0, data_only: false });
            self.enter(Phase::EndFlush);
        } else if self.flush_due.is_none() {
            self.enter(Phase::Done);
        }
    }

    fn enter(&mut self, phase: Phase) {
        if self.phase == Phase::Run {
            self.stats.end_ns = self.now_ns;
        }
        self.phase = phase;
        if matches!(phase, Phase::Drain) {
            self.flush_due = None;
            self.held = None;
        }
        if phase == Phase::Done {
            self.stats.end_ns = self.now_ns;
        }
        self.live.set_state(match phase {
            Phase::Ramp => WorkerState::Ramping,
            Phase::Run => WorkerState::Running,
            Phase::Drain | Phase::EndFlush => WorkerState::Draining,
            Phase::Done => WorkerState::Done,
        });
    }

    /// Submits what there is room for; true if it was anything.
    #[inline]
    fn issue(&mut self) -> bool {
        if self.draining_to_low {
            if self.in_flight > self.config.depth_low {
                return false;
            }
            self.draining_to_low = false;
        }
        let room = (self.config.depth - self.in_flight).min(self.config.batch_submit) as usize;
        self.prepare(room);
        if self.steps.is_empty() && self.retry.is_empty() && self.flush_due.is_none() {
            return false;
        }
        self.submit()
    }

    /// Asks the workload for up to `room` I/Os and fills the buffers that they will take.
    #[inline]
    fn prepare(&mut self, room: usize) {
        self.steps.clear();
        if self.flush_due.is_some() || !self.retry.is_empty() || self.exhausted {
            return;
        }
        let top = self.free.len();
        while self.steps.len() < room {
            let step = match self.held.take() {
                Some(step) => step,
                None => match self.workload.next() {
                    Some(step) => step,
                    None => {
                        self.exhausted = true;
                        break;
                    }
                },
            };
            if self.config.serialize && self.is_busy(&step) {
                self.held = Some(step);
                break;
            }
            let place = top - 1 - self.steps.len();
            self.steps.push(step);
            if step.op == Op::Write {
                let buffer = &mut self.free[place];
                let id = buffer.id() as usize;
                let bytes = &mut buffer[..step.len as usize];
                if self.dirty[id] {
                    self.dirty[id] = false;
                    self.content.prepare(bytes, id as u64);
                }
                self.content.update(bytes, &step);
                if self.write_makes_flush_due() {
                    break;
                }
            }
        }
    }

    /// Whether an I/O in flight, or one prepared just now, touches the bytes of `step`.
    #[cold]
    fn is_busy(&self, step: &Step) -> bool {
        let end = step.offset + u64::from(step.len);
        let meets = |target: u16, from: u64, to: u64| target == step.target && from < end && step.offset < to;
        self.ranges.iter().flatten().any(|&(target, from, to)| meets(target, from, to))
            || self
                .steps
                .iter()
                .any(|other| meets(other.target, other.offset, other.offset + u64::from(other.len)))
    }

    #[inline]
    fn write_makes_flush_due(&mut self) -> bool {
        let mut due = false;
        if self.config.fdatasync > 0 {
            self.writes_since_fdatasync += 1;
            if self.writes_since_fdatasync == self.config.fdatasync {
                self.writes_since_fdatasync = 0;
                self.flush_due = Some(FlushDue { next_target: 0, data_only: true });
                due = true;
            }
        }
        if self.config.fsync > 0 {
            self.writes_since_fsync += 1;
            if self.writes_since_fsync == self.config.fsync {
                self.writes_since_fsync = 0;
                self.flush_due = Some(FlushDue { next_target: 0, data_only: false });
                due = true;
            }
        }
        due
    }

    /// Hands retries, the prepared batch and due flushes to the queue and rings the doorbell.
    #[inline]
    fn submit(&mut self) -> bool {
        let issue_ns = if Q::BLOCKING { 0 } else { self.clock.now_ns() };
        let before = self.in_flight;
        self.batch_ids.clear();
        let mut submitted = 0;
        for _ in 0..self.retry.len() {
            let io = self.retry.swap_remove(0);
            submitted += u32::from(self.hand_over(io));
        }
        for index in 0..self.steps.len() {
            let step = self.steps[index];
            let Some(buffer) = self.free.pop() else { break };
            if self.config.serialize {
                let end = step.offset + u64::from(step.len);
                self.ranges[buffer.id() as usize] = Some((step.target, step.offset, end));
            }
            self.in_flight += 1;
            let io = Io {
                buffer,
                offset: step.offset,
                sequence: step.sequence,
                submit_ns: issue_ns,
                len: step.len,
                moved: 0,
                target: step.target,
                op: step.op,
                data_only: false,
            };
            submitted += u32::from(self.hand_over(io));
        }
        if self.flush_due.is_some() {
            submitted += self.submit_flushes(issue_ns);
        }
        if submitted == 0 {
            return false;
        }
        self.account_depth(before, self.in_flight);
        self.stats.batch_submit[depth_level(submitted)] += 1;
        if let Err(error) = self.queue.commit() {
            self.queue_died(error);
            return true;
        }
        if !Q::BLOCKING {
            let slat_ns = self.clock.now_ns() - issue_ns;
            for &id in &self.batch_ids {
                self.slat_ns[id as usize] = slat_ns;
            }
        }
        if self.in_flight == self.config.depth && self.config.depth_low < self.config.depth {
            self.draining_to_low = true;
        }
        true
    }

    #[inline]
    fn hand_over(&mut self, io: Io) -> bool {
        let id = io.buffer.id();
        match self.queue.submit(io) {
            Ok(()) => {
                self.batch_ids.push(id);
                true
            }
            Err(io) => {
                self.retry.push(io);
                false
            }
        }
    }

    #[cold]
    fn submit_flushes(&mut self, issue_ns: u64) -> u32 {
        let mut submitted = 0;
        while let Some(due) = self.flush_due {
            let Some(buffer) = self.free.pop() else { break };
            self.in_flight += 1;
            let io = Io {
                buffer,
                offset: 0,
                sequence: 0,
                submit_ns: issue_ns,
                len: 0,
                moved: 0,
                target: due.next_target,
                op: Op::Flush,
                data_only: due.data_only,
            };
            submitted += u32::from(self.hand_over(io));
            let next_target = due.next_target + 1;
            self.flush_due = (next_target < self.config.targets).then_some(FlushDue { next_target, ..due });
            if Q::BLOCKING {
                break;
            }
        }
        submitted
    }

    /// Depths `before + 1` to `after` were each reached once.
    #[inline]
    fn account_depth(&mut self, before: u32, after: u32) {
        let mut depth = before + 1;
        while depth <= after {
            let level = depth_level(depth);
            let last = if level + 1 == DEPTH_LEVELS { after } else { ((2 << level) - 1).min(after) };
            self.stats.depth_at_submit[level] += u64::from(last - depth + 1);
            depth = last + 1;
        }
    }
}

impl<Q: Queue> Turning for Worker<Q> {
    #[inline]
    fn turn(&mut self, may_wait: bool) -> Turn {
        let reaped = self.reap(may_wait);
        self.steer();
        let issued = match self.phase {
            Phase::Ramp | Phase::Run => self.issue(),
            Phase::Drain | Phase::EndFlush => {
                let waiting = !self.retry.is_empty() || self.flush_due.is_some();
                self.steps.clear();
                waiting && self.submit()
            }
            Phase::Done => return Turn::Done,
        };
        if reaped || issued {
            self.stats.busy_turns += 1;
            Turn::Busy
        } else {
            self.stats.idle_turns += 1;
            Turn::Idle
        }
    }

    fn housekeep(&mut self) {
        self.live.publish(&self.stats);
        self.tap.serve(&self.stats);
        if self.live.stop_requested() && matches!(self.phase, Phase::Ramp | Phase::Run) {
            if self.phase == Phase::Ramp {
                // Nothing was counted yet: what the ramp did is no result.
                self.stats.restart(self.now_ns);
            }
            self.enter(Phase::Drain);
        }
        self.looks += 1;
        if self.looks >= P99_EVERY {
            self.looks = 0;
            let busiest = self.stats.ops.iter().max_by_key(|(_, op)| op.ios).map(|(op, _)| op);
            let clat = &self.stats.ops.get(busiest.unwrap_or(Op::Read)).latency.clat;
            self.live.p99_ns.store(clat.percentile(99.0), std::sync::atomic::Ordering::Relaxed);
        }
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn start(&mut self) {
        self.now_ns = self.clock.now_ns();
        self.stats.start_ns = self.now_ns;
        self.phase_end_ns = self.now_ns + self.config.ramp_ns;
        self.enter(Phase::Ramp);
        if self.config.ramp_ns == 0 {
            self.begin_counting();
        }
    }

    fn finish(self: Box<Self>) -> WorkerOutcome {
        let Worker { free, mut area, stats, error, .. } = *self;
        for buffer in free {
            area.give_back(buffer);
        }
        WorkerOutcome { stats, error }
    }
}
