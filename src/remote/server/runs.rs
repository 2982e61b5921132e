//! The runs: those that go on, and those of which something is kept.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::crypto::ring;
use tokio::sync::watch;
use tonic::Status;

use crate::base::clock::unix_time_ms;
use crate::base::host::printable;
use crate::remote::listen::{Kind, Log};
use crate::remote::protocol;
use crate::remote::settings::Settings;
use crate::remote::wire::bench::{Accepted, Ended, Failure, FailureKind, RunStatus, Start, server_message};
use crate::remote::wire::report;
use crate::remote::wire::session::{Begin, Policy, Underway};

use super::in_ns;
use super::known::Known;
use super::place;
use super::relay;
use super::shelf::{Facts, Process, Shelf};

/// A longer name of a file, client or target is cut.
const LONGEST_NAME_CHARS: usize = 256;
/// More targets are not listed.
const MOST_TARGETS: usize = 1000;

/// Locks, whatever became of who held it before: what is inside is plain data.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Text of another's for a terminal and a log, of bounded length.
pub fn shown(text: &str) -> String {
    printable(&text.chars().take(LONGEST_NAME_CHARS).collect::<String>())
}

/// One run.
#[derive(Debug)]
pub struct Run {
    /// Its id.
    pub id: String,
    facts: Mutex<Facts>,
    known: Mutex<Known>,
    changed: watch::Sender<()>,
    conversations: AtomicU64,
    host: String,
}

impl Run {
    fn new(facts: Facts, known: Known, host: &str) -> Run {
        Run {
            id: facts.run.clone(),
            facts: Mutex::new(facts),
            known: Mutex::new(known),
            changed: watch::Sender::new(()),
            conversations: AtomicU64::new(0),
            host: host.to_owned(),
        }
    }

    /// What it is.
    pub fn facts(&self) -> Facts {
        lock(&self.facts).clone()
    }

    /// What is known of it. Who changes it says so by [`Run::has_changed`].
    pub fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }

    /// Wakes all who wait for something new.
    pub fn has_changed(&self) {
        self.changed.send_replace(());
    }

    /// Sees each change.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Notes what its process says.
    pub fn heard(&self, what: server_message::What) {
        let what = match what {
            server_message::What::Accepted(accepted) => {
                server_message::What::Accepted(self.accepted(accepted))
            }
            other => other,
        };
        self.known().heard(what);
        self.has_changed();
    }

    /// What the server knows better than a run's process.
    fn accepted(&self, said: Accepted) -> Accepted {
        let facts = lock(&self.facts);
        let started_unix_ms =
            if said.started_unix_ms == 0 { facts.started_unix_ms } else { said.started_unix_ms };
        Accepted {
            protocol: Some(protocol()),
            run: self.id.clone(),
            host: self.host.clone(),
            started_unix_ms,
            drives: false,
            client: facts.client.clone(),
            ..said
        }
    }

    /// Notes what its process says when it begins.
    pub fn is_underway(&self, underway: Underway) {
        let mut facts = lock(&self.facts);
        facts.job_file = shown(&underway.job_file);
        facts.targets = underway.targets.iter().take(MOST_TARGETS).map(|target| shown(target)).collect();
        facts.detached = underway.detach;
        "running".clone_into(&mut facts.state);
        drop(facts);
        self.has_changed();
    }

    /// Returns when it shall be killed.
    pub async fn is_to_be_killed(&self) {
        let mut changed = self.changes();
        while !self.known().to_be_killed {
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whoever begins to talk with it gets a number, and whether it drives; `None` if too many watch.
    pub fn join(&self, wants_to_drive: bool, begins: bool, most_watchers: usize) -> Option<(u64, bool)> {
        let number = self.conversations.fetch_add(1, Ordering::Relaxed);
        let mut known = self.known();
        let drives = wants_to_drive && known.driver.is_none();
        if drives {
            known.driver = Some(number);
            if !begins {
                known.outbox.driver_changes += 1;
            }
        } else if (known.watchers as usize) < most_watchers {
            known.watchers += 1;
            if wants_to_drive {
                known.next_drivers.push_back(number);
            }
        } else {
            return None;
        }
        drop(known);
        self.has_changed();
        Some((number, drives))
    }

    /// Whether the talk of this number is its driver's.
    pub fn is_driven_by(&self, number: u64) -> bool {
        self.known().driver == Some(number)
    }

    /// Ends the talk of this number. Who would have driven the run if this one had not does so now.
    pub fn leave(&self, number: u64) {
        let mut known = self.known();
        if known.driver == Some(number) {
            // When all is over there is nothing left to drive.
            let goes_on = known.ended.is_none();
            known.driver = if goes_on { known.next_drivers.pop_front() } else { None };
            known.outbox.driver_changes += 1;
            if known.driver.is_some() {
                known.watchers = known.watchers.saturating_sub(1);
                known.outbox.driver_changes += 1;
            }
        } else {
            known.watchers = known.watchers.saturating_sub(1);
            known.next_drivers.retain(|&other| other != number);
        }
        drop(known);
        self.has_changed();
    }

    fn status(&self) -> RunStatus {
        let known = self.known();
        let (driven, watchers, progress) = (known.driver.is_some(), known.watchers, known.progress());
        drop(known);
        RunStatus { driven, watchers, progress, ..status_of(self.facts()) }
    }
}

fn status_of(facts: Facts) -> RunStatus {
    RunStatus {
        run: facts.run,
        job_file: facts.job_file,
        client: facts.client,
        started_unix_ms: facts.started_unix_ms,
        ended_unix_ms: facts.ended_unix_ms,
        targets: facts.targets,
        detached: facts.detached,
        state: facts.state,
        ..RunStatus::default()
    }
}

/// A run that was asked for.
#[derive(Debug)]
pub enum Found {
    /// It goes on.
    Running(Arc<Run>),
    /// It has ended, or nobody here can talk with it.
    Over(Facts),
}

#[derive(Debug, Default)]
struct Inner {
    running: BTreeMap<String, Arc<Run>>,
    /// Those that have ended, the last one first.
    over: Vec<Facts>,
    /// Those of a server before this one that may still be ending.
    ending: Vec<Facts>,
}

/// All runs.
#[derive(Debug)]
pub struct Runs {
    settings: Settings,
    shelf: Shelf,
    host: String,
    inner: Mutex<Inner>,
    closing: AtomicBool,
    /// How many go on.
    count: watch::Sender<usize>,
    /// What does a run: a program and its arguments.
    program: &'static [&'static str],
}

