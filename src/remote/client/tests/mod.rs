//! The client against servers that do what a script says.

mod belief;
mod ends;
mod hostile;
mod stored;
mod triggers;
mod withheld;

use std::fmt::Debug;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::evidence::Shelf;
use super::*;
use crate::base::PerOp;
use crate::base::verify::{RunId, Verdict};
use crate::remote::address::Address;
use crate::remote::wire::bench::bench_server::{Bench, BenchServer};
use crate::remote::wire::bench::{ServerMessage, client_message::What as Said, server_message::What};
use crate::report::{CpuUse, IntervalSummary, JobReport, MachineReport};
use crate::stats::{VerifyTally, WorkerStats};
use crate::verify::snapshot::{Cause, JobState, Snapshot};

const RUN: &str = "0123456789abcdef0123456789abcdef";
const JOB: &str = "[[job]]\nname='j'\nfilename='data'\nsize='1m'\nrw='randwrite'\nverify='crc32c'\n";

/// What happened, in its order, over all servers and disks.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Where `what` stands for the first time.
    fn at(&self, what: &str) -> usize {
        let all = self.all();
        all.iter().position(|line| line == what).unwrap_or_else(|| panic!("no `{what}` in {all:#?}"))
    }

    /// How many lines begin so.
    fn beginning(&self, what: &str) -> usize {
        self.all().iter().filter(|line| line.starts_with(what)).count()
    }

    fn count(&self, what: &str) -> usize {
        self.all().iter().filter(|line| *line == what).count()
    }
}

/// A conversation, from the server's side.
struct Talk {
    from: Streaming<bench::ClientMessage>,
    to: mpsc::Sender<Result<ServerMessage, Status>>,
    log: Log,
    name: String,
    /// Why it was fired, if that came while it waited for something else.
    fired: Option<String>,
}

impl Talk {
    async fn say(&self, what: What) {
        // A client that is gone hears nothing.
        let _ = self.to.send(Ok(ServerMessage { what: Some(what) })).await;
    }

    /// What the client says next, but that it is alive; `None` if it says no more.
    async fn hear(&mut self) -> Option<Said> {
        loop {
            match self.from.message().await {
                Ok(Some(bench::ClientMessage { what: Some(Said::Alive(_)) })) => {}
                Ok(Some(message)) => return message.what,
                _ => return None,
            }
        }
    }

    fn log(&self, what: impl Debug) {
        self.log.add(format!("{}: {what:?}", self.name).replace('"', ""));
    }

    async fn accept(&mut self) -> Option<Said> {
        let first = self.hear().await;
        self.log("asked");
        self.say(accepted(RUN)).await;
        first
    }

    async fn snapshot(&mut self, number: u64, cause: bench::SnapshotCause) -> bench::Stored {
        self.say(snapshot(number, cause, state(number).encode())).await;
        self.stored().await
    }

    /// What became of a snapshot.
    async fn stored(&mut self) -> bench::Stored {
        loop {
            match self.hear().await {
                Some(Said::Stored(stored)) => {
                    let how = if stored.failure.is_empty() { "stored" } else { "not stored" };
                    self.log(format!("told {how}"));
                    return stored;
                }
                Some(Said::Fire(fire)) => self.fired = Some(fire.why),
                Some(other) => self.log(other),
                None => return bench::Stored { number: 0, failure: "the client is gone".to_owned() },
            }
        }
    }

    /// Ends a run in which all went well.
    async fn end(&self) {
        self.end_with(report()).await;
    }

    async fn end_with(&self, report: Report) {
        let report = Some(report::encode(&report));
        self.say(What::Ended(bench::Ended { report, exit_code: Some(0), ..bench::Ended::default() })).await;
    }

    /// Says nothing more, and hears nothing.
    async fn hang(self) {
        std::future::pending::<()>().await;
    }
}

fn accepted(run: &str) -> What {
    What::Accepted(bench::Accepted {
        protocol: Some(protocol()),
        run: run.to_owned(),
        host: "dut".to_owned(),
        drives: true,
        job_file: "powercut.toml".to_owned(),
        started_unix_ms: 1_000,
        client: String::new(),
    })
}

