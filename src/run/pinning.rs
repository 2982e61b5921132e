//! The targets of a run are followed once, before anything is checked, and held to its end: checks, layout,
//! engines and end actions use what is held. Before each stage the paths are compared with it.

use std::collections::HashSet;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::base::host::output_file::{self, ProtectedTargets};
use crate::base::host::pin::{Identity, Pin, Pins, Replaced};
use crate::base::host::target_lock::{LockMode, Locked, Wanted};

use super::plan::{self, JobPlan};
use super::{ErrorKind, Requests, RunError, RunOptions, starting};

/// Open files that a run has beside its targets, and for each worker.
const OPEN_BESIDE: u64 = 64;
const OPEN_BY_WORKER: u64 = 4;

/// Follows the paths of all jobs. Looking at files of the kernel may hang.
pub fn pin(plans: &mut [JobPlan], requests: &Requests) -> Result<(), RunError> {
    make_room(plans)?;
    let of_plan = |plan: &JobPlan| if plan.uses_files() { plan.targets.clone() } else { Vec::new() };
    let paths: Vec<_> = plans.iter().map(of_plan).collect();
    let limit_ns = plans.iter().map(|plan| plan.spec.order.start_timeout_ns).max().unwrap_or(u64::MAX);
    let pinned = starting::within(limit_ns, requests, move || {
        let mut pins = Pins::default();
        let mut pin_all = |paths: Vec<std::path::PathBuf>| paths.iter().map(|path| pins.pin(path)).collect();
        paths.into_iter().map(&mut pin_all).collect::<Vec<Vec<_>>>()
    });
    let pinned = pinned.map_err(|late| {
        RunError::environment(&plans[0].spec, late.say(&format!("looking at {}", starting::names(plans))))
    })?;
    for (plan, pins) in plans.iter_mut().zip(pinned) {
        plan.pins = pins.into();
    }
    Ok(())
}

/// Sees to it that the process may have all targets open: once for the run, locked for the run where they are
/// written or verified, and once more for the jobs of a stage.
fn make_room(plans: &[JobPlan]) -> Result<(), RunError> {
    let mut paths: HashSet<&Path> = HashSet::new();
    let (mut pins, mut locks) = (0, 0);
    for plan in plans.iter().filter(|plan| plan.uses_files()) {
        for path in &plan.targets {
            if paths.insert(path) {
                pins += 1 + u64::from(path.parent().is_some_and(|parent| paths.insert(parent)));
                locks += u64::from(lock_mode(plan).is_some());
            }
        }
    }
    let of = |plan: &JobPlan| plan.targets.len() as u64 + u64::from(plan.spec.numjobs) * OPEN_BY_WORKER;
    for stage in plan::stages(plans) {
        let opened = stage.iter().filter(|plan| plan.uses_files()).map(of).sum::<u64>();
        let needed = OPEN_BESIDE + pins + locks + opened;
        let limit = getrlimit(Resource::Nofile);
        if limit.current.is_none_or(|current| current >= needed) {
            continue;
        }
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        let allowed = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
        if let Some(allowed) = allowed.filter(|&allowed| allowed < needed) {
            return Err(RunError::environment(
                &stage[0].spec,
                format!(
                    "this and the jobs beside it need {needed} open files, and the process may have {allowed} \
                     (`ulimit -Hn`): lower nrfiles or numjobs, or raise the limit"
                ),
            ));
        }
    }
    Ok(())
}

/// Refuses targets that the run would write or remove as something else: its report, its snapshot, the file that
/// fires the trigger.
pub fn refuse_outputs(plans: &[JobPlan], options: &RunOptions) -> Result<(), RunError> {
    for plan in plans.iter().filter(|plan| plan.uses_files()) {
        let spec = &plan.spec;
        let state =
            options.state_path(&spec.state).filter(|_| spec.state.save && spec.verify.method.is_some());
        let named = [
            ("trigger_file", spec.trigger.file.clone()),
            ("the snapshot (state_dir)", state),
            ("merge_blktrace_file", spec.replay.merge_into.clone()),
        ];
        let own = named.into_iter().filter_map(|(name, path)| Some((name, path?)));
        let outputs = options.outputs.iter().map(|path| ("--output", path.clone()));
        let verdicts = options.verdicts.iter().map(|path| ("--verdicts", path.clone()));
        for (name, path) in own.chain(outputs).chain(verdicts) {
            if let Some(target) = plans.iter().flat_map(|plan| plan.pins.iter()).find(|pin| pin.is_at(&path))
            {
                let why = format!(
                    "{name} is {}, which is the target {} of this run: name another file",
                    path.display(),
                    target.path().display()
                );
                return Err(RunError {
                    kind: ErrorKind::Unsafe,
                    message: format!("job `{}`: {why}", spec.name),
                });
            }
        }
    }
    Ok(())
}

/// Has no output file opened that is a target of the run, whatever leads to it by then.
pub fn protect(plans: &[JobPlan]) -> ProtectedTargets {
    let files = plans.iter().flat_map(|plan| plan.pins.iter()).filter_map(|pin| pin.file());
    let numbers = files.filter_map(|file| match file.identity() {
        Identity::File { device, inode } => Some((device, inode)),
        Identity::Device { .. } => None,
    });
    output_file::protect(numbers.collect())
}

/// Whether the paths of a job lead to what was checked.
///
/// # Errors
/// What was replaced, as an unsafe target; a device that is gone, as a bad environment.
pub fn check(plan: &JobPlan) -> Result<(), RunError> {
    plan.pins.iter().try_for_each(|pin| pin.check().map_err(|replaced| refuse(plan, &replaced)))
}

/// The refusal of a target that was replaced.
pub fn refuse(plan: &JobPlan, replaced: &Replaced) -> RunError {
    let kind = if replaced.device_gone { ErrorKind::Environment } else { ErrorKind::Unsafe };
    RunError { kind, message: format!("job `{}`: {replaced}", plan.spec.name) }
}

/// Locks what the jobs write or verify, until what is given back is dropped; sentences about what could not be
/// locked. Files that layout makes are locked when they are made.
///
/// # Errors
/// Which target another run holds, as an unsafe target.
pub fn lock(plans: &[JobPlan]) -> Result<(Locked, Vec<String>), RunError> {
    let mut wanted = Wanted::default();
    for plan in plans.iter().filter(|plan| plan.uses_files()) {
        for pin in plan.pins.iter() {
            // Layout writes to files that are not there or empty, also for a job that only reads.
            pin.lock_when_made(LockMode::Exclusive);
            let Some(file) = pin.file() else { continue };
            let is_filled = || file.kind().is_file() && file.size() == Some(0) && !plan.only_judges();
            let mode = lock_mode(plan).max(is_filled().then_some(LockMode::Exclusive));
            if let Some(mode) = mode {
                wanted.add(&file, mode);
            }
        }
    }
    let refused = |why: String| {
        let advice = "Wait for its end, or choose another target.";
        RunError { kind: ErrorKind::Unsafe, message: format!("refusing to start: {why}\n  {advice}") }
    };
    wanted.take().map_err(refused)
}

/// How the targets of a job are locked.
fn lock_mode(plan: &JobPlan) -> Option<LockMode> {
    match (plan.modifies(), plan.verifies()) {
        (true, _) => Some(LockMode::Exclusive),
        (false, true) => Some(LockMode::Shared),
        (false, false) => None,
    }
}

/// The pin of a path that is of no plan of this run.
pub fn alone(path: &Path) -> std::sync::Arc<Pin> {
    Pins::default().pin(path)
}
