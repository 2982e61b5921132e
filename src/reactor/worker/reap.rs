//! Taking back what has completed: counting it, and deciding what an unusual end means.

use super::*;
use crate::base::pause::LEAST_NS;

impl<Q: Queue> Worker<Q> {
    /// Takes what has completed; true if there was anything.
    #[inline]
    pub(super) fn reap(&mut self, may_wait: bool) -> bool {
        if self.in_flight == 0 {
            if may_wait && self.pace.is_some() {
                self.rest();
            }
            self.now_ns = self.clock.now_ns();
            return false;
        }
        let judged = self.verification.is_some() && self.take_judged();
        let wait = if may_wait && !judged && !Q::BLOCKING { self.wait() } else { Wait::default() };
        let mut done = std::mem::take(&mut self.done);
        let polled = self.queue.poll(wait, self.config.batch_complete_max as usize, &mut done);
        if !Q::BLOCKING {
            self.now_ns = self.clock.now_ns();
            self.reaped_ns = self.now_ns;
        }
        let count = done.len() as u32;
        if count > 0 {
            self.take_back(&mut done);
            self.stats.batch_complete.record(count);
        }
        self.done = done;
        if let Err(error) = polled {
            self.queue_died(error);
        }
        count > 0 || judged
    }

    /// Takes back what the checking threads have judged; true if there was anything.
    fn take_judged(&mut self) -> bool {
        let mut any = false;
        while let Some(io) = self.verification.as_mut().and_then(|v| v.take_judged(self.now_ns)) {
            self.free_buffer(io.op, io.buffer);
            any = true;
        }
        any
    }

    /// How long the engine may sleep: not at all while something can be issued.
    #[inline]
    fn wait(&self) -> Wait {
        let can_issue = matches!(self.phase, Phase::Ramp | Phase::Run)
            && !self.exhausted
            && self.in_flight < self.config.depth
            && !self.draining_to_low
            && self.held.is_none()
            && self.pace.as_ref().is_none_or(|pace| pace.sleep_ns(self.now_ns).is_none());
        let judges = || self.verification.as_ref().is_some_and(|verification| verification.has_reads());
        let can_judge = self.phase == Phase::Judge && self.in_flight < self.config.depth && judges();
        let can_issue = can_issue || can_judge || !self.batch.is_empty();
        if can_issue || self.config.batch_complete_min == 0 {
            return Wait::default();
        }
        let beside = self.verification.as_ref().map_or(0, |verification| verification.beside());
        if beside > 0 {
            // The checking threads may be done sooner.
            return Wait::default();
        }
        let mut min = self.config.batch_complete_min.min(self.in_flight) as usize;
        let mut left_ns = match self.phase {
            Phase::Ramp | Phase::Run => self.phase_end_ns.saturating_sub(self.now_ns).max(1000),
            _ => MAX_WAIT_NS,
        };
        let longest = if self.verification.is_some() { MAX_WAIT_WITH_LEDGER_NS } else { MAX_WAIT_NS };
        if let Some(ns) = self.pace.as_ref().and_then(|pace| pace.sleep_ns(self.now_ns)) {
            if ns == 0 {
                return Wait::default();
            }
            (min, left_ns) = (1, left_ns.min(ns));
        }
        Wait { min, timeout_ns: left_ns.min(longest) }
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
        if self.sees_each {
            self.see_each(done);
        }
        if self.priorities.is_some() {
            self.count_by_priority(done);
        }
        self.runs_wait = !Q::BLOCKING;
        if all_usual && !self.tracks_buffers && self.lost_count == 0 {
            self.in_flight -= done.len() as u32;
            self.free.extend(done.drain(..).map(|completion| completion.io.buffer));
        } else {
            self.take_back_mixed(done);
        }
    }

    /// Counts once more what has come back, by the priority that it carried.
    #[inline(never)]
    fn count_by_priority(&mut self, done: &[Completion]) {
        let (Some(rule), Some(stats)) = (&self.priorities, &mut self.stats.by_priority) else { return };
        for completion in done.iter().filter(|completion| is_usual(completion)) {
            let io = &completion.io;
            let slat_ns = self.slat_ns[io.buffer.id() as usize];
            let clat_ns = self.reaped_ns.saturating_sub(io.submit_ns).saturating_sub(slat_ns);
            if clat_ns >= LEAST_NS && self.live.pauses.touch(io.submit_ns, self.reaped_ns) {
                continue;
            }
            stats.record(io.op, rule.of(io.op, io.len, io.sequence), clat_ns);
        }
    }

