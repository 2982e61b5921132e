//! Judges what was read: joins history, ledger and judge. Knows no queue, so that it can work on the
//! reactor or on threads beside it.

use std::sync::{Arc, OnceLock};

use crate::base::Op;
use crate::base::verify::{Finding, RunId, Verdict};
use crate::stats::{Filled, UnwrittenRange};
use crate::verify::block::Header;
use crate::verify::judge::{Allowed, Candidate, Judge, Place};
use crate::verify::promises::{Promises, State};
use crate::workload::{History, Mutation, Touched};

use super::later::{Claim, Excuse, Later};

use super::whole_writes::{OlderBlock, ReadBlocks, Torn, WholeWrite};

/// Most findings of one read that are put into words at once; the rest of a large read is judged all
/// the same.
const FINDINGS: usize = 64;

/// What a read showed.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// Blocks that were judged and are plainly well.
    pub ok: u64,
    /// Of the blocks that are no violation, those in which some write had to be found.
    pub demanded: u64,
    /// Blocks in a read that nothing was promised about.
    pub unpromised: u64,
    /// Blocks of which nobody can tell whether a promise was broken: a reason, and how many.
    pub undecided: [(&'static str, u64); 2],
    /// In an audit: blocks that were not written, with neighbours joined.
    pub unwritten: Vec<UnwrittenRange>,
    /// The others.
    pub findings: Vec<Finding>,
    /// Writes that must be whole and are partly outside of the read.
    pub open: Vec<WholeWrite>,
    /// Findings that are torn because another block shows their write.
    pub torn: Vec<Torn>,
    /// Blocks that show something older than their newest write, while the read is judged.
    older: Vec<OlderBlock>,
}

/// Why a block is undecided: more writes failed than were told apart, and one that may have is its newest.
const COARSE: &str = "so many writes failed that it was not kept which ones (more than 65536 separate runs), and \
                      what is there depends on one of them";
/// The other reason.
const OTHERS: &str =
    "a later stage may have written here with other options, and its blocks cannot be told apart here";

impl Checked {
    fn clear(&mut self) {
        self.ok = 0;
        self.demanded = 0;
        self.unpromised = 0;
        self.undecided = [(COARSE, 0), (OTHERS, 0)];
        self.unwritten.clear();
        self.findings.clear();
        self.open.clear();
        self.torn.clear();
        self.older.clear();
    }
}

/// What is known of the blocks that are judged.
#[derive(Clone, Debug)]
pub(crate) enum Knowledge {
    /// Nothing: an audit.
    None,
    /// All that a worker has issued, and what became of it.
    Frozen(Box<Frozen>),
}

/// What was promised at the freeze, with the history that belongs to it.
#[derive(Clone, Debug)]
pub(crate) struct Frozen {
    pub history: History,
    /// What later stages wrote over it.
    pub later: Later,
    pub block_bytes: u64,
    pub promises: Arc<Promises>,
    /// Everything issued has completed, and completion is what counts.
    pub is_plain: bool,
    /// Only what a flush made durable must have survived.
    pub fsynced: bool,
    /// Writes were durable when they completed; trims never are.
    pub writes_are_durable: bool,
    pub judges_trims: bool,
    /// The workload trims.
    pub trims: bool,
    /// Its longest write.
    pub longest: u64,
    /// The device stores some of its writes of several logical blocks whole or not at all.
    pub whole_writes: bool,
}

impl Frozen {
    /// Does a part of what must be done before the first question; whether all is done.
    pub(crate) fn prepare(&mut self, budget: u64) -> bool {
        self.history.prepare(budget) && self.later.prepare(budget)
    }

    /// Why what is known of a log is not all.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.history.trouble().or_else(|| self.later.trouble())
    }

    /// Whether a block is a later stage's, so that this worker's promise counts no more.
    #[inline]
    fn is_taken(&mut self, target: u16, offset: u64) -> bool {
        !self.later.is_empty() && self.later.claim(Place { target, offset }, self.block_bytes) > Claim::Maybe
    }

    /// The newest mutation of a block that counts: none where a later stage wrote.
    #[inline]
    pub(crate) fn newest(&mut self, target: u16, offset: u64) -> Option<Mutation> {
        let newest = self.history.newest(target, offset)?;
        if self.is_taken(target, offset) { None } else { Some(newest) }
    }

    /// The first touched block from `from` on and before `until` that no later stage wrote.
    pub(crate) fn next_touched(&mut self, target: u16, from: u64, until: u64) -> Option<Touched> {
        let mut from = from;
        loop {
            let touched = self.history.next_touched(target, from, until)?;
            if !self.is_taken(target, touched.offset) {
                return Some(touched);
            }
            from = touched.offset + self.block_bytes;
        }
    }

    /// Whether a block that was last touched so is judged.
    pub(crate) fn judges(&self, newest: &Mutation) -> bool {
        newest.op == Op::Write || self.judges_trims
    }

    fn survives(&self, op: Op, state: State) -> bool {
        survives(self.fsynced, self.writes_are_durable, op, state)
    }

    fn allowed(&mut self, place: Place, newest: Mutation) -> Allowed {
        let promises = Arc::clone(&self.promises);
        let mut chain = Vec::new();
        self.history.for_each_from(place.target, place.offset, newest, |mutation| {
            let state = promises.state(mutation.op, mutation.sequence);
            chain.push(Candidate {
                op: mutation.op,
                sequence: mutation.sequence,
                io_offset: mutation.offset,
                io_len: mutation.len,
                state,
            });
            !survives(self.fsynced, self.writes_are_durable, mutation.op, state)
        });
        let issued = promises.issued(Op::Write);
        Allowed::gather(chain.into_iter(), |one| self.survives(one.op, one.state), issued)
    }
}

