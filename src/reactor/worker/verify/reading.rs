//! Reading back: from stage to stage, and what is read next.

use super::*;
use crate::base::shape::Mix;

impl Verification {
    /// Says what the read into a buffer is for; gives the read of whole logical blocks that it takes.
    pub(in crate::reactor::worker) fn set_purpose(
        &mut self,
        buffer: u32,
        purpose: Purpose,
        read: SweepRead,
    ) -> SweepRead {
        self.purposes[buffer as usize] = purpose;
        self.reads[buffer as usize] = read;
        if purpose == Purpose::Reread {
            self.flying[buffer as usize] = self.taken.take();
            self.flying_count += 1;
        }
        read.in_logical_blocks(self.lba(read.place.target))
    }

    /// The logical block of a target in bytes, as far as reading goes.
    fn lba(&self, target: u16) -> u64 {
        u64::from(self.checker.judge.target(target).lba_bytes.max(1))
    }

    /// What of a read is to be judged.
    #[inline]
    pub(in crate::reactor::worker) fn read_of(&self, io: &Io) -> SweepRead {
        self.read_in(io.buffer.id()).unwrap_or_else(|| SweepRead::all_of(io))
    }

    /// The same by the buffer; `None` if the read is the workload's own.
    #[inline]
    pub(in crate::reactor::worker) fn read_in(&self, buffer: u32) -> Option<SweepRead> {
        let is_own = self.purposes[buffer as usize] != Purpose::Plain;
        is_own.then(|| self.reads[buffer as usize])
    }

    /// Whether an I/O that is about to be submitted is the verification's, and not the workload's.
    pub(in crate::reactor::worker) fn is_own(&self, io: &Io) -> bool {
        io.op == Op::Read && self.purposes[io.buffer.id() as usize] != Purpose::Plain
    }

    /// Violations that are still to be read again.
    pub(super) fn rereads(&self) -> usize {
        self.fresh.len() + self.paused.len() + self.flying_count
    }

    /// What the workload of an audit reads is judged.
    #[inline]
    pub(in crate::reactor::worker) fn mark_audit(&mut self, io: &Io) {
        let at = io.buffer.id() as usize;
        if self.purposes[at] == Purpose::Plain {
            self.purposes[at] = Purpose::Judge;
            self.reads[at] = SweepRead::all_of(io);
        }
    }

    #[inline]
    pub(in crate::reactor::worker) fn take_purpose(&mut self, buffer: u32) -> Purpose {
        let purpose = std::mem::replace(&mut self.purposes[buffer as usize], Purpose::Plain);
        if purpose == Purpose::Reread {
            self.taken = self.flying[buffer as usize].take();
            self.flying_count -= 1;
        }
        purpose
    }

    /// Nothing is in flight any more that writes: time to read back. False if nothing is to be read.
    pub(in crate::reactor::worker) fn begin(&mut self) -> bool {
        if self.audits() || !self.spec.do_verify {
            self.stage = Stage::Finish;
            return self.rereads() > 0 || !self.outbox.is_empty() || !self.singles.is_empty();
        }
        self.stage = if self.waits_for_leave { Stage::Leave } else { Stage::Prepare };
        true
    }

    /// Whether somebody else must act first.
    pub(in crate::reactor::worker) fn waits_for_leave(&self) -> bool {
        self.stage == Stage::Leave
    }

    /// The leave is there.
    pub(in crate::reactor::worker) fn go_on(&mut self) {
        if self.stage == Stage::Leave {
            self.stage = Stage::Prepare;
        }
    }

    pub(in crate::reactor::worker) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Ends without reading (any more): what is left of what was promised is not checked.
    pub(in crate::reactor::worker) fn abandon(&mut self, why: &'static str) {
        if self.stage != Stage::Done && self.wants_all() {
            self.left_out.get_or_insert(why);
        }
        self.stage = Stage::Done;
    }

