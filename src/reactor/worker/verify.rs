//! The verification of one worker: what it has promised, and how it is read back and judged.
//!
//! While the worker writes, its ledger follows every mutation. When all is written, ledger and
//! history are frozen and every promised block is read once; a block in violation is read twice
//! more, once after a pause.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use crossbeam_channel::{Sender, TrySendError};

use crate::base::Op;
use crate::base::verify::{Finding, Method, Policy, RunId, Verdict, VerifySpec};
use crate::engine::Io;
use crate::stats::{VerifyTally, WorkerStats};
use crate::verify::block::{Sealer, WriteFacts};
use crate::verify::checksum::digest;
use crate::verify::judge::{Allowed, Candidate, Judge, Place};
use crate::verify::ledger::{Ledger, State};
use crate::workload::{History, Issued, Mutations, Step, WorkloadSpec};

use super::checker::{Checked, Checker, Frozen, Knowledge};
use super::checkers::{Checkers, Parcel};
use super::sweep::{Looked, Sweep, SweepRead};

/// Violations that wait for their re-reads before no further block is read: with the pause this is
/// what bounds the judging of a target on which everything is wrong.
const MOST_REREADS: usize = 8192;
/// Violations that wait to be taken by the thread that watches.
const MOST_UNSENT: usize = 1024;
/// Why the rest is not checked.
const FATAL: &str = "verify_fatal ended the job at the first violation";
/// How long before the second re-read.
const REREAD_PAUSE_NS: u64 = 100_000_000;
/// Steps of preparing a history, and looks for the next read, a turn.
const STEPS_A_TURN: u64 = 4096;
const LOOKS_A_TURN: u32 = 64;
/// Writes that are looked at to find out which run there is to judge.
const SAMPLES: usize = 128;

/// What a worker needs in order to verify.
pub struct VerifyParts {
    /// The options.
    pub spec: VerifySpec,
    /// Makes the blocks.
    pub sealer: Sealer,
    /// Judges them.
    pub judge: Judge,
    /// What the worker does: its history is worked out from this.
    pub workload: WorkloadSpec,
    /// Nothing is written: this much was, by an earlier run.
    pub earlier: Option<Issued>,
    /// The time since 1970 at the origin of `base::clock`, in nanoseconds.
    pub unix_origin_ns: u64,
    /// The target has a volatile write cache that is on.
    pub volatile_cache: bool,
    /// A write that completed is durable (O_DSYNC).
    pub writes_are_durable: bool,
    /// Before anything is read back, somebody drops the target's cached pages and says so
    /// ([`super::Live::allow_judging`]).
    pub waits_for_leave: bool,
    /// Longest read.
    pub most_bytes: u32,
    /// Where violations go.
    pub found: Sender<Found>,
}

/// A violation, with the blocks for a dump where one was asked for.
#[derive(Debug)]
pub struct Found {
    /// In words.
    pub finding: Finding,
    /// What was read.
    pub received: Option<Box<[u8]>>,
    /// What should stand there.
    pub expected: Option<Box<[u8]>>,
}

