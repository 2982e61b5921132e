//! Issuing: asking the workload, filling buffers, submitting and ringing the doorbell.

use super::sweep::SweepRead;
use super::*;
use crate::verify::judge::Place;

impl<Q: Queue> Worker<Q> {
    /// Submits what there is room for; true if it was anything.
    #[inline]
    pub(super) fn issue(&mut self) -> bool {
        if self.draining_to_low {
            if self.in_flight > self.config.depth_low {
                // Short transfers go on: they are in flight, and without them nothing would drain.
                return !self.batch.is_empty() && self.submit();
            }
            self.draining_to_low = false;
        }
        if self.batch.is_empty() && self.flush_due.is_none() && !self.has_ranges_due() {
            let room = (self.config.depth - self.in_flight).min(self.config.batch_submit);
            if self.recorder.is_some() {
                self.prepare_recorded(room);
            } else {
                self.prepare(room);
            }
        }
        self.submit()
    }

    /// Asks the workload for up to `room` I/Os and gives them their buffers, filled.
    #[inline(always)]
    pub(super) fn prepare(&mut self, room: u32) {
        if self.exhausted {
            return;
        }
        if self.tracks_buffers {
            return self.prepare_tracked(room);
        }
        for _ in 0..room {
            let Some(step) = self.workload.next() else {
                self.exhausted = true;
                return;
            };
            let Some(buffer) = self.free.pop() else { unreachable!("as many buffers as the depth") };
            self.push(buffer, &step);
        }
    }

    /// [`prepare`](Self::prepare) where it matters what a buffer holds or what bytes are on their way:
    /// writes, verification and `serialize_overlap`.
    fn prepare_tracked(&mut self, room: u32) {
        if self.replay.is_some() {
            return self.prepare_replayed(room);
        }
        if self.pace.is_some() {
            return self.prepare_paced(room);
        }
        if self.config.trim_ranges > 1 {
            return self.gather_trims(room);
        }
        self.prepare_steps(room);
    }

    /// Prepares up to `room` I/Os, beginning with the one that is held.
    #[inline]
    pub(super) fn prepare_steps(&mut self, room: u32) {
        // What is calm stays so while nothing comes back.
        let calm = self.verification.as_ref().is_none_or(|verification| verification.is_calm());
        for _ in 0..room {
            if !calm {
                if self.free.is_empty() {
                    return;
                }
                if self.issue_verifying() {
                    continue;
                }
                if self.is_choked() {
                    return;
                }
            }
            let next = if self.held.is_some() { self.held.take() } else { self.workload.next() };
            let Some(step) = next else {
                self.exhausted = true;
                return;
            };
            if self.must_wait(&step) {
                self.held = Some(step);
                return;
            }
            if self.take_step(&step) {
                return;
            }
        }
    }

    /// Gives an I/O that may go its buffer, filled; true if a flush is due behind it.
    #[inline(always)]
    pub(super) fn take_step(&mut self, step: &Step) -> bool {
        let Some(mut buffer) = self.free.pop() else { unreachable!("as many buffers as the depth") };
        if step.op.modifies()
            && let Some(verification) = &mut self.verification
        {
            verification.issue(step, &mut buffer, self.now_ns);
        } else if step.op == Op::Write {
            self.fill(&mut buffer, step);
        }
        let mut flush_due = step.op == Op::Write && self.write_makes_flush_due();
        if step.op == Op::Write
            && let Some(written) = &mut self.written
        {
            flush_due |= written.add(step);
        }
        if self.tracks_ranges && (self.config.serialize || step.op.modifies()) {
            let end = step.offset + u64::from(step.len);
            self.ranges[buffer.id() as usize] = Some((step.target, step.offset, end));
        }
        self.push(buffer, step);
        flush_due
    }

    /// Adds an I/O of the workload to the batch.
    #[inline]
    pub(super) fn push(&mut self, buffer: Buffer, step: &Step) {
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
    }