/// Whether a write or a trim must be found again.
pub(super) fn survives(fsynced: bool, writes_are_durable: bool, op: Op, state: State) -> bool {
    let waits_for_flush = fsynced && !(writes_are_durable && op == Op::Write);
    if waits_for_flush { state == State::Durable } else { state.is_settled() }
}

/// Judges reads.
#[derive(Clone, Debug)]
pub(crate) struct Checker {
    pub judge: Judge,
    /// The run that is judged, one for all workers, where only the blocks say which one it is.
    pub run: Arc<OnceLock<RunId>>,
    pub knowledge: Knowledge,
}

impl Checker {
    pub(crate) fn interval(&self) -> usize {
        self.judge.format().interval as usize
    }

    /// Judges all blocks of a read of `bytes` from `place` on.
    pub(crate) fn check(&mut self, bytes: &mut [u8], place: Place, out: &mut Checked) {
        out.clear();
        let interval = self.interval();
        let mut at = place;
        for block in bytes.chunks_exact_mut(interval) {
            if self.judge.format().header_at > 0 {
                self.judge.format().unswap_front(block);
            }
            match &mut self.knowledge {
                Knowledge::None => audit(&self.judge, block, at, place.offset, out),
                Knowledge::Frozen(frozen) => {
                    if !self.judge.knows_run() {
                        adopt(&mut self.judge, &self.run, block, at);
                    }
                    check_promised(&self.judge, frozen, block, at, out);
                }
            }
            at.offset += interval as u64;
        }
        if let Knowledge::Frozen(frozen) = &mut self.knowledge
            && !out.older.is_empty()
        {
            let older = std::mem::take(&mut out.older);
            let mut read = ReadBlocks {
                judge: &self.judge,
                place,
                len: bytes.len() as u64,
                older: &older,
                findings: &mut out.findings,
                torn: &mut out.torn,
            };
            read.judge_writes(&mut out.open, |offset| {
                frozen.newest(place.target, offset).map(|newest| (newest.op, newest.sequence))
            });
        }
    }

    /// The verdict on one block that could not be read; `None` if no write had to be found there.
    pub(crate) fn unreadable(&mut self, place: Place, why: String) -> Option<Finding> {
        let len = self.judge.format().interval;
        let (allowed, promise) = match &mut self.knowledge {
            Knowledge::None => ("any intact block of this place".to_owned(), "none is known".to_owned()),
            Knowledge::Frozen(frozen) => {
                let newest = frozen.newest(place.target, place.offset)?;
                let allowed = frozen.allowed(place, newest);
                if !self.judge.demands(&allowed) {
                    return None;
                }
                (allowed.describe(), allowed.promise())
            }
        };
        Some(Finding {
            verdict: Verdict::Unreadable,
            target: place.target,
            offset: place.offset,
            len,
            stands: why,
            allowed,
            promise,
            details: Vec::new(),
            named_offset: None,
            rereads: Vec::new(),
            atomic: None,
        })
    }

    /// The block that should stand at `place`, for a dump; `None` where that is not one block.
    pub(crate) fn should_stand(&mut self, received: &[u8], place: Place) -> Option<Vec<u8>> {
        let Knowledge::Frozen(frozen) = &mut self.knowledge else { return None };
        let newest = frozen.newest(place.target, place.offset)?;
        let allowed = frozen.allowed(place, newest);
        let write = allowed.candidates.iter().find(|candidate| candidate.op == Op::Write)?;
        Some(self.judge.expected(received, place, write.sequence, &allowed))
    }
}

#[inline]
fn audit(judge: &Judge, block: &[u8], place: Place, io_offset: u64, out: &mut Checked) {
    match judge.audit(block, place, io_offset) {
        None => {
            out.ok += 1;
            out.demanded += u64::from(judge.compares());
        }
        Some(finding) if finding.verdict == Verdict::Unwritten => unwritten(block, place, out),
        Some(finding) => out.findings.push(finding),
    }
}

