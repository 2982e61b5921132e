//! Reading back what was promised, and giving up on what does not answer.

use super::sweep::SweepRead;
use super::*;
use crate::verify::judge::Place;

impl<Q: Queue> Worker<Q> {
    /// Everything is written: whether there is anything to read back.
    pub(super) fn begin_judging(&mut self) -> bool {
        let stop = self.live.stop_requested();
        let usable = self.config.depth > 0;
        let Some(verification) = &mut self.verification else { return false };
        if verification.dismiss() {
            return false;
        }
        if stop && !verification.audits() {
            verification.abandon("the run was ended before it was read back");
            return false;
        }
        if !usable {
            verification.abandon("the device does not answer any more");
            return false;
        }
        verification.begin()
    }

    pub(super) fn is_judged(&self) -> bool {
        self.verification.as_ref().is_none_or(|verification| verification.is_done())
    }

    /// Goes on judging, and submits the reads there is room for; true if it did anything.
    pub(super) fn issue_judging(&mut self) -> bool {
        let Some(mut verification) = self.verification.take() else { return false };
        if verification.waits_for_leave() && self.live.may_judge() {
            verification.go_on();
        }
        verification.dismiss();
        let busy = verification.advance(self.in_flight);
        self.verification = Some(verification);
        if self.batch.is_empty() {
            while !self.free.is_empty() && self.in_flight < self.config.depth && self.read_for_verification()
            {
            }
        }
        self.submit() || busy
    }

    /// Prepares the next read that the verification is waiting for; true if there was one.
    pub(super) fn read_for_verification(&mut self) -> bool {
        let now_ns = self.now_ns;
        let Some(verification) = &mut self.verification else { return false };
        let Some((read, purpose)) = verification.next_read(now_ns) else { return false };
        let Some(buffer) = self.free.pop() else { unreachable!("asked for only with a buffer at hand") };
        let read = verification.set_purpose(buffer.id(), purpose, read);
        self.push_read(buffer, read.place.target, read.place.offset, read.len);
        true
    }

    /// Prepares a read that the workload did not ask for.
    pub(super) fn push_read(&mut self, buffer: Buffer, target: u16, offset: u64, len: u32) {
        if self.tracks_ranges {
            self.ranges[buffer.id() as usize] = Some((target, offset, offset + u64::from(len)));
        }
        self.in_flight += 1;
        self.batch.push(Io {
            buffer,
            offset,
            sequence: 0,
            submit_ns: 0,
            len,
            moved: 0,
            target,
            op: Op::Read,
            data_only: false,
        });
    }

    /// Gives a read that is to be judged to the checking threads; gives back what they do not take.
    #[inline]
    pub(super) fn hand_over(&mut self, io: Io) -> Option<Io> {
        let Some(verification) = self.verification.as_mut().filter(|_| io.op == Op::Read) else {
            return Some(io);
        };
        if verification.audits() {
            verification.mark_audit(&io);
        }
        verification.hand_over(io).err()
    }

    /// What a completion that ended well means to the verification.
    #[inline]
    pub(super) fn verify_usual(&mut self, io: &mut Io) {
        let Some(verification) = &mut self.verification else { return };
        match io.op {
            Op::Write | Op::Deallocate => verification.came_back(io.op, io.sequence, true),
            Op::Read => {
                let read = verification.read_of(io);
                let mut purpose = verification.take_purpose(io.buffer.id());
                if purpose == Purpose::Plain && verification.audits() {
                    purpose = Purpose::Judge;
                }
                if purpose != Purpose::Plain && !verification.is_dismissed() {
                    let range = read.range_in(io);
                    verification.judge(&mut io.buffer[range], read.place, purpose, self.now_ns);
                }
            }
            Op::Flush => {}
        }
        if verification.is_fatal() && matches!(self.phase, Phase::Ramp | Phase::Run) {
            self.exhausted = true;
        }
    }

