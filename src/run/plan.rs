//! Which workers there are, on which bytes of which targets, in which stage and group.

mod checks;

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustix::fs::OFlags;

use crate::base::host::pin::Pin;
use crate::base::host::{Sysfs, affinity, numa};
use crate::base::shape::{Amount, BlockSizes, Mix};
use crate::base::transport_id::{Transport, TransportId};
use crate::base::verify::RunId;
use crate::base::{Op, PerOp, random};
use crate::engine::ranges::bytes_for;
use crate::engine::{self, TargetFacts, Targets};
use crate::job::JobSpec;
use crate::reactor::{Measures, WorkerConfig};
use crate::verify::snapshot::{JobState, WrittenRange};
use crate::workload::{ContentShape, Limit, Region, TrimRule, Workload, WorkloadSpec};

use super::places::{aligned, check_reaches, visits_each_once, working_set};
use super::replay::ReplayPlan;
use super::{RunError, blocks, files, open_job, pinning, verification};

use checks::check_holds_blocks;
pub use checks::{check_alignment, check_before_start};

/// What seeds are made of where the job says neither `randseed` nor `randrepeat = false`.
const DEFAULT_SEED: u64 = 0x5eed;

/// The size of a file that `fill_device` fills: more than any file system holds.
const ENDLESS: u64 = 1 << 60;

/// One job with its place in the run.
#[derive(Clone, Debug)]
pub struct JobPlan {
    pub spec: JobSpec,
    /// Jobs of one stage run together.
    pub stage: u32,
    /// Reporting group.
    pub group: u32,
    /// All targets of all clones, as they are named.
    pub targets: Vec<PathBuf>,
    /// What these led to when the run began: the files and devices that are used. Empty for engines without
    /// files, and for jobs of earlier runs.
    pub pins: Arc<[Arc<Pin>]>,
    /// How many of them a clone uses, one range after the other; 0 if each clone uses all.
    pub targets_per_clone: u16,
    /// The seed that the clones' seeds come from.
    pub seed: u64,
    /// Number of the first clone among all workers of the run, from 1.
    pub first_worker: u32,
    /// What an earlier run of it was promised, that is judged now.
    pub judged: Option<JobState>,
    /// The same, where this run goes on with it.
    pub resumed: Option<JobState>,
    /// What later stages of the run that is judged may have written over it.
    pub later: Arc<[LaterJob]>,
    /// The run that `verify_only` judges: one for all jobs, known once a block of it was found.
    pub judged_run: Arc<OnceLock<RunId>>,
    /// What its logs hold, where it replays some.
    pub replay: Option<Arc<ReplayPlan>>,
    /// The targets that the kernel does not know, as the guard found them: those of all jobs of the run. What
    /// is opened later is compared with them.
    pub checked: Arc<[TargetFacts]>,
}

/// A job, or a range of bytes, of a later stage of the run that is judged.
#[derive(Clone, Debug)]
pub enum LaterJob {
    /// A job that verified, with what it was promised.
    Verified(Box<JobPlan>, Box<JobState>),
    /// Bytes that a job may have written without verifying.
    Unverified(WrittenRange),
}

impl JobPlan {
    /// The targets of a clone: first and count.
    pub fn targets_of(&self, clone: u32) -> (u16, u16) {
        if self.targets_per_clone == 0 {
            (0, u16::try_from(self.targets.len()).unwrap_or(u16::MAX))
        } else {
            let first = clone * u32::from(self.targets_per_clone);
            (u16::try_from(first).unwrap_or(u16::MAX), self.targets_per_clone)
        }
    }

    /// What the target of that number led to when the run began; of a plan that is not pinned, what it leads
    /// to now.
    pub fn pin(&self, target: usize) -> Arc<Pin> {
        self.pins.get(target).map_or_else(|| pinning::alone(&self.targets[target]), Arc::clone)
    }

    /// The job as it was asked for.
    pub fn asked(&self) -> &JobSpec {
        self.replay.as_ref().map_or(&self.spec, |replay| &replay.asked)
    }

    /// Whether the job changes its targets.
    pub fn modifies(&self) -> bool {
        self.spec.mix.modifies() && !self.spec.verify.only
    }

    /// Whether the job judges what an earlier run left (`verify_only`, `verify_state_load`). It then changes
    /// nothing: neither its targets nor anything else but its reports.
    pub fn only_judges(&self) -> bool {
        self.spec.verify.only
    }

    /// Whether the job verifies.
    pub fn verifies(&self) -> bool {
        self.spec.verify.method.is_some()
    }

