//! Keeps snapshots and pulls triggers, on a thread of its own beside the reactors: it reads ledgers
//! from their boards, so that a worker that is stuck in its device holds nothing up.
//!
//! When a trigger fires, in this order: the ledgers are frozen and gathered, the snapshot is on
//! stable storage, the command runs, the run ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::base::clock::{Clock, unix_time_ns};
use crate::base::cut::{StateSpec, TriggerMode, TriggerSpec};
use crate::base::random;
use crate::base::verify::RunId;
use crate::engine::TargetFacts;
use crate::reactor::{Live, VerifyParts, WorkerState as Doing};
use crate::report::{CommandReport, TriggerReport};
use crate::verify::board::Board;
use crate::verify::promises::Promises;
use crate::verify::snapshot::{Cause, JobState, Snapshot, WorkerState};
use crate::workload::{Region, WorkloadSpec};

use super::plan::{self, JobPlan};
use super::state_file::{Overlap, StateFile};
use super::{Requests, RunError, RunOptions, judged};

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

/// A worker whose promises are kept.
pub struct Kept {
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
    pub kept: Vec<Kept>,
    /// All workers of the stage, verifying or not.
    pub lives: Vec<Arc<Live>>,
    /// Simulated drives, whose power a trigger cuts.
    pub simulated: Vec<PathBuf>,
    /// What is written over: identity of the target, first byte and length.
    pub written: Vec<(u64, u64, u64)>,
}

