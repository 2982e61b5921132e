//! The client: drives runs on one or several servers, and keeps what they promise.
//!
//! The calling thread decides (`conduct`, `trigger`); a runtime beside it speaks with the servers
//! (`link`); a thread for each server stores what it promised (`evidence`), and only then says so.
//! What a server sends never says what runs here nor where a file lies.

pub mod ask;
mod belief;
mod conduct;
mod end;
mod evidence;
mod link;
#[cfg(test)]
mod tests;
mod trigger;
mod way;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use tokio::sync::watch;

use crate::base::clock::Clock;
use crate::job::JobSpec;
use crate::report::Report;
use crate::run::{Progress, Requests};

use super::address::Address;
use super::connect::Trust;
use super::protocol;
use super::wire::bench::{self, client_message::What};
use super::wire::report;

use conduct::{Conductor, Server};
use evidence::{Evidence, Joiner, Place};
use link::{Connector, Event, Line, Link, Told, environment};

/// What is to be done on which servers.
#[derive(Clone, Debug)]
pub struct Order {
    /// At least one.
    pub servers: Vec<Target>,
    /// Options of the command line, for all jobs.
    pub overrides: Vec<(String, String)>,
    /// Only these jobs; all without.
    pub sections: Vec<String>,
    /// Refuse jobs that write.
    pub readonly: bool,
    /// Devices whose contents may be destroyed although they carry a signature.
    pub destroy: Vec<String>,
    /// Tell how idle the servers' CPUs were; true: also each by itself.
    pub idle_profile: Option<bool>,
    /// Log the bandwidth of all jobs together, on the servers.
    pub bandwidth_log: Option<String>,
    /// Tell violations one by one.
    pub findings: bool,
    /// What is shown to them, and whom of them to trust.
    pub trust: Trust,
    /// How long to try to reach a server.
    pub connect_within: Duration,
    /// A server that is silent for so long has vanished.
    pub silence: Duration,
    /// How often progress is told.
    pub progress_interval: Duration,
    /// How often the statistics so far are told; never without.
    pub status_interval: Option<Duration>,
}

/// One server, and what it is to do.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it is.
    pub address: Address,
    /// What it is to do.
    pub work: Work,
}

/// What a server is to do.
#[derive(Clone, Debug)]
pub enum Work {
    /// Run jobs.
    Run {
        /// Name and text of each job file.
        job_files: Vec<(String, String)>,
        /// The jobs in them, as this side reads them.
        jobs: Vec<JobSpec>,
        /// Where snapshots go, but for the server's name: `dir/powercut.state` stands for
        /// `dir/powercut.dut1.state`.
        state: PathBuf,
    },
    /// Go on with a run, or watch it.
    Attach {
        /// Its run id, or how it begins; empty: the only one that runs, or the last one.
        run: String,
        /// Watch only.
        watch: bool,
        /// Where snapshots go: a directory.
        state_dir: PathBuf,
    },
}

/// Who is told what happens. `server` counts [`Order::servers`].
pub trait Watcher {
    /// Something the user should read.
    fn note(&mut self, server: usize, text: &str);
    /// The last progress of each server, several times a second.
    fn progress(&mut self, servers: &[Option<Progress>]);
    /// The statistics so far of each server: asked for by signal or interval.
    fn so_far(&mut self, reports: &[Option<Report>]);
    /// A violation, as a line of JSON.
    fn finding(&mut self, server: usize, line: &str);
}

/// What became of a server's run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The server.
    pub address: Address,
    /// Its run's id, if there was one.
    pub run: Option<String>,
    /// What was measured; of a server that vanished, what had arrived.
    pub report: Option<Report>,
    /// What went wrong, if anything did. That a machine vanishes behind a trigger is nothing wrong.
    pub failure: Option<Failure>,
}

/// What went wrong with a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which of the exit codes it is.
    pub kind: FailureKind,
    /// What, where, what to do.
    pub message: String,
}

/// The kinds of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The jobs are wrong, or not allowed there (exit 2).
    BadJob,
    /// The server's machine refuses, or the server cannot be reached, disagrees or vanished (exit 4).
    Environment,
    /// The run ended, and nothing shows that its jobs verified what they were to verify (exit 5).
    Inconclusive,
    /// An unsafe target (exit 6).
    Unsafe,
}

/// Events that may wait for the calling thread.
const MOST_EVENTS: usize = 256;

/// Drives the runs of `order` to their ends: one outcome for each of its servers, in their order.
/// Signals come through `requests`, as for a local run.
pub fn drive(order: &Order, requests: &Requests, watcher: &mut dyn Watcher) -> Vec<Outcome> {
    let tools = Tools { connector: way::connector(&order.trust), joiner: evidence::files() };
    drive_with(order, requests, watcher, &tools)
}

/// What tests have others of.
struct Tools {
    connector: Connector,
    joiner: Joiner,
}

