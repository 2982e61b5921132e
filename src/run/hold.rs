//! What a run asks of the machine and gives back: the control group of the process, I/O schedulers,
//! pinned memory. All that can be found out before anything is written is.

use std::time::Duration;

use crossbeam_channel::bounded;

use crate::base::host::Sysfs;
use crate::base::host::cgroup::Entered;
use crate::base::host::hugepages::hugepages;
use crate::base::host::mapping::{Pinned, most_pinned};
use crate::base::host::scheduler::{self, Queue, Switched};
use crate::base::host::thread_settings::ThreadSettings;
use crate::base::units::format_size;

use super::keeper::Keeper;
use super::outcome::Outcome;
use super::plan::{self, JobPlan};
use super::{Observer, Requests, RunError, RunOptions, around, pinning, stage};

/// How long putting a scheduler back may take: it waits for what is in flight, and a device that answers
/// nothing any more would hold the report up.
const PUT_BACK: Duration = Duration::from_secs(5);

/// Finds, before anything is written, what the machine would refuse later.
pub fn check(plans: &[JobPlan]) -> Result<(), RunError> {
    for plan in plans {
        check_thread(plan)?;
        around::check(plan)?;
    }
    for stage in plan::stages(plans) {
        check_hugepages(stage)?;
        check_pinned(stage)?;
        check_schedulers(stage)?;
    }
    Ok(())
}

/// Tries what the threads of a job are to have on one that does nothing else.
fn check_thread(plan: &JobPlan) -> Result<(), RunError> {
    let settings = plan.spec.host.thread_settings();
    if settings == ThreadSettings::default() {
        return Ok(());
    }
    let tried = std::thread::Builder::new().spawn(move || settings.apply(&Sysfs::default()));
    let no_thread = |why| RunError::environment(&plan.spec, format!("cannot start a thread: {why}"));
    tried.map_err(no_thread)?.join().unwrap_or(Ok(())).map_err(|why| RunError::environment(&plan.spec, why))
}

fn check_hugepages(stage: &[JobPlan]) -> Result<(), RunError> {
    let mut facts = None;
    let mut taken: Vec<(u64, u64)> = Vec::new();
    for plan in stage.iter().filter(|plan| plan.spec.host.memory.kind.is_huge()) {
        let memory = &plan.spec.host.memory;
        if memory.path.is_some() {
            // The mount has pages and a size of its own: who makes the buffers finds out.
            continue;
        }
        let page = memory.page_bytes() as u64;
        let depth = if plan.is_blocking() { 1 } else { u64::from(plan.spec.iodepth) };
        let bytes = depth.saturating_mul(u64::from(plan.largest_io()).next_multiple_of(4096));
        let total = usize::try_from(bytes).ok().and_then(|bytes| memory.total(bytes)).unwrap_or(usize::MAX);
        let needed = (total as u64 / page).saturating_mul(u64::from(plan.spec.numjobs));
        let before = taken.iter().filter(|(size, _)| *size == page).map(|(_, pages)| pages).sum::<u64>();
        taken.push((page, needed));
        let facts = facts.get_or_insert_with(|| hugepages(&Sysfs::default()));
        let shown = format_size(page);
        let Some(size) = facts.sizes.iter().find(|size| size.page_bytes == page) else {
            let there: Vec<String> = facts.sizes.iter().map(|size| format_size(size.page_bytes)).collect();
            let there = if there.is_empty() { "none at all".to_owned() } else { there.join(", ") };
            let why = format!("hugepage_size: this machine has no hugepages of {shown}; it has: {there}");
            return Err(RunError::environment(&plan.spec, why));
        };
        let needed = needed.saturating_add(before);
        if needed > size.free {
            let why = format!(
                "the buffers of this and the jobs beside it need {needed} hugepages of {shown}, {} are free: reserve more \
                 (/sys/kernel/mm/hugepages/hugepages-{}kB/nr_hugepages), or lower iodepth, bs or numjobs",
                size.free,
                page / 1024
            );
            return Err(RunError::environment(&plan.spec, why));
        }
    }
    Ok(())
}

fn pinned_bytes(plan: &JobPlan) -> u64 {
    plan.spec.host.lock_bytes.saturating_mul(u64::from(plan.spec.numjobs))
}

fn check_pinned(stage: &[JobPlan]) -> Result<(), RunError> {
    let needed: u64 = stage.iter().map(pinned_bytes).fold(0, u64::saturating_add);
    match (stage.iter().find(|plan| plan.spec.host.lock_bytes > 0), most_pinned()) {
        (Some(plan), Some(most)) if needed > most => Err(RunError::environment(
            &plan.spec,
            format!(
                "lockmem: the jobs that run together pin {}, this process may pin {}: raise `ulimit -l`, or lower it",
                format_size(needed),
                format_size(most)
            ),
        )),
        _ => Ok(()),
    }
}

/// The queues whose schedulers the jobs of a stage switch, with the name of each.
fn schedulers(stage: &[JobPlan]) -> Result<Vec<(&JobPlan, Queue, &str)>, RunError> {
    let mut wanted: Vec<(&JobPlan, Queue, &str)> = Vec::new();
    for plan in stage {
        let Some(name) = &plan.spec.host.io_scheduler else { continue };
        for target in 0..plan.targets.len() {
            let queues = queues_of(plan, target)
                .map_err(|why| RunError::environment(&plan.spec, format!("ioscheduler: {why}")))?;
            for queue in queues {
                match wanted.iter().find(|(_, other, _)| *other == queue) {
                    Some((other, _, another)) if *another != name => {
                        let why = format!(
                            "it and job `{}` run together and want I/O schedulers {name} and {another} for {}",
                            other.spec.name, queue.disk
                        );
                        return Err(RunError::bad_job(&plan.spec, why));
                    }
                    Some(_) => {}
                    None => wanted.push((plan, queue, name)),
                }
            }
        }
    }
    Ok(wanted)
}

