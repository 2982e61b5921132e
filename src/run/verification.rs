//! What a verifying job needs beyond its workload: blocks, identities, regions that nobody else
//! writes to; and what becomes of violations while the run goes on.

mod later;

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::base::atomic::AtomicWrites;
use crate::base::clock::{Clock, unix_time_ns};
use crate::base::host::affinity;
use crate::base::host::output_file::{self, Start};
use crate::base::printable::printable;
use crate::base::verify::{BadInterval, Finding, Method, Policy, RunId};
use crate::engine::{TargetFacts, Targets};
use crate::job::JobSpec;
use crate::job::spec::SyncMode;
use crate::reactor::{Found, VerifyParts};
use crate::report::finding_line;
use crate::verify::block::{BlockFormat, Sealer};
use crate::verify::judge::{Judge, TargetIdentity};
use crate::verify::ledger::Ledger;
use crate::verify::payload::PatternFill;
use crate::verify::promises::Promises;
use crate::verify::snapshot::{JobState, TargetState, WorkerState};
use crate::workload::{Issued, Region, WorkloadSpec};

use super::open_job::OpenJob;
use super::plan::{self, JobPlan};
use super::{RunError, RunOptions, judged, premises};

/// Violations on their way from a worker to files.
const ON_THE_WAY: usize = 16 << 10;

/// The length of a block of `spec`.
pub fn interval(spec: &JobSpec) -> Result<u32, BadInterval> {
    spec.verify.effective_interval(&spec.lengths())
}

/// How blocks of `spec` are made.
pub(super) fn format(spec: &JobSpec, method: Method) -> Result<BlockFormat, RunError> {
    let interval =
        interval(spec).map_err(|why| RunError::bad_job(spec, format!("blocks cannot be cut: {why:?}")))?;
    let pattern = spec.verify.pattern.clone();
    Ok(BlockFormat {
        interval,
        method,
        header_at: spec.verify.offset,
        pattern: pattern.map(|pattern| PatternFill { pattern, interval: spec.verify.pattern_interval }),
    })
}

/// Whether a write that has completed is durable: not if the kernel drops what makes it so.
pub fn writes_are_durable(spec: &JobSpec, facts: &[TargetFacts]) -> bool {
    (spec.sync != SyncMode::None || spec.writefua)
        && facts.iter().all(|fact| fact.premises.trouble().is_none())
}

/// What an earlier run was promised: nothing by flushes that did not reach the drive.
fn promises_of(job: &JobState, worker: &WorkerState) -> Promises {
    let mut promises = worker.promises.clone();
    if premises::trouble_of(job).is_some() {
        promises.forget_flushes();
    }
    promises
}

/// Whether an earlier run's writes were lost with the power unless they were flushed. Of a device that
/// nobody knows, nothing is demanded that it may not have promised.
fn was_volatile(job: &JobState) -> bool {
    let volatile = |target: &TargetState| target.premises.volatile_cache != Some(false);
    job.targets.iter().any(volatile) || premises::trouble_of(job).is_some()
}

/// What one worker needs to verify; `None` if its job does not.
pub fn parts(
    plan: &JobPlan,
    clone: u32,
    opened: &dyn OpenJob,
    workload: &WorkloadSpec,
    run: RunId,
    found: &Sender<Found>,
) -> Result<Option<VerifyParts>, RunError> {
    let spec = &plan.spec;
    let Some(method) = spec.verify.method else { return Ok(None) };
    let facts = opened.facts();
    check_grid(plan, facts, workload, format(spec, method)?.interval)?;
    let only = spec.verify.only && plan.judged.is_none();
    // With `verify_only` the run is the one that was found in the blocks, if one was.
    let found_run = plan.judged_run.get().copied().filter(|_| only);
    let run = found_run.unwrap_or(run);
    let earlier = if let Some(job) = &plan.judged {
        Some(promises_of(job, judged::worker(plan, job, clone, facts, workload)?))
    } else if spec.verify.only {
        let issued = Issued::at_end(workload).map_err(|error| RunError::bad_job(spec, error))?;
        let endless = || RunError::bad_job(spec, "verify_only needs a job that ends by an amount");
        let issued = issued.ok_or_else(endless)?;
        Some(Promises::finished(issued.writes, issued.trims))
    } else {
        None
    };
    let sealer = sealer(plan, clone, run)?;
    let depth = plan::worker_config(plan, clone, opened.is_blocking()).depth;
    let ledger = match &plan.resumed {
        Some(job) => {
            let promises = promises_of(job, judged::worker(plan, job, clone, facts, workload)?);
            let durable = job.writes_are_durable && premises::trouble_of(job).is_none();
            let volatile = was_volatile(job);
            Ledger::resume(&promises, !volatile || durable, !volatile, depth)
        }
        None => Ledger::new(depth),
    };
    let knows_run = (!only || found_run.is_some()) && spec.mix.modifies();
    let judge = judge(plan, sealer.clone(), facts, knows_run);
    let now = Clock::get().now_ns();
    let mut verify = spec.verify.clone();
    if verify.async_threads > 0 && verify.async_cpus.is_none() {
        // Or they would stay on the CPU of the thread that starts them, which polls there.
        verify.async_cpus = affinity::available().ok();
    }
    Ok(Some(VerifyParts {
        spec: verify,
        sealer,
        judge,
        workload: workload.clone(),
        ledger,
        earlier,
        run: Arc::clone(&plan.judged_run),
        later: later::writers(plan, facts, workload, run)?,
        power_lost: plan.judged.is_some(),
        unix_origin_ns: unix_time_ns().saturating_sub(now),
        volatile_cache: match &plan.judged {
            Some(job) => was_volatile(job),
            None => facts.iter().any(|fact| fact.premises.volatile_cache == Some(true)),
        },
        writes_are_durable: match &plan.judged {
            Some(job) => job.writes_are_durable && premises::trouble_of(job).is_none(),
            None => writes_are_durable(spec, facts),
        },
        flush_trouble: match &plan.judged {
            Some(job) => premises::trouble_of(job),
            None => facts.iter().find_map(|fact| fact.premises.trouble()),
        },
        waits_for_leave: plan.uses_files() && spec.invalidate,
        most_bytes: plan.largest_io(),
        found: found.clone(),
    }))
}

