//! Judging by a snapshot: finding it, making sure that it is of this job and this target, and going
//! back to what the earlier run was: its seeds, its numbers, its name.

#[cfg(test)]
mod same_job;

use std::path::Path;

use crate::base::Op;
use crate::base::clock::unix_time_ns;
use crate::base::host::identity;
use crate::base::units::SECOND_NS;
use crate::base::verify::{Policy, RunId};
use crate::engine::TargetFacts;
use crate::job::{JobSpec, shaping_options};
use crate::verify::snapshot::{Cause, JobState, RegionState, Snapshot, TargetState, WorkerState};
use crate::workload::{Region, WorkloadSpec};

use super::plan::{JobPlan, LaterJob};
use super::{RunError, RunOptions, state_file};

/// Why nothing can go on where a run was cut.
const NO_END: &str = "the snapshot does not say where the writing ended (the load went on, or a worker did not \
                      answer in time), so nothing can go on there: judge it by verify_state_load, and begin anew";

/// An earlier run.
pub struct Earlier {
    /// Its name in the blocks.
    pub run: RunId,
    /// What the reader should know of how it is judged.
    pub notes: Vec<String>,
}

/// The snapshot at `path`, if it can be trusted: its contents decide what is judged and what is written next.
fn load(spec: &JobSpec, path: &Path) -> Result<Snapshot, RunError> {
    let loaded = state_file::load(path)
        .map_err(|why| RunError::bad_job(spec, format!("cannot judge by the snapshot {why}")))?;
    if let Some(owner) = loaded.stranger.filter(|_| !spec.state.allow_foreign) {
        let why = format!(
            "the snapshot {} belongs to user {owner}, who may have written anything into it: copy it if it can be \
             trusted, or say so by allow_foreign_state = true",
            path.display()
        );
        return Err(RunError::bad_job(spec, why));
    }
    Ok(loaded.snapshot)
}

/// Goes back to the run that left a snapshot, if the jobs ask for that.
pub fn go_back(plans: &mut Vec<JobPlan>, options: &RunOptions) -> Result<Option<Earlier>, RunError> {
    let goes_back = |plan: &JobPlan| plan.spec.state.load || plan.spec.state.go_on;
    let Some(first) = plans.iter().position(goes_back) else { return Ok(None) };
    let spec = plans[first].spec.clone();
    let path = options.state_path(&spec.state).ok_or_else(|| {
        RunError::bad_job(&spec, "there is no place to load a snapshot from: set state_dir")
    })?;
    let snapshot = load(&spec, &path)?;
    let of_run = |what: String| {
        let made = snapshot.jobs.iter().map(|job| job.name.as_str()).collect::<Vec<_>>().join(", ");
        format!("{what}; the snapshot {} has the jobs: {made}", path.display())
    };
    let mut notes = vec![format!("snapshot {}, {}", path.display(), describe(&snapshot))];
    let mut left: Vec<&JobState> = snapshot.jobs.iter().collect();
    let mut others: Vec<String> = Vec::new();
    let has_changed = |job: &JobState| {
        let issued = |op: Op| job.workers.iter().any(|worker| worker.promises.issued(op) > 0);
        issued(Op::Write) || issued(Op::Deallocate)
    };
    let any_has = snapshot.jobs.iter().any(has_changed);
    // Those that may have begun, and are not judged.
    let mut begun: Vec<(JobPlan, JobState)> = Vec::new();
    for plan in plans.iter_mut() {
        let promises = plan.verifies() && plan.spec.mix.modifies();
        // Names may come twice: then they come in order.
        let found = left.iter().position(|job| promises && job.name == plan.spec.name);
        let Some(at) = found else {
            others.push(plan.spec.name.clone());
            continue;
        };
        let job = left.remove(at);
        fits(plan, job).map_err(|why| {
            RunError::bad_job(&plan.spec, format!("the snapshot {} does not fit: {why}", path.display()))
        })?;
        plan.seed = job.seed;
        plan.first_worker = job.workers.first().map_or(plan.first_worker, |worker| u32::from(worker.number));
        if plan.spec.state.load && any_has && !has_changed(job) {
            others.push(plan.spec.name.clone());
            begun.push((plan.clone(), job.clone()));
            continue;
        }
        let is_open = job.workers.iter().any(|worker| worker.promises.open_end);
        if plan.spec.state.go_on && is_open {
            return Err(RunError::bad_job(&plan.spec, NO_END));
        }
        if plan.spec.state.load {
            notes.push(policy(&plan.spec, job));
        }
        let field = if plan.spec.state.load { &mut plan.judged } else { &mut plan.resumed };
        *field = Some(job.clone());
    }
    if spec.state.load {
        notes.extend(find_later(plans, begun, &snapshot));
    } else {
        check_goes_on(plans, &snapshot)?;
    }
    if others.len() == plans.len() {
        return Err(RunError::bad_job(&spec, of_run("the snapshot knows no such job".to_owned())));
    }
    if let Some(job) = left.first() {
        let why = format!("the snapshot promises something for job `{}`, which is not judged", job.name);
        return Err(RunError::bad_job(&spec, of_run(why)));
    }
    if spec.state.load && !others.is_empty() {
        // They promised nothing, or had not begun: and nothing is written now.
        plans.retain(|plan| plan.judged.is_some());
        notes.push(format!(
            "the snapshot promises nothing for these jobs, which are left out: {}",
            others.join(", ")
        ));
    }
    Ok(Some(Earlier { run: snapshot.run, notes }))
}