/// What a read is for, by its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The workload's own.
    Plain,
    /// To find out which run there is to judge.
    Sample,
    /// To judge; or a part of such a read that failed, block by block.
    Judge,
    /// To see whether a violation is there again.
    Reread,
    /// To judge on the way (`verify_backlog`) the write of that number.
    Early(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Off,
    Leave,
    Prepare,
    Sample,
    Read,
    /// The power went while it was read back: when nothing is in flight any more, what could not be
    /// read is read again, and held to what must have survived.
    Regroup,
    /// Nothing more is read, but what is left is counted.
    Count(&'static str),
    /// The last re-reads.
    Finish,
    Done,
}

#[derive(Debug)]
struct Reread {
    found: Found,
    place: Place,
    due_ns: u64,
    /// Of the block as it was read first: the same bytes deserve the same verdict.
    sum: Option<u32>,
    /// Found on the way: which write was to stand there at least, and where its I/O begins.
    early: Option<(u64, u64)>,
}

/// The verification of one worker.
pub(super) struct Verification {
    spec: VerifySpec,
    sealer: Sealer,
    checker: Checker,
    /// Threads that judge, with `verify_async`.
    checkers: Option<Checkers>,
    depth: u32,
    workload: WorkloadSpec,
    earlier: Option<Issued>,
    unix_origin_ns: u64,
    volatile_cache: bool,
    writes_are_durable: bool,
    waits_for_leave: bool,
    most_bytes: u32,
    sender: Sender<Found>,
    pub ledger: Ledger,
    /// Flushes of all targets that belong together: ticket, how many are out, whether all went well.
    rounds: Vec<(u64, u16, bool)>,
    purposes: Box<[Purpose]>,
    stage: Stage,
    sweep: Option<Sweep>,
    singles: VecDeque<Place>,
    /// To be read again at once, and after a pause.
    fresh: VecDeque<Reread>,
    paused: VecDeque<Reread>,
    /// Being read again, by buffer; and on the way to or from there.
    flying: Box<[Option<Reread>]>,
    flying_count: usize,
    taken: Option<Reread>,
    outbox: VecDeque<Found>,
    samples: Vec<SweepRead>,
    newest_run: Option<(u64, RunId)>,
    checked: Checked,
    tally: Box<VerifyTally>,
    /// Statistics of the writing, while those of the reading back are kept.
    pub written: Option<Box<WorkerStats>>,
    backlog: VecDeque<Step>,
    early_left: u64,
    early_bad: HashSet<(u16, u64)>,
    power_lost: bool,
    /// Writes of different passes, or drawn ones, may touch the same block: look before each.
    overlaps: bool,
    /// Below this write, those in flight belong to an earlier pass.
    pass: u64,
    pass_begins: u64,
}

impl Verification {
    pub(super) fn new(parts: VerifyParts, depth: u32) -> Verification {
        let VerifyParts { spec, sealer, judge, workload, earlier, .. } = parts;
        let judge = judge.comparing(spec.write_sequence, spec.header_seed, spec.trim_verify_zero);
        let overlaps = History::bytes_needed(&workload, sealer.format.interval) > 0
            || workload.mix == crate::base::shape::Mix::TrimWrite
            || workload.trim.is_some()
            || spec.backlog > 0;
        let ledger = match earlier {
            Some(issued) => Ledger::finished(issued.writes, issued.trims),
            None => Ledger::new(depth),
        };
        let mut verification = Verification {
            backlog: VecDeque::with_capacity(usize::try_from(spec.backlog.min(1 << 20)).unwrap_or(0) + 1),
            spec,
            sealer,
            checker: Checker { judge, knowledge: Knowledge::None },
            checkers: None,
            depth,
            workload,
            earlier,
            unix_origin_ns: parts.unix_origin_ns,
            volatile_cache: parts.volatile_cache,
            writes_are_durable: parts.writes_are_durable,
            waits_for_leave: parts.waits_for_leave,
            most_bytes: parts.most_bytes,
            sender: parts.found,
            ledger,
            rounds: Vec::with_capacity(depth as usize),
            purposes: vec![Purpose::Plain; depth as usize].into(),
            stage: Stage::Off,
            sweep: None,
            singles: VecDeque::new(),
            fresh: VecDeque::new(),
            paused: VecDeque::new(),
            flying: (0..depth).map(|_| None).collect(),
            flying_count: 0,
            taken: None,
            outbox: VecDeque::new(),
            samples: Vec::new(),
            newest_run: None,
            checked: Checked::default(),
            tally: Box::default(),
            written: None,
            early_left: 0,
            early_bad: HashSet::new(),
            power_lost: false,
            overlaps,
            pass: 0,
            pass_begins: 0,
        };
        if verification.audits() {
            verification.start_checkers();
        }
        verification
    }

    /// Starts the threads of `verify_async`, now that what they must know is known.
    fn start_checkers(&mut self) {
        if self.spec.async_threads > 0 {
            let cpus = self.spec.async_cpus.as_deref();
            // Without them the reactor judges by itself.
            self.checkers = Checkers::start(&self.checker, self.spec.async_threads, cpus, self.depth).ok();
        }
    }

    /// Hands a read to the checking threads, if there are any; gives it back if not.
    #[inline]
    pub(super) fn hand_over(&mut self, io: Io) -> Result<(), Io> {
        match &mut self.checkers {
            Some(checkers) if self.purposes[io.buffer.id() as usize] == Purpose::Judge => {
                checkers.hand_over(io)
            }
            _ => Err(io),
        }
    }

    /// A read that has been judged beside the reactor: counted here; its buffer is free.
    #[inline]
    pub(super) fn take_judged(&mut self, now_ns: u64) -> Option<Io> {
        let Parcel { io, mut checked } = self.checkers.as_mut()?.take_back()?;
        self.take_purpose(io.buffer.id());
        let place = Place { target: io.target, offset: io.offset };
        self.count(&mut checked, &io.buffer[..io.len as usize], place, now_ns);
        if let Some(checkers) = &mut self.checkers {
            checkers.reuse(checked);
        }
        Some(io)
    }

    /// Reads that are with the checking threads.
    #[inline]
    pub(super) fn beside(&self) -> u32 {
        self.checkers.as_ref().map_or(0, Checkers::outstanding)
    }

    /// Whether what the workload reads is judged.
    pub(super) fn audits(&self) -> bool {
        !self.workload.mix.modifies()
    }

    /// Whether nothing is written: an earlier run is judged.
    pub(super) fn only_judges(&self) -> bool {
        self.earlier.is_some()
    }

    // --- while writing ---

    /// Whether an I/O to the same bytes may be in flight, so that it is worth looking.
    #[inline]
    pub(super) fn may_overlap(&mut self, step: &Step, pass: u64) -> bool {
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
    pub(super) fn issue(&mut self, step: &Step, buffer: &mut [u8], now_ns: u64) {
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
    pub(super) fn came_back(&mut self, op: Op, sequence: u64, well: bool) {
        if well {
            self.ledger.complete(op, sequence);
        } else {
            self.ledger.fail(op, sequence);
        }
    }

    /// A command failed as commands do when the power goes.
    pub(super) fn saw_error(&mut self, errno: i32) {
        let gone = [rustix::io::Errno::NODEV, rustix::io::Errno::NXIO].map(rustix::io::Errno::raw_os_error);
        if self.power_lost || !gone.contains(&errno) {
            return;
        }
        self.power_lost = true;
        if matches!(self.stage, Stage::Read | Stage::Finish) && !self.audits() {
            self.stage = Stage::Regroup;
        }
    }

    /// The first of `targets` flushes that belong together is about to be submitted; the ticket goes
    /// into all of them.
    pub(super) fn flush(&mut self, targets: u16) -> u64 {
        let ticket = self.ledger.flush();
        self.rounds.push((ticket, targets, true));
        ticket
    }

    /// One of them came back.
    pub(super) fn flushed(&mut self, ticket: u64, well: bool) {
        let Some(at) = self.rounds.iter().position(|round| round.0 == ticket) else { return };
        let round = &mut self.rounds[at];
        round.1 -= 1;
        round.2 &= well;
        if round.1 == 0 {
            let (ticket, _, well) = self.rounds.swap_remove(at);
            // Of what completed before the power went, a flush after its return says nothing.
            self.ledger.flushed(ticket, well && !self.power_lost);
        }
    }

    /// The next write to read back on the way; `is_busy` says whether an I/O to its bytes is in flight.
    pub(super) fn early(&mut self, is_busy: impl Fn(&Step) -> bool) -> Option<Step> {
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
    fn is_certain(&self, sequence: u64) -> bool {
        let state = self.ledger.state(Op::Write, sequence);
        let survives = if self.goes_by_flushes() { state == State::Durable } else { state.is_settled() };
        survives
            && !self.power_lost
            && self.ledger.failed(Op::Write) == 0
            && self.ledger.failed(Op::Deallocate) == 0
    }

    /// Whether only what a flush has made durable must stand.
    fn goes_by_flushes(&self) -> bool {
        match self.spec.policy {
            Policy::Completed => false,
            Policy::Fsynced => !self.writes_are_durable,
            Policy::Auto => self.power_lost && self.volatile_cache && !self.writes_are_durable,
        }
    }

    // --- reading back ---

    pub(super) fn set_purpose(&mut self, buffer: u32, purpose: Purpose) {
        self.purposes[buffer as usize] = purpose;
        if purpose == Purpose::Reread {
            self.flying[buffer as usize] = self.taken.take();
            self.flying_count += 1;
        }
    }

    /// Violations that are still to be read again.
    fn rereads(&self) -> usize {
        self.fresh.len() + self.paused.len() + self.flying_count
    }

    /// What the workload of an audit reads is judged.
    #[inline]
    pub(super) fn mark_audit(&mut self, buffer: u32) {
        let purpose = &mut self.purposes[buffer as usize];
        if *purpose == Purpose::Plain {
            *purpose = Purpose::Judge;
        }
    }

    #[inline]
    pub(super) fn take_purpose(&mut self, buffer: u32) -> Purpose {
        let purpose = std::mem::replace(&mut self.purposes[buffer as usize], Purpose::Plain);
        if purpose == Purpose::Reread {
            self.taken = self.flying[buffer as usize].take();
            self.flying_count -= 1;
        }
        purpose
    }

    /// Nothing is in flight any more that writes: time to read back. False if nothing is to be read.
    pub(super) fn begin(&mut self) -> bool {
        self.singles.clear();
        if self.audits() {
            self.stage = Stage::Finish;
            return self.rereads() > 0 || !self.outbox.is_empty();
        }
        if !self.spec.do_verify {
            self.tally.promised = self.tally.checked_early;
            self.tally.checked = self.tally.checked_early;
            self.stage = Stage::Finish;
            return self.rereads() > 0 || !self.outbox.is_empty();
        }
        self.stage = if self.waits_for_leave { Stage::Leave } else { Stage::Prepare };
        true
    }

    /// Whether somebody else must act first.
    pub(super) fn waits_for_leave(&self) -> bool {
        self.stage == Stage::Leave
    }

    /// The leave is there.
    pub(super) fn go_on(&mut self) {
        if self.stage == Stage::Leave {
            self.stage = Stage::Prepare;
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Ends without reading (any more): what is left of what was promised is counted, roughly, as not
    /// checked.
    pub(super) fn abandon(&mut self, why: &'static str) {
        if matches!(self.stage, Stage::Done) || !self.wants_all() {
            self.stage = Stage::Done;
            return;
        }
        let interval = u64::from(self.sealer.format.interval);
        let region: u64 = self.workload.regions.iter().map(|region| region.bytes / interval).sum();
        let op = if self.workload.mix == crate::base::shape::Mix::Trim { Op::Deallocate } else { Op::Write };
        let longest = u64::from(self.workload.sizes.get(op).max()) / interval;
        let most = region.min(self.ledger.issued(op).saturating_mul(longest.max(1)));
        let left = most.saturating_sub(self.tally.checked);
        self.tally.promised = self.tally.checked + left;
        self.tally.skip(why, left);
        self.stage = Stage::Done;
    }

    fn wants_all(&self) -> bool {
        !self.audits() && self.spec.do_verify
    }

    /// How much was issued.
    fn issued(&self) -> Issued {
        Issued { writes: self.ledger.issued(Op::Write), trims: self.ledger.issued(Op::Deallocate) }
    }

    /// Builds the history; what became of each mutation is known now, and changes no more.
    fn learn(&mut self) -> Result<(), String> {
        let fsynced = self.goes_by_flushes();
        let interval = self.sealer.format.interval;
        let replays = History::bytes_needed(&self.workload, interval) > 0;
        let unsettled = if fsynced && replays { self.ledger.not_durable() } else { self.ledger.unsettled() };
        let history = History::new(&self.workload, self.issued(), interval, &unsettled);
        let ledger = Arc::new(self.ledger.clone());
        self.checker.knowledge = Knowledge::Frozen(Box::new(Frozen {
            history: history.map_err(|error| error.to_string())?,
            is_plain: !fsynced && ledger.is_settled(),
            ledger,
            fsynced,
            judges_trims: self.spec.trim_verify_zero,
        }));
        Ok(())
    }

    /// Builds history and sweep.
    fn freeze(&mut self) -> Result<(), String> {
        self.learn()?;
        let (issued, interval) = (self.issued(), self.sealer.format.interval);
        let sweep = Sweep::new(&self.workload, issued, self.spec.order, interval, self.most_bytes);
        self.sweep = Some(sweep.map_err(|error| error.to_string())?);
        if !self.checker.judge.knows_run() {
            let mutations = Mutations::new(&self.workload, issued).map_err(|error| error.to_string())?;
            let writes = mutations.filter(|step| step.op == Op::Write).take(SAMPLES);
            let read = |step: Step| SweepRead {
                place: Place { target: step.target, offset: step.offset },
                len: interval,
            };
            self.samples = writes.map(read).collect();
        }
        Ok(())
    }

    /// Goes on from stage to stage; true if it did something.
    pub(super) fn advance(&mut self, in_flight: u32) -> bool {
        self.send();
        match self.stage {
            Stage::Prepare => {
                if self.sweep.is_none()
                    && let Err(why) = self.freeze()
                {
                    self.tally.skip(&why, self.ledger.issued(Op::Write).max(1));
                    self.stage = Stage::Finish;
                    return true;
                }
                // What was found on the way comes first, or it would be counted twice.
                if let Knowledge::Frozen(frozen) = &mut self.checker.knowledge
                    && frozen.history.prepare(STEPS_A_TURN)
                    && !self.waits_for_early()
                {
                    self.stage = match self.samples.is_empty() {
                        _ if self.is_fatal() => Stage::Count(FATAL),
                        true => Stage::Read,
                        false => Stage::Sample,
                    };
                    if self.stage == Stage::Read {
                        self.start_checkers();
                    }
                }
                true
            }
            Stage::Sample if self.samples.is_empty() && in_flight == 0 => {
                if let Some((_, run)) = self.newest_run {
                    self.checker.judge.adopt(run);
                }
                self.start_checkers();
                self.stage = Stage::Read;
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
                            self.tally.promised += blocks;
                            self.tally.skip(why, blocks);
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

    fn look(&mut self) -> Looked {
        match (&mut self.sweep, &mut self.checker.knowledge) {
            (Some(sweep), Knowledge::Frozen(frozen)) => sweep.next(frozen),
            _ => Looked::End,
        }
    }

    /// Whether blocks can be judged: without a history, only what was found on the way can.
    fn is_ready(&self) -> bool {
        !matches!(self.stage, Stage::Regroup | Stage::Prepare)
    }

    /// Whether violations found on the way are still to be read again.
    fn waits_for_early(&self) -> bool {
        let flying = self.flying.iter().flatten();
        self.fresh.iter().chain(&self.paused).chain(flying).any(|reread| reread.early.is_some())
    }

    /// The next violation whose time has come to be read again.
    fn due_reread(&mut self, now_ns: u64) -> Option<Reread> {
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
    pub(super) fn next_read(&mut self, now_ns: u64) -> Option<(SweepRead, Purpose)> {
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
            Stage::Sample => self.samples.pop().map(|read| (read, Purpose::Sample)),
            Stage::Read if !self.is_choked() => {
                for _ in 0..LOOKS_A_TURN {
                    match self.look() {
                        Looked::Read(read) => {
                            self.tally.promised += u64::from(read.len / interval);
                            return Some((read, Purpose::Judge));
                        }
                        Looked::Later => {}
                        Looked::End => {
                            self.stage = Stage::Finish;
                            break;
                        }
                    }
                }
                None
            }
            _ => None,
        }
    }

    /// Whether so many violations wait to be read again that nothing new should be read.
    pub(super) fn is_choked(&self) -> bool {
        // Where the first violation is the last, nothing is done meanwhile.
        let most = if self.spec.fatal { 1 } else { MOST_REREADS };
        self.rereads() >= most || self.outbox.len() >= MOST_UNSENT
    }

    /// Whether reads are on hand or will be, so that a reactor should not sleep.
    pub(super) fn has_reads(&self) -> bool {
        !matches!(self.stage, Stage::Finish | Stage::Done | Stage::Off)
            || !self.singles.is_empty()
            || !self.fresh.is_empty()
    }

    /// Judges a read that came back whole.
    pub(super) fn judge(&mut self, bytes: &mut [u8], place: Place, purpose: Purpose, now_ns: u64) {
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
    fn check_early(&self, block: &[u8], place: Place, sequence: u64, io_offset: u64) -> Option<Finding> {
        let judge = &self.checker.judge;
        if judge.is_write(block, place, sequence, io_offset) || !self.is_certain(sequence) {
            return None;
        }
        if self.ledger.issued(Op::Deallocate) > 0 && block.iter().all(|&byte| byte == 0) {
            return None;
        }
        let header = crate::verify::block::Header::read(block).unwrap_or_default();
        if header.sequence > sequence
            && header.sequence < self.ledger.issued(Op::Write)
            && judge.is_write(block, place, header.sequence, io_offset)
        {
            return None;
        }
        let state = State::Completed;
        let write = Candidate { op: Op::Write, sequence, io_offset, io_len: 0, state };
        let allowed =
            Allowed { candidates: vec![write], has_floor: true, issued: self.ledger.issued(Op::Write) };
        let finding = judge.judge(block, place, &allowed);
        (finding.verdict != Verdict::Ok).then_some(finding)
    }

    fn count(&mut self, checked: &mut Checked, bytes: &[u8], place: Place, now_ns: u64) {
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
    fn violation(&mut self, finding: Finding, block: Option<&[u8]>, early: Option<(u64, u64)>, now_ns: u64) {
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

    /// A read that was to be judged failed.
    pub(super) fn unreadable(&mut self, read: SweepRead, purpose: Purpose, why: String, now_ns: u64) {
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
    fn reread(&mut self, verdict: Verdict, now_ns: u64) {
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
    fn settle(&mut self, found: Found, early: bool) {
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
    pub(super) fn is_fatal(&self) -> bool {
        self.spec.fatal && self.tally.violations() > 0
    }

    fn send(&mut self) {
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
    fn pair_misplaced(&mut self) {
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

    /// The result.
    pub(super) fn finish(mut self) -> Box<VerifyTally> {
        if self.stage != Stage::Done {
            self.abandon("the worker ended before it was read back");
        }
        let flying = self.flying.iter_mut().filter_map(Option::take);
        let rest: Vec<Reread> = self.fresh.drain(..).chain(self.paused.drain(..)).chain(flying).collect();
        for reread in rest {
            self.settle(reread.found, reread.early.is_some());
        }
        self.send();
        self.tally
    }

    pub(super) fn tally_mut(&mut self) -> &mut VerifyTally {
        &mut self.tally
    }
}

fn crc_of(block: &[u8]) -> u32 {
    let mut sum = [0; 4];
    digest(Method::Crc32c, block, &mut sum);
    u32::from_le_bytes(sum)
}
