//! What later stages of the run that is judged wrote over a worker's blocks, block by block.
//!
//! A block that a later stage wrote for certain is judged by what that stage was promised. A block that it
//! may have written holds either: what was promised before it, or a write of the later stage.

use crate::base::Op;
use crate::base::verify::RunId;
use crate::verify::judge::{Judge, Place};
use crate::verify::promises::{Promises, State};
use crate::workload::{History, Region, WorkloadError, WorkloadSpec};

use super::checker::survives;

/// Bytes that are looked at to see whether a trim shows.
const SECTOR: usize = 512;

/// A worker of a later stage that may have written over blocks of the worker that is judged.
#[derive(Clone, Debug)]
pub enum LaterWriter {
    /// It did not verify, so what it wrote is not known: nothing is promised in this region any more. The
    /// target is one of the judged worker's.
    Unverified(Region),
    /// It verified.
    Worker(Box<LaterWorker>),
}

/// A worker of a later stage that verified.
#[derive(Clone, Debug)]
pub struct LaterWorker {
    /// Its name, for people.
    pub name: String,
    /// What it did.
    pub workload: WorkloadSpec,
    /// What it was promised.
    pub promises: Promises,
    /// Only what a flush made durable must have survived.
    pub fsynced: bool,
    /// But for writes, which were durable when they completed.
    pub writes_are_durable: bool,
    /// Judges its blocks.
    pub judge: Judge,
    /// Its targets that are the judged worker's: the judged worker's number, and its own.
    pub targets: Vec<(u16, u16)>,
}

/// What later stages have made of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Claim {
    /// Nothing.
    None,
    /// One of them may have written it.
    Maybe,
    /// One of them wrote it, and what that was promised counts.
    Written,
    /// One of them that did not verify may have written it: nothing is promised.
    Unverified,
}

/// Why a block that is not what its worker was promised is no violation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Excuse {
    /// A write of the later worker of this name is there.
    Theirs(String),
    /// Nobody can tell whether a later write is there.
    Unknown,
}

/// All later writers, ready to be asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Later {
    unverified: Vec<Region>,
    workers: Vec<Known>,
    /// Blocks were left to later stages that judge them.
    pub left_to_them: bool,
    /// Blocks were left that nobody judges.
    pub left_unjudged: bool,
}

#[derive(Clone, Debug)]
struct Known {
    worker: LaterWorker,
    history: History,
}

impl Later {
    /// With what `writers` did; blocks are of run `run`.
    ///
    /// # Errors
    /// If a history cannot be made.
    pub(super) fn new(writers: &[LaterWriter], run: Option<RunId>) -> Result<Later, WorkloadError> {
        let mut later = Later::default();
        for writer in writers {
            match writer {
                LaterWriter::Unverified(region) => later.unverified.push(*region),
                LaterWriter::Worker(worker) => {
                    let mut worker = LaterWorker::clone(worker);
                    run.into_iter().for_each(|run| worker.judge.adopt(run));
                    let history = worker.history()?;
                    later.workers.push(Known { worker, history });
                }
            }
        }
        Ok(later)
    }

    /// Does a part of what must be done before the first question; whether all is done.
    pub(super) fn prepare(&mut self, budget: u64) -> bool {
        self.workers.iter_mut().all(|known| known.history.prepare(budget))
    }

    /// Why what is known is not all.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.workers.iter().find_map(|known| known.history.trouble())
    }

    /// Whether there is nothing to ask.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.unverified.is_empty() && self.workers.is_empty()
    }

    /// What became of a block of `len` bytes.
    pub(super) fn claim(&mut self, place: Place, len: u64) -> Claim {
        let of_region = |region: &Region| region.target == place.target && touches(region, place.offset, len);
        if self.unverified.iter().any(of_region) {
            self.left_unjudged = true;
            return Claim::Unverified;
        }
        let claims = self.workers.iter_mut().map(|known| known.claim(place, len));
        let claim = claims.max().unwrap_or(Claim::None);
        self.left_to_them |= claim == Claim::Written;
        claim
    }

    /// Why `block`, which is not what its worker was promised, may be there all the same.
    pub(super) fn excuse(&mut self, block: &[u8], place: Place) -> Option<Excuse> {
        let len = block.len() as u64;
        let mut unknown = false;
        for known in &mut self.workers {
            if known.claim(place, len) != Claim::Maybe {
                continue;
            }
            match known.shows(block, place) {
                Some(true) => return Some(Excuse::Theirs(known.worker.name.clone())),
                Some(false) => {}
                None => unknown = true,
            }
        }
        unknown.then_some(Excuse::Unknown)
    }
}