/// Switches and puts back: only the kernel knows which schedulers it can load.
fn check_schedulers(stage: &[JobPlan]) -> Result<(), RunError> {
    for (plan, queue, name) in schedulers(stage)? {
        let refused = |why: String| RunError::environment(&plan.spec, format!("ioscheduler: {why}"));
        if let Some(switched) = queue.switch(name).map_err(refused)? {
            switched.put_back().map_err(refused)?;
        }
    }
    Ok(())
}

/// Moves this process into the control group that the jobs name.
pub fn enter_group(plans: &[JobPlan], observer: &mut dyn Observer) -> Result<Option<Entered>, RunError> {
    let spec = &plans[0].spec;
    if spec.host.group.name.is_none() {
        return Ok(None);
    }
    let mut disks = Vec::new();
    if spec.host.group.io_max.is_some() {
        for plan in plans {
            for target in 0..plan.targets.len() {
                let queues = queues_of(plan, target)
                    .map_err(|why| RunError::environment(spec, format!("cgroup_io_max: {why}")))?;
                disks.extend(queues.into_iter().map(|queue| queue.number));
            }
        }
        disks.sort_unstable();
        disks.dedup();
    }
    let entered = Entered::enter(&Sysfs::default(), &spec.host.group, &disks);
    let entered = entered.map_err(|why| RunError::environment(spec, why))?;
    observer.note(&entered.told());
    Ok(Some(entered))
}

/// The queues of the disks below a target.
fn queues_of(plan: &JobPlan, target: usize) -> Result<Vec<Queue>, String> {
    if !plan.uses_files() {
        return scheduler::queues(&Sysfs::default(), &plan.targets[target]);
    }
    let pin = plan.pin(target);
    scheduler::queues_below(&Sysfs::default(), &pin.place(), &pin.path().display())
}

/// What a stage has taken.
#[derive(Default)]
struct Hold {
    switched: Vec<Switched>,
    /// Given back by being dropped.
    _pinned: Vec<Pinned>,
}

impl Hold {
    fn take(stage: &[JobPlan], observer: &mut dyn Observer) -> Result<Hold, RunError> {
        let mut hold = Hold::default();
        for (plan, queue, name) in schedulers(stage)? {
            let switched = queue
                .switch(name)
                .map_err(|why| RunError::environment(&plan.spec, format!("ioscheduler: {why}")))?;
            if let Some(switched) = switched {
                observer.note(&format!(
                    "{}: I/O scheduler {} instead of {} while job `{}` runs",
                    queue.disk, switched.now, switched.before, plan.spec.name
                ));
                hold.switched.push(switched);
            }
        }
        for plan in stage.iter().filter(|plan| plan.spec.host.lock_bytes > 0) {
            let pinned =
                Pinned::new(pinned_bytes(plan)).map_err(|why| RunError::environment(&plan.spec, why))?;
            hold._pinned.push(pinned);
        }
        Ok(hold)
    }

    /// Puts everything back; what could not be is told.
    fn put_back(&mut self) -> Vec<String> {
        let mut troubles = Vec::new();
        for switched in self.switched.drain(..).rev() {
            let (said, heard) = bounded(1);
            let copy = switched.clone();
            // Without a thread nobody says anything, which is told as what it is: not put back.
            let _ = std::thread::Builder::new().spawn(move || {
                let _ = said.send(copy.put_back());
            });
            match heard.recv_timeout(PUT_BACK) {
                Ok(done) => troubles.extend(done.err()),
                Err(_) => troubles.push(format!(
                    "{} does not let its I/O scheduler be put back, as it waits for I/O: echo {} > {}",
                    switched.queue.disk,
                    switched.before,
                    switched.queue.file.display()
                )),
            }
        }
        troubles
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let _ = self.put_back();
    }
}

/// Says that a path does not lead any more to what a job has used.
fn note_replaced(plan: &JobPlan, outcome: &mut Outcome) {
    if let Err(replaced) = pinning::check(plan) {
        outcome.note(format!("while it ran: {replaced}; its numbers are of what it led to first"));
    }
}

/// Runs a stage on a machine as its jobs want it, with their commands afterwards.
pub fn run_stage(
    jobs: &[JobPlan],
    outcome: &mut Outcome,
    keeper: &mut Option<Keeper>,
    options: &RunOptions,
    requests: &Requests,
    observer: &mut dyn Observer,
) -> Result<(), RunError> {
    // Before anything of the disks below is changed.
    jobs.iter().try_for_each(pinning::check)?;
    let mut hold = Hold::take(jobs, observer)?;
    let ended = stage::run(jobs, outcome, keeper, options, requests, observer);
    let troubles = hold.put_back();
    match ended {
        Ok(()) => {
            troubles.into_iter().for_each(|trouble| {
                outcome.note(trouble);
            });
            for plan in jobs {
                note_replaced(plan, outcome);
            }
            let has_fired = keeper.as_ref().is_none_or(|keeper| keeper.fired.is_some());
            for plan in jobs {
                around::after(plan, has_fired, outcome, requests);
            }
            Ok(())
        }
        Err(failure) => {
            let message = std::iter::once(failure.message).chain(troubles).collect::<Vec<_>>().join("; ");
            Err(RunError { message, ..failure })
        }
    }
}
