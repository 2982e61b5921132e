//! What was read is judged; violations are read again, told and counted.

use super::*;
use crate::base::atomic::AtomicSource;

impl Verification {
    /// Whether a read is of one block.
    pub(in crate::reactor::worker) fn is_one_block(&self, read: &SweepRead) -> bool {
        read.len == self.sealer.format.interval
    }

    /// Judges a read that came back whole.
    pub(in crate::reactor::worker) fn judge(
        &mut self,
        bytes: &mut [u8],
        place: Place,
        purpose: Purpose,
        now_ns: u64,
    ) {
        self.gone = 0;
        match purpose {
            Purpose::Plain => {}
            Purpose::Judge => {
                let mut checked = std::mem::take(&mut self.checked);
                self.checker.check(bytes, place, &mut checked);
                self.count(&mut checked, bytes, place, now_ns);
                self.checked = checked;
            }
            Purpose::Whole => {
                let mut checked = std::mem::take(&mut self.checked);
                self.checker.check(bytes, place, &mut checked);
                self.count_torn(&mut checked, bytes, place, now_ns);
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
                    match self.check_early(block, at, sequence, place.offset) {
                        Some(finding) => {
                            self.violation(finding, Some(block), Some((sequence, place.offset)), now_ns);
                        }
                        None => self.early_well += 1,
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
        self.open.append(&mut checked.open);
        for torn in checked.torn.drain(..) {
            // Counted when it is settled.
            checked.demanded -= u64::from(torn.demanded);
            checked.ok -= u64::from(torn.was == Verdict::Ok);
            let finding = &checked.findings[torn.finding];
            self.torn.insert((finding.target, finding.offset));
        }
        self.gone = 0;
        self.tally.judged(Verdict::Ok, checked.ok, 0);
        self.tally.judged(Verdict::Unwritten, checked.unpromised, 0);
        self.tally.demanded += checked.demanded;
        checked.undecided.iter().for_each(|(why, blocks)| self.tally.skip(why, *blocks));
        for range in checked.unwritten.drain(..) {
            let blocks = (range.end - range.start) / u64::from(self.sealer.format.interval);
            self.unwritten.add(range, blocks);
        }
        if !self.early_bad.is_empty() && !self.audits() {
            self.retract_early(checked, bytes.len(), place);
        }
        for finding in checked.findings.drain(..) {
            if finding.verdict.is_violation() {
                let at = usize::try_from(finding.offset - place.offset).unwrap_or(0);
                let block = bytes.get(at..at + finding.len as usize);
                self.violation(finding, block, None, now_ns);
            } else {
                self.tally.judged(finding.verdict, 1, 0);
                self.tally.keep(&finding);
            }
        }
    }

    /// A block that was found in violation on the way keeps that verdict, whatever is found at the end.
    fn retract_early(&mut self, checked: &mut Checked, len: usize, place: Place) {
        let interval = self.checker.interval();
        for at in (0..len).step_by(interval) {
            let key = (place.target, place.offset + at as u64);
            if !self.early_bad.contains(&key) {
                continue;
            }
            match checked.findings.iter().position(|finding| finding.offset == key.1) {
                // Counted when it is settled.
                Some(at) if checked.findings[at].verdict.is_violation() => {}
                Some(at) => {
                    checked.findings.swap_remove(at);
                    self.tally.demanded = self.tally.demanded.saturating_sub(1);
                }
                None => self.tally.retract(Verdict::Ok, 1),
            }
        }
    }

    /// Counts blocks again that are torn because another block shows their write: they were judged before,
    /// in a read that did not have all of that write.
    fn count_torn(&mut self, checked: &mut Checked, bytes: &[u8], place: Place, now_ns: u64) {
        for torn in checked.torn.drain(..) {
            let finding = checked.findings[torn.finding].clone();
            let key = (finding.target, finding.offset);
            // What was not counted as what it was now is not counted anew.
            if self.bad.contains(&key) || self.early_bad.contains(&key) || !self.torn.insert(key) {
                continue;
            }
            self.tally.take_back(torn.was, torn.demanded, &finding);
            let at = usize::try_from(finding.offset - place.offset).unwrap_or(0);
            let block = bytes.get(at..at + finding.len as usize);
            self.violation(finding, block, None, now_ns);
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
        self.bad.insert((finding.target, finding.offset));
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
        self.fresh.push_back(Reread { found, place, due_ns: now_ns, sum, early, is_part: false });
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

    /// A read that was to be judged failed; `is_gone`: as reads do while the device has no power or is
    /// gone.
    pub(in crate::reactor::worker) fn unreadable(
        &mut self,
        read: SweepRead,
        purpose: Purpose,
        (why, is_gone): (String, bool),
        now_ns: u64,
    ) {
        let interval = self.sealer.format.interval;
        let blocks = u64::from(read.len / interval);
        let places = (0..blocks)
            .map(|at| Place { offset: read.place.offset + at * u64::from(interval), ..read.place });
        let comes_back = self.stage == Stage::Regroup;
        match purpose {
            Purpose::Plain => {}
            // Says nothing of the block, which is read again when the power is back.
            Purpose::Reread if is_gone && matches!(self.stage, Stage::Regroup | Stage::Done) => {
                self.fresh.extend(self.taken.take());
            }
            Purpose::Reread if is_gone && self.taken.as_ref().is_some_and(|reread| reread.is_part) => {
                self.taken = None;
            }
            Purpose::Reread => self.reread(Verdict::Unreadable, now_ns),
            // Its blocks have been judged one by one; when the power is back, it is read again.
            Purpose::Whole if self.stage == Stage::Regroup => self.spans.push_back(read),
            Purpose::Whole => self.failed_spans += 1,
            // The final reading judges it, when the power is back.
            Purpose::Early(_) if self.power_lost => {}
            Purpose::Judge if is_gone && !comes_back => {
                // Without a later count of what is left, it is counted here.
                if self.left_out.is_none() {
                    self.tally.skip(GONE, blocks - self.counted_early(&read));
                }
            }
            // Which of its blocks is it? The others are judged.
            Purpose::Judge if blocks > 1 || comes_back => self.singles.extend(places),
            Purpose::Early(sequence) if blocks > 1 => {
                for place in places {
                    let Some(finding) = self.checker.unreadable(place, why.clone()) else { continue };
                    let early = Some((sequence, read.place.offset));
                    let found = Found { finding, received: None, expected: None };
                    self.fresh.push_back(Reread {
                        found,
                        place,
                        due_ns: now_ns,
                        sum: None,
                        early,
                        is_part: true,
                    });
                }
            }
            Purpose::Judge | Purpose::Early(_) => {
                let early = match purpose {
                    Purpose::Early(sequence) => Some((sequence, read.place.offset)),
                    _ => None,
                };
                match self.checker.unreadable(read.place, why.clone()) {
                    Some(finding) => self.violation(finding, None, early, now_ns),
                    None => {
                        self.bad.insert((read.place.target, read.place.offset));
                        let why = format!("{why}; nothing was demanded of these blocks");
                        self.tally.skip(&why, blocks - self.counted_early(&read));
                    }
                }
            }
        }
    }

    /// What the re-read that was taken last showed.
    pub(super) fn reread(&mut self, verdict: Verdict, now_ns: u64) {
        let Some(mut reread) = self.taken.take() else { return };
        if reread.is_part && verdict != Verdict::Unreadable {
            return;
        }
        reread.is_part = false;
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
        let is_known = self.early_bad.contains(&key);
        if early {
            self.early_bad.insert(key);
        }
        if is_known {
            // It was counted when it was found on the way.
            return;
        }
        self.tally.judged(finding.verdict, 1, 1);
        self.tally.transient += u64::from(finding.is_transient());
        self.tally.torn_awupf += u64::from(finding.atomic == Some(AtomicSource::Awupf));
        self.tally.keep(finding);
        self.outbox.push_back(found);
        if self.spec.fatal && matches!(self.stage, Stage::Read) {
            self.stage = Stage::Count(FATAL);
        }
    }

    /// Whether `verify_fatal` has ended the job.
    pub(in crate::reactor::worker) fn is_fatal(&self) -> bool {
        let demands_all = self.spec.unwritten == OnUnwritten::Fail && self.tally.of(Verdict::Ok) > 0;
        self.spec.fatal && (self.tally.violations() > 0 || demands_all && self.unwritten.blocks() > 0)
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

    /// The result, and of an audit what was not written; `None` if nothing was to be judged.
    pub(in crate::reactor::worker) fn finish(mut self) -> Option<(Box<VerifyTally>, Option<Box<Unwritten>>)> {
        let tally = &self.tally;
        let nothing_found =
            tally.checked == 0 && tally.checked_early == 0 && tally.violations() == 0 && self.rereads() == 0;
        let nothing_asked = !self.spec.do_verify && self.spec.backlog == 0;
        if !self.audits() && nothing_found && (nothing_asked || self.ledger.board().is_dismissed()) {
            return None;
        }
        if self.stage == Stage::Done && self.left_out.is_none() && tally.promised == 0 && self.left_to_later()
        {
            return None;
        }
        if self.stage != Stage::Done {
            self.abandon("the worker ended before it was read back");
        }
        let flying = self.flying.iter_mut().filter_map(Option::take);
        let rest: Vec<Reread> = self.fresh.drain(..).chain(self.paused.drain(..)).chain(flying).collect();
        for reread in rest.into_iter().filter(|reread| !reread.is_part) {
            self.settle(reread.found, reread.early.is_some());
        }
        if !self.audits() && (!self.spec.do_verify || self.is_dismissed() && self.sweep.is_none()) {
            // What was judged on the way is all that was to be judged in this run.
            let demanded = if self.checker.judge.compares() { self.early_well } else { 0 };
            self.tally.judged(Verdict::Ok, self.early_well, demanded);
        }
        if let Some(why) = self.left_out {
            self.tally.skip(why, self.most_blocks().saturating_sub(self.tally.promised));
        }
        let open = !self.open.is_empty() || !self.spans.is_empty() || self.purposes.contains(&Purpose::Whole);
        if self.failed_spans > 0 || open && !self.is_fatal() {
            self.tally
                .doubt("", "not every write was judged as a whole: reads of all its blocks failed or ended");
        }
        self.send();
        if self.audits() {
            // Its result depends on what the job's other workers have found.
            return Some((self.tally, Some(self.unwritten)));
        }
        if let Some(why) = self.doubt() {
            self.tally.doubt("", &why);
        }
        Some((self.tally, None))
    }

    /// Whether all that there was to judge was written again by later stages that are judged by themselves.
    fn left_to_later(&self) -> bool {
        match &self.checker.knowledge {
            Knowledge::Frozen(frozen) => frozen.later.left_to_them && !frozen.later.left_unjudged,
            Knowledge::None => false,
        }
    }

    /// Whether blocks were left out that a later stage wrote without verifying.
    fn left_unjudged(&self) -> bool {
        matches!(&self.checker.knowledge, Knowledge::Frozen(frozen) if frozen.later.left_unjudged)
    }

    /// Why the result is inconclusive, if it is.
    fn doubt(&self) -> Option<String> {
        let tally = &self.tally;
        let why = if tally.checked == 0 && tally.promised > 0 {
            "no block was checked"
        } else if tally.of(Verdict::NotChecked) > 0 {
            "not every block was checked"
        } else if tally.demanded > 0 {
            return None;
        } else if tally.promised == 0 && self.left_unjudged() {
            "nothing is promised any more: a later stage that does not verify wrote over it"
        } else if tally.promised == 0 {
            "there was nothing to check"
        } else if !self.checker.judge.compares() {
            "nothing was demanded: verify = \"null\" compares nothing"
        } else if let Some(why) = self.flush_trouble.as_ref().filter(|_| self.goes_by_flushes()) {
            return Some(format!("nothing was demanded: {why}"));
        } else if self.goes_by_flushes() {
            "nothing was demanded: no flush had made any of these writes durable, so a volatile cache \
             promised nothing; set fsync = N, or verify_policy = \"completed\""
        } else {
            "nothing was demanded: every write was in flight or had failed"
        };
        Some(why.to_owned())
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
