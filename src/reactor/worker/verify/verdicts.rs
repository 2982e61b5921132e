//! What was read is judged; violations are read again, told and counted.

use super::*;

impl Verification {
    /// Judges a read that came back whole.
    pub(in crate::reactor::worker) fn judge(
        &mut self,
        bytes: &mut [u8],
        place: Place,
        purpose: Purpose,
        now_ns: u64,
    ) {
        match purpose {
            Purpose::Plain => {}
            Purpose::Sample => {
                self.checker.judge.format().unswap_front(bytes);
                if let Some((run, time)) = self.checker.judge.run_of(bytes, place)
                    && self.newest_run.is_none_or(|(newest, _)| time > newest)
                {
                    self.newest_run = Some((time, run));
                }
            }
            Purpose::Judge => {
                let mut checked = std::mem::take(&mut self.checked);
                self.checker.check(bytes, place, &mut checked);
                self.count(&mut checked, bytes, place, now_ns);
                self.checked = checked;
            }
            Purpose::Reread => {
                self.checker.judge.format().unswap_front(bytes);
                let first = self.taken.as_ref().map(|reread| (reread.sum, reread.found.finding.verdict));
                if let Some((Some(sum), verdict)) = first
                    && sum == crc_of(bytes)
                {
                    self.reread(verdict, now_ns);
                    return;
                }
                self.checker.judge.format().swap_front(bytes);
                let early = self.taken.as_ref().and_then(|reread| reread.early);
                let verdict = match early {
                    Some((sequence, io_offset)) => {
                        self.checker.judge.format().unswap_front(bytes);
                        self.check_early(bytes, place, sequence, io_offset)
                    }
                    None => {
                        let mut checked = Checked::default();
                        self.checker.check(bytes, place, &mut checked);
                        checked.findings.pop()
                    }
                };
                self.reread(verdict.map_or(Verdict::Ok, |finding| finding.verdict), now_ns);
            }
            Purpose::Early(sequence) => {
                let interval = self.checker.interval();
                let mut at = place;
                for block in bytes.chunks_exact_mut(interval) {
                    self.tally.checked_early += 1;
                    self.checker.judge.format().unswap_front(block);
                    if let Some(finding) = self.check_early(block, at, sequence, place.offset) {
                        self.violation(finding, Some(block), Some((sequence, place.offset)), now_ns);
                    }
                    at.offset += interval as u64;
                }
            }
        }
    }

    /// Judges one block on the way: the write `sequence` or a later one must stand there.
    pub(super) fn check_early(
        &self,
        block: &[u8],
        place: Place,
        sequence: u64,
        io_offset: u64,
    ) -> Option<Finding> {
        let judge = &self.checker.judge;
        if judge.is_write(block, place, sequence, io_offset) || !self.is_certain(sequence) {
            return None;
        }
        if self.issued().trims > 0 && block.iter().all(|&byte| byte == 0) {
            return None;
        }
        let newer = (sequence, self.issued().writes);
        if judge.is_write_between(block, place, newer, u64::from(self.workload.sizes.get(Op::Write).max())) {
            return None;
        }
        let state = State::Completed;
        let write = Candidate { op: Op::Write, sequence, io_offset, io_len: 0, state };
        let issued = self.issued().writes;
        let allowed = Allowed { candidates: vec![write], has_floor: true, issued, later_bytes: 0 };
        let finding = judge.judge(block, place, &allowed);
        (finding.verdict != Verdict::Ok).then_some(finding)
    }

    pub(in crate::reactor::worker) fn count(
        &mut self,
        checked: &mut Checked,
        bytes: &[u8],
        place: Place,
        now_ns: u64,
    ) {
        let audits = self.audits();
        self.tally.checked += checked.ok;
        self.tally.count(Verdict::Ok, checked.ok);
        self.tally.count(Verdict::Unwritten, checked.unpromised);
        if audits {
            self.tally.promised += checked.ok + checked.findings.len() as u64;
        }
        for finding in checked.findings.drain(..) {
            if finding.verdict.is_violation() {
                let at = usize::try_from(finding.offset - place.offset).unwrap_or(0);
                let block = bytes.get(at..at + finding.len as usize);
                self.violation(finding, block, None, now_ns);
            } else {
                self.tally.checked += 1;
                self.tally.count(finding.verdict, 1);
                self.tally.keep(&finding);
            }
        }
    }

    /// A violation at first sight.
    pub(super) fn violation(
        &mut self,
        finding: Finding,
        block: Option<&[u8]>,
        early: Option<(u64, u64)>,
        now_ns: u64,
    ) {
        let place = Place { target: finding.target, offset: finding.offset };
        let received = block.filter(|_| self.spec.dump).map(|block| {
            let mut raw = block.to_vec();
            self.checker.judge.format().swap_front(&mut raw);
            raw.into_boxed_slice()
        });
        let should =
            block.filter(|_| self.spec.dump).and_then(|block| self.checker.should_stand(block, place));
        let expected = should.map(Vec::into_boxed_slice);
        let found = Found { finding, received, expected };
        let sum = block.map(crc_of);
        self.fresh.push_back(Reread { found, place, due_ns: now_ns, sum, early });
    }

