//! One worker: its queue, its workload, its buffers and its counts.
//!
//! Invariants: every buffer of the area is in exactly one place (`free`, `batch`, or in the queue);
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
    /// The first of the targets to flush.
    pub first_target: u16,
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
    batch_ids: Vec<u32>,
    /// By buffer: from before `submit` to after the doorbell.
    slat_ns: Box<[u64]>,
    /// Something is kept by buffer: which reads went through it, or which bytes are in flight.
    tracks_buffers: bool,
    /// By buffer: a read has gone through it, so that it must be filled again before a write. Empty
    /// where nothing is written.
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
        for _ in 0..config.depth {
            let mut buffer = buffers.take().expect("a buffer for every I/O in flight");
            if writes {
                content.prepare(&mut buffer);
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
            counting: false,
            stats: Box::default(),
            error: None,
            free,
            in_flight: 0,
            draining_to_low: false,
            exhausted: false,
            batch: Vec::with_capacity(depth),
            held: None,
            done: Vec::with_capacity(depth),
            runs: [Run::default(); 3],
            batch_ids: Vec::with_capacity(depth),
            slat_ns: vec![0; depth].into(),
            tracks_buffers: writes || config.serialize,
            dirty: if writes { vec![false; depth].into() } else { Box::default() },
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
        self.take_back(&mut done);
        self.done = done;
        if count > 0 {
            self.stats.batch_complete.record(count);
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
        let can_issue = can_issue || !self.batch.is_empty();
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

    /// Counts what has come back and takes the buffers. Counted in place and moved afterwards: of
    /// the usual ones only the buffer is moved at all.
    #[inline]
    fn take_back(&mut self, done: &mut Vec<Completion>) {
        let mut all_usual = true;
        for completion in &*done {
            if is_usual(completion) {
                self.count(completion);
            } else {
                all_usual = false;
            }
        }
        if !Q::BLOCKING {
            for op in Op::ADDRESSED {
                self.count_run(op);
            }
        }
        if all_usual && !self.tracks_buffers {
            self.in_flight -= done.len() as u32;
            self.free.extend(done.drain(..).map(|completion| completion.io.buffer));
        } else {
            self.take_back_mixed(done);
        }
    }

    fn take_back_mixed(&mut self, done: &mut Vec<Completion>) {
        for completion in done.drain(..) {
            if is_usual(&completion) {
                self.free_buffer(completion.io.op, completion.io.buffer);
            } else {
                self.take_back_unusual(completion);
            }
        }
    }

    #[inline]
    fn count(&mut self, completion: &Completion) {
        let io = &completion.io;
        let (op, bytes) = (io.op, u64::from(io.len));
        if Q::BLOCKING {
            self.now_ns = completion.done_ns;
            let counts = self.stats.ops.get_mut(op);
            counts.latency.clat.record(completion.done_ns - io.submit_ns);
            counts.latency.lat.record(completion.done_ns - io.submit_ns);
            counts.ios += 1;
            counts.bytes += bytes;
            return;
        }
        if self.runs[op as usize].submit_ns != io.submit_ns {
            self.count_run(op);
            let slat_ns = self.slat_ns[io.buffer.id() as usize];
            self.runs[op as usize] = Run { submit_ns: io.submit_ns, slat_ns, ios: 0, bytes: 0 };
        }
        let run = &mut self.runs[op as usize];
        run.ios += 1;
        run.bytes += bytes;
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
        if Q::HAS_DOORBELL {
            counts.latency.slat.record_n(slat_ns, run.ios);
        }
        counts.latency.clat.record_n(lat_ns - slat_ns, run.ios);
        counts.latency.lat.record_n(lat_ns, run.ios);
        *run = Run::default();
    }

    #[inline]
    fn free_buffer(&mut self, op: Op, buffer: Buffer) {
        let id = buffer.id() as usize;
        if op == Op::Read
            && let Some(dirty) = self.dirty.get_mut(id)
        {
            *dirty = true;
        }
        if self.config.serialize {
            self.ranges[id] = None;
        }
        self.free.push(buffer);
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
            self.free_buffer(io.op, io.buffer);
            return;
        }
        if status.is_ok() && bytes > 0 {
            io.moved += bytes;
            self.stats.ops.get_mut(io.op).short_ios += 1;
            self.batch.push(io);
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
        self.free_buffer(io.op, io.buffer);
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
        // What ended well before the queue died counts; what was cancelled for it is no error of its own.
        done.iter().filter(|completion| is_usual(completion)).for_each(|completion| self.count(completion));
        Op::ADDRESSED.into_iter().for_each(|op| self.count_run(op));
        for completion in done.drain(..) {
            self.free_buffer(completion.io.op, completion.io.buffer);
        }
        self.done = done;
        while let Some(io) = self.batch.pop() {
            self.free_buffer(io.op, io.buffer);
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
        self.counting = true;
        self.stats.restart(self.now_ns);
        self.phase_end_ns = self.config.runtime_ns.map_or(u64::MAX, |ns| self.now_ns.saturating_add(ns));
        self.enter(Phase::Run);
    }

    #[cold]
    fn advance_end(&mut self) {
        if self.phase == Phase::Drain && self.config.end_fsync && self.flush_due.is_none() {
            self.flush_due = Some(FlushDue { next_target: self.config.first_target, data_only: false });
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
            if !self.counting {
                // Ended within the ramp: what it did, to its last I/O, is no result.
                self.stats.restart(self.now_ns);
            }
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
                // Short transfers go on: they are in flight, and without them nothing would drain.
                return !self.batch.is_empty() && self.submit();
            }
            self.draining_to_low = false;
        }
        if self.batch.is_empty() && self.flush_due.is_none() {
            let room = (self.config.depth - self.in_flight).min(self.config.batch_submit);
            self.prepare(room);
        }
        self.submit()
    }

    /// Asks the workload for up to `room` I/Os and gives them their buffers, filled.
    #[inline]
    fn prepare(&mut self, room: u32) {
        if self.exhausted {
            return;
        }
        for _ in 0..room {
            let next = if self.held.is_some() { self.held.take() } else { self.workload.next() };
            let Some(step) = next else {
                self.exhausted = true;
                return;
            };
            let Some(mut buffer) = self.free.pop() else { unreachable!("as many buffers as the depth") };
            let mut flush_due = false;
            if self.tracks_buffers {
                if self.config.serialize && self.is_busy(&step) {
                    self.held = Some(step);
                    self.free.push(buffer);
                    return;
                }
                if step.op == Op::Write {
                    self.fill(&mut buffer, &step);
                    flush_due = self.write_makes_flush_due();
                }
                if self.config.serialize {
                    let end = step.offset + u64::from(step.len);
                    self.ranges[buffer.id() as usize] = Some((step.target, step.offset, end));
                }
            }
            self.in_flight += 1;
            self.batch.push(Io {
                buffer,
                offset: step.offset,
                sequence: step.sequence,
                submit_ns: 0,
                len: step.len,
                moved: 0,
                target: step.target,
                op: step.op,
                data_only: false,
            });
            if flush_due {
                return;
            }
        }
    }

    #[inline]
    fn fill(&mut self, buffer: &mut Buffer, step: &Step) {
        let id = buffer.id() as usize;
        if self.dirty[id] {
            self.dirty[id] = false;
            self.content.prepare(buffer);
        }
        self.content.update(&mut buffer[..step.len as usize], step);
    }

    /// Whether an I/O on its way touches the bytes of `step`.
    #[cold]
    fn is_busy(&self, step: &Step) -> bool {
        let end = step.offset + u64::from(step.len);
        let meets = |target: u16, from: u64, to: u64| target == step.target && from < end && step.offset < to;
        self.ranges.iter().flatten().any(|&(target, from, to)| meets(target, from, to))
    }

    #[inline]
    fn write_makes_flush_due(&mut self) -> bool {
        let mut due = false;
        if self.config.fdatasync > 0 {
            self.writes_since_fdatasync += 1;
            if self.writes_since_fdatasync == self.config.fdatasync {
                self.writes_since_fdatasync = 0;
                self.flush_due = Some(FlushDue { next_target: self.config.first_target, data_only: true });
                due = true;
            }
        }
        if self.config.fsync > 0 {
            self.writes_since_fsync += 1;
            if self.writes_since_fsync == self.config.fsync {
                self.writes_since_fsync = 0;
                self.flush_due = Some(FlushDue { next_target: self.config.first_target, data_only: false });
                due = true;
            }
        }
        due
    }

    /// Hands the batch and due flushes to the queue and rings the doorbell; true if anything went.
    #[inline]
    fn submit(&mut self) -> bool {
        if self.flush_due.is_some() {
            self.prepare_flushes();
        }
        let prepared = self.batch.len();
        if prepared == 0 {
            return false;
        }
        let issue_ns = if Q::BLOCKING { 0 } else { self.clock.now_ns() };
        self.batch_ids.clear();
        for io in &mut self.batch {
            if io.moved == 0 {
                io.submit_ns = issue_ns;
            }
            if Q::HAS_DOORBELL {
                self.batch_ids.push(io.buffer.id());
            }
        }
        self.queue.submit(&mut self.batch);
        let submitted = (prepared - self.batch.len()) as u32;
        if submitted == 0 {
            return false;
        }
        let depth = self.in_flight - self.batch.len() as u32;
        self.account_depth(depth - submitted, depth);
        self.stats.batch_submit.record(submitted);
        if let Err(error) = self.queue.commit() {
            self.queue_died(error);
            return true;
        }
        if !Q::BLOCKING && Q::HAS_DOORBELL {
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

    /// Adds one flush a target to the batch, as far as there are buffers.
    #[cold]
    fn prepare_flushes(&mut self) {
        let end = self.config.first_target + self.config.targets;
        while let Some(due) = self.flush_due {
            let Some(buffer) = self.free.pop() else { return };
            self.in_flight += 1;
            self.batch.push(Io {
                buffer,
                offset: 0,
                sequence: 0,
                submit_ns: 0,
                len: 0,
                moved: 0,
                target: due.next_target,
                op: Op::Flush,
                data_only: due.data_only,
            });
            let next_target = due.next_target + 1;
            self.flush_due = (next_target < end).then_some(FlushDue { next_target, ..due });
        }
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

/// Whether all that is left to do is to count it: it moved all it should.
#[inline]
fn is_usual(completion: &Completion) -> bool {
    let io = &completion.io;
    completion.status.is_ok() && completion.bytes == io.len - io.moved && io.op != Op::Flush
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
        self.live.publish(&self.stats);
        self.tap.serve(&self.stats);
        if self.live.stop_requested() && matches!(self.phase, Phase::Ramp | Phase::Run) {
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
        self.phase_end_ns = self.now_ns.saturating_add(self.config.ramp_ns);
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
