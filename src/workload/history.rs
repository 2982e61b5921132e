//! What stands in a block: from how many writes and trims a worker has issued, which of them touched
//! any block, newest first. A workload is a pure function, so nothing of this is remembered while
//! it runs.
//!
//! Where every block comes once a pass, the function is inverted: no memory, whatever the size.
//! Where offsets repeat, or files take their turns by chance, it is gone through once, into at most eight bytes a block. Knows nothing of what
//! became of the I/Os, but for a list of those that may not have happened.

mod at_end;
mod logged;
mod passes;
mod replay;
mod single;
mod trimmed;

use crate::base::shape::{FileService, Mix, Places};
use crate::base::{Op, shape::Distribution};

use super::trim::TrimPlan;
use super::{Limit, Region, Step, Workload, WorkloadError, WorkloadSpec};
use logged::LoggedSteps;
use passes::{Passes, Visit};
use replay::Replay;
use single::Single;

/// How long to wait for who reads a log, where there is nothing else to do.
const LOG_PAUSE: std::time::Duration = std::time::Duration::from_micros(100);

/// How many mutations were issued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Issued {
    /// Writes.
    pub writes: u64,
    /// Trims.
    pub trims: u64,
}

/// One mutation of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// `Write` or `Deallocate`.
    pub op: Op,
    /// Which write (trim) of the worker, from 0.
    pub sequence: u64,
    /// Where the I/O, of which the block may be a part, begins on the target.
    pub offset: u64,
    /// Length of the I/O.
    pub len: u32,
}

/// A block that was touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    /// Where the block begins on the target.
    pub offset: u64,
    /// What touched it last.
    pub newest: Mutation,
}

/// Mutations of the blocks of one worker.
#[derive(Clone, Debug)]
pub struct History {
    regions: Box<[Region]>,
    /// Each target has one region, and they come in the order of the targets without a gap.
    one_each: bool,
    block_bytes: u64,
    issued: Issued,
    rule: Rule,
    /// With [`Rule::Trimmed`], no write from this one on has been trimmed.
    trims_end: u64,
    source: Source,
    single: Option<Single>,
}

/// How writes and trims of one place follow each other.
#[derive(Clone, Debug)]
enum Rule {
    Writes,
    Trims,
    /// The k-th trim, then the k-th write of the same place.
    Paired,
    /// Each write; some of them trimmed a while after.
    Trimmed(Box<TrimPlan>),
}

#[derive(Clone, Debug)]
enum Source {
    Nothing,
    Passes(Box<Passes>),
    Replay(Box<Replay>),
}

impl History {
    /// The history of `issued` I/Os of the workload that `spec` describes, by blocks of
    /// `block_bytes` from the beginning of each region: offsets (in their regions) and lengths of
    /// all I/Os must be multiples of it. Of the mutations `unsettled` nobody knows whether they
    /// happened: the older ones below them are told too.
    ///
    /// # Errors
    /// If a region holds no block, or regions overlap.
    pub fn new(
        spec: &WorkloadSpec,
        issued: Issued,
        block_bytes: u32,
        unsettled: &[(Op, u64)],
    ) -> Result<History, WorkloadError> {
        let block_bytes = u64::from(block_bytes.max(1));
        check_overlap(&spec.regions)?;
        let rule = match spec.mix {
            Mix::Write | Mix::ReadWrite if let Some(plan) = spec.trim_plan() => Rule::Trimmed(Box::new(plan)),
            Mix::Read | Mix::Write | Mix::ReadWrite | Mix::Replayed { .. } => Rule::Writes,
            Mix::Trim => Rule::Trims,
            Mix::TrimWrite => Rule::Paired,
        };
        let places = match spec.mix {
            Mix::Read | Mix::Replayed { .. } => None,
            Mix::Write | Mix::ReadWrite => spec.stream(Op::Write)?,
            Mix::Trim | Mix::TrimWrite => spec.stream(Op::Deallocate)?,
        };
        let visits = match rule {
            Rule::Writes | Rule::Trimmed(_) => issued.writes,
            Rule::Trims | Rule::Paired => issued.trims,
        };
        let refused = || WorkloadError(format!("{issued:?} of {} regions are too many", spec.regions.len()));
        let source = match places {
            None if let Some(log) = &spec.log => {
                let mutations = Mutations::new(spec, issued)?;
                let lengths = log.lengths.to_vec().into();
                let replay = Replay::new(mutations, &spec.regions, lengths, block_bytes, unsettled);
                Source::Replay(Box::new(replay.ok_or_else(refused)?))
            }
            Some(stream) if stream.is_drawn() => {
                let lengths = stream.regions[0].lengths();
                let mutations = Mutations::new(spec, issued)?;
                let replay = Replay::new(mutations, &spec.regions, lengths, block_bytes, unsettled);
                Source::Replay(Box::new(replay.ok_or_else(refused)?))
            }
            Some(stream) => Source::Passes(Box::new(Passes::new(stream, visits))),
            None => Source::Nothing,
        };
        let trims_end = match &rule {
            Rule::Trimmed(plan) if issued.trims > 0 => plan.write_of(issued.trims - 1) + 1,
            _ => 0,
        };
        let one_each =
            spec.regions.windows(2).all(|pair| pair[0].target.checked_add(1) == Some(pair[1].target));
        Ok(History {
            one_each,
            regions: spec.regions.clone().into(),
            block_bytes,
            issued,
            rule,
            trims_end,
            source,
            single: None,
        })
    }

