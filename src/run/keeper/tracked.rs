//! The workers of a stage whose promises a snapshot stores.

use std::path::PathBuf;
use std::sync::Arc;

use crate::reactor::{Live, VerifyParts};
use crate::verify::board::Board;
use crate::verify::promises::Promises;
use crate::verify::snapshot::{JobState, WorkerState, WrittenRange};
use crate::workload::{Region, WorkloadSpec};

use super::super::judged;
use super::super::open_job::OpenJob;
use super::super::plan::JobPlan;
use super::super::premises::Watch;

/// A worker whose promises are kept.
pub struct Tracked {
    /// Which job of the stage.
    pub job: usize,
    /// Its name, for people.
    pub name: String,
    /// What a snapshot says of it, but for its promises.
    pub state: WorkerState,
    /// Its ledger.
    pub board: Arc<Board>,
    /// What it is doing.
    pub live: Arc<Live>,
}

/// What a stage has that can be cut.
#[derive(Default)]
pub struct StageState {
    /// The jobs that write and verify, without workers.
    pub jobs: Vec<JobState>,
    /// Their workers.
    pub kept: Vec<Tracked>,
    /// All workers of the stage, verifying or not.
    pub lives: Vec<Arc<Live>>,
    /// Simulated drives, whose power a trigger cuts.
    pub simulated: Vec<PathBuf>,
    /// What verdicts rest on, of those jobs.
    pub premises: Vec<Watch>,
    /// What jobs that do not verify may write.
    pub unverified: Vec<WrittenRange>,
}

impl StageState {
    /// Adds one worker.
    pub fn add(
        &mut self,
        plan: &JobPlan,
        clone: u32,
        opened: &Arc<dyn OpenJob>,
        workload: &WorkloadSpec,
        verify: Option<&VerifyParts>,
        live: &Arc<Live>,
    ) {
        let facts = opened.facts();
        self.lives.push(Arc::clone(live));
        if plan.spec.ioengine == "sim" && clone == 0 {
            self.simulated.extend(plan.targets.iter().cloned());
        }
        if plan.modifies() && !plan.verifies() {
            let range = |region: &Region| WrittenRange {
                identity: judged::identity_of(&facts[usize::from(region.target)]),
                stage: plan.stage,
                start: region.start,
                bytes: region.bytes,
            };
            self.unverified.extend(workload.regions.iter().map(range));
        }
        let Some(parts) = verify.filter(|_| plan.modifies()) else { return };
        if clone == 0 {
            self.jobs.push(judged::job_state(plan, facts));
            self.premises.push(Watch::new(plan, opened));
        }
        self.kept.push(Tracked {
            job: self.jobs.len() - 1,
            name: format!("{}.{clone}", plan.spec.name),
            state: WorkerState {
                number: parts.sealer.worker,
                regions: judged::regions(&workload.regions),
                promises: Promises::default(),
            },
            board: Arc::clone(parts.ledger.board()),
            live: Arc::clone(live),
        });
    }
}
