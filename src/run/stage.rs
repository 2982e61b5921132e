//! One stage: lays out, opens, starts the workers, each when it may, watches them, takes their results.

mod threads;
mod watch;

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};

use crate::base::clock::Clock;
use crate::base::host::thread_use::ThreadUse;
use crate::base::host::{Sysfs, affinity};
use crate::base::units::{SECOND_NS, format_size};
use crate::base::{Op, PerOp};
use crate::engine::Targets;
use crate::reactor::{Found, Live, TapHandle, WorkerOutcome, WorkerState, drive, tap};
use crate::report::{CpuUse, ReactorReport};
use crate::stats::{VerifyTally, WorkerStats};
use crate::verify::flush_credit::{Member, peers};
use crate::workload::Region;

use super::assign::{Seat, Thread, assign, crowded};
use super::keeper::{AtWork, Keeper, StageState};
use super::logs::StageLogs;
use super::open_job::{OpenJob, WorkerRequest};
use super::order::{Lives, Order};
use super::outcome::Outcome;
use super::plan::{self, JobPlan};
use super::recording::Recording;
use super::sampler::{Meter, Sampler};
use super::status_file::StatusFile;
use super::stuck::{Heartbeats, published};
use super::{
    Observer, Progress, Requests, RunError, RunOptions, around, blocks, devices, files, judged, layout, pace,
    pinning, premises, recording, replay, starting, steady_state, verification,
};

pub use threads::{Ended, Message, thread_name};
use threads::{Maker, reactor_thread};

/// How often signals and the end are looked at.
const TICK: Duration = Duration::from_millis(50);
/// How often the kernel's counts of block devices are looked at, before they wrap.
const DISKS_NS: u64 = 500_000_000;
/// How often the observer hears of progress.
const PROGRESS_NS: u64 = 500_000_000;
/// How long workers may take to end when the trigger has fired and its command has run.
const LEAVE_NS: u64 = 1_000_000_000;
/// Dropping what is cached gets as much time at least, whatever `reap_timeout` says.
const LEAST_DROP_NS: u64 = 10 * SECOND_NS;
/// How long the last snapshot may take where a worker is stuck.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the workers may take to hand out their statistics so far.
const TAP_TIMEOUT_NS: u64 = 200_000_000;

/// A worker as the watching thread sees it.
pub struct Watched {
    pub name: String,
    pub entry: usize,
    /// Which job of the stage it belongs to.
    pub job: usize,
    pub opened: Arc<dyn OpenJob>,
    /// Its thread is stuck and was left behind.
    pub lost: Cell<bool>,
    /// Broken promises, as they are found.
    found: Receiver<Found>,
    pub live: Arc<Live>,
    tap: TapHandle,
    /// What it issues is written down there.
    recording: Option<Recording>,
    /// What it is going to do, if that is known: nanoseconds and bytes.
    runtime_ns: Option<u64>,
    bytes: Option<u64>,
}

/// Runs the jobs of one stage to their end, adds the results to `outcome`, and removes the files that
/// are not to stay.
pub fn run(
    plans: &[JobPlan],
    outcome: &mut Outcome,
    keeper: &mut Option<Keeper>,
    options: &RunOptions,
    requests: &Requests,
    observer: &mut dyn Observer,
) -> Result<(), RunError> {
    let leftovers = files::Leftovers::look(plans, outcome);
    let result = run_all(plans, outcome, keeper, options, requests, observer);
    let replaced = leftovers.remove(plans, result.is_ok(), requests, outcome);
    // The stage was done: its results stay.
    outcome.replaced = outcome.replaced.take().or(replaced.filter(|_| result.is_ok()));
    result
}

