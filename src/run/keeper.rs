//! Keeps snapshots and pulls triggers, on a thread of its own beside the reactors: it reads ledgers
//! from their boards, so that a worker that is stuck in its device holds nothing up.
//!
//! When a trigger fires, in this order: the ledgers are frozen and gathered, the snapshot is on
//! stable storage, the command runs, the run ends. With a courier the storage that counts is the client's:
//! what is stored here meanwhile is the server's own copy.

mod past;
mod tracked;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::base::clock::{Clock, unix_time_ns};
use crate::base::cut::{StateSpec, TriggerMode, TriggerSpec};
use crate::base::random;
use crate::base::verify::RunId;
use crate::reactor::{Live, WorkerState as Doing};
use crate::report::{CommandReport, TriggerReport};
use crate::verify::snapshot::{Cause, JobState, Snapshot, WorkerState};

use super::own_copy::Place;
use super::plan::{self, JobPlan};
use super::state_file::{self, Claim, Overlap, StateFile};
use super::{Courier, Requests, RunError, RunOptions};

use past::Past;
pub use tracked::{StageState, Tracked};

/// How long workers may take to answer a freeze; a turn takes microseconds. Who does not answer is
/// stuck in its device, and is read as it stands.
const FREEZE_NS: u64 = 10_000_000;
/// How often it looks around, with a trigger armed and without.
const ALERT: Duration = Duration::from_millis(1);
const CALM: Duration = Duration::from_millis(10);
/// Bytes of a snapshot for each worker, each I/O in flight and each job: far more than it takes.
const WORKER_BYTES: u64 = 16 << 10;
const IO_BYTES: u64 = 64;
const JOB_BYTES: u64 = 64 << 10;
const TARGET_BYTES: usize = 256;
/// Of what a worker that does not verify writes over.
const RANGE_BYTES: u64 = 64;
/// Of what is wrong with the server's own copies.
const MOST_NOTES: usize = 8;

/// Snapshots and triggers of a run.
pub struct Keeper {
    state: StateSpec,
    trigger: TriggerSpec,
    file: Option<(PathBuf, Place)>,
    /// The place of the snapshot is this run's, to its end.
    claim: Option<Claim>,
    /// The snapshot of an earlier run still is where this run's goes.
    has_previous: bool,
    run: RunId,
    past: Past,
    requested: Arc<AtomicUsize>,
    requested_by: Arc<OnceLock<String>>,
    courier: Option<Arc<dyn Courier>>,
    /// The client has stored a snapshot of this run.
    is_at_client: bool,
    begun_ns: Option<u64>,
    /// When `trigger_timeout` fires, after the begin, and the seed that says so.
    due_ns: Option<u64>,
    /// An earlier run is judged: no trigger fires, whatever asks for it.
    judges: bool,
    /// The trigger that has fired.
    pub fired: Option<TriggerReport>,
    /// What could not be stored, the first time.
    pub trouble: Option<String>,
    /// What the reader should know, and is no failure.
    pub notes: Vec<String>,
    /// Snapshots stored.
    pub stored: u64,
    clock: Clock,
}

/// A keeper at work.
pub struct AtWork {
    thread: JoinHandle<Keeper>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// A trigger has fired.
    pulled: AtomicBool,
    /// And its command has run.
    fired: AtomicBool,
}

impl AtWork {
    /// Whether a trigger has fired.
    pub fn is_pulled(&self) -> bool {
        self.shared.pulled.load(Ordering::Acquire)
    }

    /// Whether a trigger has fired, and its command has run.
    pub fn has_fired(&self) -> bool {
        self.shared.fired.load(Ordering::Acquire)
    }

    /// The stage has ended, and what the snapshot lies on may hang: `None` if it does.
    pub fn end_within(self, limit: Duration) -> Option<Keeper> {
        self.shared.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        for _ in 0..limit.as_millis() / CALM.as_millis() {
            if self.thread.is_finished() {
                return self.thread.join().ok();
            }
            std::thread::sleep(CALM);
        }
        None
    }

    /// The stage has ended.
    pub fn end(self) -> Option<Keeper> {
        self.shared.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        self.thread.join().ok()
    }
}