    /// Whether it reads what it wrote.
    pub fn reads_back(&self) -> bool {
        let verify = &self.spec.verify;
        self.verifies() && self.spec.mix.modifies() && (verify.do_verify || verify.backlog > 0)
    }

    /// Whether a worker has one I/O in flight, whatever `iodepth` says.
    pub fn is_blocking(&self) -> bool {
        struct IsBlocking;
        impl crate::engine::EngineVisitor for IsBlocking {
            type Output = bool;
            fn visit<E: crate::engine::Engine>(self) -> bool {
                <E::Queue as crate::engine::Queue>::BLOCKING
            }
        }
        crate::engine::with_engine(&self.spec.ioengine, IsBlocking).unwrap_or(false)
    }

    /// What the job's targets are.
    pub fn target_kind(&self) -> Targets {
        struct Kind;
        impl crate::engine::EngineVisitor for Kind {
            type Output = Targets;
            fn visit<E: crate::engine::Engine>(self) -> Targets {
                E::TARGETS
            }
        }
        crate::engine::with_engine(&self.spec.ioengine, Kind).unwrap_or(Targets::MadeUp)
    }

    /// Whether the job's targets are files and devices of the kernel.
    pub fn uses_files(&self) -> bool {
        self.target_kind() == Targets::Files
    }

    /// Whether the job's targets are namespaces that an engine drives by itself.
    pub fn uses_namespaces(&self) -> bool {
        self.target_kind() == Targets::Namespaces
    }

    /// What a buffer needs for the ranges of a trim, in bytes.
    fn room_for_ranges(&self) -> u32 {
        let ranges = self.spec.commands.trim_ranges;
        if ranges > 1 { bytes_for(ranges) } else { 0 }
    }

    /// Largest I/O in bytes, or what a buffer needs if that is more.
    pub fn largest_io(&self) -> u32 {
        if let Some(replay) = &self.replay {
            return replay.longest(&self.spec);
        }
        Op::ADDRESSED
            .into_iter()
            .filter(|&op| self.spec.mix.issues(op))
            .flat_map(|op| self.spec.all_sizes_of(op))
            .map(BlockSizes::max)
            .max()
            .unwrap_or(1)
            .max(self.room_for_ranges())
    }
}

/// All jobs together may have this many files: each takes half a kilobyte.
const MOST_ALL_TARGETS: usize = 1 << 21;

/// Puts the jobs in order: stages, groups, targets, seeds.
pub fn plan(mut jobs: Vec<JobSpec>) -> Result<Vec<JobPlan>, RunError> {
    share_memory(&mut jobs);
    let (mut stage, mut group, mut all_targets) = (0, 0, 0);
    let mut plans: Vec<JobPlan> = Vec::with_capacity(jobs.len());
    for (index, spec) in jobs.into_iter().enumerate() {
        if index > 0 && spec.stonewall {
            stage += 1;
        }
        if index > 0 && (spec.stonewall || spec.new_group) {
            group += 1;
        }
        let (targets, targets_per_clone) = targets(&spec)?;
        if targets.len() > files::MOST_TARGETS {
            return Err(RunError::bad_job(&spec, "more than 65535 files: name fewer"));
        }
        all_targets += targets.len();
        if all_targets > MOST_ALL_TARGETS {
            let why = format!(
                "the jobs have more than {MOST_ALL_TARGETS} files together: lower nrfiles or numjobs"
            );
            return Err(RunError::bad_job(&spec, why));
        }
        let base = match spec.randseed {
            Some(seed) => seed,
            None if spec.randrepeat => DEFAULT_SEED,
            None => fresh_seed(),
        };
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let seed = random::derive(base, u64::from(index));
        let first_worker = plans.last().map_or(1, |plan| plan.first_worker + plan.spec.numjobs);
        plans.push(JobPlan {
            spec,
            stage,
            group,
            targets,
            pins: Arc::default(),
            targets_per_clone,
            seed,
            first_worker,
            judged: None,
            resumed: None,
            later: Arc::default(),
            judged_run: Arc::default(),
            replay: None,
            checked: Arc::new([]),
        });
    }
    Ok(plans)
}

/// A process that emulates a controller maps this one's memory, which must be one file then. SPDK is
/// started once, for all jobs.
fn share_memory(jobs: &mut [JobSpec]) {
    let is_emulated =
        |name: &String| TransportId::parse(name).is_ok_and(|id| id.trtype == Transport::VfioUser);
    let by_spdk = |job: &&mut JobSpec| job.ioengine == engine::SPDK;
    if jobs.iter_mut().filter(by_spdk).any(|job| job.filename.iter().any(is_emulated)) {
        jobs.iter_mut().filter(by_spdk).for_each(|job| job.spdk.mem_single_seg = true);
    }
}

