//! With `verify_only`: which run is judged. One for all jobs and workers, found before any of them begins:
//! if each chose by itself, half of a run that was lost as a whole would pass as an intact older one.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use crate::base::Op;
use crate::base::verify::RunId;
use crate::verify::judge::{Judge, Place};
use crate::verify::promises::Promises;
use crate::verify::snapshot::{JobState, WorkerState};
use crate::workload::{History, Issued, Mutations, Region, WorkloadSpec};

use super::open_job::OpenJob;
use super::plan::{self, JobPlan, LaterJob};
use super::{Requests, RunError, judged, starting, verification};

/// Blocks that are read of each worker, spread over its region, and as many of its first writes; fewer where
/// there are many workers.
const MOST_SAMPLES: u64 = 128;
const LEAST_SAMPLES: u64 = 16;
/// And of all workers together, about.
const ALL_SAMPLES: u64 = 8192;
/// What a history may do at once.
const BUDGET: u64 = 1 << 16;

/// What samples have shown.
#[derive(Clone, Debug, Default)]
struct Seen {
    samples: u64,
    /// Runs, with the time of their newest block in nanoseconds since 1970.
    runs: BTreeMap<RunId, u64>,
    /// Why there are no more samples.
    trouble: Option<String>,
}

/// One worker to sample.
struct Sampled {
    workload: WorkloadSpec,
    judge: Judge,
    issued: Issued,
}

/// Finds the run that is judged, tells the plans, and tells each job which later ones wrote over it. Gives
/// sentences for the report.
///
/// # Errors
/// If a device does not answer in time.
pub fn find(plans: &mut [JobPlan], requests: &Requests) -> Result<Vec<String>, RunError> {
    let is_meant = |plan: &JobPlan| plan.spec.verify.only && plan.judged.is_none() && plan.verifies();
    let workers: u64 =
        plans.iter().filter(|plan| is_meant(plan)).map(|plan| u64::from(plan.spec.numjobs)).sum();
    if workers == 0 {
        return Ok(Vec::new());
    }
    let run: Arc<OnceLock<RunId>> = Arc::default();
    let each = (ALL_SAMPLES / workers).clamp(LEAST_SAMPLES, MOST_SAMPLES);
    let mut seen = Seen::default();
    let mut states: Vec<(JobPlan, JobState)> = Vec::new();
    let (mut tags, mut notes) = (false, Vec::new());
    for plan in plans.iter_mut().filter(|plan| is_meant(plan)) {
        plan.judged_run = Arc::clone(&run);
        let Some(opened) = open(plan, requests) else { continue };
        let Some((state, sampled)) = promised(plan, &*opened)? else { continue };
        states.push((plan.clone(), state));
        let with_tags: Vec<Sampled> =
            sampled.into_iter().filter(|sampled| sampled.judge.format().has_tag()).collect();
        if with_tags.is_empty() {
            continue;
        }
        tags = true;
        let read = move || sample(&*opened, &with_tags, each);
        let of_job = if plan.uses_files() {
            let late = |late: starting::Late| {
                RunError::environment(&plan.spec, late.say("looking for the newest run"))
            };
            starting::within(plan.spec.order.start_timeout_ns, requests, read).map_err(late)?
        } else {
            read()
        };
        seen.samples += of_job.samples;
        for (run, time) in of_job.runs {
            let newest = seen.runs.entry(run).or_default();
            *newest = (*newest).max(time);
        }
        if let Some(why) = of_job.trouble {
            notes.push(format!("job `{}`: looking for the newest run: {why}", plan.spec.name));
        }
    }
    match seen.runs.iter().max_by_key(|(run, time)| (**time, **run)) {
        Some((newest, _)) => {
            let others = seen.runs.len() - 1;
            let beside = if others > 0 { format!(", the newest of {}", others + 1) } else { String::new() };
            notes.push(format!(
                "run {newest} is judged{beside}, as {} blocks of all workers show that were looked at",
                seen.samples
            ));
            let _ = run.set(*newest);
        }
        None if tags => notes.push(format!(
            "which run is judged is not known: none of {} blocks that were looked at is of these jobs",
            seen.samples
        )),
        None => {}
    }
    tell_later(plans, &states);
    Ok(notes)
}

/// Opens the targets of a job, to look. What is wrong with them is told when the job begins.
fn open(plan: &JobPlan, requests: &Requests) -> Option<Arc<dyn OpenJob>> {
    let sizes = plan::sizes_now(plan);
    let mut hints = vec![0; plan.targets.len()];
    for clone in 0..plan.spec.numjobs {
        for region in plan::regions(plan, clone, &sizes, 1).ok()? {
            let hint: &mut u64 = &mut hints[usize::from(region.target)];
            *hint = (*hint).max(region.start + region.bytes);
        }
    }
    starting::open(plan, hints, requests).ok()
}