impl Keeper {
    /// The keeper of a run of `plans`; takes the space for its snapshots.
    pub fn new(
        plans: &[JobPlan],
        options: &RunOptions,
        requests: &Requests,
        run: RunId,
    ) -> Result<Keeper, RunError> {
        let spec = &plans[0].spec;
        if let Some(other) =
            plans.iter().find(|plan| (&plan.spec.state, &plan.spec.trigger) != (&spec.state, &spec.trigger))
        {
            return Err(RunError::bad_job(
                &other.spec,
                "snapshots and triggers are of the whole run: set their options in [global], for all jobs",
            ));
        }
        let judges = plans.iter().any(|plan| plan.only_judges());
        let trigger = if judges { TriggerSpec::default() } else { spec.trigger.clone() };
        let seed = trigger.seed.unwrap_or_else(plan::fresh_seed);
        let due_ns =
            trigger.timeout_ns.map(|(from, to)| from + random::below(random::at(seed, 0), to - from + 1));
        let mut keeper = Keeper {
            state: spec.state.clone(),
            trigger: TriggerSpec { seed: trigger.timeout_ns.map(|_| seed), ..trigger },
            file: None,
            claim: None,
            has_previous: options.courier.is_none(),
            run,
            past: Past::default(),
            requested: Arc::clone(&requests.trigger),
            requested_by: Arc::clone(&requests.trigger_why),
            courier: options.courier.clone(),
            is_at_client: false,
            begun_ns: None,
            due_ns,
            judges,
            fired: None,
            trouble: None,
            notes: Vec::new(),
            stored: 0,
            clock: Clock::get(),
        };
        if let Some(path) = keeper.path(plans, options) {
            keeper.reserve(plans, path)?;
        }
        Ok(keeper)
    }

    /// Where the snapshot goes; `None` if there is to be none.
    fn path(&self, plans: &[JobPlan], options: &RunOptions) -> Option<PathBuf> {
        let asked = self.trigger.is_armed() || self.state.checkpoint_ns > 0;
        let lasts = |plan: &JobPlan| match plan.spec.ioengine.as_str() {
            "null" => asked,
            "sim" => asked || self.state.dir.is_some() || plan.spec.sim.cut_after.is_some(),
            _ => true,
        };
        // What is removed at the end cannot be judged later.
        let stays = |plan: &JobPlan| !plan.spec.files.unlink;
        let keeps = |plan: &JobPlan| plan.verifies() && plan.modifies() && lasts(plan) && stays(plan);
        let wanted = self.state.save && plans.iter().any(keeps);
        wanted.then(|| options.state_path(&self.state)).flatten()
    }

    /// Takes the space, where it is not on a device under test.
    fn reserve(&mut self, plans: &[JobPlan], path: PathBuf) -> Result<(), RunError> {
        // Others promise nothing.
        let kept = || plans.iter().filter(|plan| plan.verifies() && plan.modifies());
        let workers: u64 = kept().map(|plan| u64::from(plan.spec.numjobs)).sum();
        let depths: u64 =
            kept().map(|plan| u64::from(plan.spec.numjobs) * u64::from(plan.spec.iodepth)).sum();
        let names: usize =
            kept().flat_map(|plan| &plan.targets).map(|path| path.as_os_str().len() + TARGET_BYTES).sum();
        let others = plans.iter().filter(|plan| plan.modifies() && !plan.verifies());
        let ranges: u64 =
            others.map(|plan| u64::from(plan.spec.numjobs) * plan.targets.len() as u64 * RANGE_BYTES).sum();
        let bytes = ranges
            + kept().count() as u64 * JOB_BYTES
            + workers * WORKER_BYTES
            + depths * IO_BYTES
            + names as u64;
        let targets: Vec<PathBuf> = plans
            .iter()
            .filter(|plan| plan.uses_files() && plan.modifies())
            .flat_map(|plan| plan.targets.iter().cloned())
            .collect();
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let spec = &plans[0].spec;
        if let Some(most) =
            self.courier.as_ref().map(|courier| courier.most_bytes()).filter(|&most| bytes > most)
        {
            let why = format!(
                "snapshots of {workers} workers with {depths} I/Os in flight may need {bytes} bytes, and {most} \
                 can be sent to the client: lower numjobs or iodepth, or set verify_state_save = false"
            );
            return Err(RunError::bad_job(spec, why));
        }
        let advice = match &self.courier {
            Some(_) => "another `directory` in server.toml, or verify_state_save = false, helps",
            None => "set state_dir, or verify_state_save = false",
        };
        // One that is not there is told below.
        let overlap = if folder.is_dir() { state_file::lies_on(&folder, &targets) } else { Ok(None) };
        match overlap.map_err(|why| RunError::environment(spec, why))? {
            Some(Overlap::OnTarget(why)) => {
                return Err(RunError::bad_job(
                    spec,
                    match &self.courier {
                        Some(_) => format!("{why}: {advice}"),
                        None => {
                            format!(
                                "{why}: set state_dir to a directory elsewhere, or verify_state_save = false"
                            )
                        }
                    },
                ));
            }
            // Of a file on an ordinary file system, the snapshot may lie beside it.
            Some(Overlap::SharedDevice(_)) | None => {}
        }
        if self.courier.is_none() && folder.is_dir() {
            self.claim = Claim::take(&path).map_err(|why| RunError::environment(spec, why))?;
        }
        let file = StateFile::reserve(&path, bytes)
            .map_err(|why| RunError::environment(spec, format!("{why}: {advice}")))?;
        let place = Place::of(file, &path, self.courier.is_some());
        let place = place.map_err(|why| RunError::environment(spec, why))?;
        self.file = Some((path, place));
        Ok(())
    }