/// The stages: runs of plans with the same number.
pub fn stages(plans: &[JobPlan]) -> impl Iterator<Item = &[JobPlan]> {
    plans.chunk_by(|one, other| one.stage == other.stage)
}

pub fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

fn targets(spec: &JobSpec) -> Result<(Vec<PathBuf>, u16), RunError> {
    if spec.ioengine == crate::engine::SPDK {
        // Transport ids: no directory has them.
        return Ok((spec.filename.iter().map(PathBuf::from).collect(), 0));
    }
    if let Some(root) = &spec.files.opendir {
        return Ok((files::found_below(spec, root)?, 0));
    }
    let directory = spec.directory.clone().unwrap_or_default();
    if !spec.filename.is_empty() {
        // An absolute name replaces the directory.
        return Ok((spec.filename.iter().map(|name| directory.join(name)).collect(), 0));
    }
    Ok((files::names(spec)?, u16::try_from(spec.nrfiles).unwrap_or(u16::MAX)))
}

/// Size of a target that exists; `None` if it does not or has none (a character device).
pub fn existing_size(pin: &Pin) -> Option<u64> {
    pin.file()?.size()
}

/// The CPUs that the workers of `plan` may use.
pub fn cpus(plan: &JobPlan) -> Result<Vec<u32>, RunError> {
    let usable = affinity::available().map_err(|error| RunError::environment(&plan.spec, error))?;
    if let Some(nodes) = &plan.spec.host.cpu_nodes {
        return numa::cpus(&Sysfs::default(), nodes, &usable)
            .map_err(|why| RunError::environment(&plan.spec, format!("numa_cpu_nodes: {why}")));
    }
    let Some(chosen) = &plan.spec.cpus_allowed else { return Ok(usable) };
    if let Some(missing) = chosen.iter().find(|cpu| !usable.contains(cpu)) {
        return Err(RunError::environment(
            &plan.spec,
            format!(
                "cpus_allowed names CPU {missing}, which this process may not use (it may use {usable:?})"
            ),
        ));
    }
    Ok(chosen.clone())
}

/// The sizes that open targets have, where that is a size to work with.
pub fn known_sizes(facts: &[TargetFacts]) -> Vec<Option<u64>> {
    facts.iter().map(|fact| Some(fact.size_bytes).filter(|&size| size > 0)).collect()
}

/// What shares of a target are rounded down to.
pub fn granularity(facts: &[TargetFacts]) -> u64 {
    facts.iter().map(|fact| u64::from(fact.lba_bytes)).max().unwrap_or(1).max(1)
}

/// The size of each target as it is now, where that is a size to work with.
pub fn sizes_now(plan: &JobPlan) -> Vec<Option<u64>> {
    match plan.target_kind() {
        Targets::Files => {}
        Targets::MadeUp => return vec![None; plan.targets.len()],
        Targets::Namespaces => {
            // A failure is told by whoever opens them next.
            let opened = open_job::probe(plan);
            return opened.map_or(vec![None; plan.targets.len()], |opened| known_sizes(opened.facts()));
        }
    }
    let size = |at| existing_size(&plan.pin(at)).filter(|&size| size > 0);
    (0..plan.targets.len()).map(size).collect()
}