/// What the job promised, if it came to its end, and what it takes to look at its blocks. `None` if that
/// cannot be said; then it is refused when it begins.
fn promised(plan: &JobPlan, opened: &dyn OpenJob) -> Result<Option<(JobState, Vec<Sampled>)>, RunError> {
    let facts = opened.facts();
    let sizes = plan::sizes_now(plan);
    let sizes = if plan.uses_files() || plan.uses_namespaces() { plan::known_sizes(facts) } else { sizes };
    let lba = plan::granularity(facts);
    let mut state = judged::job_state(plan, facts);
    let mut sampled = Vec::new();
    for clone in 0..plan.spec.numjobs {
        let Ok(regions) = plan::regions(plan, clone, &sizes, lba) else { return Ok(None) };
        let workload = plan::workload(plan, clone, regions);
        let Ok(Some(issued)) = Issued::at_end(&workload) else { return Ok(None) };
        // The run is not known, and no block is judged by it.
        let sealer = verification::sealer(plan, clone, RunId(0))?;
        let judge = verification::judge(plan, sealer.clone(), facts, false);
        state.workers.push(WorkerState {
            number: sealer.worker,
            regions: judged::regions(&workload.regions),
            promises: Promises::finished(issued.writes, issued.trims),
        });
        sampled.push(Sampled { workload, judge, issued });
    }
    Ok(Some((state, sampled)))
}

/// Looks at blocks of all workers.
fn sample(opened: &dyn OpenJob, workers: &[Sampled], each: u64) -> Seen {
    let mut seen = Seen::default();
    let mut reader = match opened.reader() {
        Ok(reader) => reader,
        Err(error) => {
            seen.trouble = Some(error.to_string());
            return seen;
        }
    };
    for worker in workers {
        let format = worker.judge.format();
        let mut block = vec![0; format.interval as usize];
        for place in places(worker, each) {
            match reader.read_at(place.target, place.offset, &mut block) {
                Ok(len) if len == block.len() => {
                    seen.samples += 1;
                    format.unswap_front(&mut block);
                    if let Some((run, time)) = worker.judge.run_of(&block, place) {
                        let newest = seen.runs.entry(run).or_default();
                        *newest = (*newest).max(time);
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    // One that does not answer would be waited for again and again.
                    seen.trouble = Some(format!("reading at {} failed: {error}", place.offset));
                    return seen;
                }
            }
        }
    }
    seen
}

/// Which blocks of a worker are looked at: some of its first writes, and some spread over its region.
fn places(worker: &Sampled, each: u64) -> Vec<Place> {
    let Sampled { workload, judge, issued } = worker;
    let interval = judge.format().interval;
    let mut places = Vec::new();
    if workload.log.is_none()
        && let Ok(mutations) = Mutations::new(workload, *issued)
    {
        let writes = mutations.filter(|step| step.op == Op::Write);
        let first = writes.take(usize::try_from(each).unwrap_or(usize::MAX));
        places.extend(first.map(|step| Place { target: step.target, offset: step.offset }));
    }
    // Where a history takes memory and time, any block of the region will do.
    let mut history = History::new(workload, *issued, interval, &[])
        .ok()
        .filter(|_| History::bytes_needed(workload, interval) == 0);
    if let Some(history) = &mut history {
        while !history.prepare(BUDGET) {}
    }
    let bytes: u64 = workload.regions.iter().map(|region| region.bytes).sum();
    let step = (bytes / each.max(1)).max(u64::from(interval));
    for &Region { target, start, bytes } in &workload.regions {
        // From the middle of each part on.
        let mut at = (step / 2).min(bytes.saturating_sub(1)) / u64::from(interval) * u64::from(interval);
        while at + u64::from(interval) <= bytes {
            let offset = start + at;
            let until = (offset + step).min(start + bytes);
            let found = match &mut history {
                Some(history) => history.next_touched(target, offset, until).map(|touched| touched.offset),
                None => Some(offset),
            };
            places.extend(found.map(|offset| Place { target, offset }));
            at = (at + step) / u64::from(interval) * u64::from(interval);
        }
    }
    places
}

/// Tells each job which of the others wrote in a later stage.
fn tell_later(plans: &mut [JobPlan], states: &[(JobPlan, JobState)]) {
    for plan in plans.iter_mut().filter(|plan| plan.spec.verify.only && plan.judged.is_none()) {
        let later = states.iter().filter(|(_, state)| state.stage > plan.stage);
        let jobs =
            later.map(|(plan, state)| LaterJob::Verified(Box::new(plan.clone()), Box::new(state.clone())));
        plan.later = jobs.collect();
    }
}
