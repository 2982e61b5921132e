//! What a person sees while servers run.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::base::clock::unix_time_ms;
use crate::base::host::output_file::{self, Start};
use crate::base::host::printable;
use crate::cli::terminal::{Terminal, live_of};
use crate::remote::address::Address;
use crate::remote::client::{Failure, FailureKind, Outcome, Target, Watcher, Work};
use crate::report::Report;
use crate::report::fleet::{self, Fleet, ServerFailure, ServerReport};
use crate::report::live::Live;
use crate::run::{Observer, Progress};

/// A server as it is shown.
pub struct Server {
    name: String,
    host: String,
    port: u16,
    jobs: Vec<String>,
}

impl Server {
    pub fn of(target: &Target) -> Server {
        let (host, port) = match &target.address {
            Address::Tcp { host, port } => (host.clone(), *port),
            Address::Unix(path) => (path.to_string_lossy().into_owned(), 0),
        };
        let jobs = match &target.work {
            Work::Run { jobs, .. } => jobs.iter().map(|job| job.name.clone()).collect(),
            Work::Attach { .. } => Vec::new(),
        };
        Server { name: target.address.to_string(), host, port, jobs }
    }
}

/// The terminal, the report's file and that of verdicts.
pub struct Screen {
    terminal: Terminal,
    servers: Vec<Server>,
    started_unix_ms: u64,
    verdicts: Option<(PathBuf, File)>,
    /// What kept a verdict from being written.
    trouble: Option<String>,
}

impl Screen {
    /// Finds out now whether verdicts can be written.
    pub fn new(
        terminal: Terminal,
        servers: Vec<Server>,
        verdicts: Option<PathBuf>,
    ) -> Result<Screen, String> {
        let verdicts = match verdicts {
            Some(path) => {
                let file = output_file::open(&path, Start::Empty)
                    .map_err(|why| format!("--verdicts={}: cannot be written: {why}", path.display()))?;
                Some((path, file))
            }
            None => None,
        };
        let started_unix_ms = unix_time_ms();
        Ok(Screen { terminal, servers, started_unix_ms, verdicts, trouble: None })
    }

    /// Writes the final report.
    pub fn finish(&mut self, outcomes: &[Outcome]) -> io::Result<()> {
        let of = |server: &Server, outcome: Option<&Outcome>| {
            let failure = outcome.and_then(|outcome| outcome.failure.as_ref()).map(failure_of);
            let report = outcome.and_then(|outcome| outcome.report.clone());
            let run = outcome.and_then(|outcome| outcome.run.clone());
            ServerReport { run, failure, ..server_report(server, report) }
        };
        let servers: Vec<ServerReport> =
            self.servers.iter().enumerate().map(|(at, server)| of(server, outcomes.get(at))).collect();
        if let [only] = servers.as_slice()
            && only.report.is_none()
        {
            self.terminal.clear_line();
            return Ok(());
        }
        let fleet = self.fleet(servers, false);
        self.terminal.finish_with(&|format| fleet::render(format, &fleet))
    }

    /// Why not every violation is in the file.
    pub fn verdicts_trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn fleet(&self, servers: Vec<ServerReport>, unfinished: bool) -> Fleet {
        Fleet { time_unix_ms: unix_time_ms(), started_unix_ms: self.started_unix_ms, unfinished, servers }
    }

    fn name(&self, server: usize) -> &str {
        self.servers.get(server).map_or("", |server| &server.name)
    }

    fn write_finding(&mut self, server: usize, line: &str) -> Result<(), String> {
        let name = self.name(server).to_owned();
        let Some((path, file)) = &mut self.verdicts else { return Ok(()) };
        let Ok(Value::Object(fields)) = serde_json::from_str(line) else {
            return Err(format!(
                "{name} sent a violation that is no object of JSON: it is not in {}",
                path.display()
            ));
        };
        let mut object = Map::new();
        object.insert("server".to_owned(), name.into());
        object.extend(fields.into_iter().filter(|(key, _)| key != "server"));
        let line = format!("{}\n", Value::Object(object));
        file.write_all(line.as_bytes()).map_err(|why| format!("--verdicts={}: {why}", path.display()))
    }
}

fn server_report(server: &Server, report: Option<Report>) -> ServerReport {
    ServerReport {
        name: server.name.clone(),
        host: server.host.clone(),
        port: server.port,
        run: None,
        jobs: server.jobs.clone(),
        report,
        failure: None,
    }
}

/// fio's `error` is an errno.
fn failure_of(failure: &Failure) -> ServerFailure {
    let errno = match failure.kind {
        FailureKind::BadJob => libc::EINVAL,
        FailureKind::Environment => libc::EIO,
        FailureKind::Inconclusive => libc::ENODATA,
        FailureKind::Unsafe => libc::EPERM,
    };
    ServerFailure { errno, message: failure.message.clone() }
}

impl Watcher for Screen {
    fn note(&mut self, server: usize, text: &str) {
        let text = format!("{}: {}", self.name(server), printable(text));
        self.terminal.note(&text);
    }

    fn progress(&mut self, servers: &[Option<Progress>]) {
        let lives: Vec<Option<Live>> =
            servers.iter().map(|progress| progress.as_ref().map(live_of)).collect();
        // Before any has begun there is nothing to show.
        if lives.iter().any(Option::is_some) {
            self.terminal.show(&Live::of_servers(&lives));
        }
    }

    fn so_far(&mut self, reports: &[Option<Report>]) {
        if reports.iter().all(Option::is_none) {
            return;
        }
        let servers = self.servers.iter().enumerate();
        let servers = servers.map(|(at, server)| server_report(server, reports.get(at).cloned().flatten()));
        let fleet = self.fleet(servers.collect(), true);
        self.terminal.so_far_with(&|format| fleet::render(format, &fleet));
    }

    fn finding(&mut self, server: usize, line: &str) {
        if let Err(why) = self.write_finding(server, line) {
            self.trouble.get_or_insert(why);
        }
    }
}
