//! The verification of one worker: what it has promised, and how it is read back and judged.
//!
//! While the worker writes, its ledger follows every mutation. When all is written, ledger and
//! history are frozen and every promised block is read once; a block in violation is read twice
//! more, once after a pause.

mod reading;
mod verdicts;
mod writing;

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, OnceLock};

use crossbeam_channel::{Sender, TrySendError};

use crate::base::Op;
use crate::base::verify::{Finding, Method, OnUnwritten, Policy, RunId, Verdict, VerifySpec};
use crate::engine::Io;
use crate::stats::{Unwritten, VerifyTally, WorkerStats};
use crate::verify::block::{Sealer, WriteFacts};
use crate::verify::checksum::digest;
use crate::verify::judge::{Allowed, Candidate, Judge, Place};
use crate::verify::ledger::Ledger;
use crate::verify::promises::{Promises, State};
use crate::workload::{History, Issued, Step, WorkloadSpec};

use super::checker::{Checked, Checker, Frozen, Knowledge};
use super::checkers::{Checkers, Parcel};
use super::later::{Later, LaterWriter};
use super::sweep::{Looked, Sweep, SweepRead};
use super::whole_writes::{WholeWrite, spans};

/// Violations that wait for their re-reads before no further block is read: with the pause this is
/// what bounds the judging of a target on which everything is wrong.
const MOST_REREADS: usize = 8192;
/// Violations that wait to be taken by the thread that watches.
const MOST_UNSENT: usize = 1024;
/// Writes to be judged as a whole by reads of their own before no further block is read.
const MOST_OPEN: usize = 16384;
/// Why the rest is not checked.
const FATAL: &str = "verify_fatal ended the job at the first violation";
/// How long before the second re-read.
const REREAD_PAUSE_NS: u64 = 100_000_000;
/// Steps of preparing a history, and looks for the next read, a turn.
const STEPS_A_TURN: u64 = 4096;
const LOOKS_A_TURN: u32 = 64;
/// So often a device that is gone is read once more, if nothing succeeds between.
const GONE_TRIES: u32 = 3;
/// Why nothing more is checked of a device that is gone.
const GONE: &str = "the device was gone when it was read back";

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
    /// The ledger to keep.
    pub ledger: Ledger,
    /// Nothing is written: this was promised to an earlier run.
    pub earlier: Option<Promises>,
    /// The run that is judged, one for all workers, where only the blocks say which one it is: the first
    /// worker that finds one sets it.
    pub run: Arc<OnceLock<RunId>>,
    /// Who may have written over the worker's blocks in later stages of the run that is judged.
    pub later: Vec<LaterWriter>,
    /// The power has gone since.
    pub power_lost: bool,
    /// The time since 1970 at the origin of `base::clock`, in nanoseconds.
    pub unix_origin_ns: u64,
    /// The target has a volatile write cache that is on.
    pub volatile_cache: bool,
    /// A write that completed is durable (O_DSYNC).
    pub writes_are_durable: bool,
    /// Why flushes make nothing durable: they do not reach the drive.
    pub flush_trouble: Option<String>,
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
    /// To judge; or a part of such a read that failed, block by block.
    Judge,
    /// To see whether a violation is there again.
    Reread,
    /// To judge writes as a whole of which no read before had all blocks.
    Whole,
    /// To judge on the way (`verify_backlog`) the write of that number.
    Early(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Off,
    Leave,
    Prepare,
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
    /// A block of a longer read on the way that failed: it is dropped unless reading it alone fails too.
    is_part: bool,
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
    earlier: Option<Arc<Promises>>,
    unix_origin_ns: u64,
    volatile_cache: bool,
    writes_are_durable: bool,
    flush_trouble: Option<String>,
    waits_for_leave: bool,
    most_bytes: u32,
    sender: Sender<Found>,
    pub ledger: Ledger,
    /// Flushes of all targets that belong together: ticket, how many are out, whether all went well.
    rounds: Vec<(u64, u16, bool)>,
    purposes: Box<[Purpose]>,
    /// What of a read is to be judged, by its buffer: all of it but what was read to fill logical blocks.
    reads: Box<[SweepRead]>,
    stage: Stage,
    sweep: Option<Sweep>,
    singles: VecDeque<Place>,
    /// Everything has been read once.
    swept: bool,
    /// Writes that must be whole and were not in one read, and the reads that will have them.
    open: Vec<WholeWrite>,
    spans: VecDeque<SweepRead>,
    /// So many open writes are judged before the sweep goes on.
    most_open: usize,
    /// Reads of such writes that failed.
    failed_spans: u64,
    /// Blocks that are torn because a write is not whole.
    torn: HashSet<(u16, u64)>,
    /// Blocks that were found in violation, or could not be read.
    bad: HashSet<(u16, u64)>,
    /// To be read again at once, and after a pause.
    fresh: VecDeque<Reread>,
    paused: VecDeque<Reread>,
    /// Being read again, by buffer; and on the way to or from there.
    flying: Box<[Option<Reread>]>,
    flying_count: usize,
    taken: Option<Reread>,
    outbox: VecDeque<Found>,
    later: Vec<LaterWriter>,
    checked: Checked,
    tally: Box<VerifyTally>,
    /// In an audit: what was not written.
    unwritten: Box<Unwritten>,
    /// Statistics of the writing, while those of the reading back are kept.
    pub written: Option<Box<WorkerStats>>,
    backlog: VecDeque<Step>,
    early_left: u64,
    early_bad: HashSet<(u16, u64)>,
    /// Blocks judged on the way that were no violation.
    early_well: u64,
    power_lost: bool,
    /// How often the device was found gone while it was read back, since a read last succeeded.
    gone: u32,
    /// Why blocks are left out, if judging ended early.
    left_out: Option<&'static str>,
    /// Nothing more is issued, and the board says so.
    frozen: bool,
    /// Writes of different passes, or drawn ones, may touch the same block: look before each.
    overlaps: bool,
    /// Below this write, those in flight belong to an earlier pass.
    pass: u64,
    pass_begins: u64,
}