impl Runs {
    /// Those that are kept in the server's directory.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(settings: Settings, host: String, program: &'static [&'static str]) -> std::io::Result<Runs> {
        let shelf = Shelf::open(&settings.directory)?;
        let mut inner = Inner::default();
        for facts in shelf.all()? {
            if facts.ended_unix_ms > 0 { inner.over.push(facts) } else { inner.ending.push(facts) }
        }
        let runs = Runs {
            settings,
            shelf,
            host,
            inner: Mutex::new(inner),
            closing: AtomicBool::new(false),
            count: watch::Sender::new(0),
            program,
        };
        runs.settle();
        Ok(runs)
    }

    /// Looks again at runs of a server before this one, and removes what is more than is to be kept.
    fn settle(&self) {
        let mut inner = lock(&self.inner);
        let ending = std::mem::take(&mut inner.ending);
        for mut facts in ending {
            if facts.process.as_ref().is_some_and(Process::is_there) {
                "ending: the server that began it is gone".clone_into(&mut facts.state);
                inner.ending.push(facts);
                continue;
            }
            facts.state = match self.shelf.end(&facts.run) {
                Some(ended) => in_words(&ended),
                None => "broken off: neither its server nor its process have seen its end".to_owned(),
            };
            facts.ended_unix_ms = self.shelf.end_unix_ms(&facts.run).unwrap_or(facts.started_unix_ms).max(1);
            self.keep(&facts);
            inner.over.push(facts);
        }
        inner.over.sort_by_key(|facts| std::cmp::Reverse((facts.ended_unix_ms, facts.started_unix_ms)));
        while inner.over.len() > self.settings.keep_runs {
            let Some(oldest) = inner.over.pop() else { break };
            self.remove(&oldest.run);
        }
    }

    fn keep(&self, facts: &Facts) {
        if let Err(why) = self.shelf.write_facts(facts) {
            trouble(&format!("run {}: what it is cannot be kept: {why}", facts.run));
        }
    }

    fn remove(&self, run: &str) {
        if let Err(why) = self.shelf.remove(run) {
            trouble(&format!("run {run}: its files cannot be removed: {why}"));
        }
    }

    /// Begins a run: its process is on its way when this comes back.
    ///
    /// # Errors
    /// With the status that the client is to get.
    pub fn begin(self: &Arc<Self>, start: Start, client: String) -> Result<Arc<Run>, Status> {
        let refused = |what: &str, why: &dyn std::fmt::Display| {
            trouble(&format!("a run cannot begin: {what}: {why}"));
            Status::internal(format!("{what}: {why}"))
        };
        let mut id = [0; 16];
        let random = ring::default_provider().secure_random.fill(&mut id);
        random.map_err(|why| refused("no random number for the run", &format!("{why:?}")))?;
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let job_file = start.job_files.first().map(|file| shown(&file.name)).unwrap_or_default();
        let mut facts = Facts {
            run: id.clone(),
            client,
            job_file,
            started_unix_ms: unix_time_ms(),
            state: "beginning".to_owned(),
            ..Facts::default()
        };
        let run = Arc::new(Run::new(facts.clone(), Known::default(), &self.host));
        {
            let mut inner = lock(&self.inner);
            if self.closing.load(Ordering::Acquire) {
                return Err(Status::unavailable("the server is about to end, and begins no runs any more"));
            }
            if inner.running.len() >= self.settings.max_runs {
                return Err(Status::resource_exhausted(format!(
                    "{} runs go on here, and max_runs of server.toml allows no more: end one, or wait",
                    inner.running.len()
                )));
            }
            inner.running.insert(id.clone(), Arc::clone(&run));
            self.count.send_replace(inner.running.len());
        }
        let begun =
            self.shelf.make(&facts).map_err(|why| refused("no directory for the run", &why)).and_then(|()| {
                let (child, socket) =
                    relay::spawn(self.program).map_err(|why| refused("no process for the run", &why))?;
                facts.process = child.id().and_then(Process::of);
                self.keep(&facts);
                lock(&run.facts).process.clone_from(&facts.process);
                Ok((child, socket))
            });
        let (child, socket) = match begun {
            Ok(begun) => begun,
            Err(status) => {
                self.forget(&id);
                return Err(status);
            }
        };
        let begin = self.order(start, &id);
        let text = format!("run {id} of {}: {} begins", facts.client, facts.job_file);
        Log::shared().line(Kind::Run, &text);
        let (runs, attended) = (Arc::clone(self), Arc::clone(&run));
        tokio::spawn(async move {
            let inner = Arc::clone(&attended);
            // A bug while it is attended to must not leave it without an end.
            let ended = tokio::spawn(async move { relay::attend(&inner, begin, child, socket).await }).await;
            let ended = ended
                .unwrap_or_else(|why| relay::broken_off(&attended, &format!("a bug of the server: {why}")));
            let _ = tokio::task::spawn_blocking(move || runs.finish(&attended, ended)).await;
        });
        Ok(run)
    }

    fn order(&self, start: Start, run: &str) -> Begin {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let settings = &self.settings;
        Begin {
            start: Some(start),
            run: run.to_owned(),
            run_directory: text(&self.shelf.directory(run)),
            policy: Some(Policy {
                directory: text(&settings.directory),
                devices: settings.devices.clone(),
                commands: settings.commands.clone(),
                lock_directory: text(&settings.directory.join("locks")),
                own: place::own(settings).iter().map(|path| text(path)).collect(),
                max_memory_bytes: settings.max_memory_bytes,
            }),
            answer_within_ns: in_ns(settings.answer_within),
        }
    }

    fn forget(&self, run: &str) {
        let mut inner = lock(&self.inner);
        inner.running.remove(run);
        self.count.send_replace(inner.running.len());
        drop(inner);
        self.remove(run);
    }

    /// Keeps how a run ended, and tells all who wait for it.
    fn finish(&self, run: &Run, ended: Ended) {
        let mut facts = run.facts();
        facts.ended_unix_ms = unix_time_ms();
        facts.state = in_words(&ended);
        facts.process = None;
        let text = format!("run {} of {}: {}", run.id, facts.client, shown(&facts.state));
        Log::shared().line(Kind::Run, &text);
        lock(&run.facts).clone_from(&facts);
        // What has not begun leaves nothing that anybody would come back for.
        let began = run.known().accepted.is_some() || self.shelf.has_snapshot(&run.id);
        if began {
            if let Err(why) = self.shelf.write_end(&run.id, &ended) {
                trouble(&format!("run {}: its report cannot be kept: {why}", run.id));
            }
            self.keep(&facts);
        }
        let mut inner = lock(&self.inner);
        inner.running.remove(&run.id);
        if began {
            inner.over.insert(0, facts);
        }
        self.count.send_replace(inner.running.len());
        drop(inner);
        if !began {
            self.remove(&run.id);
        }
        run.known().ended = Some(Arc::new(ended));
        run.has_changed();
        self.settle();
    }

    /// The run whose id begins so; without, the only one that goes on or, if none does, the last one.
    ///
    /// # Errors
    /// If there is none, or several.
    pub fn find(&self, begins: &str) -> Result<Found, Status> {
        self.settle();
        let inner = lock(&self.inner);
        let over = || inner.ending.iter().chain(&inner.over);
        if begins.is_empty() {
            let mut running = inner.running.values();
            return match (running.next(), running.next()) {
                (Some(run), None) => Ok(Found::Running(Arc::clone(run))),
                (Some(_), Some(_)) => Err(Status::failed_precondition(format!(
                    "{} runs go on here: say which, by the beginning of its id ({})",
                    inner.running.len(),
                    inner.running.keys().map(|id| &id[..8]).collect::<Vec<_>>().join(", ")
                ))),
                (None, _) => match over().next() {
                    Some(facts) => Ok(Found::Over(facts.clone())),
                    None => Err(Status::not_found("no run goes on here, and none is kept")),
                },
            };
        }
        let begins = begins.to_ascii_lowercase();
        let running = inner.running.values().filter(|run| run.id.starts_with(&begins));
        let mut found: Vec<Found> = running.map(|run| Found::Running(Arc::clone(run))).collect();
        found.extend(over().filter(|facts| facts.run.starts_with(&begins)).cloned().map(Found::Over));
        match (found.pop(), found.len()) {
            (Some(found), 0) => Ok(found),
            (Some(_), more) => Err(Status::failed_precondition(format!(
                "{} runs have an id that begins with {}: write more of it",
                more + 1,
                shown(&begins)
            ))),
            (None, _) => {
                Err(Status::not_found(format!("no run with an id that begins with {}", shown(&begins))))
            }
        }
    }

    /// A run that is over, as one that a client can be told of.
    pub fn revive(&self, facts: Facts) -> Run {
        let ended = self.shelf.end(&facts.run).unwrap_or_else(|| {
            let message = format!("the run is {}", facts.state);
            let failure = Some(Failure { kind: FailureKind::Environment.into(), message });
            Ended { failure, ..Ended::default() }
        });
        let accepted = Accepted { job_file: facts.job_file.clone(), ..Accepted::default() };
        let run = Run::new(facts, Known::default(), &self.host);
        let accepted = run.accepted(accepted);
        *run.known() = Known::kept(accepted, self.shelf.snapshot(&run.id), ended);
        run
    }

    /// Running ones first, then those that have ended, the last one first.
    pub fn status(&self) -> Vec<RunStatus> {
        self.settle();
        let inner = lock(&self.inner);
        let mut running: Vec<RunStatus> = inner.running.values().map(|run| run.status()).collect();
        running.sort_by_key(|status| status.started_unix_ms);
        running.extend(inner.ending.iter().chain(&inner.over).cloned().map(status_of));
        running
    }

    /// What goes on.
    pub fn running(&self) -> Vec<Arc<Run>> {
        lock(&self.inner).running.values().cloned().collect()
    }

    /// Begins no more runs.
    pub fn close(&self) {
        let _inner = lock(&self.inner);
        self.closing.store(true, Ordering::Release);
    }

    /// Returns when nothing goes on any more.
    pub async fn are_over(&self) {
        let _ = self.count.subscribe().wait_for(|&count| count == 0).await;
    }
}