/// Makes the blocks of a clone.
pub(super) fn sealer(plan: &JobPlan, clone: u32, run: RunId) -> Result<Sealer, RunError> {
    let spec = &plan.spec;
    let method = spec.verify.method.unwrap_or(Method::Null);
    let worker = u16::try_from(plan.first_worker + clone)
        .map_err(|_| RunError::bad_job(spec, "more than 65535 workers verify"))?;
    Ok(Sealer::new(format(spec, method)?, run, worker))
}

/// Judges the blocks that `sealer` makes.
pub(super) fn judge(plan: &JobPlan, sealer: Sealer, facts: &[TargetFacts], knows_run: bool) -> Judge {
    let targets = facts.iter().enumerate().map(|(at, fact)| TargetIdentity {
        id: super::judged::identity_of(fact),
        lba_bytes: fact.lba_bytes,
        atomic: atomic_writes(plan, at, fact),
        longest_write: plan.largest_io(),
    });
    Judge::new(sealer, targets.collect(), knows_run)
}

/// Which of the writes to be judged a target stores whole: those of an earlier run by what held then, those
/// of a run that goes on by what holds all along.
pub fn atomic_writes(plan: &JobPlan, target: usize, fact: &TargetFacts) -> AtomicWrites {
    let atomic = |job: &JobState| job.targets.get(target).map(|then| then.premises.atomic);
    if let Some(then) = plan.judged.as_ref().and_then(atomic) {
        return then;
    }
    let before = plan.resumed.as_ref().and_then(atomic);
    let now = fact.premises.atomic;
    before.map_or(now, |before| before.meet(&now))
}

/// Blocks lie on a grid that the target's logical blocks divide.
fn check_grid(
    plan: &JobPlan,
    facts: &[TargetFacts],
    workload: &WorkloadSpec,
    interval: u32,
) -> Result<(), RunError> {
    for region in &workload.regions {
        let fact = &facts[usize::from(region.target)];
        if fact.is_block_device && interval < fact.lba_bytes {
            return Err(RunError::bad_job(
                &plan.spec,
                format!(
                    "blocks of {interval} bytes are shorter than a logical block of {} ({} bytes): set verify_interval",
                    fact.path.display(),
                    fact.lba_bytes
                ),
            ));
        }
    }
    Ok(())
}

/// What is worth knowing at the start: after a loss of power, or by its snapshot, nothing will be demanded of
/// what the job writes, as it never flushes a cache that is volatile. `None` if something will be, or if the
/// job only judges itself while the power stays on.
pub fn nothing_promised(plan: &JobPlan, facts: &[TargetFacts]) -> Option<String> {
    let spec = &plan.spec;
    let writes = plan.verifies() && spec.mix.modifies() && !spec.verify.only;
    if !writes || plan.judged.is_some() || plan.resumed.is_some() || writes_are_durable(spec, facts) {
        return None;
    }
    let trigger = &spec.trigger;
    let may_end_early = trigger.is_armed() || trigger.command.is_some() || spec.sim.cut_after.is_some();
    // A log may have flushes of its own.
    let flushes =
        spec.fsync > 0 || spec.fdatasync > 0 || spec.end_fsync && !may_end_early || plan.replay.is_some();
    let is_volatile = |fact: &TargetFacts| {
        plan.uses_files() && !fact.is_block_device || fact.premises.volatile_cache != Some(false)
    };
    let goes_by_flushes = match spec.verify.policy {
        Policy::Completed => false,
        Policy::Fsynced => true,
        Policy::Auto => facts.iter().any(is_volatile) && (may_end_early || !spec.verify.do_verify),
    };
    (goes_by_flushes && !flushes).then(|| {
        format!(
            "job `{}`: nothing is promised: it never flushes, and what is in a volatile cache may be lost with the \
             power. A verification that goes by flushes demands nothing then, and is inconclusive (exit code 5): \
             set fsync = N, or verify_policy = \"completed\"",
            spec.name
        )
    })
}