    /// What a failure means to the verification; whether it is the verification's alone. `ends`: it read
    /// where the target has ended.
    pub(super) fn verify_failed(&mut self, io: &Io, status: Status, ends: bool) -> bool {
        let gone = [rustix::io::Errno::NODEV, rustix::io::Errno::NXIO].map(rustix::io::Errno::raw_os_error);
        let is_gone = gone.contains(&status.errno());
        let Some(verification) = &mut self.verification else { return false };
        if is_gone && verification.saw_gone() {
            self.error.get_or_insert((io.op, status));
        }
        match io.op {
            Op::Write | Op::Deallocate => {
                verification.came_back(io.op, io.sequence, false);
                false
            }
            // Of a range nothing was promised.
            Op::Flush if io.len > 0 => false,
            Op::Flush => {
                verification.flushed(io.sequence, false);
                false
            }
            Op::Read => {
                let read = verification.read_of(io);
                let mut purpose = verification.take_purpose(io.buffer.id());
                let own = purpose != Purpose::Plain;
                if !own && verification.audits() {
                    purpose = Purpose::Judge;
                }
                if own && status.is_deallocated() && verification.is_one_block(&read) {
                    // A block that is deallocated, or was never written: nothing is stored there, and the
                    // device can be read.
                    let mut nothing = vec![0; read.len as usize];
                    verification.judge(&mut nothing, read.place, purpose, self.now_ns);
                    return own;
                }
                let missing = ends && verification.may_be_missing(read, &purpose, self.now_ns);
                if !missing && !verification.is_dismissed() {
                    let why = format!("reading failed: {status}");
                    verification.unreadable(read, purpose, (why, is_gone), self.now_ns);
                }
                own
            }
        }
    }

    /// The reading back has ended: the statistics of the writing are the worker's again.
    #[cold]
    pub(super) fn end_judging(&mut self) {
        let Some(verification) = &mut self.verification else { return };
        if let Some(written) = verification.written.take() {
            let reading = std::mem::replace(&mut self.stats, written);
            let tally = verification.tally_mut();
            tally.read_bytes = reading.ops.read.bytes;
            tally.read_ns = self.now_ns.saturating_sub(reading.start_ns);
        }
    }

    /// Somebody wants the end.
    pub(super) fn stop_requested(&mut self) {
        match self.phase {
            Phase::Ramp | Phase::Run => self.enter(Phase::Drain),
            Phase::Judge => {
                if let Some(verification) = &mut self.verification {
                    verification.abandon("the run was ended before it was read back");
                }
            }
            _ => {}
        }
    }

    /// The device has answered nothing for too long: what is in flight stays there for good, and the
    /// worker goes on to its end without it.
    #[cold]
    pub(super) fn give_up(&mut self) {
        if self.verification.as_ref().is_some_and(|verification| verification.beside() > 0) {
            // Those are not with the device; they come back soon.
            return;
        }
        let timed_out = Status::from_errno(rustix::io::Errno::TIMEDOUT.raw_os_error());
        self.heard_ns = self.now_ns;
        self.lost.fill(true);
        for buffer in &self.free {
            self.lost[buffer.id() as usize] = false;
        }
        while let Some(io) = self.batch.pop() {
            self.lost[io.buffer.id() as usize] = false;
            self.free.push(io.buffer);
        }
        let mut given_up = 0;
        for id in 0..self.lost.len() {
            if !self.lost[id] {
                continue;
            }
            given_up += 1;
            if let (Some(verification), Some((target, from, to))) =
                (&mut self.verification, self.ranges.get(id).copied().flatten())
            {
                let place = Place { target, offset: from };
                let all = SweepRead { place, len: u32::try_from(to - from).unwrap_or(u32::MAX) };
                let id = u32::try_from(id).unwrap_or(u32::MAX);
                let read = verification.read_in(id).unwrap_or(all);
                let purpose = verification.take_purpose(id);
                let why = "the device did not answer in time".to_owned();
                verification.unreadable(read, purpose, (why, false), self.now_ns);
            }
        }
        self.lost_count = given_up;
        self.in_flight = 0;
        self.config.depth = self.free.len() as u32;
        if self.phase == Phase::Judge {
            if self.config.depth == 0
                && let Some(verification) = &mut self.verification
            {
                verification.abandon("the device does not answer any more");
            }
            return;
        }
        // What was in flight is with the queue; the error is told of the kind that was the most.
        let op = self.busiest();
        self.stats.record_error(op, timed_out, 0);
        self.error.get_or_insert((op, timed_out));
        self.exhausted = true;
        self.config.end_fsync = false;
    }
}