fn drive_with(order: &Order, requests: &Requests, watcher: &mut dyn Watcher, tools: &Tools) -> Vec<Outcome> {
    let places: Vec<Place> = order.servers.iter().map(place).collect();
    if let Some(failures) = check_places(order, &places) {
        return failures;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("client")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(why) => return all_failed(order, &format!("no connections can be made: {why}")),
    };
    let (events, heard) = crossbeam_channel::bounded(MOST_EVENTS);
    let (go, wait_for_go) = watch::channel(false);
    let mut servers = Vec::new();
    for (at, (target, place)) in order.servers.iter().zip(places).enumerate() {
        let line = Arc::new(Line::default());
        let teller = Teller { server: at, line: Arc::clone(&line), events: events.clone() };
        let evidence = match Evidence::open(Arc::clone(&tools.joiner), Box::new(teller)) {
            Ok(evidence) => Arc::new(evidence),
            Err(why) => return all_failed(order, &format!("no thread for the state: {why}")),
        };
        runtime.spawn(
            Link {
                server: at,
                address: target.address.clone(),
                first: first(order, target),
                connector: Arc::clone(&tools.connector),
                connect_within: order.connect_within,
                silence: order.silence,
                comes_back: matches!(&target.work, Work::Run { jobs, .. } if detaches(jobs)),
                progress_interval_ns: ns(order.progress_interval),
                most_jobs: most_jobs(&target.work),
                line: Arc::clone(&line),
                evidence: Arc::clone(&evidence),
                events: events.clone(),
                go: wait_for_go.clone(),
            }
            .run(),
        );
        servers.push(Server::new(target, line, evidence, place));
    }
    let jobs = order.servers.iter().filter_map(|target| match &target.work {
        Work::Run { jobs, .. } => jobs.first(),
        Work::Attach { .. } => None,
    });
    let triggers = trigger::Triggers::of(jobs);
    let clock = Clock::get();
    let conductor =
        Conductor { order, requests, watcher, servers, triggers, clock, events, go, ends_told: 0 };
    conductor.conduct(heard, runtime)
}

/// Where the state of a server's runs lies.
fn place(target: &Target) -> Place {
    let server = target.address.file_name();
    match &target.work {
        Work::Run { jobs, state, .. } => Place::of_jobs(state, jobs, server),
        Work::Attach { state_dir, .. } => Place::of_any(state_dir, server),
    }
}

/// Nothing starts anywhere if the state of one server could not be kept.
fn check_places(order: &Order, places: &[Place]) -> Option<Vec<Outcome>> {
    let keeps = |job: &JobSpec| {
        job.state.save && job.verify.method.is_some() && job.mix.modifies() && !job.verify.only
    };
    let needs = |target: &Target| match &target.work {
        Work::Run { jobs, .. } => jobs.iter().any(keeps),
        Work::Attach { watch, .. } => !watch,
    };
    let pairs = order.servers.iter().zip(places);
    let check = |(target, place): (&Target, &Place)| if needs(target) { place.check() } else { Ok(()) };
    let checked: Vec<Result<(), String>> = pairs.map(check).collect();
    let first = checked.iter().position(Result::is_err)?;
    let of = &order.servers[first].address;
    let outcome = |(target, checked): (&Target, Result<(), String>)| {
        let why = checked.err().unwrap_or_else(|| format!("not started: the state of {of} cannot be kept"));
        Outcome::failed(target, format!("{}: {why}", target.address))
    };
    Some(order.servers.iter().zip(checked).map(outcome).collect())
}

fn all_failed(order: &Order, why: &str) -> Vec<Outcome> {
    order.servers.iter().map(|target| Outcome::failed(target, why.to_owned())).collect()
}

impl Outcome {
    fn failed(target: &Target, why: String) -> Outcome {
        let failure = Some(environment(why));
        Outcome { address: target.address.clone(), run: None, report: None, failure }
    }
}

/// Whether the run of these jobs goes on without a client.
fn detaches(jobs: &[JobSpec]) -> bool {
    jobs.first().is_some_and(|job| job.state.detach)
}

/// So many jobs a report of this can have.
fn most_jobs(work: &Work) -> usize {
    match work {
        Work::Run { jobs, .. } => jobs.iter().map(|job| job.numjobs.max(1) as usize).sum(),
        Work::Attach { .. } => report::MOST_JOBS,
    }
}

/// What is said first.
fn first(order: &Order, target: &Target) -> What {
    match &target.work {
        Work::Run { job_files, .. } => What::Start(bench::Start {
            protocol: Some(protocol()),
            job_files: job_files
                .iter()
                .map(|(name, text)| bench::File { name: name.clone(), text: text.clone() })
                .collect(),
            overrides: order
                .overrides
                .iter()
                .map(|(name, value)| bench::Option { name: name.clone(), value: value.clone() })
                .collect(),
            sections: order.sections.clone(),
            readonly: order.readonly,
            destroy: order.destroy.clone(),
            idle_profile: match order.idle_profile {
                None => bench::IdleProfile::None,
                Some(false) => bench::IdleProfile::System,
                Some(true) => bench::IdleProfile::EachCpu,
            }
            .into(),
            bandwidth_log: order.bandwidth_log.clone().unwrap_or_default(),
            client: own_name(),
            findings: order.findings,
            progress_interval_ns: ns(order.progress_interval),
        }),
        Work::Attach { run, watch, .. } => What::Attach(bench::Attach {
            protocol: Some(protocol()),
            run: run.clone(),
            watch: *watch,
            client: own_name(),
            progress_interval_ns: ns(order.progress_interval),
        }),
    }
}

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// This client, for people at the server.
fn own_name() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}, process {}", std::process::id())
}

/// Tells of a server's state: first the server, then the calling thread.
struct Teller {
    server: usize,
    line: Arc<Line>,
    events: Sender<Told>,
}

impl evidence::Told for Teller {
    fn stored(&self, stored: evidence::Stored) {
        let failure = stored.result.as_ref().err().cloned().unwrap_or_default();
        self.line.say(What::Stored(bench::Stored { number: stored.number, failure }));
        // Nobody listens any more if the client has left.
        let _ = self.events.send((self.server, Event::Stored(stored)));
    }

    fn state(&self, state: Result<Vec<u8>, String>) {
        let _ = self.events.send((self.server, Event::State(state)));
    }

    fn no_room(&self, why: String) {
        let _ = self.events.send((self.server, Event::NoRoom(why)));
    }
}