    /// Begins to keep the promises of a stage. A snapshot is stored before anything is written: the
    /// one of an earlier run says nothing any more of what this run leaves, nor does that of an earlier stage
    /// of what this one writes over.
    ///
    /// # Errors
    /// Why the promises cannot be kept, in a sentence.
    pub fn begin(mut self, stage: StageState) -> Result<AtWork, String> {
        let takes_away = self.past.write_over(&stage.unverified);
        if (takes_away || !stage.kept.is_empty()) && self.file.is_some() {
            self.keep_previous()?;
            self.save(Cause::Checkpoint, &stage, true).map_err(|failure| failure.why)?;
        }
        // Not before: a slow client would be fired at before anything is written.
        self.begun_ns.get_or_insert_with(|| self.clock.now_ns());
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("keeper".to_owned()).spawn(move || {
            self.watch(&stage, &seen);
            if takes_away && stage.kept.is_empty() && self.fired.is_none() {
                self.keep(Cause::Ended, &stage);
            }
            self.leave(stage);
            self
        });
        let thread = thread.map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(AtWork { thread, shared })
    }

    /// Before the first snapshot of the run: that of an earlier run is evidence that may not have been judged.
    fn keep_previous(&mut self) -> Result<(), String> {
        if let Some((path, _)) = self.file.as_ref().filter(|_| self.has_previous) {
            self.notes.extend(state_file::keep_previous(path, self.run)?);
            self.has_previous = false;
        }
        Ok(())
    }

    fn watch(&mut self, stage: &StageState, shared: &Shared) {
        let mut next_checkpoint_ns = self.clock.now_ns().saturating_add(self.state.checkpoint_ns);
        let mut is_saved = stage.kept.is_empty();
        while !shared.stop.load(Ordering::Acquire) {
            let now_ns = self.clock.now_ns();
            if self.fired.is_none() {
                if let Some(why) = self.fires(now_ns, stage).filter(|why| self.may_fire(why)) {
                    shared.pulled.store(true, Ordering::Release);
                    self.fire(why, stage);
                    is_saved = true;
                    shared.fired.store(true, Ordering::Release);
                } else if self.state.checkpoint_ns > 0 && now_ns >= next_checkpoint_ns && !is_saved {
                    self.keep(Cause::Checkpoint, stage);
                    next_checkpoint_ns =
                        (next_checkpoint_ns + self.state.checkpoint_ns).max(self.clock.now_ns());
                } else if !is_saved && has_written(stage) {
                    self.keep(Cause::Ended, stage);
                    is_saved = true;
                }
            }
            if let Some((_, file)) = self.file.as_mut().filter(|_| !is_saved) {
                // Now, or a trigger would wait for it.
                file.prepare();
            }
            let checkpoint = self.state.checkpoint_ns > 0 && !is_saved;
            let alert = self.trigger.is_armed() || self.courier.is_some();
            let tick = if alert { ALERT } else { CALM };
            let until_checkpoint =
                Duration::from_nanos(next_checkpoint_ns.saturating_sub(self.clock.now_ns()));
            std::thread::park_timeout(if checkpoint { tick.min(until_checkpoint) } else { tick });
        }
        if !is_saved {
            self.keep(Cause::Ended, stage);
        }
    }

    /// Remembers what the workers of a stage that has ended were promised.
    fn leave(&mut self, stage: StageState) {
        let jobs = self.gather(&stage, false);
        self.past.jobs.extend(jobs);
    }

    /// Whether a trigger may fire: not while evidence is looked at.
    fn may_fire(&mut self, why: &str) -> bool {
        if self.judges {
            self.notes.push(format!("{why}: no trigger fires while an earlier run is judged"));
        }
        !self.judges
    }

