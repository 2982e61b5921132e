//! From resolved jobs to a report: plan, guard, lay out, threads and pinning, order, reaping.
//!
//! Jobs run in *stages*: a job with `stonewall` begins a new one, and a stage begins when all
//! workers of the one before have ended. Everything that can be checked without starting is checked
//! for all stages first, and nothing is written before that. Knows neither the command line nor
//! how a terminal looks: what happens meanwhile is told to an [`Observer`].

mod affinity_watch;
mod around;
mod assign;
mod audit;
mod blocks;
mod devices;
mod files;
mod guard;
mod hold;
mod judged;
mod keeper;
mod layout;
mod logs;
mod memory;
mod newest_run;
mod open_job;
mod order;
mod outcome;
mod own_copy;
mod pace;
mod pinning;
mod places;
mod plan;
mod premises;
mod progress;
mod recording;
mod replay;
mod same_devices;
mod sampler;
mod shell;
mod stage;
mod starting;
mod state_file;
mod status_file;
mod steady_state;
mod stuck;
mod verification;

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::base::clock::unix_time_ms;
use crate::base::cut::StateSpec;
use crate::base::host::Sysfs;
use crate::base::host::cpu_time::CpuTimes;
use crate::base::host::pin::Pin;
use crate::base::host::target_lock::Locked;
use crate::base::verify::RunId;
use crate::engine::Targets;
use crate::job::JobSpec;
use crate::report::{CommandReport, Report, TriggerReport};
use crate::verify::snapshot::Cause;

pub use memory::estimated as estimated_memory;
pub use progress::Progress;
pub use shell::run as run_shell;
pub use state_file::{StateFile, load as load_snapshot, read as read_snapshot};

/// What the command line adds to the jobs.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Refuse jobs that write.
    pub readonly: bool,
    /// Devices whose contents may be destroyed although they carry a signature.
    pub destroy: Vec<String>,
    /// Tell the observer the statistics so far, this often.
    pub status_interval: Option<Duration>,
    /// Write violations of promises here, a line of JSON each.
    pub verdicts: Option<PathBuf>,
    /// Tell how idle the CPUs of the machine were; true: also each by itself.
    pub idle_profile: Option<bool>,
    /// Tell the observer of progress this often, instead of twice a second.
    pub progress_interval: Option<Duration>,
    /// Where the snapshot of the run lies, unless the jobs say another directory (`state_dir`);
    /// without it there is none.
    pub state: Option<PathBuf>,
    /// Log the bandwidth of all jobs together, into files whose names begin so.
    pub bandwidth_log: Option<String>,
    /// Tell violations of promises here, a line of JSON each. What finds no room is left out.
    pub findings: Option<Sender<String>>,
    /// The name of the run in its blocks; a random one without.
    pub run: Option<RunId>,
    /// A server does the run, and this brings its snapshots to the client. `state` is then the server's
    /// own copy, wherever `state_dir` is on the client, and `trigger_file` is the client's to look at.
    pub courier: Option<Arc<dyn Courier>>,
    /// `--same-devices`: the file with what the devices are known by.
    pub same_devices: Option<PathBuf>,
    /// Files that the caller writes when the run is over: none may be a target.
    pub outputs: Vec<PathBuf>,
    /// The most memory that the run may need, in bytes, by whoever does it for others.
    pub max_memory_bytes: Option<u64>,
    /// Is asked whether the run may use its targets.
    pub gate: Option<Arc<dyn Gate>>,
}

impl RunOptions {
    /// Where the snapshot lies.
    fn state_path(&self, spec: &StateSpec) -> Option<PathBuf> {
        let path = self.state.as_ref()?;
        match &spec.dir {
            _ if self.courier.is_some() => Some(path.clone()),
            Some(folder) => Some(folder.join(path.file_name()?)),
            None => Some(path.clone()),
        }
    }
}