/// The bytes of each target that `clone` owns. `sizes` are those of the targets, as far as known;
/// `lba` is the granularity of offsets.
pub fn regions(plan: &JobPlan, clone: u32, sizes: &[Option<u64>], lba: u64) -> Result<Vec<Region>, RunError> {
    let spec = &plan.spec;
    let (first, count) = plan.targets_of(clone);
    if let Some(replay) = &plan.replay {
        let is_device = |target: u16| is_device(plan, target);
        let size = |target: u16| sizes[usize::from(target)].filter(|_| is_device(target));
        return replay.regions(plan, clone, size);
    }
    let mut regions = Vec::with_capacity(usize::from(count));
    for target in first..first + count {
        let path = &plan.targets[usize::from(target)];
        let known = sizes[usize::from(target)];
        let is_device = is_device(plan, target);
        let whole = || {
            // A file that is filled until nothing fits has no size of its own to wait for.
            let endless = (spec.fill_device && !is_device).then_some(ENDLESS);
            known
                .filter(|_| endless.is_none())
                .or(endless)
                .ok_or_else(|| without_size(plan, target, is_device))
        };
        let absolute = |amount: Amount| -> Result<u64, RunError> {
            match amount {
                Amount::Bytes(bytes) => Ok(bytes),
                percent @ Amount::Percent(_) => Ok(percent.of(whole()?) / lba * lba),
            }
        };
        let increment = absolute(spec.offset_increment)?.saturating_mul(u64::from(clone));
        let mut start = aligned(spec, absolute(spec.offset)?.saturating_add(increment));
        if spec.files.append {
            if is_device {
                // Its end is no place to write at, and from its beginning on something may stand there.
                let why = format!("file_append is for files, and {} is a device: set offset", path.display());
                return Err(RunError::bad_job(spec, why));
            }
            start = start.saturating_add(known.unwrap_or(0));
        }
        let wanted = files::wanted_bytes(plan, target, known);
        if wanted.is_some() && is_device {
            let why = format!("filesize is for files, and {} is a device: set size", path.display());
            return Err(RunError::bad_job(spec, why));
        }
        let bytes = match spec.size {
            Some(Amount::Percent(percent)) if let Some(wanted) = wanted => {
                Amount::Percent(percent).of(wanted).min(wanted.saturating_sub(start))
            }
            _ if let Some(wanted) = wanted => wanted.saturating_sub(start),
            Some(Amount::Bytes(bytes)) => bytes / u64::from(count),
            Some(percent @ Amount::Percent(_)) => percent.of(whole()?).min(whole()?.saturating_sub(start)),
            None => whole()?.saturating_sub(start),
        };
        let limit = if is_device { known } else { None };
        if let Some(size) = limit.filter(|&size| start.saturating_add(bytes) > size) {
            return Err(RunError::bad_job(
                spec,
                format!(
                    "offset {start} + size {bytes} lies beyond the end of {} ({size} bytes)",
                    path.display()
                ),
            ));
        }
        check_holds_blocks(plan, path, start, bytes)?;
        if start.checked_add(bytes).is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(RunError::bad_job(spec, "offset + size is beyond 2^63"));
        }
        regions.push(Region { target, start, bytes });
    }
    blocks::check(spec, &regions)?;
    Ok(regions)
}

/// What to say of a target that has no size to work with.
fn without_size(plan: &JobPlan, target: u16, is_device: bool) -> RunError {
    let (spec, shown) = (&plan.spec, plan.targets[usize::from(target)].display());
    if plan.uses_files()
        && is_device
        && let Err(error) = plan.pin(target.into()).existing().and_then(|file| file.open(OFlags::RDONLY))
    {
        return RunError::environment(spec, format!("cannot open {shown}: {error}"));
    }
    let why = if plan.uses_files() { "does not exist yet or is empty" } else { "has no size" };
    RunError::bad_job(spec, format!("{shown} {why}: set size in bytes (size = \"1GiB\" or --size=1GiB)"))
}

fn is_device(plan: &JobPlan, target: u16) -> bool {
    let is_block_device = || plan.pin(target.into()).file().is_some_and(|file| file.kind().is_block_device());
    plan.uses_namespaces() || plan.uses_files() && is_block_device()
}

/// Whatever opens the targets from now on finds these, or refuses.
pub fn hold_to(plans: &mut [JobPlan], checked: &[TargetFacts]) {
    let checked: Arc<[TargetFacts]> = checked.into();
    plans.iter_mut().for_each(|plan| plan.checked = Arc::clone(&checked));
}

/// What a clone does on its regions.
pub fn workload(plan: &JobPlan, clone: u32, regions: Vec<Region>) -> WorkloadSpec {
    let spec = &plan.spec;
    let region_bytes: u64 = regions.iter().map(|region| region.bytes).sum();
    WorkloadSpec {
        limit: limit(spec, region_bytes),
        regions,
        service: spec.files.service.clone(),
        mix: spec.mix,
        read_percent: spec.rwmixread,
        random: spec.random,
        coverage: spec.covers(),
        modifier: spec.rw_modifier,
        sizes: PerOp::from_fn(|op| spec.sizes_of(op).clone()),
        align: spec.blockalign.clone(),
        distribution: spec.random_distribution.clone(),
        percentage_random: spec.percentage_random.clone(),
        places: spec.places(),
        trim: trim_rule(spec),
        seed: random::derive(plan.seed, u64::from(clone)),
        log: plan.replay.as_ref().map(|replay| replay.log(clone)),
    }
}

fn trim_rule(spec: &JobSpec) -> Option<TrimRule> {
    let verify = &spec.verify;
    (verify.trim_percentage > 0).then_some(TrimRule {
        percent: verify.trim_percentage,
        backlog: verify.trim_backlog,
        batch: verify.trim_backlog_batch,
    })
}