    /// Why a trigger fires now, if one does.
    fn fires(&self, now_ns: u64, stage: &StageState) -> Option<String> {
        let since_ns = now_ns.saturating_sub(self.begun_ns.unwrap_or(now_ns));
        if self.requested.swap(0, Ordering::AcqRel) != 0 {
            return Some(self.requested_by.get().cloned().unwrap_or_else(|| "SIGUSR2".to_owned()));
        }
        if let Some(due_ns) = self.due_ns.filter(|&due_ns| since_ns >= due_ns) {
            return Some(match (self.trigger.timeout_ns, self.trigger.seed) {
                (Some((from, to)), Some(seed)) if from < to => {
                    format!("trigger_timeout, drawn as {} us by seed {seed}", due_ns / 1000)
                }
                _ => "trigger_timeout".to_owned(),
            });
        }
        if let Some(most) = self.trigger.ios {
            let ios =
                |live: &Arc<Live>| live.ios.iter().map(|(_, ios)| ios.load(Ordering::Relaxed)).sum::<u64>();
            let sum: u64 = stage.lives.iter().map(ios).sum();
            if sum >= most {
                return Some(format!("trigger_ios, {sum} I/Os"));
            }
        }
        // That of a run that a server does is on its client.
        let file = self.trigger.file.as_ref().filter(|_| self.courier.is_none())?;
        if !file.exists() {
            return None;
        }
        // Or it would fire the next run too.
        let removed = match std::fs::remove_file(file) {
            Ok(()) => String::new(),
            Err(error) => format!(", which could not be removed: {error}"),
        };
        Some(format!("file {}{removed}", file.display()))
    }

    fn fire(&mut self, why: String, stage: &StageState) {
        let begun_ns = self.clock.now_ns();
        let failed = |live: &Arc<Live>| live.errors.load(Ordering::Relaxed);
        let errors_before = stage.lives.iter().map(failed).sum();
        // What simulated drives have kept is judged at once: nobody can do that later.
        if stage.simulated.is_empty() {
            stage.kept.iter().for_each(|kept| kept.board.dismiss());
        }
        if self.trigger.mode == TriggerMode::Stop {
            stage.kept.iter().for_each(|kept| kept.board.ask_to_freeze());
            while stage.kept.iter().any(is_late) && self.clock.now_ns() < begun_ns + FREEZE_NS {
                std::thread::yield_now();
            }
        }
        let frozen_ns = self.clock.now_ns();
        let late = |kept: &&Tracked| self.trigger.mode == TriggerMode::Stop && is_late(kept);
        let stuck: Vec<String> = stage.kept.iter().filter(late).map(|kept| kept.name.clone()).collect();
        let mut report = TriggerReport {
            why,
            at_ns: begun_ns.saturating_sub(self.begun_ns.unwrap_or(begun_ns)),
            continues: self.trigger.mode == TriggerMode::Continue,
            ledgers: stage.kept.len() as u64,
            stuck,
            errors_before,
            freeze_ns: frozen_ns - begun_ns,
            snapshot: self.file.as_ref().map(|(path, _)| match self.courier {
                Some(_) => "at the client".to_owned(),
                None => path.display().to_string(),
            }),
            ..TriggerReport::default()
        };
        match self.save_as(Cause::Trigger, stage, true, Some(&mut report)) {
            Ok(bytes) => report.bytes = bytes,
            Err(failure) => report.failure = Some(failure.why),
        }
        report.stored_ns = self.clock.now_ns() - begun_ns;
        let runs = report.failure.is_none() || self.trigger.always;
        let command = self.trigger.remote.clone().or(self.trigger.command.clone());
        report.withheld = command.clone().filter(|_| !runs);
        report.command = command.filter(|_| runs).map(|command| match &self.courier {
            Some(courier) if self.trigger.remote.is_none() => courier.run_command(&command),
            _ => self.run_command(command),
        });
        for drive in &stage.simulated {
            crate::engine::sim::cut_power(drive);
        }
        self.fired = Some(report);
        self.end_run(stage);
    }

    /// Lets all workers end.
    fn end_run(&self, stage: &StageState) {
        let at_once = !stage.simulated.is_empty();
        let verifies = |live: &Arc<Live>| stage.kept.iter().any(|kept| Arc::ptr_eq(&kept.live, live));
        let judges = |live: &Arc<Live>| at_once && live.state() != Doing::Waiting && verifies(live);
        stage.lives.iter().filter(|live| !judges(live)).for_each(|live| live.request_stop());
        stage.kept.iter().for_each(|kept| kept.board.let_go());
    }

    fn run_command(&self, text: String) -> CommandReport {
        let state = self.file.as_ref().map(|(path, _)| ("FIO_SPDK_STATE", path.as_os_str()));
        super::shell::run(text, state.as_slice())
    }