    /// Why what is known of a log is not all: it was shorter than before, or could not be read. Nothing
    /// can be judged by it then.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        match &self.source {
            Source::Replay(replay) => replay.trouble(),
            _ => None,
        }
    }

    /// The most bytes of memory that the history of a worker takes, beyond a few kilobytes.
    #[must_use]
    pub fn bytes_needed(spec: &WorkloadSpec, block_bytes: u32) -> u64 {
        let op = if spec.mix == Mix::Trim { Op::Deallocate } else { Op::Write };
        let by_chance = spec.regions.len() > 1
            && matches!(spec.service, FileService::Random { .. } | FileService::Shaped(_));
        if !spec.mix.modifies() || !(spec.log.is_some() || by_chance || repeats(spec, op)) {
            return 0;
        }
        let blocks = |region: &Region| region.bytes.div_ceil(u64::from(block_bytes.max(1)));
        spec.regions.iter().map(blocks).sum::<u64>().saturating_mul(8)
    }

    /// Does a part of what must be done before the first question, about `budget` I/Os' worth;
    /// whether all is done.
    pub fn prepare(&mut self, budget: u64) -> bool {
        match &mut self.source {
            Source::Nothing => true,
            Source::Passes(passes) => {
                let ready = passes.prepare(budget);
                if ready && matches!(self.rule, Rule::Writes) && self.single.is_none() {
                    self.single = passes.single(self.regions[0]);
                }
                ready
            }
            Source::Replay(replay) => replay.prepare(budget),
        }
    }

    fn assert_ready(&self) {
        let ready = match &self.source {
            Source::Nothing => true,
            Source::Passes(passes) => passes.is_ready(),
            Source::Replay(replay) => replay.is_ready(),
        };
        debug_assert!(ready, "a history is asked before it is prepared");
    }

    /// How many mutations this is the history of.
    #[must_use]
    pub fn issued(&self) -> Issued {
        self.issued
    }

    /// The newest mutation of the block of `target` that begins at `offset`.
    #[inline]
    pub fn newest(&mut self, target: u16, offset: u64) -> Option<Mutation> {
        if let Some(single) = &self.single {
            let Region { target: on, start, bytes } = single.region;
            let inside = target == on && offset >= start && offset - start < bytes;
            return if inside { single.newest(offset - start) } else { None };
        }
        let region = region_of(&self.regions, 0, target, offset)?;
        self.newest_in(region, offset - self.regions[region].start)
    }

    #[inline]
    fn newest_in(&mut self, region: usize, offset: u64) -> Option<Mutation> {
        self.assert_ready();
        match &mut self.source {
            Source::Nothing => None,
            Source::Replay(replay) => replay.newest(region, offset),
            Source::Passes(passes) => {
                let visit = passes.before(region, offset, u64::MAX)?;
                let op = match &self.rule {
                    Rule::Writes => Op::Write,
                    Rule::Trims => Op::Deallocate,
                    Rule::Paired if visit.index < self.issued.writes => Op::Write,
                    Rule::Paired => Op::Deallocate,
                    Rule::Trimmed(plan) => {
                        return trimmed::below(plan, passes, (region, offset), u64::MAX, self.trims_end);
                    }
                };
                Some(Mutation::of(op, &visit))
            }
        }
    }

    /// The newest mutation of the block that is older than `than`, which an earlier answer for this
    /// block gave. Below the newest mutation that has happened for sure there may be no answer.
    pub fn older(&mut self, target: u16, offset: u64, than: &Mutation) -> Option<Mutation> {
        self.assert_ready();
        let region = region_of(&self.regions, 0, target, offset)?;
        let offset = offset - self.regions[region].start;
        match &mut self.source {
            Source::Nothing => None,
            Source::Replay(replay) => replay.older(region, offset, than),
            Source::Passes(passes) => {
                if matches!(self.rule, Rule::Paired) && than.op == Op::Write {
                    return Some(Mutation { op: Op::Deallocate, ..*than });
                }
                if let Rule::Trimmed(plan) = &self.rule {
                    let (writes, trims) = trimmed::bounds(plan, than);
                    let trims = trims.min(self.trims_end);
                    return trimmed::below(plan, passes, (region, offset), writes, trims);
                }
                let visit = passes.before(region, offset, than.sequence)?;
                let op = if matches!(self.rule, Rule::Trims) { Op::Deallocate } else { Op::Write };
                Some(Mutation::of(op, &visit))
            }
        }
    }

    /// Calls `visit` with `newest`, an answer of [`History::newest`] for this block, and then with each older
    /// mutation of it, newest first, until it says false or there is none. Takes time for what it visits,
    /// and no more.
    pub fn for_each_from(
        &mut self,
        target: u16,
        offset: u64,
        newest: Mutation,
        mut visit: impl FnMut(&Mutation) -> bool,
    ) {
        self.assert_ready();
        if let Source::Replay(replay) = &self.source {
            let Some(region) = region_of(&self.regions, 0, target, offset) else { return };
            replay.all(region, offset - self.regions[region].start).all(|mutation| visit(&mutation));
            return;
        }
        let mut next = Some(newest);
        while let Some(mutation) = next.filter(|mutation| visit(mutation)) {
            next = self.older(target, offset, &mutation);
        }
    }

    /// The first touched block of `target` that begins at `from` or behind it, and before `until`:
    /// to visit everything written by offset, as many bytes at a time as there is time for.
    pub fn next_touched(&mut self, target: u16, from: u64, until: u64) -> Option<Touched> {
        self.assert_ready();
        let mut from = from;
        while let Some(region) = self.region_at_or_behind(target, from, until) {
            let Region { start, bytes, .. } = self.regions[region];
            let (first, end) = (from.max(start) - start, bytes.min(until - start));
            if let Some(touched) = self.next_touched_in(region, first, end) {
                return Some(touched);
            }
            from = start + bytes;
        }
        None
    }

    fn next_touched_in(&mut self, region: usize, first: u64, end: u64) -> Option<Touched> {
        let mut at = first.div_ceil(self.block_bytes) * self.block_bytes;
        if let Source::Replay(replay) = &self.source {
            return replay.next_touched(region, at, end);
        }
        while at < end {
            if let Some(newest) = self.newest_in(region, at) {
                return Some(Touched { offset: self.regions[region].start + at, newest });
            }
            let Source::Passes(passes) = &self.source else { return None };
            if let Some(single) = &self.single {
                at = single.next_written(at + 1, end)?;
                continue;
            }
            at = passes.behind(region, at).div_ceil(self.block_bytes) * self.block_bytes;
        }
        None
    }

    /// The region of `target` that holds `from`, or else the next one that begins before `until`.
    fn region_at_or_behind(&self, target: u16, from: u64, until: u64) -> Option<usize> {
        if self.one_each {
            let nth = usize::from(target.wrapping_sub(self.regions[0].target));
            let region = self.regions.get(nth)?;
            return (region.start < until && from < region.start + region.bytes).then_some(nth);
        }
        let candidates = self.regions.iter().enumerate().filter(|(_, region)| {
            region.target == target && region.start < until && from < region.start + region.bytes
        });
        candidates.min_by_key(|(_, region)| region.start).map(|(number, _)| number)
    }
}

