//! While the worker writes: the ledger follows, buffers are filled, some writes are read back on the way.

use super::*;

impl Verification {
    /// Whether the worker is asked to issue no more, and has not answered.
    #[inline]
    pub(in crate::reactor::worker) fn must_freeze(&self) -> bool {
        !self.frozen && self.ledger.board().must_freeze()
    }

    /// It issues no more.
    pub(in crate::reactor::worker) fn freeze_ledger(&mut self) {
        self.frozen = true;
        self.ledger.board().set_frozen();
    }

    /// Whether the worker has to stay as it is.
    pub(in crate::reactor::worker) fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Whether the worker may not end yet: the trigger still works with what it was promised.
    pub(in crate::reactor::worker) fn must_stay(&self) -> bool {
        self.ledger.board().must_stay()
    }

    /// Whether an I/O to the same bytes may be in flight, so that it is worth looking.
    #[inline]
    pub(in crate::reactor::worker) fn may_overlap(&mut self, step: &Step, pass: u64) -> bool {
        if self.overlaps {
            return true;
        }
        if pass != self.pass {
            (self.pass, self.pass_begins) = (pass, step.sequence);
        }
        self.pass_begins > 0 && self.ledger.in_flight_below(step.op, self.pass_begins)
    }

    /// A write or trim is about to be submitted; fills a write's buffer.
    #[inline]
    pub(in crate::reactor::worker) fn issue(&mut self, step: &Step, buffer: &mut [u8], now_ns: u64) {
        self.ledger.issue(step.op, step.sequence);
        if step.op != Op::Write {
            return;
        }
        let facts = WriteFacts {
            io_offset: step.offset,
            io_len: step.len,
            sequence: step.sequence,
            time_unix_ns: self.unix_origin_ns + now_ns,
            pass: self.pass,
            flush_epoch: self.ledger.flush_epoch(),
        };
        let target = self.checker.judge.target_id(step.target);
        self.sealer.seal(&mut buffer[..step.len as usize], target, &facts);
        if self.spec.backlog > 0 {
            self.backlog.push_back(*step);
        }
    }

    /// A mutation came back.
    #[inline]
    pub(in crate::reactor::worker) fn came_back(&mut self, op: Op, sequence: u64, well: bool) {
        if well {
            self.ledger.complete(op, sequence);
        } else {
            self.ledger.fail(op, sequence);
        }
    }

    /// A command failed as commands do when the power goes. True if that is an error of the environment:
    /// the power had gone before, and goes, or is gone, while it is read back what was left then.
    pub(in crate::reactor::worker) fn saw_gone(&mut self) -> bool {
        let again = std::mem::replace(&mut self.power_lost, true);
        self.ledger.board().set_power_lost();
        // Others of the reads that failed together find the stage changed.
        if self.audits() || !matches!(self.stage, Stage::Read | Stage::Finish) {
            return false;
        }
        if self.gone < GONE_TRIES {
            self.gone += 1;
            self.stage = Stage::Regroup;
        } else {
            self.abandon(GONE);
        }
        again
    }

    /// The first of `targets` flushes that belong together is about to be submitted; the ticket goes
    /// into all of them.
    pub(in crate::reactor::worker) fn flush(&mut self, targets: u16) -> u64 {
        let ticket = self.ledger.flush();
        self.rounds.push((ticket, targets, true));
        ticket
    }

    /// One of them came back.
    pub(in crate::reactor::worker) fn flushed(&mut self, ticket: u64, well: bool) {
        let Some(at) = self.rounds.iter().position(|round| round.0 == ticket) else { return };
        let round = &mut self.rounds[at];
        round.1 -= 1;
        round.2 &= well;
        if round.1 == 0 {
            let (ticket, _, well) = self.rounds.swap_remove(at);
            // Of what completed before the power went, a flush after its return says nothing.
            self.ledger.flushed(ticket, well && self.flush_trouble.is_none() && !self.power_lost);
        }
    }

    /// The next write to read back on the way; `is_busy` says whether an I/O to its bytes is in flight.
    pub(in crate::reactor::worker) fn early(&mut self, is_busy: impl Fn(&Step) -> bool) -> Option<Step> {
        if self.spec.backlog == 0 {
            return None;
        }
        let batch = if self.spec.backlog_batch == 0 { self.spec.backlog } else { self.spec.backlog_batch };
        if self.early_left == 0 && self.backlog.len() as u64 >= self.spec.backlog {
            self.early_left = batch.min(self.backlog.len() as u64);
        }
        while self.early_left > 0 {
            self.early_left -= 1;
            let step = self.backlog.pop_front()?;
            if !is_busy(&step) && self.is_certain(step.sequence) {
                return Some(step);
            }
            // The final reading judges it.
        }
        None
    }

    /// Whether a write, or a later one, must stand where it was written. Where any has failed, or the
    /// power has gone, parts of others may.
    pub(super) fn is_certain(&self, sequence: u64) -> bool {
        let state = self.ledger.state(Op::Write, sequence);
        let waits_for_flush = self.goes_by_flushes() && !self.writes_are_durable;
        let survives = if waits_for_flush { state == State::Durable } else { state.is_settled() };
        survives
            && !self.power_lost
            && self.ledger.failed(Op::Write) == 0
            && self.ledger.failed(Op::Deallocate) == 0
    }

    /// Whether some of what has completed must be found only if a flush has made it durable. Where writes
    /// are durable when they complete (O_DSYNC, FUA) that holds for trims alone.
    pub(super) fn goes_by_flushes(&self) -> bool {
        let by_flushes = match self.spec.policy {
            Policy::Completed => false,
            Policy::Fsynced => true,
            Policy::Auto => self.power_lost && self.volatile_cache,
        };
        by_flushes && (self.trims() || !self.writes_are_durable)
    }

    /// Whether the workload trims.
    pub(super) fn trims(&self) -> bool {
        self.workload.trim.is_some() || self.workload.mix.issues(Op::Deallocate)
    }
}