/// Requests from outside, set by signal handlers.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    /// The number of the last signal that asked for the end; 0 for none.
    pub end_signal: Arc<AtomicUsize>,
    /// How many such signals there were: the second one stops waiting for devices.
    pub end_count: Arc<AtomicUsize>,
    /// Set to ask for the statistics so far; taken back when they are told.
    pub dump: Arc<AtomicUsize>,
    /// Set to fire the trigger.
    pub trigger: Arc<AtomicUsize>,
    /// What fired it, for the report: set before `trigger` is. Without, it is SIGUSR2.
    pub trigger_why: Arc<OnceLock<String>>,
}

impl Requests {
    fn take_dump(&self) -> bool {
        self.dump.swap(0, Ordering::AcqRel) != 0
    }

    fn signal(&self) -> Option<i32> {
        i32::try_from(self.end_signal.load(Ordering::Acquire)).ok().filter(|&signal| signal != 0)
    }

    fn abandon(&self) -> bool {
        self.end_count.load(Ordering::Acquire) > 1
    }
}

/// Who is told what happens during a run. Called from the thread of [`execute`].
pub trait Observer {
    /// Something the user should read before or while it happens: what will be overwritten, a fallback.
    fn note(&mut self, text: &str);
    /// Several times a second.
    fn progress(&mut self, progress: &Progress);
    /// The statistics so far: asked for by signal or interval.
    fn so_far(&mut self, report: &Report);
}

/// Keeps the snapshots of a run where the death of its machine cannot reach them: at the client that
/// drives it. Called from the keeper's thread, never from a reactor's.
pub trait Courier: fmt::Debug + Send + Sync {
    /// Sends a snapshot off, and returns at once with its number. One that is not awaited may be left
    /// out if a later one comes before it was sent. `content` is empty if nothing was promised;
    /// `trigger` says what fired, if that is the cause.
    fn send(&self, cause: Cause, content: &[u8], trigger: Option<&TriggerReport>, awaited: bool) -> u64;

    /// Waits until the snapshot of this number is on stable storage there.
    ///
    /// # Errors
    /// Why it is not: the client could not store it, did not answer in time, is gone.
    fn wait(&self, number: u64) -> Result<(), String>;

    /// Has the client run its own command, and waits for it.
    fn run_command(&self, command: &str) -> CommandReport;

    /// The longest snapshot that it takes, in bytes.
    fn most_bytes(&self) -> u64;

    /// Whether no client is there.
    fn is_away(&self) -> bool;
}

/// Decides whether a run may use its targets: for those who run what others ask for.
pub trait Gate: fmt::Debug + Send + Sync {
    /// Asked once, when it is known what all jobs would use (logs that are replayed name targets too): the
    /// targets are pinned, and none was opened for reading or writing.
    ///
    /// # Errors
    /// Why not: the run does not begin.
    fn enter(&self, targets: &[PlannedTarget]) -> Result<(), RunError>;
}

/// A target, as a [`Gate`] is asked about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTarget {
    /// What its path led to, which is what the run will use; `None` for targets that are not files, and where
    /// only the name is asked about.
    pub pin: Option<Arc<Pin>>,
    /// The job that uses it.
    pub job: String,
    /// Its path; of a namespace that an engine drives by itself, its transport id.
    pub path: PathBuf,
    /// What it is.
    pub kind: Targets,
    /// Whether the job has `ioscheduler`, which changes the disk below it.
    pub changes_disk: bool,
}

/// Why a run did not start, or could not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunError {
    /// Which of the exit codes it is.
    pub kind: ErrorKind,
    /// What, where, what to do.
    pub message: String,
}

/// The kinds of trouble that end in an exit code of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The job cannot be done on this target (exit 2).
    BadJob,
    /// The machine refuses (exit 4).
    Environment,
    /// An unsafe target (exit 6).
    Unsafe,
}

impl RunError {
    fn bad_job(spec: &JobSpec, message: impl fmt::Display) -> RunError {
        RunError { kind: ErrorKind::BadJob, message: format!("job `{}`: {message}", spec.name) }
    }

    fn environment(spec: &JobSpec, message: impl fmt::Display) -> RunError {
        RunError { kind: ErrorKind::Environment, message: format!("job `{}`: {message}", spec.name) }
    }