/// The report of a run of [`JOB`] in which all went well.
fn report() -> Report {
    let text = vec![("powercut.toml".to_owned(), JOB.to_owned())];
    let spec = crate::job::parse(&text, &[]).unwrap().remove(0);
    let mut tally = VerifyTally::default();
    tally.judged(Verdict::Ok, 1, 1);
    let job = JobReport {
        name: spec.name.clone(),
        group: 0,
        workers: 1,
        spec,
        started_unix_ms: 0,
        stats: WorkerStats::default(),
        intervals: PerOp::default(),
        mixed_intervals: IntervalSummary::default(),
        steady: None,
        cpu: CpuUse::default(),
        error: None,
        verify: Some(tally),
    };
    Report {
        time_unix_ms: 0,
        started_unix_ms: 0,
        unfinished: false,
        ended_by_signal: None,
        notes: Vec::new(),
        jobs: vec![job],
        reactors: Vec::new(),
        targets: Vec::new(),
        job_toml: None,
        trigger: None,
        machine: MachineReport::default(),
    }
}

fn state(number: u64) -> Snapshot {
    let job = JobState {
        stage: 0,
        name: format!("job {number}"),
        options: Vec::new(),
        seed: number,
        writes_are_durable: false,
        targets: Vec::new(),
        workers: Vec::new(),
    };
    let run = RunId(u128::from_str_radix(RUN, 16).unwrap());
    let taken_unix_ns = number;
    Snapshot {
        run,
        taken_unix_ns,
        cause: Cause::Trigger,
        tool: "test".to_owned(),
        jobs: vec![job],
        unverified: Vec::new(),
    }
}

fn snapshot(number: u64, cause: bench::SnapshotCause, content: Vec<u8>) -> What {
    let trigger = (cause == bench::SnapshotCause::Trigger).then(|| bench::TriggerReport {
        why: "trigger_ios, 5 I/Os".to_owned(),
        ledgers: 1,
        freeze_ns: 7,
        ..bench::TriggerReport::default()
    });
    What::Snapshot(bench::Snapshot {
        number,
        cause: cause.into(),
        content: content.into(),
        trigger,
        awaited: true,
    })
}

type Script = Arc<dyn Fn(Talk) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

fn script<F, T>(script: F) -> Script
where
    F: Fn(Talk) -> T + Send + Sync + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    Arc::new(move |talk| Box::pin(script(talk)))
}

struct Scripted {
    script: Script,
    protocol: bench::ProtocolVersion,
    log: Log,
    name: String,
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Bench for Scripted {
    type DriveStream = Pin<Box<dyn Stream<Item = Result<ServerMessage, Status>> + Send>>;

    async fn drive(&self, request: Request<Streaming<bench::ClientMessage>>) -> Answer<Self::DriveStream> {
        let (to, messages) = mpsc::channel(16);
        let talk = Talk {
            from: request.into_inner(),
            to,
            log: self.log.clone(),
            name: self.name.clone(),
            fired: None,
        };
        tokio::spawn((self.script)(talk));
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }

    async fn status(&self, _: Request<bench::StatusRequest>) -> Answer<bench::StatusReply> {
        let protocol = Some(self.protocol.clone());
        Ok(Response::new(bench::StatusReply {
            protocol,
            host: "dut\u{1b}[2J".to_owned(),
            ..bench::StatusReply::default()
        }))
    }

    async fn stop(&self, request: Request<bench::StopRequest>) -> Answer<bench::StopReply> {
        match request.into_inner().run.as_str() {
            "" => Ok(Response::new(bench::StopReply { run: RUN.to_owned(), was_over: false })),
            other => Err(Status::not_found(format!("no run begins with {other}"))),
        }
    }
}

struct Incoming(UnixListener);

impl Stream for Incoming {
    type Item = std::io::Result<UnixStream>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_accept(context).map(|accepted| Some(accepted.map(|(stream, _)| stream)))
    }
}