    /// How many blocks there are to judge: an upper bound where writes overwrite each other.
    pub(super) fn most_blocks(&self) -> u64 {
        let interval = u64::from(self.sealer.format.interval);
        let region: u64 = self.workload.regions.iter().map(|region| region.bytes / interval).sum();
        let op = if self.workload.mix == Mix::Trim { Op::Deallocate } else { Op::Write };
        let longest = u64::from(self.workload.sizes.get(op).max()) / interval;
        let issued = if op == Op::Write { self.issued().writes } else { self.issued().trims };
        region.min(issued.saturating_mul(longest.max(1)))
    }

    /// How many blocks of a read were found in violation on the way, and are counted.
    pub(super) fn counted_early(&self, read: &SweepRead) -> u64 {
        if self.early_bad.is_empty() {
            return 0;
        }
        let offsets = (0..u64::from(read.len)).step_by(self.sealer.format.interval as usize);
        let bad = |&at: &u64| self.early_bad.contains(&(read.place.target, read.place.offset + at));
        offsets.filter(bad).count() as u64
    }

    /// Ends if nothing is to be read back now; what was found on the way is told. True if so.
    pub(in crate::reactor::worker) fn dismiss(&mut self) -> bool {
        let dismissed = self.is_dismissed();
        if dismissed {
            // The rest is for a later run.
            self.stage = Stage::Done;
        }
        dismissed
    }

    /// Whether what is read back now is read from a device that is about to lose its power.
    #[inline]
    pub(in crate::reactor::worker) fn is_dismissed(&self) -> bool {
        self.ledger.board().is_dismissed()
    }

    pub(super) fn wants_all(&self) -> bool {
        !self.audits() && self.spec.do_verify
    }

    /// How much was issued.
    pub(super) fn issued(&self) -> Issued {
        let issued = |op| match &self.earlier {
            Some(promises) => promises.issued(op),
            None => self.ledger.issued(op),
        };
        Issued { writes: issued(Op::Write), trims: issued(Op::Deallocate) }
    }

    /// Builds the history; what became of each mutation is known now, and changes no more.
    pub(super) fn learn(&mut self) -> Result<(), String> {
        let fsynced = self.goes_by_flushes();
        let interval = self.sealer.format.interval;
        let replays = History::bytes_needed(&self.workload, interval) > 0;
        let promises = self.earlier.clone().unwrap_or_else(|| Arc::new(self.ledger.promises()));
        let unsettled = match fsynced && replays {
            true if self.writes_are_durable => {
                let writes = promises.unsettled().into_iter().filter(|(op, _)| *op == Op::Write);
                writes.chain(promises.not_durable().into_iter().filter(|(op, _)| *op != Op::Write)).collect()
            }
            true => promises.not_durable(),
            false => promises.unsettled(),
        };
        let history = History::new(&self.workload, self.issued(), interval, &unsettled);
        let run = self.checker.run.get().copied();
        let later = Later::new(&self.later, run).map_err(|error| error.to_string())?;
        self.checker.knowledge = Knowledge::Frozen(Box::new(Frozen {
            history: history.map_err(|error| error.to_string())?,
            later,
            block_bytes: u64::from(interval),
            is_plain: !fsynced && promises.is_settled(),
            promises,
            fsynced,
            writes_are_durable: self.writes_are_durable,
            judges_trims: self.spec.trim_verify_zero,
            longest: u64::from(self.workload.sizes.get(Op::Write).max()),
            whole_writes: self
                .checker
                .judge
                .judges_whole_writes(u64::from(self.workload.sizes.get(Op::Write).max())),
            trims: self.trims(),
        }));
        Ok(())
    }

    /// Builds history and sweep.
    pub(super) fn freeze(&mut self) -> Result<(), String> {
        self.learn()?;
        let (issued, interval) = (self.issued(), self.sealer.format.interval);
        let lbas = (0..self.checker.judge.targets()).map(|target| self.lba(target)).collect();
        let sweep = Sweep::new(&self.workload, issued, self.spec.order, interval, self.most_bytes, lbas);
        self.sweep = Some(sweep.map_err(|error| error.to_string())?);
        Ok(())
    }