    /// Whether `step` must wait until an I/O to its bytes is back. When verifying, two writes to one
    /// block are never in flight together, or nobody could say which came last.
    #[inline]
    pub(super) fn must_wait(&mut self, step: &Step) -> bool {
        if self.config.serialize {
            return self.is_busy(step);
        }
        let Some(verification) = self.verification.as_mut().filter(|_| step.op.modifies()) else {
            return false;
        };
        verification.may_overlap(step, self.workload.pass(step.op)) && self.is_busy(step)
    }

    /// Whether so many violations wait that nothing new should be issued but their re-reads.
    pub(super) fn is_choked(&self) -> bool {
        self.verification.as_ref().is_some_and(|verification| verification.is_choked())
    }

    /// Prepares a read of the verification, while the workload goes on, if one is due: a violation
    /// that is to be read again, or a write to be read back (`verify_backlog`). True if it did.
    pub(super) fn issue_verifying(&mut self) -> bool {
        if self.read_for_verification() {
            return true;
        }
        if self.held.is_some() {
            return false;
        }
        let ranges = &self.ranges;
        let is_busy = |step: &Step| overlaps(ranges, step);
        let early = self.verification.as_mut().and_then(|verification| verification.early(is_busy));
        let Some(step) = early else { return false };
        let Some(buffer) = self.free.pop() else { return false };
        if let Some(verification) = &mut self.verification {
            let place = Place { target: step.target, offset: step.offset };
            let read = SweepRead { place, len: step.len };
            verification.set_purpose(buffer.id(), Purpose::Early(step.sequence), read);
        }
        self.push_read(buffer, step.target, step.offset, step.len);
        true
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
        overlaps(&self.ranges, step)
    }

    #[inline]
    fn write_makes_flush_due(&mut self) -> bool {
        let mut due = false;
        if self.config.fdatasync > 0 {
            self.writes_since_fdatasync += 1;
            if self.writes_since_fdatasync == self.config.fdatasync {
                self.writes_since_fdatasync = 0;
                self.flush_due = Some(FlushDue::new(self.config.first_target, true));
                due = true;
            }
        }
        if self.config.fsync > 0 {
            self.writes_since_fsync += 1;
            if self.writes_since_fsync == self.config.fsync {
                self.writes_since_fsync = 0;
                self.flush_due = Some(FlushDue::new(self.config.first_target, false));
                due = true;
            }
        }
        due
    }

    /// Hands the batch and due flushes to the queue and rings the doorbell; true if anything went.
    #[inline]
    pub(super) fn submit(&mut self) -> bool {
        if self.flush_due.is_some() {
            self.prepare_flushes();
        }
        if self.has_ranges_due() {
            self.prepare_ranges();
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
        let committed = self.queue.commit();
        if !Q::BLOCKING && Q::HAS_DOORBELL {
            let slat_ns = self.clock.now_ns() - issue_ns;
            for &id in &self.batch_ids {
                self.slat_ns[id as usize] = slat_ns;
            }
        }
        let depth = self.in_flight - self.batch.len() as u32;
        self.account_depth(depth - submitted, depth);
        self.stats.batch_submit.record(submitted);
        if let Err(error) = committed {
            self.queue_died(error);
            return true;
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
        while let Some(mut due) = self.flush_due {
            if !self.has_room_to_record() {
                return;
            }
            let Some(buffer) = self.free.pop() else { return };
            if due.ticket.is_none() {
                due.ticket =
                    self.verification.as_mut().map(|verification| verification.flush(self.config.targets));
            }
            self.in_flight += 1;
            self.batch.push(Io {
                buffer,
                offset: 0,
                sequence: due.ticket.unwrap_or(0),
                submit_ns: 0,
                len: 0,
                moved: 0,
                target: due.next_target,
                op: Op::Flush,
                data_only: due.data_only,
            });
            self.record_newest();
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

/// Whether one of `ranges` meets the bytes of `step`.
fn overlaps(ranges: &[Option<(u16, u64, u64)>], step: &Step) -> bool {
    let end = step.offset + u64::from(step.len);
    let meets = |target: u16, from: u64, to: u64| target == step.target && from < end && step.offset < to;
    ranges.iter().flatten().any(|&(target, from, to)| meets(target, from, to))
}
