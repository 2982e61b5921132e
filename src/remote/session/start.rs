//! From what a client asks for to jobs that may run.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use crate::base::clock::unix_time_ms;
use crate::base::host::printable;
use crate::base::verify::RunId;
use crate::job::{self, JobSpec};
use crate::remote::wire::bench::{
    Accepted, Failure, FailureKind, IdleProfile, ServerMessage, Start, server_message,
};
use crate::remote::wire::session::{Begin, Underway, from_session};
use crate::run::{ErrorKind, Gate, PlannedTarget, RunError, RunOptions, StateFile};
use crate::verify::snapshot::Snapshot;

use super::failure;
use super::locks::Locks;
use super::policy::Policy;
use super::post::Post;

/// The server's copy of the snapshot, in the directory of the run.
const STATE_FILE: &str = "run.state";
/// Violations on their way to be sent.
const MOST_FINDINGS: usize = 1024;
/// How often the statistics so far are sent: what is left of a machine that vanishes.
const SO_FAR_EVERY: Duration = Duration::from_secs(1);
/// Progress is told no more often.
const SHORTEST_PROGRESS: Duration = Duration::from_millis(100);
/// Longer names of files and clients are cut.
const LONGEST_NAME_CHARS: usize = 256;
/// Targets that the server tells of.
const MOST_TARGETS_TOLD: usize = 64;

/// A run that may begin.
pub struct Prepared {
    pub jobs: Vec<JobSpec>,
    pub options: RunOptions,
    pub gate: Arc<Door>,
    /// Violations, where the client wants them.
    pub findings: Option<Receiver<String>>,
}

/// Parses the jobs and holds them against the policy.
pub fn prepare(begin: Begin, post: &Arc<Post>) -> Result<Prepared, Failure> {
    let ours = |why: &str| failure(FailureKind::Unknown, why);
    let start = begin.start.ok_or_else(|| ours("the server sent no jobs"))?;
    let told = begin.policy.ok_or_else(|| ours("the server sent no policy"))?;
    let run = u128::from_str_radix(&begin.run, 16).map_err(|_| ours("the server's run has no name"))?;
    let run_directory = std::fs::canonicalize(&begin.run_directory)
        .map_err(|error| environment(format!("the run's directory {}: {error}", begin.run_directory)))?;
    // The policy keeps jobs out of it, and must find it.
    std::fs::create_dir_all(&told.lock_directory).map_err(|error| {
        environment(format!("cannot make the directory of locks {}: {error}", told.lock_directory))
    })?;
    let policy = Policy::new(&told, &run_directory).map_err(environment)?;
    // Relative names of jobs mean this.
    std::env::set_current_dir(policy.directory())
        .map_err(|error| environment(format!("cannot go to {}: {error}", policy.directory().display())))?;
    let jobs = parse(&start, &policy)?;
    let own = RunId(run);
    let goes_back = jobs.iter().any(|job| job.state.load || job.state.go_on);
    let gate = Arc::new(Door {
        policy,
        locks: PathBuf::from(&told.lock_directory),
        post: Arc::clone(post),
        run: own,
        job_file: start.job_files.first().map_or_else(|| "fio-spdk".to_owned(), |file| brief(&file.name)),
        client: brief(&start.client),
        detach: jobs.iter().any(|job| job.state.detach),
        state: goes_back.then(|| run_directory.join(STATE_FILE)),
        held: Mutex::default(),
        refusal: Mutex::default(),
    });
    let (findings_in, findings) = bounded(MOST_FINDINGS);
    let progress = Duration::from_nanos(start.progress_interval_ns);
    let options = RunOptions {
        readonly: start.readonly,
        destroy: start.destroy.clone(),
        status_interval: Some(SO_FAR_EVERY),
        progress_interval: (!progress.is_zero()).then(|| progress.max(SHORTEST_PROGRESS)),
        idle_profile: match start.idle_profile() {
            IdleProfile::None => None,
            IdleProfile::System => Some(false),
            IdleProfile::EachCpu => Some(true),
        },
        state: Some(run_directory.join(STATE_FILE)),
        // The report goes to the client.
        outputs: Vec::new(),
        bandwidth_log: Some(start.bandwidth_log.clone()).filter(|name| !name.is_empty()),
        findings: start.findings.then_some(findings_in),
        run: Some(own),
        max_memory_bytes: (told.max_memory_bytes > 0).then_some(told.max_memory_bytes),
        courier: Some(Arc::clone(post) as Arc<dyn crate::run::Courier>),
        gate: Some(Arc::clone(&gate) as Arc<dyn Gate>),
        verdicts: None,
        // A file of the client is not here.
        same_devices: None,
    };
    Ok(Prepared { jobs, options, gate, findings: start.findings.then_some(findings) })
}