/// Refuses jobs of one stage that write to the bytes a verifying job has promised something about.
pub fn check_overlap(stage: &[JobPlan]) -> Result<(), RunError> {
    struct Claim<'a> {
        plan: &'a JobPlan,
        clone: u32,
        region: Region,
    }
    let mut claims: HashMap<PathBuf, Vec<Claim<'_>>> = HashMap::new();
    for plan in stage.iter().filter(|plan| plan.spec.mix.modifies()) {
        let sizes = plan::sizes_now(plan);
        for clone in 0..plan.spec.numjobs {
            // What cannot be told yet is told when the stage begins.
            let Ok(regions) = plan::regions(plan, clone, &sizes, 1) else { continue };
            for region in regions {
                let path = match plan.target_kind() {
                    Targets::Files => plan.pin(region.target.into()).canonical(),
                    _ => plan.targets[usize::from(region.target)].clone(),
                };
                let of_path = claims.entry(path).or_default();
                let clash = of_path.iter().find(|other| {
                    (plan.verifies() || other.plan.verifies())
                        && other.region.start < region.start + region.bytes
                        && region.start < other.region.start + other.region.bytes
                });
                if let Some(other) = clash {
                    return Err(RunError::bad_job(
                        &plan.spec,
                        format!(
                            "{}.{clone} and {}.{} would both write to {} from offset {}, and nobody could say what must \
                             stand there: give each a region of its own by offset_increment (with size), offset, or a \
                             file of its own",
                            plan.spec.name,
                            other.plan.spec.name,
                            other.clone,
                            plan.targets[usize::from(region.target)].display(),
                            region.start.max(other.region.start)
                        ),
                    ));
                }
                of_path.push(Claim { plan, clone, region });
            }
        }
    }
    Ok(())
}

/// Violations of one worker on their way. All of the memory for them is taken here.
pub fn channel(verifies: bool) -> (Sender<Found>, Receiver<Found>) {
    bounded(if verifies { ON_THE_WAY } else { 1 })
}

/// Bytes of memory that [`channel`] takes for a worker that verifies.
pub const CHANNEL_BYTES: u64 = (ON_THE_WAY * (size_of::<Found>() + size_of::<usize>())) as u64;

/// Where violations are written to while the run goes on.
pub struct Verdicts {
    file: Option<(PathBuf, File)>,
    told: Option<Sender<String>>,
    /// What went wrong with writing, once.
    pub trouble: Option<String>,
}

impl Verdicts {
    /// Opens the file that the user asked for.
    pub fn open(options: &RunOptions) -> Result<Verdicts, String> {
        let open = |path: &PathBuf| match output_file::open(path, Start::Empty) {
            Ok(file) => Ok((path.clone(), file)),
            Err(error) => Err(format!("cannot write verdicts to {}: {error}", path.display())),
        };
        let file = options.verdicts.as_ref().map(open).transpose()?;
        Ok(Verdicts { file, told: options.findings.clone(), trouble: None })
    }

    /// Writes one violation of job `name` on `targets`; returns the target's path.
    pub fn tell<'a>(&mut self, name: &str, targets: &'a [PathBuf], finding: &Finding) -> &'a Path {
        let target = targets.get(usize::from(finding.target)).map_or(Path::new("?"), PathBuf::as_path);
        let line = printable(&finding_line(name, &target.to_string_lossy(), finding));
        if let Some(told) = &self.told
            && told.try_send(line.clone()).is_err()
        {
            self.trouble.get_or_insert_with(|| "more violations than could be told one by one".to_owned());
        }
        if let Some((path, file)) = &mut self.file
            && let Err(error) = writeln!(file, "{line}")
        {
            self.trouble.get_or_insert_with(|| format!("cannot write to {}: {error}", path.display()));
        }
        target
    }

    /// Writes what has been found of job `name` on `targets`.
    pub fn take(&mut self, name: &str, targets: &[PathBuf], found: &Receiver<Found>) {
        for Found { finding, received, expected } in found.try_iter() {
            let target = self.tell(name, targets, &finding);
            for (bytes, kind) in [(received, "received"), (expected, "expected")] {
                let Some(bytes) = bytes else { continue };
                let base = target.file_name().unwrap_or_default().to_string_lossy();
                let path = format!("{base}.{}.{kind}", finding.offset);
                if let Err(error) = output_file::write(Path::new(&path), &bytes) {
                    self.trouble.get_or_insert_with(|| format!("verify_dump: cannot write {path}: {error}"));
                }
            }
        }
    }
}

/// A name for this run.
pub fn new_run_id() -> RunId {
    let half = || u128::from(plan::fresh_seed());
    RunId(half() << 64 | half())
}