impl LaterWorker {
    fn history(&self) -> Result<History, WorkloadError> {
        let interval = self.judge.format().interval;
        let replays = History::bytes_needed(&self.workload, interval) > 0;
        let promises = &self.promises;
        let unsettled = if self.fsynced && replays { promises.not_durable() } else { promises.unsettled() };
        let issued = crate::workload::Issued {
            writes: promises.issued(Op::Write),
            trims: promises.issued(Op::Deallocate),
        };
        History::new(&self.workload, issued, interval, &unsettled)
    }

    /// Its own number of one of the judged worker's targets.
    fn own_target(&self, target: u16) -> Option<u16> {
        self.targets.iter().find(|(theirs, _)| *theirs == target).map(|(_, own)| *own)
    }

    fn survives(&self, op: Op, state: State) -> bool {
        survives(self.fsynced, self.writes_are_durable, op, state)
    }
}

impl Known {
    fn claim(&mut self, place: Place, len: u64) -> Claim {
        let Some(target) = self.worker.own_target(place.target) else { return Claim::None };
        let interval = u64::from(self.worker.judge.format().interval);
        let mut claim = Claim::None;
        for region in 0..self.worker.workload.regions.len() {
            let region = self.worker.workload.regions[region];
            if region.target != target || !touches(&region, place.offset, len) {
                continue;
            }
            if self.worker.promises.open_end {
                // It may have gone on to any of its blocks.
                claim = claim.max(Claim::Maybe);
            }
            let end = place.offset.saturating_add(len).min(region.start + region.bytes);
            let skipped = place.offset.saturating_sub(region.start) / interval * interval;
            let mut at = region.start + skipped;
            while at < end {
                claim = claim.max(self.claim_of_block(target, at));
                at += interval;
            }
        }
        claim
    }

    /// What became of one of its own blocks.
    fn claim_of_block(&mut self, target: u16, offset: u64) -> Claim {
        let mut next = self.history.newest(target, offset);
        if next.is_none() {
            return Claim::None;
        }
        while let Some(mutation) = next {
            if self.worker.survives(mutation.op, self.worker.promises.state(mutation.op, mutation.sequence)) {
                return Claim::Written;
            }
            next = self.history.older(target, offset, &mutation);
        }
        Claim::Maybe
    }

    /// Whether something of its writes or trims is in `block`; `None` if that cannot be told.
    fn shows(&self, block: &[u8], place: Place) -> Option<bool> {
        let format = self.worker.judge.format();
        let target = self.worker.own_target(place.target)?;
        let regions = self.worker.workload.regions.iter().filter(|region| region.target == target);
        let is_on_grid = regions
            .filter(|region| touches(region, place.offset, block.len() as u64))
            .all(|region| place.offset.wrapping_sub(region.start).is_multiple_of(block.len() as u64));
        if format.interval as usize != block.len() || !format.has_tag() || format.header_at > 0 || !is_on_grid
        {
            return None;
        }
        let place = Place { target, ..place };
        let mix = self.worker.workload.mix;
        let trims = self.worker.workload.trim.is_some() || mix.issues(Op::Deallocate);
        let is_trimmed = || block.chunks(SECTOR).any(|sector| sector.iter().all(|&byte| byte == 0));
        Some(self.worker.judge.names_a_write(block, place) || trims && is_trimmed())
    }
}

fn touches(region: &Region, offset: u64, len: u64) -> bool {
    region.start < offset.saturating_add(len) && offset < region.start.saturating_add(region.bytes)
}
