//! Who may have written over a worker's blocks in later stages of the run that is judged.

use crate::base::verify::{Policy, RunId};
use crate::engine::TargetFacts;
use crate::reactor::{LaterWorker, LaterWriter};
use crate::verify::judge::{Judge, TargetIdentity};
use crate::verify::snapshot::{JobState, RegionState, WorkerState};
use crate::workload::{Region, WorkloadSpec};

use super::super::plan::{self, JobPlan, LaterJob};
use super::super::{RunError, judged, premises};
use super::{promises_of, sealer, was_volatile};

/// All that may have written to the regions of `workload`, whose blocks are of run `run`.
pub(super) fn writers(
    plan: &JobPlan,
    facts: &[TargetFacts],
    workload: &WorkloadSpec,
    run: RunId,
) -> Result<Vec<LaterWriter>, RunError> {
    let mut writers = Vec::new();
    for later in plan.later.iter() {
        match later {
            LaterJob::Unverified(range) => {
                let own =
                    facts.iter().zip(0_u16..).filter(|(fact, _)| judged::identity_of(fact) == range.identity);
                let regions =
                    own.map(|(_, target)| Region { target, start: range.start, bytes: range.bytes });
                writers
                    .extend(regions.filter(|region| overlaps(workload, region)).map(LaterWriter::Unverified));
            }
            LaterJob::Verified(theirs, state) => {
                for (worker, clone) in state.workers.iter().zip(0..) {
                    let targets = shared_targets(facts, state);
                    if touches(workload, worker, &targets) {
                        let worker = later_worker(theirs, state, (clone, worker), targets, run)?;
                        writers.push(LaterWriter::Worker(Box::new(worker)));
                    }
                }
            }
        }
    }
    Ok(writers)
}

fn later_worker(
    plan: &JobPlan,
    state: &JobState,
    (clone, worker): (u32, &WorkerState),
    targets: Vec<(u16, u16)>,
    run: RunId,
) -> Result<LaterWorker, RunError> {
    let region =
        |region: &RegionState| Region { target: region.target, start: region.start, bytes: region.bytes };
    let regions = worker.regions.iter().map(region).collect();
    let identities = state.targets.iter().map(|target| TargetIdentity {
        id: target.identity,
        lba_bytes: target.lba_bytes,
        atomic: target.premises.atomic,
        longest_write: plan.largest_io(),
    });
    // As in the judging of the job itself.
    let are_durable = state.writes_are_durable && premises::trouble_of(state).is_none();
    let fsynced = match plan.spec.verify.policy {
        Policy::Completed => false,
        Policy::Fsynced => true,
        Policy::Auto => plan.judged.is_some() && was_volatile(state),
    };
    let knows_run = plan.judged.is_some() || plan.judged_run.get().is_some();
    Ok(LaterWorker {
        name: format!("{}.{clone}", plan.spec.name),
        workload: plan::workload(plan, clone, regions),
        promises: promises_of(state, worker),
        fsynced,
        writes_are_durable: are_durable,
        judge: Judge::new(sealer(plan, clone, run)?, identities.collect(), knows_run),
        targets,
    })
}

/// Targets of both: the judged job's number, and the later one's.
fn shared_targets(facts: &[TargetFacts], state: &JobState) -> Vec<(u16, u16)> {
    let theirs = || state.targets.iter().map(|target| target.identity).zip(0_u16..);
    let own = facts.iter().map(judged::identity_of).zip(0_u16..);
    own.flat_map(|(identity, own)| {
        theirs().filter(move |(other, _)| *other == identity).map(move |(_, their)| (own, their))
    })
    .collect()
}

/// Whether the worker owned bytes of the judged one's regions.
fn touches(workload: &WorkloadSpec, worker: &WorkerState, targets: &[(u16, u16)]) -> bool {
    worker.regions.iter().any(|region| {
        let own = targets.iter().filter(|(_, their)| *their == region.target);
        own.map(|&(target, _)| Region { target, start: region.start, bytes: region.bytes })
            .any(|region| overlaps(workload, &region))
    })
}

fn overlaps(workload: &WorkloadSpec, region: &Region) -> bool {
    workload.regions.iter().any(|own| {
        own.target == region.target
            && own.start < region.start.saturating_add(region.bytes)
            && region.start < own.start.saturating_add(own.bytes)
    })
}