    /// What all workers are promised by now; `looks`: asks devices whether their caches are what they were.
    fn gather(&self, stage: &StageState, looks: bool) -> Vec<JobState> {
        let mut jobs = stage.jobs.clone();
        for (job, watch) in jobs.iter_mut().zip(&stage.premises) {
            let now = if looks { watch.look() } else { watch.known() };
            job.targets.iter_mut().zip(now).for_each(|(target, now)| target.premises = now);
        }
        for kept in &stage.kept {
            jobs[kept.job].workers.push(WorkerState { promises: kept.board.read(), ..kept.state.clone() });
        }
        jobs
    }

    /// Stores a snapshot that the run goes on without, or ends with.
    fn keep(&mut self, cause: Cause, stage: &StageState) {
        if let Err(failure) = self.save(cause, stage, cause == Cause::Ended) {
            // A client that is away fetches the server's copy later; that of a run that has ended because its
            // client vanished is what is to be kept then.
            let is_away = self.courier.as_ref().is_some_and(|courier| courier.is_away());
            if (self.state.detach || is_away) && failure.only_client {
                self.notes.push(format!("{}; the server has its copy, and `attach` fetches it", failure.why));
            } else {
                self.trouble.get_or_insert(failure.why);
            }
        }
    }

    /// Stores a snapshot, if there are any: gives its length.
    fn save(&mut self, cause: Cause, stage: &StageState, awaited: bool) -> Result<u64, NotStored> {
        self.save_as(cause, stage, awaited, None)
    }

    /// The same; a trigger tells its client even where there is nothing to store.
    fn save_as(
        &mut self,
        cause: Cause,
        stage: &StageState,
        awaited: bool,
        trigger: Option<&mut TriggerReport>,
    ) -> Result<u64, NotStored> {
        let mut bytes = Vec::new();
        if self.file.is_some() {
            let jobs = self.past.jobs.iter().cloned().chain(self.gather(stage, true)).collect();
            let snapshot = Snapshot {
                run: self.run,
                taken_unix_ns: unix_time_ns(),
                cause,
                tool: env!("CARGO_PKG_VERSION").to_owned(),
                jobs,
                unverified: self.past.unverified.clone(),
            };
            bytes = snapshot.encode();
        } else if trigger.is_none() {
            return Ok(0);
        }
        let length = bytes.len() as u64;
        let told = trigger.map(|report| {
            report.bytes = length;
            &*report
        });
        let courier = self.courier.clone();
        // On its way while it is stored here.
        let number = courier.as_ref().map(|courier| courier.send(cause, &bytes, told, awaited));
        let stored = match &mut self.file {
            Some((path, file)) => file.store(path, bytes),
            None => Ok(()),
        };
        let (Some(courier), Some(number)) = (courier, number) else {
            return stored.map(|()| self.count(length)).map_err(|why| NotStored { why, only_client: false });
        };
        let answer = if awaited { courier.wait(number) } else { Ok(()) };
        let own = self.file.as_ref().filter(|_| awaited).and_then(|(_, file)| file.settle().err());
        let has_copy = own.is_none();
        if let Some(why) = own {
            // The client's is the one that counts.
            let note = format!("the server's own copy: {why}");
            if !self.notes.contains(&note) && self.notes.len() < MOST_NOTES {
                self.notes.push(note);
            }
        }
        if let Err(why) = answer {
            let why = format!("the client has not stored the snapshot: {why}");
            // Without its client, a later stage of a run that goes on by itself begins all the same. But not
            // the first: what the client has would still be the state of an earlier run.
            if cause == Cause::Checkpoint && self.state.detach && self.is_at_client && has_copy {
                self.notes.push(why);
                return Ok(self.count(length));
            }
            return Err(NotStored { why, only_client: has_copy });
        }
        self.is_at_client |= awaited && length > 0;
        Ok(self.count(length))
    }

    fn count(&mut self, length: u64) -> u64 {
        self.stored += 1;
        length
    }
}

/// Why a snapshot is not where it should be.
struct NotStored {
    why: String,
    /// The server has its copy.
    only_client: bool,
}

/// Whether the ledger of `kept` may still change. Who waits for its start has none, and begins frozen.
fn is_late(kept: &Tracked) -> bool {
    !kept.board.is_frozen() && kept.live.state() != Doing::Waiting
}

/// Whether all workers that are kept have written what they will write.
fn has_written(stage: &StageState) -> bool {
    stage.kept.iter().all(|kept| matches!(kept.live.state(), Doing::Judging | Doing::Done))
}
