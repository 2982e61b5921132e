//! One stage: lays out, opens, starts the workers, each when it may, watches them, takes their results.

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
use crate::stats::WorkerStats;
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
    Observer, Progress, Requests, RunError, RunOptions, around, devices, files, layout, pace, recording,
    replay, starting, steady_state, verification,
};

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

/// What a thread says.
pub enum Message {
    /// Its workers are made, or could not be.
    Ready(Result<Vec<String>, (usize, String)>),
    /// It has ended.
    Ended(Box<Ended>),
}

pub struct Ended {
    pub thread: usize,
    outcomes: Vec<WorkerOutcome>,
    used: ThreadUse,
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
    leftovers.remove(plans, result.is_ok(), requests, outcome);
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
    let mut kept = StageState::default();
    let mut seats = Vec::new();
    let mut at_work = Vec::new();
    let mut makers: Vec<Option<(Arc<dyn OpenJob>, WorkerRequest)>> = Vec::new();
    let mut watched = Vec::new();
    let mut flows = pace::Flows::default();
    let mut lives = Lives::new();
    let mut logs = StageLogs::default();
    for (job, plan) in plans.iter().enumerate() {
        let (opened, regions) = prepare(plan, options.readonly, outcome, requests, observer)?;
        if plan.spec.create_only {
            continue;
        }
        at_work.push((job, Arc::clone(&opened)));
        let cpus = plan::cpus(plan)?;
        logs.add_job(plan);
        for (clone, regions) in (0..plan.spec.numjobs).zip(regions) {
            let (tap, handle) = tap();
            let live = lives.make(plan);
            let workload = plan::workload(plan, clone, regions);
            let (finder, found) = verification::channel();
            let run_id = outcome.run_id;
            let (recorder, recording) = recording::begin(plan, clone)?.unzip();
            let verify = verification::parts(plan, clone, &*opened, &workload, run_id, &finder)?;
            kept.add(plan, clone, opened.facts(), &workload, verify.as_ref(), &live);
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
            seats.push(Seat {
                cpus: cpus.clone(),
                chosen: plan.spec.cpus_allowed.is_some() || plan.spec.host.cpu_nodes.is_some(),
                policy: plan.spec.cpus_allowed_policy,
                blocking: opened.is_blocking(),
                settings: plan.spec.host.thread_settings(),
            });
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
            };
            makers.push(Some((Arc::clone(&opened), request)));
        }
    }
    let threads = assign(&seats);
    crowded(&threads, &seats).into_iter().for_each(|note| {
        outcome.note(note);
    });
    let stage = Stage { plans, threads, watched, lives };
    devices::watch_disks(plans, outcome);
    let stuck = stage.run(makers, outcome, (keeper, kept, logs), options, requests, observer);
    outcome.disks.end(Clock::get().now_ns());
    let stuck = stuck?;
    steady_state::note_missed(outcome);
    // Where the power was cut, or a device does not answer, nobody waits for it once more.
    if keeper.as_ref().is_some_and(|keeper| keeper.fired.is_none()) && !requests.abandon() {
        let answering = at_work.iter().filter(|(job, _)| !stuck.contains(job));
        answering.for_each(|(_, opened)| devices::look_again(&**opened, outcome));
        let synced = plans.iter().filter(|plan| plan.spec.files.end_syncfs && plan.modifies());
        synced.for_each(|plan| files::sync_file_systems(plan, outcome));
    }
    Ok(())
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
    let sizes = plan::sizes_now(plan);
    let clones = 0..spec.numjobs;
    let wanted: Result<Vec<_>, RunError> =
        clones.clone().map(|clone| plan::regions(plan, clone, &sizes, 1)).collect();
    let (wanted, before) = (wanted?.concat(), sizes.clone());
    if plan.uses_files() {
        layout::lay_out(plan, &wanted, readonly || spec.readonly, requests, observer)?;
    }
    around::before(plan, requests, observer)?;
    let mut hints = vec![0; plan.targets.len()];
    for region in &wanted {
        let hint: &mut u64 = &mut hints[usize::from(region.target)];
        *hint = (*hint).max(region.start + region.bytes);
    }
    let opened = starting::open(plan, hints, requests)?;
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
    devices::describe(plan.uses_files(), &*opened, outcome);
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