impl Mutation {
    fn of(op: Op, visit: &Visit) -> Mutation {
        Mutation { op, sequence: visit.index, offset: visit.offset, len: visit.len }
    }
}

/// The mutations of a worker in the order in which they were issued.
#[derive(Clone, Debug)]
pub struct Mutations {
    steps: Steps,
    issued: Issued,
}

#[derive(Clone, Debug)]
enum Steps {
    Generated(Box<Workload>),
    Logged(LoggedSteps),
}

/// What a look for the next mutation found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ahead {
    /// This one.
    Step(Step),
    /// The log has not been read so far yet.
    Later,
    /// There is none.
    End,
    /// The log is shorter than it was, or cannot be read: a sentence.
    Failed(String),
}

impl Mutations {
    /// The first mutations of the workload that `spec` describes, as many as `issued` says.
    ///
    /// # Errors
    /// If a region holds no block.
    pub fn new(spec: &WorkloadSpec, issued: Issued) -> Result<Mutations, WorkloadError> {
        if let Some(log) = &spec.log {
            let steps = LoggedSteps::open(log, issued).map_err(WorkloadError)?;
            return Ok(Mutations { steps: Steps::Logged(steps), issued });
        }
        let mut spec = spec.clone();
        // Reads are a stream of their own: left out, they change nothing.
        if spec.mix == Mix::ReadWrite {
            spec.mix = Mix::Write;
        }
        let none = spec.mix == Mix::Read;
        // How many there are is known, so only what shapes passes counts.
        spec.limit = Limit { passes: spec.limit.passes, ios: none.then_some(0), bytes: None };
        Ok(Mutations { steps: Steps::Generated(Box::new(Workload::new(&spec)?)), issued })
    }