    fn not_safe(spec: &JobSpec, message: impl fmt::Display) -> RunError {
        RunError { kind: ErrorKind::Unsafe, message: format!("job `{}`: {message}", spec.name) }
    }

    /// What an engine refused.
    fn of_engine(spec: &JobSpec, error: &crate::engine::EngineError) -> RunError {
        if error.is_unsafe {
            return RunError::not_safe(spec, error);
        }
        RunError::environment(spec, error)
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for RunError {}

/// A run that began.
pub struct Ended {
    /// What was measured.
    pub report: Report,
    /// Why a later stage could not start.
    pub failure: Option<RunError>,
}

/// Whether this build has the engines of these jobs.
///
/// # Errors
/// What it lacks, and how to get it. The jobs are right, so it is the environment that is bad.
pub fn check_engines(jobs: &[JobSpec]) -> Result<(), RunError> {
    let lacking =
        |job: &JobSpec| crate::engine::missing(&job.ioengine).map(|why| RunError::environment(job, why));
    jobs.iter().find_map(lacking).map_or(Ok(()), Err)
}

/// Refuses what only a server can do where none does it.
fn check_who_does_it(jobs: &[JobSpec], options: &RunOptions) -> Result<(), RunError> {
    if options.courier.is_some() {
        return Ok(());
    }
    let here = "which does not run here: give --client=HOST";
    for job in jobs {
        if job.trigger.remote.is_some() {
            let why = format!("`trigger_remote` is a command of the server, {here}, or use `trigger`");
            return Err(RunError::bad_job(job, why));
        }
        if job.state.detach {
            let why = format!("`detach` lets a server go on without its client, {here}, or leave it out");
            return Err(RunError::bad_job(job, why));
        }
    }
    Ok(())
}

fn planned_targets(plans: &[plan::JobPlan]) -> Vec<PlannedTarget> {
    let of_plan = |plan: &plan::JobPlan| {
        let target = |(at, path): (usize, &PathBuf)| PlannedTarget {
            pin: plan.pins.get(at).cloned(),
            job: plan.spec.name.clone(),
            path: path.clone(),
            kind: plan.target_kind(),
            changes_disk: plan.spec.host.io_scheduler.is_some(),
        };
        plan.targets.iter().enumerate().map(target).collect::<Vec<_>>()
    };
    plans.iter().flat_map(of_plan).collect()
}

/// What a run holds of its targets until its end.
struct Held {
    consents: guard::Consents,
    _locked: Locked,
    /// What could not be locked.
    notes: Vec<String>,
}

/// Sees to it that the targets may be used as the jobs would. Looking at files of the kernel may hang.
fn check_targets(
    plans: &[plan::JobPlan],
    options: &RunOptions,
    requests: &Requests,
) -> Result<Held, RunError> {
    let check = |plans: &[plan::JobPlan], options: &RunOptions| {
        let mut consents = guard::check(plans, options)?;
        if let Some(file) = &options.same_devices {
            same_devices::check(plans, &mut consents.checked, file)?;
        }
        plan::check_before_start(plans)?;
        let (locked, notes) = pinning::lock(plans)?;
        Ok(Held { consents, _locked: locked, notes })
    };
    if !plans.iter().all(plan::JobPlan::uses_files) {
        return check(plans, options);
    }
    let limit_ns = plans.iter().map(|plan| plan.spec.order.start_timeout_ns).max().unwrap_or(u64::MAX);
    let own = (plans.to_vec(), options.clone());
    let checked = starting::within(limit_ns, requests, move || check(&own.0, &own.1));
    checked.unwrap_or_else(|late| {
        let names = starting::names(plans);
        Err(RunError::environment(&plans[0].spec, late.say(&format!("looking at {names}"))))
    })
}

/// Runs `jobs` to the end and reports.
///
/// # Errors
/// If the run cannot start: nothing was written then.
pub fn execute(
    jobs: Vec<JobSpec>,
    options: &RunOptions,
    requests: &Requests,
    observer: &mut dyn Observer,
) -> Result<Ended, RunError> {
    check_engines(&jobs)?;
    check_who_does_it(&jobs, options)?;
    let started_unix_ms = unix_time_ms();
    let mut plans = plan::plan(jobs)?;
    let of_logs = replay::resolve(&mut plans)?;
    memory::check(&plans, options)?;
    pinning::pin(&mut plans, requests)?;
    pinning::refuse_outputs(&plans, options)?;
    let _protected = pinning::protect(&plans);
    if let Some(gate) = &options.gate {
        gate.enter(&planned_targets(&plans))?;
    }
    let judged = judged::go_back(&mut plans, options)?;
    let inactive = judged::inactive(&plans)?;
    files::make_directories(&plans, options)?;
    let losses = files::check(&plans, options)?;
    let held = check_targets(&plans, options, requests)?;
    steady_state::check(&plans)?;
    hold::check(&plans)?;
    recording::check(&plans)?;
    let verdicts = verification::Verdicts::open(options)
        .map_err(|message| RunError { kind: ErrorKind::BadJob, message })?;
    let logs = logs::Logs::open(&plans, options)?;
    plan::hold_to(&mut plans, &held.consents.checked);
    held.consents.sentences.iter().chain(&losses).for_each(|sentence| observer.note(sentence));
    let of_newest = newest_run::find(&mut plans, requests)?;
    let (run_id, notes) = match judged {
        Some(earlier) => (earlier.run, earlier.notes),
        None => (options.run.unwrap_or_else(verification::new_run_id), Vec::new()),
    };
    let mut run = outcome::Outcome::new(started_unix_ms, &plans, verdicts, run_id);
    run.logs = logs;
    of_logs
        .into_iter()
        .chain(held.notes.iter().cloned())
        .chain(inactive)
        .chain(of_newest)
        .chain(notes)
        .for_each(|note| {
            run.note(note);
        });
    run.idle_since = options.idle_profile.map(|each| (CpuTimes::now(&Sysfs::default()), each));
    let mut keeper = Some(keeper::Keeper::new(&plans, options, requests, run_id)?);
    run.stages_left = plan::stages(&plans).count();
    let mut group = hold::enter_group(&plans, observer)?;
    if let Some(failure) = run_stages(&plans, &mut run, &mut keeper, options, requests, observer)? {
        return Ok(Ended { report: run.report(requests.signal(), true), failure: Some(failure) });
    }
    drop(held);
    group.iter_mut().flat_map(|group| group.leave()).for_each(|trouble| {
        run.note(trouble);
    });
    let lost = run.close(keeper);
    if let Some(trouble) = run.verdicts.trouble.take() {
        run.note(trouble);
    }
    let told = run.trigger.is_some();
    crate::engine::shut_down(told);
    let failure = lost.filter(|_| !told).or(run.close_logs());
    let failure = failure.map(|message| RunError { kind: ErrorKind::Environment, message });
    // An unsafe target has the higher exit code.
    let failure = run.replaced.take().or(failure);
    Ok(Ended { report: run.report(requests.signal(), false), failure })
}

/// Runs the stages in order; why a later one could not start, when those before it have measured something.
fn run_stages(
    plans: &[plan::JobPlan],
    run: &mut outcome::Outcome,
    keeper: &mut Option<keeper::Keeper>,
    options: &RunOptions,
    requests: &Requests,
    observer: &mut dyn Observer,
) -> Result<Option<RunError>, RunError> {
    for stage in plan::stages(plans) {
        run.stages_left -= 1;
        if run.ends_run || run.replaced.is_some() {
            break;
        }
        if requests.signal().is_some() || keeper.as_ref().is_none_or(|keeper| keeper.fired.is_some()) {
            break;
        }
        let before = run.entries.len();
        if let Err(failure) = hold::run_stage(stage, run, keeper, options, requests, observer) {
            // What the stages before have measured is not lost.
            run.entries.truncate(before);
            if requests.signal().is_some() {
                // The user ended what the stage was at.
                run.note(failure.message);
                break;
            }
            return if before == 0 { Err(failure) } else { Ok(Some(failure)) };
        }
    }
    Ok(None)
}