fn limit(spec: &JobSpec, region_bytes: u64) -> Limit {
    if spec.replay.is_on() {
        return Limit { ios: spec.number_ios, ..Limit::default() };
    }
    let per_block = if spec.mix == Mix::TrimWrite { 2 } else { 1 };
    // A step of the workload is a range.
    let steps = per_block * u64::from(spec.commands.trim_ranges);
    let ios = spec.number_ios.map(|ios| ios.saturating_mul(spec.loops).saturating_mul(steps));
    if spec.time_based {
        return Limit { ios, ..Limit::default() };
    }
    let times = spec.loops.saturating_mul(per_block);
    if let Some(amount) = spec.io_size {
        let bytes = amount.of(region_bytes).saturating_mul(times);
        return Limit { bytes: Some(bytes), ios, passes: None };
    }
    if let (Some(_), Some(Amount::Bytes(size))) = (spec.files.filesize, spec.size) {
        let bytes = size.min(region_bytes).saturating_mul(times);
        return Limit { bytes: Some(bytes), ios, passes: None };
    }
    let op = if spec.mix == Mix::Read { Op::Read } else { Op::Write };
    let op = if spec.mix == Mix::Trim { Op::Deallocate } else { op };
    // Once over the region is a pass where places do not repeat (holes are passed over, as in fio), and
    // its size where they do.
    let strided = spec.places().strides.is_some();
    let whole_passes = !strided && spec.mix != Mix::ReadWrite && (!spec.random || visits_each_once(spec, op));
    if whole_passes {
        Limit { bytes: None, ios, passes: Some(spec.loops) }
    } else {
        Limit { bytes: Some(region_bytes.saturating_mul(times)), ios, passes: None }
    }
}

/// The options of a clone's loop.
pub fn worker_config(plan: &JobPlan, clone: u32, blocking: bool) -> WorkerConfig {
    let spec = &plan.spec;
    let (first_target, targets) = plan.targets_of(clone);
    // A blocking engine has one I/O in flight, whatever the depth.
    let clamp = |value: u32| if blocking { value.min(1) } else { value };
    WorkerConfig {
        depth: clamp(spec.iodepth),
        batch_submit: clamp(spec.iodepth_batch_submit),
        batch_complete_min: clamp(spec.iodepth_batch_complete_min),
        batch_complete_max: clamp(spec.iodepth_batch_complete_max),
        depth_low: clamp(spec.iodepth_low),
        fsync: if spec.mix.issues(Op::Write) { spec.fsync } else { 0 },
        fdatasync: if spec.mix.issues(Op::Write) { spec.fdatasync } else { 0 },
        sync_range: spec.files.sync_range.map_or(0, |range| range.every),
        end_fsync: (spec.end_fsync || spec.files.fsync_on_close)
            && spec.mix.issues(Op::Write)
            && !plan.only_judges(),
        first_target,
        targets,
        ramp_ns: spec.ramp_time_ns,
        runtime_ns: spec.runtime_ns,
        continue_on_read: spec.continue_on_error.read,
        continue_on_write: spec.continue_on_error.write,
        listed_errors: spec.order.ignore_error,
        fill_device: spec.fill_device,
        serialize: spec.serialize_overlap || spec.mix == Mix::TrimWrite,
        reap_timeout_ns: spec.reap_timeout_ns,
        trim_ranges: spec.commands.trim_ranges,
        measures: Measures {
            slat: spec.measuring.measures_slat(),
            clat: spec.measuring.measures_clat(),
            lat: spec.measuring.measures_lat(),
        },
    }
}

/// What a clone writes on its regions.
pub fn content(spec: &JobSpec, regions: &[Region]) -> ContentShape {
    let content = &spec.content;
    ContentShape {
        zero: content.zero_buffers,
        refill: content.refill_buffers,
        scramble: content.scramble_buffers,
        pattern: content.buffer_pattern.clone().map(Vec::into_boxed_slice),
        compress_percent: content.compress_percentage,
        compress_chunk: content.compress_chunk,
        dedupe_percent: content.dedupe_percentage,
        working_set: working_set(spec, regions),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transport_id_never_becomes_a_path_in_a_directory() {
        let id = "trtype=PCIe traddr=0000:5e:00.0 ns=1";
        let text = format!("[[job]]\nioengine = \"spdk\"\nfilename = \"{id}\"\nnumjobs = 2\n");
        let mut jobs = crate::job::parse(&[("j".to_owned(), text)], &[]).unwrap();
        jobs[0].directory = Some("/tmp".into());
        let plans = plan(jobs).unwrap();
        assert_eq!((plans[0].targets.clone(), plans[0].targets_per_clone), (vec![PathBuf::from(id)], 0));
        assert!(!plans[0].uses_files());
    }
}