/// Tells each job that is judged who may have written over its blocks later: in sentences, where that takes
/// promises away that nothing else replaces.
fn find_later(plans: &mut [JobPlan], begun: Vec<(JobPlan, JobState)>, snapshot: &Snapshot) -> Vec<String> {
    let judged = plans.iter().filter_map(|plan| Some((plan.clone(), plan.judged.clone()?)));
    let all: Vec<(JobPlan, JobState)> = judged.chain(begun).collect();
    let mut notes = Vec::new();
    for plan in plans.iter_mut() {
        let Some(job) = &plan.judged else { continue };
        let jobs = all.iter().filter(|(_, later)| later.stage > job.stage);
        let mut later: Vec<LaterJob> = jobs
            .map(|(plan, state)| LaterJob::Verified(Box::new(plan.clone()), Box::new(state.clone())))
            .collect();
        for range in snapshot.unverified.iter().filter(|range| range.stage > job.stage) {
            later.push(LaterJob::Unverified(*range));
            let end = range.start.saturating_add(range.bytes);
            let hit = |(identity, start, bytes): (u64, u64, u64)| {
                identity == range.identity && start < end && range.start < start.saturating_add(bytes)
            };
            if job.owned().any(hit) {
                notes.push(format!(
                    "job `{}`: nothing is promised in bytes {} to {end}: a job of a later stage, which did not \
                     verify, may have written there",
                    job.name, range.start
                ));
            }
        }
        plan.later = later.into();
    }
    notes
}

/// A run goes on in the order of its stages: what an earlier stage would write again is not to be what a
/// later one was promised.
fn check_goes_on(plans: &[JobPlan], snapshot: &Snapshot) -> Result<(), RunError> {
    let hits = |(identity, start, bytes): (u64, u64, u64), (other, from, len): (u64, u64, u64)| {
        identity == other && start < from.saturating_add(len) && from < start.saturating_add(bytes)
    };
    for plan in plans {
        let Some(job) = &plan.resumed else { continue };
        let later = snapshot.jobs.iter().filter(|other| other.stage > job.stage);
        let jobs = later.flat_map(|other| other.owned());
        let ranges = snapshot.unverified.iter().filter(|range| range.stage > job.stage);
        let all: Vec<_> =
            jobs.chain(ranges.map(|range| (range.identity, range.start, range.bytes))).collect();
        if job.owned().any(|own| all.iter().any(|&other| hits(own, other))) {
            let why = "a later stage had written over its region when the run was cut, so it cannot go on there: \
                       judge the run by verify_state_load, and begin anew";
            return Err(RunError::bad_job(&plan.spec, why));
        }
    }
    Ok(())
}