/// A name that the client chose, as it goes into messages and files.
fn brief(name: &str) -> String {
    name.chars().take(LONGEST_NAME_CHARS).collect()
}

fn environment(why: String) -> Failure {
    failure(FailureKind::Environment, &why)
}

fn parse(start: &Start, policy: &Policy) -> Result<Vec<JobSpec>, Failure> {
    let forbidden = |why: String| failure(FailureKind::NotAllowed, &why);
    let bad = |why: String| failure(FailureKind::BadJob, &why);
    let files: Vec<(String, String)> =
        start.job_files.iter().map(|file| (file.name.clone(), file.text.clone())).collect();
    let overrides: Vec<(String, String)> =
        start.overrides.iter().map(|option| (option.name.clone(), option.value.clone())).collect();
    policy.check_text(&files, &overrides).map_err(forbidden)?;
    let jobs = job::parse(&files, &overrides).map_err(|wrong| {
        let kind = if wrong.refused_only() { FailureKind::Unsafe } else { FailureKind::BadJob };
        failure(kind, &wrong.render(false))
    })?;
    let jobs = job::sections(jobs, &start.sections).map_err(bad)?;
    policy.check_jobs(&jobs, &start.bandwidth_log).map_err(forbidden)?;
    Ok(jobs)
}

/// What a run goes through when its targets are known: policy, locks, and the words that it is accepted.
#[derive(Debug)]
pub struct Door {
    policy: Policy,
    locks: PathBuf,
    post: Arc<Post>,
    run: RunId,
    job_file: String,
    client: String,
    detach: bool,
    /// Where the snapshot to judge by belongs, if one is wanted.
    state: Option<PathBuf>,
    /// Until the run is over.
    held: Mutex<Option<Locks>>,
    refusal: Mutex<Option<Failure>>,
}

impl Door {
    /// Why it let nobody through, more exactly than the run can say.
    pub fn refusal(&self) -> Option<Failure> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn refuse(&self, kind: FailureKind, message: String) -> RunError {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure(kind, &message));
        RunError { kind: ErrorKind::BadJob, message }
    }

    fn accept(&self, targets: &[PlannedTarget]) {
        let mut names: Vec<String> = targets.iter().map(|target| target.path.display().to_string()).collect();
        names.dedup();
        names.truncate(MOST_TARGETS_TOLD);
        self.post.send_first(from_session::What::Underway(Underway {
            job_file: self.job_file.clone(),
            targets: names,
            detach: self.detach,
        }));
        let accepted = Accepted {
            protocol: Some(crate::remote::protocol()),
            run: self.run.to_string(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            drives: true,
            job_file: self.job_file.clone(),
            started_unix_ms: unix_time_ms(),
            client: self.client.clone(),
        };
        let what = Some(server_message::What::Accepted(accepted));
        self.post.send_first(from_session::What::ToClients(ServerMessage { what }));
    }

    /// Gets the snapshot to judge by from the client, and puts it where the run looks for it.
    fn fetch_state(&self, path: &Path) -> Result<(), String> {
        let bytes = self
            .post
            .fetch_state()
            .map_err(|why| format!("the client has no snapshot to judge by: {why}"))?;
        Snapshot::decode(&bytes).map_err(|why| format!("the client's snapshot is none: {why}"))?;
        let mut file = StateFile::reserve(path, bytes.len() as u64)?;
        file.store(&bytes).map_err(|error| format!("{}: {error}", path.display()))
    }
}

impl Gate for Door {
    fn enter(&self, targets: &[PlannedTarget]) -> Result<(), RunError> {
        let mut subjects = Vec::new();
        for target in targets {
            let subject = self.policy.check_target(target).map_err(|why| {
                self.refuse(FailureKind::NotAllowed, format!("job `{}`: {why}", printable(&target.job)))
            })?;
            subjects.extend(subject.map(|subject| (target.path.display().to_string(), subject)));
        }
        let client = if self.client.is_empty() { "a client" } else { &self.client };
        let who = format!(
            "run {} of {}, since {}",
            self.run,
            printable(client),
            humantime::format_rfc3339_seconds(std::time::SystemTime::now())
        );
        let locks = Locks::take(&self.locks, &subjects, &who).map_err(|(is_busy, why)| {
            self.refuse(if is_busy { FailureKind::Busy } else { FailureKind::Environment }, why)
        })?;
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(locks);
        if self.detach {
            self.post.detach();
        }
        self.accept(targets);
        match &self.state {
            Some(path) => self.fetch_state(path).map_err(|why| self.refuse(FailureKind::BadJob, why)),
            None => Ok(()),
        }
    }
}