    /// A read that was to be judged found the target's end: all is well where nothing need stand, as
    /// behind the last write to a full device. It is judged as if zeros stood there, then.
    pub(in crate::reactor::worker) fn may_be_missing(
        &mut self,
        read: SweepRead,
        purpose: &Purpose,
        now_ns: u64,
    ) -> bool {
        let is_one = read.len == self.sealer.format.interval && self.stage != Stage::Regroup;
        if !is_one || self.is_dismissed() || self.audits() || !matches!(purpose, Purpose::Judge) {
            return false;
        }
        let mut zeros = vec![0; read.len as usize];
        let mut checked = Checked::default();
        self.checker.check(&mut zeros, read.place, &mut checked);
        if checked.ok > 0 || checked.findings.iter().any(|finding| finding.verdict.is_violation()) {
            return false;
        }
        self.count(&mut checked, &zeros, read.place, now_ns);
        true
    }

    /// A read that was to be judged failed.
    pub(in crate::reactor::worker) fn unreadable(
        &mut self,
        read: SweepRead,
        purpose: Purpose,
        why: String,
        now_ns: u64,
    ) {
        let interval = self.sealer.format.interval;
        match purpose {
            Purpose::Plain | Purpose::Sample => {}
            Purpose::Reread => self.reread(Verdict::Unreadable, now_ns),
            // The final reading judges it, when the power is back.
            Purpose::Early(_) if self.power_lost => {}
            Purpose::Judge | Purpose::Early(_) if read.len > interval || self.stage == Stage::Regroup => {
                // Which of its blocks is it? The others are judged.
                for number in 0..u64::from(read.len / interval) {
                    let offset = read.place.offset + number * u64::from(interval);
                    self.singles.push_back(Place { offset, ..read.place });
                }
            }
            Purpose::Judge | Purpose::Early(_) => {
                if self.audits() {
                    self.tally.promised += 1;
                }
                let finding = self.checker.unreadable(read.place, why);
                let early = if let Purpose::Early(sequence) = purpose {
                    Some((sequence, read.place.offset))
                } else {
                    None
                };
                self.violation(finding, None, early, now_ns);
            }
        }
    }

    /// What the re-read that was taken last showed.
    pub(super) fn reread(&mut self, verdict: Verdict, now_ns: u64) {
        let Some(mut reread) = self.taken.take() else { return };
        reread.found.finding.rereads.push(verdict);
        if reread.found.finding.rereads.len() == 1 {
            reread.due_ns = now_ns + REREAD_PAUSE_NS;
            self.paused.push_back(reread);
            return;
        }
        self.settle(reread.found, reread.early.is_some());
    }

    /// A violation that has been read again often enough.
    pub(super) fn settle(&mut self, found: Found, early: bool) {
        let finding = &found.finding;
        let key = (finding.target, finding.offset);
        if early {
            self.early_bad.insert(key);
        } else {
            self.tally.checked += 1;
            if self.early_bad.remove(&key) {
                // It was counted when it was found on the way.
                return;
            }
        }
        self.tally.count(finding.verdict, 1);
        self.tally.transient += u64::from(finding.is_transient());
        self.tally.keep(finding);
        self.outbox.push_back(found);
        if self.spec.fatal && matches!(self.stage, Stage::Read) {
            self.stage = Stage::Count(FATAL);
        }
    }

    /// Whether `verify_fatal` has ended the job.
    pub(in crate::reactor::worker) fn is_fatal(&self) -> bool {
        self.spec.fatal && self.tally.violations() > 0
    }

    /// Whether a promise was broken.
    pub(in crate::reactor::worker) fn has_broken(&self) -> bool {
        self.tally.violations() > 0
    }

    pub(super) fn send(&mut self) {
        while let Some(found) = self.outbox.pop_front() {
            match self.sender.try_send(found) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => {}
                Err(TrySendError::Full(found)) => {
                    self.outbox.push_front(found);
                    return;
                }
            }
        }
    }

    /// Names culprit and victim of misplaced writes on both sides.
    pub(super) fn pair_misplaced(&mut self) {
        let misplaced: Vec<(u64, u64, String)> = self
            .tally
            .examples
            .iter()
            .filter(|finding| finding.verdict == Verdict::Misplaced)
            .filter_map(|finding| Some((finding.named_offset?, finding.offset, finding.stands.clone())))
            .collect();
        for finding in &mut self.tally.examples {
            for (meant, found_at, what) in &misplaced {
                if finding.offset == *meant && finding.verdict != Verdict::Misplaced {
                    finding
                        .details
                        .push(format!("what was meant for here stands at offset {found_at}: {what}"));
                }
            }
        }
    }

    /// The result; `None` if nothing was to be judged.
    pub(in crate::reactor::worker) fn finish(mut self) -> Option<Box<VerifyTally>> {
        let tally = &self.tally;
        let nothing_found =
            tally.checked == 0 && tally.checked_early == 0 && tally.violations() == 0 && self.rereads() == 0;
        let nothing_asked = !self.spec.do_verify && self.spec.backlog == 0;
        if !self.audits() && nothing_found && (nothing_asked || self.ledger.board().is_dismissed()) {
            return None;
        }
        if self.stage != Stage::Done {
            self.abandon("the worker ended before it was read back");
        }
        let flying = self.flying.iter_mut().filter_map(Option::take);
        let rest: Vec<Reread> = self.fresh.drain(..).chain(self.paused.drain(..)).chain(flying).collect();
        for reread in rest {
            self.settle(reread.found, reread.early.is_some());
        }
        self.send();
        Some(self.tally)
    }

    pub(in crate::reactor::worker) fn tally_mut(&mut self) -> &mut VerifyTally {
        &mut self.tally
    }
}

fn crc_of(block: &[u8]) -> u32 {
    let mut sum = [0; 4];
    digest(Method::Crc32c, block, &mut sum);
    u32::from_le_bytes(sum)
}