fn run_all(
    plans: &[JobPlan],
    outcome: &mut Outcome,
    keeper: &mut Option<Keeper>,
    options: &RunOptions,
    requests: &Requests,
    observer: &mut dyn Observer,
) -> Result<(), RunError> {
    let (mut seats, mut at_work, mut watched) = (Vec::new(), Vec::new(), Vec::new());
    let mut makers: Vec<Option<Maker>> = Vec::new();
    let (mut kept, mut flows) = (StageState::default(), pace::Flows::default());
    let (mut lives, mut logs) = (Lives::new(Arc::clone(&outcome.pauses)), StageLogs::default());
    for (job, plan) in plans.iter().enumerate() {
        let (opened, regions) = prepare(plan, options.readonly, outcome, requests, observer)?;
        if plan.spec.create_only {
            continue;
        }
        at_work.push((job, Arc::clone(&opened)));
        let cpus = plan::cpus(plan)?;
        logs.add_job(plan);
        for (clone, regions) in (0..plan.spec.numjobs).zip(regions) {
            let ((tap, handle), live) = (tap(), lives.make(plan));
            let workload = plan::workload(plan, clone, regions);
            let (finder, found) = verification::channel(plan.verifies());
            let (recorder, recording) = recording::begin(plan, clone)?.unzip();
            let verify = verification::parts(plan, clone, &*opened, &workload, outcome.run_id, &finder)?;
            kept.add(plan, clone, &opened, &workload, verify.as_ref(), &live);
            watched.push(Watched {
                name: format!("{}.{clone}", plan.spec.name),
                entry: outcome.entry_for(plan, Arc::clone(&live)),
                job,
                opened: Arc::clone(&opened),
                lost: Cell::new(false),
                found,
                live: Arc::clone(&live),
                recording,
                tap: handle,
                runtime_ns: plan.spec.runtime_ns.map(|ns| ns + plan.spec.ramp_time_ns),
                bytes: expected_bytes(&workload),
            });
            seats.push(seat(plan, &cpus, opened.is_blocking()));
            let config = plan::worker_config(plan, clone, opened.is_blocking());
            let request = WorkerRequest {
                config,
                pace: pace::config(plan, clone, config.depth, &mut flows),
                content: plan::content(&plan.spec, &workload.regions),
                workload,
                largest_io: plan.largest_io(),
                live,
                tap,
                verify,
                log: logs.tap(&outcome.logs, plan, clone),
                priorities: plan.spec.priorities(),
                memory: plan.spec.host.buffer_memory(),
                keeps_time: !plan.spec.replay.rules.no_stall,
                recorder,
                block_bytes: blocks::block_bytes(&plan.spec),
            };
            makers.push(Some((Arc::clone(&opened), request)));
        }
    }
    let threads = assign(&seats);
    if let Some(note) = crowded(&threads, &seats) {
        outcome.note(note);
    }
    let stage = Stage { plans, threads, watched, lives };
    devices::watch_disks(plans, outcome);
    let watches = kept.premises.clone();
    let stuck = stage.run(makers, outcome, (keeper, kept, logs), options, requests, observer);
    outcome.disks.end(Clock::get().now_ns());
    let stuck = stuck?;
    steady_state::note_missed(outcome);
    // Where the power was cut, or a device does not answer, nobody waits for it once more.
    if keeper.as_ref().is_some_and(|keeper| keeper.fired.is_none()) && !requests.abandon() {
        at_work.retain(|(job, _)| !stuck.contains(job));
        look_once_more(plans, &at_work, &watches, outcome);
    }
    premises::report(&watches, outcome);
    Ok(())
}

/// A flush covers what every worker on its targets has completed.
fn cover_each_other(makers: &mut [Option<Maker>]) {
    let mut members = Vec::new();
    let mut ledgers = Vec::new();
    for (opened, request) in makers.iter_mut().flatten() {
        let (first, count) = (request.config.first_target, request.config.targets);
        let own = usize::from(first)..usize::from(first) + usize::from(count);
        let Some(parts) = &mut request.verify else { continue };
        let targets = opened.facts().get(own).unwrap_or_default().iter().map(judged::identity_of).collect();
        members.push(Member { board: Arc::clone(parts.ledger.board()), targets });
        ledgers.push(&mut parts.ledger);
    }
    ledgers.into_iter().zip(peers(&members)).for_each(|(ledger, peers)| ledger.cover(peers));
}

