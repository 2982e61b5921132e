//! What the targets' devices say of themselves, before the work and after it.

use crate::base::clock::Clock;
use crate::base::host::{DeviceSummary, Sysfs, block, nvme_admin};
use crate::base::nvme::DeviceFacts;
use crate::report::TargetReport;

use super::open_job::OpenJob;
use super::outcome::Outcome;
use super::plan::JobPlan;

/// Puts the targets of an open job into the report, with what there is to know of them. What cannot
/// be learnt is a note, never a failure.
pub fn describe(uses_files: bool, opened: &dyn OpenJob, outcome: &mut Outcome) {
    let mut told = opened.device_facts();
    told.resize(opened.facts().len(), None);
    for (fact, told) in opened.facts().iter().zip(told) {
        let path = fact.path.display().to_string();
        if outcome.targets.iter().any(|target| target.path == path) || !uses_files && told.is_none() {
            continue;
        }
        let mut device: Option<DeviceSummary> = None;
        let mut nvme = told;
        if uses_files {
            let sysfs = Sysfs::default();
            let found = block::lookup(&sysfs, fact.place()).ok().flatten();
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
        outcome.targets.push(TargetReport {
            path,
            size_bytes: fact.size_bytes,
            device,
            nvme,
            premises: None,
        });
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
            None => nvme_admin::Namespace::at(&sysfs, fact.place())
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

/// From here on what the kernel counts of the devices below the targets belongs to the run.
pub fn watch_disks(plans: &[JobPlan], outcome: &mut Outcome) {
    let now_ns = Clock::get().now_ns();
    let asked = plans.iter().filter(|plan| plan.spec.measuring.disk_util && plan.uses_files());
    asked.flat_map(|plan| plan.pins.iter()).for_each(|pin| outcome.disks.begin(&pin.place(), now_ns));
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;
    use crate::base::nvme::Smart;
    use crate::base::premises::Premises;
    use crate::base::verify::RunId;
    use crate::engine::{EngineError, TargetFacts};
    use crate::reactor::Turning;
    use crate::run::open_job::{Reader, WorkerRequest};
    use crate::run::{RunOptions, verification};

    /// An engine that knows its two targets, the second without an answer; every look is worth a unit.
    struct Own(Vec<TargetFacts>, Mutex<u128>);

    impl OpenJob for Own {
        fn facts(&self) -> &[TargetFacts] {
            &self.0
        }

        fn device_facts(&self) -> Vec<Option<DeviceFacts>> {
            let mut looks = self.1.lock().unwrap();
            *looks += 1;
            let smart_before = Some(Smart { data_units_written: *looks, ..Smart::default() });
            vec![Some(DeviceFacts { smart_before, ..DeviceFacts::default() })]
        }

        fn is_blocking(&self) -> bool {
            false
        }

        fn invalidate(&self) -> Result<(), EngineError> {
            Ok(())
        }

        fn drop_cached(&self) -> Result<(), EngineError> {
            Ok(())
        }

        fn reader(&self) -> Result<Box<dyn Reader>, EngineError> {
            Err(EngineError { message: "this one only talks".to_owned(), errno: None, is_unsafe: false })
        }

        fn premises(&self, _: Duration) -> Vec<Option<Premises>> {
            Vec::new()
        }

        fn take_notes(&self) -> Vec<String> {
            Vec::new()
        }

        fn worker(&self, _: WorkerRequest) -> Result<(Box<dyn Turning>, Vec<String>), String> {
            Err("this one only talks".to_owned())
        }
    }

    fn target(path: &str) -> TargetFacts {
        TargetFacts {
            path: path.into(),
            size_bytes: 4096,
            lba_bytes: 512,
            is_block_device: false,
            premises: Premises::default(),
            known: None,
            pin: None,
        }
    }

    #[test]
    fn an_engine_with_a_channel_of_its_own_is_asked_before_and_after_every_stage() {
        let verdicts = verification::Verdicts::open(&RunOptions::default()).unwrap();
        let mut outcome = Outcome::new(0, &[], verdicts, RunId::default());
        let own = Own(vec![target("0000:01:00.0"), target("0000:02:00.0")], Mutex::new(0));
        describe(false, &own, &mut outcome);
        assert_eq!(outcome.targets.len(), 1, "of the other there is nothing to say");
        assert_eq!(outcome.targets[0].nvme.as_ref().unwrap().smart_difference(), None);
        for looks in [1, 3] {
            look_again(&own, &mut outcome);
            let facts = outcome.targets[0].nvme.as_ref().unwrap();
            assert_eq!(facts.smart_difference().unwrap().written_bytes, looks * 512_000);
            describe(false, &own, &mut outcome);
        }
        assert_eq!((outcome.targets.len(), outcome.notes.len()), (1, 0));
    }
}