/// What the jobs that judge leave undone of what they say, in a sentence; nothing if they say nothing of the
/// kind.
///
/// # Errors
/// If a job judges, another one writes, and a trigger is armed: it would cut the power of what is judged.
pub fn inactive(plans: &[JobPlan]) -> Result<Option<String>, RunError> {
    let judging: Vec<&JobPlan> = plans.iter().filter(|plan| plan.only_judges()).collect();
    let Some(first) = judging.first() else { return Ok(None) };
    let armed = plans.iter().find(|plan| plan.spec.trigger.is_armed());
    if let (Some(writer), Some(_)) = (plans.iter().find(|plan| plan.modifies()), armed) {
        let why = format!(
            "it writes, job `{}` judges an earlier run, and no trigger fires while one is judged: judge in a run of \
             its own (--section={}), or leave the trigger out",
            first.spec.name, first.spec.name
        );
        return Err(RunError::bad_job(&writer.spec, why));
    }
    let any = |is_set: fn(&JobSpec) -> bool| judging.iter().any(|plan| is_set(&plan.spec));
    let options = [
        ("trigger", any(|spec| spec.trigger.command.is_some())),
        ("trigger_remote", any(|spec| spec.trigger.remote.is_some())),
        ("trigger_file", any(|spec| spec.trigger.file.is_some())),
        ("trigger_timeout", any(|spec| spec.trigger.timeout_ns.is_some())),
        ("trigger_ios", any(|spec| spec.trigger.ios.is_some())),
        ("exec_prerun", any(|spec| spec.host.prerun.is_some())),
        ("exec_postrun", any(|spec| spec.host.postrun.is_some())),
        ("unlink", any(|spec| spec.files.unlink)),
        ("volatile_write_cache", any(|spec| spec.spdk.volatile_write_cache.is_some())),
    ];
    let set: Vec<&str> = options.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| *name).collect();
    Ok((!set.is_empty()).then(|| {
        format!("judging changes nothing but its reports, so these options do nothing: {}", set.join(", "))
    }))
}

/// When and why a snapshot was taken.
fn describe(snapshot: &Snapshot) -> String {
    let age_s = unix_time_ns().saturating_sub(snapshot.taken_unix_ns) / SECOND_NS;
    let why = match snapshot.cause {
        Cause::Ended => "when the writing ended",
        Cause::Trigger => "when a trigger fired",
        Cause::Checkpoint => "by a checkpoint while the job ran",
    };
    format!("of run {}, taken {age_s} s ago {why}", snapshot.run)
}

/// What must be found, and why.
fn policy(spec: &JobSpec, job: &JobState) -> String {
    let flushed = "every write that a flush has made durable must stand";
    let completed = "every write that has completed must stand";
    let cached =
        |cache: Option<bool>| job.targets.iter().find(|target| target.premises.volatile_cache == cache);
    let (what, why) = match spec.verify.policy {
        Policy::Auto | Policy::Fsynced if let Some(why) = super::premises::trouble_of(job) => {
            return format!("job `{}`: nothing that was acknowledged is demanded: {why}", job.name);
        }
        _ if job.writes_are_durable => {
            (completed, "writes were durable when they completed (trims go by flushes)".to_owned())
        }
        Policy::Completed => (completed, "verify_policy = \"completed\"".to_owned()),
        Policy::Fsynced => (flushed, "verify_policy = \"fsynced\"".to_owned()),
        Policy::Auto => match (cached(Some(true)), cached(None)) {
            (Some(target), _) => (flushed, format!("{} had a volatile cache", target.path)),
            (None, Some(target)) => {
                (flushed, format!("nobody knows whether {} had a volatile cache", target.path))
            }
            (None, None) => (completed, "the target had no volatile cache that was on".to_owned()),
        },
    };
    format!("job `{}`: {what}: {why}", job.name)
}

/// What shapes what a job writes: its options, and what stands in its logs.
fn shaping(plan: &JobPlan) -> Vec<(String, String)> {
    let mut options = shaping_options(plan.asked());
    options.extend(plan.replay.iter().map(|replay| ("the writes of its logs".to_owned(), replay.sum())));
    options
}