fn trouble(text: &str) {
    Log::shared().line(Kind::Trouble, text);
}

/// How a run ended, in words.
fn in_words(ended: &Ended) -> String {
    if let Some(failure) = &ended.failure {
        return shown(&failure.message);
    }
    let Some(Ok(report)) = ended.report.as_ref().map(report::decode) else { return "ended".to_owned() };
    // The session's own word for it, where it was no person's signal.
    let why = report.notes.iter().find_map(|note| note.strip_prefix("the run was ended"));
    let why = why.map(shown).unwrap_or_default();
    let signal = report.ended_by_signal.map(|signal| match signal_hook::low_level::signal_name(signal) {
        Some(name) => format!("ended by {name}{why}"),
        None => format!("ended by signal {signal}{why}"),
    });
    let violations = report.violations();
    let errors = report.jobs.iter().any(|job| job.error.is_some());
    match (violations, signal, &report.trigger) {
        (1, ..) => "1 violation".to_owned(),
        (2.., ..) => format!("{violations} violations"),
        (0, Some(signal), _) => signal,
        (0, None, Some(trigger)) => format!("ended by its trigger: {}", shown(&trigger.why)),
        (0, None, None) if errors => "ended with errors".to_owned(),
        (0, None, None) => "ended well".to_owned(),
    }
}