    /// Goes on from stage to stage; true if it did something.
    pub(in crate::reactor::worker) fn advance(&mut self, in_flight: u32) -> bool {
        self.send();
        match self.stage {
            Stage::Prepare => {
                if self.sweep.is_none()
                    && let Err(why) = self.freeze()
                {
                    self.tally.skip(&why, self.most_blocks().max(1));
                    self.stage = Stage::Finish;
                    return true;
                }
                if let Knowledge::Frozen(frozen) = &self.checker.knowledge
                    && let Some(why) = frozen.trouble()
                {
                    let why = why.to_owned();
                    self.tally.skip(&why, self.most_blocks().max(1));
                    self.stage = Stage::Finish;
                    return true;
                }
                // What was found on the way comes first, or it would be counted twice.
                if let Knowledge::Frozen(frozen) = &mut self.checker.knowledge
                    && frozen.prepare(STEPS_A_TURN)
                    && !self.waits_for_early()
                {
                    self.stage = if self.is_fatal() { Stage::Count(FATAL) } else { Stage::Read };
                    if self.stage == Stage::Read {
                        self.start_checkers();
                    }
                }
                true
            }
            Stage::Regroup if in_flight == 0 => {
                // The same history could be built before. Threads that know the old one end.
                let _ = self.learn();
                self.checkers = None;
                self.stage = Stage::Prepare;
                true
            }
            Stage::Count(why) => {
                for _ in 0..LOOKS_A_TURN {
                    match self.look() {
                        Looked::Read(read) => {
                            let blocks = u64::from(read.len / self.sealer.format.interval);
                            self.tally.skip(why, blocks - self.counted_early(&read));
                        }
                        Looked::Later => {}
                        Looked::End => {
                            self.stage = Stage::Finish;
                            break;
                        }
                    }
                }
                true
            }
            Stage::Finish => {
                let all_back = in_flight == 0 && self.rereads() == 0 && self.singles.is_empty();
                if all_back && self.outbox.is_empty() {
                    self.pair_misplaced();
                    self.stage = Stage::Done;
                }
                false
            }
            _ => false,
        }
    }

    pub(super) fn look(&mut self) -> Looked {
        let looked = match (&mut self.sweep, &mut self.checker.knowledge) {
            (Some(sweep), Knowledge::Frozen(frozen)) => sweep.next(frozen),
            _ => Looked::End,
        };
        if looked == Looked::End
            && let Some(why) = self.sweep.as_mut().and_then(Sweep::take_trouble)
        {
            self.tally.skip(&why, 1);
        }
        looked
    }

    /// Whether blocks can be judged: without a history, only what was found on the way can.
    pub(super) fn is_ready(&self) -> bool {
        !matches!(self.stage, Stage::Regroup | Stage::Prepare)
    }

    /// Whether violations found on the way are still to be read again.
    pub(super) fn waits_for_early(&self) -> bool {
        let flying = self.flying.iter().flatten();
        self.fresh.iter().chain(&self.paused).chain(flying).any(|reread| reread.early.is_some())
    }

    /// The next violation whose time has come to be read again.
    pub(super) fn due_reread(&mut self, now_ns: u64) -> Option<Reread> {
        if self.is_ready() {
            let due = self.paused.front().is_some_and(|paused| paused.due_ns <= now_ns);
            return if due { self.paused.pop_front() } else { self.fresh.pop_front() };
        }
        let early = |reread: &Reread| reread.early.is_some() && reread.due_ns <= now_ns;
        if let Some(at) = self.paused.iter().position(early) {
            return self.paused.remove(at);
        }
        let at = self.fresh.iter().position(early)?;
        self.fresh.remove(at)
    }