/// What is left to do with targets that answer, when the work on them has ended.
fn look_once_more(
    plans: &[JobPlan],
    answering: &[(usize, Arc<dyn OpenJob>)],
    watches: &[premises::Watch],
    outcome: &mut Outcome,
) {
    watches.iter().for_each(|watch| drop(watch.look()));
    answering.iter().for_each(|(_, opened)| devices::look_again(&**opened, outcome));
    let synced = plans.iter().filter(|plan| plan.spec.files.end_syncfs && plan.modifies());
    synced.for_each(|plan| files::sync_file_systems(plan, outcome));
}

/// Where a worker of the job may run.
fn seat(plan: &JobPlan, cpus: &[u32], blocking: bool) -> Seat {
    Seat {
        cpus: cpus.to_vec(),
        chosen: plan.spec.cpus_allowed.is_some() || plan.spec.host.cpu_nodes.is_some(),
        policy: plan.spec.cpus_allowed_policy,
        blocking,
        settings: plan.spec.host.thread_settings(),
    }
}

/// An open job, and the regions of each clone.
type Prepared = (Arc<dyn OpenJob>, Vec<Vec<Region>>);

/// Lays out and opens one job, and says which bytes each clone owns.
fn prepare(
    plan: &JobPlan,
    readonly: bool,
    outcome: &mut Outcome,
    requests: &Requests,
    observer: &mut dyn Observer,
) -> Result<Prepared, RunError> {
    let spec = &plan.spec;
    pinning::check(plan)?;
    let sizes = plan::sizes_now(plan);
    let clones = 0..spec.numjobs;
    let wanted: Result<Vec<_>, RunError> =
        clones.clone().map(|clone| plan::regions(plan, clone, &sizes, 1)).collect();
    let (wanted, before) = (wanted?.concat(), sizes.clone());
    if plan.uses_files() {
        layout::lay_out(plan, &wanted, readonly || spec.readonly, requests, observer)?;
    }
    around::before(plan, requests, observer)?;
    pinning::check(plan)?;
    let mut hints = vec![0; plan.targets.len()];
    for region in &wanted {
        let hint: &mut u64 = &mut hints[usize::from(region.target)];
        *hint = (*hint).max(region.start + region.bytes);
    }
    // What cannot be opened may have been replaced this moment.
    let opened =
        starting::open(plan, hints, requests).map_err(|error| pinning::check(plan).err().unwrap_or(error))?;
    if spec.files.pre_read {
        files::pre_read(plan, &wanted, requests)?;
    } else if spec.invalidate {
        opened.invalidate().map_err(|error| RunError::environment(spec, error))?;
    }
    let facts = opened.facts();
    // Now that the logical blocks are known, shares of a device are whole ones.
    let sizes: Vec<Option<u64>> =
        if plan.target_kind() == Targets::MadeUp { sizes } else { plan::known_sizes(facts) };
    // What is appended to has been made longer meanwhile.
    let sizes = if spec.files.append { files::ends(&before, facts) } else { sizes };
    let lba = plan::granularity(facts);
    let regions: Result<Vec<_>, RunError> =
        clones.map(|clone| plan::regions(plan, clone, &sizes, lba)).collect();
    let regions = regions?;
    for clone_regions in &regions {
        plan::check_alignment(plan, facts, clone_regions)?;
    }
    layout::note_uncovered_ends(plan, facts, &regions.concat(), outcome);
    if opened.is_blocking() && spec.iodepth > 1 {
        outcome.note(format!(
            "job `{}`: ioengine {} has one I/O in flight whatever iodepth says; use numjobs, or io_uring",
            spec.name, spec.ioengine
        ));
    }
    if let Some(note) = verification::nothing_promised(plan, facts) {
        observer.note(&note);
        outcome.note(note);
    }
    devices::describe(plan.uses_files(), &*opened, outcome);
    premises::say(plan, facts, outcome, observer);
    Ok((opened, regions))
}