/// Makes the first run that any worker of the whole run finds the one that all blocks are judged by.
#[cold]
fn adopt(judge: &mut Judge, run: &OnceLock<RunId>, block: &[u8], place: Place) {
    let found = run.get().copied();
    let found = found.or_else(|| {
        let (here, _) = judge.run_of(block, place)?;
        Some(*run.get_or_init(|| here))
    });
    if let Some(found) = found {
        judge.adopt(found);
    }
}

/// A block of an audit that was not written joins the one before it, where that is alike.
fn unwritten(block: &[u8], place: Place, out: &mut Checked) {
    let filled = match block.first() {
        Some(0) if block.iter().all(|&byte| byte == 0) => Filled::Zeros,
        Some(0xff) if block.iter().all(|&byte| byte == 0xff) => Filled::Ones,
        _ => Filled::Other,
    };
    let Place { target, offset: start } = place;
    let end = start + block.len() as u64;
    match out.unwritten.last_mut().filter(|last| last.end == start && last.filled == filled) {
        Some(last) => last.end = end,
        None => out.unwritten.push(UnwrittenRange { target, start, end, filled }),
    }
}

#[inline]
fn check_promised(judge: &Judge, frozen: &mut Frozen, block: &[u8], place: Place, out: &mut Checked) {
    let Some(newest) = frozen.newest(place.target, place.offset) else {
        out.unpromised += 1;
        return;
    };
    if !frozen.judges(&newest) {
        out.unpromised += 1;
        return;
    }
    let settled =
        frozen.is_plain || frozen.survives(newest.op, frozen.promises.state(newest.op, newest.sequence));
    if settled && newest.op == Op::Write && judge.is_write(block, place, newest.sequence, newest.offset) {
        out.ok += 1;
        out.demanded += u64::from(judge.compares());
        return;
    }
    if newest.op == Op::Deallocate && settled && block.iter().all(|&byte| byte == 0) {
        out.ok += 1;
        out.demanded += u64::from(judge.compares());
        return;
    }
    explain(judge, frozen, block, place, newest, out);
}

#[cold]
fn explain(
    judge: &Judge,
    frozen: &mut Frozen,
    block: &[u8],
    place: Place,
    newest: Mutation,
    out: &mut Checked,
) {
    if frozen.promises.state(newest.op, newest.sequence) == State::Unknown
        && newest.op == Op::Write
        && judge.is_write(block, place, newest.sequence, newest.offset)
    {
        // Whatever came back.
        out.ok += 1;
        return;
    }
    let mut allowed = frozen.allowed(place, newest);
    if frozen.promises.open_end {
        judge.allow_later(block, place, (frozen.trims, frozen.longest), &mut allowed);
    }
    let mut finding = judge.judge(block, place, &allowed);
    if finding.verdict == Verdict::Lost {
        name_failed_write(frozen, block, &allowed, &mut finding);
    }
    let is_unknown = |candidate: &Candidate| candidate.state == State::Unknown;
    if !finding.verdict.is_violation() && allowed.candidates.iter().any(is_unknown) {
        out.undecided[0].1 += 1;
        return;
    }
    let mut is_theirs = false;
    if finding.verdict.is_violation() && !frozen.later.is_empty() {
        match frozen.later.excuse(block, place) {
            Some(Excuse::Theirs(name)) => {
                is_theirs = true;
                finding.verdict = Verdict::InFlight;
                finding
                    .details
                    .push(format!("a write of {name}, which ran in a later stage, may be here too"));
            }
            Some(Excuse::Unknown) => {
                out.undecided[1].1 += 1;
                return;
            }
            None => {}
        }
    }
    let is_permitted = !finding.verdict.is_violation();
    let demanded = is_permitted && judge.demands(&allowed);
    out.demanded += u64::from(demanded);
    let is_ok = finding.verdict == Verdict::Ok;
    if frozen.whole_writes && is_permitted && !is_ok && !is_theirs {
        let at = out.findings.len();
        out.older.push(OlderBlock::of(judge, block, place, allowed, (at, demanded)));
    }
    if is_ok {
        out.ok += 1;
    } else {
        if out.findings.is_empty() {
            out.findings.reserve(FINDINGS);
        }
        out.findings.push(finding);
    }
}

/// A write that ended with an error and appears over a newer one was not lost by a flush: it was stored
/// after its end.
fn name_failed_write(frozen: &Frozen, block: &[u8], allowed: &Allowed, finding: &mut Finding) {
    let sequence = Header::read(block).unwrap_or_default().sequence;
    let Some(floor) = allowed.candidates.last().filter(|floor| floor.op == Op::Write) else { return };
    if frozen.promises.state(Op::Write, sequence) == State::Failed {
        finding.promise = format!(
            "write {sequence} had ended with an error before write {} was issued: it must not be stored over it",
            floor.sequence
        );
        finding.details.push(format!(
            "write {sequence} failed, timed out or was aborted, and is now stored over write {}",
            floor.sequence
        ));
    }
}