impl StageState {
    /// Adds one worker.
    pub fn add(
        &mut self,
        plan: &JobPlan,
        clone: u32,
        facts: &[TargetFacts],
        workload: &WorkloadSpec,
        verify: Option<&VerifyParts>,
        live: &Arc<Live>,
    ) {
        self.lives.push(Arc::clone(live));
        if plan.spec.ioengine == "sim" && clone == 0 {
            self.simulated.extend(plan.targets.iter().cloned());
        }
        if plan.modifies() {
            let place = |region: &Region| {
                let fact = &facts[usize::from(region.target)];
                (judged::identity_of(fact), region.start, region.bytes)
            };
            self.written.extend(workload.regions.iter().map(place));
        }
        let Some(parts) = verify.filter(|_| plan.modifies()) else { return };
        if clone == 0 {
            self.jobs.push(judged::job_state(plan, facts));
        }
        self.kept.push(Kept {
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

/// Snapshots and triggers of a run.
pub struct Keeper {
    state: StateSpec,
    trigger: TriggerSpec,
    file: Option<(PathBuf, StateFile)>,
    run: RunId,
    /// Jobs of the stages before.
    past: Vec<JobState>,
    requested: Arc<AtomicUsize>,
    begun_ns: Option<u64>,
    /// When `trigger_timeout` fires, after the begin, and the seed that says so.
    due_ns: Option<u64>,
    /// The trigger that has fired.
    pub fired: Option<TriggerReport>,
    /// What could not be stored, the first time.
    pub trouble: Option<String>,
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
        let trigger = spec.trigger.clone();
        let seed = trigger.seed.unwrap_or_else(plan::fresh_seed);
        let due_ns =
            trigger.timeout_ns.map(|(from, to)| from + random::below(random::at(seed, 0), to - from + 1));
        let mut keeper = Keeper {
            state: spec.state.clone(),
            trigger: TriggerSpec { seed: trigger.timeout_ns.map(|_| seed), ..trigger },
            file: None,
            run,
            past: Vec::new(),
            requested: Arc::clone(&requests.trigger),
            begun_ns: None,
            due_ns,
            fired: None,
            trouble: None,
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
        let workers: u64 = plans.iter().map(|plan| u64::from(plan.spec.numjobs)).sum();
        let depths: u64 =
            plans.iter().map(|plan| u64::from(plan.spec.numjobs) * u64::from(plan.spec.iodepth)).sum();
        let names: usize = plans
            .iter()
            .flat_map(|plan| &plan.targets)
            .map(|path| path.as_os_str().len() + TARGET_BYTES)
            .sum();
        let bytes =
            plans.len() as u64 * JOB_BYTES + workers * WORKER_BYTES + depths * IO_BYTES + names as u64;
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
        // One that is not there is told below.
        let overlap = if folder.is_dir() { super::state_file::lies_on(&folder, &targets) } else { Ok(None) };
        match overlap.map_err(|why| RunError::environment(spec, why))? {
            Some(Overlap::OnTarget(why)) => {
                return Err(RunError::bad_job(
                    spec,
                    format!("{why}: set state_dir to a directory elsewhere, or verify_state_save = false"),
                ));
            }
            // Of a file on an ordinary file system, the snapshot may lie beside it.
            Some(Overlap::SharedDevice(_)) | None => {}
        }
        let file = StateFile::reserve(&path, bytes).map_err(|why| {
            RunError::environment(spec, format!("{why}: set state_dir, or verify_state_save = false"))
        })?;
        self.file = Some((path, file));
        Ok(())
    }

    /// Begins to keep the promises of a stage. A snapshot is stored before anything is written: the
    /// one of an earlier run says nothing any more of what this run leaves.
    pub fn begin(mut self, stage: StageState) -> std::io::Result<AtWork> {
        self.begun_ns.get_or_insert_with(|| self.clock.now_ns());
        self.forget_overwritten(&stage);
        if !stage.kept.is_empty() && self.file.is_some() && self.save(Cause::Checkpoint, &stage).is_none() {
            let why = self.trouble.clone().unwrap_or_default();
            return Err(std::io::Error::other(why));
        }
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("keeper".to_owned()).spawn(move || {
            self.watch(&stage, &seen);
            self.leave(stage);
            self
        })?;
        Ok(AtWork { thread, shared })
    }

    fn watch(&mut self, stage: &StageState, shared: &Shared) {
        let mut next_checkpoint_ns = self.clock.now_ns().saturating_add(self.state.checkpoint_ns);
        let mut is_saved = stage.kept.is_empty();
        while !shared.stop.load(Ordering::Acquire) {
            let now_ns = self.clock.now_ns();
            if self.fired.is_none() {
                if let Some(why) = self.fires(now_ns, stage) {
                    shared.pulled.store(true, Ordering::Release);
                    self.fire(why, stage);
                    is_saved = true;
                    shared.fired.store(true, Ordering::Release);
                } else if self.state.checkpoint_ns > 0 && now_ns >= next_checkpoint_ns && !is_saved {
                    self.save(Cause::Checkpoint, stage);
                    next_checkpoint_ns =
                        (next_checkpoint_ns + self.state.checkpoint_ns).max(self.clock.now_ns());
                } else if !is_saved && has_written(stage) {
                    self.save(Cause::Ended, stage);
                    is_saved = true;
                }
            }
            if let Some((_, file)) = self.file.as_mut().filter(|_| !is_saved) {
                // Now, or a trigger would wait for it. What is wrong is told when it is needed.
                let _ = file.prepare();
            }
            let checkpoint = self.state.checkpoint_ns > 0 && !is_saved;
            let tick = if self.trigger.is_armed() { ALERT } else { CALM };
            let until_checkpoint =
                Duration::from_nanos(next_checkpoint_ns.saturating_sub(self.clock.now_ns()));
            std::thread::park_timeout(if checkpoint { tick.min(until_checkpoint) } else { tick });
        }
        if !is_saved {
            self.save(Cause::Ended, stage);
        }
    }

    /// What a stage writes over, no earlier one has promised any more.
    fn forget_overwritten(&mut self, stage: &StageState) {
        let is_hit = |job: &JobState| {
            let regions = job.workers.iter().flat_map(|worker| &worker.regions);
            regions.filter_map(|region| Some((job.targets.get(usize::from(region.target))?, region))).any(
                |(target, region)| {
                    stage.written.iter().any(|&(identity, start, bytes)| {
                        identity == target.identity
                            && start < region.start.saturating_add(region.bytes)
                            && region.start < start.saturating_add(bytes)
                    })
                },
            )
        };
        self.past.retain(|job| !is_hit(job));
    }

    /// Remembers what the workers of a stage that has ended were promised.
    fn leave(&mut self, stage: StageState) {
        let jobs = self.gather(&stage);
        self.past.extend(jobs);
    }

    /// Why a trigger fires now, if one does.
    fn fires(&self, now_ns: u64, stage: &StageState) -> Option<String> {
        let since_ns = now_ns.saturating_sub(self.begun_ns.unwrap_or(now_ns));
        if self.requested.swap(0, Ordering::AcqRel) != 0 {
            return Some("SIGUSR2".to_owned());
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
        let file = self.trigger.file.as_ref()?;
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
        let late = |kept: &&Kept| self.trigger.mode == TriggerMode::Stop && is_late(kept);
        let stuck: Vec<String> = stage.kept.iter().filter(late).map(|kept| kept.name.clone()).collect();
        let bytes = self.save(Cause::Trigger, stage);
        let stored_ns = self.clock.now_ns();
        let failure = if bytes.is_none() && self.file.is_some() { self.trouble.clone() } else { None };
        let runs = failure.is_none() || self.trigger.always;
        let command = self.trigger.command.clone().filter(|_| runs).map(|command| self.run_command(command));
        for drive in &stage.simulated {
            crate::engine::sim::cut_power(drive);
        }
        self.fired = Some(TriggerReport {
            why,
            at_ns: begun_ns.saturating_sub(self.begun_ns.unwrap_or(begun_ns)),
            continues: self.trigger.mode == TriggerMode::Continue,
            ledgers: stage.kept.len() as u64,
            stuck,
            errors_before,
            freeze_ns: frozen_ns - begun_ns,
            stored_ns: stored_ns - begun_ns,
            snapshot: self.file.as_ref().map(|(path, _)| path.display().to_string()),
            bytes: bytes.unwrap_or(0),
            failure,
            withheld: self.trigger.command.clone().filter(|_| !runs),
            command,
        });
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

    /// What all workers are promised by now.
    fn gather(&self, stage: &StageState) -> Vec<JobState> {
        let mut jobs = stage.jobs.clone();
        for kept in &stage.kept {
            jobs[kept.job].workers.push(WorkerState { promises: kept.board.read(), ..kept.state.clone() });
        }
        jobs
    }

    /// Stores a snapshot: its length, or `None` if there is none or it could not be stored.
    fn save(&mut self, cause: Cause, stage: &StageState) -> Option<u64> {
        self.file.as_ref()?;
        let jobs = self.past.iter().cloned().chain(self.gather(stage)).collect();
        let snapshot = Snapshot {
            run: self.run,
            taken_unix_ns: unix_time_ns(),
            cause,
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            jobs,
        };
        let bytes = snapshot.encode();
        let (path, file) = self.file.as_mut()?;
        match file.store(&bytes) {
            Ok(()) => {
                self.stored += 1;
                Some(bytes.len() as u64)
            }
            Err(error) => {
                let why = format!("the snapshot {} could not be stored: {error}", path.display());
                self.trouble.get_or_insert(why);
                None
            }
        }
    }
}

/// Whether the ledger of `kept` may still change. Who waits for its start has none, and begins frozen.
fn is_late(kept: &Kept) -> bool {
    !kept.board.is_frozen() && kept.live.state() != Doing::Waiting
}

/// Whether all workers that are kept have written what they will write.
fn has_written(stage: &StageState) -> bool {
    stage.kept.iter().all(|kept| matches!(kept.live.state(), Doing::Judging | Doing::Done))
}