type Maker = (Arc<dyn OpenJob>, WorkerRequest);

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
                let why = format!("cannot start a thread: {error}");
                return Err(RunError::environment(&self.plans[0].spec, why));
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

    /// Until all threads have ended, or a second signal says not to wait for them.
    fn watch(
        &self,
        messages: &Receiver<Message>,
        outcome: &mut Outcome,
        keeper: Option<&AtWork>,
        options: &RunOptions,
        requests: &Requests,
        observer: &mut dyn Observer,
    ) {
        let clock = Clock::get();
        let interval_ns = options.status_interval.map(nanoseconds);
        let begun_ns = clock.now_ns();
        let mut sampler = Sampler::new(outcome, begun_ns);
        let tick = sampler.tick(TICK);
        let mut meter = Meter { last_ns: begun_ns, ..Meter::default() };
        let mut next_disks_ns = begun_ns + DISKS_NS;
        let progress_ns = options.progress_interval.map_or(PROGRESS_NS, nanoseconds);
        let mut next_progress_ns = begun_ns.saturating_add(progress_ns);
        let mut next_status_ns = interval_ns.map(|ns| begun_ns.saturating_add(ns));
        let mut running = self.threads.len();
        let mut leaves = vec![0; self.watched.len()];
        let mut left_ns = None;
        let mut beats = Heartbeats::new(running, begun_ns);
        let mut status_file = StatusFile::new(self.plans);
        let mut order = Order::new(self.plans, &self.watched, &self.lives, outcome);
        order.tend(self.plans, &self.watched, outcome, observer);
        while running > 0 {
            let message = messages.recv_timeout(steady_state::until(outcome, clock.now_ns(), tick));
            outcome.is_cut = keeper.is_some_and(AtWork::is_pulled);
            match message {
                Ok(Message::Ended(ended)) if !beats.ended(ended.thread) => self.came_late(&ended, outcome),
                Ok(Message::Ended(ended)) => {
                    running -= 1;
                    self.take(*ended, outcome);
                }
                Ok(Message::Ready(_)) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.attend(outcome, &mut leaves);
            let now_ns = clock.now_ns();
            running -= self.leave_stuck(&mut beats, outcome, now_ns);
            order.tend(self.plans, &self.watched, outcome, observer);
            status_file.look(requests, observer);
            steady_state::look(outcome, now_ns);
            if now_ns >= next_disks_ns {
                next_disks_ns = now_ns + DISKS_NS;
                outcome.disks.look(now_ns);
            }
            sampler.sample(outcome, now_ns);
            self.log_all(outcome, now_ns, false);
            if now_ns >= next_progress_ns {
                next_progress_ns = now_ns.saturating_add(progress_ns);
                observer.progress(&self.progress(&mut meter, outcome, now_ns, begun_ns));
            }
            let due = next_status_ns.is_some_and(|due_ns| now_ns >= due_ns);
            if due || requests.take_dump() {
                if due {
                    next_status_ns =
                        next_status_ns.zip(interval_ns).map(|(due_ns, ns)| due_ns.saturating_add(ns));
                }
                observer.so_far(&self.so_far(outcome, now_ns, requests));
            }
            if requests.signal().is_some() {
                self.watched.iter().for_each(|worker| worker.live.request_stop());
            }
            if requests.abandon() {
                let signal = requests.signal().unwrap_or(0);
                self.abandon(outcome, clock.now_ns(), &format!("ended by a second signal {signal}"));
                break;
            }
            if keeper.is_some_and(AtWork::has_fired) {
                let judges = self.still_running().any(|worker| worker.live.state() == WorkerState::Judging);
                if now_ns > *left_ns.get_or_insert(now_ns + LEAVE_NS) && !judges {
                    self.abandon(outcome, now_ns, "the trigger ended the run");
                    break;
                }
            }
        }
        self.attend(outcome, &mut leaves);
        order.end(self.plans, &self.watched, outcome, observer);
        self.log_all(outcome, clock.now_ns(), true);
        outcome.entries.iter_mut().for_each(|entry| entry.live.clear());
    }

    /// The log of all jobs together, if there is one.
    fn log_all(&self, outcome: &mut Outcome, now_ns: u64, ends: bool) {
        if let Some(log) = &mut outcome.logs.aggregate {
            log.look(self.watched.iter().map(|worker| &*worker.live), now_ns, ends);
        }
    }

    /// Serves the workers that verify: takes what they have found, and drops what the kernel has
    /// cached of their targets before they read back, on a thread of its own as that may take long.
    fn attend(&self, outcome: &mut Outcome, leaves: &mut [u64]) {
        for (worker, leave) in self.watched.iter().zip(leaves) {
            let plan = &self.plans[worker.job];
            outcome.verdicts.take(&plan.spec.name, &plan.targets, &worker.found);
            if worker.live.state() != WorkerState::Judging || worker.live.may_judge() {
                continue;
            }
            let now_ns = Clock::get().now_ns();
            if *leave > 0 {
                // A device that hangs here hangs when it is read too, and is given up there.
                if now_ns - *leave > plan.spec.reap_timeout_ns.max(LEAST_DROP_NS) {
                    worker.live.allow_judging();
                    let what = "what is cached of its targets could not be dropped within reap_timeout";
                    outcome.note(format!("{}: {what}, and may be what is judged", worker.name));
                }
                continue;
            }
            *leave = now_ns;
            let (opened, live) = (Arc::clone(&worker.opened), Arc::clone(&worker.live));
            std::thread::spawn(move || {
                // What cannot be dropped is read from the cache: less of a test, and no error.
                let _ = opened.drop_cached();
                live.allow_judging();
            });
        }
    }

    /// What engines have to tell of their targets, once a job.
    fn note_what_happened(&self, outcome: &mut Outcome) {
        for (job, plan) in self.plans.iter().enumerate() {
            let Some(worker) = self.watched.iter().find(|worker| worker.job == job) else { continue };
            for note in worker.opened.take_notes() {
                outcome.note(format!("job `{}`: {note}", plan.spec.name));
            }
        }
    }

    /// Adds what one thread has done.
    fn take(&self, ended: Ended, outcome: &mut Outcome) {
        let thread = &self.threads[ended.thread];
        let share = thread.workers.len().max(1) as u64;
        let (mut busy, mut idle, mut late) = (0, 0, Vec::new());
        for (&worker, result) in thread.workers.iter().zip(ended.outcomes) {
            let Watched { name, entry, .. } = &self.watched[worker];
            busy += result.stats.busy_turns;
            idle += result.stats.idle_turns;
            let entry = &mut outcome.entries[*entry];
            entry.stats.merge(&result.stats);
            if let Some(tally) = &result.verify {
                entry.verify.get_or_insert_default().merge(tally);
            }
            let cpu = &mut entry.cpu;
            cpu.user_ns += ended.used.user_ns / share;
            cpu.system_ns += ended.used.system_ns / share;
            cpu.elapsed_ns += result.stats.runtime_ns() + result.verify.as_ref().map_or(0, |v| v.read_ns);
            cpu.context_switches += ended.used.context_switches / share;
            cpu.major_faults += ended.used.major_faults / share;
            cpu.minor_faults += ended.used.minor_faults / share;
            cpu.waiting_ns += ended.used.waiting_ns / share;
            late.extend(result.replay.and_then(|tally| replay::how_it_kept_time(name, &tally)));
            match result.error {
                // A device that has lost its power is not what failed.
                Some((op, status)) if outcome.is_cut => {
                    late.push(format!("{name}: {} failed after the trigger: {status}", op.name()));
                }
                Some((op, status)) => entry.failed(name, op, status),
                None => {}
            }
            if let Some(missed) = &result.missed {
                entry.missed(name, missed);
            }
            let ramps = entry.spec.ramp_time_ns > 0 || entry.spec.order.ramp_size > 0;
            let begun = self.watched[worker].live.order.begun_ns().is_some();
            if result.stats.total_ios() == 0 && result.error.is_none() && ramps && begun {
                let ramp = if entry.spec.ramp_time_ns > 0 { "ramp_time" } else { "ramp_size" };
                outcome.note(format!("{name}: ended within {ramp}, so nothing was counted"));
            }
        }
        late.into_iter().for_each(|note| {
            outcome.note(note);
        });
        let single = if thread.cpus.len() == 1 { thread.cpus.first().copied() } else { None };
        outcome.reactors.push(ReactorReport {
            cpu: single,
            workers: thread.workers.iter().map(|&worker| self.watched[worker].name.clone()).collect(),
            busy_turns: busy,
            idle_turns: idle,
            cpu_use: CpuUse {
                user_ns: ended.used.user_ns,
                system_ns: ended.used.system_ns,
                elapsed_ns: ended.used.elapsed_ns,
                context_switches: ended.used.context_switches,
                major_faults: ended.used.major_faults,
                minor_faults: ended.used.minor_faults,
                waiting_ns: ended.used.waiting_ns,
            },
        });
    }

    fn still_running(&self) -> impl Iterator<Item = &Watched> {
        self.watched.iter().filter(|worker| !worker.has_ended())
    }

    /// Statistics of the workers that run: all that they count if they answer, and what they have
    /// published where they wait for their device. What a ramp does is no result.
    fn collect(&self, now_ns: u64) -> Vec<(usize, Box<WorkerStats>)> {
        let counts =
            |worker: &&Watched| !matches!(worker.live.state(), WorkerState::Waiting | WorkerState::Ramping);
        let counting = self.still_running().filter(counts);
        let asked: Vec<&Watched> = counting.collect();
        asked.iter().for_each(|worker| worker.tap.ask());
        let clock = Clock::get();
        let until_ns = clock.now_ns() + TAP_TIMEOUT_NS;
        let answers = asked.iter().map(|worker| {
            let left = Duration::from_nanos(until_ns.saturating_sub(clock.now_ns()));
            let mut stats = worker.tap.answer(left).unwrap_or_else(|| published(&worker.live));
            stats.end_ns = now_ns;
            (worker.entry, stats)
        });
        answers.collect()
    }

    fn so_far(&self, outcome: &Outcome, now_ns: u64, requests: &Requests) -> crate::report::Report {
        outcome.report_with(&self.collect(now_ns), requests.signal())
    }

    /// The user will not wait: what the workers can still say is taken, and their threads stay
    /// behind with the device that does not answer.
    fn abandon(&self, outcome: &mut Outcome, now_ns: u64, why: &str) {
        let stats = self.collect(now_ns);
        let stuck: Vec<String> = self.still_running().map(|worker| worker.name.clone()).collect();
        outcome
            .note(format!("{why} while these workers still waited for their device: {}", stuck.join(", ")));
        for (entry, stats) in stats {
            outcome.entries[entry].stats.merge(&stats);
        }
    }

    fn progress(&self, meter: &mut Meter, outcome: &Outcome, now_ns: u64, begun_ns: u64) -> Progress {
        let total = |read: fn(&Live, Op) -> u64| -> PerOp<u64> {
            PerOp::from_fn(|op| self.watched.iter().map(|worker| read(&worker.live, op)).sum())
        };
        let ios = total(|live, op| live.ios.get(op).load(Relaxed));
        let bytes = total(|live, op| live.bytes.get(op).load(Relaxed));
        let running: Vec<&Watched> = self.still_running().collect();
        let seconds = now_ns.saturating_sub(meter.last_ns).max(1) as f64 / SECOND_NS as f64;
        let rate = |now: &PerOp<u64>, before: &PerOp<u64>| {
            PerOp::from_fn(|op| now.get(op).saturating_sub(*before.get(op)) as f64 / seconds)
        };
        let (iops, bandwidth) = (rate(&ios, &meter.ios), rate(&bytes, &meter.bytes));
        let elapsed_ns = now_ns.saturating_sub(begun_ns) as f64;
        let own_ns = |worker: &Watched| {
            worker.live.order.begun_ns().map_or(0, |own_ns| now_ns.saturating_sub(own_ns)) as f64
        };
        // Each worker ends by time or by amount, whichever is further along.
        let fraction = |worker: &Watched| -> Option<f64> {
            let moved: u64 = worker.live.bytes.iter().map(|(_, b)| b.load(Relaxed)).sum();
            let by_time = worker.runtime_ns.map(|ns| own_ns(worker) / ns.max(1) as f64);
            let by_amount = worker.bytes.map(|bytes| moved as f64 / bytes.max(1) as f64);
            match (by_time, by_amount) {
                (Some(time), Some(amount)) => Some(time.max(amount)),
                (one, other) => one.or(other),
            }
        };
        let slowest = running.iter().map(|worker| fraction(worker)).collect::<Option<Vec<f64>>>();
        let fraction_done = slowest.map(|all| all.into_iter().fold(1.0, f64::min));
        let eta_s = fraction_done
            .filter(|&done| done > 0.0)
            .map(|done| (elapsed_ns * (1.0 - done) / done / SECOND_NS as f64).ceil() as u64);
        let p99 = running.iter().map(|worker| worker.live.p99_ns.load(Relaxed));
        *meter = Meter { last_ns: now_ns, ios, bytes };
        Progress {
            workers_running: u32::try_from(running.len()).unwrap_or(u32::MAX),
            workers_total: outcome.workers_total,
            fraction_done,
            eta_s,
            iops,
            bandwidth,
            p99_ns: p99.max().unwrap_or(0),
            errors: self.watched.iter().map(|worker| worker.live.errors.load(Relaxed)).sum(),
            ramping: running.iter().all(|worker| worker.live.state() == WorkerState::Ramping),
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

pub fn thread_name(thread: &Thread, watched: &[Watched]) -> String {
    if let Some(name) = &thread.settings.name {
        return name.clone();
    }
    match (thread.cpus.as_slice(), thread.workers.as_slice()) {
        ([cpu], [_, _, ..]) => format!("reactor-{cpu}"),
        (_, [worker, ..]) => watched[*worker].name.clone(),
        _ => "reactor".to_owned(),
    }
}

/// The life of a thread: bind, make the workers, wait for the start, drive, report.
fn reactor_thread(
    number: usize,
    place: &Thread,
    makers: Vec<(usize, Maker)>,
    started: &Receiver<()>,
    messages: &Sender<Message>,
) {
    let first = makers.first().map_or(0, |(worker, _)| *worker);
    // Before buffers and queues are made: they follow what the thread has.
    let bound = bind(&place.cpus).and_then(|()| place.settings.apply(&Sysfs::default()));
    let made = bound.map_err(|why| (first, why)).and_then(|()| make_workers(makers));
    let (workers, notes) = match made {
        Ok(made) => made,
        Err(failure) => {
            let _ = messages.send(Message::Ready(Err(failure)));
            return;
        }
    };
    if messages.send(Message::Ready(Ok(notes))).is_err() || started.recv().is_err() {
        return;
    }
    let clock = Clock::get();
    let (before, begun_ns) = (ThreadUse::now(), clock.now_ns());
    let outcomes = drive(workers, std::thread::sleep);
    let mut used = ThreadUse::now().since(&before);
    used.elapsed_ns = clock.now_ns() - begun_ns;
    let _ = messages.send(Message::Ended(Box::new(Ended { thread: number, outcomes, used })));
}

fn bind(cpus: &[u32]) -> Result<(), String> {
    if cpus.is_empty() { Ok(()) } else { affinity::bind(cpus) }
}

type Made = (Vec<Box<dyn crate::reactor::Turning>>, Vec<String>);

fn make_workers(makers: Vec<(usize, Maker)>) -> Result<Made, (usize, String)> {
    let mut workers = Vec::with_capacity(makers.len());
    let mut notes = Vec::new();
    for (number, (opened, request)) in makers {
        let memory = u64::from(request.config.depth) * u64::from(request.largest_io);
        let (worker, said) = opened.worker(request).map_err(|why| {
            (
                number,
                if why.contains("memory") {
                    format!("{why} ({} for this worker)", format_size(memory))
                } else {
                    why
                },
            )
        })?;
        workers.push(worker);
        notes.extend(said);
    }
    Ok((workers, notes))
}