impl Verification {
    pub(super) fn new(parts: VerifyParts, depth: u32) -> Verification {
        let VerifyParts { spec, sealer, judge, workload, earlier, ledger, .. } = parts;
        let judge = judge.comparing(spec.write_sequence, spec.header_seed, spec.trim_verify_zero);
        let overlaps = History::bytes_needed(&workload, sealer.format.interval) > 0
            || workload.mix == crate::base::shape::Mix::TrimWrite
            || workload.trim.is_some()
            || spec.backlog > 0;
        let mut verification = Verification {
            backlog: VecDeque::with_capacity(usize::try_from(spec.backlog.min(1 << 20)).unwrap_or(0) + 1),
            spec,
            sealer,
            checker: Checker { judge, run: parts.run, knowledge: Knowledge::None },
            checkers: None,
            depth,
            workload,
            earlier: earlier.map(Arc::new),
            unix_origin_ns: parts.unix_origin_ns,
            volatile_cache: parts.volatile_cache,
            writes_are_durable: parts.writes_are_durable,
            flush_trouble: parts.flush_trouble,
            waits_for_leave: parts.waits_for_leave,
            most_bytes: parts.most_bytes,
            sender: parts.found,
            ledger,
            rounds: Vec::with_capacity(depth as usize),
            purposes: vec![Purpose::Plain; depth as usize].into(),
            reads: vec![SweepRead::default(); depth as usize].into(),
            stage: Stage::Off,
            sweep: None,
            singles: VecDeque::new(),
            swept: false,
            open: Vec::new(),
            spans: VecDeque::new(),
            most_open: MOST_OPEN,
            failed_spans: 0,
            torn: HashSet::new(),
            bad: HashSet::new(),
            fresh: VecDeque::new(),
            paused: VecDeque::new(),
            flying: (0..depth).map(|_| None).collect(),
            flying_count: 0,
            taken: None,
            outbox: VecDeque::new(),
            later: parts.later,
            checked: Checked::default(),
            tally: Box::default(),
            unwritten: Box::default(),
            written: None,
            early_left: 0,
            early_bad: HashSet::new(),
            early_well: 0,
            power_lost: parts.power_lost,
            gone: 0,
            left_out: None,
            frozen: false,
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
                let read = self.reads[io.buffer.id() as usize];
                checkers.hand_over(io, read)
            }
            _ => Err(io),
        }
    }

    /// A read that has been judged beside the reactor: counted here; its buffer is free.
    #[inline]
    pub(super) fn take_judged(&mut self, now_ns: u64) -> Option<Io> {
        let Parcel { io, read, mut checked } = self.checkers.as_mut()?.take_back()?;
        self.take_purpose(io.buffer.id());
        self.count(&mut checked, &io.buffer[read.range_in(&io)], read.place, now_ns);
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
}