/// Whether the job does what the job of the snapshot did.
fn fits(plan: &JobPlan, job: &JobState) -> Result<(), String> {
    let spec = &plan.spec;
    let now = shaping(plan);
    let value = |options: &[(String, String)], name: &str| {
        options.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    };
    let names = now.iter().chain(&job.options).map(|(name, _)| name.as_str());
    for name in names {
        let (here, there) = (value(&now, name), value(&job.options, name));
        if here != there {
            let shown = |value: Option<String>| value.unwrap_or_else(|| "its default".to_owned());
            return Err(format!("it was taken with {name} = {}, here it is {}", shown(there), shown(here)));
        }
    }
    if job.workers.len() != spec.numjobs as usize {
        return Err(format!("it is of {} workers, here are {}", job.workers.len(), spec.numjobs));
    }
    Ok(())
}

/// What the snapshot says of one clone, if the targets and their regions are the ones it is of.
pub fn worker<'a>(
    plan: &JobPlan,
    job: &'a JobState,
    clone: u32,
    facts: &[TargetFacts],
    workload: &WorkloadSpec,
) -> Result<&'a WorkerState, RunError> {
    let refuse = |why: String| RunError::bad_job(&plan.spec, format!("the snapshot does not fit: {why}"));
    if facts.len() != job.targets.len() {
        return Err(refuse(format!("it is of {} targets, here are {}", job.targets.len(), facts.len())));
    }
    for (fact, target) in facts.iter().zip(&job.targets) {
        if identity_of(fact) != target.identity {
            let known =
                if target.known_as.is_empty() { String::new() } else { format!(" ({})", target.known_as) };
            return Err(refuse(format!(
                "{} is not the {}{known} that was written to",
                fact.path.display(),
                target.path
            )));
        }
        if fact.size_bytes < target.size_bytes {
            return Err(refuse(format!(
                "{} has {} bytes, and had {}",
                fact.path.display(),
                fact.size_bytes,
                target.size_bytes
            )));
        }
    }
    let state = job.workers.get(clone as usize).ok_or_else(|| refuse("it knows fewer workers".to_owned()))?;
    if state.regions != regions(&workload.regions) {
        return Err(refuse(
            "the worker's region of the target is another one: is the target's size the same?".to_owned(),
        ));
    }
    Ok(state)
}

/// Regions, as a snapshot keeps them.
pub fn regions(regions: &[Region]) -> Vec<RegionState> {
    let state =
        |region: &Region| RegionState { target: region.target, start: region.start, bytes: region.bytes };
    regions.iter().map(state).collect()
}

/// A job, as a snapshot keeps it, without workers.
pub fn job_state(plan: &JobPlan, facts: &[TargetFacts]) -> JobState {
    let premises = super::premises::of(plan, facts);
    let target = |(at, fact): (usize, &TargetFacts)| TargetState {
        path: fact.path.display().to_string(),
        identity: identity_of(fact),
        known_as: known_as(fact),
        size_bytes: fact.size_bytes,
        lba_bytes: fact.lba_bytes,
        premises: premises[at].clone(),
    };
    JobState {
        stage: plan.stage,
        name: plan.spec.name.clone(),
        options: shaping(plan),
        seed: plan.seed,
        writes_are_durable: super::verification::writes_are_durable(&plan.spec, facts),
        targets: facts.iter().enumerate().map(target).collect(),
        workers: Vec::new(),
    }
}

/// What tells a target from all others.
pub fn identity_of(fact: &TargetFacts) -> u64 {
    fact.known.as_ref().map_or_else(|| identity::of(fact.place()), |known| identity::of_wwid(&known.wwid))
}

/// What a person knows a device by.
fn known_as(fact: &TargetFacts) -> String {
    if let Some(known) = &fact.known {
        return known.name.clone();
    }
    crate::base::host::block::lookup(&crate::base::host::Sysfs::default(), fact.place())
        .ok()
        .flatten()
        .map(|device| device.summary())
        .map(|summary| [summary.model, summary.serial].into_iter().flatten().collect::<Vec<_>>().join(" "))
        .unwrap_or_default()
}