/// How many bytes a worker will move, if its workload ends by itself.
fn expected_bytes(workload: &crate::workload::WorkloadSpec) -> Option<u64> {
    let region: u64 = workload.regions.iter().map(|region| region.bytes).sum();
    let twice = if workload.mix == crate::base::shape::Mix::TrimWrite { 2 } else { 1 };
    let spare = workload.places.sprandom.map_or(0.0, |rule| rule.over_provisioning);
    #[expect(clippy::cast_precision_loss, reason = "a share of a device")]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "above 0")]
    let region = region.saturating_add((region as f64 * spare) as u64);
    let passes = workload.limit.passes.map(|passes| region.saturating_mul(passes).saturating_mul(twice));
    workload.log.as_ref().map(|log| log.bytes).or(workload.limit.bytes).or(passes)
}

pub struct Stage<'a> {
    pub plans: &'a [JobPlan],
    pub threads: Vec<Thread>,
    pub watched: Vec<Watched>,
    lives: Lives,
}

impl Stage<'_> {
    fn run(
        self,
        mut makers: Vec<Option<Maker>>,
        outcome: &mut Outcome,
        (keeper, kept, logs): (&mut Option<Keeper>, StageState, StageLogs),
        options: &RunOptions,
        requests: &Requests,
        observer: &mut dyn Observer,
    ) -> Result<Vec<usize>, RunError> {
        cover_each_other(&mut makers);
        let (messages_in, messages) = unbounded();
        let mut starts: Vec<Sender<()>> = Vec::new();
        for (number, thread) in self.threads.iter().enumerate() {
            let own: Vec<(usize, Maker)> =
                thread.workers.iter().filter_map(|&worker| Some((worker, makers[worker].take()?))).collect();
            let (start, started) = bounded(1);
            starts.push(start);
            let messages = messages_in.clone();
            let place = thread.clone();
            std::thread::Builder::new()
                .name(thread_name(thread, &self.watched))
                .spawn(move || reactor_thread(number, &place, own, &started, &messages))
                .map_err(|error| {
                    RunError::environment(&self.plans[0].spec, format!("cannot start a thread: {error}"))
                })?;
        }
        drop(messages_in);
        self.await_ready(&messages, outcome, requests)?;
        let at_work = match keeper.take().map(|keeper| keeper.begin(kept)).transpose() {
            Ok(at_work) => at_work,
            Err(error) => {
                return Err(RunError::environment(&self.plans[0].spec, error));
            }
        };
        let logs = logs.start(&self.threads).map_err(|error| {
            RunError::environment(&self.plans[0].spec, format!("cannot start a thread: {error}"))
        })?;
        for start in starts {
            // A thread that is ready waits for this.
            let _ = start.send(());
        }
        self.watch(&messages, outcome, at_work.as_ref(), options, requests, observer);
        logs.end(outcome, requests);
        self.note_what_happened(outcome);
        let stuck: Vec<usize> =
            self.watched.iter().filter(|worker| worker.lost.get()).map(|worker| worker.job).collect();
        *keeper = match at_work {
            // The snapshot may lie on what hangs.
            Some(at_work) if !stuck.is_empty() => at_work.end_within(SNAPSHOT_TIMEOUT),
            at_work => at_work.and_then(AtWork::end),
        };
        if keeper.is_none() {
            outcome.note("the snapshot could not be stored while a device hangs".to_owned());
        }
        for worker in self.watched {
            if let Some(recording) = worker.recording {
                recording.end(outcome, worker.entry);
            }
        }
        Ok(stuck)
    }
}
