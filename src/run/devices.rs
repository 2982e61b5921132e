//! What the targets' devices say of themselves, before the work and after it.

use crate::base::host::{DeviceSummary, Sysfs, block, nvme_admin};
use crate::base::nvme::DeviceFacts;
use crate::report::TargetReport;

use super::open_job::OpenJob;
use super::outcome::Outcome;
use super::plan::JobPlan;

/// Puts the targets of an open job into the report, with what there is to know of them. What cannot
/// be learnt is a note, never a failure.
pub fn describe(plan: &JobPlan, opened: &dyn OpenJob, outcome: &mut Outcome) {
    let mut told = opened.device_facts();
    told.resize(opened.facts().len(), None);
    for (fact, told) in opened.facts().iter().zip(told) {
        let path = fact.path.display().to_string();
        if outcome.targets.iter().any(|target| target.path == path) || !plan.uses_files() && told.is_none() {
            continue;
        }
        let mut device: Option<DeviceSummary> = None;
        let mut nvme = told;
        if plan.uses_files() {
            let sysfs = Sysfs::default();
            let found = block::lookup(&sysfs, &fact.path).ok().flatten();
            let namespace = found.as_ref().and_then(|found| nvme_admin::Namespace::of(&sysfs, found));
            device = found.map(|found| found.summary());
            if let Some(namespace) = namespace.filter(|_| nvme.is_none()) {
                match nvme_admin::facts(&sysfs, &namespace) {
                    Ok(facts) => nvme = Some(facts),
                    Err(why) => {
                        outcome.note(format!("what the device says of itself is left out: {why}"));
                    }
                }
            }
        }
        outcome.targets.push(TargetReport { path, size_bytes: fact.size_bytes, device, nvme });
    }
}

/// Asks again those that have answered before, now that the work is done.
pub fn look_again(opened: &dyn OpenJob, outcome: &mut Outcome) {
    let mut told = opened.device_facts();
    told.resize(opened.facts().len(), None);
    let sysfs = Sysfs::default();
    for (fact, told) in opened.facts().iter().zip(told) {
        let path = fact.path.display().to_string();
        let Some(at) = outcome.targets.iter().position(|target| target.path == path) else { continue };
        let Some(before) = outcome.targets[at].nvme.take() else { continue };
        let answer: Result<DeviceFacts, String> = match told {
            Some(facts) => Ok(facts),
            None => nvme_admin::Namespace::at(&sysfs, &fact.path)
                .ok_or_else(|| format!("{path}: it is not there any more"))
                .and_then(|namespace| nvme_admin::facts(&sysfs, &namespace)),
        };
        outcome.targets[at].nvme = Some(match answer {
            Ok(after) => before.followed_by(after),
            Err(why) => {
                outcome.note(format!("how the device is after the run is left out: {why}"));
                before
            }
        });
    }
}
