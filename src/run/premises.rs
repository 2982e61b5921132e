//! What verdicts rest on: said before the run, looked at again while it runs and at its end, and stored in
//! snapshots and reports.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::premises::Premises;
use crate::base::verify::Policy;
use crate::engine::TargetFacts;
use crate::report::PremisesReport;
use crate::verify::snapshot::JobState;

use super::Observer;
use super::open_job::OpenJob;
use super::outcome::Outcome;
use super::plan::JobPlan;
use super::verification;

/// How long a device may take to say whether its cache is on, before a snapshot goes without that.
pub const PATIENCE: Duration = Duration::from_millis(300);

/// The premises of verdicts on the targets of one job, as they are known by now.
#[derive(Clone)]
pub struct Watch {
    opened: Arc<dyn OpenJob>,
    known: Arc<Mutex<Vec<Premises>>>,
}

impl Watch {
    /// Of a job that writes and verifies.
    pub fn new(plan: &JobPlan, opened: &Arc<dyn OpenJob>) -> Watch {
        let known = Arc::new(Mutex::new(of(plan, opened.facts())));
        Watch { opened: Arc::clone(opened), known }
    }

    /// What is known by now.
    pub fn known(&self) -> Vec<Premises> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks whether the caches are what they were.
    pub fn look(&self) -> Vec<Premises> {
        let now = self.opened.premises(PATIENCE);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for (then, now) in known.iter_mut().zip(&now) {
            if let Some(now) = now {
                then.compare(now);
            }
        }
        known.clone()
    }
}

/// The premises of what the job writes or judges: what was written earlier is judged by what held then.
pub fn of(plan: &JobPlan, facts: &[TargetFacts]) -> Vec<Premises> {
    if let Some(job) = &plan.judged {
        return job.targets.iter().map(|target| target.premises.clone()).collect();
    }
    let now = facts.iter().enumerate();
    now.map(|(at, fact)| Premises {
        atomic: verification::atomic_writes(plan, at, fact),
        ..fact.premises.clone()
    })
    .collect()
}

/// Why neither flush nor completion promises anything of what an earlier run wrote.
pub fn trouble_of(job: &JobState) -> Option<String> {
    job.targets.iter().find_map(|target| Some(format!("{}: {}", target.path, target.premises.trouble()?)))
}

/// Says before the run what verdicts will rest on, and puts it into the report.
pub fn say(plan: &JobPlan, facts: &[TargetFacts], outcome: &mut Outcome, observer: &mut dyn Observer) {
    if !plan.verifies() {
        return;
    }
    for (fact, premises) in facts.iter().zip(of(plan, facts)) {
        let path = fact.path.display().to_string();
        let target = outcome.target(&path, fact.size_bytes);
        if target.premises.is_none() {
            let report = PremisesReport::of(&premises);
            observer.note(&format!("{path}: premises: {}", report.line()));
            target.premises = Some(report);
        }
        if let Some(why) = premises.trouble().filter(|_| plan.modifies()) {
            let name = &plan.spec.name;
            outcome.note(match plan.spec.verify.policy {
                Policy::Completed => format!(
                    "WARNING: {path}: {why}; verify_policy = \"completed\" of job `{name}` demands all the same what \
                     the drive may not have promised"
                ),
                Policy::Auto | Policy::Fsynced => format!(
                    "WARNING: {path}: {why}: after a loss of power nothing that job `{name}` wrote can be demanded; \
                     write \"write back\" to queue/write_cache, or switch the cache of the drive off"
                ),
            });
        }
    }
}

/// Puts what has changed while the jobs ran into the report.
pub fn report(watches: &[Watch], outcome: &mut Outcome) {
    for watch in watches {
        for (fact, premises) in watch.opened.facts().iter().zip(watch.known()) {
            let path = fact.path.display().to_string();
            if !premises.broken.is_empty() {
                outcome.note(format!("WARNING: {path}: {}", premises.broken));
            }
            outcome.target(&path, fact.size_bytes).premises = Some(PremisesReport::of(&premises));
        }
    }
}