    fn issued(&self) -> Issued {
        self.issued
    }

    /// The next one, without waiting for a log to be read.
    #[inline]
    pub fn look(&mut self) -> Ahead {
        let workload = match &mut self.steps {
            Steps::Generated(workload) => workload,
            Steps::Logged(steps) => return steps.look(),
        };
        let Some(step) = workload.next() else { return Ahead::End };
        let most = if step.op == Op::Deallocate { self.issued.trims } else { self.issued.writes };
        // They are issued in this order: behind the first that was not, none was.
        if step.sequence < most {
            return Ahead::Step(step);
        }
        self.issued = Issued::default();
        Ahead::End
    }
}

impl Iterator for Mutations {
    type Item = Step;

    #[inline]
    fn next(&mut self) -> Option<Step> {
        loop {
            match self.look() {
                Ahead::Step(step) => return Some(step),
                Ahead::Later => std::thread::sleep(LOG_PAUSE),
                Ahead::End | Ahead::Failed(_) => return None,
            }
        }
    }
}

/// Whether offsets of `op` can come twice in a pass.
fn repeats(spec: &WorkloadSpec, op: Op) -> bool {
    let align = *spec.align.get(op);
    let once = spec.coverage
        && *spec.distribution.get(op) == Distribution::Random
        && *spec.percentage_random.get(op) == 100
        && (align == 0 || align >= spec.sizes.get(op).min());
    let Places { strides, identical, sequential_sizes, sprandom } = &spec.places;
    let runs = spec.modifier.is_some_and(|run| run > 1) && (*identical || sequential_sizes.is_some());
    strides.is_some() || sprandom.is_some() || spec.random && (!once || runs)
}

/// The region that holds byte `offset` of `target`; the one numbered `hint` is tried first.
#[inline]
fn region_of(regions: &[Region], hint: usize, target: u16, offset: u64) -> Option<usize> {
    let holds = |region: &Region| {
        region.target == target && offset >= region.start && offset - region.start < region.bytes
    };
    // Files come one region each, in their order.
    let nth = usize::from(target.wrapping_sub(regions[0].target));
    if let Some(found) = [hint, nth].into_iter().find(|&at| regions.get(at).is_some_and(holds)) {
        return Some(found);
    }
    regions.iter().position(holds)
}

fn check_overlap(regions: &[Region]) -> Result<(), WorkloadError> {
    let mut sorted: Vec<&Region> = regions.iter().collect();
    sorted.sort_by_key(|region| (region.target, region.start));
    for pair in sorted.windows(2) {
        let end = u128::from(pair[0].start) + u128::from(pair[0].bytes);
        if pair[0].target == pair[1].target && end > u128::from(pair[1].start) {
            return Err(WorkloadError(format!(
                "two regions of one target overlap at byte {}: nobody can say what stands there",
                pair[1].start
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