/// A directory with servers.
struct Lab {
    dir: tempfile::TempDir,
    log: Log,
    runtime: Option<tokio::runtime::Runtime>,
    joiner: Joiner,
    requests: Requests,
    silence: Duration,
    connect_within: Duration,
    job: String,
    detach: bool,
    hear: Heard,
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Lab {
    fn new() -> Lab {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Lab {
            dir: tempfile::tempdir().unwrap(),
            log: Log::default(),
            runtime: Some(runtime.unwrap()),
            joiner: evidence::files(),
            requests: Requests::default(),
            silence: Duration::from_secs(20),
            connect_within: Duration::from_secs(20),
            job: JOB.to_owned(),
            detach: false,
            hear: Heard::default(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn address(&self, name: &str) -> Address {
        Address::Unix(self.path(name))
    }

    /// The state of a server's run, and the link to it.
    fn file(&self, name: &str) -> PathBuf {
        self.path(&format!("powercut.{}.{RUN}.state", self.address(name).file_name()))
    }

    fn link(&self, name: &str) -> PathBuf {
        self.path(&format!("powercut.{}.state", self.address(name).file_name()))
    }

    fn serve(&self, name: &str, script: Script) {
        self.serve_late(name, script, protocol(), Duration::ZERO);
    }

    fn serve_late(&self, name: &str, script: Script, protocol: bench::ProtocolVersion, late: Duration) {
        let scripted = Scripted { script, protocol, log: self.log.clone(), name: name.to_owned() };
        let (path, log, name) = (self.path(name), self.log.clone(), name.to_owned());
        let runtime = self.runtime.as_ref().unwrap();
        let bind = move || Incoming(UnixListener::bind(&path).unwrap());
        // Those that are not late are there at once.
        let bound = late.is_zero().then(|| {
            let _inside = runtime.enter();
            bind()
        });
        runtime.spawn(async move {
            let incoming = match bound {
                Some(incoming) => incoming,
                None => {
                    tokio::time::sleep(late).await;
                    log.add(format!("{name}: there"));
                    bind()
                }
            };
            let service = BenchServer::new(scripted).max_encoding_message_size(usize::MAX);
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
    }

    fn work(&self) -> Work {
        let jobs = crate::job::parse(&[("powercut.toml".to_owned(), self.job.clone())], &[]);
        let mut jobs = jobs.unwrap_or_else(|why| panic!("{why}"));
        jobs[0].state.detach = self.detach;
        let job_files = vec![("powercut.toml".to_owned(), self.job.clone())];
        Work::Run { job_files, jobs, state: self.path("powercut.state") }
    }

    fn drive(&mut self, names: &[&str]) -> Vec<Outcome> {
        let targets =
            names.iter().map(|name| Target { address: self.address(name), work: self.work() }).collect();
        self.drive_all(targets)
    }

    fn drive_all(&mut self, servers: Vec<Target>) -> Vec<Outcome> {
        let order = Order {
            servers,
            overrides: vec![("runtime".to_owned(), "1".to_owned())],
            sections: Vec::new(),
            readonly: false,
            destroy: Vec::new(),
            idle_profile: None,
            bandwidth_log: None,
            findings: true,
            trust: Trust::default(),
            connect_within: self.connect_within,
            silence: self.silence,
            progress_interval: Duration::from_millis(20),
            status_interval: None,
        };
        let tools = Tools { connector: way::connector(&Trust::default()), joiner: Arc::clone(&self.joiner) };
        drive_with(&order, &self.requests, &mut self.hear, &tools)
    }

    /// Stores through `make`, by the address of the server as a file's name.
    fn store_by(&mut self, make: impl Fn(Log, &str) -> Box<dyn Shelf> + Send + Sync + 'static) {
        let log = self.log.clone();
        self.joiner = Arc::new(move |path: &Path, _| Ok(make(log.clone(), &path.to_string_lossy())));
    }
}

#[derive(Default)]
struct Heard {
    notes: Vec<String>,
    findings: Vec<String>,
    most_running: u32,
}

impl Watcher for Heard {
    fn note(&mut self, server: usize, text: &str) {
        self.notes.push(format!("{server}: {text}"));
    }

    fn progress(&mut self, servers: &[Option<Progress>]) {
        let running = servers.iter().flatten().map(|progress| progress.workers_running).sum();
        self.most_running = self.most_running.max(running);
    }

    fn so_far(&mut self, _: &[Option<Report>]) {}

    fn finding(&mut self, _: usize, line: &str) {
        self.findings.push(line.to_owned());
    }
}

impl Heard {
    fn has(&self, text: &str) -> bool {
        self.notes.iter().any(|note| note.contains(text))
    }
}

/// A shelf that takes its time, or fails from the n-th time on, and says what it does.
#[derive(Debug)]
struct Slow {
    log: Log,
    name: String,
    takes: Duration,
    fails_from: u32,
    times: AtomicU32,
}

impl Shelf for Slow {
    fn store(&mut self, _: &[u8]) -> std::io::Result<()> {
        std::thread::sleep(self.takes);
        if self.times.fetch_add(1, Ordering::Relaxed) + 1 >= self.fails_from {
            self.log.add(format!("{} fails", self.name));
            return Err(std::io::Error::other("no space"));
        }
        self.log.add(format!("{} holds", self.name));
        Ok(())
    }
}

#[track_caller]
fn message(outcome: &Outcome) -> &str {
    outcome.failure.as_ref().map_or("", |failure| &failure.message)
}

#[track_caller]
fn well(outcomes: &[Outcome]) {
    assert!(outcomes.iter().all(|outcome| outcome.failure.is_none()), "{outcomes:#?}");
}