    fn take_back_mixed(&mut self, done: &mut Vec<Completion>) {
        self.pace_came_back(done);
        for completion in done.drain(..) {
            if self.lost_count > 0 && self.lost[completion.io.buffer.id() as usize] {
                self.found_again(completion);
            } else if is_usual(&completion) {
                let Some(mut io) = self.hand_over(completion.io) else { continue };
                self.verify_usual(&mut io);
                self.free_buffer(io.op, io.buffer);
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
            let lat_ns = completion.done_ns - io.submit_ns;
            if lat_ns >= LEAST_NS && self.leave_out((io.submit_ns, completion.done_ns), op, (1, bytes)) {
                return;
            }
            let counts = self.stats.ops.get_mut(op);
            counts.ios += 1;
            counts.bytes += bytes;
            if self.measures_all {
                counts.latency.clat.record(lat_ns);
                counts.latency.lat.record(lat_ns);
            } else {
                record_some::<Q>(&mut counts.latency, self.config.measures, (0, lat_ns), 1);
            }
            if self.logs_maxima {
                self.see(op, 0, lat_ns);
            }
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

    /// Puts what the last reap brought into the histograms. Left until the doorbell has rung for what
    /// comes next: the device need not wait for it.
    #[inline]
    pub(super) fn count_runs(&mut self) {
        if self.runs_wait {
            self.runs_wait = false;
            for op in Op::ADDRESSED {
                if self.runs[op as usize].ios > 0 {
                    self.count_run(op);
                }
            }
        }
    }

    /// Counts what has come back together: one entry in the histograms for all of it.
    #[inline]
    fn count_run(&mut self, op: Op) {
        let run = &mut self.runs[op as usize];
        if run.ios == 0 {
            return;
        }
        let lat_ns = self.reaped_ns.saturating_sub(run.submit_ns);
        if lat_ns >= LEAST_NS {
            let (span, done) = ((run.submit_ns, self.reaped_ns), (run.ios, run.bytes));
            if self.leave_out(span, op, done) {
                self.runs[op as usize] = Run::default();
                return;
            }
        }
        let run = &mut self.runs[op as usize];
        let slat_ns = run.slat_ns.min(lat_ns);
        let counts = self.stats.ops.get_mut(op);
        counts.ios += run.ios;
        counts.bytes += run.bytes;
        if self.measures_all && !self.logs_maxima {
            if Q::HAS_DOORBELL {
                counts.latency.slat.record_n(slat_ns, run.ios);
            }
            counts.latency.clat.record_n(lat_ns - slat_ns, run.ios);
            counts.latency.lat.record_n(lat_ns, run.ios);
            *run = Run::default();
        } else {
            self.count_otherwise(op, slat_ns, lat_ns);
        }
    }

    /// Counts I/Os (their number, their bytes) that were in flight while the process did not run, without
    /// their latencies; false if it did run.
    #[cold]
    #[inline(never)]
    fn leave_out(&mut self, (from_ns, to_ns): (u64, u64), op: Op, (ios, bytes): (u64, u64)) -> bool {
        if !self.live.pauses.touch(from_ns, to_ns) {
            return false;
        }
        let counts = self.stats.ops.get_mut(op);
        counts.ios += ios;
        counts.bytes += bytes;
        counts.unmeasured += ios;
        true
    }

    /// The latencies of a run where not all are wanted, or the largest are logged.
    #[cold]
    #[inline(never)]
    fn count_otherwise(&mut self, op: Op, slat_ns: u64, lat_ns: u64) {
        let run = std::mem::take(&mut self.runs[op as usize]);
        let latency = &mut self.stats.ops.get_mut(op).latency;
        record_some::<Q>(latency, self.config.measures, (slat_ns, lat_ns), run.ios);
        if self.logs_maxima {
            self.see(op, slat_ns, lat_ns);
        }
    }

    #[inline]
    fn free_buffer(&mut self, op: Op, buffer: Buffer) {
        let id = buffer.id() as usize;
        if op == Op::Read
            && let Some(dirty) = self.dirty.get_mut(id)
        {
            *dirty = true;
        }
        if self.tracks_ranges {
            self.ranges[id] = None;
        }
        self.free.push(buffer);
        self.in_flight -= 1;
    }

    /// An answer to something that had been given up: only the buffer is worth something now.
    #[cold]
    fn found_again(&mut self, completion: Completion) {
        let id = completion.io.buffer.id() as usize;
        self.lost[id] = false;
        self.lost_count -= 1;
        self.in_flight += 1;
        self.config.depth += 1;
        self.free_buffer(Op::Flush, completion.io.buffer);
    }

    /// Errors, short transfers and flushes.
    #[cold]
    fn take_back_unusual(&mut self, completion: Completion) {
        let Completion { mut io, status, bytes, done_ns } = completion;
        if Q::BLOCKING {
            self.now_ns = done_ns;
        }
        if status.is_ok() && io.op == Op::Flush {
            let took_ns = self.now_ns.saturating_sub(io.submit_ns);
            if took_ns < LEAST_NS || !self.live.pauses.touch(io.submit_ns, self.now_ns) {
                self.stats.flush.record(took_ns);
            }
            // Of a range nothing is promised.
            if let Some(verification) = self.verification.as_mut().filter(|_| io.len == 0) {
                verification.flushed(io.sequence, true);
            }
            self.free_buffer(io.op, io.buffer);
            return;
        }
        if status.is_ok() && bytes > 0 {
            io.moved += bytes;
            self.stats.ops.get_mut(io.op).short_ios += 1;
            self.batch.push(io);
            return;
        }
        let ends = status.is_ok() && io.op == Op::Read;
        let status = match (status.is_ok(), io.op) {
            (false, _) => status,
            (true, Op::Read) => Status::from_errno(rustix::io::Errno::NODATA.raw_os_error()),
            (true, _) => Status::from_errno(rustix::io::Errno::IO.raw_os_error()),
        };
        if self.verify_failed(&io, status, ends) {
            self.free_buffer(io.op, io.buffer);
            return;
        }
        let full = [rustix::io::Errno::NOSPC, rustix::io::Errno::DQUOT].map(|e| e.raw_os_error());
        if self.config.fill_device && io.op == Op::Write && full.contains(&status.errno()) {
            self.exhausted = true;
        } else {
            self.stats.record_error(io.op, status, io.offset);
            let goes_on = self.goes_on_after(io.op, status);
            let (op, target, offset, len) = (io.op, io.target, io.offset, io.len);
            self.block_failed((op, target, offset, len));
            let (worker, order) = (0, &self.live.order);
            order.tell(FailedIo { worker, op, status, target, offset, len, goes_on });
            if !goes_on {
                self.fail(io.op, status);
            }
        }
        self.free_buffer(io.op, io.buffer);
    }

    /// Whether a failed I/O leaves the worker going.
    #[cold]
    fn goes_on_after(&self, op: Op, status: Status) -> bool {
        let config = &self.config;
        let listed = config.listed_errors.of(op);
        let goes_on = match op {
            _ if !listed.is_empty() => listed.contains(status.errno()),
            Op::Read => config.continue_on_read,
            _ => config.continue_on_write,
        };
        // A device that is gone has no next I/O to go on with.
        let gone = [rustix::io::Errno::NODEV, rustix::io::Errno::NXIO].map(|e| e.raw_os_error());
        goes_on && !gone.contains(&status.errno())
    }

    #[cold]
    pub(super) fn fail(&mut self, op: Op, status: Status) {
        self.error.get_or_insert((op, status));
        self.exhausted = true;
        self.config.end_fsync = false;
    }

    #[cold]
    pub(super) fn queue_died(&mut self, error: QueueError) {
        // It took all commands with it; the error is told of the kind that was the most.
        let op = self.busiest();
        self.stats.record_error(op, error.status, 0);
        self.fail(op, error.status);
        let mut done = std::mem::take(&mut self.done);
        self.queue.stop(STOP_WAIT_NS, &mut done);
        // What ended well before the queue died counts; what was cancelled for it is no error of its own.
        done.iter().filter(|completion| is_usual(completion)).for_each(|completion| self.count(completion));
        if self.sees_each {
            self.see_each(&done);
        }
        self.runs_wait = true;
        self.count_runs();
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
}

/// Counts `ios` latencies where some are not wanted: what is not, costs nothing.
#[inline(never)]
fn record_some<Q: Queue>(
    latency: &mut LatencyStats,
    measures: Measures,
    (slat_ns, lat_ns): (u64, u64),
    ios: u64,
) {
    if Q::HAS_DOORBELL && measures.slat {
        latency.slat.record_n(slat_ns, ios);
    }
    if measures.clat {
        latency.clat.record_n(lat_ns - slat_ns, ios);
    }
    if measures.lat {
        latency.lat.record_n(lat_ns, ios);
    }
}

/// Whether all that is left to do is to count it: it moved all it should.
#[inline]
pub(super) fn is_usual(completion: &Completion) -> bool {
    let io = &completion.io;
    completion.status.is_ok() && completion.bytes == io.len - io.moved && io.op != Op::Flush
}