    /// The next read there is room for.
    pub(in crate::reactor::worker) fn next_read(&mut self, now_ns: u64) -> Option<(SweepRead, Purpose)> {
        if self.stage == Stage::Off {
            self.send();
        }
        let interval = self.sealer.format.interval;
        let is_ready = self.is_ready();
        if let Some(due) = self.due_reread(now_ns) {
            let read = SweepRead { place: due.place, len: interval };
            self.taken = Some(due);
            return Some((read, Purpose::Reread));
        }
        if let Some(place) = self.singles.pop_front_if(|_| is_ready) {
            return Some((SweepRead { place, len: interval }, Purpose::Judge));
        }
        match self.stage {
            Stage::Read if !self.is_choked() => self.next_of_sweep(),
            _ => None,
        }
    }

    /// The next read of the sweep; or of writes of which no read had all blocks.
    fn next_of_sweep(&mut self) -> Option<(SweepRead, Purpose)> {
        if let Some(span) = self.spans.pop_front() {
            return Some((span, Purpose::Whole));
        }
        if self.open.len() >= self.most_open {
            if self.are_reads_out() {
                return None;
            }
            self.open_passed();
        }
        for _ in 0..LOOKS_A_TURN {
            match if self.swept { Looked::End } else { self.look() } {
                Looked::Read(read) => return Some((read, Purpose::Judge)),
                Looked::Later => {}
                Looked::End => {
                    self.swept = true;
                    if self.are_reads_out() {
                        break;
                    }
                    let open = std::mem::take(&mut self.open);
                    self.open_spans(open);
                    if self.spans.is_empty() {
                        self.stage = Stage::Finish;
                    }
                    return self.spans.pop_front().map(|span| (span, Purpose::Whole));
                }
            }
        }
        None
    }

    /// Whether blocks are still being read that will be judged.
    fn are_reads_out(&self) -> bool {
        self.purposes.contains(&Purpose::Judge) || !self.singles.is_empty()
    }

    /// Plans reads for those open writes of which all blocks have been judged once.
    fn open_passed(&mut self) {
        let mut open = std::mem::take(&mut self.open);
        open.sort_unstable();
        open.dedup();
        if let Some(frontier) = self.sweep.as_ref().and_then(Sweep::frontier) {
            self.open = open.extract_if(.., |write| !write.is_before(frontier)).collect();
            self.open_spans(open);
        } else {
            // Read in the order of the writes, blocks are not behind each other: at the end, then.
            self.open = open;
        }
        self.most_open = MOST_OPEN.max(2 * self.open.len());
    }

    /// Plans reads that have these writes in them as a whole.
    fn open_spans(&mut self, open: Vec<WholeWrite>) {
        let block = u64::from(self.sealer.format.interval);
        let judge = &self.checker.judge;
        let lba = |target: u16| u64::from(judge.target(target).lba_bytes.max(1));
        self.spans.extend(spans(open, block, u64::from(self.most_bytes), lba));
    }

    /// Whether, while the worker writes, there is nothing to be read beside.
    #[inline]
    pub(in crate::reactor::worker) fn is_calm(&self) -> bool {
        self.stage == Stage::Off
            && self.spec.backlog == 0
            && self.rereads() == 0
            && self.singles.is_empty()
            && self.outbox.is_empty()
    }

    /// Whether so many violations wait to be read again that nothing new should be read.
    pub(in crate::reactor::worker) fn is_choked(&self) -> bool {
        // Where the first violation is the last, nothing is done meanwhile.
        let most = if self.spec.fatal { 1 } else { MOST_REREADS };
        self.rereads() >= most || self.outbox.len() >= MOST_UNSENT
    }

    /// Whether reads are on hand or will be, so that a reactor should not sleep.
    pub(in crate::reactor::worker) fn has_reads(&self) -> bool {
        !matches!(self.stage, Stage::Finish | Stage::Done | Stage::Off)
            || !self.singles.is_empty()
            || !self.fresh.is_empty()
    }
}
